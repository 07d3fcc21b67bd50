//! A task whose result nobody waits for: no handle, so nobody shares its memory with the worker.

use std::any::Any;
use std::time::Duration;

use super::job::JobError;
use super::packet::Run;
use super::queue::{Label, Labelled, Outcome};
use super::worker::{Asked, Worker, run_contained};
use crate::cancel::CancelToken;
use crate::contain::drop_contained;
use crate::observe::Stopwatch;
use crate::sync::{Arc, Mutex};

/// Whoever takes the closure out has it alone: it runs once, or not at all.
pub(super) struct Detached<F> {
    task: Mutex<Option<Asked<F>>>,
    label: Label,
    timeout: Option<Duration>,
    queued: Stopwatch,
}

impl<F> Detached<F> {
    pub(super) fn new(label: Label, timeout: Option<Duration>, task: F) -> Arc<Self> {
        Arc::new(Self {
            task: Mutex::new(Some(Asked::here(task))),
            label,
            timeout,
            queued: Stopwatch::start(),
        })
    }

    /// Takes the closure of a task that was refused.
    pub(super) fn take_task(&self) -> Option<F> {
        self.task.lock().take().map(Asked::into_task)
    }
}

impl<F> Labelled for Detached<F> {
    fn label(&self) -> Label {
        self.label.clone()
    }
}

impl<F, E> Run<E> for Detached<F>
where
    F: FnOnce(&CancelToken) -> Result<(), E> + Send + 'static,
    E: Send + 'static,
{
    fn run(&self, worker: &mut Worker) -> Outcome {
        let Some(asked) = self.task.lock().take() else {
            return Outcome::Cancelled;
        };
        let token = worker.token(self.timeout);
        let (outcome, result) = worker.run(&self.label, self.timeout, self.queued, asked, &token);
        drop_contained(result);
        worker.give_back(token, self.timeout);
        outcome
    }

    fn cancel_unrun(&self) -> bool {
        let asked = self.task.lock().take();
        let unrun = asked.is_some();
        drop_contained(asked);
        unrun
    }

    fn abandon(&self) -> bool {
        self.task.lock().is_some()
    }

    fn run_abandoned(&self, token: &CancelToken) -> Result<(), JobError<E>> {
        let asked = self.task.lock().take();
        let asked = asked.expect("an abandoned task is run by the one who has it");
        run_contained(asked, !token.is_cancelled(), token).1
    }

    fn into_any(self: Arc<Self>) -> Arc<dyn Any + Send + Sync> {
        self
    }
}
