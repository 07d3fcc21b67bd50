//! What a supervisor does next, as a pure function of what has happened and of the time.
//!
//! No thread, no token, no clock: inputs are calls, outputs are [`Action`]s in order. The
//! [manager](super::manager) performs them, and reports back.
//!
//! # Invariants
//!
//! 1. A child has one run at most: [`Action::Start`] comes only when the run before has been
//!    reported as ended. Facts about any other run are ignored.
//! 2. `then` is set if and only if the run is to stop: with it, the state is `Starting` or `Ready`
//!    until the turn of its phase comes, and `Stopping` from when it has been told.
//! 3. Of the children that are to stop, those of the highest phase are told; the next phase is when
//!    none of these runs but the late ones. (What is stopped by name does not wait for a turn.)
//! 4. While children start in turn, the first that waits in the order of start is next, and none
//!    starts before it, or while one is starting or is stopped to be started again.
//! 5. The facts change states; only [`tick`](Plan::tick), which knows the present, moves on: it
//!    starts, tells and reports. So facts that come late, in one batch, are not taken for timeouts.
//! 6. After `Stopping` nothing starts. `Over` comes once.

#[cfg(test)]
mod random;
mod restart;
mod stop;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod world;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::end::ChildEnd;
use super::report::{ChildState, PhaseReport, StopReason};
use super::spec::{Restart, Strategy};
use crate::backoff::Delays;
use crate::clock::Instant;
use crate::sync::Arc;
use crate::threads::ThreadError;

/// Grows in the order of start; never used again.
pub(super) type ChildId = u64;
/// Grows in the order of start.
pub(super) type PhaseId = u64;

/// The settings of the supervisor.
pub(super) struct Rules {
    pub(super) name: Arc<str>,
    pub(super) strategy: Strategy,
    /// At most so many restarts in any `period`.
    pub(super) restarts: usize,
    pub(super) period: Duration,
    pub(super) healthy_after: Duration,
}

/// The settings of a child.
pub(super) struct ChildRules {
    pub(super) name: Arc<str>,
    pub(super) restart: Restart,
    pub(super) start_timeout: Duration,
    pub(super) stop_timeout: Duration,
    pub(super) delays: Delays,
}

/// What is to be done, in this order.
#[derive(Debug)]
pub(super) enum Action {
    /// Start a run on a thread, then `ready` or `not_started` may follow.
    Start(ChildId),
    /// Cancel the token of the run.
    Cancel(ChildId, Why),
    /// Tell who listens.
    Note(ChildId, Note),
    /// Tell who waits for a child that was added or asked to restart.
    Answer(ChildId, Result<(), Unready>),
    /// The child is no longer one; how it ended.
    Forget(ChildId, Option<ChildEnd>),
    /// All children have been ready.
    Started,
    /// The stop of everything begins, for the reason that is there now.
    StopAll,
    /// All phases have been stopped.
    Over,
}

/// Why a token is cancelled, for its cause.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    NotReady,
    Sibling,
    Asked,
    Stop,
}

#[derive(Debug)]
pub(super) enum Note {
    Ready,
    Ended(ChildEnd),
    Restarting { end: ChildEnd, after: Duration },
    Stuck,
}

/// Why a child that was asked for is not ready.
#[derive(Debug)]
pub(super) enum Unready {
    Ended(ChildEnd),
    Interrupted,
    Stuck,
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Mode {
    /// Not all children have been ready.
    Starting,
    Running,
    Stopping,
    Over,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// To be started at that time; `None` is never.
    Pending {
        until: Option<Instant>,
    },
    Starting {
        deadline: Option<Instant>,
    },
    Ready {
        since: Instant,
    },
    Stopping {
        since: Instant,
        /// When it is reported, for the first time or again.
        report_at: Option<Instant>,
        /// From `since` to `report_at`.
        patience: Duration,
        late: bool,
    },
    Ended,
}

/// What follows when a run that is to stop has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Then {
    End,
    /// Pending until that time.
    Again(Option<Instant>),
    /// It was not ready in time: a failure like another.
    Fail,
    Forget,
}

/// Who waits for the child to be ready.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attempt {
    /// Nobody.
    None,
    /// The start of the supervisor.
    First,
    /// Who added it.
    Added,
    /// Who asked for its restart.
    Asked,
}

impl Attempt {
    /// It starts as soon as it can, whoever else is starting; its caller may be one of those.
    fn is_out_of_turn(self) -> bool {
        matches!(self, Self::Added | Self::Asked)
    }
}

