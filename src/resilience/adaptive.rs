//! So many calls at a time, where the number is found out.

use std::fmt;
use std::time::Duration;

use super::call::CallError;
pub use super::controller::AdaptiveOutcome;
use super::controller::{Algorithm, Controller, Sample, Settings};
use super::permits::{MOST, Permits};
use super::semaphore::{AcquireError, acquire};
use crate::cancel::CancelToken;
use crate::clock::{Clock, Instant};
use crate::fault::{self, At};
use crate::observe;
use crate::sync::{Arc, Mutex};

/// A [`Bulkhead`](super::Bulkhead) whose number of permits follows the other side's capacity: it
/// grows while calls are served as quickly as ever, and shrinks when they queue up or are turned
/// away.
///
/// A fixed limit is a guess that is wrong after the next deployment. This one measures, as TCP does;
/// `controller.rs` has the algorithms and their sources. Clones are the same limit.
///
/// * [`gradient`](Self::gradient) goes by latency: for calls to a service that queues what it
///   cannot serve at once. It settles a little above the point where a queue begins.
/// * [`aimd`](Self::aimd) goes by signs of overload: for a service that turns calls away, or where
///   a call slower than [`overload_above`](AdaptiveLimitBuilder::overload_above) is of no use.
///
/// # What is promised
///
/// The limit is never outside of [`min`](AdaptiveLimitBuilder::min) and
/// [`max`](AdaptiveLimitBuilder::max). Permits are handed over first come, first served, as those of
/// a bulkhead. Of a volley of overloaded calls, only the first cuts the limit.
///
/// # What is not
///
/// The limit is this process's own: several clients of one service find a balance, not a fair one.
/// It needs traffic to learn from: a limit that is not half used does not grow.
///
/// # Performance
///
/// On top of a bulkhead's permit, two clock readings and one short lock for a call.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock};
/// use cleanbreak::resilience::{AdaptiveLimit, AdaptiveOutcome};
///
/// let clock = Clock::manual();
/// let limit = AdaptiveLimit::aimd().initial(10).min(2).max(50).clock(&clock).build();
/// let token = CancelToken::with_clock(&clock);
/// let turned_away = limit.call_with(&token, |_| Err::<(), _>(503), |result| match result {
///     Err(503) => AdaptiveOutcome::Overloaded,
///     Err(_) => AdaptiveOutcome::Ignored,
///     Ok(()) => AdaptiveOutcome::Success,
/// });
/// assert_eq!(turned_away.unwrap_err().into_failure(), Some(503));
/// assert_eq!(limit.limit(), 5); // halved
///
/// let permit = limit.acquire(&token).unwrap();
/// clock.advance(Duration::from_millis(20));
/// permit.success(); // one of the samples of the next window
/// drop(limit.try_acquire().unwrap()); // says nothing
/// assert_eq!((limit.in_use(), limit.limit()), (0, 5));
/// ```
#[derive(Clone)]
pub struct AdaptiveLimit {
    inner: Arc<Inner>,
}

struct Inner {
    name: Option<Arc<str>>,
    permits: Arc<Permits>,
    clock: Clock,
    /// Taken before the lock in the permits.
    controller: Mutex<Controller>,
}

/// The settings of an [`AdaptiveLimit`]; from [`AdaptiveLimit::gradient`] or
/// [`AdaptiveLimit::aimd`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::resilience::AdaptiveLimit;
/// use cleanbreak::{CancelToken, Clock};
///
/// let (clock, millis) = (Clock::manual(), Duration::from_millis);
/// let limit = AdaptiveLimit::aimd()
///     .name("stock")
///     .initial(40)
///     .min(5)
///     .max(41)
///     .queue(0)
///     .backoff(0.75)
///     .window(millis(1), 1)
///     .overload_above(millis(500))
///     .clock(&clock)
///     .build();
/// let full_house = |latency| {
///     let all = 0..limit.limit();
///     let mut permits: Vec<_> = all.map(|_| limit.try_acquire().unwrap()).collect();
///     let refused = limit.acquire(&CancelToken::never()).unwrap_err();
///     assert!(refused.is_full()); // no queue, so this did not wait
///     clock.advance(latency);
///     permits.pop().unwrap().success();
///     limit.limit()
/// };
/// assert_eq!([full_house(millis(1)), full_house(millis(1)), full_house(millis(1))], [40, 41, 41]);
/// assert_eq!(full_house(millis(501)), 30); // too slow to be of use: three quarters are left
/// assert_eq!((0..20).map(|_| full_house(millis(501))).last(), Some(5));
/// ```
#[must_use = "a builder does nothing until it is built"]
#[derive(Clone, Debug)]
pub struct AdaptiveLimitBuilder {
    name: Option<Arc<str>>,
    settings: Settings,
    places: usize,
    clock: Clock,
}

