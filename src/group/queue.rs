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
use crate::sync::{Arc, Condvar, Mutex};
use crate::threads::{Record, Task, ThreadError, current_record};

/// One task: what to run, and what to call it.
pub(super) struct Job {
    pub(super) run: ErasedRun,
    pub(super) task: Task,
}

/// Where servers get their threads.
pub(super) trait Lender: Send + Sync {
    /// Runs `server` on some thread.
    fn lend(&self, task: &Task, server: Box<dyn FnOnce() + Send>) -> Result<(), ThreadError>;

    /// Whether an idle server should keep its thread rather than give it back.
    fn keeps_idle(&self) -> bool;

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
    jobs: VecDeque<(u64, Job)>,
    next_job: u64,
    pending: usize,
    running: Vec<Running>,
    idle: usize,
    /// Servers in all: starting, idle and busy.
    servers: usize,
    /// The first jobs of those servers of which it is not known yet whether they get a thread.
    unsure: Vec<u64>,
    closed: bool,
    /// Spawns that wait for a place.
    place_wanted: usize,
}

/// A task that runs, for reports.
#[derive(Clone)]
pub(super) struct Running {
    id: u64,
    pub(super) task: Task,
    pub(super) thread: Option<Arc<Record>>,
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
    pub(super) fn try_push(self: &Arc<Self>, job: Job, overflow: bool) -> Result<(), Refused> {
        let mut state = self.state.lock();
        if state.jobs.len() < state.idle {
            self.work.notify_one();
        } else if self.may_serve(&state) {
            let id = state.admit();
            state.servers += 1;
            state.unsure.push(id);
            drop(state);
            return self.start_server(id, job);
        } else if !overflow && !self.has_place(&state) {
            drop(state);
            drop(job);
            return Err(Refused::Full);
        }
        let id = state.admit();
        state.jobs.push_back((id, job));
        Ok(())
    }

    /// Starts a server for a job that was admitted. If it gets no thread, the job goes back; or,
    /// with a limit, to the servers that there are.
    fn start_server(self: &Arc<Self>, id: u64, job: Job) -> Result<(), Refused> {
        let task = job.task.clone();
        let seat = Arc::new(Mutex::new(Some(job)));
        let (queue, first) = (self.clone(), seat.clone());
        let server = Box::new(move || {
            let job = first.lock().take();
            drop(first);
            queue.serve(id, job);
        });
        let lent = self.lender.lend(&task, server);
        let Err(error) = lent else {
            self.is_sure(&mut self.state.lock(), id);
            return Ok(());
        };
        let job = seat.lock().take();
        let mut state = self.state.lock();
        self.is_sure(&mut state, id);
        state.servers -= 1;
        if self.limit.is_some() && state.certain() > 0 {
            if state.jobs.len() < state.idle {
                self.work.notify_one();
            }
            state.jobs.extend(job.map(|job| (id, job)));
            return Ok(());
        }
        state.pending -= 1;
        // Nobody waits for the end here, as who spawns holds the scope; but a place is free.
        self.moved.notify_all();
        drop(state);
        drop(job);
        Err(Refused::Thread(error))
    }

    /// It is known now whether the server that was to start with this job has a thread.
    fn is_sure(&self, state: &mut State, id: u64) {
        let before = state.unsure.len();
        state.unsure.retain(|unsure| *unsure != id);
        if state.unsure.len() < before && state.place_wanted > 0 {
            self.moved.notify_all();
        }
    }

    fn may_serve(&self, state: &State) -> bool {
        self.limit.is_none_or(|limit| state.servers < limit.get())
    }

    /// The loop of a server that was started for the job `first`.
    fn serve(&self, first: u64, job: Option<Job>) {
        let record = current_record();
        let _here = Serving::enter(self);
        let mut next = job.map(|job| (first, job));
        let mut state = self.state.lock();
        self.is_sure(&mut state, first);
        'serve: loop {
            while let Some((id, Job { run, task })) = next.take().or_else(|| state.jobs.pop_front())
            {
                state.begin(id, task.clone(), record.clone());
                drop(state);
                if let Some(record) = &record {
                    record.lend(Some(task));
                }
                run.run_and_drop();
                if let Some(record) = &record {
                    record.lend(None);
                }
                state = self.state.lock();
                state.end(id);
                if state.pending == 0 || state.place_wanted > 0 {
                    self.moved.notify_all();
                }
            }
            if state.closed || !self.lender.keeps_idle() {
                break 'serve;
            }
            state.idle += 1;
            self.work.wait(&mut state);
            state.idle -= 1;
        }
        state.servers -= 1;
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

    /// What runs now.
    pub(super) fn running(&self) -> Vec<Running> {
        self.state.lock().running.clone()
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
    /// Servers whose threads exist.
    fn certain(&self) -> usize {
        self.servers - self.unsure.len()
    }

    fn admit(&mut self) -> u64 {
        let id = self.next_job;
        self.next_job += 1;
        self.pending += 1;
        id
    }

    fn begin(&mut self, id: u64, task: Task, thread: Option<Arc<Record>>) {
        self.running.push(Running { id, task, thread });
    }

    fn end(&mut self, id: u64) {
        // Few run at a time, and the oldest tend to end first.
        if let Some(at) = self.running.iter().position(|run| run.id == id) {
            self.running.swap_remove(at);
        }
        self.pending -= 1;
    }
}