pub(super) struct Child {
    rules: ChildRules,
    pub(super) phase: PhaseId,
    state: State,
    then: Option<Then>,
    attempt: Attempt,
    /// It was stopped by name, or cancelled its own token: only a call starts it again.
    stopped: bool,
    not_ready: bool,
    runs: u64,
    end: Option<ChildEnd>,
}

impl Child {
    fn is_alive(&self) -> bool {
        let (State::Pending { .. } | State::Ended) = self.state else {
            return true;
        };
        false
    }

    fn is_late(&self) -> bool {
        matches!(self.state, State::Stopping { late: true, .. })
    }

    /// It runs, and has not been told to stop.
    fn is_untold(&self) -> bool {
        matches!(self.state, State::Starting { .. } | State::Ready { .. })
    }

    /// Number of the present run, or the last.
    pub(super) fn run(&self) -> u64 {
        self.runs
    }

    pub(super) fn restarts(&self) -> u64 {
        self.runs.saturating_sub(1)
    }

    pub(super) fn last_end(&self) -> Option<&ChildEnd> {
        self.end.as_ref()
    }

    /// When it was told to stop, if it runs yet.
    pub(super) fn told_at(&self) -> Option<Instant> {
        match self.state {
            State::Stopping { since, .. } => Some(since),
            _ => None,
        }
    }

    /// Whether who waits for its end need wait no longer.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_alive() || self.is_late()
    }

    pub(super) fn state(&self, now: Instant) -> ChildState {
        match self.state {
            State::Pending { until } => match until {
                Some(until) if until <= now => ChildState::Waiting,
                until => ChildState::BackingOff(until),
            },
            State::Starting { .. } => ChildState::Starting,
            State::Ready { .. } => ChildState::Running,
            State::Stopping { late: false, .. } => ChildState::Stopping,
            State::Stopping { since, .. } => ChildState::Stuck {
                overdue: now.duration_since(since),
            },
            State::Ended => ChildState::Ended(self.end.clone().unwrap_or(ChildEnd::NeverRan)),
        }
    }
}

pub(super) struct Plan {
    rules: Rules,
    mode: Mode,
    reason: Option<StopReason>,
    children: BTreeMap<ChildId, Child>,
    phases: BTreeMap<PhaseId, Arc<str>>,
    next_child: ChildId,
    next_phase: PhaseId,
    /// The restarts of the last period.
    recent: VecDeque<Instant>,
    /// The phase that is being stopped, and since when; in `Stopping` only.
    current: Option<(PhaseId, Arc<str>, Instant)>,
    stopped_phases: Vec<PhaseReport>,
    actions: VecDeque<Action>,
    touched: BTreeSet<ChildId>,
}

impl Plan {
    pub(super) fn new(rules: Rules) -> Self {
        Self {
            rules,
            mode: Mode::Starting,
            reason: None,
            children: BTreeMap::new(),
            phases: BTreeMap::new(),
            next_child: 0,
            next_phase: 0,
            recent: VecDeque::new(),
            current: None,
            stopped_phases: Vec::new(),
            actions: VecDeque::new(),
            touched: BTreeSet::new(),
        }
    }

    /// The last to be started, and the first to be stopped.
    pub(super) fn add_phase(&mut self, name: Arc<str>) -> PhaseId {
        let id = self.next_phase;
        self.next_phase += 1;
        self.phases.insert(id, name);
        id
    }

