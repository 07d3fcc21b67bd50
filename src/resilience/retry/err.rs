//! Why it gave up, and everything that happened before.

use std::fmt;
use std::time::Duration;

use crate::cancel::Cancelled;
use crate::clock::Instant;

/// Why no further attempt was made.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::backoff::Backoff;
/// use cleanbreak::resilience::retry::{GaveUp, RetryBuilder};
/// use cleanbreak::{CancelToken, Retry, RetryBudget};
///
/// let token = CancelToken::new();
/// let why = |settings: RetryBuilder<&'static str>| {
///     let retry = settings.build().unwrap();
///     let error = retry.call(&token, |_| Err::<(), _>("reset")).unwrap_err();
///     error.gave_up().clone()
/// };
/// let delay = |seconds| Retry::builder().backoff(Backoff::constant(Duration::from_secs(seconds)));
/// assert!(matches!(why(delay(0)), GaveUp::Attempts));
/// assert!(matches!(why(delay(0).retry_if(|_| false)), GaveUp::NotRetryable));
/// let nothing = RetryBudget::builder().ratio(0.0).floor_per_second(0.0).build().unwrap();
/// assert!(matches!(why(delay(0).budget(&nothing)), GaveUp::Budget));
/// // A wait that would end too late is not begun:
/// assert!(matches!(why(delay(61).within(Duration::from_secs(60))), GaveUp::Time));
/// token.cancel_with("SIGTERM");
/// assert_eq!(why(delay(0)).to_string(), "cancelled: SIGTERM");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum GaveUp {
    /// There have been as many attempts as there may be.
    Attempts,
    /// The error is not one to try again for.
    NotRetryable,
    /// The budget that is shared with others had no retry left.
    Budget,
    /// The time for all attempts was over, or would have been before the next one; or the token's
    /// deadline would.
    Time,
    /// The caller's token was cancelled, or its deadline passed.
    Cancelled(Cancelled),
}

impl GaveUp {
    /// As a label of a metric says it.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Attempts => "attempts",
            Self::NotRetryable => "not_retryable",
            Self::Budget => "budget",
            Self::Time => "time",
            Self::Cancelled(_) => "cancelled",
        }
    }
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Attempts => f.write_str("no attempts left"),
            Self::NotRetryable => f.write_str("not an error to try again for"),
            Self::Budget => f.write_str("no retries left in the shared budget"),
            Self::Time => f.write_str("no time left"),
            Self::Cancelled(cancelled) => cancelled.fmt(f),
        }
    }
}

/// One attempt that failed.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::backoff::Backoff;
/// use cleanbreak::{CancelToken, Clock, Retry};
///
/// let (clock, second) = (Clock::manual(), Duration::from_secs(1));
/// let retry = Retry::builder()
///     .attempts(2)
///     .attempt_timeout(second)
///     .backoff(Backoff::constant(Duration::ZERO))
///     .build()
///     .unwrap();
/// let mut times = [second, second / 2].into_iter();
/// let error = retry.call(&CancelToken::with_clock(&clock), |_| {
///     clock.advance(times.next().unwrap());
///     Err::<(), _>("reset")
/// });
/// let [slow, last] = &error.unwrap_err().into_history()[..] else { panic!() };
/// assert_eq!((slow.number, slow.took, slow.timed_out), (1, second, true));
/// assert_eq!((last.number, last.took, last.timed_out), (2, second / 2, false));
/// assert_eq!(last.started, slow.started.checked_add(second).unwrap());
/// assert_eq!((slow.delay, last.delay), (Some(Duration::ZERO), None));
/// assert_eq!((last.error, last.cancelled), ("reset", false));
/// ```
#[derive(Clone)]
#[non_exhaustive]
pub struct Attempt<E> {
    /// Its number, from 1.
    pub number: u32,
    /// When it began, by the token's clock.
    pub started: Instant,
    /// How long it took.
    pub took: Duration,
    /// Whether it ran into its own deadline.
    pub timed_out: bool,
    /// Whether the caller's token had been cancelled when it ended.
    pub cancelled: bool,
    /// How long it was to be waited after it; `None` if it was the last.
    pub delay: Option<Duration>,
    /// Its error.
    pub error: E,
}

/// By hand: the error need not have it.
impl<E> fmt::Debug for Attempt<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attempt")
            .field("number", &self.number)
            .field("took", &self.took)
            .field("timed_out", &self.timed_out)
            .field("delay", &self.delay)
            .finish_non_exhaustive()
    }
}

