//! Floor 3: ticks on a channel, from a thread that stops.
//!
//! A [`Ticker`] is Go's `time.Ticker` with what that leaves open decided, and crossbeam's `tick`
//! without its drift.
//!
//! # What is promised
//!
//! * Ticks stay on the grid `start + n·period`, however late one is taken; under `select!` too.
//! * A tick says for when it was scheduled and how many were missed before it.
//! * After [`stop`](Ticker::stop), [`reset`](Ticker::reset) or a drop has returned, no tick of
//!   before is delivered. A stop disconnects the channel: a blocked receiver wakes, a `for` loop
//!   ends.
//! * All tickers of a clock share its one timer thread, which ends with the last.
//!
//! # What is not
//!
//! * A tick is never early, but as late as the scheduler and the consumer make it.
//! * Clones of the receiver share the ticks: each goes to one of them.
//!
//! # Invariants
//!
//! 1. Only the timer sends, and it does so under the state's lock and with the arm of the present
//!    epoch. So the channel has room after one message was taken out under that lock, and a stop
//!    or reset that holds it leaves nothing behind.
//! 2. Lock order: a ticker's arm, its state, the clock.

mod grid;
mod list;

use std::fmt;
use std::ops::Deref;
use std::panic::Location;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded};

use crate::clock::{Clock, Instant, Timed, Timer};
use crate::fault::{self, At};
use crate::observe;
use crate::roll::Listed;
use crate::sync::{Arc, Mutex};
use crate::threads::ThreadError;
use grid::Grid;

pub use grid::MissedTicks;
pub use list::{TickerInfo, live};

/// How many undelivered ticks [`MissedTicks::Burst`] keeps.
const BURST_CAPACITY: usize = 1024;

/// One tick.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{Clock, Ticker};
///
/// let clock = Clock::manual();
/// let ticker = Ticker::builder(Duration::from_secs(5)).clock(&clock).start().unwrap();
/// clock.advance(Duration::from_secs(16)); // 5 and 10 go by
/// let tick = ticker.recv().unwrap();
/// assert_eq!(tick.missed, 2);
/// let late = clock.now().duration_since(tick.scheduled); // for 15
/// assert_eq!(late, Duration::from_secs(1));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Tick {
    /// For when it was scheduled, by the ticker's clock.
    pub scheduled: Instant,
    /// How many ticks since the one delivered before were missed.
    pub missed: u64,
}

/// Sends a [`Tick`] every period, until it is stopped or dropped.
///
/// It dereferences to the crossbeam `Receiver` of its ticks, so it goes straight into `select!`,
/// and a reference to it is an iterator that ends when the ticker is stopped.
///
/// # Performance
///
/// A tick costs the timer thread some 200 ns. Ten thousand tickers cost one thread.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{Clock, Ticker};
///
/// let clock = Clock::manual();
/// let ticker = Ticker::builder(Duration::from_secs(5)).clock(&clock).start().unwrap();
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(ticker.recv().unwrap().missed, 0);
///
/// clock.advance(Duration::from_secs(17)); // nobody listens at 10 and 15
/// let tick = ticker.recv().unwrap();
/// assert_eq!(tick.scheduled.as_nanos(), 20_000_000_000);
/// assert_eq!(tick.missed, 2);
///
/// clock.advance(Duration::from_secs(3)); // 25: the grid is kept
/// ticker.stop();
/// assert_eq!((&ticker).into_iter().count(), 0); // no stale tick, and the loop ends
/// ```
///
/// In a loop that can be told to stop:
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Ticker};
/// use crossbeam_channel::select;
///
/// let token = CancelToken::new();
/// let ticker = Ticker::new(Duration::from_millis(1)).unwrap();
/// let mut ticks = 0;
/// 'beat: loop {
///     select! {
///         recv(token.done()) -> _ => break 'beat,
///         recv(ticker) -> _tick => {
///             ticks += 1;
///             if ticks == 3 { token.cancel(); }
///         }
///     }
/// }
/// assert_eq!(ticks, 3);
/// ```
#[must_use = "the ticker stops when this is dropped"]
pub struct Ticker {
    shared: Arc<Shared>,
    arm: Mutex<Option<Arm>>,
    _listed: Listed<Shared>,
}

struct Shared {
    clock: Clock,
    site: &'static Location<'static>,
    ticks: Receiver<Tick>,
    state: Mutex<State>,
}

