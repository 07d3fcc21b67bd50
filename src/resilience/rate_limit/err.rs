//! Why a call was not let through.

use std::fmt;
use std::time::Duration;

use crate::cancel::Cancelled;
use crate::observe;
use crate::sync::Arc;

/// Why a rate limiter did not let a call through.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock, KeyedRateLimiter, Quota, RateLimiter};
///
/// let (clock, second) = (Clock::manual(), Duration::from_secs(1));
/// let token = CancelToken::with_clock(&clock);
/// let limiter = RateLimiter::with_clock(Quota::per_second(1).burst(2), &clock);
/// limiter.try_acquire_n(2).unwrap();
///
/// let error = limiter.try_acquire().unwrap_err();
/// assert!(error.is_limited());
/// assert_eq!(error.retry_after(), Some(second)); // for a `Retry-After`, say
/// let error = limiter.acquire_timeout(&token, second / 2).unwrap_err();
/// assert!(error.is_deadline());
/// assert_eq!(error.retry_after(), Some(second));
/// let error = limiter.try_acquire_n(3).unwrap_err();
/// assert!(error.is_too_large());
/// assert_eq!(error.retry_after(), None); // never
/// assert_eq!(error.to_string(), "a cost of 3 is more than the burst of 2");
///
/// let clients = KeyedRateLimiter::with_clock(Quota::per_second(1), &clock).with_max_keys(1);
/// clients.try_acquire("ann").unwrap();
/// assert!(clients.try_acquire("ben").unwrap_err().is_too_many_keys());
/// token.cancel();
/// assert!(limiter.acquire(&token).unwrap_err().is_cancelled());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum RateLimitError {
    /// Not now: the quota is used up, for so long.
    #[non_exhaustive]
    Limited {
        /// When it would be let through, if nothing else came before.
        retry_after: Duration,
    },
    /// It would have to wait for longer than the caller can.
    #[non_exhaustive]
    Deadline {
        /// When it would be let through, if nothing else came before.
        retry_after: Duration,
    },
    /// Never: it counts for more than the burst.
    #[non_exhaustive]
    TooLarge {
        /// What was asked for.
        cost: u32,
        /// The most that can be let through at once.
        burst: u32,
    },
    /// The key is not known, and there is no place for another one.
    #[non_exhaustive]
    TooManyKeys {
        /// How many there are.
        keys: usize,
    },
    /// The caller's token was cancelled.
    Cancelled(Cancelled),
}

impl RateLimitError {
    /// Counts a refusal; a cancellation is none.
    #[cold]
    pub(super) fn tell(&self, limiter: Option<&Arc<str>>) {
        if !self.is_cancelled() {
            observe::rate_limited(limiter);
        }
    }

    /// When it would be let through, if nothing else came before, and the quota is the reason.
    #[must_use]
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::Limited { retry_after } | Self::Deadline { retry_after } => Some(*retry_after),
            _ => None,
        }
    }

    /// Whether the quota was used up.
    #[must_use]
    pub fn is_limited(&self) -> bool {
        matches!(self, Self::Limited { .. })
    }

    /// Whether the wait would have been longer than the caller can.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        matches!(self, Self::Deadline { .. })
    }

    /// Whether it counts for more than can ever be let through at once.
    #[must_use]
    pub fn is_too_large(&self) -> bool {
        matches!(self, Self::TooLarge { .. })
    }

    /// Whether there was no place for another key.
    #[must_use]
    pub fn is_too_many_keys(&self) -> bool {
        matches!(self, Self::TooManyKeys { .. })
    }

    /// Whether the caller's token was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }
}

impl From<Cancelled> for RateLimitError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

impl fmt::Display for RateLimitError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Limited { retry_after } => {
                write!(f, "rate limit reached; retry after {retry_after:?}")
            }
            Self::Deadline { retry_after } => {
                write!(
                    f,
                    "the rate limit lets it through after {retry_after:?}, which is too late"
                )
            }
            Self::TooLarge { cost, burst } => {
                write!(f, "a cost of {cost} is more than the burst of {burst}")
            }
            Self::TooManyKeys { keys } => {
                write!(f, "no place for a new key beside {keys} that are in use")
            }
            Self::Cancelled(cancelled) => cancelled.fmt(f),
        }
    }
}

impl std::error::Error for RateLimitError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // The text is its own already.
            Self::Cancelled(cancelled) => cancelled.source(),
            _ => None,
        }
    }
}
