//! A second attempt when the first one is slow.

use std::convert::Infallible;
use std::fmt;
use std::time::Duration;

use crossbeam_channel::{RecvTimeoutError, Sender, unbounded};

use super::latency::Latencies;
use crate::cancel::{CancelToken, Cancelled};
use crate::clock::Instant;
use crate::fault::{self, At};
use crate::group::{Group, GroupBuilder, SpawnError, Straggler, ThreadCache};
use crate::observe;
use crate::sync::{Arc, Mutex};
use crate::threads::ThreadError;

/// Starts another attempt when the one before is slow. The first success wins; the others are told
/// by their token and joined.
///
/// It cuts the tail of the latencies for a few percent more load, as in Dean and Barroso, [The Tail
/// at Scale](https://research.google/pubs/the-tail-at-scale/) (2013). The operation must bear being
/// run twice. A budget bounds the extra load: in an outage, when every call is slow, it does not
/// double. Clones are the same policy, with one budget.
///
/// # Semantics
///
/// * An attempt that fails while no other runs ends the call with its error: to try again is a
///   retry's business. While others run, the call waits for them.
/// * A panic of an attempt cancels the others and comes out when they have ended.
/// * A call returns when all its attempts have ended: one that ignores its token holds it up, and
///   is reported, as a [straggler of a group](crate::group::Straggler).
/// * A success that comes second is dropped.
///
/// # Performance
///
/// The attempts run on threads, so that the caller can watch them: a call starts and joins one, some
/// 30–100 µs, or borrows a warm one from a [`ThreadCache`](crate::ThreadCache), which costs two
/// context switches. For operations that take milliseconds.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicUsize, Ordering};
/// use std::time::Duration;
/// use cleanbreak::CancelToken;
/// use cleanbreak::resilience::Hedge;
///
/// let replicas = AtomicUsize::new(0);
/// let read = |token: &CancelToken| match replicas.fetch_add(1, Ordering::SeqCst) {
///     0 => token.sleep(Duration::from_secs(3600)).map(|()| "slow"), // told, and so gives up
///     _ => Ok("quick"),
/// };
/// let hedge = Hedge::after(Duration::from_millis(5)).build();
/// assert_eq!(hedge.call(&CancelToken::new(), read).unwrap(), "quick"); // not in an hour
/// assert_eq!(hedge.stats().hedges, 1);
///
/// let patient = Hedge::after(Duration::from_secs(3600)).build();
/// let failed = patient.call(&CancelToken::new(), |_| Err::<(), _>("refused"));
/// assert_eq!(failed.unwrap_err().into_errors(), ["refused"]); // at once
/// ```
#[derive(Clone)]
pub struct Hedge {
    inner: Arc<Inner>,
}

struct Inner {
    name: Arc<str>,
    group: GroupBuilder<Infallible>,
    delay: Delay,
    most: usize,
    /// In hundredths of a hedge for each call.
    percent: u64,
    reserve: u64,
    books: Mutex<Books>,
}

#[derive(Clone, Copy)]
enum Delay {
    Fixed(Duration),
    /// The measured one, or this while there is none.
    Measured(Duration),
}

struct Books {
    latencies: Latencies,
    /// In hundredths of a hedge.
    credit: u64,
    stats: HedgeStats,
}

/// One hedge in the unit of the credit.
const ONE: u64 = 100;

/// What a [`Hedge`] has done so far.
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Hedge};
///
/// let attempts = AtomicU32::new(0);
/// let hedge = Hedge::after(Duration::ZERO).build();
/// let answer = hedge.call(&CancelToken::new(), |token| match attempts.fetch_add(1, Ordering::SeqCst) {
///     0 => token.sleep(Duration::MAX).map(|()| "slow"),
///     _ => Ok("quick"),
/// });
/// assert_eq!(answer.unwrap(), "quick");
/// let stats = hedge.stats();
/// assert_eq!((stats.calls, stats.hedges, stats.refused), (1, 1, 0));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HedgeStats {
    /// Calls.
    pub calls: u64,
    /// Attempts beyond the first of a call. (One that was overtaken by a success on its way to a
    /// thread counts, although it did not run.)
    pub hedges: u64,
    /// Calls that such an attempt has won.
    pub won: u64,
    /// Hedges that were due, and that the budget did not allow.
    pub refused: u64,
}