    /// Adds a child to the last phase.
    pub(super) fn add(
        &mut self,
        phase: PhaseId,
        rules: ChildRules,
        attempt: Attempt,
        now: Instant,
    ) -> ChildId {
        let id = self.next_child;
        self.next_child += 1;
        let child = Child {
            rules,
            phase,
            state: State::Pending { until: Some(now) },
            then: None,
            attempt,
            stopped: false,
            not_ready: false,
            runs: 0,
            end: None,
        };
        self.children.insert(id, child);
        self.touched.insert(id);
        id
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn reason(&self) -> Option<&StopReason> {
        self.reason.as_ref()
    }

    pub(super) fn stopped_phases(&self) -> &[PhaseReport] {
        &self.stopped_phases
    }

    pub(super) fn phase_name(&self, phase: PhaseId) -> Arc<str> {
        self.phases.get(&phase).cloned().unwrap_or_default()
    }

    pub(super) fn get(&self, id: ChildId) -> Option<&Child> {
        self.children.get(&id)
    }

    pub(super) fn find(&self, name: &str) -> Option<ChildId> {
        let mut children = self.children.iter();
        let found = children.find(|(_, child)| &*child.rules.name == name);
        found.map(|(id, _)| *id)
    }

    /// Whether it is forgotten when it ends.
    pub(super) fn is_leaving(&self, id: ChildId) -> bool {
        let child = self.children.get(&id);
        child.is_some_and(|child| child.then == Some(Then::Forget))
    }

    /// Whether any child runs, late or not.
    pub(super) fn is_anyone_alive(&self) -> bool {
        self.children.values().any(Child::is_alive)
    }

    pub(super) fn next_action(&mut self) -> Option<Action> {
        self.actions.pop_front()
    }

    /// The children that may look different since the last call.
    pub(super) fn take_touched(&mut self) -> BTreeSet<ChildId> {
        std::mem::take(&mut self.touched)
    }

    /// It looks different in a way that only the caller knows.
    pub(super) fn touch(&mut self, id: ChildId) {
        self.touched.insert(id);
    }

    /// A child that is about to be changed.
    fn child(&mut self, id: ChildId) -> &mut Child {
        self.touched.insert(id);
        let child = self.children.get_mut(&id);
        child.expect("the id came from the table")
    }

    fn ids(&self, which: impl Fn(&Child) -> bool) -> Vec<ChildId> {
        let children = self.children.iter();
        let chosen = children.filter(|(_, child)| which(child));
        chosen.map(|(id, _)| *id).collect()
    }

    fn note(&mut self, id: ChildId, note: Note) {
        self.actions.push_back(Action::Note(id, note));
    }

    /// Tells who waits for the child, if it is a caller.
    fn answer(&mut self, id: ChildId, answer: Result<(), Unready>) {
        let attempt = std::mem::replace(&mut self.child(id).attempt, Attempt::None);
        if attempt.is_out_of_turn() {
            self.actions.push_back(Action::Answer(id, answer));
        }
    }

    /// The run says that it is ready.
    pub(super) fn ready(&mut self, id: ChildId, run: u64, at: Instant) {
        let Some(child) = self.children.get(&id) else {
            return;
        };
        if child.runs != run || !matches!(child.state, State::Starting { .. }) {
            return;
        }
        self.child(id).state = State::Ready { since: at };
        self.note(id, Note::Ready);
        self.answer(id, Ok(()));
    }

    /// The run has ended; `cancelled` says whether its token was by then.
    pub(super) fn ended(
        &mut self,
        id: ChildId,
        run: u64,
        mut end: ChildEnd,
        cancelled: bool,
        at: Instant,
    ) {
        let of_this_run = |child: &Child| child.runs == run && child.is_alive();
        if !self.children.get(&id).is_some_and(of_this_run) {
            return;
        }
        let child = self.child(id);
        if child.not_ready && !matches!(end, ChildEnd::Failed(_) | ChildEnd::Panicked(_)) {
            end = ChildEnd::NotReady(child.rules.start_timeout);
        }
        child.end = Some(end.clone());
        let was = std::mem::replace(&mut child.state, State::Ended);
        let then = child.then.take();
        self.note(id, Note::Ended(end));
        match then {
            None => self.ended_by_itself(id, was, cancelled, at),
            Some(then) => {
                let told = matches!(was, State::Stopping { .. });
                self.ended_to_stop(id, then, cancelled && !told, at);
            }
        }
    }

    /// The thread of the run could not be started.
    pub(super) fn not_started(&mut self, id: ChildId, error: ThreadError, at: Instant) {
        let run = self.child(id).runs;
        let end = ChildEnd::NotStarted(Arc::new(error));
        self.ended(id, run, end, false, at);
    }

    /// The token of a run that was to be cancelled had been, by somebody else.
    pub(super) fn found_cancelled(&mut self, id: ChildId) {
        let child = self.child(id);
        if matches!(child.then, Some(Then::Again(_) | Then::Fail)) && child.attempt == Attempt::None
        {
            child.then = Some(Then::End);
            child.stopped = true;
        }
    }

    /// It is `now`: does what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        while self.time_out(now) | self.report_late(now) | self.tell_next_phase(now) {}
        if matches!(self.mode, Mode::Starting | Mode::Running) {
            self.start_due(now);
        }
        let starts = |child: &Child| child.attempt == Attempt::First;
        if self.mode == Mode::Starting && !self.children.values().any(starts) {
            self.mode = Mode::Running;
            self.actions.push_back(Action::Started);
        }
    }

    /// When the next [`tick`](Self::tick) is due, if nothing happens before.
    pub(super) fn next_deadline(&self, now: Instant) -> Option<Instant> {
        let due = self
            .children
            .values()
            .filter_map(|child| match child.state {
                // One whose time has come waits for its turn, not for a time.
                State::Pending { until } => until.filter(|until| *until > now),
                State::Starting { deadline } if child.then.is_none() => deadline,
                State::Stopping { report_at, .. } => report_at,
                _ => None,
            });
        due.min()
    }
}
