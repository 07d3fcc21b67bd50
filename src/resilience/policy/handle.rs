//! The policy itself.

use std::fmt;
use std::time::Duration;

use super::super::breaker::{Breaker, Outcome, Pass};
use super::super::bulkhead::{Bulkhead, BulkheadPermit};
use super::super::rate_limit::{RateLimiter, Reservation};
use super::super::retry::{RetryError, Rules, Run};
use super::super::timeout::{EndedBy, ended_by};
use super::builder::PolicyBuilder;
use super::err::{AttemptError, PolicyError};
use crate::cancel::{CancelKind, CancelToken};
use crate::clock::{Instant, TimerLease};
use crate::fault::{self, At};
use crate::observe::PolicyFacts;
use crate::sync::Arc;

pub(super) type Classify<E> = Box<dyn Fn(&E) -> Outcome + Send + Sync>;

/// Time limit, retry, rate limit, bulkhead, breaker and timeouts around one operation; see the
/// [module](super) for their order and what is promised.
///
/// A handle: clones are the same policy. `E` is the error of the operation.
///
/// # Performance
///
/// A call that succeeds at once costs what its parts cost, with one reading of the clock for all of
/// them that go by the token's (but for a breaker that takes the time of calls, and a shared
/// budget): less than the same parts nested by hand. It allocates nothing, unless there is a
/// deadline and no [`slack`](PolicyBuilder::slack): then there is a child token for each attempt,
/// with a timer, for twice the time. A call that fails allocates its history.
///
/// # Examples
///
/// In a loop that is left by its label:
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::backoff::Backoff;
/// use cleanbreak::{Breaker, Bulkhead, CancelToken, Policy, Quota, RateLimiter, Retry};
///
/// let breaker = Breaker::builder().consecutive_failures(3).open_for(Duration::from_secs(600));
/// let breaker = breaker.build().unwrap();
/// let prices = Policy::<&str>::builder()
///     .within(Duration::from_secs(60))
///     .retry(Retry::builder().attempts(2).backoff(Backoff::constant(Duration::ZERO)))
///     .rate_limit(&RateLimiter::new(Quota::per_second(1000)))
///     .bulkhead(&Bulkhead::new(4))
///     .breaker(&breaker)
///     .attempt_timeout(Duration::from_secs(10))
///     .build()
///     .unwrap();
///
/// let token = CancelToken::new();
/// let mut answers = [Ok(7), Err("reset"), Ok(8), Err("down"), Err("down")].into_iter();
/// let mut seen = Vec::new();
/// 'quotes: loop {
///     let quote = prices.call_or(
///         &token,
///         |_attempt| answers.next().unwrap_or(Err("down")),
///         |error| match error.kind() {
///             _ if seen.len() > 3 => Err(error), // stale for too long
///             _ => Ok(*seen.last().unwrap_or(&0)), // the last one known
///         },
///     );
///     match quote {
///         Ok(price) => seen.push(price),
///         Err(_) => break 'quotes,
///     }
/// }
/// assert_eq!(seen, [7, 8, 8, 8]); // the "reset" was retried, "down" fell back
///
/// token.cancel();
/// let stopped = prices.call_or(&token, |_| Ok(9), |_| Ok(0)); // runs neither
/// assert!(stopped.unwrap_err().is_cancelled());
/// ```
pub struct Policy<E = anyhow::Error> {
    parts: Arc<Parts<E>>,
}

pub(super) struct Parts<E> {
    pub(super) rules: Rules<AttemptError<E>>,
    pub(super) rate_limit: Option<RateLimiter>,
    pub(super) bulkhead: Option<Bulkhead>,
    pub(super) max_wait: Option<Duration>,
    pub(super) breaker: Option<Breaker>,
    pub(super) classify: Option<Classify<E>>,
    pub(super) facts: PolicyFacts,
    pub(super) _lease: Option<TimerLease>,
}

impl<E> Policy<E> {
    /// The settings of a new policy.
    pub fn builder() -> PolicyBuilder<E> {
        PolicyBuilder::new()
    }

    pub(super) fn new(parts: Parts<E>) -> Self {
        let parts = Arc::new(parts);
        Self { parts }
    }