impl AdaptiveLimitBuilder {
    fn new(algorithm: Algorithm) -> Self {
        let settings = Settings {
            algorithm,
            initial: 20,
            min: 1,
            max: 200,
            backoff: 0.5,
            window: Duration::from_millis(100),
            samples: 10,
            overload_above: None,
        };
        Self {
            name: None,
            settings,
            places: 1024,
            clock: Clock::system(),
        }
    }

    /// What it is called in metrics; without a name it is in none.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// The limit to begin with; 20 by default.
    pub fn initial(mut self, limit: usize) -> Self {
        self.settings.initial = limit;
        self
    }

    /// The lowest limit; 1 by default.
    pub fn min(mut self, limit: usize) -> Self {
        self.settings.min = limit;
        self
    }

    /// The highest limit; 200 by default.
    pub fn max(mut self, limit: usize) -> Self {
        self.settings.max = limit;
        self
    }

    /// How many may wait for a permit; 1,024 by default.
    pub fn queue(mut self, places: usize) -> Self {
        self.places = places;
        self
    }

    /// What is left of the limit after a sign of overload: ½ by default.
    pub fn backoff(mut self, factor: f64) -> Self {
        self.settings.backoff = factor;
        self
    }

    /// How often the limit is thought over: after so long, 100 ms by default, but not before so
    /// many calls have succeeded, 10 by default.
    pub fn window(mut self, time: Duration, samples: u32) -> Self {
        self.settings.window = time;
        self.settings.samples = samples;
        self
    }

    /// Takes a success that took longer than this for a sign of overload; never by default.
    pub fn overload_above(mut self, latency: Duration) -> Self {
        self.settings.overload_above = Some(latency);
        self
    }

    /// For the gradient: how much longer than without a queue a call may take before the limit
    /// shrinks, as a factor between 1 and 2; 1.2 by default. More bears more noise, and more queue.
    /// AIMD has no use for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::resilience::{AdaptiveLimit, AdaptivePermit};
    /// use cleanbreak::Clock;
    ///
    /// let shrinks = |tolerance| {
    ///     let clock = Clock::manual();
    ///     let limit = AdaptiveLimit::gradient().initial(100).tolerance(tolerance).clock(&clock);
    ///     let limit = limit.build();
    ///     let limits = [100, 100, 180, 180, 180].map(|latency| {
    ///         let all = 0..limit.limit();
    ///         let permits: Vec<_> = all.map(|_| limit.try_acquire().unwrap()).collect();
    ///         clock.advance(Duration::from_millis(latency));
    ///         permits.into_iter().for_each(AdaptivePermit::success);
    ///         limit.limit()
    ///     });
    ///     limits[4] < limits[1]
    /// };
    /// assert!(shrinks(1.0));
    /// assert!(!shrinks(1.8)); // as much longer as is borne
    /// ```
    pub fn tolerance(mut self, factor: f64) -> Self {
        if let Algorithm::Gradient { tolerance, .. } = &mut self.settings.algorithm {
            *tolerance = factor;
        }
        self
    }