/// A [`Retry`](super::Retry) gave up.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::backoff::Backoff;
/// use cleanbreak::{CancelToken, Retry};
///
/// let retry = Retry::builder().attempts(2).backoff(Backoff::constant(Duration::ZERO));
/// let retry = retry.build().unwrap();
/// let mut answers = ["connection refused", "reset"].into_iter();
/// let error = retry.call(&CancelToken::new(), |_| Err::<(), _>(answers.next().unwrap()));
/// let error = error.unwrap_err();
///
/// assert_eq!(error.last_error(), Some(&"reset"));
/// let all: Vec<_> = error.history().iter().map(|attempt| attempt.error).collect();
/// assert_eq!(all, ["connection refused", "reset"]);
/// assert!(error.to_string().starts_with("no attempts left after 2 attempts in "));
/// assert!(error.to_string().ends_with(": reset"));
/// ```
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::backoff::Backoff;
/// use cleanbreak::resilience::retry::GaveUp;
/// use cleanbreak::{CancelToken, Clock, Retry};
///
/// let clock = Clock::manual();
/// let token = CancelToken::with_clock(&clock);
/// let retry = Retry::builder().backoff(Backoff::constant(Duration::ZERO)).build().unwrap();
/// let mut answers = ["reset", "interrupted"].into_iter();
/// let call = |token: &CancelToken, answer: &'static str| {
///     clock.advance(Duration::from_secs(1));
///     if answer == "interrupted" { token.cancel(); }
///     Err::<(), _>(answer)
/// };
/// let error = retry.call(&token, |token| call(token, answers.next().unwrap())).unwrap_err();
/// assert!(error.is_cancelled() && matches!(error.gave_up(), GaveUp::Cancelled(_)));
/// assert_eq!((error.attempts(), error.elapsed()), (2, Duration::from_secs(2)));
/// assert_eq!(error.into_last_error(), Some("reset")); // what came of the cancellation is no answer
///
/// let error = retry.call(&token, |_| Err::<(), _>("never runs")).unwrap_err();
/// assert!(error.is_cancelled() && error.into_history().is_empty());
/// ```
pub struct RetryError<E> {
    pub(super) why: GaveUp,
    pub(super) attempts: u32,
    pub(super) elapsed: Duration,
    pub(super) history: Vec<Attempt<E>>,
}

impl<E> RetryError<E> {
    /// Why no further attempt was made.
    #[must_use]
    pub fn gave_up(&self) -> &GaveUp {
        &self.why
    }

    /// Whether that was because the token was cancelled, or its deadline passed.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.why, GaveUp::Cancelled(_))
    }

    /// How many attempts were made; none, if the token had been cancelled before.
    #[must_use]
    pub fn attempts(&self) -> u32 {
        self.attempts
    }

    /// How long all of it took, waits included.
    #[must_use]
    pub fn elapsed(&self) -> Duration {
        self.elapsed
    }

    /// The attempts, in their order: the last 64 of them.
    #[must_use]
    pub fn history(&self) -> &[Attempt<E>] {
        &self.history
    }

    /// The attempts, with their errors.
    #[must_use]
    pub fn into_history(self) -> Vec<Attempt<E>> {
        self.history
    }

    /// The error of the last attempt that ended by itself; if none did, of the one that was
    /// cancelled. `None` if there was no attempt.
    #[must_use]
    pub fn last_error(&self) -> Option<&E> {
        self.last().map(|last| &self.history[last].error)
    }

    /// That error itself.
    #[must_use]
    pub fn into_last_error(mut self) -> Option<E> {
        self.last().map(|last| self.history.swap_remove(last).error)
    }

    fn last(&self) -> Option<usize> {
        let real = self.history.iter().rposition(|attempt| !attempt.cancelled);
        real.or(self.history.len().checked_sub(1))
    }
}

/// By hand: the error need not have it.
impl<E> fmt::Debug for RetryError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryError")
            .field("gave_up", &self.why)
            .field("attempts", &self.attempts)
            .field("elapsed", &self.elapsed)
            .field("history", &self.history)
            .finish()
    }
}

impl<E: fmt::Display> fmt::Display for RetryError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            why,
            attempts,
            elapsed,
            ..
        } = self;
        let plural = if *attempts == 1 { "" } else { "s" };
        write!(f, "{why} after {attempts} attempt{plural} in {elapsed:?}")?;
        match self.last_error() {
            Some(error) => write!(f, ": {error}"),
            None => Ok(()),
        }
    }
}

// The source is in the text already, and `anyhow::Error` is none.
impl<E: fmt::Display> std::error::Error for RetryError<E> {}
