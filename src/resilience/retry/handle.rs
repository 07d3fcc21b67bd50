//! The retry itself.

use std::fmt;

use super::builder::RetryBuilder;
use super::err::RetryError;
use super::rules::Rules;
use super::run::Run;
use crate::cancel::CancelToken;
use crate::fault::{self, At};
use crate::sync::Arc;

/// Tries again, by rule; see the [module](super) for what is promised.
///
/// `E` is the error of what is tried. Cheap to clone, and may be used by many threads at a time: each
/// call stands for itself.
///
/// # Performance
///
/// A call that succeeds at once costs one look at the clock; and with a deadline for the attempt, or
/// [`within`](RetryBuilder::within), a [child token](CancelToken::child_deadline), whose timer may be
/// the only one of its clock: [`keep_timer`](crate::Clock::keep_timer) avoids the start of a thread. With
/// [`slack`](RetryBuilder::slack) that token serves several calls, and a success allocates nothing.
///
/// # Examples
///
/// Attempts that time out after 800, 400 and 200 ms:
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::backoff::Backoff;
/// use cleanbreak::{CancelToken, Clock, Retry};
///
/// let millis = Duration::from_millis;
/// let retry = Retry::builder()
///     .attempts(3)
///     .attempt_timeout_halving(millis(800), millis(50))
///     .backoff(Backoff::constant(Duration::ZERO))
///     .build()
///     .unwrap();
///
/// let clock = Clock::manual();
/// let token = CancelToken::with_clock(&clock);
/// let mut timeouts = Vec::new();
/// let error = retry.call(&token, |attempt| {
///     let left = attempt.remaining().unwrap(); // for the timeout of a socket
///     timeouts.push(left);
///     clock.advance(left); // no answer comes
///     attempt.check()
/// });
/// let error = error.unwrap_err();
/// assert_eq!(timeouts, [800, 400, 200].map(millis));
/// assert!(error.history().iter().all(|attempt| attempt.timed_out));
/// assert_eq!(error.elapsed(), millis(800 + 400 + 200));
/// assert!(!token.is_cancelled()); // only the attempts were
/// ```
pub struct Retry<E = anyhow::Error> {
    rules: Arc<Rules<E>>,
}

impl<E> Retry<E> {
    /// The settings of a new retry.
    pub fn builder() -> RetryBuilder<E> {
        RetryBuilder::new()
    }

    pub(super) fn new(rules: Rules<E>) -> Self {
        let rules = Arc::new(rules);
        Self { rules }
    }

    /// Calls `op` until it succeeds or there is a reason to give up.
    ///
    /// `op` is given the token of the attempt: a child of `token` with the attempt's deadline, or
    /// `token` itself if there is none. The clock is `token`'s.
    ///
    /// # Errors
    ///
    /// [`RetryError`], with the reason and every error. If `token` has been cancelled before, there
    /// was no attempt.
    ///
    /// # Panics
    ///
    /// A panic in `op`, or in a closure of the settings other than a listener, goes on to the caller.
    #[track_caller]
    pub fn call<T>(
        &self,
        token: &CancelToken,
        mut op: impl FnMut(&CancelToken) -> Result<T, E>,
    ) -> Result<T, RetryError<E>> {
        let mut run = Run::new(&self.rules, token);
        loop {
            let (now, _) = run.begin()?;
            let attempt = run.attempt(now);
            fault::run(At::RetryAttempt);
            match op(attempt.get()) {
                Ok(value) => {
                    run.succeeded(attempt);
                    return Ok(value);
                }
                Err(error) => {
                    // Its timer is not to be kept through the wait.
                    drop(attempt);
                    run.failed(error)?;
                }
            }
        }
    }
}

// A panic never leaves one half changed: each call has a state of its own.
impl<E> std::panic::UnwindSafe for Retry<E> {}
impl<E> std::panic::RefUnwindSafe for Retry<E> {}

impl<E> Clone for Retry<E> {
    fn clone(&self) -> Self {
        let rules = self.rules.clone();
        Self { rules }
    }
}

impl<E> fmt::Debug for Retry<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Retry")
            .field("attempts", &self.rules.attempts)
            .field("within", &self.rules.within)
            .field("backoff", &self.rules.backoff)
            .finish_non_exhaustive()
    }
}