/// The settings of a [`Hedge`]; from [`Hedge::after`] or [`Hedge::after_percentile`].
///
/// # Examples
///
/// ```
/// use std::sync::atomic::{AtomicU32, Ordering};
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock, Hedge, ThreadCache};
/// use crossbeam_channel::bounded;
///
/// let cache = ThreadCache::new();
/// let (release, held) = bounded(1);
/// let (tell, told) = bounded(1);
/// let hedge = Hedge::after(Duration::ZERO)
///     .name("quotes")
///     .max_hedges(2)
///     .budget(0, 1) // one in all
///     .cache(&cache)
///     .straggler_after(Duration::ZERO)
///     .on_straggler(move |late| {
///         tell.send(late[0].name.clone()).unwrap();
///         release.send("too late").unwrap();
///     })
///     .build();
/// let token = CancelToken::with_clock(&Clock::manual());
/// let attempts = AtomicU32::new(0);
/// let answer = hedge.call(&token, |_| match attempts.fetch_add(1, Ordering::SeqCst) {
///     0 => held.recv(), // deaf to its token: the call must wait for it, and says so
///     _ => {
///         while hedge.stats().refused == 0 { std::thread::yield_now() }
///         Ok("quick")
///     }
/// });
/// assert_eq!(answer.unwrap(), "quick");
/// assert_eq!(told.recv().unwrap(), "quotes");
/// let stats = hedge.stats();
/// assert_eq!((stats.hedges, stats.refused), (1, 1)); // the second one was beyond the budget
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until the policy is built"]
pub struct HedgeBuilder {
    name: Arc<str>,
    group: GroupBuilder<Infallible>,
    delay: Delay,
    percentile: f64,
    most: usize,
    percent: u64,
    reserve: u64,
}

impl HedgeBuilder {
    fn new(delay: Delay, percentile: f64) -> Self {
        Self {
            name: "hedge".into(),
            group: GroupBuilder::new().name("hedge").errors(),
            delay,
            percentile,
            most: 1,
            percent: 10,
            reserve: 10 * ONE,
        }
    }

    /// Names the threads of the attempts, and its metrics; "hedge" by default.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self.group = self.group.name(name);
        self
    }

    /// How many attempts there may be beyond the first of a call, each a delay after the one before;
    /// one by default.
    pub fn max_hedges(mut self, hedges: usize) -> Self {
        self.most = hedges;
        self
    }

    /// Allows `percent` hedges for a hundred calls, and `reserve` saved up from quiet times: over
    /// any number of calls there are no more than `reserve + calls · percent / 100`. Ten and ten by
    /// default; the reserve is there from the start.
    pub fn budget(mut self, percent: u32, reserve: u32) -> Self {
        self.percent = percent.into();
        self.reserve = u64::from(reserve) * ONE;
        self
    }

    /// Runs the attempts on warm threads of `cache`. Once that is dropped there are none, and calls
    /// fail with [`HedgeError::Thread`].
    pub fn cache(mut self, cache: &ThreadCache) -> Self {
        self.group = self.group.cache(cache);
        self
    }

    /// How long after they were told attempts that still run are reported; see
    /// [`GroupBuilder::straggler_after`].
    pub fn straggler_after(mut self, patience: Duration) -> Self {
        self.group = self.group.straggler_after(patience);
        self
    }

    /// What to do with such a report; see [`GroupBuilder::on_straggler`].
    pub fn on_straggler(mut self, report: impl Fn(&[Straggler]) + Send + Sync + 'static) -> Self {
        self.group = self.group.on_straggler(report);
        self
    }

    /// The policy.
    #[must_use]
    pub fn build(self) -> Hedge {
        // A reserve of less than one hedge could never save one up.
        let reserve = self.reserve.max(if self.percent > 0 { ONE } else { 0 });
        let books = Books {
            latencies: Latencies::new(self.percentile),
            credit: self.reserve,
            stats: HedgeStats::default(),
        };
        let inner = Inner {
            name: self.name,
            group: self.group,
            delay: self.delay,
            most: self.most,
            percent: self.percent,
            reserve,
            books: Mutex::new(books),
        };
        Hedge {
            inner: Arc::new(inner),
        }
    }
}

impl fmt::Debug for HedgeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HedgeBuilder")
            .field("max_hedges", &self.most)
            .finish_non_exhaustive()
    }
}

impl Hedge {
    /// Hedges after a fixed delay. Zero starts all attempts at once.
    pub fn after(delay: Duration) -> HedgeBuilder {
        HedgeBuilder::new(Delay::Fixed(delay), 0.0)
    }