    /// Calls `op` as the policy says: here, with the token of the attempt, until it succeeds or there
    /// is a reason to give up. The clock is `token`'s.
    ///
    /// # Errors
    ///
    /// [`PolicyError`], with its kind, the reason why there was no further attempt, and each attempt.
    ///
    /// # Panics
    ///
    /// A panic in `op` goes on to the caller; it is a failure for the breaker, and gives the permit
    /// back.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::backoff::Backoff;
    /// use cleanbreak::{CancelToken, Policy, Retry};
    ///
    /// let retry = Retry::builder().attempts(2).backoff(Backoff::constant(Duration::ZERO));
    /// let policy = Policy::<&str>::builder().retry(retry).build().unwrap();
    /// let token = CancelToken::new();
    /// let mut answers = [Err("reset"), Ok(7)].into_iter();
    /// assert_eq!(policy.call(&token, |_| answers.next().unwrap()).unwrap(), 7);
    /// let error = policy.call(&token, |_| Err::<u32, _>("down")).unwrap_err();
    /// assert_eq!((error.attempts(), error.last_error()), (2, Some(&"down")));
    /// ```
    #[track_caller]
    #[inline]
    pub fn call<T>(
        &self,
        token: &CancelToken,
        mut op: impl FnMut(&CancelToken) -> Result<T, E>,
    ) -> Result<T, PolicyError<E>> {
        fault::pass(At::PolicyCall);
        let parts = &*self.parts;
        let mut run = Run::new(&parts.rules, token);
        loop {
            let (now, limit) = run.begin().map_err(|error| parts.gave_up(error))?;
            match parts.attempt(&mut run, token, now, limit, &mut op) {
                Ok(value) => {
                    parts.facts.succeeded();
                    return Ok(value);
                }
                Err(error) => run.failed(error).map_err(|error| parts.gave_up(error))?,
            }
        }
    }

    /// As [`call`](Self::call), with an answer for when there is none: `fallback` is called with the
    /// error, here and outside of all parts, and may return it. Not if the caller was cancelled, or
    /// its deadline passed.
    ///
    /// # Errors
    ///
    /// What `fallback` returns; or that the caller was cancelled.
    #[track_caller]
    #[inline]
    pub fn call_or<T>(
        &self,
        token: &CancelToken,
        op: impl FnMut(&CancelToken) -> Result<T, E>,
        fallback: impl FnOnce(PolicyError<E>) -> Result<T, PolicyError<E>>,
    ) -> Result<T, PolicyError<E>> {
        match self.call(token, op) {
            Err(error) if !error.is_cancelled() => {
                self.parts.facts.fell_back();
                fallback(error)
            }
            done => done,
        }
    }

    /// Its breaker.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{Breaker, CancelToken, Policy};
    ///
    /// let policy = Policy::<&str>::builder().breaker(&Breaker::builder().build().unwrap());
    /// let policy = policy.build().unwrap();
    /// policy.breaker().unwrap().force_open(); // maintenance on the other side
    /// assert!(policy.call(&CancelToken::new(), |_| Ok(7)).unwrap_err().is_refused());
    /// assert!(Policy::<&str>::builder().build().unwrap().breaker().is_none());
    /// ```
    #[must_use]
    pub fn breaker(&self) -> Option<&Breaker> {
        self.parts.breaker.as_ref()
    }

    /// Its bulkhead.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{Bulkhead, CancelToken, Policy};
    ///
    /// let policy = Policy::<&str>::builder().bulkhead(&Bulkhead::new(4)).build().unwrap();
    /// let in_use = || policy.bulkhead().unwrap().in_use();
    /// let during = policy.call(&CancelToken::new(), |_| Ok(in_use())).unwrap();
    /// assert_eq!((during, in_use()), (1, 0));
    /// assert!(Policy::<&str>::builder().build().unwrap().bulkhead().is_none());
    /// ```
    #[must_use]
    pub fn bulkhead(&self) -> Option<&Bulkhead> {
        self.parts.bulkhead.as_ref()
    }

    /// Its rate limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{CancelToken, Clock, Policy, Quota, RateLimiter};
    ///
    /// let limit = RateLimiter::with_clock(Quota::per_second(1), &Clock::manual());
    /// let policy = Policy::<&str>::builder().rate_limit(&limit).build().unwrap();
    /// policy.call(&CancelToken::new(), |_| Ok(())).unwrap();
    /// assert!(policy.rate_limit().unwrap().try_acquire().unwrap_err().is_limited());
    /// assert!(Policy::<&str>::builder().build().unwrap().rate_limit().is_none());
    /// ```
    #[must_use]
    pub fn rate_limit(&self) -> Option<&RateLimiter> {
        self.parts.rate_limit.as_ref()
    }
}

/// What an attempt has taken on its way to the operation. Dropped in this order: the breaker hears
/// of the end before the permit is somebody else's.
struct Entry<'a> {
    pass: Option<Pass<'a>>,
    _permit: Option<BulkheadPermit<'a>>,
    /// When the waits were over.
    at: Instant,
}

