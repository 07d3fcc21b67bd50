//! A task without its lifetime: the one unsafe step of a scope.
#![allow(unsafe_code)]

use std::mem::transmute;

use crate::contain::drop_contained;
use crate::sync::Arc;

/// A task that can be run once.
pub(super) trait Run: Send + Sync {
    /// Runs the task, or drops it unrun if its group has been cancelled. Does not unwind. When it
    /// returns, the task's closure is gone.
    fn run(&self);
}

/// A task whose borrows the compiler no longer sees.
///
/// Made with [`erase`], whose contract keeps the borrows alive for as long as this is.
pub(super) struct ErasedRun(Arc<dyn Run>);

/// Forgets the lifetime of what `run` borrows.
///
/// # Safety
///
/// The result must be dropped, unrun or run, before `'scope` ends. Leaking it is harmless if it is
/// never run.
pub(super) unsafe fn erase<'scope>(run: Arc<dyn Run + 'scope>) -> ErasedRun {
    // SAFETY: the two types differ in the lifetime bound of the trait object only, so they have
    // the same layout and vtable. That nothing is used after `'scope` is the caller's promise.
    ErasedRun(unsafe { transmute::<Arc<dyn Run + 'scope>, Arc<dyn Run + 'static>>(run) })
}

impl ErasedRun {
    /// Tells tasks apart that are alive at the same time: the address.
    pub(super) fn key(&self) -> usize {
        Arc::as_ptr(&self.0).addr()
    }

    /// Runs the task and gives the reference up. Does not unwind: of a result that nobody took,
    /// a panicking destructor ends here, reported by the panic hook.
    pub(super) fn run_and_drop(self) {
        self.0.run();
        drop_contained(self);
    }
}
