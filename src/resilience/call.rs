//! The result of a call that may not have been made.

use std::fmt;

/// Why a guarded call has no value: it was refused, with `R` saying why, and the operation did not
/// run; or it ran and failed with its own error.
///
/// # Examples
///
/// ```
/// use cleanbreak::resilience::CallError;
/// use cleanbreak::resilience::breaker::State;
/// use cleanbreak::{Breaker, CancelToken};
///
/// let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
/// let call = || breaker.call(&CancelToken::never(), |_| Err::<(), _>("reset")).unwrap_err();
///
/// let ran = call();
/// assert_eq!((ran.failure(), ran.refusal(), ran.is_refused()), (Some(&"reset"), None, false));
/// assert_eq!(ran.into_failure(), Some("reset"));
///
/// let refused = call(); // the breaker is open: `reset` was not called
/// assert!(refused.is_refused() && refused.failure().is_none());
/// assert_eq!(refused.refusal().unwrap().state(), State::Open);
/// match refused {
///     CallError::Failed(error) => panic!("{error}"),
///     CallError::Refused(rejected) => assert_eq!(rejected.state(), State::Open),
/// }
/// assert_eq!(call().into_refusal().unwrap().state(), State::Open);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CallError<R, E> {
    /// The operation did not run.
    Refused(R),
    /// The operation ran and returned this error.
    Failed(E),
}

impl<R, E> CallError<R, E> {
    /// The operation's own error, if it ran.
    #[must_use]
    pub fn failure(&self) -> Option<&E> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Refused(_) => None,
        }
    }

    /// The reason why the operation did not run, if it did not.
    #[must_use]
    pub fn refusal(&self) -> Option<&R> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Failed(_) => None,
        }
    }

    /// The operation's own error, if it ran.
    #[must_use]
    pub fn into_failure(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            Self::Refused(_) => None,
        }
    }

    /// The reason why the operation did not run, if it did not.
    #[must_use]
    pub fn into_refusal(self) -> Option<R> {
        match self {
            Self::Refused(refusal) => Some(refusal),
            Self::Failed(_) => None,
        }
    }

    /// Whether the operation did not run.
    #[must_use]
    pub fn is_refused(&self) -> bool {
        matches!(self, Self::Refused(_))
    }
}

impl<R, E> From<R> for CallError<R, E> {
    fn from(refusal: R) -> Self {
        Self::Refused(refusal)
    }
}

impl<R: fmt::Display, E: fmt::Display> fmt::Display for CallError<R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Refused(refusal) => refusal.fmt(f),
            Self::Failed(error) => error.fmt(f),
        }
    }
}

// The text is that of what is inside, so there is no source to name besides.
impl<R, E> std::error::Error for CallError<R, E>
where
    R: fmt::Debug + fmt::Display,
    E: fmt::Debug + fmt::Display,
{
}
