//! How many calls at a time: the two algorithms, as pure functions of the time and the samples.
//!
//! Both are TCP's congestion control, put to calls as in Netflix's
//! [concurrency-limits](https://github.com/Netflix/concurrency-limits):
//!
//! * **AIMD** (Chiu and Jain, 1989; TCP Reno): one more after each window without a sign of overload,
//!   a fraction after one.
//! * **Gradient**: after each window, `limit · g + √limit`, smoothed, where `g` is the latency
//!   without a queue over that of the window, times a tolerance, between ½ and 1: the update of
//!   Netflix's `Gradient2Limit`, with the `√limit` of its `GradientLimit` as the queue that is
//!   allowed. As long as there is no queue, the limit grows by `√limit`; as one forms, `g` falls,
//!   and they meet a little above the knee.
//!
//! `Gradient2` takes a slow average as the latency without a queue. Under steady load that average
//! creeps up to the latency *with* the queue, and the limit with it. `Vegas` and `GradientLimit` take the
//! lowest latency ever seen, which is wrong for ever after the server has become slower. Here it is
//! the lowest since the last **probe**: every so many windows the limit is halved for one window,
//! and what is measured then is the new baseline (as BBR's ProbeRTT does; Cardwell et al., 2016).
//!
//! # Invariants
//!
//! 1. The limit is between `min` and `max` after every step.
//! 2. A sign of overload cuts the limit once: those that come from calls that began before the last
//!    cut are its echo (as in TCP NewReno, one cut for each window of data).
//! 3. Only latencies of calls that began after the last cut or probe count: the others were made
//!    under another limit.

use std::time::Duration;

use crate::clock::Instant;

/// The settings.
#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) algorithm: Algorithm,
    pub(super) initial: usize,
    pub(super) min: usize,
    pub(super) max: usize,
    /// What is left of the limit after a sign of overload.
    pub(super) backoff: f64,
    pub(super) window: Duration,
    /// A window does not end with fewer samples.
    pub(super) samples: u32,
    /// A slower success is a sign of overload.
    pub(super) overload_above: Option<Duration>,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Algorithm {
    Aimd,
    Gradient {
        tolerance: f64,
        /// Windows between two probes.
        probe_every: u32,
    },
}

/// How much of a step is taken at once.
const SMOOTHING: f64 = 0.2;

/// One call that has ended.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sample {
    pub(super) started: Instant,
    pub(super) now: Instant,
    /// How many calls were on their way, this one included.
    pub(super) in_use: usize,
    pub(super) outcome: AdaptiveOutcome,
}

/// What a call says about the load of the other side.
///
/// # Examples
///
/// ```
/// use cleanbreak::resilience::{AdaptiveLimit, AdaptiveOutcome};
/// use cleanbreak::CancelToken;
///
/// let limit = AdaptiveLimit::aimd().initial(10).build();
/// let fetch = |status: u16| {
///     let judge = |status: &Result<u16, ()>| match status {
///         Ok(429 | 503) => AdaptiveOutcome::Overloaded,
///         Ok(..400) => AdaptiveOutcome::Success,
///         _ => AdaptiveOutcome::Ignored,
///     };
///     limit.call_with(&CancelToken::never(), |_| Ok(status), judge).unwrap();
///     limit.limit()
/// };
/// assert_eq!([fetch(200), fetch(404), fetch(503)], [10, 10, 5]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum AdaptiveOutcome {
    /// It was served: its latency counts.
    Success,
    /// It was turned away or timed out for lack of capacity: the limit is cut.
    Overloaded,
    /// It says nothing about the load, as an error of the request's own.
    Ignored,
}

pub(super) struct Controller {
    settings: Settings,
    limit: f64,
    /// Calls that began before do not count (3).
    valid_from: Instant,
    window: Window,
    /// In nanoseconds.
    baseline: Option<f64>,
    /// Windows since the last probe.
    windows: u32,
    /// The limit to return to, during a probe.
    probing: Option<f64>,
}

#[derive(Default)]
struct Window {
    /// Of the first sample's end.
    start: Option<Instant>,
    samples: u32,
    /// Of the latencies, in nanoseconds.
    sum: f64,
    peak_in_use: usize,
}

impl Controller {
    pub(super) fn new(settings: Settings) -> Self {
        Self {
            limit: settings.initial as f64,
            settings,
            valid_from: Instant::ZERO,
            window: Window::default(),
            baseline: None,
            windows: 0,
            probing: None,
        }
    }

    /// How many calls there may be at a time.
    pub(super) fn limit(&self) -> usize {
        self.limit as usize
    }

    /// Takes a sample in; the limit may be another one after it.
    pub(super) fn sample(&mut self, sample: Sample) {
        let latency = sample.now.duration_since(sample.started);
        let slow = self
            .settings
            .overload_above
            .is_some_and(|most| latency > most);
        match sample.outcome {
            _ if sample.started < self.valid_from => {}
            AdaptiveOutcome::Ignored => {}
            AdaptiveOutcome::Success if !slow => self.success(sample, latency),
            AdaptiveOutcome::Success | AdaptiveOutcome::Overloaded => self.cut(sample.now),
        }
    }

    fn cut(&mut self, now: Instant) {
        // A probe that finds overload has found nothing else.
        let limit = self.probing.take().unwrap_or(self.limit);
        self.set_limit(limit * self.settings.backoff);
        self.start_over(now);
    }

    fn success(&mut self, sample: Sample, latency: Duration) {
        let window = &mut self.window;
        let start = *window.start.get_or_insert(sample.now);
        window.samples += 1;
        window.sum += latency.as_nanos() as f64;
        window.peak_in_use = window.peak_in_use.max(sample.in_use);
        let over = sample.now.duration_since(start) >= self.settings.window;
        if over && window.samples >= self.settings.samples {
            self.end_window(sample.now);
        }
    }

    fn end_window(&mut self, now: Instant) {
        let window = std::mem::take(&mut self.window);
        let latency = window.sum / f64::from(window.samples);
        // A limit that is not used says nothing: it could grow for ever.
        let used = 2 * window.peak_in_use >= self.limit();
        match self.settings.algorithm {
            Algorithm::Aimd if used => self.set_limit(self.limit + 1.0),
            Algorithm::Aimd => {}
            Algorithm::Gradient {
                tolerance,
                probe_every,
            } => {
                if let Some(limit) = self.probing.take() {
                    self.baseline = Some(latency);
                    self.set_limit(limit);
                    self.start_over(now);
                    return;
                }
                let baseline = self.baseline.map_or(latency, |before| before.min(latency));
                self.baseline = Some(baseline);
                if used {
                    self.follow_gradient(tolerance * baseline / latency.max(1.0));
                }
                self.windows += 1;
                if self.windows >= probe_every {
                    self.windows = 0;
                    self.probing = Some(self.limit);
                    self.set_limit(self.limit / 2.0);
                    self.start_over(now);
                }
            }
        }
    }

    fn follow_gradient(&mut self, gradient: f64) {
        let target = self.limit * gradient.clamp(0.5, 1.0) + self.limit.sqrt();
        self.set_limit(self.limit + SMOOTHING * (target - self.limit));
    }

    fn set_limit(&mut self, limit: f64) {
        self.limit = limit.clamp(self.settings.min as f64, self.settings.max as f64);
    }

    fn start_over(&mut self, now: Instant) {
        self.valid_from = now;
        self.window = Window::default();
    }
}
