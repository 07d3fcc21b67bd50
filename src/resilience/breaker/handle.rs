//! The breaker itself.

use std::fmt;
use std::time::Duration;

use super::super::call::CallError;
use super::builder::BreakerBuilder;
use super::err::Rejected;
use super::list;
use super::permit::{Outcome, Pass, Permit};
use super::shared::Shared;
use super::state::{Snapshot, State};
use crate::cancel::{CancelKind, CancelToken};
use crate::clock::Clock;
use crate::fault::{self, At};
use crate::sync::Arc;

/// A circuit breaker; see the [module](super) for its states and what is promised.
///
/// A handle: clones are the same breaker. Make one for each thing that is called, and share it
/// between all threads that call it.
///
/// # Performance
///
/// A call through a closed breaker is one atomic load when the window is full of good calls, else
/// one or two atomic operations on one word; no lock, no allocation, and the clock is read only if
/// the window goes by time or slow calls count. Failures, and all calls when half-open, take a lock.
/// A rejection when open is a few atomic operations and reads no clock.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::resilience::CallError;
/// use cleanbreak::resilience::breaker::State;
/// use cleanbreak::{Breaker, CancelToken, Clock};
///
/// let clock = Clock::manual();
/// let stock = Breaker::builder()
///     .failure_rate(0.5)
///     .count_window(10)
///     .minimum_calls(4)
///     .open_for(Duration::from_secs(30))
///     .clock(&clock)
///     .build()
///     .unwrap();
///
/// let token = CancelToken::new();
/// for answer in [Ok(7), Ok(7), Err("reset"), Err("reset")] {
///     assert_eq!(stock.call(&token, |_| answer), answer.map_err(CallError::Failed));
/// }
/// assert_eq!(stock.state(), State::Open); // two of four: the threshold is reached
/// let rejected = stock.call(&token, |_| Ok::<_, &str>(7)).unwrap_err();
/// assert!(rejected.is_refused()); // and nothing was called
/// assert_eq!(stock.remaining_open(), Some(Duration::from_secs(30)));
///
/// clock.advance(Duration::from_secs(30));
/// assert_eq!(stock.call(&token, |_| Ok::<_, &str>(7)), Ok(7)); // the probe
/// assert_eq!(stock.state(), State::Closed);
/// ```
#[derive(Clone)]
pub struct Breaker {
    shared: Arc<Shared>,
}

impl Breaker {
    /// The settings of a new breaker.
    pub fn builder() -> BreakerBuilder {
        BreakerBuilder::new()
    }

    pub(super) fn new(shared: Shared) -> Self {
        let shared = Arc::new(shared);
        // Its own, so nobody else has set it.
        shared.listed.set(list::enlist(&shared)).ok();
        Self { shared }
    }

    /// Calls `op` with `token`, if the breaker lets it through. Every `Err` is a failure, but for
    /// what [`call_with`](Self::call_with) says about cancellation; a panic in `op` is one too, and
    /// goes on.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] if it was not called, with the reason of [`acquire`](Self::acquire);
    /// [`CallError::Failed`] with its error.
    #[inline]
    pub fn call<T, E>(
        &self,
        token: &CancelToken,
        op: impl FnOnce(&CancelToken) -> Result<T, E>,
    ) -> Result<T, CallError<Rejected, E>> {
        let classify = |result: &Result<T, E>| match result {
            Ok(_) => Outcome::Success,
            Err(_) => Outcome::Failure,
        };
        self.call_with(token, classify, op)
    }

    /// As [`call`](Self::call), with `classify` to say what a result means: an error that shows that
    /// the other side works ("not found") is a success, an answer may be a failure.
    ///
    /// An error that `classify` calls a failure is ignored if `token` has been cancelled: the call was
    /// told to stop, and says nothing about what it called. That goes for
    /// [`CancelKind::Cancelled`]; a deadline that passed is a failure, since there was no answer in
    /// time.
    ///
    /// # Errors
    ///
    /// As `call`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::resilience::breaker::Outcome;
    /// use cleanbreak::{Breaker, CancelToken};
    ///
    /// let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    /// let classify = |status: &Result<u16, &str>| match status {
    ///     Ok(500..) => Outcome::Failure,
    ///     Ok(_) | Err("not found") => Outcome::Success,
    ///     Err("bad request") => Outcome::Ignored, // our own fault
    ///     Err(_) => Outcome::Failure,
    /// };
    /// let token = CancelToken::new();
    /// for harmless in [Ok(200), Err("not found"), Err("bad request")] {
    ///     assert!(!breaker.call_with(&token, classify, |_| harmless).is_err_and(|e| e.is_refused()));
    /// }
    /// let child = token.child();
    /// let stopped = breaker.call_with(&child, classify, |token| {
    ///     token.cancel();
    ///     Err("interrupted")
    /// });
    /// assert!(stopped.is_err());
    /// assert_eq!(breaker.snapshot().counts.failures, 0); // it was told to stop
    /// assert_eq!(breaker.call_with(&token, classify, |_| Ok(503)), Ok(503));
    /// assert!(breaker.call_with(&token, classify, |_| Ok(200)).is_err()); // open
    /// ```
    #[inline]
    pub fn call_with<T, E>(
        &self,
        token: &CancelToken,
        classify: impl FnOnce(&Result<T, E>) -> Outcome,
        op: impl FnOnce(&CancelToken) -> Result<T, E>,
    ) -> Result<T, CallError<Rejected, E>> {
        let pass = Pass::new(&self.shared)?;
        fault::run(At::BreakerCall);
        let result = op(token);
        let mut outcome = classify(&result);
        if outcome == Outcome::Failure && result.is_err() && was_told_to_stop(token) {
            outcome = Outcome::Ignored;
        }
        pass.report(outcome);
        result.map_err(CallError::Failed)
    }

