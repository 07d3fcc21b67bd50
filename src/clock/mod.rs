//! Floor 1: what time it is, and who is told when it is time.
//!
//! A [`Clock`] is the system's or a [`ManualClock`] that a test moves by hand. Tokens, tickers and
//! groups take a clock and hand it down to what they make.
//!
//! # What is promised
//!
//! * One timer thread serves all deadlines and tickers of a clock. It starts with the first
//!   registration and stops, joined, when the last is dropped ([`Clock::keep_timer`] holds it for
//!   longer). Ten thousand tickers cost one thread.
//! * A manual clock never reads the system's time and has no thread: [`ManualClock::advance`]
//!   fires what is due on the calling thread, in the order (deadline, registration), and returns
//!   when all of it has been delivered.
//! * A duration too long to count means "never"; nothing panics on [`Duration::MAX`].
//!
//! # What is not
//!
//! * A deadline is never early, but it is as late as the operating system's scheduler makes it.
//! * Hooks of tokens whose deadline passes run on the timer thread, one after the other: a slow one
//!   delays every timer of the clock.
//! * The join has one exception: if the last registration is dropped by the timer thread itself,
//!   the thread ends by itself right after. So it is also when the last handle of a token is
//!   dropped elsewhere while the timer thread still delivers its deadline, hooks included.
//!
//! # Invariants
//!
//! 1. A timer thread runs if and only if something is registered or a lease is held (from the
//!    moment the lock is released until it is taken again).
//! 2. Lock order: a clock's lock is the innermost of the library, but for the thread registry's.
//!    It is never held while something fires.
//! 3. Something that is deregistered before it fires does not fire; who deregisters while it fires
//!    does not wait, so what fires checks its own state under its own lock.
//! 4. What runs closures of the user while it fires is registered for as long as it does: a token's
//!    registration goes with its node, which the timer thread holds. So who drops the last
//!    registration, maybe with a lock held that a hook needs, never joins a thread that runs a hook.

mod instant;
mod manual;
mod queue;
mod system;
mod wait;

use std::fmt;
use std::sync::LazyLock;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError, Sender, bounded, select};

pub use instant::Instant;
pub use manual::ManualClock;
use queue::Key;

use crate::sync::{Arc, Weak};
use crate::threads::{Origin, ThreadError};
use manual::Manual;
use system::System;
pub(crate) use wait::wait_until;

static PROCESS: LazyLock<Arc<System>> =
    LazyLock::new(|| System::new("cleanbreak timer", Origin::nobody()));

/// What can be registered to be told when it is time.
pub(crate) trait Timed: Send + Sync {
    /// It is `now`, and `due` has come. The answer is the next deadline of the same registration.
    /// If it runs closures of the user, dropping `self` must be what ends the registration
    /// (invariant 4).
    fn fire(self: Arc<Self>, due: Instant, now: Instant) -> Option<Instant>;
}

/// The source of time: the system's clock, or one that a test moves by hand.
///
/// A handle: clones are the same clock. [`Clock::default`] is [`Clock::system`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock};
///
/// let clock = Clock::manual();
/// let token = CancelToken::with_clock(&clock).child_timeout(Duration::from_secs(5));
/// clock.advance(Duration::from_secs(4));
/// assert!(!token.is_cancelled());
/// clock.advance(Duration::from_secs(1)); // returns when the deadline has been delivered
/// assert!(token.is_cancelled());
///
/// /// What is written for any clock runs on the system's by default.
/// struct Lease {
///     clock: Clock,
///     until: cleanbreak::clock::Instant,
/// }
/// impl Lease {
///     fn is_over(&self) -> bool {
///         self.clock.now() >= self.until
///     }
/// }
/// let until = clock.deadline_after(Duration::from_secs(60)).unwrap();
/// let lease = Lease { clock: Clock::clone(&clock), until }; // a handle to the same clock
/// assert!(!lease.is_over());
/// clock.advance(Duration::from_secs(60));
/// assert!(lease.is_over());
/// ```
#[derive(Clone)]
pub struct Clock(Source);

#[derive(Clone)]
enum Source {
    Process,
    System(Arc<System>),
    Manual(Arc<Manual>),
}

impl Clock {
    /// The system's monotonic clock, with the timer thread that the process shares.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{CancelToken, Clock};
    ///
    /// let before = Clock::system().now();
    /// let token = CancelToken::new(); // goes by it, unless told otherwise
    /// assert!(token.clock().now() >= before); // one clock, which only goes forward
    /// assert!(Clock::default().now() >= before);
    /// ```
    #[must_use]
    pub const fn system() -> Self {
        Self(Source::Process)
    }

