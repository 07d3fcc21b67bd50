//! Who is told to stop, in what order, and who is late.

use super::{
    Action, Attempt, Child, ChildId, Mode, Note, PhaseId, Plan, State, Then, Unready, Why,
};
use crate::backoff::more_patience;
use crate::clock::Instant;
use crate::contain::drop_contained;
use crate::supervise::end::ChildEnd;
use crate::supervise::report::{PhaseReport, StopReason};
use crate::supervise::spec::Restart;

impl Plan {
    /// A run has ended that was to. `of_itself` says that its token was cancelled, but not by us.
    pub(super) fn ended_to_stop(&mut self, id: ChildId, then: Then, of_itself: bool, at: Instant) {
        let asked = self.child(id).attempt == Attempt::Asked;
        match then {
            Then::Forget => self.forget(id),
            Then::End => self.answer(id, Err(Unready::Interrupted)),
            Then::Again(_) | Then::Fail if of_itself && !asked => {
                self.child(id).stopped = true;
                self.answer(id, Err(Unready::Interrupted));
            }
            Then::Again(until) => self.child(id).state = State::Pending { until },
            Then::Fail => {
                let end = self.child(id).end.clone().expect("it has just ended");
                self.ended_not_ready(id, end, at);
            }
        }
    }

    fn ended_not_ready(&mut self, id: ChildId, end: ChildEnd, at: Instant) {
        if self.child(id).rules.restart != Restart::Temporary {
            self.restart_after(id, end, None, at);
        }
    }

    /// Stops everything, in order. Only the first call counts.
    pub(crate) fn stop_all(&mut self, reason: StopReason) {
        if matches!(self.mode, Mode::Stopping | Mode::Over) {
            return;
        }
        self.mode = Mode::Stopping;
        self.reason = Some(reason);
        self.actions.push_back(Action::StopAll);
        for id in self.ids(|_| true) {
            self.answer(id, Err(Unready::Closed));
            let child = self.child(id);
            match child.state {
                State::Pending { .. } => child.state = State::Ended,
                State::Ended => {}
                _ if child.then == Some(Then::Forget) => {}
                _ => child.then = Some(Then::End),
            }
        }
    }

    /// Stops one by name: out of turn, and for good.
    pub(crate) fn stop(&mut self, id: ChildId, now: Instant) {
        self.stop_then(id, Then::End, now);
    }

    /// Stops one by name and forgets it.
    pub(crate) fn remove(&mut self, id: ChildId, now: Instant) {
        self.stop_then(id, Then::Forget, now);
        if !self.child(id).is_alive() {
            self.forget(id);
        }
    }

    /// Something else is asked of it: tells who waits for its start.
    pub(crate) fn interrupt(&mut self, id: ChildId) {
        self.answer(id, Err(Unready::Interrupted));
    }

    fn stop_then(&mut self, id: ChildId, then: Then, now: Instant) {
        self.interrupt(id);
        let child = self.child(id);
        child.stopped = true;
        match child.state {
            State::Pending { .. } => child.state = State::Ended,
            State::Ended => {}
            _ if child.then == Some(Then::Forget) => self.tell(id, Why::Asked, now),
            _ => {
                child.then = Some(then);
                self.tell(id, Why::Asked, now);
            }
        }
    }

    pub(super) fn forget(&mut self, id: ChildId) {
        self.answer(id, Err(Unready::Interrupted));
        let Some(child) = self.children.remove(&id) else {
            return;
        };
        if !self
            .children
            .values()
            .any(|other| other.phase == child.phase)
        {
            self.phases.remove(&child.phase);
        }
        self.actions.push_back(Action::Forget(id, child.end));
        // A custom backoff may hold values of the user's.
        drop_contained(child.rules);
    }

    /// Tells a run to stop, if it has not been.
    pub(super) fn tell(&mut self, id: ChildId, why: Why, now: Instant) {
        let child = self.child(id);
        if !child.is_untold() {
            return;
        }
        let patience = child.rules.stop_timeout;
        child.state = State::Stopping {
            since: now,
            report_at: now.checked_add(patience),
            patience,
            late: false,
        };
        self.actions.push_back(Action::Cancel(id, why));
    }

    /// Tells the children whose turn it is to stop (invariant 3), and sees the end of it all.
    /// Whether anything changed.
    pub(super) fn tell_next_phase(&mut self, now: Instant) -> bool {
        let is_to_stop =
            |child: &&Child| child.then.is_some() && child.is_alive() && !child.is_late();
        let to_stop = self.children.values().filter(is_to_stop);
        let top = to_stop.map(|child| child.phase).max();
        let ended = self.mode == Mode::Stopping && self.turn_to(top, now);
        let Some(top) = top else { return ended };
        let untold =
            self.ids(|child| child.phase == top && child.then.is_some() && child.is_untold());
        let why = match self.mode {
            Mode::Stopping => Why::Stop,
            _ => Why::Sibling,
        };
        // The last to start is the first to hear of it, within a phase too.
        for id in untold.iter().rev() {
            self.tell(*id, why, now);
        }
        !untold.is_empty()
    }

    /// Keeps the record of the phases of a stop. Whether it is over.
    fn turn_to(&mut self, phase: Option<PhaseId>, now: Instant) -> bool {
        let before = self.current.as_ref().map(|(phase, ..)| *phase);
        if before != phase {
            self.close_phase(now);
            self.current = phase.map(|phase| (phase, self.phase_name(phase), now));
        }
        if phase.is_none() {
            self.mode = Mode::Over;
            self.actions.push_back(Action::Over);
        }
        phase.is_none()
    }

    fn close_phase(&mut self, now: Instant) {
        let Some((phase, name, since)) = self.current.take() else {
            return;
        };
        let children = self.children.values();
        let late = children.filter(|child| child.phase == phase && child.is_late());
        self.stopped_phases.push(PhaseReport {
            name: name.to_string(),
            took: now.duration_since(since),
            late: late.map(|child| child.rules.name.to_string()).collect(),
        });
    }

    /// Reports those whose time to stop is up, and again after twice that. Whether there was any.
    pub(super) fn report_late(&mut self, now: Instant) -> bool {
        let is_due = |child: &Child| match child.state {
            State::Stopping { report_at, .. } => report_at.is_some_and(|at| at <= now),
            _ => false,
        };
        let due = self.ids(is_due);
        for id in &due {
            let State::Stopping {
                since, patience, ..
            } = &self.child(*id).state
            else {
                continue;
            };
            let since = *since;
            let patience = more_patience(*patience, now.duration_since(since));
            self.child(*id).state = State::Stopping {
                since,
                report_at: since.checked_add(patience),
                patience,
                late: true,
            };
            self.note(*id, Note::Stuck);
            self.answer_stuck(*id);
        }
        !due.is_empty()
    }

    /// Who asked for a restart is told that it takes longer.
    fn answer_stuck(&mut self, id: ChildId) {
        if self.child(id).attempt == Attempt::Asked {
            self.answer(id, Err(Unready::Stuck));
        }
    }
}
