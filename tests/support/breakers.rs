//! Breakers on the manual clock, and what is fed to them.
#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::time::Duration;

use cleanbreak::resilience::breaker::{BreakerBuilder, Outcome, State};
use cleanbreak::{Breaker, Clock, ManualClock};

use crate::support::secs;

pub(crate) fn build(builder: BreakerBuilder) -> (ManualClock, Breaker) {
    let clock = Clock::manual();
    let breaker = builder.open_for(secs(10)).clock(&clock).build().unwrap();
    (clock, breaker)
}

pub(crate) fn feed(breaker: &Breaker, outcomes: &[Outcome]) {
    for outcome in outcomes {
        breaker.acquire().unwrap().report(*outcome);
    }
}

pub(crate) fn slow(clock: &ManualClock, breaker: &Breaker, took: Duration) {
    let permit = breaker.acquire().unwrap();
    clock.advance(took);
    permit.success();
}

/// Opens a breaker that does so on one failure, and waits until it can be probed.
pub(crate) fn to_the_probe(clock: &ManualClock, breaker: &Breaker) {
    feed(breaker, &[Outcome::Failure]);
    assert_eq!(breaker.state(), State::Open);
    clock.advance(secs(10));
}

pub(crate) fn counts(breaker: &Breaker) -> (u64, u64, u64) {
    let counts = breaker.snapshot().counts;
    (counts.calls, counts.failures, counts.slow)
}