    /// The system's monotonic clock with a timer thread of its own, for timers that slow hooks of
    /// other parts of the process must not delay.
    #[must_use]
    pub fn isolated() -> Self {
        Self(Source::System(System::new(
            "cleanbreak isolated timer",
            Origin::here(),
        )))
    }

    /// A clock that stands still until it is advanced.
    #[must_use]
    pub fn manual() -> ManualClock {
        ManualClock::new()
    }

    /// The current time of this clock.
    #[must_use]
    pub fn now(&self) -> Instant {
        match &self.0 {
            Source::Process => PROCESS.now(),
            Source::System(system) => system.now(),
            Source::Manual(manual) => manual.now(),
        }
    }

    /// The time `timeout` from now, or `None` where that is too far to count: never.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::Clock;
    ///
    /// let clock = Clock::manual();
    /// let deadline = clock.deadline_after(Duration::from_secs(2)).unwrap();
    /// assert_eq!(deadline.duration_since(clock.now()), Duration::from_secs(2));
    /// assert_eq!(clock.deadline_after(Duration::MAX), None);
    /// ```
    #[must_use]
    pub fn deadline_after(&self, timeout: Duration) -> Option<Instant> {
        self.now().checked_add(timeout)
    }

    /// Keeps the timer thread running while the lease lives, so that timers that come and go one
    /// at a time do not start and join a thread each. A manual clock has none to keep.
    ///
    /// # Errors
    ///
    /// When the thread cannot be started.
    ///
    /// # Performance
    ///
    /// With the thread running, registering and dropping a timer costs some 100 ns; without it, the
    /// start and the join of a thread, some 50–100 µs.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::Clock;
    ///
    /// let clock = Clock::isolated();
    /// let lease = clock.keep_timer().unwrap();
    /// assert!(clock.timer_runs());
    /// drop(lease); // the thread is stopped and joined
    /// assert!(!clock.timer_runs());
    /// ```
    pub fn keep_timer(&self) -> Result<TimerLease, ThreadError> {
        if let Some(system) = self.as_system() {
            system.take_lease()?;
        }
        Ok(TimerLease(self.clone()))
    }

    /// Whether the timer thread of this clock is running.
    #[must_use]
    pub fn timer_runs(&self) -> bool {
        self.as_system().is_some_and(|system| system.thread_runs())
    }

    /// This clock's instant for a point in time of the standard library; `None` on a manual clock,
    /// which has no relation to it. A point before the clock's zero becomes the zero.
    #[must_use]
    pub fn instant_from_std(&self, at: std::time::Instant) -> Option<Instant> {
        self.as_system().map(|system| system.instant_at(at))
    }

    /// The standard library's instant for a point in time of this clock; `None` on a manual clock.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{Clock, SafeChannel};
    ///
    /// let clock = Clock::system();
    /// let deadline = clock.deadline_after(Duration::ZERO).unwrap();
    /// let std_deadline = clock.to_std(deadline).unwrap();
    /// let (_tx, rx) = SafeChannel::bounded::<u8>(1);
    /// assert!(rx.recv_deadline(std_deadline).is_err()); // for code that takes std's instants
    /// assert_eq!(clock.instant_from_std(std_deadline), Some(deadline)); // and back
    ///
    /// let manual = Clock::manual(); // knows nothing of the system's time
    /// assert_eq!(manual.to_std(manual.now()), None);
    /// assert_eq!(manual.instant_from_std(std_deadline), None);
    /// ```
    #[must_use]
    pub fn to_std(&self, at: Instant) -> Option<std::time::Instant> {
        self.as_system()?.to_std(at)
    }

