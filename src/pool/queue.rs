//! The tasks of one pool: those that wait, those that run, what became of the others.
//!
//! # Invariants
//!
//! 1. `pending` counts the tasks that were taken in and are not in `counts` yet. Each is in `jobs`,
//!    in the seat of the worker that runs it, or in the hands of who took the backlog and will
//!    `settle` it. So at every moment `submitted` = `counts` + `pending`, to the last task.
//! 2. A task is counted when its closure, its captured values and this file's reference to it are
//!    gone (or with who shuts down, if it is handed back).
//! 3. A worker is counted as idle from the moment it is asked for, or has nothing to do, until it
//!    takes a job or leaves. So a job may be handed over to a worker that is still on its way.
//! 4. No job waits beside a sleeping worker that nobody called: who pushes calls one unless one
//!    that is awake looks for work anyway, and who leaves calls another. A worker sleeps only when
//!    it has seen, under the lock, that there is no job.
//! 5. After `close`, and after `cancel`, nothing is taken in. The flag is read under the lock that
//!    the push takes, so what was taken in is in the backlog that the closer finds.
//! 6. `workers >= target`, unless the pool is closed and nothing waits. So while `target` is not
//!    zero, a drain has somebody who does it.
//! 7. No user code runs under the lock: neither a task nor the destructor of one.
//!
//! Lock order: this lock is taken with no other lock held; a thread's record is locked under it.

use std::collections::VecDeque;
use std::panic::Location;

use crate::group::look_a_while;
use crate::sync::{Arc, Condvar, Mutex, MutexGuard};
use crate::threads::{Record, waiting_on};

/// A task, as far as the queue knows it.
pub(super) trait Labelled {
    fn label(&self) -> Label;

    /// Tells tasks apart that can be joined and are alive at the same time; 0 for one that cannot.
    fn key(&self) -> usize {
        0
    }
}

impl<T: Labelled + ?Sized> Labelled for Arc<T> {
    fn label(&self) -> Label {
        (**self).label()
    }

    fn key(&self) -> usize {
        (**self).key()
    }
}

/// What a report says about a task.
#[derive(Clone)]
pub(super) struct Label {
    /// If it is not the pool's.
    pub(super) name: Option<Arc<str>>,
    pub(super) site: &'static Location<'static>,
}

/// What became of a task that was not handed back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Completed,
    Failed,
    Panicked,
    Cancelled,
}

/// How many tasks ended in which way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Counts {
    pub(super) completed: usize,
    pub(super) failed: usize,
    pub(super) panicked: usize,
    pub(super) cancelled: usize,
    pub(super) abandoned: usize,
}

impl Counts {
    fn add(&mut self, outcome: Outcome) {
        let count = match outcome {
            Outcome::Completed => &mut self.completed,
            Outcome::Failed => &mut self.failed,
            Outcome::Panicked => &mut self.panicked,
            Outcome::Cancelled => &mut self.cancelled,
        };
        *count += 1;
    }

    fn sum(&self) -> usize {
        self.completed + self.failed + self.panicked + self.cancelled + self.abandoned
    }
}

/// Why a job was not taken in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    Full,
    Closed,
    Cancelled,
}

/// What there is to do about a pool's size.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Growth {
    /// A worker has been counted; start it, or take it back with `not_started`.
    Start,
    Done,
    Closed,
}

/// A running task.
pub(super) struct Running {
    pub(super) label: Label,
    pub(super) record: Option<Arc<Record>>,
}

/// Everything at one moment: the counts and the rest add up to what was submitted.
pub(super) struct Snapshot<J> {
    pub(super) counts: Counts,
    pub(super) running: Vec<Running>,
    pub(super) queued: usize,
    pub(super) left: Vec<J>,
}

/// What somebody finds who looks by.
pub(super) struct Look {
    pub(super) counts: Counts,
    pub(super) workers: usize,
    pub(super) running: usize,
    pub(super) queued: usize,
    pub(super) bound: usize,
    pub(super) open: bool,
}

