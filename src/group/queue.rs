//! The tasks of one group: those that wait, those that run, and when all have ended.
//!
//! # Invariants
//!
//! 1. `pending` counts the tasks that were taken in and have not ended. A task has ended when its
//!    closure, its captured values and this file's reference to it are gone; only then does
//!    `pending` fall. Who sees zero may free what tasks borrow.
//! 2. A task runs on a *server*, a loop on a lent thread. Without a limit every waiting task has a
//!    server coming or idle: `jobs.len() <= starting + idle` whenever the lock is free, so tasks
//!    may wait for each other. With a limit, there are never more than `limit` servers.
//! 3. A server leaves only when it sees no job, under the lock. So a job is never left behind.
//! 4. No user code runs under the lock: neither a task nor the destructor of one.
//!
//! Lock order: this lock is taken with no other lock held, and only a lender's is taken under it.

use std::cell::Cell;
use std::collections::VecDeque;
use std::num::NonZeroUsize;

use super::erase::ErasedRun;
use crate::sync::{Arc, Backoff, Condvar, Mutex, MutexGuard};
use crate::threads::{Record, Task, ThreadError, current_record};

/// Where servers get their threads.
pub(super) trait Lender: Send + Sync {
    /// Runs `server` on some thread.
    fn lend(&self, task: &Task, server: Box<dyn FnOnce() + Send>) -> Result<(), ThreadError>;

    /// Waits until every thread that was started for this group is gone.
    fn join_all(&self);
}

pub(super) struct Queue {
    lender: Box<dyn Lender>,
    limit: Option<NonZeroUsize>,
    /// How many tasks may wait when all servers are busy.
    backlog: usize,
    state: Mutex<State>,
    /// For idle servers.
    work: Condvar,
    /// For who waits for a place or for the end.
    moved: Condvar,
}

#[derive(Default)]
struct State {
    jobs: VecDeque<(u64, ErasedRun)>,
    next_job: u64,
    pending: usize,
    /// Threads of the servers that have arrived.
    threads: Vec<Arc<Record>>,
    /// Servers that were lent a thread and have not arrived.
    starting: usize,
    idle: usize,
    /// Servers in all: starting, idle and busy.
    servers: usize,
    closed: bool,
    /// Spawns that wait for a place.
    place_wanted: usize,
}

/// Why a job was not taken in.
pub(super) enum Refused {
    Full,
    Thread(ThreadError),
}

impl Queue {
    pub(super) fn new(
        lender: Box<dyn Lender>,
        limit: Option<NonZeroUsize>,
        backlog: usize,
    ) -> Arc<Self> {
        Arc::new(Self {
            lender,
            limit,
            backlog,
            state: Mutex::default(),
            work: Condvar::new(),
            moved: Condvar::new(),
        })
    }

    /// Takes a job in if there is a server, a thread or a place for it. `overflow` ignores the
    /// backlog's bound. Does not wait.
    pub(super) fn try_push(
        self: &Arc<Self>,
        job: ErasedRun,
        task: &Task,
        overflow: bool,
    ) -> Result<(), Refused> {
        let mut state = self.state.lock();
        let served = state.jobs.len() < state.coming();
        let starts = !served && self.may_serve(&state);
        if !served && !starts && !overflow && !self.has_place(&state) {
            drop(state);
            drop(job);
            return Err(Refused::Full);
        }
        if served && state.idle > 0 {
            self.work.notify_one();
        }
        let id = state.take_in(job);
        if !starts {
            return Ok(());
        }
        state.starting += 1;
        state.servers += 1;
        drop(state);
        let queue = self.clone();
        let lent = self.lender.lend(task, Box::new(move || queue.serve()));
        lent.or_else(|error| self.do_without(id, error))
    }

    /// A server could not be started: the job goes back, unless another has it or will.
    fn do_without(&self, id: u64, error: ThreadError) -> Result<(), Refused> {
        let mut state = self.state.lock();
        state.starting -= 1;
        state.servers -= 1;
        let limited = self.limit.is_some() && state.servers > 0;
        if limited || state.jobs.len() <= state.coming() {
            return Ok(());
        }
        match state.jobs.iter().position(|(waiting, _)| *waiting == id) {
            Some(at) => {
                let job = state.jobs.remove(at);
                state.pending -= 1;
                drop(state);
                drop(job);
                Err(Refused::Thread(error))
            }
            // It runs; one that came later waits for a server to be free instead.
            None => Ok(()),
        }
    }

    fn may_serve(&self, state: &State) -> bool {
        self.limit.is_none_or(|limit| state.servers < limit.get())
    }