struct State {
    /// `None` once stopped.
    sender: Option<Sender<Tick>>,
    /// The number of the present arm.
    epoch: u64,
    grid: Grid,
    /// Ticks missed since the last that was sent.
    missed: u64,
    /// How many were ever sent.
    sent: u64,
    /// How many were ever missed.
    lost: u64,
}

/// A registration with the clock. The timer is dropped first.
struct Arm {
    _timer: Timer,
    _pulse: Arc<dyn Timed>,
}

/// What the clock fires: the ticker as it was at one start or reset.
struct Pulse {
    shared: Arc<Shared>,
    epoch: u64,
}

/// How to start a [`Ticker`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{Clock, MissedTicks, Ticker};
///
/// let clock = Clock::manual();
/// let ticker = Ticker::builder(Duration::from_secs(5))
///     .clock(&clock)
///     .missed_ticks(MissedTicks::Burst) // each of them
///     .immediate() // one at once, as Go's tickers lack
///     .start()
///     .unwrap();
/// let seconds = || ticker.try_iter().map(|tick| tick.scheduled.as_nanos() / 1_000_000_000);
/// assert_eq!(seconds().collect::<Vec<_>>(), [0]);
/// clock.advance(Duration::from_secs(11));
/// assert_eq!(seconds().collect::<Vec<_>>(), [5, 10]);
/// ```
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it is started"]
pub struct TickerBuilder {
    period: Duration,
    clock: Clock,
    missed: MissedTicks,
    immediate: bool,
}

impl TickerBuilder {
    /// The clock to tick by; the system's by default.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// What to do about ticks that nobody took in time; [`MissedTicks::Skip`] by default.
    pub fn missed_ticks(mut self, policy: MissedTicks) -> Self {
        self.missed = policy;
        self
    }

    /// Sends a first tick at the start, and not only after the first period.
    pub fn immediate(mut self) -> Self {
        self.immediate = true;
        self
    }

    /// Starts the ticker.
    ///
    /// # Errors
    ///
    /// See [`TickerError`].
    #[track_caller]
    pub fn start(self) -> Result<Ticker, TickerError> {
        fault::pass(At::TickerStart);
        let capacity = match self.missed {
            MissedTicks::Burst => BURST_CAPACITY,
            MissedTicks::Skip | MissedTicks::Delay => 1,
        };
        let start = self.clock.now();
        let grid = Grid::new(self.period, self.missed).ok_or(TickerError::ZeroPeriod)?;
        let (sender, ticks) = bounded(capacity);
        if self.immediate {
            let missed = 0;
            let scheduled = start;
            sender.try_send(Tick { scheduled, missed }).ok();
        }
        let state = Mutex::new(State {
            sender: Some(sender),
            epoch: 0,
            grid,
            missed: 0,
            sent: u64::from(self.immediate),
            lost: 0,
        });
        observe::ticks(u64::from(self.immediate), 0);
        let shared = Arc::new(Shared {
            clock: self.clock,
            site: Location::caller(),
            ticks,
            state,
        });
        let arm = Mutex::new(Shared::arm(&shared, 0, grid.after(start, 1))?);
        Ok(Ticker {
            _listed: list::enlist(&shared),
            shared,
            arm,
        })
    }
}

impl Ticker {
    /// Ticks every `period` of the system's clock, the first time one period from now.
    ///
    /// # Errors
    ///
    /// [`TickerError::ZeroPeriod`], or [`TickerError::Spawn`] if the clock's timer thread cannot be
    /// started. A period too long to count is no error: it never ticks.
    #[track_caller]
    pub fn new(period: Duration) -> Result<Self, TickerError> {
        Self::builder(period).start()
    }

    /// For a ticker on another clock, with another policy, or with a first tick at once.
    pub fn builder(period: Duration) -> TickerBuilder {
        TickerBuilder {
            period,
            clock: Clock::system(),
            missed: MissedTicks::Skip,
            immediate: false,
        }
    }

    /// The channel of the ticks. It disconnects when the ticker is stopped or dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{Clock, Ticker};
    ///
    /// let clock = Clock::manual();
    /// let ticker = Ticker::builder(Duration::from_secs(5)).clock(&clock).start().unwrap();
    /// let elsewhere = ticker.ticks().clone(); // for another thread; a tick goes to one of the two
    /// clock.advance(Duration::from_secs(5));
    /// assert!(elsewhere.recv().is_ok() && ticker.try_recv().is_err());
    /// drop(ticker);
    /// assert!(elsewhere.recv().is_err()); // disconnected, though the clone lives
    /// ```
    #[must_use]
    pub fn ticks(&self) -> &Receiver<Tick> {
        &self.shared.ticks
    }