    /// For the gradient: after how many windows the limit is halved for one, to measure the latency
    /// without a queue anew; 100 by default. AIMD has no use for it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::resilience::AdaptiveLimit;
    /// use cleanbreak::Clock;
    ///
    /// let clock = Clock::manual();
    /// let limit = AdaptiveLimit::gradient().initial(100).probe_every(1).window(Duration::ZERO, 1);
    /// let limit = limit.clock(&clock).build();
    /// limit.try_acquire().unwrap().success(); // a window
    /// assert_eq!(limit.limit(), 50); // then a probe
    /// limit.try_acquire().unwrap().success();
    /// assert_eq!(limit.limit(), 100); // and back
    /// ```
    pub fn probe_every(mut self, windows: u32) -> Self {
        if let Algorithm::Gradient { probe_every, .. } = &mut self.settings.algorithm {
            *probe_every = windows;
        }
        self
    }

    /// The clock of latencies and windows; the system's by default.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// The limit.
    ///
    /// # Panics
    ///
    /// If not `1 ≤ min ≤ initial ≤ max < 2³⁰`, the back-off is not between 0 and 1, or the tolerance
    /// not between 1 and 2. So a `min` above 20 needs an `initial`, and so does a `max` below.
    #[must_use]
    pub fn build(self) -> AdaptiveLimit {
        let Settings {
            algorithm,
            initial,
            min,
            max,
            backoff,
            ..
        } = self.settings;
        let ordered = 1 <= min && min <= initial && initial <= max && max <= MOST;
        assert!(
            ordered,
            "an adaptive limit needs 1 <= min <= initial <= max < 2^30, not {min}, {initial}, {max}"
        );
        assert!(
            (0.0..=1.0).contains(&backoff),
            "a back-off is a factor between 0 and 1, not {backoff}"
        );
        if let Algorithm::Gradient { tolerance, .. } = algorithm {
            assert!(
                (1.0..=2.0).contains(&tolerance),
                "a tolerance is a factor between 1 and 2, not {tolerance}"
            );
        }
        observe::adaptive_limit(self.name.as_ref(), initial);
        let inner = Arc::new(Inner {
            name: self.name,
            permits: Arc::new(Permits::new(initial, self.places)),
            clock: self.clock,
            controller: Mutex::new(Controller::new(self.settings)),
        });
        AdaptiveLimit { inner }
    }
}

impl AdaptiveLimit {
    /// A limit that goes by latency.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::resilience::{AdaptiveLimit, AdaptivePermit};
    /// use cleanbreak::Clock;
    ///
    /// let clock = Clock::manual();
    /// let limit = AdaptiveLimit::gradient().initial(16).clock(&clock).build();
    /// let mut volley = |latency| {
    ///     let all = 0..limit.limit();
    ///     let permits: Vec<_> = all.map(|_| limit.try_acquire().unwrap()).collect();
    ///     clock.advance(Duration::from_millis(latency));
    ///     permits.into_iter().for_each(AdaptivePermit::success);
    ///     limit.limit()
    /// };
    /// let calm = [volley(100), volley(100), volley(100)];
    /// assert!(calm[2] > 16); // as quick as ever, with all permits in use
    /// let slow = [volley(300), volley(300), volley(300)];
    /// assert!(slow[2] < calm[2]); // they queue up on the other side
    /// ```
    pub fn gradient() -> AdaptiveLimitBuilder {
        AdaptiveLimitBuilder::new(Algorithm::Gradient {
            tolerance: 1.2,
            probe_every: 100,
        })
    }

    /// A limit that goes by signs of overload: one more after each window without, half after one.
    pub fn aimd() -> AdaptiveLimitBuilder {
        AdaptiveLimitBuilder::new(Algorithm::Aimd)
    }