/// What a wait for a task or a place depends on.
pub(super) struct Standing {
    pub(super) running: Vec<Running>,
    /// Whether the task of the key that was asked for waits for a worker.
    pub(super) has_key: bool,
    /// Whether a task that waits can be served by those that run one alone.
    pub(super) all_busy: bool,
    /// Whether a job would find no place.
    pub(super) full: bool,
}

pub(super) struct Queue<J> {
    bound: usize,
    state: Mutex<State<J>>,
    /// For idle workers.
    work: Condvar,
    /// For who waits for a place.
    places: Condvar,
    /// For who waits for the end of tasks.
    ends: Condvar,
}

struct State<J> {
    jobs: VecDeque<Queued<J>>,
    pending: usize,
    counts: Counts,
    /// By the number of a worker's seat.
    seats: Vec<Option<Seat>>,
    /// Seats with a task.
    running: usize,
    /// Workers in all: on their way, idle and busy.
    workers: usize,
    /// How many there shall be.
    target: usize,
    idle: usize,
    /// Those of the idle that are awake and look for work.
    looking: usize,
    closed: bool,
    cancelled: bool,
    /// Submits that wait for a place.
    place_wanted: usize,
    /// Who waits for tasks to end.
    end_wanted: usize,
    /// What a shutdown handed back and nobody has collected.
    left: Vec<J>,
}

/// A job, with its label beside it: the job's own memory is another thread's yet, and looking at it
/// would hold the lock for as long as that takes.
struct Queued<J> {
    job: J,
    label: Label,
}

struct Seat {
    record: Option<Arc<Record>>,
    serving: Option<Label>,
}

impl<J: Labelled> Queue<J> {
    /// A queue in which `bound` jobs may wait when all workers are busy.
    pub(super) fn new(bound: usize) -> Self {
        let state = State {
            jobs: VecDeque::new(),
            pending: 0,
            counts: Counts::default(),
            seats: Vec::new(),
            running: 0,
            workers: 0,
            target: 0,
            idle: 0,
            looking: 0,
            closed: false,
            cancelled: false,
            place_wanted: 0,
            end_wanted: 0,
            left: Vec::new(),
        };
        Self {
            bound,
            state: Mutex::new(state),
            work: Condvar::new(),
            places: Condvar::new(),
            ends: Condvar::new(),
        }
    }

    /// Takes a job in if there is a place. `overflow`, which is for workers, ignores the bound;
    /// `cancelled` is what the caller knows before this queue is told. Does not wait.
    pub(super) fn try_push(
        &self,
        job: J,
        overflow: bool,
        cancelled: bool,
    ) -> Result<(), (Refused, J)> {
        let label = job.label();
        let mut state = self.state.lock();
        let refused = if state.closed {
            Refused::Closed
        } else if state.cancelled || cancelled {
            Refused::Cancelled
        } else if !overflow && !self.has_place(&state) {
            Refused::Full
        } else {
            state.pending += 1;
            state.jobs.push_back(Queued { job, label });
            let jobs = state.jobs.len();
            // Invariant 4: those that are awake take the first jobs; past the number of the idle,
            // all have been called.
            let call = jobs > state.looking && jobs <= state.idle;
            drop(state);
            if call {
                self.work.notify_one();
            }
            return Ok(());
        };
        drop(state);
        Err((refused, job))
    }

    /// Waits until a job would find a place or be refused for good, or `deadline` passes, or
    /// `give_up` says so; ask again after `nudge`. `false` if it gave up.
    pub(super) fn await_place(
        &self,
        deadline: Option<std::time::Instant>,
        give_up: impl Fn() -> bool,
    ) -> bool {
        let settled = |state: &State<J>| state.closed || state.cancelled || self.has_place(state);
        let mut state = self.state.lock();
        state.place_wanted += 1;
        state = look_a_while(&self.state, state, settled);
        while !settled(&state) && !give_up() {
            match deadline {
                None => self.places.wait(&mut state),
                Some(at) => {
                    if self.places.wait_until(&mut state, at).timed_out() {
                        break;
                    }
                }
            }
        }
        state.place_wanted -= 1;
        // Its own call may have come with the end of its patience: pass it on.
        self.tell_place(&state);
        settled(&state)
    }

