//! So many calls in a time: for all, or for each key.

mod err;
mod gcra;
mod keyed;
#[cfg(test)]
mod random;

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crossbeam_channel::RecvTimeoutError;

use super::call::CallError;
use super::list::{ShownLimiter, Tag, enlist_limiter};
use crate::cancel::CancelToken;
use crate::clock::{Clock, Instant};
use crate::fault::{self, At};
use crate::sync::{Arc, Mutex};
use crate::threads;
use gcra::Bucket;

pub use err::RateLimitError;
pub use gcra::Quota;
pub use keyed::KeyedRateLimiter;

/// Lets so many calls through in a time: the generic cell rate algorithm.
///
/// Unlike a counter that starts anew with each second, it never lets more than
/// `burst + rate · t` through in *any* stretch of time `t`, and what is let through is spread
/// evenly. Clones are the same limiter.
///
/// # What is not guaranteed
///
/// The count is of the moments in which calls are let through. A thread that is not scheduled for
/// a while after that makes its call later, and may meet others there.
///
/// # Performance
///
/// A clock reading and a short lock, no allocation; `governor`, with an atomic in place of the lock,
/// takes two thirds of the time, and half where eight threads meet.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock};
/// use cleanbreak::resilience::{Quota, RateLimiter};
///
/// let clock = Clock::manual();
/// let mails = RateLimiter::with_clock(Quota::per_second(10).burst(2), &clock);
/// assert!(mails.try_acquire().is_ok());
/// assert!(mails.try_acquire().is_ok());
/// let refused = mails.try_acquire().unwrap_err();
/// assert_eq!(refused.retry_after(), Some(Duration::from_millis(100)));
/// clock.advance(Duration::from_millis(100));
/// assert!(mails.try_acquire().is_ok());
///
/// // Whose deadline comes first does not wait for nothing.
/// let token = CancelToken::with_clock(&clock).child_timeout(Duration::from_millis(99));
/// assert!(mails.acquire(&token).unwrap_err().is_deadline());
/// ```
#[derive(Clone)]
pub struct RateLimiter {
    name: Option<Arc<str>>,
    inner: Arc<Single>,
}

pub(super) struct Single {
    pub(super) quota: Quota,
    clock: Clock,
    bucket: Mutex<Bucket>,
    pub(super) tag: Tag<dyn ShownLimiter>,
}

impl Single {
    /// In how long a call that comes now would be let through.
    pub(super) fn next_wait(&self) -> Duration {
        let now = self.clock.now();
        let bucket = *self.bucket.lock();
        Duration::from_nanos(self.quota.ask(bucket, now, 1).1)
    }
}

/// What was taken, for now or for a time to come.
pub(super) struct Reservation {
    /// `None` if it is for now.
    at: Option<Instant>,
    /// The bucket as the reservation left it: it is the last one while that has not changed.
    left: Bucket,
    cost: u32,
}

/// Takes `cost` cells now, or leaves the bucket as it is.
fn take(quota: &Quota, bucket: &mut Bucket, now: Instant, cost: u32) -> Result<(), RateLimitError> {
    match quota.ask(*bucket, now, cost) {
        (next, 0) => {
            *bucket = next;
            Ok(())
        }
        (_, wait) => Err(RateLimitError::Limited {
            retry_after: Duration::from_nanos(wait),
        }),
    }
}

/// Takes `cost` cells as soon as they come, if that is within `patience`.
fn reserve(
    quota: &Quota,
    bucket: &mut Bucket,
    now: Instant,
    cost: u32,
    patience: Option<Duration>,
) -> Result<Reservation, RateLimitError> {
    let (left, wait) = quota.ask(*bucket, now, cost);
    let wait = Duration::from_nanos(wait);
    let at = now.checked_add(wait);
    let too_late = patience.is_some_and(|patience| wait > patience);
    let Some(at) = at.filter(|_| !too_late) else {
        return Err(RateLimitError::Deadline { retry_after: wait });
    };
    *bucket = left;
    let at = (!wait.is_zero()).then_some(at);
    Ok(Reservation { at, left, cost })
}

