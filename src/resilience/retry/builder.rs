//! A retry's settings.

use std::fmt;
use std::time::Duration;

use super::super::budget::RetryBudget;
use super::super::setting::InvalidSetting;
use super::super::spares::Spares;
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
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::CancelToken;
/// use cleanbreak::backoff::Backoff;
/// use cleanbreak::resilience::retry::RetryBuilder;
///
/// let retry = RetryBuilder::new().name("stock").backoff(Backoff::constant(Duration::ZERO));
/// let retry = retry.build().unwrap();
/// let mut calls = 0;
/// let error = retry.call(&CancelToken::new(), |_| { calls += 1; Err::<(), _>("reset") });
/// assert_eq!((error.unwrap_err().attempts(), calls), (3, 3)); // if nothing else is said
/// ```
#[must_use = "a builder does nothing until the retry is built"]
pub struct RetryBuilder<E = anyhow::Error> {
    pub(in super::super) rules: Rules<E>,
}

impl<E> RetryBuilder<E> {
    /// Three attempts; waits of up to 100 ms, then 200 ms, with full jitter.
    pub fn new() -> Self {
        Self {
            rules: Rules {
                name: None,
                attempts: ATTEMPTS,
                within: None,
                backoff: Backoff::exponential(FIRST_DELAY),
                seed: None,
                timeouts: Timeouts::Unbounded,
                spares: None,
                budget: None,
                retry_if: None,
                retry_after: None,
                listeners: Vec::new(),
            },
        }
    }

    /// What it is called in metrics; without a name it is in none.
    pub fn name(mut self, name: &str) -> Self {
        self.rules.name = Some(name.into());
        self
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
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::backoff::Backoff;
    /// use cleanbreak::{CancelToken, Retry};
    ///
    /// let delays = |seed| {
    ///     let backoff = Backoff::exponential(Duration::from_micros(1)); // with full jitter
    ///     let retry = Retry::builder().attempts(4).backoff(backoff).seed(seed).build().unwrap();
    ///     let error = retry.call(&CancelToken::new(), |_| Err::<(), _>("reset")).unwrap_err();
    ///     error.history().iter().map(|attempt| attempt.delay).collect::<Vec<_>>()
    /// };
    /// assert_eq!(delays(7), delays(7));
    /// assert_ne!(delays(7), delays(8));
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::backoff::Backoff;
    /// use cleanbreak::{CancelToken, Clock, Retry};
    ///
    /// let millis = Duration::from_millis;
    /// let retry = Retry::builder()
    ///     .attempts(4)
    ///     .attempt_timeout_halving(millis(800), millis(300))
    ///     .backoff(Backoff::constant(Duration::ZERO))
    ///     .build()
    ///     .unwrap();
    /// let mut timeouts = Vec::new();
    /// let token = CancelToken::with_clock(&Clock::manual());
    /// let failed = retry.call(&token, |attempt| {
    ///     timeouts.push(attempt.remaining().unwrap());
    ///     Err::<(), _>("reset")
    /// });
    /// assert!(failed.is_err());
    /// assert_eq!(timeouts, [800, 400, 300, 300].map(millis));
    /// ```
    pub fn attempt_timeout_halving(mut self, first: Duration, least: Duration) -> Self {
        self.rules.timeouts = Timeouts::Halving { first, least };
        self
    }

    /// How long each attempt may take, by its number from 1. Zero is an attempt that finds its token
    /// cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::backoff::Backoff;
    /// use cleanbreak::{CancelToken, Clock, Retry};
    ///
    /// let retry = Retry::builder()
    ///     .attempts(3)
    ///     .attempt_timeouts(|number| Duration::from_secs(number.into())) // more patient each time
    ///     .backoff(Backoff::constant(Duration::ZERO))
    ///     .build()
    ///     .unwrap();
    /// let mut timeouts = Vec::new();
    /// let token = CancelToken::with_clock(&Clock::manual());
    /// let failed = retry.call(&token, |attempt| {
    ///     timeouts.push(attempt.remaining().unwrap());
    ///     Err::<(), _>("reset")
    /// });
    /// assert!(failed.is_err());
    /// assert_eq!(timeouts, [1, 2, 3].map(Duration::from_secs));
    /// ```
    pub fn attempt_timeouts(
        mut self,
        schedule: impl Fn(u32) -> Duration + Send + Sync + 'static,
    ) -> Self {
        self.rules.timeouts = Timeouts::Custom(Box::new(schedule));
        self
    }

    /// Lets an attempt with a deadline take up to `slack` longer, so that a token with its timer can
    /// serve several calls, as [`Timeout::with_slack`](crate::Timeout::with_slack) does.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, Retry};
    ///
    /// let (clock, millis) = (Clock::manual(), Duration::from_millis);
    /// let token = CancelToken::with_clock(&clock);
    /// let retry = Retry::<()>::builder().attempt_timeout(millis(100)).slack(millis(50));
    /// let retry = retry.build().unwrap();
    /// let left = || retry.call(&token, |attempt| Ok(attempt.remaining().unwrap())).unwrap();
    /// let first = left();
    /// assert!(millis(100) <= first && first <= millis(150));
    /// clock.advance(millis(1));
    /// assert_eq!(left(), first - millis(1)); // the same token again
    /// ```
    pub fn slack(mut self, slack: Duration) -> Self {
        self.rules.spares = Some(Spares::new(slack));
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
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Retry};
    ///
    /// /// With a `Retry-After`, or not.
    /// #[derive(Debug)]
    /// struct Busy(Option<Duration>);
    ///
    /// let retry = Retry::builder().attempts(2).retry_after(|busy: &Busy| busy.0).build().unwrap();
    /// let after = Duration::from_micros(7);
    /// let error = retry.call(&CancelToken::new(), |_| Err::<(), _>(Busy(Some(after)))).unwrap_err();
    /// assert_eq!(error.history()[0].delay, Some(after)); // not up to 100 ms
    /// ```
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
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::backoff::Backoff;
    /// use cleanbreak::resilience::retry::Next;
    /// use cleanbreak::{CancelToken, Retry};
    ///
    /// let (tell, told) = crossbeam_channel::unbounded();
    /// let retry = Retry::builder()
    ///     .backoff(Backoff::constant(Duration::ZERO))
    ///     .on_attempt(move |event| {
    ///         let last = !matches!(event.next, Next::Retry(_));
    ///         tell.send((event.number, event.error.copied(), last)).ok();
    ///     })
    ///     .build()
    ///     .unwrap();
    /// let mut answers = [Err("reset"), Ok("stock: 7")].into_iter();
    /// retry.call(&CancelToken::new(), |_| answers.next().unwrap()).unwrap();
    /// let events: Vec<_> = told.try_iter().collect();
    /// assert_eq!(events, [(1, Some("reset"), false), (2, None, true)]);
    /// ```
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
        self.into_rules().map(Retry::new)
    }

    pub(in super::super) fn into_rules(self) -> Result<Rules<E>, InvalidSetting> {
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
        Ok(rules)
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