    /// Serves until the pool is closed and nothing is left, or has too many workers. `run` must
    /// not unwind, and leaves nothing of the job.
    pub(super) fn serve(&self, record: Option<Arc<Record>>, mut run: impl FnMut(J) -> Outcome) {
        let mut state = self.state.lock();
        let seat = state.sit(record.clone());
        'serve: loop {
            state = self.await_work(state, record.as_deref());
            state.idle -= 1;
            if state.is_surplus() || state.jobs.is_empty() {
                break 'serve;
            }
            while let Some(job) = state.next_job(seat) {
                self.tell_place(&state);
                drop(state);
                let outcome = run(job);
                state = self.state.lock();
                state.rise(seat);
                state.count(outcome);
                self.tell_end(&state);
            }
            state.idle += 1;
            self.tell_place(&state);
        }
        state.workers -= 1;
        let seat = state.seats[seat].take();
        // Invariant 4: it may have been this one that was called for them.
        if !state.jobs.is_empty() {
            self.work.notify_one();
        }
        drop(state);
        drop(seat);
    }

    /// Until there is a job, or a reason to leave.
    fn await_work<'a>(
        &'a self,
        mut state: MutexGuard<'a, State<J>>,
        record: Option<&Record>,
    ) -> MutexGuard<'a, State<J>> {
        if state.calls() {
            return state;
        }
        state.looking += 1;
        state = look_a_while(&self.state, state, State::calls);
        state.looking -= 1;
        if !state.calls() {
            if let Some(record) = record {
                record.rest();
            }
            let _wait = waiting_on("get a task of a pool");
            while !state.calls() {
                self.work.wait(&mut state);
            }
        }
        state
    }

    /// One step towards `workers`. Ask again until it is done.
    pub(super) fn grow_towards(&self, workers: usize) -> Growth {
        let mut state = self.state.lock();
        if state.closed {
            return Growth::Closed;
        }
        while state.target < workers {
            state.target += 1;
            // Otherwise one that was to leave, and has not yet, stays.
            if state.workers < state.target {
                state.workers += 1;
                state.idle += 1;
                self.tell_place(&state);
                return Growth::Start;
            }
        }
        state.target = workers;
        // Those who are too many leave.
        self.work.notify_all();
        Growth::Done
    }

    /// A worker that was counted did not get a thread. `true` if the pool has been closed
    /// meanwhile and nobody will serve it: the backlog is the caller's to hand back.
    pub(super) fn not_started(&self) -> bool {
        let mut state = self.state.lock();
        state.workers -= 1;
        state.idle -= 1;
        state.target = state.target.saturating_sub(1);
        state.closed && state.target == 0
    }

    /// Takes nothing in any more. `true` if nobody will ever serve the backlog.
    pub(super) fn close(&self) -> bool {
        let mut state = self.state.lock();
        state.closed = true;
        self.work.notify_all();
        self.places.notify_all();
        state.target == 0
    }

    /// Takes nothing in any more, because the pool is cancelled.
    pub(super) fn cancel(&self) {
        self.state.lock().cancelled = true;
        self.places.notify_all();
    }

    /// Takes out all that waits. The caller owes a [`settle`](Self::settle) for it.
    pub(super) fn take_backlog(&self) -> VecDeque<J> {
        let mut state = self.state.lock();
        let jobs = std::mem::take(&mut state.jobs);
        self.places.notify_all();
        drop(state);
        jobs.into_iter().map(|queued| queued.job).collect()
    }

    /// What became of a backlog that was taken: so many cancelled, the others handed back.
    pub(super) fn settle(&self, cancelled: usize, left: Vec<J>) {
        let mut state = self.state.lock();
        state.pending -= cancelled + left.len();
        state.counts.cancelled += cancelled;
        state.counts.abandoned += left.len();
        state.left.extend(left);
        self.tell_end(&state);
    }

    /// Waits until all tasks have ended (`true`), or `deadline` passes, or `give_up` says so; ask
    /// again after `nudge`.
    pub(super) fn await_end(
        &self,
        deadline: Option<std::time::Instant>,
        give_up: impl Fn() -> bool,
    ) -> bool {
        let mut state = self.state.lock();
        state.end_wanted += 1;
        while state.pending > 0 && !give_up() {
            match deadline {
                None => self.ends.wait(&mut state),
                Some(at) => {
                    if self.ends.wait_until(&mut state, at).timed_out() {
                        break;
                    }
                }
            }
        }
        state.end_wanted -= 1;
        state.pending == 0
    }

    /// How many tasks have ended, in whatever way: it grows as long as anything moves.
    pub(super) fn ended(&self) -> usize {
        self.state.lock().counts.sum()
    }

    /// Lets those who wait look at their condition again.
    pub(super) fn nudge(&self) {
        // Under the lock: who waits has looked, and sleeps, or has not looked yet.
        let _state = self.state.lock();
        self.places.notify_all();
        self.ends.notify_all();
    }

    /// The tasks that run now.
    pub(super) fn running(&self) -> Vec<Running> {
        self.state.lock().running()
    }

    /// All at one moment. Collects what was handed back.
    pub(super) fn snapshot(&self) -> Snapshot<J> {
        let mut state = self.state.lock();
        Snapshot {
            counts: state.counts,
            running: state.running(),
            queued: state.pending - state.running,
            left: std::mem::take(&mut state.left),
        }
    }

    /// What there is to see, all of one moment.
    pub(super) fn look(&self) -> Look {
        let state = self.state.lock();
        Look {
            counts: state.counts,
            workers: state.workers,
            running: state.running,
            queued: state.jobs.len(),
            bound: self.bound,
            open: !state.closed && !state.cancelled,
        }
    }

    /// What a wait depends on, all of one moment.
    pub(super) fn standing(&self, key: usize) -> Standing {
        let state = self.state.lock();
        Standing {
            has_key: state.jobs.iter().any(|queued| queued.job.key() == key),
            all_busy: state.idle == 0 && state.running == state.workers,
            full: !state.closed && !state.cancelled && !self.has_place(&state),
            running: state.running(),
        }
    }

    /// How many workers there are, and how many jobs wait.
    pub(super) fn sizes(&self) -> (usize, usize) {
        let state = self.state.lock();
        (state.workers, state.jobs.len())
    }

    fn has_place(&self, state: &State<J>) -> bool {
        state.jobs.len() < state.idle.saturating_add(self.bound)
    }

    fn tell_place(&self, state: &State<J>) {
        if state.place_wanted > 0 && self.has_place(state) {
            self.places.notify_one();
        }
    }

    fn tell_end(&self, state: &State<J>) {
        if state.end_wanted > 0 && state.pending == 0 {
            self.ends.notify_all();
        }
    }
}

