//! Who is started, and when again.

use std::time::Duration;

use super::{Action, Attempt, Child, ChildId, Mode, Note, Plan, State, Then, Unready, Why};
use crate::clock::Instant;
use crate::contain::contain;
use crate::supervise::end::ChildEnd;
use crate::supervise::report::{GaveUp, StopReason};
use crate::supervise::spec::{Restart, Strategy};

/// The delay where a custom backoff panicked.
const FALLBACK: Duration = Duration::from_secs(1);

impl Plan {
    /// A run has ended that nobody had told to.
    pub(super) fn ended_by_itself(
        &mut self,
        id: ChildId,
        was: State,
        cancelled: bool,
        at: Instant,
    ) {
        let child = self.child(id);
        let (attempt, restart) = (child.attempt, child.rules.restart);
        let end = child.end.clone().expect("it has just ended");
        let done = matches!(end, ChildEnd::Returned) && restart != Restart::Permanent;
        match attempt {
            Attempt::None => {}
            // It had one thing to do, and has done it before it said that it is ready.
            _ if done => self.answer(id, Ok(())),
            Attempt::First => {
                let child = self.child(id).rules.name.to_string();
                return self.stop_all(StopReason::NotStarted { child, end });
            }
            Attempt::Added => {
                self.answer(id, Err(Unready::Ended(end)));
                return self.forget(id);
            }
            Attempt::Asked => self.answer(id, Err(Unready::Ended(end.clone()))),
        }
        // The token decides, not what was returned.
        if cancelled {
            self.child(id).stopped = true;
            return;
        }
        let again = match restart {
            Restart::Permanent => true,
            Restart::Transient => end.is_failure(),
            Restart::Temporary => false,
        };
        if again {
            let ready_since = match was {
                State::Ready { since } => Some(since),
                _ => None,
            };
            self.restart_after(id, end, ready_since, at);
        }
    }

    /// One that is to be started again, if the intensity allows.
    pub(super) fn restart_after(
        &mut self,
        id: ChildId,
        end: ChildEnd,
        ready_since: Option<Instant>,
        at: Instant,
    ) {
        if !self.may_restart(at) {
            return self.give_up(id, end);
        }
        let healthy_after = self.rules.healthy_after;
        let delays = &mut self.child(id).rules.delays;
        if ready_since.is_some_and(|since| at.duration_since(since) >= healthy_after) {
            delays.reset();
        }
        // A custom rule is the user's code.
        let after = contain(|| delays.next_delay()).unwrap_or(FALLBACK);
        let until = at.checked_add(after);
        self.child(id).state = State::Pending { until };
        self.note(id, Note::Restarting { end, after });
        let strategy = self.rules.strategy;
        let siblings = self.children.keys().filter(|other| match strategy {
            Strategy::OneForOne => false,
            Strategy::OneForAll => **other != id,
            Strategy::RestForOne => **other > id,
        });
        for sibling in siblings.copied().collect::<Vec<_>>() {
            self.restart_with_sibling(sibling, until);
        }
    }

    /// Counts a restart, unless it is one too many.
    fn may_restart(&mut self, at: Instant) -> bool {
        if self.rules.restarts == usize::MAX {
            return true;
        }
        let period = self.rules.period;
        self.recent
            .retain(|restart| at.duration_since(*restart) <= period);
        if self.recent.len() >= self.rules.restarts {
            return false;
        }
        self.recent.push_back(at);
        true
    }

    fn give_up(&mut self, id: ChildId, end: ChildEnd) {
        let gave_up = GaveUp {
            supervisor: self.rules.name.to_string(),
            child: self.child(id).rules.name.to_string(),
            end,
            restarts: self.rules.restarts,
            within: self.rules.period,
        };
        self.stop_all(StopReason::GaveUp(gave_up));
    }