    /// A server, on its thread.
    fn serve(&self) {
        let record = current_record();
        let here = Serving::enter(self);
        let mut state = self.state.lock();
        state.starting -= 1;
        state.threads.extend(record.clone());
        self.run_jobs(state, record.as_deref());
        drop(here);
    }

    /// The loop of a server. A limited group keeps its few threads until it ends; otherwise a
    /// thread goes back when there is no job for it.
    fn run_jobs<'a>(&'a self, mut state: MutexGuard<'a, State>, record: Option<&Record>) {
        'serve: loop {
            while let Some((_, job)) = state.jobs.pop_front() {
                drop(state);
                job.run_and_drop();
                state = self.state.lock();
                state.pending -= 1;
                if state.pending == 0 || state.place_wanted > 0 {
                    self.moved.notify_all();
                }
            }
            if state.closed || self.limit.is_none() {
                break 'serve;
            }
            if let Some(record) = record {
                record.rest();
            }
            state.idle += 1;
            state = self.look_again(state);
            if state.jobs.is_empty() && !state.closed {
                self.work.wait(&mut state);
            }
            state.idle -= 1;
        }
        state.servers -= 1;
        if let Some(record) = record {
            state
                .threads
                .retain(|thread| !std::ptr::eq(&**thread, record));
            drop(state);
            record.rest();
        }
    }

    /// Looks a few times before it sleeps: tasks come in bursts, and waking a thread costs more
    /// than a short look.
    fn look_again<'a>(&'a self, mut state: MutexGuard<'a, State>) -> MutexGuard<'a, State> {
        let mut backoff = Backoff::new();
        while state.jobs.is_empty() && !state.closed {
            drop(state);
            let again = backoff.snooze();
            state = self.state.lock();
            if !again {
                break;
            }
        }
        state
    }

    /// Waits until a job would find a place, or `give_up` says so; ask again after `nudge`.
    pub(super) fn await_place(&self, give_up: impl Fn() -> bool) {
        let mut state = self.state.lock();
        state.place_wanted += 1;
        while !self.has_place(&state) && !give_up() {
            self.moved.wait(&mut state);
        }
        state.place_wanted -= 1;
    }

    /// Waits until all tasks have ended (`true`), or `interrupted` says so; ask again after
    /// `nudge` and at `deadline`.
    pub(super) fn await_end(
        &self,
        deadline: Option<std::time::Instant>,
        interrupted: impl Fn() -> bool,
    ) -> bool {
        let mut state = self.state.lock();
        while state.pending > 0 && !interrupted() {
            match deadline {
                None => self.moved.wait(&mut state),
                Some(at) => {
                    if self.moved.wait_until(&mut state, at).timed_out() {
                        break;
                    }
                }
            }
        }
        state.pending == 0
    }

    /// Lets those who wait look at their condition again.
    pub(super) fn nudge(&self) {
        // Under the lock: who waits has looked, and sleeps, or has not looked yet.
        let _state = self.state.lock();
        self.moved.notify_all();
    }

    /// Whether a job would find a server, a thread or a place to wait.
    fn has_place(&self, state: &State) -> bool {
        state.jobs.len() < state.coming() + self.backlog || self.may_serve(state)
    }

    /// Ends the servers, when nothing is pending any more, and joins the group's own threads.
    pub(super) fn close(&self) {
        let mut state = self.state.lock();
        debug_assert_eq!(state.pending, 0, "closed with tasks pending");
        state.closed = true;
        self.work.notify_all();
        drop(state);
        self.lender.join_all();
    }

    /// Whether the calling thread is in a task of this group. Such a thread must not wait for a
    /// place: it may be the one that would make it.
    pub(super) fn served_here(&self) -> bool {
        SERVES.get() == self.address()
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// The threads that serve now. Each says itself which task it runs.
    pub(super) fn threads(&self) -> Vec<Arc<Record>> {
        self.state.lock().threads.clone()
    }
}

thread_local! {
    /// Address of the queue that this thread serves; zero for none.
    static SERVES: Cell<usize> = const { Cell::new(0) };
}

/// Marks the thread as a server.
struct Serving;

impl Serving {
    fn enter(queue: &Queue) -> Self {
        SERVES.set(queue.address());
        Self
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        SERVES.set(0);
    }
}

impl State {
    /// Servers that can take a job without anybody ending first.
    fn coming(&self) -> usize {
        self.starting + self.idle
    }

    fn take_in(&mut self, job: ErasedRun) -> u64 {
        let id = self.next_job;
        self.next_job += 1;
        self.pending += 1;
        self.jobs.push_back((id, job));
        id
    }
}
