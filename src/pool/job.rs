//! The handle to a task, and why it may have no result.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::packet::{Packet, Shown, Slot};
use crate::cancel::CancelToken;
use crate::clock::{Clock, Instant, wait_until};
use crate::fault::{self, At};
use crate::group::PanicPayload;
use crate::sync::Arc;
use crate::threads::Awaits;

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
