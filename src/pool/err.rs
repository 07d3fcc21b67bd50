//! The error that gives a task back.

use std::fmt;

use crate::cancel::Cancelled;

/// A task that a pool did not take in, and why.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, Clock, Pool, Shutdown};
/// use cleanbreak::pool::SubmitErrorKind;
///
/// let clock = Clock::manual();
/// let token = CancelToken::with_clock(&clock);
/// let pool = Pool::builder().workers(0).queue(1).build(&token).unwrap();
/// pool.execute(|_| Ok(())).unwrap(); // has the only place
///
/// let full = pool.try_submit(|_| Ok(7)).unwrap_err();
/// assert!(full.is_full() && matches!(full.kind(), SubmitErrorKind::Full));
/// let late = pool.submit_deadline(clock.now(), full.into_inner()).unwrap_err();
/// assert!(late.is_timeout());
/// pool.shutdown(Shutdown::Abandon);
/// let closed = pool.submit(late.into_inner()).unwrap_err();
/// assert!(closed.is_closed());
/// assert_eq!(closed.into_inner()(&token).unwrap(), 7); // the task was never lost
///
/// let pool = Pool::builder().workers(1).build(&token).unwrap();
/// token.cancel();
/// assert!(pool.submit(|_| Ok(7)).unwrap_err().is_cancelled());
/// ```
pub struct SubmitError<F> {
    kind: SubmitErrorKind,
    task: F,
}

/// Why a task was not taken in.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, Pool};
/// use cleanbreak::pool::SubmitErrorKind;
///
/// let token = CancelToken::new();
/// let pool = Pool::builder().workers(1).build(&token).unwrap();
/// token.cancel_with("maintenance");
/// let refused = pool.execute(|_| Ok(())).unwrap_err();
/// let SubmitErrorKind::Cancelled(why) = refused.kind() else { panic!("{refused}") };
/// assert_eq!(why.to_string(), "cancelled: maintenance");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum SubmitErrorKind {
    /// All workers are busy and the queue is full; from
    /// [`try_submit`](super::Pool::try_submit).
    Full,
    /// The time was up; from [`submit_deadline`](super::Pool::submit_deadline).
    Timeout,
    /// The pool has been shut down.
    Closed,
    /// The pool's token has been cancelled.
    Cancelled(Cancelled),
}

impl<F> SubmitError<F> {
    pub(super) fn new(kind: SubmitErrorKind, task: F) -> Self {
        Self { kind, task }
    }

    /// The reason.
    #[must_use]
    pub fn kind(&self) -> &SubmitErrorKind {
        &self.kind
    }

    /// The task, unrun.
    #[must_use]
    pub fn into_inner(self) -> F {
        self.task
    }

    /// Whether there was no place for it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.kind, SubmitErrorKind::Full)
    }

    /// Whether there was no place for it until the deadline.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.kind, SubmitErrorKind::Timeout)
    }

    /// Whether the pool had been shut down.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.kind, SubmitErrorKind::Closed)
    }

    /// Whether the pool had been cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.kind, SubmitErrorKind::Cancelled(_))
    }
}

/// By hand, as a closure has nothing to show.
impl<F> fmt::Debug for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SubmitError")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Display for SubmitError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            SubmitErrorKind::Full => f.write_str("all workers are busy and the queue is full"),
            SubmitErrorKind::Timeout => f.write_str("timed out waiting for a place in the pool"),
            SubmitErrorKind::Closed => f.write_str("the pool has been shut down"),
            SubmitErrorKind::Cancelled(cancelled) => {
                write!(f, "the pool takes no more tasks: {cancelled}")
            }
        }
    }
}

// The source is in the text already, and the task in the error need not be 'static.
impl<F> std::error::Error for SubmitError<F> {}
