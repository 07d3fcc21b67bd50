//! What a breaker says of itself.

use std::fmt;
use std::time::Duration;

use crate::clock::Instant;

/// Whether a breaker lets calls through.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{Breaker, Clock};
/// use cleanbreak::resilience::breaker::State;
///
/// let clock = Clock::manual();
/// let breaker = Breaker::builder().consecutive_failures(1).clock(&clock).build().unwrap();
/// let mut seen = vec![breaker.state()];
/// breaker.acquire().unwrap().failure();
/// seen.push(breaker.state());
/// clock.advance(Duration::from_secs(10)); // time alone changes nothing
/// assert_eq!(breaker.state(), State::Open);
/// let probe = breaker.acquire().unwrap();
/// seen.push(breaker.state());
/// probe.success();
/// seen.push(breaker.state());
/// assert_eq!(seen, [State::Closed, State::Open, State::HalfOpen, State::Closed]);
///
/// breaker.force_open();
/// assert_eq!(breaker.state(), State::ForcedOpen);
/// breaker.disable();
/// assert_eq!(breaker.state(), State::Disabled);
/// breaker.metrics_only();
/// assert_eq!(breaker.state().to_string(), "METRICS_ONLY");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum State {
    /// Calls go through and are counted.
    Closed,
    /// Calls are rejected until the open time is over; the next one after that is a probe.
    Open,
    /// Some calls go through as probes, and decide; the others are rejected.
    HalfOpen,
    /// Calls are rejected until somebody says otherwise.
    ForcedOpen,
    /// Calls go through and are not counted.
    Disabled,
    /// Calls go through and are counted, but it never opens.
    MetricsOnly,
}

impl State {
    /// The first is that of a new breaker.
    pub(super) const ALL: [Self; 6] = [
        Self::Closed,
        Self::Open,
        Self::HalfOpen,
        Self::ForcedOpen,
        Self::Disabled,
        Self::MetricsOnly,
    ];

    /// As a label of a metric says it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half_open",
            Self::ForcedOpen => "forced_open",
            Self::Disabled => "disabled",
            Self::MetricsOnly => "metrics_only",
        }
    }
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "CLOSED",
            Self::Open => "OPEN",
            Self::HalfOpen => "HALF_OPEN",
            Self::ForcedOpen => "FORCED_OPEN",
            Self::Disabled => "DISABLED",
            Self::MetricsOnly => "METRICS_ONLY",
        })
    }
}

/// What made a breaker change its state.
///
/// # Examples
///
/// ```
/// use std::sync::{Arc, Mutex};
/// use std::time::Duration;
/// use cleanbreak::{Breaker, Clock};
/// use cleanbreak::resilience::breaker::Reason;
///
/// let clock = Clock::manual();
/// let reasons = Arc::new(Mutex::new(Vec::new()));
/// let log = reasons.clone();
/// let breaker = Breaker::builder()
///     .consecutive_failures(1)
///     .clock(&clock)
///     .on_transition(move |transition| log.lock().unwrap().push(transition.reason))
///     .build()
///     .unwrap();
/// breaker.acquire().unwrap().failure();
/// clock.advance(Duration::from_secs(10));
/// breaker.acquire().unwrap().failure(); // the probe
/// breaker.reset();
/// use Reason::{ByHand, ConsecutiveFailures, OpenTimeOver, ProbesFailed};
/// let all = [ConsecutiveFailures, OpenTimeOver, ProbesFailed, ByHand];
/// assert_eq!(*reasons.lock().unwrap(), all);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// So many failures in a row.
    ConsecutiveFailures,
    /// The rate of failures in the window.
    FailureRate,
    /// The rate of slow calls in the window.
    SlowCallRate,
    /// The open time was over when a call came.
    OpenTimeOver,
    /// So many probes failed that not enough could succeed.
    ProbesFailed,
    /// A probe had not reported after the maximum wait.
    ProbesHung,
    /// Enough probes succeeded.
    ProbesSucceeded,
    /// Somebody asked for it.
    ByHand,
}

impl Reason {
    /// As a label of a metric says it.
    pub(super) fn label(self) -> &'static str {
        match self {
            Self::ConsecutiveFailures => "consecutive_failures",
            Self::FailureRate => "failure_rate",
            Self::SlowCallRate => "slow_call_rate",
            Self::OpenTimeOver => "open_time_over",
            Self::ProbesFailed => "probes_failed",
            Self::ProbesHung => "probes_hung",
            Self::ProbesSucceeded => "probes_succeeded",
            Self::ByHand => "by_hand",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ConsecutiveFailures => "consecutive failures",
            Self::FailureRate => "failure rate",
            Self::SlowCallRate => "slow-call rate",
            Self::OpenTimeOver => "open time over",
            Self::ProbesFailed => "probes failed",
            Self::ProbesHung => "probes hung",
            Self::ProbesSucceeded => "probes succeeded",
            Self::ByHand => "by hand",
        })
    }
}