    /// The present period.
    #[must_use]
    pub fn period(&self) -> Duration {
        self.shared.state.lock().grid.period()
    }

    /// Stops for good: ticks that were not taken are gone, the channel disconnects, blocked
    /// receivers wake. `true` for the call that did.
    pub fn stop(&self) -> bool {
        fault::pass(At::TickerStop);
        let mut arm = self.arm.lock();
        let mut state = self.shared.state.lock();
        let stopped = state.sender.take().is_some();
        self.shared.forget_ticks(&mut state);
        drop(state);
        *arm = None;
        stopped
    }

    /// Starts a new grid: the next tick comes one `period` from now, and none of before.
    ///
    /// # Errors
    ///
    /// [`TickerError::ZeroPeriod`], with the ticker going on as it was; [`TickerError::Stopped`];
    /// or [`TickerError::Spawn`], with the ticker stopped.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{Clock, Ticker};
    /// use cleanbreak::ticker::TickerError;
    ///
    /// let clock = Clock::manual();
    /// let ticker = Ticker::builder(Duration::from_secs(5)).clock(&clock).start().unwrap();
    /// clock.advance(Duration::from_secs(6)); // a tick lies there
    /// ticker.reset(Duration::from_secs(10)).unwrap();
    /// assert!(ticker.try_recv().is_err()); // no longer
    /// assert_eq!(ticker.period(), Duration::from_secs(10));
    /// clock.advance(Duration::from_secs(10)); // 16: a period from the reset
    /// assert_eq!(ticker.try_recv().unwrap().scheduled, clock.now());
    ///
    /// assert!(matches!(ticker.reset(Duration::ZERO), Err(TickerError::ZeroPeriod)));
    /// assert_eq!(ticker.period(), Duration::from_secs(10)); // goes on as it was
    /// ticker.stop();
    /// assert!(matches!(ticker.reset(Duration::from_secs(5)), Err(TickerError::Stopped)));
    /// ```
    pub fn reset(&self, period: Duration) -> Result<(), TickerError> {
        fault::pass(At::TickerStop);
        let mut arm = self.arm.lock();
        let mut state = self.shared.state.lock();
        if state.sender.is_none() {
            return Err(TickerError::Stopped);
        }
        let now = self.shared.clock.now();
        let grid = Grid::new(period, state.grid.policy());
        state.grid = grid.ok_or(TickerError::ZeroPeriod)?;
        self.shared.forget_ticks(&mut state);
        let (epoch, next) = (state.epoch, state.grid.after(now, 1));
        drop(state);
        match Shared::arm(&self.shared, epoch, next) {
            // The old arm goes after the new one is in place, so that the thread stays.
            Ok(new) => *arm = new,
            Err(error) => {
                drop(arm);
                self.stop();
                return Err(error.into());
            }
        }
        Ok(())
    }
}

impl Shared {
    /// Ends the present epoch with all that it has sent (invariant 1).
    fn forget_ticks(&self, state: &mut State) {
        state.epoch += 1;
        state.missed = 0;
        while self.ticks.try_recv().is_ok() {}
    }

    /// Registers with the clock; not at all for a tick that never comes.
    fn arm(
        shared: &Arc<Self>,
        epoch: u64,
        next: Option<Instant>,
    ) -> Result<Option<Arm>, ThreadError> {
        let Some(next) = next else { return Ok(None) };
        let pulse: Arc<dyn Timed> = Arc::new(Pulse {
            shared: shared.clone(),
            epoch,
        });
        let timer = shared.clock.register(next, Arc::downgrade(&pulse))?;
        Ok(Some(Arm {
            _timer: timer,
            _pulse: pulse,
        }))
    }

    /// Keeps the latest tick only: one that nobody took yet is missed.
    fn send_latest(&self, state: &mut State, due: Instant, passed: u64) -> Option<Instant> {
        let scheduled = state.grid.after(due, passed)?;
        state.miss(passed);
        if let Ok(untaken) = self.ticks.try_recv() {
            state.missed += untaken.missed;
            state.miss(1);
        }
        state.send(scheduled);
        state.grid.after(scheduled, 1)
    }

