//! Threads for one group alone, and the list of handles that a group or a cache joins.

use std::collections::BTreeMap;

use super::queue::Lender;
use crate::sync::{Arc, Mutex};
use crate::threads::{self, Handle, Spec, Task, ThreadError};

/// Starts a thread for each server.
pub(super) struct OwnThreads {
    pub(super) stack_size: Option<usize>,
    pub(super) roster: Roster,
}

impl Lender for OwnThreads {
    fn lend(&self, task: &Task, server: Box<dyn FnOnce() + Send>) -> Result<(), ThreadError> {
        let spec = Spec {
            task: task.clone(),
            stack_size: self.stack_size,
            // Each task says its own.
            scope: None,
        };
        self.roster.start(spec, server)
    }

    fn join_all(&self) {
        self.roster.join_all();
    }
}

/// Threads and their handles: each is joined, as soon as another is started after it has ended, or
/// at the end.
#[derive(Default)]
pub(crate) struct Roster {
    threads: Arc<Mutex<Threads>>,
}

#[derive(Default)]
struct Threads {
    /// By number.
    started: BTreeMap<u64, Handle>,
    next: u64,
    /// Numbers of threads that are past their body.
    ended: Vec<u64>,
    closed: bool,
}

impl Roster {
    /// Starts a thread that runs `body`, which must not panic.
    pub(crate) fn start(
        &self,
        spec: Spec,
        body: impl FnOnce() + Send + 'static,
    ) -> Result<(), ThreadError> {
        let mut threads = self.threads.lock();
        if threads.closed {
            let why = "the thread cache has been dropped";
            return Err(ThreadError::refused(&spec.task.name, why));
        }
        let number = threads.next;
        threads.next += 1;
        let list = self.threads.clone();
        // Under the lock, so that its handle is listed before it can end.
        let handle = threads::spawn(spec, move || {
            body();
            list.lock().ended.push(number);
        })?;
        threads.started.insert(number, handle);
        let ended = threads.take_ended();
        drop(threads);
        // Who serves for years must not collect handles. These are past their body, so only their
        // thread-local destructors are waited for.
        let others = ended.into_iter().filter(|handle| !handle.is_current());
        others.for_each(Handle::join);
        Ok(())
    }

    /// Refuses to start any more, under the lock that starting takes, and joins those there are.
    pub(super) fn close(&self) {
        self.threads.lock().closed = true;
        self.join_all();
    }

    /// Joins every thread that was started, but the calling one.
    pub(crate) fn join_all(&self) {
        let mut threads = self.threads.lock();
        let started = std::mem::take(&mut threads.started);
        drop(threads);
        for handle in started.into_values() {
            if !handle.is_current() {
                handle.join();
            }
        }
    }
}

impl Threads {
    fn take_ended(&mut self) -> Vec<Handle> {
        let ended = std::mem::take(&mut self.ended);
        let handles = ended
            .iter()
            .filter_map(|number| self.started.remove(number));
        handles.collect()
    }
}