/// Gives the cells back if nobody has reserved after them: the times of those who have are fixed,
/// and to let others in between would be more than the quota.
fn give_back(quota: &Quota, bucket: &mut Bucket, reservation: &Reservation) {
    if *bucket == reservation.left {
        *bucket = quota.give_back(*bucket, reservation.cost);
    }
}

impl Reservation {
    /// Whether its time had to be waited for.
    pub(super) fn was_waited_for(&self) -> bool {
        self.at.is_some()
    }
}

fn check_cost(quota: &Quota, cost: u32) -> Result<(), RateLimitError> {
    let burst = quota.burst_size();
    match cost <= burst {
        true => Ok(()),
        false => Err(RateLimitError::TooLarge { cost, burst }),
    }
}

/// How long a wait may be: to the token's deadline or for `timeout`, whichever is shorter.
fn patience(token: &CancelToken, timeout: Option<Duration>) -> Option<Duration> {
    token.remaining().into_iter().chain(timeout).min()
}

/// Waits for the time of a reservation.
#[track_caller]
fn await_time(clock: &Clock, token: &CancelToken, at: Instant) -> Result<(), RateLimitError> {
    let _wait = threads::waiting_on("be let through by a rate limit");
    match clock.recv_until(token.done(), Some(at)) {
        Ok(never) => match never {},
        Err(RecvTimeoutError::Timeout) => Ok(()),
        // A receiver also disconnects when nothing could cancel any more; the caller has the token.
        Err(RecvTimeoutError::Disconnected) => Ok(token.check()?),
    }
}

impl RateLimiter {
    /// A limiter on the system's clock, its bucket full.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{Quota, RateLimiter};
    ///
    /// let quota = Quota::per_minute(1);
    /// let limiter = RateLimiter::new(quota);
    /// assert_eq!(limiter.quota(), quota);
    /// limiter.try_acquire().unwrap();
    /// assert!(limiter.try_acquire().unwrap_err().is_limited());
    /// ```
    #[must_use]
    #[track_caller]
    pub fn new(quota: Quota) -> Self {
        Self::with_clock(quota, &Clock::system())
    }

    /// A limiter on `clock`, its bucket full.
    #[must_use]
    #[track_caller]
    pub fn with_clock(quota: Quota, clock: &Clock) -> Self {
        let inner = Arc::new(Single {
            quota,
            clock: clock.clone(),
            bucket: Mutex::new(0),
            tag: Tag::new(Location::caller()),
        });
        enlist_limiter(&inner, &inner.tag);
        Self { name: None, inner }
    }

