//! A breaker's settings.

use std::fmt;
use std::time::Duration;

use super::super::setting::InvalidSetting;
use super::handle::Breaker;
use super::machine::{Machine, Rules};
use super::shared::{Listener, Shared, cell};
use super::state::{State, Transition};
use super::window::Window;
use crate::backoff::Backoff;
use crate::clock::Clock;
use crate::observe::BreakerFacts;
use crate::sync::Arc;

const CALLS: usize = 100;
const MOST_CALLS: usize = 1_000_000;
const MINIMUM_CALLS: u64 = 20;
const FAILURE_RATE: f64 = 0.5;
const OPEN_FOR: Duration = Duration::from_secs(10);
const PROBE_WAIT: Duration = Duration::from_secs(30);

/// The settings of a [`Breaker`]; from [`Breaker::builder`].
///
/// Each threshold that is set can open it. If none is, it is a failure rate of one half.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::Breaker;
/// use cleanbreak::backoff::{Backoff, Jitter};
///
/// let breaker = Breaker::builder()
///     .name("stock")
///     .time_window(Duration::from_secs(60))
///     .minimum_calls(50)
///     .failure_rate(0.3)
///     .slow_calls(Duration::from_millis(500), 0.8)
///     .open_backoff(Backoff::exponential(Duration::from_secs(1)).jitter(Jitter::Equal))
///     .probes(5)
///     .successes(3)
///     .on_transition(|transition| eprintln!("stock: {transition}"))
///     .build();
/// assert!(breaker.is_ok());
///
/// let nonsense = Breaker::builder().count_window(10).minimum_calls(11).build();
/// assert_eq!(
///     nonsense.unwrap_err().to_string(),
///     "the minimum of calls is more than the window holds, so no rate would ever count",
/// );
/// ```
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::Clock;
/// use cleanbreak::resilience::breaker::{BreakerBuilder, State};
///
/// let clock = Clock::manual();
/// let breaker = BreakerBuilder::new()
///     .consecutive_failures(2)
///     .open_for(Duration::from_secs(30))
///     .probe_wait(Duration::from_secs(5))
///     .clock(&clock)
///     .build()
///     .unwrap();
/// breaker.acquire().unwrap().failure();
/// breaker.acquire().unwrap().failure();
/// assert_eq!(breaker.remaining_open(), Some(Duration::from_secs(30)));
///
/// clock.advance(Duration::from_secs(30));
/// let hung = breaker.acquire().unwrap(); // the probe, which does not come back
/// assert_eq!(breaker.acquire().unwrap_err().state(), State::HalfOpen);
/// clock.advance(Duration::from_secs(5));
/// assert_eq!(breaker.acquire().unwrap_err().state(), State::Open); // it has been given up
/// ```
#[must_use = "a builder does nothing until the breaker is built"]
pub struct BreakerBuilder {
    name: Option<Arc<str>>,
    consecutive: Option<u32>,
    failure_rate: Option<f64>,
    slow: Option<(Duration, f64)>,
    span: Span,
    minimum_calls: Option<u64>,
    open: Backoff,
    seed: Option<u64>,
    probes: u32,
    successes: Option<u32>,
    probe_wait: Duration,
    clock: Clock,
    listeners: Vec<Listener>,
}

#[derive(Clone, Copy, Debug)]
enum Span {
    Count(usize),
    Time(Duration),
}

impl BreakerBuilder {
    /// The last 100 calls, 20 of them at least; open for 10 seconds, then one probe.
    pub fn new() -> Self {
        Self {
            name: None,
            consecutive: None,
            failure_rate: None,
            slow: None,
            span: Span::Count(CALLS),
            minimum_calls: None,
            open: Backoff::constant(OPEN_FOR),
            seed: None,
            probes: 1,
            successes: None,
            probe_wait: PROBE_WAIT,
            clock: Clock::system(),
            listeners: Vec::new(),
        }
    }