impl<E> Parts<E> {
    #[track_caller]
    #[inline]
    fn attempt<T>(
        &self,
        run: &mut Run<'_, AttemptError<E>>,
        token: &CancelToken,
        now: Instant,
        limit: Option<Instant>,
        op: &mut impl FnMut(&CancelToken) -> Result<T, E>,
    ) -> Result<T, AttemptError<E>> {
        let Entry { pass, _permit, at } = self.enter(token, now, limit)?;
        let attempt = run.attempt(at);
        let child = attempt.get();
        if child.is_cancelled() {
            return Err(told(token, child, None));
        }
        fault::run(At::RetryAttempt);
        match op(child) {
            Ok(value) => {
                if let Some(pass) = pass {
                    pass.report(Outcome::Success);
                }
                run.succeeded(attempt);
                Ok(value)
            }
            Err(error) => {
                let error = told(token, child, Some(error));
                if let Some(pass) = pass {
                    pass.report(self.meaning(&error));
                }
                Err(error)
            }
        }
    }

    /// All that stands before the operation.
    #[track_caller]
    #[inline]
    fn enter(
        &self,
        token: &CancelToken,
        now: Instant,
        limit: Option<Instant>,
    ) -> Result<Entry<'_>, AttemptError<E>> {
        if let Some(breaker) = &self.breaker {
            breaker.look()?;
        }
        let until = match self.max_wait.and_then(|longest| now.checked_add(longest)) {
            Some(own) => Some(limit.map_or(own, |limit| limit.min(own))),
            None => limit,
        };
        let Some(limiter) = &self.rate_limit else {
            return self.enter_bulkhead(token, now, until, false);
        };
        let reserved = limiter.reserve(token, now, patience(token, now, until))?;
        let entry = self.enter_bulkhead(token, now, until, reserved.was_waited_for());
        entry.inspect_err(|_| put_back(limiter, &reserved))
    }

    /// `waited` says that `now` is over.
    #[track_caller]
    #[inline]
    fn enter_bulkhead(
        &self,
        token: &CancelToken,
        now: Instant,
        until: Option<Instant>,
        mut waited: bool,
    ) -> Result<Entry<'_>, AttemptError<E>> {
        let mut permit = None;
        if let Some(bulkhead) = &self.bulkhead {
            permit = bulkhead.grab();
            if permit.is_none() {
                permit = Some(match self.max_wait {
                    Some(Duration::ZERO) => bulkhead.try_acquire()?,
                    _ => bulkhead.acquire_until(token, until)?,
                });
                waited = true;
            }
        }
        let pass = match &self.breaker {
            Some(breaker) => Some(breaker.pass()?),
            None => None,
        };
        Ok(Entry {
            pass,
            _permit: permit,
            at: if waited { token.clock().now() } else { now },
        })
    }

    /// What a failed attempt means for the breaker.
    #[cold]
    fn meaning(&self, error: &AttemptError<E>) -> Outcome {
        match error {
            AttemptError::Cancelled { cancelled, .. }
                if cancelled.kind() == CancelKind::Cancelled =>
            {
                Outcome::Ignored
            }
            AttemptError::Failed(error) => match &self.classify {
                Some(meaning) => meaning(error),
                None => Outcome::Failure,
            },
            _ => Outcome::Failure,
        }
    }

    #[cold]
    fn gave_up(&self, error: RetryError<AttemptError<E>>) -> PolicyError<E> {
        let error = PolicyError::new(error);
        self.facts.failed(error.kind().label());
        error
    }
}

/// How long a wait may be: until then, or the token's own deadline.
#[inline]
fn patience(token: &CancelToken, now: Instant, until: Option<Instant>) -> Option<Duration> {
    let until = until.into_iter().chain(token.deadline()).min();
    until.map(|until| until.duration_since(now))
}

#[cold]
fn put_back(limiter: &RateLimiter, reserved: &Reservation) {
    limiter.put_back(reserved);
}

/// What an attempt with the token `child` came to that has failed, or was not run.
#[cold]
fn told<E>(token: &CancelToken, child: &CancelToken, error: Option<E>) -> AttemptError<E> {
    match (ended_by(token, child), error) {
        (Some(EndedBy::Limit), error) => AttemptError::TimedOut { error },
        (Some(EndedBy::Caller(cancelled)), error) => AttemptError::Cancelled { cancelled, error },
        (None, Some(error)) => AttemptError::Failed(error),
        (None, None) => match child.check() {
            Err(cancelled) => cancelled.into(),
            Ok(()) => AttemptError::TimedOut { error: None },
        },
    }
}

// A panic never leaves one half changed: each call has a state of its own.
impl<E> std::panic::UnwindSafe for Policy<E> {}
impl<E> std::panic::RefUnwindSafe for Policy<E> {}

impl<E> Clone for Policy<E> {
    fn clone(&self) -> Self {
        let parts = self.parts.clone();
        Self { parts }
    }
}

impl<E> fmt::Debug for Policy<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Policy")
            .field("attempts", &self.parts.rules.attempts)
            .field("within", &self.parts.rules.within)
            .field("rate_limit", &self.parts.rate_limit)
            .field("bulkhead", &self.parts.bulkhead)
            .field("breaker", &self.parts.breaker)
            .finish_non_exhaustive()
    }
}
