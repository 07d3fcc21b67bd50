//! So many calls at a time.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::call::CallError;
use super::list::ShownBulkhead;
use super::permits::{MOST, Permits};
use super::semaphore::{AcquireError, acquire};
use crate::cancel::CancelToken;
use crate::clock::Instant;
use crate::fault::{self, At};
use crate::observe::BulkheadFacts;
use crate::sync::Arc;

/// How many may wait when nothing else is said.
const QUEUE: usize = 1024;

/// Lets so many calls through at a time, so that one slow dependency cannot take every thread; the
/// others wait in a bounded queue, or are refused.
///
/// Unlike a semaphore made of a mutex and a condition variable, a wait ends with the caller's
/// token, the queue is bounded, and permits are handed over in the order of arrival. Clones are the
/// same bulkhead.
///
/// # Fairness
///
/// First come, first served, without barging: while somebody waits, [`try_acquire`] and newcomers
/// get nothing, and a permit that comes free belongs to the first in the queue from that moment. So
/// nobody starves; the price is that a permit lies idle while its owner wakes up, some
/// microseconds, which a barging lock would have used. Who gives up, or is cancelled, leaves the
/// queue; one to whom a permit was handed in the same moment has it.
///
/// # What is not guaranteed
///
/// A permit that is leaked (`mem::forget`) is gone. A thread that takes a second permit while it has
/// one can wait for itself.
///
/// # Performance
///
/// A free permit: one atomic exchange to take it and one to give it back, and no allocation; half
/// the time of a semaphore made of a mutex and a condition variable. A wait costs a lock, a few
/// allocations and two context switches.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::CancelToken;
/// use cleanbreak::resilience::Bulkhead;
///
/// let token = CancelToken::new();
/// let upstream = Bulkhead::new(2).with_queue(1);
/// let sum = upstream.call(&token, |_token| Ok::<_, std::io::Error>(1 + 1));
/// assert_eq!(sum.unwrap(), 2);
///
/// let one = upstream.acquire(&token).unwrap();
/// let two = upstream.try_acquire().unwrap();
/// assert!(upstream.try_acquire().unwrap_err().is_full());
/// let late = upstream.acquire_timeout(&token, Duration::from_millis(1));
/// assert!(late.unwrap_err().is_timeout());
/// drop(one); // given back
/// assert_eq!((upstream.in_use(), upstream.capacity()), (1, 2));
///
/// upstream.close();
/// assert!(upstream.acquire(&token).unwrap_err().is_closed());
/// drop(two); // of use until now
/// token.cancel();
/// assert!(upstream.acquire(&token).unwrap_err().is_cancelled());
/// ```
///
/// [`try_acquire`]: Self::try_acquire
#[derive(Clone)]
pub struct Bulkhead {
    permits: Arc<Permits>,
    facts: BulkheadFacts,
    /// Its place in the list; `None` for one that is not shown.
    shown: Option<Arc<ShownBulkhead>>,
}

impl Bulkhead {
    /// So many `permits`, and 1,024 places to wait for one. Zero permits let nobody through until
    /// a [`resize`](Self::resize).
    ///
    /// # Panics
    ///
    /// If there are more than 2³⁰ − 1.
    #[must_use]
    #[track_caller]
    pub fn new(permits: usize) -> Self {
        Self::build(permits, QUEUE)
    }

    /// The same number of permits, with `places` to wait for one, as a new bulkhead. With none,
    /// [`acquire`](Self::acquire) never waits.
    #[must_use]
    #[track_caller]
    pub fn with_queue(self, places: usize) -> Self {
        let facts = self.facts.clone();
        let built = Self::build(self.capacity(), places);
        if let (Some(before), Some(shown)) = (&self.shown, &built.shown) {
            before.tag.rename(&shown.tag);
        }
        Self { facts, ..built }
    }

    /// What it is called in metrics and lists; without a name it is in no metrics.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::Bulkhead;
    ///
    /// let disk = Bulkhead::new(1);
    /// let backup = disk.clone().named("backup"); // the same permits, under a name of their own
    /// let permit = backup.try_acquire().unwrap();
    /// assert!(disk.try_acquire().unwrap_err().is_full());
    /// ```
    #[must_use]
    pub fn named(mut self, name: &str) -> Self {
        let name = name.into();
        self.facts = BulkheadFacts::new(Some(&name));
        if let Some(shown) = &self.shown {
            shown.tag.name(&name);
        }
        self
    }

    /// For one that is the library's own affair.
    #[cfg(all(feature = "debug-http", unix))]
    pub(crate) fn unlisted(mut self) -> Self {
        self.shown = None;
        self
    }

    #[track_caller]
    fn build(permits: usize, places: usize) -> Self {
        assert!(permits <= MOST, "a bulkhead has 2^30 - 1 permits at most");
        let permits = Arc::new(Permits::new(permits, places));
        let shown = ShownBulkhead::enlist(&permits, Location::caller());
        Self {
            permits,
            facts: BulkheadFacts::new(None),
            shown: Some(shown),
        }
    }