    /// What it is called in reports, and in metrics; without a name, it is "breaker" in reports and in
    /// no metrics.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Opens it after so many failures with no success in between, whatever the window.
    pub fn consecutive_failures(mut self, failures: u32) -> Self {
        self.consecutive = Some(failures);
        self
    }

    /// Opens it when this share of the calls in the window has failed, or more. Above 0, up to 1.
    pub fn failure_rate(mut self, rate: f64) -> Self {
        self.failure_rate = Some(rate);
        self
    }

    /// Opens it when this share of the calls in the window, or more, took `from` or longer, well or
    /// not. Above 0, up to 1. Then a probe that is slow counts as a failed one too.
    ///
    /// Each call then reads the clock when it begins and when it ends.
    pub fn slow_calls(mut self, from: Duration, rate: f64) -> Self {
        self.slow = Some((from, rate));
        self
    }

    /// The rates are those of the last so many calls: 100 by default, a million at most.
    ///
    /// # Performance
    ///
    /// Two bytes of memory for each.
    pub fn count_window(mut self, calls: usize) -> Self {
        self.span = Span::Count(calls);
        self
    }

    /// The rates are those of the calls that ended in the last `length`. It moves on by tenths: a
    /// call counts for at least nine tenths of it.
    ///
    /// Each call then reads the clock when it ends.
    pub fn time_window(mut self, length: Duration) -> Self {
        self.span = Span::Time(length);
        self
    }

    /// From how many calls in the window on the rates count; 20 by default, or as many as the window
    /// holds.
    pub fn minimum_calls(mut self, calls: u64) -> Self {
        self.minimum_calls = Some(calls);
        self
    }

    /// How long it stays open; 10 seconds by default. [`Duration::MAX`] is until somebody closes it.
    pub fn open_for(self, time: Duration) -> Self {
        self.open_backoff(Backoff::constant(time))
    }

    /// How long it stays open, each time, until it has been closed in between. Mind that
    /// [full jitter](crate::backoff::Jitter::Full) may give next to no time at all.
    ///
    /// A custom one is called after a transition, with no lock held. If it panics, the time before
    /// serves again.
    pub fn open_backoff(mut self, times: Backoff) -> Self {
        self.open = times;
        self
    }

    /// Makes the jitter of the open times repeatable.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{Breaker, Clock};
    /// use cleanbreak::backoff::Backoff;
    ///
    /// let clock = Clock::manual();
    /// let open_time = |seed| {
    ///     let backoff = Backoff::exponential(Duration::from_secs(10)); // with full jitter
    ///     let breaker = Breaker::builder().open_backoff(backoff).seed(seed).clock(&clock);
    ///     let breaker = breaker.build().unwrap();
    ///     breaker.trip();
    ///     breaker.remaining_open()
    /// };
    /// assert_eq!(open_time(7), open_time(7));
    /// assert_ne!(open_time(7), open_time(8));
    /// ```
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// How many calls go through when it is half-open; 1 by default.
    pub fn probes(mut self, calls: u32) -> Self {
        self.probes = calls;
        self
    }

    /// How many of the probes must succeed to close it; all of them by default. It opens again when
    /// so many have failed that this cannot come about.
    pub fn successes(mut self, probes: u32) -> Self {
        self.successes = Some(probes);
        self
    }

    /// How long after the last probe went off the next call opens it again, if one has not come back
    /// by then; 30 seconds by default. Longer than any call that may still end well.
    pub fn probe_wait(mut self, longest: Duration) -> Self {
        self.probe_wait = longest;
        self
    }

    /// The clock that it goes by; the system's by default.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// Is told of every change of state, in their order, with no lock held; it may use the breaker. A
    /// panic in it is contained. Several are called one after the other.
    ///
    /// It runs in the call that led to the change, or in another one that was at it already. A handle
    /// of the breaker in it would keep the breaker for ever.
    pub fn on_transition(mut self, listener: impl Fn(&Transition) + Send + Sync + 'static) -> Self {
        self.listeners.push(Box::new(listener));
        self
    }