    /// The right to make one call, for what does not fit in a closure. Never waits.
    ///
    /// # Errors
    ///
    /// [`Rejected`], if the call must not be made.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::Breaker;
    ///
    /// let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    /// let permit = breaker.acquire().unwrap();
    /// permit.failure(); // a permit that is only dropped says nothing
    /// assert!(breaker.acquire().is_err());
    /// ```
    #[inline]
    pub fn acquire(&self) -> Result<Permit<'_>, Rejected> {
        Permit::new(&self.shared)
    }

    /// Whether a call would be let through now. It takes no probe's place.
    #[inline]
    pub(in super::super) fn look(&self) -> Result<(), Rejected> {
        self.shared.look()
    }

    /// A permit for the time of one function.
    #[inline]
    pub(in super::super) fn pass(&self) -> Result<Pass<'_>, Rejected> {
        Pass::new(&self.shared)
    }

    /// The state, as the last call, report or hand left it: open until a call comes after the open
    /// time.
    #[must_use]
    pub fn state(&self) -> State {
        self.snapshot().state
    }

    /// State and counts of one moment.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        self.shared.snapshot()
    }

    /// How long it is still open: zero if the next call is a probe, `None` if it is not open, or for
    /// ever.
    #[must_use]
    pub fn remaining_open(&self) -> Option<Duration> {
        self.snapshot().remaining_open
    }

    /// What it was named.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::Breaker;
    ///
    /// assert_eq!(Breaker::builder().name("stock").build().unwrap().name(), "stock");
    /// assert_eq!(Breaker::builder().build().unwrap().name(), "breaker");
    /// ```
    #[must_use]
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// The clock that it goes by.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{Breaker, Clock};
    ///
    /// let clock = Clock::manual();
    /// let breaker = Breaker::builder().clock(&clock).build().unwrap();
    /// assert_eq!(breaker.clock().now(), clock.now()); // for `Rejected::open_until`
    /// ```
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.shared.clock
    }

    /// Closes it, from whatever state, with nothing counted and the open times at their beginning.
    /// Calls that are on their way have no effect on it any more.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::Breaker;
    /// use cleanbreak::resilience::breaker::State;
    ///
    /// let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    /// let (one, late) = (breaker.acquire().unwrap(), breaker.acquire().unwrap());
    /// one.failure();
    /// breaker.reset();
    /// late.failure(); // was on its way since before: has no effect
    /// assert_eq!((breaker.state(), breaker.snapshot().counts.calls), (State::Closed, 0));
    /// ```
    pub fn reset(&self) {
        self.shared.set(State::Closed);
    }

    /// Opens it as if a threshold had been reached: for what other evidence says. No effect if it is
    /// open already.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{Breaker, Clock};
    /// use cleanbreak::resilience::breaker::State;
    ///
    /// let clock = Clock::manual();
    /// let breaker = Breaker::builder().open_for(Duration::from_secs(30)).clock(&clock).build().unwrap();
    /// breaker.trip(); // a health check failed, say
    /// assert!(breaker.acquire().is_err());
    /// clock.advance(Duration::from_secs(30));
    /// breaker.acquire().unwrap().success(); // unlike `force_open`, it recovers by itself
    /// assert_eq!(breaker.state(), State::Closed);
    /// ```
    pub fn trip(&self) {
        self.shared.set(State::Open);
    }

    /// Rejects every call until [`reset`](Self::reset) or another state is set.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{Breaker, Clock};
    ///
    /// let clock = Clock::manual();
    /// let breaker = Breaker::builder().clock(&clock).build().unwrap();
    /// breaker.force_open(); // maintenance on the other side
    /// clock.advance(Duration::from_secs(86_400));
    /// assert!(breaker.acquire().is_err()); // for as long as nobody says otherwise
    /// breaker.reset();
    /// assert!(breaker.acquire().is_ok());
    /// ```
    pub fn force_open(&self) {
        self.shared.set(State::ForcedOpen);
    }

    /// Lets every call through and counts nothing, until [`reset`](Self::reset) or another state is
    /// set.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::Breaker;
    ///
    /// let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    /// breaker.trip();
    /// breaker.disable(); // whatever it costs, call
    /// for _ in 0..100 { breaker.acquire().unwrap().failure() }
    /// assert_eq!(breaker.snapshot().counts.calls, 0);
    /// ```
    pub fn disable(&self) {
        self.shared.set(State::Disabled);
    }

    /// Lets every call through and counts, but never opens, until [`reset`](Self::reset) or another
    /// state is set: to try thresholds out.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::Breaker;
    ///
    /// let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
    /// breaker.metrics_only();
    /// for _ in 0..100 { breaker.acquire().unwrap().failure() } // goes through, and
    /// assert_eq!(breaker.snapshot().counts.consecutive_failures, 100); // is counted
    /// ```
    pub fn metrics_only(&self) {
        self.shared.set(State::MetricsOnly);
    }
}

#[cold]
fn was_told_to_stop(token: &CancelToken) -> bool {
    token.kind() == Some(CancelKind::Cancelled)
}

// A panic never leaves one half changed: no code of the user runs under a lock of ours.
impl std::panic::UnwindSafe for Breaker {}
impl std::panic::RefUnwindSafe for Breaker {}

impl fmt::Debug for Breaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let snapshot = self.snapshot();
        f.debug_struct("Breaker")
            .field("name", &self.shared.name)
            .field("state", &snapshot.state)
            .field("counts", &snapshot.counts)
            .finish_non_exhaustive()
    }
}
