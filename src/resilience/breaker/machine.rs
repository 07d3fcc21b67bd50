//! The state machine of a breaker. Pure: it takes the time as an argument and runs under its
//! owner's lock.
//!
//! # Invariants
//!
//! 1. Each transition begins a generation, with nothing counted. A ticket is of the generation that
//!    it was given out in; what comes back with an older one has no effect.
//! 2. In HALF_OPEN, `admitted` = running + succeeded + failed <= `probes`; every ticket of that
//!    generation is a probe's.
//! 3. `until` is when OPEN ends, and in HALF_OPEN when the probes that run have hung; there it is
//!    set if and only if one runs.
//! 4. No user code is called: the open times come in through `set_upcoming`.

use std::collections::VecDeque;
use std::time::Duration;

use super::state::{Counts, Reason, Snapshot, State, Transition, rate};
use super::window::{Sample, Window};
use crate::clock::Instant;

/// When it opens and closes.
#[derive(Clone, Debug)]
pub(super) struct Rules {
    pub(super) consecutive: Option<u64>,
    pub(super) failure_rate: Option<f64>,
    pub(super) slow_rate: Option<f64>,
    pub(super) minimum_calls: u64,
    /// Probes of one generation.
    pub(super) probes: u32,
    /// How many of them must succeed.
    pub(super) successes: u32,
    pub(super) probe_wait: Duration,
}

/// What a call is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// It may, in this generation.
    Granted(u32),
    /// It may not; when open, until then.
    Refused(State, Option<Instant>),
}

/// What one more good call can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ease {
    /// Lead to a transition, or be lost if it is not counted at once.
    Exact,
    /// Nothing but be counted.
    Counted,
    /// Nothing at all.
    Clean,
}

/// What is to be done about the open times.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refill {
    /// The next one is there.
    None,
    /// It has been used.
    Next,
    /// It closed: begin again with the first.
    Rewind,
}

#[derive(Clone, Copy, Debug, Default)]
struct Probes {
    running: u32,
    succeeded: u32,
    failed: u32,
}

#[derive(Debug)]
pub(super) struct Machine {
    rules: Rules,
    state: State,
    generation: u32,
    since: Instant,
    until: Option<Instant>,
    window: Window,
    consecutive: u64,
    probes: Probes,
    /// How long it will be open next.
    upcoming: Duration,
    refill: Refill,
    /// Transitions that nobody has been told of yet.
    untold: VecDeque<Transition>,
}

impl Machine {
    pub(super) fn new(rules: Rules, window: Window, upcoming: Duration, now: Instant) -> Self {
        Self {
            rules,
            state: State::Closed,
            generation: 0,
            since: now,
            until: None,
            window,
            consecutive: 0,
            probes: Probes::default(),
            upcoming,
            refill: Refill::None,
            untold: VecDeque::new(),
        }
    }

    pub(super) fn state(&self) -> State {
        self.state
    }

    pub(super) fn generation(&self) -> u32 {
        self.generation
    }

    /// When OPEN ends; `None` if it is not open, or for ever.
    pub(super) fn open_until(&self) -> Option<Instant> {
        self.until.filter(|_| self.state == State::Open)
    }

    /// Whether a call may go through.
    pub(super) fn admit(&mut self, now: Instant) -> Admission {
        self.catch_up(now);
        match self.state {
            State::Closed | State::Disabled | State::MetricsOnly => {}
            State::HalfOpen if self.probes.admitted() < self.rules.probes => {
                self.probes.running += 1;
                self.until = now.checked_add(self.rules.probe_wait);
            }
            State::HalfOpen | State::Open | State::ForcedOpen => {
                return Admission::Refused(self.state, self.open_until());
            }
        }
        Admission::Granted(self.generation)
    }

    /// Does what has come due. A hung probe is a failed one, at the time when it was due; OPEN ends
    /// when somebody comes to probe.
    fn catch_up(&mut self, now: Instant) {
        while let Some(due) = self.until.filter(|until| *until <= now) {
            match self.state {
                State::HalfOpen => self.enter(State::Open, Reason::ProbesHung, due),
                _ => self.enter(State::HalfOpen, Reason::OpenTimeOver, now),
            }
        }
    }

    /// A call of `generation` has ended; with nothing to count if it was neutral.
    pub(super) fn report(&mut self, generation: u32, sample: Option<Sample>, now: Instant) {
        if generation != self.generation {
            return;
        }
        match (self.state, sample) {
            (State::Closed | State::MetricsOnly, Some(sample)) => self.count(sample, now),
            (State::HalfOpen, sample) => self.probe_ended(sample, now),
            _ => {}
        }
    }

    fn count(&mut self, sample: Sample, now: Instant) {
        self.window.advance(now);
        self.window.add(sample);
        self.consecutive = match sample.failed {
            true => self.consecutive + 1,
            false => 0,
        };
        if let Some(reason) = self.tripped().filter(|_| self.state == State::Closed) {
            self.enter(State::Open, reason, now);
        }
    }

    /// Good calls that were counted elsewhere since the last look, all of this generation.
    pub(super) fn count_good(&mut self, calls: u64) {
        if calls > 0 {
            self.window.add_good(calls);
            self.consecutive = 0;
        }
    }

