//! The policy: every part in its place, whatever the others do.

mod answers;
mod refusals;
#[path = "../support/mod.rs"]
mod support;
mod times;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use cleanbreak::backoff::Backoff;
use cleanbreak::resilience::AcquireError;
use cleanbreak::resilience::breaker::{Outcome, State};
use cleanbreak::resilience::policy::{AttemptError, PolicyBuilder, PolicyErrorKind as Kind};
use cleanbreak::resilience::retry::{GaveUp, RetryBuilder};
use cleanbreak::{
    Breaker, Bulkhead, CancelKind, CancelToken, Clock, ManualClock, Policy, Quota, RateLimiter,
    Retry, scope,
};
use support::{cancelled, in_time, millis, payload_of, secs, until, until_waiting};

type Error = &'static str;

fn policy() -> PolicyBuilder<Error> {
    Policy::builder()
}

/// Another attempt at once.
fn at_once(attempts: u32) -> RetryBuilder<AttemptError<Error>> {
    let retry = Retry::builder().attempts(attempts);
    retry.backoff(Backoff::constant(Duration::ZERO))
}

/// Opens with the first failure, for ten seconds.
fn fragile(clock: &Clock) -> Breaker {
    let breaker = Breaker::builder().consecutive_failures(1);
    let breaker = breaker.open_for(secs(10)).clock(clock);
    breaker.build().unwrap()
}

fn manual() -> (ManualClock, CancelToken) {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    (clock, token)
}

/// How many tokens can be had now.
fn tokens(limiter: &RateLimiter) -> usize {
    (0..).take_while(|_| limiter.try_acquire().is_ok()).count()
}

#[test]
fn with_nothing_set_it_is_the_operation_alone() {
    let token = CancelToken::new();
    let policy = policy().build().unwrap();
    let same = policy
        .call(&token, |attempt| Ok(attempt.deadline()))
        .unwrap();
    assert_eq!(same, None);
    let error = policy.call(&token, |_| Err::<(), _>("reset")).unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert_eq!((error.attempts(), error.to_string().as_str()), (1, "reset"));
    assert_eq!(error.into_last_error(), Some("reset"));
}
