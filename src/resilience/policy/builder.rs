//! A policy's settings.

use std::fmt;
use std::time::Duration;

use super::super::breaker::{Breaker, Outcome};
use super::super::bulkhead::Bulkhead;
use super::super::rate_limit::RateLimiter;
use super::super::retry::{RetryBuilder, Rules};
use super::super::setting::InvalidSetting;
use super::err::AttemptError;
use super::handle::{Classify, Parts, Policy};
use crate::clock::{Clock, TimerLease};
use crate::observe::PolicyFacts;
use crate::sync::Arc;
use crate::threads::ThreadError;

/// The settings of a [`Policy`]; from [`Policy::builder`].
///
/// What is not set is not there. The parts that are given as handles may serve other policies too:
/// a bulkhead for two kinds of calls to one server, say.
///
/// # Examples
///
/// ```
/// use std::io;
/// use std::time::Duration;
/// use cleanbreak::backoff::Backoff;
/// use cleanbreak::resilience::breaker::Outcome;
/// use cleanbreak::resilience::policy::AttemptError;
/// use cleanbreak::{Breaker, Bulkhead, Clock, Policy, Quota, RateLimiter, Retry, RetryBudget};
///
/// let retry = Retry::builder()
///     .attempts(3)
///     .attempt_timeout_halving(Duration::from_millis(800), Duration::from_millis(100))
///     .backoff(Backoff::exponential(Duration::from_millis(50)))
///     .retry_if(|failed: &AttemptError<io::Error>| {
///         let denied = |error: &io::Error| error.kind() == io::ErrorKind::PermissionDenied;
///         failed.is_retryable() && !failed.error().is_some_and(denied)
///     })
///     .budget(&RetryBudget::builder().build().unwrap());
/// let policy = Policy::<io::Error>::builder()
///     .name("stock")
///     .within(Duration::from_secs(3))
///     .retry(retry)
///     .rate_limit(&RateLimiter::new(Quota::per_second(100)))
///     .bulkhead(&Bulkhead::new(8))
///     .max_wait(Duration::from_millis(200))
///     .breaker(&Breaker::builder().name("stock").build().unwrap())
///     .classify(|error| match error.kind() {
///         io::ErrorKind::NotFound => Outcome::Success, // the other side works
///         _ => Outcome::Failure,
///     })
///     .keep_timer(&Clock::system())
///     .unwrap()
///     .build();
/// assert!(policy.is_ok());
///
/// let nonsense = Policy::<io::Error>::builder().within(Duration::ZERO).build();
/// assert!(nonsense.is_err());
/// ```
#[must_use = "a builder does nothing until the policy is built"]
pub struct PolicyBuilder<E = anyhow::Error> {
    name: Option<Arc<str>>,
    retry: Option<RetryBuilder<AttemptError<E>>>,
    within: Option<Duration>,
    attempt_timeout: Option<Duration>,
    slack: Option<Duration>,
    rate_limit: Option<RateLimiter>,
    bulkhead: Option<Bulkhead>,
    max_wait: Option<Duration>,
    breaker: Option<Breaker>,
    classify: Option<Classify<E>>,
    lease: Option<TimerLease>,
}

impl<E> PolicyBuilder<E> {
    /// Nothing around the operation.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::CancelToken;
    /// use cleanbreak::resilience::policy::PolicyBuilder;
    ///
    /// let nothing = PolicyBuilder::new().build().unwrap(); // as `Policy::builder()`
    /// let error = nothing.call(&CancelToken::new(), |_| Err::<(), _>("reset")).unwrap_err();
    /// assert_eq!((error.attempts(), error.into_last_error()), (1, Some("reset")));
    /// ```
    pub fn new() -> Self {
        Self {
            name: None,
            retry: None,
            within: None,
            attempt_timeout: None,
            slack: None,
            rate_limit: None,
            bulkhead: None,
            max_wait: None,
            breaker: None,
            classify: None,
            lease: None,
        }
    }

    /// What it is called in metrics, with its retries; without a name it is in none.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Tries again as these settings say; without them there is one attempt.
    pub fn retry(mut self, settings: RetryBuilder<AttemptError<E>>) -> Self {
        self.retry = Some(settings);
        self
    }

    /// How long all of it may take, attempts, delays and waits together. In place of the retry's, if
    /// that has [one](RetryBuilder::within) too.
    pub fn within(mut self, time: Duration) -> Self {
        self.within = Some(time);
        self
    }

    /// How long the operation may take in each attempt, without the waits before it. In place of the
    /// retry's, if that has [one](RetryBuilder::attempt_timeout) too; there, it may shrink from
    /// attempt to attempt.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, Policy};
    ///
    /// let (clock, second) = (Clock::manual(), Duration::from_secs(1));
    /// let token = CancelToken::with_clock(&clock);
    /// let policy = Policy::builder().attempt_timeout(second).build().unwrap();
    /// let late = policy.call(&token, |attempt| { clock.advance(second); attempt.check() });
    /// assert!(late.unwrap_err().is_timeout());
    /// let value = policy.call(&token, |_| { clock.advance(second); Ok(7) });
    /// assert_eq!(value.unwrap(), 7); // late as it is
    /// ```
    pub fn attempt_timeout(mut self, timeout: Duration) -> Self {
        self.attempt_timeout = Some(timeout);
        self
    }

