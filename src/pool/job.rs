//! One task: its closure, then its result, and the handle to it.
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
use std::fmt;
use std::panic::{AssertUnwindSafe, Location, catch_unwind};
use std::time::Duration;

use super::queue::{Label, Labelled, Outcome};
use crate::cancel::CancelToken;
use crate::clock::{Clock, Instant, wait_until};
use crate::contain::drop_contained;
use crate::fault::{self, At};
use crate::group::PanicPayload;
use crate::observe::{PoolFacts, Stopwatch};
use crate::sync::{Arc, Condvar, Mutex};
use crate::threads::{self, Awaits, Inherited, Task as Named};

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
trait Slot<R, E>: Send + Sync {
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
struct Shown {
    awaits: Awaits,
    at: &'static Location<'static>,
}

/// What a worker keeps from task to task.
pub(super) struct Worker {
    pool: CancelToken,
    /// A child of the pool's token that nobody has ever seen, or not so that it shows.
    spare: Option<CancelToken>,
    named: Named,
    facts: PoolFacts,
}

impl Worker {
    pub(super) fn new(pool: CancelToken, named: Named, facts: PoolFacts) -> Self {
        let spare = None;
        Self {
            pool,
            spare,
            named,
            facts,
        }
    }

    pub(super) fn token(&mut self, timeout: Option<Duration>) -> CancelToken {
        match timeout {
            Some(timeout) => self.pool.child_timeout(timeout),
            None => self.spare.take().unwrap_or_else(|| self.pool.child()),
        }
    }

    /// Most tasks only look at their token, so the next one can have it: making a child takes an
    /// allocation and the pool's lock.
    pub(super) fn give_back(&mut self, token: CancelToken, timeout: Option<Duration>) {
        if timeout.is_none() && token.is_untouched() {
            self.spare = Some(token);
        }
    }

    /// Runs a task that has been taken out, and tells who wants to know.
    pub(super) fn run<F, R, E>(
        &mut self,
        label: &Label,
        timeout: Option<Duration>,
        queued: Stopwatch,
        asked: Asked<F>,
        token: &CancelToken,
    ) -> (Outcome, Result<R, JobError<E>>)
    where
        F: FnOnce(&CancelToken) -> Result<R, E>,
    {
        self.announce(label);
        let starts = !self.pool.is_cancelled() && timeout != Some(Duration::ZERO);
        self.facts.waited(queued);
        let started = Stopwatch::start();
        let ran = run_contained(asked, starts, token);
        self.facts.ran(started);
        ran
    }

    /// For the lists of threads.
    fn announce(&mut self, label: &Label) {
        match &label.name {
            None => {
                self.named.site = label.site;
                threads::run_task(&self.named);
            }
            Some(name) => threads::run_task(&Named {
                name: name.clone(),
                site: label.site,
            }),
        }
    }
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

/// A closure, with what it inherits from where it was submitted, such as a span: not held for
/// longer than it runs, whoever keeps the handle.
pub(super) struct Asked<F> {
    task: F,
    inherited: Inherited,
}

impl<F> Asked<F> {
    pub(super) fn here(task: F) -> Self {
        let inherited = Inherited::here();
        Self { task, inherited }
    }