    /// A sibling has failed, and takes this one with it.
    fn restart_with_sibling(&mut self, id: ChildId, until: Option<Instant>) {
        let child = self.child(id);
        let (attempt, restart) = (child.attempt, child.rules.restart);
        match child.state {
            State::Pending { .. } if attempt.is_out_of_turn() => {}
            State::Pending { .. } => child.state = State::Pending { until },
            State::Starting { .. } | State::Ready { .. } if child.then.is_none() => {
                child.then = Some(match (restart, attempt) {
                    (_, Attempt::Added) => Then::Forget,
                    (Restart::Temporary, _) => Then::End,
                    _ => Then::Again(until),
                });
                if attempt.is_out_of_turn() || child.then == Some(Then::End) {
                    self.answer(id, Err(Unready::Interrupted));
                }
            }
            State::Ended => {
                let done = matches!(child.end, Some(ChildEnd::Returned)) && !child.stopped;
                if done && restart != Restart::Temporary {
                    child.state = State::Pending { until };
                }
            }
            // To stop already. One that is to start again does so with the others.
            _ => {
                if let Some(Then::Again(_) | Then::Fail) = child.then {
                    child.then = Some(Then::Again(until));
                }
            }
        }
    }

    /// Starts it now, or stops it first, out of turn. Who waits for it has been told.
    pub(crate) fn restart(&mut self, id: ChildId, now: Instant) {
        let child = self.child(id);
        child.attempt = Attempt::Asked;
        child.stopped = false;
        child.rules.delays.reset();
        match child.state {
            State::Pending { .. } | State::Ended => {
                child.state = State::Pending { until: Some(now) }
            }
            State::Starting { .. } | State::Ready { .. } | State::Stopping { .. } => {
                child.then = Some(Then::Again(Some(now)));
                let late = child.is_late();
                self.tell(id, Why::Asked, now);
                if late {
                    self.answer(id, Err(Unready::Stuck));
                }
            }
        }
    }

    /// Stops what was not ready in time. Whether there was any.
    pub(super) fn time_out(&mut self, now: Instant) -> bool {
        let is_due = |child: &Child| match child.state {
            State::Starting { deadline: Some(at) } => at <= now && child.then.is_none(),
            _ => false,
        };
        let due = self.ids(is_due);
        for id in &due {
            self.was_not_ready(*id, now);
        }
        !due.is_empty()
    }

    fn was_not_ready(&mut self, id: ChildId, now: Instant) {
        let child = self.child(id);
        // An earlier one may have ended it all.
        if child.then.is_some() {
            return;
        }
        child.not_ready = true;
        let end = ChildEnd::NotReady(child.rules.start_timeout);
        let then = match child.attempt {
            Attempt::First => {
                let child = child.rules.name.to_string();
                return self.stop_all(StopReason::NotStarted { child, end });
            }
            Attempt::Added => Then::Forget,
            Attempt::Asked | Attempt::None => Then::Fail,
        };
        child.then = Some(then);
        self.answer(id, Err(Unready::Ended(end)));
        self.tell(id, Why::NotReady, now);
    }

    /// Starts whose time and turn have come.
    pub(super) fn start_due(&mut self, now: Instant) {
        let is_due = |child: &Child| match child.state {
            State::Pending { until } => until.is_some_and(|until| until <= now),
            _ => false,
        };
        for id in self.ids(|child| is_due(child) && child.attempt.is_out_of_turn()) {
            self.start(id, now);
        }
        if self.mode == Mode::Running && self.rules.strategy == Strategy::OneForOne {
            self.ids(is_due)
                .into_iter()
                .for_each(|id| self.start(id, now));
            return;
        }
        let holds_up = |child: &Child| match child.then {
            None => {
                matches!(child.state, State::Starting { .. }) && !child.attempt.is_out_of_turn()
            }
            Some(then) => matches!(then, Then::Again(_) | Then::Fail),
        };
        if self.children.values().any(holds_up) {
            return;
        }
        let is_pending = |(_, child): &(&ChildId, &Child)| {
            matches!(child.state, State::Pending { .. }) && !child.attempt.is_out_of_turn()
        };
        if let Some((id, child)) = self.children.iter().find(is_pending)
            && is_due(child)
        {
            self.start(*id, now);
        }
    }

    fn start(&mut self, id: ChildId, now: Instant) {
        let child = self.child(id);
        child.runs += 1;
        child.not_ready = false;
        let deadline = now.checked_add(child.rules.start_timeout);
        child.state = State::Starting { deadline };
        self.actions.push_back(Action::Start(id));
    }
}