    /// Lets an attempt with a deadline take up to `slack` longer, so that a token with its timer can
    /// serve several calls: as [`Timeout::with_slack`](crate::Timeout::with_slack), with its
    /// conditions. Then a call that succeeds allocates nothing.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, Policy};
    ///
    /// let (clock, millis) = (Clock::manual(), Duration::from_millis);
    /// let token = CancelToken::with_clock(&clock);
    /// let policy = Policy::<()>::builder().attempt_timeout(millis(100)).slack(millis(50));
    /// let policy = policy.build().unwrap();
    /// let left = || policy.call(&token, |attempt| Ok(attempt.remaining().unwrap())).unwrap();
    /// let first = left();
    /// assert!(millis(100) <= first && first <= millis(150));
    /// clock.advance(millis(1));
    /// assert_eq!(left(), first - millis(1)); // the same token again
    /// ```
    pub fn slack(mut self, slack: Duration) -> Self {
        self.slack = Some(slack);
        self
    }

    /// Lets so many attempts through in a time; the others wait.
    pub fn rate_limit(mut self, limiter: &RateLimiter) -> Self {
        self.rate_limit = Some(limiter.clone());
        self
    }

    /// Lets so many attempts run at a time; the others wait.
    pub fn bulkhead(mut self, bulkhead: &Bulkhead) -> Self {
        self.bulkhead = Some(bulkhead.clone());
        self
    }

    /// How long an attempt may wait for the rate limit and the bulkhead together; as long as there is
    /// time, by default. Zero sheds at once what there is no room for.
    pub fn max_wait(mut self, longest: Duration) -> Self {
        self.max_wait = Some(longest);
        self
    }

    /// Calls only while this breaker lets it.
    pub fn breaker(mut self, breaker: &Breaker) -> Self {
        self.breaker = Some(breaker.clone());
        self
    }

    /// What an error of the operation's means for the breaker; a failure, by default. It is not asked
    /// about timeouts and cancelled calls.
    pub fn classify(mut self, meaning: impl Fn(&E) -> Outcome + Send + Sync + 'static) -> Self {
        self.classify = Some(Box::new(meaning));
        self
    }

    /// Keeps the timer thread of `clock` running for as long as a clone of the policy lives: the clock
    /// of the tokens that it is called with. See [`Clock::keep_timer`].
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub fn keep_timer(mut self, clock: &Clock) -> Result<Self, ThreadError> {
        self.lease = Some(clock.keep_timer()?);
        Ok(self)
    }

    /// Makes the policy.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`], for what [`RetryBuilder::build`] does not take: no attempt, or no time.
    pub fn build(mut self) -> Result<Policy<E>, InvalidSetting>
    where
        E: 'static,
    {
        let rules = self.rules()?;
        Ok(Policy::new(Parts {
            facts: PolicyFacts::new(self.name.as_ref()),
            rules,
            rate_limit: self.rate_limit,
            bulkhead: self.bulkhead,
            max_wait: self.max_wait,
            breaker: self.breaker,
            classify: self.classify,
            _lease: self.lease,
        }))
    }

    fn rules(&mut self) -> Result<Rules<AttemptError<E>>, InvalidSetting>
    where
        E: 'static,
    {
        let one = || RetryBuilder::new().attempts(1);
        let mut retry = self.retry.take().unwrap_or_else(one);
        if let Some(time) = self.within {
            retry = retry.within(time);
        }
        if let Some(timeout) = self.attempt_timeout {
            retry = retry.attempt_timeout(timeout);
        }
        if let Some(slack) = self.slack {
            retry = retry.slack(slack);
        }
        let mut rules = retry.into_rules()?;
        rules.name = rules.name.or_else(|| self.name.clone());
        self.pace(&mut rules);
        Ok(rules)
    }

    /// What is retried, and when, as long as nothing else was said.
    fn pace(&self, rules: &mut Rules<AttemptError<E>>)
    where
        E: 'static,
    {
        let bounded = rules.within.is_some();
        rules.retry_if.get_or_insert_with(|| {
            Box::new(move |error| {
                let open = matches!(error, AttemptError::Rejected(it) if it.open_until().is_some());
                error.is_retryable() && (bounded || !open)
            })
        });
        let Some(clock) = self.breaker.as_ref().map(|breaker| breaker.clock().clone()) else {
            return;
        };
        let asked = rules.retry_after.take();
        rules.retry_after = Some(Box::new(move |error| {
            let asked = asked.as_ref().and_then(|after| after(error));
            asked.or_else(|| match error {
                AttemptError::Rejected(rejected) => {
                    let until = rejected.open_until()?;
                    Some(until.duration_since(clock.now()))
                }
                _ => None,
            })
        }));
    }
}

impl<E> Default for PolicyBuilder<E> {
    fn default() -> Self {
        Self::new()
    }
}

impl<E> fmt::Debug for PolicyBuilder<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PolicyBuilder")
            .field("name", &self.name)
            .field("within", &self.within)
            .field("retry", &self.retry)
            .field("rate_limit", &self.rate_limit)
            .field("bulkhead", &self.bulkhead)
            .field("breaker", &self.breaker)
            .finish_non_exhaustive()
    }
}
