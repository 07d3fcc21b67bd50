//! Why an attempt failed, and why the whole call did.

use std::fmt;
use std::time::Duration;

use super::super::breaker::Rejected;
use super::super::rate_limit::RateLimitError;
use super::super::retry::{Attempt, GaveUp, RetryError};
use super::super::semaphore::AcquireError;
use crate::cancel::Cancelled;

/// Why one attempt under a [`Policy`](super::Policy) has no value.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::resilience::policy::{AttemptError, PolicyErrorKind};
/// use cleanbreak::{Breaker, CancelToken, Clock, Policy};
///
/// let (clock, second) = (Clock::manual(), Duration::from_secs(1));
/// let token = CancelToken::with_clock(&clock);
/// let breaker = Breaker::builder().consecutive_failures(2).clock(&clock).build().unwrap();
/// let policy = Policy::builder().attempt_timeout(second).breaker(&breaker).build().unwrap();
/// let attempt = |operation: &dyn Fn() -> Result<(), &'static str>| {
///     let error = policy.call(&token, |_| operation()).unwrap_err();
///     error.into_history().remove(0).error
/// };
/// let failed = attempt(&|| Err("reset"));
/// assert_eq!((failed.kind(), failed.error()), (PolicyErrorKind::Failed, Some(&"reset")));
/// assert!(failed.is_retryable() && !failed.is_refused());
///
/// let late = attempt(&|| { clock.advance(second); Err("gave up") });
/// assert_eq!((late.kind(), late.is_retryable()), (PolicyErrorKind::TimedOut, true));
/// assert_eq!(late.into_error(), Some("gave up"));
///
/// let rejected = attempt(&|| Ok(())); // that was the second failure
/// assert!(rejected.is_refused() && rejected.is_retryable()); // it will not be open for ever
/// assert!(matches!(rejected, AttemptError::Rejected(_)) && rejected.error().is_none());
///
/// breaker.reset();
/// let told = attempt(&|| { token.cancel(); Err("interrupted") });
/// assert_eq!((told.kind(), told.is_retryable()), (PolicyErrorKind::Cancelled, false));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AttemptError<E> {
    /// The operation failed, in time, with its own error.
    Failed(E),
    /// Its time was up.
    #[non_exhaustive]
    TimedOut {
        /// What the operation returned then; `None` if it was not run.
        error: Option<E>,
    },
    /// The breaker did not let it through; the operation did not run.
    Rejected(Rejected),
    /// The rate limit did not; the operation did not run.
    RateLimited(RateLimitError),
    /// There was no permit of the bulkhead; the operation did not run.
    Full(AcquireError),
    /// The caller's token was cancelled, or its own deadline passed.
    #[non_exhaustive]
    Cancelled {
        /// What happened to it. (Or that the clock's timer thread could not be started, as its cause:
        /// then the operation was not run.)
        cancelled: Cancelled,
        /// What the operation returned then; `None` if it was not run.
        error: Option<E>,
    },
}

/// The kinds of [`AttemptError`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::resilience::policy::PolicyErrorKind;
/// use cleanbreak::{Bulkhead, CancelToken, Policy};
///
/// let answer = |policy: Policy<&'static str>| {
///     let failed = policy.call(&CancelToken::new(), |_| Err::<(), _>("no such user"));
///     match failed.unwrap_err().kind() {
///         PolicyErrorKind::Failed => 404,
///         PolicyErrorKind::TimedOut => 504,
///         PolicyErrorKind::Full | PolicyErrorKind::RateLimited | PolicyErrorKind::Rejected => 503,
///         _ => 500,
///     }
/// };
/// assert_eq!(answer(Policy::builder().build().unwrap()), 404);
/// let full = Policy::builder().bulkhead(&Bulkhead::new(0)).max_wait(Duration::ZERO);
/// assert_eq!(answer(full.build().unwrap()), 503);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PolicyErrorKind {
    /// The operation failed with its own error.
    Failed,
    /// The time was up.
    TimedOut,
    /// The breaker did not let it through.
    Rejected,
    /// The rate limit did not.
    RateLimited,
    /// The bulkhead had no permit.
    Full,
    /// The caller's token was cancelled, or its own deadline passed.
    Cancelled,
}

impl PolicyErrorKind {
    /// As a label of a metric says it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Failed => "failed",
            Self::TimedOut => "timed_out",
            Self::Rejected => "rejected",
            Self::RateLimited => "rate_limited",
            Self::Full => "full",
            Self::Cancelled => "cancelled",
        }
    }
}