    /// What this handle and its clones are called in metrics, and the limiter in lists; without a
    /// name they are in no metrics.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{Clock, Quota, RateLimiter};
    ///
    /// let mails = RateLimiter::with_clock(Quota::per_second(1), &Clock::manual());
    /// let bills = mails.clone().named("bills"); // the same bucket, under a name of its own
    /// bills.try_acquire().unwrap();
    /// assert!(mails.try_acquire().unwrap_err().is_limited());
    /// ```
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        let name = name.into();
        self.inner.tag.name(&name);
        self.name = Some(name);
        self
    }

    /// Lets one call through now, or refuses it.
    ///
    /// # Errors
    ///
    /// [`Limited`](RateLimitError::Limited), with the time until it would be let through.
    #[inline]
    pub fn try_acquire(&self) -> Result<(), RateLimitError> {
        self.try_acquire_n(1)
    }

    /// Lets something through that counts as `cost` calls, now or not at all.
    ///
    /// # Errors
    ///
    /// [`Limited`](RateLimitError::Limited), or [`TooLarge`](RateLimitError::TooLarge) if that is
    /// more than the burst and could never be.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{Clock, Quota, RateLimiter};
    ///
    /// let disk = RateLimiter::with_clock(Quota::per_second(10), &Clock::manual());
    /// disk.try_acquire_n(8).unwrap(); // 8 MB
    /// assert!(disk.try_acquire_n(3).unwrap_err().is_limited()); // takes nothing
    /// assert!(disk.try_acquire_n(11).unwrap_err().is_too_large()); // never: write it in pieces
    /// disk.try_acquire_n(2).unwrap();
    /// ```
    pub fn try_acquire_n(&self, cost: u32) -> Result<(), RateLimitError> {
        fault::pass(At::RateAcquire);
        let Single { quota, clock, .. } = &*self.inner;
        check_cost(quota, cost)?;
        // Read before the lock, so it may be of a moment ago: that only makes it stricter.
        let now = clock.now();
        let taken = take(quota, &mut self.inner.bucket.lock(), now, cost);
        taken.inspect_err(|error| error.tell(self.name.as_ref()))
    }

    /// Waits until one call is let through. Those who wait are let through in the order in which
    /// they came; each has its time reserved from the start.
    ///
    /// # Errors
    ///
    /// [`Deadline`](RateLimitError::Deadline), at once, if the token's deadline would come first;
    /// [`Cancelled`](RateLimitError::Cancelled) when it is cancelled. What was reserved is given
    /// back, unless somebody has reserved after it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, Quota, RateLimiter};
    ///
    /// let clock = Clock::manual();
    /// let token = CancelToken::with_clock(&clock);
    /// let mails = RateLimiter::with_clock(Quota::per_second(1), &clock);
    /// mails.acquire(&token).unwrap();
    /// std::thread::scope(|scope| {
    ///     let waits = scope.spawn(|| mails.acquire(&token));
    ///     clock.await_timers(1);
    ///     clock.advance(Duration::from_secs(1));
    ///     assert!(waits.join().unwrap().is_ok());
    ///     let waits = scope.spawn(|| mails.acquire(&token));
    ///     token.cancel(); // ends the wait, and gives its time back
    ///     assert!(waits.join().unwrap().unwrap_err().is_cancelled());
    /// });
    /// clock.advance(Duration::from_secs(1));
    /// assert!(mails.try_acquire().is_ok());
    /// ```
    #[track_caller]
    pub fn acquire(&self, token: &CancelToken) -> Result<(), RateLimitError> {
        self.acquire_within(token, 1, None)
    }

    /// As [`acquire`](Self::acquire), for something that counts as `cost` calls.
    ///
    /// # Errors
    ///
    /// Those of `acquire`, and [`TooLarge`](RateLimitError::TooLarge).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, Quota, RateLimiter};
    ///
    /// let clock = Clock::manual();
    /// let token = CancelToken::with_clock(&clock).child_timeout(Duration::from_millis(100));
    /// let disk = RateLimiter::with_clock(Quota::per_second(10), &clock);
    /// disk.acquire_n(&token, 10).unwrap();
    /// let refused = disk.acquire_n(&token, 5).unwrap_err(); // not before the deadline
    /// assert_eq!(refused.retry_after(), Some(Duration::from_millis(500)));
    /// assert!(disk.acquire_n(&token, 11).unwrap_err().is_too_large());
    /// ```
    #[track_caller]
    pub fn acquire_n(&self, token: &CancelToken, cost: u32) -> Result<(), RateLimitError> {
        self.acquire_within(token, cost, None)
    }

    /// As [`acquire`](Self::acquire), but refuses at once if it would have to wait for longer than
    /// `timeout`.
    ///
    /// # Errors
    ///
    /// Those of `acquire`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, Quota, RateLimiter};
    ///
    /// let clock = Clock::manual();
    /// let token = CancelToken::with_clock(&clock);
    /// let mails = RateLimiter::with_clock(Quota::per_second(1), &clock);
    /// mails.acquire_timeout(&token, Duration::ZERO).unwrap();
    /// let refused = mails.acquire_timeout(&token, Duration::from_millis(500)).unwrap_err();
    /// assert!(refused.is_deadline()); // without a wait: it would have been too long
    /// ```
    #[track_caller]
    pub fn acquire_timeout(
        &self,
        token: &CancelToken,
        timeout: Duration,
    ) -> Result<(), RateLimitError> {
        self.acquire_within(token, 1, Some(timeout))
    }

    #[track_caller]
    fn acquire_within(
        &self,
        token: &CancelToken,
        cost: u32,
        timeout: Option<Duration>,
    ) -> Result<(), RateLimitError> {
        check_cost(&self.inner.quota, cost)?;
        token.check()?;
        let patience = patience(token, timeout);
        let now = self.inner.clock.now();
        self.take(token, now, cost, patience).map(drop)
    }

    /// Takes what is there, or comes, within `patience`; and waits for it.
    #[track_caller]
    fn take(
        &self,
        token: &CancelToken,
        now: Instant,
        cost: u32,
        patience: Option<Duration>,
    ) -> Result<Reservation, RateLimitError> {
        fault::pass(At::RateAcquire);
        let Single {
            quota,
            clock,
            bucket,
            ..
        } = &*self.inner;
        let reserved = reserve(quota, &mut bucket.lock(), now, cost, patience);
        let reserved = reserved.inspect_err(|error| error.tell(self.name.as_ref()))?;
        if let Some(at) = reserved.at {
            await_time(clock, token, at).inspect_err(|_| self.put_back(&reserved))?;
        }
        Ok(reserved)
    }

    /// As [`acquire`](Self::acquire) within `patience`, for who may give it back; `now` is of the
    /// token's clock, which is read no second time if it is the limiter's too.
    #[track_caller]
    pub(super) fn reserve(
        &self,
        token: &CancelToken,
        now: Instant,
        patience: Option<Duration>,
    ) -> Result<Reservation, RateLimitError> {
        let clock = &self.inner.clock;
        let now = match token.clock().is(clock) {
            true => now,
            false => clock.now(),
        };
        self.take(token, now, 1, patience)
    }

    /// Gives back what was not used, unless somebody has taken something after it.
    pub(super) fn put_back(&self, reservation: &Reservation) {
        give_back(
            &self.inner.quota,
            &mut self.inner.bucket.lock(),
            reservation,
        );
    }

    /// Runs `operation` when it is let through.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] with the reason of [`acquire`](Self::acquire) if it did not run;
    /// [`CallError::Failed`] with its own error if it did.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{CancelToken, Clock, Quota, RateLimiter};
    ///
    /// let clock = Clock::manual();
    /// let token = CancelToken::with_clock(&clock);
    /// let mails = RateLimiter::with_clock(Quota::per_second(1).burst(2), &clock);
    /// assert_eq!(mails.call(&token, |_| Ok::<_, &str>("sent")).unwrap(), "sent");
    /// let failed = mails.call(&token, |_| Err::<(), _>("bounced")).unwrap_err(); // counts as well
    /// assert_eq!(failed.into_failure(), Some("bounced"));
    /// token.cancel();
    /// let unrun = mails.call(&token, |_| Ok::<_, &str>("sent")).unwrap_err();
    /// assert!(unrun.into_refusal().unwrap().is_cancelled());
    /// ```
    #[track_caller]
    pub fn call<T, E>(
        &self,
        token: &CancelToken,
        operation: impl FnOnce(&CancelToken) -> Result<T, E>,
    ) -> Result<T, CallError<RateLimitError, E>> {
        self.acquire(token).map_err(CallError::Refused)?;
        operation(token).map_err(CallError::Failed)
    }

    /// What it allows.
    #[must_use]
    pub fn quota(&self) -> Quota {
        self.inner.quota
    }
}

// A panic never leaves one half changed: no code of the user runs under a lock of ours.
impl std::panic::UnwindSafe for RateLimiter {}
impl std::panic::RefUnwindSafe for RateLimiter {}

impl fmt::Debug for RateLimiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RateLimiter")
            .field("quota", &self.inner.quota)
            .finish_non_exhaustive()
    }
}
