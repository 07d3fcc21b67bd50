//! One task: its closure, then its result.
//!
//! # Invariants
//!
//! 1. A task goes `Waiting → Running → Ended`, or from `Waiting` to `Ended` (cancelled) or
//!    `Abandoned`. Whoever makes the step away from `Waiting` has the closure alone: it runs once
//!    or not at all.
//! 2. `Running` has the task's token, so that who cancels finds it; it is taken out with the end.
//! 3. Neither the closure nor a result is run or dropped under the lock.
//!
//! Lock order: a job's lock is taken with no other lock held, and none is taken under it.

use std::any::Any;
use std::panic::Location;
use std::time::Duration;

use super::job::JobError;
use super::queue::{Label, Labelled, Outcome};
use super::worker::{Asked, Worker, run_contained};
use crate::cancel::CancelToken;
use crate::contain::drop_contained;
use crate::observe::Stopwatch;
use crate::sync::{Arc, Condvar, Mutex};
use crate::threads::{self, Awaits};

/// The side of a packet that the queue and its workers see.
pub(super) trait Run<E>: Labelled + Send + Sync {
    /// Runs the task, or drops it unrun if it has been cancelled. Does not unwind; when it returns
    /// the closure is gone.
    fn run(&self, worker: &mut Worker) -> Outcome;

    /// Ends the task unrun, as cancelled.
    fn cancel_unrun(&self) -> bool;

    /// Ends the task unrun, as abandoned, and keeps the closure. `false` if it had ended already.
    fn abandon(&self) -> bool;

    /// Runs what was abandoned, on the calling thread.
    fn run_abandoned(&self, token: &CancelToken) -> Result<(), JobError<E>>;

    /// For who submitted it, when it was refused: itself again.
    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync>;
}

/// The handle's side, which knows nothing of the closure.
pub(super) trait Slot<R, E>: Send + Sync {
    /// Lets those who wait look at their condition again.
    fn nudge(&self);
    fn await_end(
        &self,
        shown: Shown,
        deadline: Option<std::time::Instant>,
        give_up: &dyn Fn() -> bool,
    ) -> bool;
    fn take(&self) -> Result<R, JobError<E>>;
    fn is_finished(&self) -> bool;
    fn cancel(&self) -> bool;
}

/// What a wait for a task shows.
#[derive(Clone, Copy)]
pub(super) struct Shown {
    pub(super) awaits: Awaits,
    pub(super) at: &'static Location<'static>,
}

/// Closure and result share one allocation.
pub(super) struct Packet<F, R, E> {
    label: Label,
    timeout: Option<Duration>,
    queued: Stopwatch,
    state: Mutex<State<F, R, E>>,
    ended: Condvar,
}

enum State<F, R, E> {
    Waiting(Asked<F>),
    Running(CancelToken),
    /// The closure stays for who runs it elsewhere.
    Abandoned(Option<Asked<F>>),
    Ended(Result<R, JobError<E>>),
    Taken,
}

impl<F, R, E> State<F, R, E> {
    fn is_open(&self) -> bool {
        matches!(self, Self::Waiting(_) | Self::Running(_))
    }

    /// Leaves `Waiting` for `next` and returns the closure; otherwise changes nothing.
    fn leave_waiting(&mut self, next: Self) -> Option<Asked<F>> {
        if !matches!(self, Self::Waiting(_)) {
            return None;
        }
        match std::mem::replace(self, next) {
            Self::Waiting(asked) => Some(asked),
            _ => unreachable!("looked under the lock"),
        }
    }
}

impl<F, R, E> Packet<F, R, E> {
    pub(super) fn new(label: Label, timeout: Option<Duration>, task: F) -> Arc<Self> {
        Arc::new(Self {
            label,
            timeout,
            queued: Stopwatch::start(),
            state: Mutex::new(State::Waiting(Asked::here(task))),
            ended: Condvar::new(),
        })
    }

    /// Takes the closure of a task that was refused.
    pub(super) fn take_task(&self) -> Option<F> {
        let asked = self.state.lock().leave_waiting(State::Taken);
        asked.map(Asked::into_task)
    }

