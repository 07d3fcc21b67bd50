//! The tasks of one group: those that wait, those that run, and when all have ended.
//!
//! # Invariants
//!
//! 1. `pending` counts the tasks that were taken in and have not ended. A task has ended when its
//!    closure, its captured values and this file's reference to it are gone; only then does
//!    `pending` fall. Who sees zero may free what tasks borrow.
//! 2. A task runs on a *server*, a loop on a lent thread. A server that is started brings the task
//!    that it was started for along; nobody else can take that. So without a limit every task has
//!    a server of its own, and tasks may wait for each other. With a limit, there are never more
//!    than `limit` servers.
//! 3. `jobs` is not empty only while there is a *certain* server: one whose thread exists. It
//!    leaves only when it sees no job, under the lock. So a job is never left behind, even if the
//!    thread of another is refused.
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
    jobs: VecDeque<ErasedRun>,
    pending: usize,
    /// Threads of the servers that have arrived.
    threads: Vec<Arc<Record>>,
    idle: usize,
    /// Servers in all: starting, idle and busy.
    servers: usize,
    /// How many servers were ever started, which numbers them.
    started: u64,
    /// Those of which it is not known yet whether they get a thread.
    unsure: Vec<u64>,
    closed: bool,
    /// Threads that wait for a place or for one task: to be told of each that ends.
    watched: usize,
    /// Those of them that wait for a place.
    spawns: usize,
}

/// What somebody finds who looks by.
pub(super) struct Look {
    pub(super) limit: Option<usize>,
    pub(super) threads: Vec<Arc<Record>>,
    pub(super) queued: usize,
    pub(super) spawns: usize,
    /// Whether the task of the key that was asked for waits for a server.
    pub(super) has_key: bool,
    /// Whether a task that waits can be served by `threads` alone, and each of them has one.
    pub(super) all_busy: bool,
    /// Whether a job would find no place.
    pub(super) full: bool,
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

