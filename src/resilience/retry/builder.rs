//! A retry's settings.

use std::fmt;
use std::time::Duration;

use super::super::budget::RetryBudget;
use super::super::setting::InvalidSetting;
use super::handle::Retry;
use super::rules::{AttemptEvent, Rules, Timeouts};
use crate::backoff::Backoff;

const ATTEMPTS: u32 = 3;
const FIRST_DELAY: Duration = Duration::from_millis(100);

/// The settings of a [`Retry`]; from [`Retry::builder`].
///
/// # Examples
///
/// ```
/// use std::io;
/// use std::time::Duration;
/// use cleanbreak::backoff::{Backoff, Jitter};
/// use cleanbreak::{Retry, RetryBudget};
///
/// let shared = RetryBudget::builder().ratio(0.1).build().unwrap();
/// let retry = Retry::<io::Error>::builder()
///     .attempts(5)
///     .within(Duration::from_secs(3))
///     .attempt_timeout(Duration::from_millis(800))
///     .backoff(Backoff::exponential(Duration::from_millis(50)).jitter(Jitter::Decorrelated))
///     .retry_if(|error| error.kind() != io::ErrorKind::PermissionDenied)
///     .budget(&shared)
///     .build();
/// assert!(retry.is_ok());
/// assert!(Retry::<io::Error>::builder().attempts(0).build().is_err());
/// ```
#[must_use = "a builder does nothing until the retry is built"]
pub struct RetryBuilder<E = anyhow::Error> {
    rules: Rules<E>,
}

impl<E> RetryBuilder<E> {
    /// Three attempts; waits of up to 100 ms, then 200 ms, with full jitter.
    pub fn new() -> Self {
        Self {
            rules: Rules {
                attempts: ATTEMPTS,
                within: None,
                backoff: Backoff::exponential(FIRST_DELAY),
                seed: None,
                timeouts: Timeouts::Unbounded,
                budget: None,
                retry_if: None,
                retry_after: None,
                listeners: Vec::new(),
            },
        }
    }

    /// How many attempts there may be, the first one included; 3 by default. [`u32::MAX`] is as good
    /// as without end.
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.rules.attempts = attempts;
        self
    }

    /// How long all of it may take, attempts and waits together. It is a deadline for each attempt
    /// too, but one that is not retried.
    pub fn within(mut self, time: Duration) -> Self {
        self.rules.within = Some(time);
        self
    }

    /// How long to wait after each attempt; see [`Backoff`].
    pub fn backoff(mut self, delays: Backoff) -> Self {
        self.rules.backoff = delays;
        self
    }

    /// Makes the jitter repeatable: each call then waits as every other.
    pub fn seed(mut self, seed: u64) -> Self {
        self.rules.seed = Some(seed);
        self
    }

    /// How long each attempt may take.
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.rules.timeouts = Timeouts::Constant(timeout);
        self
    }

    /// How long each attempt may take: `first`, and half as long each time, but `least` at least. So
    /// the sum stays below twice the first, as long as that is not reached.
    pub fn attempt_timeout_halving(mut self, first: Duration, least: Duration) -> Self {
        self.rules.timeouts = Timeouts::Halving { first, least };
        self
    }

    /// How long each attempt may take, by its number from 1. Zero is an attempt that finds its token
    /// cancelled.
    pub fn attempt_timeouts(
        mut self,
        schedule: impl Fn(u32) -> Duration + Send + Sync + 'static,
    ) -> Self {
        self.rules.timeouts = Timeouts::Custom(Box::new(schedule));
        self
    }

    /// Which errors are worth another attempt; all, by default. It is not asked about an attempt
    /// that ran into its own deadline.
    pub fn retry_if(mut self, is_retryable: impl Fn(&E) -> bool + Send + Sync + 'static) -> Self {
        self.rules.retry_if = Some(Box::new(is_retryable));
        self
    }

    /// How long to wait if the error says so, as HTTP's `Retry-After`; then it goes in place of the
    /// backoff's delay, longer or shorter.
    pub fn retry_after(
        mut self,
        delay: impl Fn(&E) -> Option<Duration> + Send + Sync + 'static,
    ) -> Self {
        self.rules.retry_after = Some(Box::new(delay));
        self
    }

    /// Makes each retry come out of this budget, which is shared with others.
    pub fn budget(mut self, shared: &RetryBudget) -> Self {
        self.rules.budget = Some(shared.clone());
        self
    }

    /// Is told of each attempt when it has ended. A panic in it is contained. Several are called one
    /// after the other.
    pub fn on_attempt(
        mut self,
        listener: impl Fn(&AttemptEvent<'_, E>) + Send + Sync + 'static,
    ) -> Self {
        self.rules.listeners.push(Box::new(listener));
        self
    }

    /// Makes the retry.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`], if there is no attempt, or no time for any.
    pub fn build(self) -> Result<Retry<E>, InvalidSetting> {
        let rules = self.rules;
        let check = InvalidSetting::unless;
        check(rules.attempts > 0, "there must be at least one attempt")?;
        check(
            rules.within != Some(Duration::ZERO),
            "all attempts together must be given time",
        )?;
        let zero = match &rules.timeouts {
            Timeouts::Constant(timeout) => timeout.is_zero(),
            Timeouts::Halving { first, least } => first.is_zero() || least.is_zero(),
            Timeouts::Unbounded | Timeouts::Custom(_) => false,
        };
        check(!zero, "each attempt must be given time")?;
        Ok(Retry::new(rules))
    }
}

impl<E> Default for RetryBuilder<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> fmt::Debug for RetryBuilder<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RetryBuilder")
            .field("attempts", &self.rules.attempts)
            .field("within", &self.rules.within)
            .field("backoff", &self.rules.backoff)
            .finish_non_exhaustive()
    }
}
