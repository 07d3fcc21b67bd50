//! Why there is no value, with the closure if it did not run.

use std::fmt;
use std::time::Duration;

use crate::cancel::Cancelled;
use crate::threads::ThreadError;

/// Why a call that may be abandoned has no value.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{Abandoner, CancelToken, Clock};
/// use crossbeam_channel::bounded;
///
/// let (clock, second) = (Clock::manual(), Duration::from_secs(1));
/// let token = CancelToken::with_clock(&clock);
/// let calls = Abandoner::builder().build();
///
/// let failed = calls.abandon_after(&token, second, |_| Err::<(), _>("no such host")).unwrap_err();
/// assert!(!failed.is_timeout() && !failed.is_cancelled());
/// assert_eq!(failed.into_failure(), Some("no such host"));
///
/// let (release, held) = bounded::<()>(0);
/// let hung = { let (clock, held) = (clock.clone(), held.clone()); move |_: &CancelToken| {
///     clock.advance(second);
///     held.recv()
/// } };
/// let late = calls.abandon_after(&token, second, hung).unwrap_err();
/// assert!(late.is_timeout() && late.into_refused().is_none()); // it runs, behind our back
///
/// let stop = token.clone();
/// let told = calls.abandon_after(&token, second, move |_| { stop.cancel(); held.recv() });
/// assert!(told.unwrap_err().is_cancelled());
/// let unrun = calls.abandon_after(&token, second, |_| Ok::<_, ()>(7)).unwrap_err();
/// assert!(unrun.is_cancelled());
/// assert_eq!(unrun.into_refused().unwrap().into_inner()(&token), Ok(7)); // comes back
/// # drop(release);
/// ```
#[non_exhaustive]
pub enum AbandonError<F, E> {
    /// The operation failed in time, with its own error.
    Failed(E),
    /// The time was up: it was abandoned.
    #[non_exhaustive]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// The caller's token was cancelled, or its own deadline passed: it was abandoned.
    Cancelled(Cancelled),
    /// It did not run.
    Refused(RefusedCall<F>),
}

impl<F, E> AbandonError<F, E> {
    /// Whether the time was up: the operation was abandoned, or had not started.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Refused(refused) => matches!(refused.kind, RefusedKind::Timeout),
            _ => false,
        }
    }

    /// Whether the caller was cancelled: the operation was abandoned, or had not started.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Cancelled(_) => true,
            Self::Refused(refused) => matches!(refused.kind, RefusedKind::Cancelled(_)),
            _ => false,
        }
    }

    /// The operation's own error, if it failed in time.
    #[must_use]
    pub fn into_failure(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// The refusal, with the closure, if it did not run.
    #[must_use]
    pub fn into_refused(self) -> Option<RefusedCall<F>> {
        match self {
            Self::Refused(refused) => Some(refused),
            _ => None,
        }
    }
}

impl<F, E: fmt::Debug> fmt::Debug for AbandonError<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::TimedOut { limit } => f.debug_tuple("TimedOut").field(limit).finish(),
            Self::Cancelled(cancelled) => f.debug_tuple("Cancelled").field(cancelled).finish(),
            Self::Refused(refused) => refused.fmt(f),
        }
    }
}

impl<F, E: fmt::Display> fmt::Display for AbandonError<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::TimedOut { limit } => write!(f, "abandoned after {limit:?}"),
            Self::Cancelled(cancelled) => write!(f, "abandoned: {cancelled}"),
            Self::Refused(refused) => refused.fmt(f),
        }
    }
}

// The source is in the text already, and the closure in the error need not be 'static.
impl<F, E: fmt::Debug + fmt::Display> std::error::Error for AbandonError<F, E> {}

/// An operation that was not run, and why.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::resilience::RefusedKind;
/// use cleanbreak::{Abandoner, CancelToken};
///
/// let token = CancelToken::new();
/// let none = Abandoner::builder().max_threads(0).build();
/// let call = || none.abandon_after(&token, Duration::from_secs(1), |_| Ok::<_, ()>(7));
/// let refused = call().unwrap_err().into_refused().unwrap();
/// assert!(refused.is_full() && matches!(refused.kind(), RefusedKind::Full));
/// assert_eq!(refused.into_inner()(&token), Ok(7)); // here, at one's own risk
/// none.close(Duration::ZERO);
/// assert!(call().unwrap_err().into_refused().unwrap().is_closed());
/// ```
pub struct RefusedCall<F> {
    kind: RefusedKind,
    task: F,
}

/// Why an operation was not run.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::resilience::RefusedKind;
/// use cleanbreak::{Abandoner, CancelToken};
///
/// let token = CancelToken::new();
/// let calls = Abandoner::builder().build();
/// let call = |limit| {
///     let refused = calls.abandon_after(&token, limit, |_| Ok::<_, ()>(7)).unwrap_err();
///     refused.into_refused().unwrap()
/// };
/// assert!(matches!(call(Duration::ZERO).kind(), RefusedKind::Timeout));
/// calls.close(Duration::ZERO);
/// assert!(matches!(call(Duration::from_secs(1)).kind(), RefusedKind::Closed));
/// token.cancel();
/// assert!(matches!(call(Duration::from_secs(1)).kind(), RefusedKind::Cancelled(_)));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum RefusedKind {
    /// There are as many threads as there may be, abandoned ones included.
    Full,
    /// The abandoner has been closed.
    Closed,
    /// The time was up before it started: there was none at all, or the thread did not get going.
    Timeout,
    /// The caller's token was cancelled before it started.
    Cancelled(Cancelled),
    /// The operating system did not give a thread.
    Thread(ThreadError),
}

impl<F> RefusedCall<F> {
    pub(super) fn new(kind: RefusedKind, task: F) -> Self {
        Self { kind, task }
    }

    /// The reason.
    #[must_use]
    pub fn kind(&self) -> &RefusedKind {
        &self.kind
    }

    /// The operation, unrun.
    #[must_use]
    pub fn into_inner(self) -> F {
        self.task
    }

    /// Whether there were as many threads as there may be.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.kind, RefusedKind::Full)
    }

    /// Whether the abandoner had been closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.kind, RefusedKind::Closed)
    }
}

impl<F> fmt::Debug for RefusedCall<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusedCall")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Display for RefusedCall<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            RefusedKind::Full => f.write_str("as many operations run, or hang, as there may be"),
            RefusedKind::Closed => f.write_str("no more operations are run: closed"),
            RefusedKind::Timeout => f.write_str("the time was up before the operation started"),
            RefusedKind::Cancelled(cancelled) => cancelled.fmt(f),
            RefusedKind::Thread(error) => error.fmt(f),
        }
    }
}

impl<F> std::error::Error for RefusedCall<F> {}
