//! What a caller gets instead of a permit.

use std::fmt;

use super::state::State;
use crate::clock::Instant;

/// A breaker did not let a call through.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{Breaker, Clock};
/// use cleanbreak::resilience::breaker::State;
///
/// let clock = Clock::manual();
/// let breaker = Breaker::builder().open_for(Duration::from_secs(30)).clock(&clock).build().unwrap();
/// breaker.trip();
/// let rejected = breaker.acquire().unwrap_err();
/// assert_eq!(rejected.state(), State::Open);
/// assert_eq!(rejected.open_until(), clock.deadline_after(Duration::from_secs(30)));
/// assert_eq!(rejected.to_string(), "rejected by the breaker: OPEN");
///
/// clock.advance(Duration::from_secs(30));
/// let probe = breaker.acquire().unwrap();
/// let rejected = breaker.acquire().unwrap_err(); // one probe is enough
/// assert_eq!((rejected.state(), rejected.open_until()), (State::HalfOpen, None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rejected {
    state: State,
    until: u64,
}

impl Rejected {
    pub(super) fn new(state: State, until: Option<Instant>) -> Self {
        Self::until_nanos(state, until.map_or(u64::MAX, Instant::as_nanos))
    }

    #[inline]
    pub(super) fn until_nanos(state: State, until: u64) -> Self {
        Self { state, until }
    }

    /// Why: [`Open`](State::Open), [`HalfOpen`](State::HalfOpen) with all probes on their way, or
    /// [`ForcedOpen`](State::ForcedOpen).
    #[must_use]
    pub fn state(&self) -> State {
        self.state
    }

    /// Whether the breaker may let a call through later, with nobody's hand in it.
    pub(in super::super) fn may_end(&self) -> bool {
        self.state == State::HalfOpen || self.open_until().is_some()
    }

    /// When the open time is over, by the breaker's clock: no call goes through before, unless
    /// somebody changes the state by hand. `None` if it is not open, or for ever.
    #[must_use]
    pub fn open_until(&self) -> Option<Instant> {
        (self.until < u64::MAX).then(|| Instant::from_nanos(self.until))
    }
}

impl fmt::Display for Rejected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "rejected by the breaker: {}", self.state)
    }
}

impl std::error::Error for Rejected {}