    /// Of what was refused.
    pub(super) fn into_task(self) -> F {
        self.inherited.give_back();
        self.task
    }
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

/// The pool's token decides whether a task starts, and not its own: a timeout that has just begun
/// to count is the running task's affair.
pub(super) fn run_contained<F, R, E>(
    Asked { task, inherited }: Asked<F>,
    starts: bool,
    token: &CancelToken,
) -> (Outcome, Result<R, JobError<E>>)
where
    F: FnOnce(&CancelToken) -> Result<R, E>,
{
    let _inside = inherited.enter();
    if !starts {
        drop_contained(task);
        return (Outcome::Cancelled, Err(JobError::Cancelled));
    }
    let run = || {
        fault::run(At::PoolTask);
        task(token)
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => (Outcome::Completed, Ok(value)),
        Ok(Err(error)) => (Outcome::Failed, Err(JobError::Failed(error))),
        Err(payload) => {
            let payload = PanicPayload::new(payload);
            (Outcome::Panicked, Err(JobError::Panicked(payload)))
        }
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

/// A task of a pool: waits for its end and takes its result, or cancels it.
///
/// Unlike a [`JoinHandle`](std::thread::JoinHandle), it can tell the task to stop, and
/// can wait for a limited time. Dropping it does nothing: the task runs all the same.
///
/// A task that joins another of the same pool may wait for one that waits, in turn, for the worker
/// that it occupies itself. [`threads::deadlocks`](crate::threads::deadlocks()) names that, but nothing
/// ends it; hand results on by a channel instead.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, Pool};
///
/// let pool = Pool::builder().workers(1).build(&CancelToken::new()).unwrap();
/// let answer = pool.submit(|_| Ok(6 * 7)).unwrap();
/// assert_eq!(answer.join().unwrap(), 42);
///
/// let endless = pool.submit(|token| { token.wait(); Ok("told to stop") }).unwrap();
/// let unstarted = pool.submit(|_| Ok(())).unwrap(); // waits for the one worker
/// assert!(unstarted.cancel());
/// assert!(unstarted.is_finished());
/// assert!(unstarted.join().unwrap_err().is_cancelled());
/// assert!(!endless.is_finished());
/// endless.cancel();
/// # let _ = endless.join();
/// ```
pub struct Job<R, E = anyhow::Error> {
    slot: Arc<dyn Slot<R, E>>,
    clock: Clock,
    /// What a join waits for.
    awaits: Awaits,
}

impl<R: Send + 'static, E: Send + 'static> Job<R, E> {
    pub(super) fn new<F>(packet: Arc<Packet<F, R, E>>, clock: Clock, awaits: Awaits) -> Self
    where
        F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'static,
    {
        Self {
            slot: packet,
            clock,
            awaits,
        }
    }
}

impl<R: 'static, E: 'static> Job<R, E> {
    /// Waits until the task has ended and returns its result. Whatever it did happened before.
    ///
    /// It returns at once when the task is cancelled before it started, or abandoned in a shutdown.
    ///
    /// # Errors
    ///
    /// [`JobError`] says why there is no result: its error, its panic, or that it never ran.
    #[track_caller]
    pub fn join(self) -> Result<R, JobError<E>> {
        fault::pass(At::PoolJoin);
        self.slot.await_end(self.shown(), None, &|| false);
        self.slot.take()
    }

    /// As [`join`](Self::join), for `timeout` at most, by the pool's clock. Too long to count is
    /// for ever.
    ///
    /// # Errors
    ///
    /// The handle comes back if the time is up; inside, the errors of `join`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Pool};
    ///
    /// let pool = Pool::builder().workers(1).build(&CancelToken::new()).unwrap();
    /// let job = pool.submit(|token| { token.wait(); Ok("stopped") }).unwrap();
    /// let job = job.join_timeout(Duration::from_millis(1)).unwrap_err(); // not yet
    /// job.cancel();
    /// // Had the task not started, it would never do so.
    /// assert!(matches!(job.join_timeout(Duration::MAX), Ok(Ok("stopped") | Err(_))));
    /// ```
    #[track_caller]
    pub fn join_timeout(self, timeout: Duration) -> Result<Result<R, JobError<E>>, Self> {
        let deadline = self.clock.deadline_after(timeout);
        self.join_until(deadline)
    }

    /// As [`join`](Self::join), until `deadline` of the pool's clock.
    ///
    /// # Errors
    ///
    /// Those of [`join_timeout`](Self::join_timeout).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, Pool};
    ///
    /// let clock = Clock::manual();
    /// let pool = Pool::builder().workers(0).build(&CancelToken::with_clock(&clock)).unwrap();
    /// let job = pool.submit(|_| Ok(7)).unwrap();
    /// let job = job.join_deadline(clock.now()).unwrap_err(); // not yet: the handle comes back
    /// pool.resize(1).unwrap();
    /// let by = clock.deadline_after(Duration::from_secs(1)).unwrap();
    /// assert_eq!(job.join_deadline(by).unwrap().unwrap(), 7);
    /// ```
    #[track_caller]
    pub fn join_deadline(self, deadline: Instant) -> Result<Result<R, JobError<E>>, Self> {
        self.join_until(Some(deadline))
    }

    #[track_caller]
    fn shown(&self) -> Shown {
        Shown {
            awaits: self.awaits,
            at: Location::caller(),
        }
    }

    #[track_caller]
    fn join_until(self, deadline: Option<Instant>) -> Result<Result<R, JobError<E>>, Self> {
        fault::pass(At::PoolJoin);
        let nudged = self.slot.clone();
        let mut shown = self.shown();
        if deadline.is_some() {
            // A wait that ends by itself is no deadlock.
            shown.awaits = Awaits::default();
        }
        let wait = |at, give_up: &dyn Fn() -> bool| self.slot.await_end(shown, at, give_up);
        match self.is_finished() || wait_until(&self.clock, deadline, move || nudged.nudge(), wait)
        {
            true => Ok(self.slot.take()),
            false => Err(self),
        }
    }

    /// Tells the task to stop: if it has not started it never will, and ends at once; if it runs,
    /// its token is cancelled, and what it makes of that is its own affair. `true` if this call
    /// was the one that did it.
    ///
    /// A task that is cancelled in the queue occupies its place until a worker comes by; its
    /// closure is dropped here and now.
    pub fn cancel(&self) -> bool {
        self.slot.cancel()
    }

    /// Whether the task has ended, so that [`join`](Self::join) would not wait.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.slot.is_finished()
    }
}

impl<R, E> fmt::Debug for Job<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Job")
            .field("finished", &self.slot.is_finished())
            .finish_non_exhaustive()
    }
}

/// Why a task of a pool has no result.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, Pool, Shutdown};
/// use cleanbreak::pool::JobError;
///
/// let pool = Pool::builder().workers(0).errors::<&str>().build(&CancelToken::new()).unwrap();
/// let failed = pool.submit(|_| Err::<(), _>("no such file")).unwrap();
/// let panicked = pool.submit(|_| -> Result<(), &str> { panic!("a bug") }).unwrap();
/// let cancelled = pool.submit(|_| Ok(())).unwrap();
/// cancelled.cancel();
/// pool.resize(1).unwrap();
/// assert_eq!(failed.join().unwrap_err().into_failure(), Some("no such file"));
/// let error = panicked.join().unwrap_err();
/// assert!(error.is_panic());
/// let JobError::Panicked(payload) = error else { panic!("{error}") };
/// assert_eq!(payload.message(), Some("a bug"));
/// assert!(cancelled.join().unwrap_err().is_cancelled());
///
/// let pool = Pool::builder().workers(0).build(&CancelToken::new()).unwrap();
/// let left = pool.submit(|_| Ok(())).unwrap();
/// pool.shutdown(Shutdown::Abandon);
/// assert!(left.join().unwrap_err().is_abandoned());
/// ```
#[non_exhaustive]
pub enum JobError<E> {
    /// It returned this error.
    Failed(E),
    /// It panicked with this payload.
    Panicked(PanicPayload),
    /// It was cancelled before it started: it never ran.
    Cancelled,
    /// It was in the backlog that a shutdown handed back: the pool never ran it.
    Abandoned,
}

impl<E> JobError<E> {
    /// The error, if the task returned one.
    #[must_use]
    pub fn into_failure(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the task panicked.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self, Self::Panicked(_))
    }

    /// Whether the task was cancelled before it started.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled)
    }

    /// Whether a shutdown handed the task back.
    #[must_use]
    pub fn is_abandoned(&self) -> bool {
        matches!(self, Self::Abandoned)
    }
}

impl<E: fmt::Display> fmt::Display for JobError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::Panicked(payload) => match payload.message() {
                Some(message) => write!(f, "the task panicked: {message}"),
                None => f.write_str("the task panicked"),
            },
            Self::Cancelled => f.write_str("the task was cancelled before it started"),
            Self::Abandoned => f.write_str("the pool shut down before the task started"),
        }
    }
}

/// By hand, as a payload has only its message to show.
impl<E: fmt::Debug> fmt::Debug for JobError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::Panicked(payload) => payload.fmt(f),
            Self::Cancelled => f.write_str("Cancelled"),
            Self::Abandoned => f.write_str("Abandoned"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for JobError<E> {}