    /// Takes a permit. Waits for it, in the order of arrival, until `token` is cancelled.
    ///
    /// # Errors
    ///
    /// Those of [`Bulkhead::acquire`](super::Bulkhead::acquire).
    #[track_caller]
    pub fn acquire(&self, token: &CancelToken) -> Result<AdaptivePermit<'_>, AcquireError> {
        fault::pass(At::AdaptiveAcquire);
        acquire(&self.inner.permits, token, None)?;
        Ok(self.permit())
    }

    /// As [`acquire`](Self::acquire), for `timeout` at most, by the token's clock.
    ///
    /// # Errors
    ///
    /// Those of [`Bulkhead::acquire_timeout`](super::Bulkhead::acquire_timeout).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::resilience::AdaptiveLimit;
    /// use cleanbreak::{CancelToken, Clock};
    ///
    /// let token = CancelToken::with_clock(&Clock::manual());
    /// let limit = AdaptiveLimit::aimd().initial(1).build();
    /// let only = limit.acquire_timeout(&token, Duration::from_secs(1)).unwrap();
    /// assert!(limit.acquire_timeout(&token, Duration::ZERO).unwrap_err().is_timeout());
    /// drop(only);
    /// assert!(limit.acquire_timeout(&token, Duration::ZERO).is_ok());
    /// ```
    #[track_caller]
    pub fn acquire_timeout(
        &self,
        token: &CancelToken,
        timeout: Duration,
    ) -> Result<AdaptivePermit<'_>, AcquireError> {
        let deadline = token.clock().deadline_after(timeout);
        fault::pass(At::AdaptiveAcquire);
        acquire(&self.inner.permits, token, deadline)?;
        Ok(self.permit())
    }

    /// Takes a permit if one is free and nobody waits for it.
    ///
    /// # Errors
    ///
    /// [`Full`](AcquireError::Full) or [`Closed`](AcquireError::Closed).
    pub fn try_acquire(&self) -> Result<AdaptivePermit<'_>, AcquireError> {
        fault::pass(At::AdaptiveAcquire);
        self.inner.permits.try_acquire()?;
        Ok(self.permit())
    }

    /// Runs `operation` with a permit. `Ok` is a success whose latency counts; an error says
    /// nothing about the load. See [`call_with`](Self::call_with).
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] with the reason of [`acquire`](Self::acquire) if it did not run;
    /// [`CallError::Failed`] with its own error if it did.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::resilience::AdaptiveLimit;
    /// use cleanbreak::CancelToken;
    ///
    /// let limit = AdaptiveLimit::aimd().initial(10).build();
    /// let token = CancelToken::new();
    /// assert_eq!(limit.call(&token, |_| Ok::<_, &str>(7)).unwrap(), 7);
    /// let busy = limit.call(&token, |_| Err::<(), _>("503: busy")).unwrap_err();
    /// assert_eq!(busy.into_failure(), Some("503: busy"));
    /// assert_eq!(limit.limit(), 10); // nobody said that this was a sign of overload: see `call_with`
    /// ```
    #[track_caller]
    pub fn call<T, E>(
        &self,
        token: &CancelToken,
        operation: impl FnOnce(&CancelToken) -> Result<T, E>,
    ) -> Result<T, CallError<AcquireError, E>> {
        self.call_with(token, operation, |result| match result {
            Ok(_) => AdaptiveOutcome::Success,
            Err(_) => AdaptiveOutcome::Ignored,
        })
    }

    /// Runs `operation` with a permit, and has `judge` say what its result means for the load. A
    /// panic says nothing.
    ///
    /// # Errors
    ///
    /// Those of [`call`](Self::call).
    #[track_caller]
    pub fn call_with<T, E>(
        &self,
        token: &CancelToken,
        operation: impl FnOnce(&CancelToken) -> Result<T, E>,
        judge: impl FnOnce(&Result<T, E>) -> AdaptiveOutcome,
    ) -> Result<T, CallError<AcquireError, E>> {
        let permit = self.acquire(token).map_err(CallError::Refused)?;
        let result = operation(token);
        permit.report(judge(&result));
        result.map_err(CallError::Failed)
    }

    /// Gives no permits any more, and refuses those who wait. `true` for the first call.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::resilience::AdaptiveLimit;
    ///
    /// let limit = AdaptiveLimit::aimd().build();
    /// let permit = limit.try_acquire().unwrap();
    /// assert!(limit.close());
    /// assert!(limit.is_closed() && !limit.close()); // closed before
    /// assert!(limit.try_acquire().unwrap_err().is_closed());
    /// permit.success(); // of use until now
    /// ```
    pub fn close(&self) -> bool {
        self.inner.permits.close()
    }

    /// Whether it has been closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.inner.permits.counts().closed
    }

    /// How many calls there may be at a time, now.
    #[must_use]
    pub fn limit(&self) -> usize {
        self.inner.permits.counts().capacity
    }

    /// How many permits are in use: more than the limit, for a while after that has shrunk.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.inner.permits.counts().in_use
    }

    /// How many wait for a permit. Takes the lock of the queue.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::resilience::AdaptiveLimit;
    /// use cleanbreak::CancelToken;
    ///
    /// let limit = AdaptiveLimit::aimd().initial(1).build();
    /// let only = limit.try_acquire().unwrap();
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| drop(limit.acquire(&CancelToken::never())));
    ///     while limit.waiting() != 1 { std::thread::yield_now() }
    ///     drop(only); // and so its
    /// });
    /// assert_eq!((limit.waiting(), limit.in_use()), (0, 0));
    /// ```
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.inner.permits.waiting()
    }

    fn permit(&self) -> AdaptivePermit<'_> {
        AdaptivePermit {
            inner: &self.inner,
            started: self.inner.clock.now(),
            outcome: AdaptiveOutcome::Ignored,
        }
    }
}

