//! One operation: its closure, then its result or what is to become of it.

use std::panic::{AssertUnwindSafe, catch_unwind};

use crossbeam_channel::{Receiver, Sender, bounded, select_biased};

use super::Late;
use super::shared::Shared;
use crate::cancel::CancelToken;
use crate::contain::contain;
use crate::fault::{self, At};
use crate::group::PanicPayload;
use crate::sync::{Arc, Mutex};
use crate::threads::{self, Handle};

/// An operation on its way.
pub(super) struct Call<T, E, F, L> {
    phase: Mutex<Phase<T, E, F, L>>,
    ended: Sender<()>,
}

/// How the wait for an operation ended.
pub(super) enum Wait<T, E, F> {
    Ended(Late<T, E>),
    Abandoned,
    /// It had not started, and never will.
    Unrun(F),
}

enum Phase<T, E, F, L> {
    Waiting(F),
    Running,
    Ended(Late<T, E>),
    Abandoned(L),
    Taken,
}

impl<T, E, F, L> Call<T, E, F, L> {
    pub(super) fn new(operation: F) -> (Arc<Self>, Receiver<()>) {
        let (ended, has_ended) = bounded(1);
        let phase = Mutex::new(Phase::Waiting(operation));
        (Arc::new(Self { phase, ended }), has_ended)
    }

    /// Leaves `Waiting` for `Running`; otherwise changes nothing.
    pub(super) fn take_task(&self) -> Option<F> {
        let mut phase = self.phase.lock();
        match std::mem::replace(&mut *phase, Phase::Running) {
            Phase::Waiting(operation) => Some(operation),
            other => {
                *phase = other;
                None
            }
        }
    }

    /// The end, if it has come.
    fn take_end(&self) -> Option<Late<T, E>> {
        let mut phase = self.phase.lock();
        match std::mem::replace(&mut *phase, Phase::Taken) {
            Phase::Ended(end) => Some(end),
            other => {
                *phase = other;
                None
            }
        }
    }

    /// Leaves the operation to itself, unless it has ended, or has not even started.
    fn abandon(&self, late: L) -> Wait<T, E, F> {
        let mut phase = self.phase.lock();
        match std::mem::replace(&mut *phase, Phase::Taken) {
            Phase::Ended(end) => Wait::Ended(end),
            Phase::Waiting(operation) => Wait::Unrun(operation),
            _ => {
                *phase = Phase::Abandoned(late);
                Wait::Abandoned
            }
        }
    }

    /// Waits for the end, or until the child is told.
    #[track_caller]
    pub(super) fn outcome(
        &self,
        shared: &Shared,
        number: u64,
        handle: Handle,
        ended: &Receiver<()>,
        child: &CancelToken,
        late: L,
    ) -> Wait<T, E, F> {
        {
            let _wait = threads::waiting_on("see an operation end, or abandon it");
            // The end first, where both have come.
            select_biased! {
                recv(ended) -> _ => {}
                recv(child.done()) -> _ => {}
            }
        }
        let (end, handle) = match self.take_end() {
            Some(end) => (end, handle),
            None => {
                // Listed first, so that the thread finds its place when it ends.
                shared.list(number, handle);
                match self.abandon(late) {
                    Wait::Ended(end) => (end, shared.unlist(number)),
                    Wait::Abandoned => {
                        shared.count_abandoned();
                        return Wait::Abandoned;
                    }
                    unrun => return unrun,
                }
            }
        };
        handle.join();
        shared.leave_place(number);
        Wait::Ended(end)
    }
}

impl<T, E, F, L> Call<T, E, F, L>
where
    F: FnOnce(&CancelToken) -> Result<T, E>,
    L: FnOnce(Late<T, E>),
{
    /// On the helper thread. Whether the call had been abandoned.
    pub(super) fn run(&self, token: &CancelToken) -> bool {
        let Some(operation) = self.take_task() else {
            return true;
        };
        let run = || {
            fault::run(At::AbandonCall);
            operation(token)
        };
        let end = catch_unwind(AssertUnwindSafe(run)).map_err(PanicPayload::new);
        let mut phase = self.phase.lock();
        match std::mem::replace(&mut *phase, Phase::Taken) {
            Phase::Abandoned(late) => {
                drop(phase);
                contain(|| late(end));
                true
            }
            _ => {
                *phase = Phase::Ended(end);
                drop(phase);
                self.ended.send(()).ok();
                false
            }
        }
    }
}