impl<E> AttemptError<E> {
    /// Its kind.
    #[must_use]
    pub fn kind(&self) -> PolicyErrorKind {
        match self {
            Self::Failed(_) => PolicyErrorKind::Failed,
            Self::TimedOut { .. } => PolicyErrorKind::TimedOut,
            Self::Rejected(_) => PolicyErrorKind::Rejected,
            Self::RateLimited(_) => PolicyErrorKind::RateLimited,
            Self::Full(_) => PolicyErrorKind::Full,
            Self::Cancelled { .. } => PolicyErrorKind::Cancelled,
        }
    }

    /// Whether the operation did not run because something would not let it.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(
            self,
            Self::Rejected(_) | Self::RateLimited(_) | Self::Full(_)
        )
    }

    /// Whether another attempt may help, as far as can be said from outside: for a
    /// [`retry_if`](super::super::retry::RetryBuilder::retry_if) that says more of the operation's
    /// own errors.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Failed(_) | Self::TimedOut { .. } => true,
            Self::Rejected(rejected) => rejected.may_end(),
            Self::RateLimited(_) | Self::Full(_) | Self::Cancelled { .. } => false,
        }
    }

    /// The operation's own error, whatever made it fail; `None` if it was not run.
    #[must_use]
    pub fn error(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => Some(error),
            Self::TimedOut { error } | Self::Cancelled { error, .. } => error.as_ref(),
            Self::Rejected(_) | Self::RateLimited(_) | Self::Full(_) => None,
        }
    }

    /// That error itself.
    #[must_use]
    pub fn into_error(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            Self::TimedOut { error } | Self::Cancelled { error, .. } => error,
            Self::Rejected(_) | Self::RateLimited(_) | Self::Full(_) => None,
        }
    }
}