    /// The end, and nothing else, wakes who waits.
    fn end(&self, result: Result<R, JobError<E>>) {
        let before = std::mem::replace(&mut *self.state.lock(), State::Ended(result));
        self.ended.notify_all();
        drop(before);
    }
}

impl<F, R, E> Labelled for Packet<F, R, E> {
    fn label(&self) -> Label {
        self.label.clone()
    }

    fn key(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl<F, R, E> Run<E> for Packet<F, R, E>
where
    F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'static,
    R: Send + 'static,
    E: Send + 'static,
{
    fn run(&self, worker: &mut Worker) -> Outcome {
        // A timer is not started for a task that was cancelled while it waited.
        if self.timeout.is_some() && !self.state.lock().is_open() {
            return Outcome::Cancelled;
        }
        let token = worker.token(self.timeout);
        let next = State::Running(token.clone());
        let task = self.state.lock().leave_waiting(next);
        let Some(task) = task else {
            worker.give_back(token, self.timeout);
            return Outcome::Cancelled;
        };
        let joinable = threads::running(self.key());
        let (outcome, result) = worker.run(&self.label, self.timeout, self.queued, task, &token);
        drop(joinable);
        self.end(result);
        worker.give_back(token, self.timeout);
        outcome
    }

    fn cancel_unrun(&self) -> bool {
        let next = State::Ended(Err(JobError::Cancelled));
        let task = self.state.lock().leave_waiting(next);
        self.ended.notify_all();
        let unrun = task.is_some();
        drop_contained(task);
        unrun
    }

    fn abandon(&self) -> bool {
        let mut state = self.state.lock();
        let Some(task) = state.leave_waiting(State::Abandoned(None)) else {
            return false;
        };
        *state = State::Abandoned(Some(task));
        drop(state);
        self.ended.notify_all();
        true
    }

    fn run_abandoned(&self, token: &CancelToken) -> Result<(), JobError<E>> {
        let task = match &mut *self.state.lock() {
            State::Abandoned(task) => task.take(),
            _ => None,
        };
        let task = task.expect("an abandoned task is run by the one who has it");
        run_contained(task, !token.is_cancelled(), token)
            .1
            .map(drop)
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}

impl<F: Send + 'static, R: Send + 'static, E: Send + 'static> Slot<R, E> for Packet<F, R, E>
where
    F: FnOnce(&CancelToken) -> Result<R, E>,
{
    fn nudge(&self) {
        let _state = self.state.lock();
        self.ended.notify_all();
    }

    fn await_end(
        &self,
        shown: Shown,
        deadline: Option<std::time::Instant>,
        give_up: &dyn Fn() -> bool,
    ) -> bool {
        let mut state = self.state.lock();
        if !state.is_open() {
            return true;
        }
        let _wait = threads::awaiting_at("join a task of a pool", shown.awaits, shown.at);
        while state.is_open() && !give_up() {
            match deadline {
                None => self.ended.wait(&mut state),
                Some(at) => {
                    if self.ended.wait_until(&mut state, at).timed_out() {
                        break;
                    }
                }
            }
        }
        !state.is_open()
    }

    fn take(&self) -> Result<R, JobError<E>> {
        let mut state = self.state.lock();
        if let State::Abandoned(_) = *state {
            return Err(JobError::Abandoned);
        }
        match std::mem::replace(&mut *state, State::Taken) {
            State::Ended(result) => result,
            _ => unreachable!("only the one handle takes the result, when there is one"),
        }
    }

    fn is_finished(&self) -> bool {
        !self.state.lock().is_open()
    }

    fn cancel(&self) -> bool {
        let running = match &*self.state.lock() {
            State::Running(token) => Some(token.clone()),
            _ => None,
        };
        match running {
            Some(token) => token.cancel(),
            // If it starts, or has started, since: that is told, and if not, it never starts.
            None => self.cancel_unrun() || self.cancel_running(),
        }
    }
}

impl<F, R, E> Packet<F, R, E> {
    fn cancel_running(&self) -> bool {
        let running = match &*self.state.lock() {
            State::Running(token) => Some(token.clone()),
            _ => None,
        };
        running.is_some_and(|token| token.cancel())
    }
}