    /// Takes a job in if there is a server, a thread or a place for it. `overflow`, which is for
    /// servers, ignores the backlog's bound. Does not wait.
    pub(super) fn try_push(
        self: &Arc<Self>,
        job: ErasedRun,
        task: &Task,
        overflow: bool,
    ) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if state.jobs.len() < state.idle {
            self.work.notify_one();
        } else if self.may_serve(&state) {
            state.pending += 1;
            state.servers += 1;
            state.started += 1;
            let number = state.started;
            state.unsure.push(number);
            drop(state);
            return self.start_server(number, job, task);
        } else if !overflow && !self.has_place(&state) {
            drop(state);
            drop(job);
            return Err(Refused::Full);
        }
        state.pending += 1;
        state.jobs.push_back(job);
        Ok(())
    }

    /// Starts a server for a job that was counted. If it gets no thread, the job goes back; or,
    /// with a limit, to the servers that there are.
    fn start_server(
        self: &Arc<Self>,
        number: u64,
        job: ErasedRun,
        task: &Task,
    ) -> Result<(), Refused> {
        let seat = Arc::new(Mutex::new(Some(job)));
        let (queue, first) = (self.clone(), seat.clone());
        let server = Box::new(move || {
            let job = first.lock().take();
            drop(first);
            queue.serve(number, job);
        });
        let Err(error) = self.lender.lend(task, server) else {
            self.is_sure(&mut self.state.lock(), number);
            return Ok(());
        };
        let job = seat.lock().take();
        let mut state = self.state.lock();
        self.is_sure(&mut state, number);
        state.servers -= 1;
        if self.limit.is_some() && state.certain() > 0 {
            if state.jobs.len() < state.idle {
                self.work.notify_one();
            }
            state.jobs.extend(job);
            return Ok(());
        }
        // Nobody waits for the end: who spawns holds the scope. Who waits for a place was told.
        state.pending -= 1;
        drop(state);
        drop(job);
        Err(Refused::Thread(error))
    }

    /// It is known now whether a server has a thread, so there may be a place.
    fn is_sure(&self, state: &mut State, number: u64) {
        let before = state.unsure.len();
        state.unsure.retain(|unsure| *unsure != number);
        if state.unsure.len() < before && state.watched > 0 {
            self.moved.notify_all();
        }
    }

    fn may_serve(&self, state: &State) -> bool {
        self.limit.is_none_or(|limit| state.servers < limit.get())
    }

    /// A server, on its thread, with the job that it was started for.
    fn serve(&self, number: u64, first: Option<ErasedRun>) {
        let record = current_record();
        let here = Serving::enter(self);
        let mut state = self.state.lock();
        self.is_sure(&mut state, number);
        state.threads.extend(record.clone());
        self.run_jobs(state, first, record.as_deref());
        drop(here);
    }

    /// The loop of a server. A limited group keeps its few threads until it ends; otherwise a
    /// thread goes back when there is no job for it.
    fn run_jobs<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        mut first: Option<ErasedRun>,
        record: Option<&Record>,
    ) {
        'serve: loop {
            while let Some(job) = first.take().or_else(|| state.jobs.pop_front()) {
                drop(state);
                job.run_and_drop();
                state = self.state.lock();
                state.pending -= 1;
                if state.pending == 0 || state.watched > 0 {
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
            let called = |state: &State| !state.jobs.is_empty() || state.closed;
            state = look_a_while(&self.state, state, called);
            if !called(&state) {
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

    /// Waits until a job would find a place, or `give_up` says so; ask again after `nudge`.
    pub(super) fn await_place(&self, give_up: impl Fn() -> bool) {
        let mut state = self.state.lock();
        state.watched += 1;
        state.spawns += 1;
        while !self.has_place(&state) && !give_up() {
            self.moved.wait(&mut state);
        }
        state.spawns -= 1;
        state.watched -= 1;
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

    /// Waits until `ended` (`true`), which only the end of a task can bring about, or `interrupted`
    /// says so; ask again after `nudge` and at `deadline`.
    pub(super) fn await_task(
        &self,
        deadline: Option<std::time::Instant>,
        ended: impl Fn() -> bool,
        interrupted: impl Fn() -> bool,
    ) -> bool {
        let mut state = self.state.lock();
        state.watched += 1;
        while !ended() && !interrupted() {
            match deadline {
                None => self.moved.wait(&mut state),
                Some(at) => {
                    if self.moved.wait_until(&mut state, at).timed_out() {
                        break;
                    }
                }
            }
        }
        state.watched -= 1;
        ended()
    }

    /// Does away with the jobs that wait for a server, after the group was cancelled: they do not
    /// run, and what they captured is dropped now. It may be what a running task waits for.
    pub(super) fn skip_waiting(&self) {
        let jobs = std::mem::take(&mut self.state.lock().jobs);
        let skipped = jobs.len();
        jobs.into_iter().for_each(ErasedRun::run_and_drop);
        let mut state = self.state.lock();
        state.pending -= skipped;
        if skipped > 0 {
            self.moved.notify_all();
        }
    }

    /// Lets those who wait look at their condition again.
    pub(super) fn nudge(&self) {
        // Under the lock: who waits has looked, and sleeps, or has not looked yet.
        let _state = self.state.lock();
        self.moved.notify_all();
    }

    /// Whether a job would find a server, a thread or a place to wait.
    fn has_place(&self, state: &State) -> bool {
        let waiting_at_most = match state.certain() {
            0 => 0,
            _ => state.idle.saturating_add(self.backlog),
        };
        state.jobs.len() < waiting_at_most || self.may_serve(state)
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

    /// What there is to see, all of one moment.
    pub(super) fn look(&self, key: usize) -> Look {
        let state = self.state.lock();
        let arrived = state.threads.len() == state.servers && state.unsure.is_empty();
        Look {
            limit: self.limit.map(NonZeroUsize::get),
            threads: state.threads.clone(),
            queued: state.jobs.len(),
            spawns: state.spawns,
            has_key: state.jobs.iter().any(|job| job.key() == key),
            all_busy: arrived && state.idle == 0 && !self.may_serve(&state),
            full: !self.has_place(&state),
        }
    }

    /// The threads that serve now. Each says itself which task it runs.
    pub(super) fn threads(&self) -> Vec<Arc<Record>> {
        self.state.lock().threads.clone()
    }
}

/// Looks a few times before an idle thread sleeps: work comes in bursts, and waking a thread costs
/// more than a short look.
pub(crate) fn look_a_while<'a, T>(
    state: &'a Mutex<T>,
    mut locked: MutexGuard<'a, T>,
    called: impl Fn(&T) -> bool,
) -> MutexGuard<'a, T> {
    let mut backoff = Backoff::new();
    let mut again = true;
    while again && !called(&locked) {
        drop(locked);
        again = backoff.snooze();
        locked = state.lock();
    }
    locked
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
    /// Servers whose threads exist.
    fn certain(&self) -> usize {
        self.servers - self.unsure.len()
    }
}