    /// Takes a permit. Waits for it, in the order of arrival, until `token` is cancelled or the
    /// bulkhead is closed.
    ///
    /// # Errors
    ///
    /// [`Full`](AcquireError::Full) if all permits and all places to wait are taken;
    /// [`Closed`](AcquireError::Closed) or [`Cancelled`](AcquireError::Cancelled), before or while
    /// it waits. A cancelled token gets no permit even if one is free.
    #[track_caller]
    pub fn acquire(&self, token: &CancelToken) -> Result<BulkheadPermit<'_>, AcquireError> {
        self.acquire_until(token, None)
    }

    /// As [`acquire`](Self::acquire), for `timeout` at most, by the token's clock. Too long to
    /// count is for ever.
    ///
    /// # Errors
    ///
    /// Those of `acquire`, and [`Timeout`](AcquireError::Timeout).
    #[track_caller]
    pub fn acquire_timeout(
        &self,
        token: &CancelToken,
        timeout: Duration,
    ) -> Result<BulkheadPermit<'_>, AcquireError> {
        self.acquire_until(token, token.clock().deadline_after(timeout))
    }

    /// As [`acquire`](Self::acquire), until `deadline` of the token's clock at most.
    ///
    /// # Errors
    ///
    /// Those of [`acquire_timeout`](Self::acquire_timeout).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{Bulkhead, CancelToken, Clock};
    ///
    /// let clock = Clock::manual();
    /// let token = CancelToken::with_clock(&clock);
    /// let bulkhead = Bulkhead::new(1);
    /// let by = clock.deadline_after(Duration::from_secs(1)).unwrap();
    /// let permit = bulkhead.acquire_deadline(&token, by).unwrap();
    /// clock.advance(Duration::from_secs(1));
    /// assert!(bulkhead.acquire_deadline(&token, by).unwrap_err().is_timeout());
    /// ```
    #[track_caller]
    pub fn acquire_deadline(
        &self,
        token: &CancelToken,
        deadline: Instant,
    ) -> Result<BulkheadPermit<'_>, AcquireError> {
        self.acquire_until(token, Some(deadline))
    }

    /// A permit, if one is free. That there is none is no refusal yet.
    #[inline]
    pub(super) fn grab(&self) -> Option<BulkheadPermit<'_>> {
        let taken = self.permits.try_acquire();
        taken.is_ok().then(|| self.permit())
    }

    #[track_caller]
    #[inline]
    pub(super) fn acquire_until(
        &self,
        token: &CancelToken,
        deadline: Option<Instant>,
    ) -> Result<BulkheadPermit<'_>, AcquireError> {
        fault::pass(At::BulkheadAcquire);
        acquire(&self.permits, token, deadline).inspect_err(|_| self.facts.refused())?;
        Ok(self.permit())
    }

    /// Takes a permit if one is free and nobody waits for it.
    ///
    /// # Errors
    ///
    /// [`Full`](AcquireError::Full) or [`Closed`](AcquireError::Closed).
    #[inline]
    pub fn try_acquire(&self) -> Result<BulkheadPermit<'_>, AcquireError> {
        fault::pass(At::BulkheadAcquire);
        let taken = self.permits.try_acquire();
        taken.inspect_err(|_| self.facts.refused())?;
        Ok(self.permit())
    }

    /// Runs `operation` with a permit, which is given back when it ends, also by a panic.
    ///
    /// # Errors
    ///
    /// [`CallError::Refused`] with the reason of [`acquire`](Self::acquire) if it did not run;
    /// [`CallError::Failed`] with its own error if it did. To keep a closure that is refused,
    /// `acquire` first.
    #[track_caller]
    pub fn call<T, E>(
        &self,
        token: &CancelToken,
        operation: impl FnOnce(&CancelToken) -> Result<T, E>,
    ) -> Result<T, CallError<AcquireError, E>> {
        let _permit = self.acquire(token).map_err(CallError::Refused)?;
        operation(token).map_err(CallError::Failed)
    }

    /// Sets how many permits there are. More are handed to those who wait; with fewer, those in use
    /// stay with their owners, and what is given back is not given out until the number fits.
    ///
    /// # Panics
    ///
    /// If there are more than 2³⁰ − 1.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::Bulkhead;
    ///
    /// let bulkhead = Bulkhead::new(1);
    /// let one = bulkhead.try_acquire().unwrap();
    /// bulkhead.resize(2);
    /// let two = bulkhead.try_acquire().unwrap();
    /// bulkhead.resize(1); // takes nothing away
    /// assert_eq!((bulkhead.capacity(), bulkhead.in_use()), (1, 2));
    /// drop(one); // is not given out again
    /// assert!(bulkhead.try_acquire().is_err());
    /// drop(two);
    /// assert!(bulkhead.try_acquire().is_ok());
    /// ```
    pub fn resize(&self, permits: usize) {
        assert!(permits <= MOST, "a bulkhead has 2^30 - 1 permits at most");
        self.permits.resize(permits);
    }

    /// Gives no permits any more, and refuses those who wait. `true` for the first call. Permits in
    /// use stay with their owners.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{Bulkhead, CancelToken};
    ///
    /// let bulkhead = Bulkhead::new(0);
    /// std::thread::scope(|scope| {
    ///     let waits = scope.spawn(|| bulkhead.acquire(&CancelToken::never()).map(drop));
    ///     while bulkhead.waiting() == 0 { std::thread::yield_now() }
    ///     assert!(bulkhead.close());
    ///     assert!(waits.join().unwrap().unwrap_err().is_closed());
    /// });
    /// assert!(bulkhead.is_closed() && !bulkhead.close()); // closed before
    /// ```
    pub fn close(&self) -> bool {
        self.permits.close()
    }

    /// Whether it has been closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        self.permits.counts().closed
    }

    /// How many permits there are.
    #[must_use]
    pub fn capacity(&self) -> usize {
        self.permits.counts().capacity
    }

    /// How many permits are in use: more than there are, after a [`resize`](Self::resize) to fewer.
    #[must_use]
    pub fn in_use(&self) -> usize {
        self.permits.counts().in_use
    }

    /// How many wait for a permit. Takes the lock of the queue.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{Bulkhead, CancelToken};
    ///
    /// let bulkhead = Bulkhead::new(0);
    /// let token = CancelToken::new();
    /// std::thread::scope(|scope| {
    ///     scope.spawn(|| bulkhead.acquire(&token).map(drop));
    ///     while bulkhead.waiting() != 1 { std::thread::yield_now() }
    ///     token.cancel(); // it leaves the queue
    /// });
    /// assert_eq!(bulkhead.waiting(), 0);
    /// ```
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.permits.waiting()
    }

    #[inline]
    fn release(&self) {
        fault::pass(At::BulkheadRelease);
        self.permits.release();
        self.facts.released();
    }

    #[inline]
    fn permit(&self) -> BulkheadPermit<'_> {
        self.facts.acquired();
        BulkheadPermit(Some(Source::Borrowed(self)))
    }
}