    /// Sends every tick for which there is room.
    fn send_all(state: &mut State, due: Instant, passed: u64) -> Option<Instant> {
        for n in 0..=passed {
            if !state.send(state.grid.after(due, n)?) {
                // There was no room for this one and there is none for those after it.
                state.miss(passed - n);
                break;
            }
        }
        state.grid.after(due, passed + 1)
    }

    /// Sends if the last tick was taken, and starts the next period now.
    fn send_and_shift(state: &mut State, due: Instant, now: Instant) -> Option<Instant> {
        state.send(due);
        state.grid.after(now, 1)
    }
}

impl State {
    /// Sends a tick, or counts it as missed and returns `false`.
    fn send(&mut self, scheduled: Instant) -> bool {
        let missed = self.missed;
        let tick = Tick { scheduled, missed };
        let sent = self
            .sender
            .as_ref()
            .is_some_and(|sender| sender.try_send(tick).is_ok());
        match sent {
            true => {
                self.missed = 0;
                self.sent += 1;
            }
            false => self.miss(1),
        }
        sent
    }

    fn miss(&mut self, ticks: u64) {
        self.missed += ticks;
        self.lost += ticks;
    }
}

impl Timed for Pulse {
    fn fire(self: Arc<Self>, due: Instant, now: Instant) -> Option<Instant> {
        let mut state = self.shared.state.lock();
        if state.epoch != self.epoch {
            return None;
        }
        let passed = state.grid.passed(due, now);
        let (sent, lost) = (state.sent, state.lost);
        let next = match state.grid.policy() {
            MissedTicks::Skip => self.shared.send_latest(&mut state, due, passed),
            MissedTicks::Burst => Shared::send_all(&mut state, due, passed),
            MissedTicks::Delay => Shared::send_and_shift(&mut state, due, now),
        };
        let (sent, lost) = (state.sent - sent, state.lost - lost);
        drop(state);
        observe::ticks(sent, lost);
        next
    }
}

// A panic never leaves one half changed: no code of the user runs under a lock of ours.
impl std::panic::UnwindSafe for Ticker {}
impl std::panic::RefUnwindSafe for Ticker {}

impl Drop for Ticker {
    fn drop(&mut self) {
        self.stop();
    }
}

impl Deref for Ticker {
    type Target = Receiver<Tick>;

    fn deref(&self) -> &Receiver<Tick> {
        &self.shared.ticks
    }
}

impl<'a> IntoIterator for &'a Ticker {
    type Item = Tick;
    type IntoIter = crossbeam_channel::Iter<'a, Tick>;

    fn into_iter(self) -> Self::IntoIter {
        self.shared.ticks.iter()
    }
}

impl fmt::Debug for Ticker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        f.debug_struct("Ticker")
            .field("period", &state.grid.period())
            .field("policy", &state.grid.policy())
            .field("stopped", &state.sender.is_none())
            .finish_non_exhaustive()
    }
}

/// Why a ticker could not be started or reset.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::Ticker;
/// use cleanbreak::ticker::TickerError;
///
/// let error = Ticker::new(Duration::ZERO).unwrap_err();
/// assert!(matches!(error, TickerError::ZeroPeriod));
/// assert_eq!(error.to_string(), "the period of a ticker must be longer than zero");
///
/// let ticker = Ticker::new(Duration::MAX).unwrap(); // no error: it never ticks
/// assert!(ticker.stop());
/// let error = ticker.reset(Duration::from_secs(1)).unwrap_err();
/// assert!(matches!(error, TickerError::Stopped));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum TickerError {
    /// The period was zero: ticks without a pause between them are a loop, not a ticker.
    ZeroPeriod,
    /// The ticker has been stopped; its channel is disconnected for good.
    Stopped,
    /// The clock's timer thread could not be started.
    Spawn(ThreadError),
}

impl fmt::Display for TickerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ZeroPeriod => "the period of a ticker must be longer than zero",
            Self::Stopped => "the ticker has been stopped",
            Self::Spawn(_) => "the ticker's timer thread could not be started",
        })
    }
}

impl std::error::Error for TickerError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Spawn(error) => Some(error),
            Self::ZeroPeriod | Self::Stopped => None,
        }
    }
}

impl From<ThreadError> for TickerError {
    fn from(error: ThreadError) -> Self {
        Self::Spawn(error)
    }
}