impl<J: Labelled> State<J> {
    fn is_surplus(&self) -> bool {
        self.workers > self.target
    }

    /// Whether an idle worker has something to do, if only to leave.
    fn calls(&self) -> bool {
        !self.jobs.is_empty() || self.closed || self.is_surplus()
    }

    fn sit(&mut self, record: Option<Arc<Record>>) -> usize {
        let serving = None;
        let seat = Some(Seat { record, serving });
        match self.seats.iter().position(Option::is_none) {
            Some(free) => {
                self.seats[free] = seat;
                free
            }
            None => {
                self.seats.push(seat);
                self.seats.len() - 1
            }
        }
    }

    fn next_job(&mut self, seat: usize) -> Option<J> {
        if self.is_surplus() {
            return None;
        }
        let Queued { job, label } = self.jobs.pop_front()?;
        self.running += 1;
        if let Some(seat) = &mut self.seats[seat] {
            seat.serving = Some(label);
        }
        Some(job)
    }

    /// The job of a seat has ended.
    fn rise(&mut self, seat: usize) {
        self.running -= 1;
        if let Some(seat) = &mut self.seats[seat] {
            seat.serving = None;
        }
    }

    fn count(&mut self, outcome: Outcome) {
        self.pending -= 1;
        self.counts.add(outcome);
    }

    fn running(&self) -> Vec<Running> {
        let running = |seat: &Seat| {
            let (label, record) = (seat.serving.clone()?, seat.record.clone());
            Some(Running { label, record })
        };
        self.seats.iter().flatten().filter_map(running).collect()
    }
}