    /// Whether the two are the same clock.
    pub(crate) fn is(&self, other: &Self) -> bool {
        match (&self.0, &other.0) {
            (Source::Process, Source::Process) => true,
            (Source::System(a), Source::System(b)) => Arc::ptr_eq(a, b),
            (Source::Manual(a), Source::Manual(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    fn as_system(&self) -> Option<&Arc<System>> {
        match &self.0 {
            Source::Process => Some(&PROCESS),
            Source::System(system) => Some(system),
            Source::Manual(_) => None,
        }
    }

    /// Tells `timed` at `at`, until the timer is dropped. What is overdue on a manual clock is told
    /// before this returns, so the caller holds no lock that firing takes; or, if an advance is
    /// under way, before that returns.
    pub(crate) fn register(
        &self,
        at: Instant,
        timed: Weak<dyn Timed>,
    ) -> Result<Timer, ThreadError> {
        let key = match &self.0 {
            Source::Manual(manual) => manual.register(at, timed),
            Source::Process => PROCESS.register(at, timed)?,
            Source::System(system) => system.register(at, timed)?,
        };
        let clock = self.clone();
        Ok(Timer { clock, key })
    }

    /// Receives until `at` of this clock; `None` is for ever.
    pub(crate) fn recv_until<T>(
        &self,
        rx: &Receiver<T>,
        at: Option<Instant>,
    ) -> Result<T, RecvTimeoutError> {
        let forever = || rx.recv().map_err(RecvTimeoutError::from);
        let Some(at) = at else { return forever() };
        if let Some(system) = self.as_system() {
            return match system.to_std(at) {
                Some(at) => rx.recv_deadline(at),
                None => forever(),
            };
        }
        let Ok((alarm, _timer)) = self.alarm(at) else {
            unreachable!("a manual clock starts no thread")
        };
        select! {
            recv(rx) -> received => received.map_err(RecvTimeoutError::from),
            recv(alarm) -> _ => Err(RecvTimeoutError::Timeout),
        }
    }

    /// A channel that gets one message at `at`.
    fn alarm(&self, at: Instant) -> Result<(Receiver<()>, AlarmGuard), ThreadError> {
        let (ring, alarm) = bounded(1);
        if at <= self.now() {
            ring.try_send(()).ok();
            return Ok((alarm, AlarmGuard::rung(ring)));
        }
        let bell: Arc<dyn Timed> = Arc::new(Bell { ring });
        let timer = self.register(at, Arc::downgrade(&bell))?;
        let guard = AlarmGuard {
            _timer: Some(timer),
            _ring: None,
            _bell: Some(bell),
        };
        Ok((alarm, guard))
    }
}

// A panic never leaves one half changed: no code of the user runs under a lock of ours.
impl std::panic::UnwindSafe for Clock {}
impl std::panic::RefUnwindSafe for Clock {}

impl Default for Clock {
    fn default() -> Self {
        Self::system()
    }
}

impl fmt::Debug for Clock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match &self.0 {
            Source::Process => "system",
            Source::System(_) => "isolated",
            Source::Manual(_) => "manual",
        };
        write!(f, "Clock({kind}, {:?})", self.now())
    }
}

/// Keeps a clock's timer thread running. See [`Clock::keep_timer`].
///
/// # Examples
///
/// ```
/// use cleanbreak::Clock;
///
/// let clock = Clock::isolated();
/// let (first, second) = (clock.keep_timer().unwrap(), clock.keep_timer().unwrap());
/// drop(first);
/// assert!(clock.timer_runs()); // until the last has gone
/// drop(second);
/// assert!(!clock.timer_runs());
///
/// let manual = Clock::manual();
/// let _lease = manual.keep_timer().unwrap(); // of no effect: there is no thread
/// assert!(!manual.timer_runs());
/// ```
#[must_use = "the timer thread is kept for as long as the lease lives"]
#[derive(Debug)]
pub struct TimerLease(Clock);

impl Drop for TimerLease {
    fn drop(&mut self) {
        if let Some(system) = self.0.as_system() {
            system.return_lease();
        }
    }
}

/// A registration with a clock; dropping it ends it.
#[derive(Debug)]
pub(crate) struct Timer {
    clock: Clock,
    key: Key,
}

impl Drop for Timer {
    fn drop(&mut self) {
        match &self.clock.0 {
            Source::Manual(manual) => manual.deregister(self.key),
            Source::Process => PROCESS.deregister(self.key),
            Source::System(system) => system.deregister(self.key),
        }
    }
}

struct Bell {
    ring: Sender<()>,
}

impl Timed for Bell {
    fn fire(self: Arc<Self>, _: Instant, _: Instant) -> Option<Instant> {
        self.ring.try_send(()).ok();
        None
    }
}

/// Keeps an alarm armed. The timer goes before the bell.
struct AlarmGuard {
    _timer: Option<Timer>,
    _bell: Option<Arc<dyn Timed>>,
    _ring: Option<Sender<()>>,
}

impl AlarmGuard {
    /// The sender stays, so that the alarm's channel does not read as disconnected.
    fn rung(ring: Sender<()>) -> Self {
        Self {
            _timer: None,
            _bell: None,
            _ring: Some(ring),
        }
    }
}