    /// Makes the breaker, closed.
    ///
    /// # Errors
    ///
    /// [`InvalidSetting`], if a setting makes no sense: a zero, a rate that is not above 0 and up to 1,
    /// a minimum that is more than the window holds, more successes than probes.
    #[track_caller]
    pub fn build(self) -> Result<Breaker, InvalidSetting> {
        let rules = self.rules()?;
        let mut delays = match self.seed {
            Some(seed) => self.open.delays_seeded(seed),
            None => self.open.delays(),
        };
        let machine = Machine::new(rules, self.window(), delays.next_delay(), self.clock.now());
        let facts = BreakerFacts::new(self.name.as_ref(), &State::ALL.map(State::label));
        let name = self.name.unwrap_or_else(|| "breaker".into());
        let mut shared = Shared::new(cell(machine, delays), self.clock, name);
        shared.facts = facts;
        shared.slow_after = self.slow.map(|(from, _)| from);
        shared.timed = matches!(self.span, Span::Time(_));
        shared.listeners = self.listeners;
        Ok(Breaker::new(shared))
    }

    fn window(&self) -> Window {
        match self.span {
            Span::Count(calls) => Window::count(calls),
            Span::Time(length) => Window::time(length),
        }
    }

    fn rules(&self) -> Result<Rules, InvalidSetting> {
        let check = InvalidSetting::unless;
        let is_rate = |rate: Option<f64>| rate.is_none_or(|rate| rate > 0.0 && rate <= 1.0);
        let slow_rate = self.slow.map(|(_, rate)| rate);
        let rates = is_rate(self.failure_rate) && is_rate(slow_rate);
        check(rates, "a rate must be above 0, and 1 at the most")?;
        let slow_from = self.slow.is_none_or(|(from, _)| !from.is_zero());
        check(
            slow_from,
            "with a slow call of zero, every call would be slow",
        )?;
        check(
            self.consecutive != Some(0),
            "zero failures in a row are no failure",
        )?;
        let holds = match self.span {
            Span::Count(calls) => {
                let sensible = (1..=MOST_CALLS).contains(&calls);
                check(sensible, "a window must hold from one to a million calls")?;
                calls as u64
            }
            Span::Time(length) => {
                check(!length.is_zero(), "a window must not have the length zero")?;
                u64::MAX
            }
        };
        let minimum_calls = self.minimum_calls.unwrap_or(MINIMUM_CALLS.min(holds));
        check(minimum_calls > 0, "the minimum of calls must not be zero")?;
        let reachable = minimum_calls <= holds;
        let why = "the minimum of calls is more than the window holds, so no rate would ever count";
        check(reachable, why)?;
        check(
            self.probes > 0,
            "without a probe it would never close again",
        )?;
        let successes = self.successes.unwrap_or(self.probes);
        let sensible = (1..=self.probes).contains(&successes);
        check(
            sensible,
            "the successes that close it must be from one to the number of probes",
        )?;
        check(!self.probe_wait.is_zero(), "a probe must be given time")?;
        let none = self.consecutive.is_none() && self.failure_rate.is_none() && self.slow.is_none();
        Ok(Rules {
            consecutive: self.consecutive.map(u64::from),
            failure_rate: self.failure_rate.or(none.then_some(FAILURE_RATE)),
            slow_rate,
            minimum_calls,
            probes: self.probes,
            successes,
            probe_wait: self.probe_wait,
        })
    }
}

impl Default for BreakerBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for BreakerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BreakerBuilder")
            .field("name", &self.name)
            .field("consecutive_failures", &self.consecutive)
            .field("failure_rate", &self.failure_rate)
            .field("slow_calls", &self.slow)
            .field("window", &self.span)
            .field("open", &self.open)
            .field("probes", &self.probes)
            .finish_non_exhaustive()
    }
}