// A panic never leaves one half changed: no code of the user runs under a lock of ours.
impl std::panic::UnwindSafe for Bulkhead {}
impl std::panic::RefUnwindSafe for Bulkhead {}
impl std::panic::UnwindSafe for BulkheadPermit<'_> {}
impl std::panic::RefUnwindSafe for BulkheadPermit<'_> {}

impl fmt::Debug for Bulkhead {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.permits.counts();
        f.debug_struct("Bulkhead")
            .field("capacity", &counts.capacity)
            .field("in_use", &counts.in_use)
            .field("closed", &counts.closed)
            .finish_non_exhaustive()
    }
}

/// The right to make one call; given back when it is dropped. From a [`Bulkhead`].
///
/// # Examples
///
/// ```
/// use cleanbreak::Bulkhead;
///
/// let bulkhead = Bulkhead::new(1);
/// let permit = bulkhead.try_acquire().unwrap();
/// assert!(bulkhead.try_acquire().is_err());
/// drop(permit);
/// assert!(bulkhead.try_acquire().is_ok());
/// ```
#[must_use = "the permit is given back when it is dropped"]
pub struct BulkheadPermit<'a>(Option<Source<'a>>);

/// Borrowed, it costs no reference count. `None` only in a permit that was turned into another.
enum Source<'a> {
    Borrowed(&'a Bulkhead),
    Owned(Bulkhead),
}

impl BulkheadPermit<'_> {
    /// The same permit, not bound to the bulkhead's handle: to send it to a thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::resilience::Bulkhead;
    ///
    /// let bulkhead = Bulkhead::new(1);
    /// let permit = bulkhead.try_acquire().unwrap().into_owned();
    /// assert_eq!(bulkhead.in_use(), 1);
    /// std::thread::spawn(move || drop(permit)).join().unwrap();
    /// assert_eq!(bulkhead.in_use(), 0);
    /// ```
    pub fn into_owned(mut self) -> BulkheadPermit<'static> {
        // What is dropped here is empty.
        BulkheadPermit(self.0.take().map(|source| match source {
            Source::Borrowed(bulkhead) => Source::Owned(bulkhead.clone()),
            Source::Owned(bulkhead) => Source::Owned(bulkhead),
        }))
    }
}

impl Drop for BulkheadPermit<'_> {
    #[inline]
    fn drop(&mut self) {
        match &self.0 {
            Some(Source::Borrowed(bulkhead)) => bulkhead.release(),
            Some(Source::Owned(bulkhead)) => bulkhead.release(),
            None => {}
        }
    }
}

impl fmt::Debug for BulkheadPermit<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BulkheadPermit").finish_non_exhaustive()
    }
}