/// What was counted, at one moment.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{Breaker, Clock};
///
/// let clock = Clock::manual();
/// let breaker = Breaker::builder().slow_calls(Duration::from_secs(1), 0.9).clock(&clock);
/// let breaker = breaker.build().unwrap();
/// assert_eq!(breaker.snapshot().counts.failure_rate(), None); // of nothing
/// let slow = breaker.acquire().unwrap();
/// clock.advance(Duration::from_secs(1));
/// slow.success();
/// for _ in 0..2 { breaker.acquire().unwrap().failure() }
/// breaker.acquire().unwrap().success();
/// let counts = breaker.snapshot().counts;
/// assert_eq!((counts.calls, counts.failures, counts.slow), (4, 2, 1));
/// assert_eq!((counts.failure_rate(), counts.slow_call_rate()), (Some(0.5), Some(0.25)));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Counts {
    /// Calls in the window.
    pub calls: u64,
    /// Those of them that failed.
    pub failures: u64,
    /// Those of them that were slow, failed or not.
    pub slow: u64,
    /// Failures since the last success, whatever the window.
    pub consecutive_failures: u64,
}

impl Counts {
    /// The share of failures among the calls in the window; `None` without any.
    #[must_use]
    pub fn failure_rate(&self) -> Option<f64> {
        rate(self.failures, self.calls)
    }

    /// The share of slow calls among the calls in the window; `None` without any.
    #[must_use]
    pub fn slow_call_rate(&self) -> Option<f64> {
        rate(self.slow, self.calls)
    }
}

/// A division of whole numbers gives the float that is nearest to the fraction, which is also what a
/// threshold such as 0.07 in the source is: so 7 of 100 is not below it. (A product of the two would
/// be.)
pub(super) fn rate(part: u64, of: u64) -> Option<f64> {
    (of > 0).then(|| part as f64 / of as f64)
}

/// A change of state, as listeners are told of it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{Breaker, Clock};
/// use cleanbreak::resilience::breaker::State;
///
/// let (clock, (tell, told)) = (Clock::manual(), crossbeam_channel::unbounded());
/// let breaker = Breaker::builder()
///     .consecutive_failures(2)
///     .open_for(Duration::from_secs(30))
///     .clock(&clock)
///     .on_transition(move |transition| { tell.send(*transition).ok(); })
///     .build()
///     .unwrap();
/// breaker.acquire().unwrap().failure();
/// breaker.acquire().unwrap().failure();
/// let opened = told.recv().unwrap();
/// assert_eq!((opened.from, opened.to), (State::Closed, State::Open));
/// assert_eq!((opened.at, opened.open_for), (clock.now(), Some(Duration::from_secs(30))));
/// assert_eq!(opened.counts.failures, 2);
/// assert_eq!(opened.to_string(), "CLOSED -> OPEN: consecutive failures");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Transition {
    /// The state that was left.
    pub from: State,
    /// The state that was entered.
    pub to: State,
    /// What led to it.
    pub reason: Reason,
    /// When, by the breaker's clock.
    pub at: Instant,
    /// The generation that begins with it; each transition begins one.
    pub generation: u32,
    /// For how long it will be open, if it opens and that is not for ever.
    pub open_for: Option<Duration>,
    /// What had been counted when the state was left, the call that led to it included.
    pub counts: Counts,
}

impl fmt::Display for Transition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} -> {}: {}", self.from, self.to, self.reason)
    }
}

/// State and counts of a breaker at one moment.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{Breaker, Clock};
/// use cleanbreak::resilience::breaker::State;
///
/// let clock = Clock::manual();
/// let breaker = Breaker::builder().probes(3).clock(&clock).build().unwrap();
/// breaker.trip();
/// assert!(breaker.acquire().is_err());
/// clock.advance(Duration::from_secs(10));
/// breaker.acquire().unwrap().success();
/// let running = breaker.acquire().unwrap();
/// let now = breaker.snapshot();
/// assert_eq!((now.state, now.since), (State::HalfOpen, clock.now()));
/// assert_eq!((now.probes_succeeded, now.probes_running, now.probes_failed), (1, 1, 0));
/// assert_eq!((now.generation, now.rejected, now.remaining_open), (2, 1, None));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Snapshot {
    /// The state.
    pub state: State,
    /// Its generation: how many transitions there have been, modulo 2³².
    pub generation: u32,
    /// Since when it is in this state, by the breaker's clock.
    pub since: Instant,
    /// What has been counted in this generation.
    pub counts: Counts,
    /// When half-open: probes that have not reported.
    pub probes_running: u32,
    /// When half-open: probes that have succeeded.
    pub probes_succeeded: u32,
    /// When half-open: probes that have failed.
    pub probes_failed: u32,
    /// When open: how long it still is, zero if the next call is a probe; `None` for ever.
    pub remaining_open: Option<Duration>,
    /// Calls that were rejected, since the breaker was made. Of the others it is not said to be of
    /// the same moment.
    pub rejected: u64,
}