    fn tripped(&self) -> Option<Reason> {
        let (rules, tally) = (&self.rules, self.window.tally());
        let consecutive = rules.consecutive;
        if consecutive.is_some_and(|threshold| self.consecutive >= threshold) {
            return Some(Reason::ConsecutiveFailures);
        }
        if tally.calls < rules.minimum_calls {
            return None;
        }
        let reached = |part, threshold: Option<f64>| {
            threshold.is_some_and(|threshold| rate(part, tally.calls) >= Some(threshold))
        };
        if reached(tally.failures, rules.failure_rate) {
            return Some(Reason::FailureRate);
        }
        reached(tally.slow, rules.slow_rate).then_some(Reason::SlowCallRate)
    }

    /// A slow probe is no evidence of health, so it counts as a failed one.
    fn probe_ended(&mut self, sample: Option<Sample>, now: Instant) {
        self.probes.running -= 1;
        match sample {
            None => {}
            Some(sample) if sample.failed || sample.slow => self.probes.failed += 1,
            Some(_) => self.probes.succeeded += 1,
        }
        if self.probes.running == 0 {
            self.until = None;
        }
        if self.probes.succeeded >= self.rules.successes {
            self.enter(State::Closed, Reason::ProbesSucceeded, now);
        } else if self.probes.failed > self.rules.probes - self.rules.successes {
            self.enter(State::Open, Reason::ProbesFailed, now);
        }
    }

    /// A state that somebody asks for. Nothing if it is in that state, except that CLOSED forgets
    /// what it has counted.
    pub(super) fn set(&mut self, state: State, now: Instant) {
        if state == State::Closed || state != self.state {
            self.enter(state, Reason::ByHand, now);
        }
    }

    fn enter(&mut self, to: State, reason: Reason, at: Instant) {
        let counts = self.counts();
        let from = std::mem::replace(&mut self.state, to);
        self.generation = self.generation.wrapping_add(1);
        self.since = at;
        self.until = None;
        self.consecutive = 0;
        self.probes = Probes::default();
        self.window.clear();
        self.window.advance(at);
        let mut open_for = None;
        match to {
            State::Open => {
                self.until = at.checked_add(self.upcoming);
                open_for = self.until.map(|until| until.duration_since(at));
                self.refill = self.refill.then(Refill::Next);
            }
            State::HalfOpen => {}
            _ => self.refill = Refill::Rewind,
        }
        self.untold.push_back(Transition {
            from,
            to,
            reason,
            at,
            generation: self.generation,
            open_for,
            counts,
        });
    }

    /// What one more good call can do, while nothing else happens and the window's slice lasts.
    ///
    /// It lowers both rates, or leaves them. So if no threshold is reached without it, it can trip
    /// the breaker only by making up the minimum of calls, and only if something bad is among them.
    /// (One may be reached, and not acted upon, when a look has moved the window on.)
    pub(super) fn ease(&self) -> Ease {
        match self.state {
            State::Disabled => return Ease::Clean,
            State::Closed | State::MetricsOnly => {}
            State::Open | State::HalfOpen | State::ForcedOpen => return Ease::Exact,
        }
        let tally = self.window.tally();
        let trips = self.state == State::Closed && !tally.is_clean();
        if self.consecutive == 0 && self.window.is_settled() {
            Ease::Clean
        } else if trips && (tally.calls < self.rules.minimum_calls || self.tripped().is_some()) {
            Ease::Exact
        } else {
            Ease::Counted
        }
    }

    pub(super) fn window(&self) -> &Window {
        &self.window
    }

    pub(super) fn next_untold(&mut self) -> Option<Transition> {
        self.untold.pop_front()
    }

    pub(super) fn has_untold(&self) -> bool {
        !self.untold.is_empty()
    }

    /// What is to be done about the open times; from now on it counts as being done.
    pub(super) fn take_refill(&mut self) -> Refill {
        std::mem::replace(&mut self.refill, Refill::None)
    }

    pub(super) fn set_upcoming(&mut self, open_for: Duration) {
        self.upcoming = open_for;
    }

    fn counts(&self) -> Counts {
        let tally = self.window.tally();
        Counts {
            calls: tally.calls,
            failures: tally.failures,
            slow: tally.slow,
            consecutive_failures: self.consecutive,
        }
    }

    pub(super) fn snapshot(&mut self, now: Instant, rejected: u64) -> Snapshot {
        self.window.advance(now);
        Snapshot {
            state: self.state,
            generation: self.generation,
            since: self.since,
            counts: self.counts(),
            probes_running: self.probes.running,
            probes_succeeded: self.probes.succeeded,
            probes_failed: self.probes.failed,
            remaining_open: self.open_until().map(|until| until.duration_since(now)),
            rejected,
        }
    }
}

impl Probes {
    fn admitted(&self) -> u32 {
        self.running + self.succeeded + self.failed
    }
}

impl Refill {
    /// A rewind that has not been done yet gives the next one too.
    fn then(self, next: Self) -> Self {
        match self {
            Self::Rewind => Self::Rewind,
            Self::None | Self::Next => next,
        }
    }
}