    /// Hedges after the `percentile` of the latest latencies: 95 hedges about one call in twenty.
    /// `initial` is the delay until twenty calls have been measured.
    ///
    /// The latencies are those of the first attempts of the latest 256 calls that had a success,
    /// as far as they were seen: for one that lost, the time until then. The percentile is found
    /// anew every sixteen calls.
    ///
    /// # Panics
    ///
    /// If `percentile` is not between 0 and 100.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, Hedge};
    ///
    /// let (clock, millis) = (Clock::manual(), Duration::from_millis);
    /// let token = CancelToken::with_clock(&clock);
    /// let hedge = Hedge::after_percentile(95.0, millis(500)).build();
    /// assert_eq!(hedge.delay(), millis(500)); // nothing is known yet
    /// for took in 1..=20 {
    ///     hedge.call(&token, |_| Ok::<_, ()>(clock.advance(millis(took)))).unwrap();
    /// }
    /// assert_eq!(hedge.delay(), millis(19)); // 19 of 20 took no longer
    /// assert_eq!(hedge.stats().hedges, 0);
    /// ```
    pub fn after_percentile(percentile: f64, initial: Duration) -> HedgeBuilder {
        let valid = (0.0..=100.0).contains(&percentile);
        assert!(valid, "a percentile is between 0 and 100, not {percentile}");
        HedgeBuilder::new(Delay::Measured(initial), percentile)
    }

    /// Runs `operation`, and again if it is slow, on threads of its own; returns the first success,
    /// when all attempts have ended.
    ///
    /// # Panics
    ///
    /// With the payload of the first attempt that panicked.
    ///
    /// # Errors
    ///
    /// [`HedgeError::Failed`] with the errors of all attempts, in the order in which they came;
    /// [`HedgeError::Cancelled`] or [`HedgeError::Thread`] if none was started.
    #[track_caller]
    pub fn call<'env, T, E, F>(&self, token: &CancelToken, operation: F) -> Result<T, HedgeError<E>>
    where
        F: Fn(&CancelToken) -> Result<T, E> + Sync + 'env,
        T: Send + 'env,
        E: Send + 'env,
    {
        token.check().map_err(HedgeError::Cancelled)?;
        let inner = &*self.inner;
        inner.count_call();
        let race = inner
            .group
            .scope(token, |group| Ok(inner.race(group, &operation)));
        match race {
            Ok(result) => result,
            Err(never) => match never {},
        }
    }

    /// After which time a call would start its second attempt now.
    #[must_use]
    pub fn delay(&self) -> Duration {
        self.inner.delay()
    }

    /// What it has done so far.
    #[must_use]
    pub fn stats(&self) -> HedgeStats {
        self.inner.books.lock().stats
    }
}

/// An attempt has ended: with what; `None` if it panicked, or never started.
struct Ended<T, E> {
    attempt: usize,
    result: Option<Result<T, E>>,
}

/// Tells of the end of an attempt, whatever end that is.
struct Tell<T, E> {
    ended: Sender<Ended<T, E>>,
    attempt: usize,
    result: Option<Result<T, E>>,
}

impl<T, E> Tell<T, E> {
    fn with(mut self, result: Result<T, E>) {
        self.result = Some(result);
    }
}

impl<T, E> Drop for Tell<T, E> {
    fn drop(&mut self) {
        let (attempt, result) = (self.attempt, self.result.take());
        // Nobody listens any more to who comes second.
        self.ended.send(Ended { attempt, result }).ok();
    }
}

