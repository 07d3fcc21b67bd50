//! Permits that are waited for with a token and a deadline: what the bulkhead and the adaptive
//! limit share.

use std::fmt;

use super::permits::{Entry, Permits, Refused, Waited, Waiter};
use crate::cancel::{CancelToken, Cancelled};
use crate::clock::{Instant, wait_until};
use crate::sync::Arc;
use crate::threads;

/// Takes a permit, or waits for one in the order of arrival.
#[track_caller]
pub(super) fn acquire(
    permits: &Arc<Permits>,
    token: &CancelToken,
    deadline: Option<Instant>,
) -> Result<(), AcquireError> {
    token.check()?;
    match permits.try_acquire() {
        Ok(()) => return Ok(()),
        Err(Refused::Closed) => return Err(AcquireError::Closed),
        Err(Refused::Full) => {}
    }
    match permits.enter()? {
        Entry::Admitted => Ok(()),
        Entry::Waiting(waiter) => await_grant(permits, token, deadline, &waiter),
    }
}

#[track_caller]
fn await_grant(
    permits: &Arc<Permits>,
    token: &CancelToken,
    deadline: Option<Instant>,
    waiter: &Arc<Waiter>,
) -> Result<(), AcquireError> {
    let _wait = threads::waiting_on("get a permit");
    let nudge = {
        let (permits, waiter) = (permits.clone(), waiter.clone());
        move || permits.nudge(&waiter)
    };
    let told = token.hook(nudge.clone());
    let mut waited = Waited::GaveUp;
    wait_until(token.clock(), deadline, nudge, |at, late| {
        let give_up = || token.is_cancelled() || late();
        waited = permits.await_grant(waiter, at, give_up);
        waited == Waited::Granted
    });
    drop(told);
    match waited {
        Waited::Granted => Ok(()),
        Waited::Closed => Err(AcquireError::Closed),
        // Granted at the last moment: it is there, so it is used.
        Waited::GaveUp if permits.leave(waiter) => Ok(()),
        Waited::GaveUp => Err(match token.check() {
            Err(cancelled) => AcquireError::Cancelled(cancelled),
            Ok(()) => AcquireError::Timeout,
        }),
    }
}

/// Why there is no permit.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::resilience::AcquireError;
/// use cleanbreak::{Bulkhead, CancelToken, Clock};
///
/// let token = CancelToken::with_clock(&Clock::manual());
/// let bulkhead = Bulkhead::new(1);
/// let permit = bulkhead.acquire(&token).unwrap();
/// assert!(bulkhead.try_acquire().unwrap_err().is_full());
/// assert!(bulkhead.acquire_timeout(&token, Duration::ZERO).unwrap_err().is_timeout());
/// bulkhead.close();
/// assert!(bulkhead.acquire(&token).unwrap_err().is_closed());
/// token.cancel_with("SIGTERM");
/// let error = bulkhead.acquire(&token).unwrap_err();
/// assert!(error.is_cancelled());
/// let AcquireError::Cancelled(why) = error else { panic!("{error}") };
/// assert_eq!(why.to_string(), "cancelled: SIGTERM");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum AcquireError {
    /// All permits are in use; from a call that may wait, the queue for them is full, too.
    Full,
    /// There was none until the deadline of the wait.
    Timeout,
    /// It has been closed.
    Closed,
    /// The caller's token was cancelled.
    Cancelled(Cancelled),
}

impl AcquireError {
    /// Whether all permits, and the places to wait for one, were taken.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Full)
    }

    /// Whether there was no permit until the deadline.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::Timeout)
    }

    /// Whether it had been closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }

    /// Whether the caller's token was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }
}

impl From<Cancelled> for AcquireError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

impl From<Refused> for AcquireError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Full => Self::Full,
            Refused::Closed => Self::Closed,
        }
    }
}

impl fmt::Display for AcquireError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full => f.write_str("all permits are in use"),
            Self::Timeout => f.write_str("timed out waiting for a permit"),
            Self::Closed => f.write_str("no more permits are given"),
            Self::Cancelled(cancelled) => cancelled.fmt(f),
        }
    }
}

impl std::error::Error for AcquireError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // The text is its own already.
            Self::Cancelled(cancelled) => cancelled.source(),
            _ => None,
        }
    }
}
