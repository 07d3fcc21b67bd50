//! What happened, in the times of the script.

use std::time::Duration;

use cleanbreak::Clock;
use cleanbreak::clock::Instant;
use cleanbreak::resilience::breaker::{State, Transition};
use cleanbreak::resilience::policy::PolicyErrorKind;
use parking_lot::Mutex;

/// The clock of the script.
#[derive(Clone)]
pub(crate) struct Pace {
    clock: Clock,
    began: Instant,
    speed: u32,
}

impl Pace {
    pub(crate) fn new(clock: &Clock, speed: u32) -> Self {
        Self {
            clock: clock.clone(),
            began: clock.now(),
            speed,
        }
    }

    /// Seconds of the script since the beginning.
    pub(crate) fn now(&self) -> f64 {
        self.at(self.clock.now())
    }

    pub(crate) fn at(&self, instant: Instant) -> f64 {
        self.script(instant.duration_since(self.began)) / 1e3
    }

    /// Milliseconds of the script.
    pub(crate) fn script(&self, real: Duration) -> f64 {
        real.as_secs_f64() * 1e3 * f64::from(self.speed)
    }

    /// So many milliseconds of the script, in real time.
    pub(crate) fn real(&self, millis: u32) -> Duration {
        Duration::from_millis(millis.into()) / self.speed
    }
}

/// How a call of the client's ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Answer {
    FromUpstream,
    /// By the fallback, as the last attempt came to this.
    Fallback(PolicyErrorKind),
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Call {
    /// Seconds.
    pub(crate) began: f64,
    /// Milliseconds.
    pub(crate) took: f64,
    pub(crate) answer: Answer,
}

/// An attempt that was let through.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Try {
    /// Within its call, from 1.
    pub(crate) number: u32,
    /// Seconds.
    pub(crate) ended: f64,
    /// Milliseconds.
    pub(crate) took: f64,
    pub(crate) failed: bool,
    pub(crate) timed_out: bool,
}

/// A request that left the client.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sent {
    /// The breaker's, when it left.
    pub(crate) state: State,
    pub(crate) generation: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    /// Seconds.
    pub(crate) at: f64,
    pub(crate) what: Transition,
}

#[derive(Default)]
pub(crate) struct Record {
    pub(crate) calls: Mutex<Vec<Call>>,
    pub(crate) tries: Mutex<Vec<Try>>,
    pub(crate) sent: Mutex<Vec<Sent>>,
    pub(crate) changes: Mutex<Vec<Change>>,
}