impl<E> From<Rejected> for AttemptError<E> {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl<E> From<Cancelled> for AttemptError<E> {
    fn from(cancelled: Cancelled) -> Self {
        let error = None;
        Self::Cancelled { cancelled, error }
    }
}

impl<E> From<RateLimitError> for AttemptError<E> {
    fn from(error: RateLimitError) -> Self {
        match error {
            RateLimitError::Cancelled(cancelled) => cancelled.into(),
            refused => Self::RateLimited(refused),
        }
    }
}

impl<E> From<AcquireError> for AttemptError<E> {
    fn from(error: AcquireError) -> Self {
        match error {
            AcquireError::Cancelled(cancelled) => cancelled.into(),
            refused => Self::Full(refused),
        }
    }
}

impl<E: fmt::Display> fmt::Display for AttemptError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let error = match self {
            Self::Failed(error) => return error.fmt(f),
            Self::Rejected(rejected) => return rejected.fmt(f),
            Self::RateLimited(refused) => return refused.fmt(f),
            Self::Full(refused) => return refused.fmt(f),
            Self::TimedOut { error } => {
                f.write_str("timed out")?;
                error
            }
            Self::Cancelled { cancelled, error } => {
                cancelled.fmt(f)?;
                error
            }
        };
        match error {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

// The text has what is inside already.
impl<E: fmt::Debug + fmt::Display> std::error::Error for AttemptError<E> {}

/// Why a call under a [`Policy`](super::Policy) has no value, with all its attempts.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::backoff::Backoff;
/// use cleanbreak::resilience::policy::PolicyErrorKind;
/// use cleanbreak::{Breaker, CancelToken, Policy, Retry};
///
/// let breaker = Breaker::builder().consecutive_failures(2).build().unwrap();
/// let retry = Retry::builder().attempts(3).backoff(Backoff::constant(Duration::ZERO));
/// let policy = Policy::<&str>::builder().retry(retry).breaker(&breaker).build().unwrap();
/// let error = policy.call(&CancelToken::new(), |_| Err::<(), _>("reset")).unwrap_err();
/// assert_eq!(error.kind(), PolicyErrorKind::Rejected); // the breaker opened after two
/// assert_eq!(error.last_error(), Some(&"reset"));
/// let kinds: Vec<_> = error.history().iter().map(|attempt| attempt.error.kind()).collect();
/// use PolicyErrorKind::{Failed, Rejected};
/// assert_eq!(kinds, [Failed, Failed, Rejected]);
/// ```
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::backoff::Backoff;
/// use cleanbreak::resilience::retry::GaveUp;
/// use cleanbreak::{Bulkhead, CancelToken, Clock, Policy, Retry};
///
/// let (clock, second) = (Clock::manual(), Duration::from_secs(1));
/// let token = CancelToken::with_clock(&clock);
/// let retry = Retry::builder().attempts(2).backoff(Backoff::constant(Duration::ZERO));
/// let bulkhead = Bulkhead::new(1);
/// let policy = Policy::builder().retry(retry).attempt_timeout(second).bulkhead(&bulkhead);
/// let policy = policy.max_wait(Duration::ZERO).build().unwrap();
/// let error = policy.call(&token, |_| { clock.advance(second); Err::<(), _>("gave up") });
/// let error = error.unwrap_err();
/// assert!(error.is_timeout() && !error.is_refused() && !error.is_cancelled());
/// assert!(matches!(error.gave_up(), GaveUp::Attempts));
/// assert_eq!((error.attempts(), error.elapsed()), (2, 2 * second));
/// assert_eq!(error.last_attempt().unwrap().error(), Some(&"gave up"));
/// assert_eq!(error.into_last_error(), Some("gave up"));
///
/// let permit = bulkhead.try_acquire().unwrap();
/// let error = policy.call(&token, |_| Err::<(), _>("never runs")).unwrap_err();
/// assert!(error.is_refused() && error.last_error().is_none());
/// assert_eq!(error.into_history().len(), 1); // more calls would not help
/// token.cancel();
/// assert!(policy.call(&token, |_| Err::<(), _>("never runs")).unwrap_err().is_cancelled());
/// ```
pub struct PolicyError<E>(RetryError<AttemptError<E>>);

impl<E> PolicyError<E> {
    pub(super) fn new(error: RetryError<AttemptError<E>>) -> Self {
        Self(error)
    }

    /// What the last attempt came to; or that the caller was told to stop, whenever that was.
    #[must_use]
    pub fn kind(&self) -> PolicyErrorKind {
        match (self.0.gave_up(), self.last_attempt()) {
            (GaveUp::Cancelled(_), _) | (_, None) => PolicyErrorKind::Cancelled,
            (_, Some(error)) => error.kind(),
        }
    }

    /// What the last attempt came to; `None` if there was none.
    #[must_use]
    pub fn last_attempt(&self) -> Option<&AttemptError<E>> {
        self.history().last().map(|attempt| &attempt.error)
    }

    /// The last of the operation's own errors, in whatever attempt; `None` if it never ran, or never
    /// had one.
    #[must_use]
    pub fn last_error(&self) -> Option<&E> {
        let attempts = self.history().iter().rev();
        attempts.filter_map(|attempt| attempt.error.error()).next()
    }

    /// That error itself.
    #[must_use]
    pub fn into_last_error(self) -> Option<E> {
        let attempts = self.into_history().into_iter().rev();
        attempts
            .filter_map(|attempt| attempt.error.into_error())
            .next()
    }

    /// Whether the caller was cancelled, or its deadline passed.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.kind() == PolicyErrorKind::Cancelled
    }

    /// Whether the last attempt was refused: by the breaker, the rate limit or the bulkhead.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        !self.is_cancelled() && self.last_attempt().is_some_and(AttemptError::is_refused)
    }

    /// Whether the time of the last attempt was up.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        self.kind() == PolicyErrorKind::TimedOut
    }

    /// Why there was no further attempt.
    #[must_use]
    pub fn gave_up(&self) -> &GaveUp {
        self.0.gave_up()
    }

    /// How many attempts there were, refused ones included.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.0.attempts()
    }

    /// How long all of it took, waits included.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }

    /// The attempts, in their order: the last 64 of them.
    #[must_use]
    pub fn history(&self) -> &[Attempt<AttemptError<E>>] {
        self.0.history()
    }

    /// The attempts, with their errors.
    #[must_use]
    pub fn into_history(self) -> Vec<Attempt<AttemptError<E>>> {
        self.0.into_history()
    }
}

/// By hand: the error need not have it.
impl<E> fmt::Debug for PolicyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyError")
            .field("kind", &self.kind())
            .field("gave_up", self.gave_up())
            .field("attempts", &self.attempts())
            .field("elapsed", &self.elapsed())
            .finish_non_exhaustive()
    }
}

impl<E: fmt::Display> fmt::Display for PolicyError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.attempts(), self.gave_up(), self.last_attempt()) {
            (0, GaveUp::Cancelled(cancelled), _) => cancelled.fmt(f),
            // Of one attempt there is no more to say.
            (1, GaveUp::Attempts | GaveUp::NotRetryable | GaveUp::Time, Some(error)) => {
                error.fmt(f)
            }
            _ => self.0.fmt(f),
        }
    }
}

// The text has what is inside already, and `anyhow::Error` is none.
impl<E: fmt::Display> std::error::Error for PolicyError<E> {}
