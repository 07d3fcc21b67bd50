//! What a caller gets instead of a result.

use std::fmt;

use super::state::State;
use crate::clock::Instant;

/// A breaker did not let a call through.
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

/// A call that a breaker rejected, or that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError<E> {
    /// It was not made.
    Rejected(Rejected),
    /// It was made, and this is its error.
    Failed(E),
}

impl<E> CallError<E> {
    /// Whether the call was not made.
    #[must_use]
    pub fn is_rejected(&self) -> bool {
        matches!(self, Self::Rejected(_))
    }

    /// The error of the call, if it was made.
    #[must_use]
    pub fn failed(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Rejected(_) => None,
        }
    }

    /// The error of the call, if it was made.
    #[must_use]
    pub fn into_failed(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Rejected(_) => None,
        }
    }
}

impl<E> From<Rejected> for CallError<E> {
    fn from(rejected: Rejected) -> Self {
        Self::Rejected(rejected)
    }
}

impl<E: fmt::Display> fmt::Display for CallError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Rejected(rejected) => rejected.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

// The source is in the text already, and `anyhow::Error` is none.
impl<E: fmt::Debug + fmt::Display> std::error::Error for CallError<E> {}