impl Inner {
    fn end(&self, started: Instant, outcome: AdaptiveOutcome) {
        fault::pass(At::AdaptiveReport);
        if outcome != AdaptiveOutcome::Ignored {
            let now = self.clock.now();
            let counts = self.permits.counts();
            let mut controller = self.controller.lock();
            controller.sample(Sample {
                started,
                now,
                in_use: counts.in_use,
                outcome,
            });
            // Under the lock, so that of two changes the later one stays.
            let limit = controller.limit();
            if limit != self.permits.counts().capacity {
                self.permits.resize(limit);
                observe::adaptive_limit(self.name.as_ref(), limit);
            }
        }
        self.permits.release();
    }
}

// A panic never leaves one half changed: no code of the user runs under a lock of ours.
impl std::panic::UnwindSafe for AdaptiveLimit {}
impl std::panic::RefUnwindSafe for AdaptiveLimit {}
impl std::panic::UnwindSafe for AdaptivePermit<'_> {}
impl std::panic::RefUnwindSafe for AdaptivePermit<'_> {}

impl fmt::Debug for AdaptiveLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptiveLimit")
            .field("limit", &self.limit())
            .field("in_use", &self.in_use())
            .finish_non_exhaustive()
    }
}

/// The right to make one call, and to say how it went; from an [`AdaptiveLimit`]. Dropped without
/// a word, as in a panic, it says nothing.
///
/// # Examples
///
/// ```
/// use cleanbreak::resilience::{AdaptiveLimit, AdaptiveOutcome};
///
/// let limit = AdaptiveLimit::aimd().initial(8).build();
/// limit.try_acquire().unwrap().success();
/// limit.try_acquire().unwrap().report(AdaptiveOutcome::Ignored); // as "not found"
/// drop(limit.try_acquire().unwrap()); // an early return, say
/// assert_eq!(limit.limit(), 8);
/// let (one, two) = (limit.try_acquire().unwrap(), limit.try_acquire().unwrap());
/// one.overloaded();
/// two.overloaded(); // of the same volley: no second cut
/// assert_eq!((limit.limit(), limit.in_use()), (4, 0));
/// ```
#[must_use = "the permit is given back when it is dropped"]
pub struct AdaptivePermit<'a> {
    inner: &'a Inner,
    started: Instant,
    outcome: AdaptiveOutcome,
}

impl AdaptivePermit<'_> {
    /// The call was served: its latency, from the permit until now, counts.
    pub fn success(self) {
        self.report(AdaptiveOutcome::Success);
    }

    /// The call was turned away or timed out for lack of capacity: the limit is cut, unless it has
    /// been since the call began.
    pub fn overloaded(self) {
        self.report(AdaptiveOutcome::Overloaded);
    }

    /// Says how the call went, and gives the permit back.
    pub fn report(mut self, outcome: AdaptiveOutcome) {
        self.outcome = outcome;
    }
}

impl Drop for AdaptivePermit<'_> {
    fn drop(&mut self) {
        self.inner.end(self.started, self.outcome);
    }
}

impl fmt::Debug for AdaptivePermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdaptivePermit").finish_non_exhaustive()
    }
}