impl Inner {
    #[track_caller]
    fn race<'scope, T, E, F>(
        &self,
        group: &'scope Group<'scope, '_, Infallible>,
        operation: &'scope F,
    ) -> Result<T, HedgeError<E>>
    where
        F: Fn(&CancelToken) -> Result<T, E> + Sync,
        T: Send + 'scope,
        E: Send + 'scope,
    {
        let clock = group.token().clock();
        let (ended, ends) = unbounded::<Ended<T, E>>();
        let start = |attempt| {
            let tell = Tell {
                ended: ended.clone(),
                attempt,
                result: None,
            };
            group.spawn(move |token: &CancelToken| {
                fault::run(At::HedgeAttempt);
                tell.with(operation(token));
                Ok(())
            })
        };
        let began = clock.now();
        start(0).map_err(HedgeError::from)?;
        let (mut started, mut running, mut errors) = (1, 1, Vec::new());
        let mut next = self.next_at(started, began);
        while running > 0 {
            match clock.recv_until(&ends, next) {
                Ok(Ended {
                    attempt,
                    result: Some(Ok(value)),
                }) => {
                    group.token().cancel_with("another attempt succeeded");
                    self.count_success(attempt, clock.now().duration_since(began));
                    return Ok(value);
                }
                Ok(Ended { result, .. }) => {
                    running -= 1;
                    errors.extend(result.and_then(Result::err));
                }
                Err(RecvTimeoutError::Timeout) if self.may_hedge(group.token()) => {
                    // Without a thread there is no hedge, and no harm.
                    running += usize::from(start(started).is_ok());
                    started += 1;
                    next = self.next_at(started, clock.now());
                }
                Err(RecvTimeoutError::Timeout) => next = None,
                Err(RecvTimeoutError::Disconnected) => unreachable!("`start` has a sender"),
            }
        }
        Err(match group.token().cancelled() {
            Some(cancelled) if errors.is_empty() => HedgeError::Cancelled(cancelled),
            _ => HedgeError::Failed(errors),
        })
    }

    /// When the next attempt is due, if there is to be one.
    fn next_at(&self, started: usize, now: Instant) -> Option<Instant> {
        match started <= self.most {
            true => now.checked_add(self.delay()),
            false => None,
        }
    }

    fn delay(&self) -> Duration {
        match self.delay {
            Delay::Fixed(delay) => delay,
            Delay::Measured(initial) => {
                let measured = self.books.lock().latencies.percentile();
                measured.unwrap_or(initial)
            }
        }
    }

    fn count_call(&self) {
        let mut books = self.books.lock();
        books.stats.calls += 1;
        books.credit = (books.credit + self.percent).min(self.reserve);
    }

    fn count_success(&self, attempt: usize, took: Duration) {
        let mut books = self.books.lock();
        books.stats.won += u64::from(attempt > 0);
        if attempt > 0 {
            observe::hedge_won(&self.name);
        }
        books.latencies.record(took);
    }

    /// Whether the budget allows a hedge now; it is counted.
    fn may_hedge(&self, token: &CancelToken) -> bool {
        if token.is_cancelled() {
            return false;
        }
        let mut books = self.books.lock();
        if books.credit < ONE {
            books.stats.refused += 1;
            return false;
        }
        books.credit -= ONE;
        books.stats.hedges += 1;
        observe::hedged(&self.name);
        true
    }
}

// A panic never leaves one half changed: no code of the user runs under a lock of ours.
impl std::panic::UnwindSafe for Hedge {}
impl std::panic::RefUnwindSafe for Hedge {}

impl fmt::Debug for Hedge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hedge")
            .field("delay", &self.delay())
            .field("stats", &self.stats())
            .finish_non_exhaustive()
    }
}

/// Why a hedged call has no value.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::resilience::HedgeError;
/// use cleanbreak::{CancelToken, Hedge};
///
/// let token = CancelToken::new();
/// let hedge = Hedge::after(Duration::from_secs(3600)).build();
/// let error = hedge.call(&token, |_| Err::<(), _>("refused")).unwrap_err();
/// assert_eq!((error.is_cancelled(), error.to_string().as_str()), (false, "refused"));
/// assert_eq!(error.into_errors(), ["refused"]); // of each attempt that was made
///
/// token.cancel_with("SIGTERM");
/// let error = hedge.call(&token, |_| Err::<(), _>("refused")).unwrap_err();
/// assert!(error.is_cancelled());
/// let HedgeError::Cancelled(why) = error else { panic!("{error}") };
/// assert_eq!(why.to_string(), "cancelled: SIGTERM");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum HedgeError<E> {
    /// Every attempt failed: the errors in the order in which they came. When the caller's token
    /// was cancelled, they are what the attempts made of that.
    Failed(Vec<E>),
    /// The caller's token was cancelled before an attempt was started.
    Cancelled(Cancelled),
    /// There was no thread for the first attempt.
    Thread(ThreadError),
}

impl<E> HedgeError<E> {
    /// The errors of the attempts, in the order in which they came.
    #[must_use]
    pub fn into_errors(self) -> Vec<E> {
        match self {
            Self::Failed(errors) => errors,
            Self::Cancelled(_) | Self::Thread(_) => Vec::new(),
        }
    }

    /// Whether the caller's token was cancelled before an attempt was started.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }
}

impl<E> From<SpawnError> for HedgeError<E> {
    fn from(error: SpawnError) -> Self {
        match error {
            SpawnError::Cancelled(cancelled) => Self::Cancelled(cancelled),
            SpawnError::Thread(error) => Self::Thread(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for HedgeError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(errors) => match &errors[..] {
                [] => f.write_str("the attempt did not end"),
                [only] => only.fmt(f),
                [first, rest @ ..] => write!(f, "{first} (and {} attempts more)", rest.len()),
            },
            Self::Cancelled(cancelled) => cancelled.fmt(f),
            Self::Thread(error) => error.fmt(f),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for HedgeError<E> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Each says in its own words what the variant says.
            Self::Cancelled(cancelled) => cancelled.source(),
            Self::Thread(error) => error.source(),
            Self::Failed(_) => None,
        }
    }
}
