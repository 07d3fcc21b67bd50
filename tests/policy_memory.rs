//! What a call under a policy allocates that succeeds at once: nothing, with every part in place.

#[path = "support/counting.rs"]
mod counting;

use std::time::Duration;

use cleanbreak::backoff::Backoff;
use cleanbreak::resilience::policy::PolicyBuilder;
use cleanbreak::{
    Breaker, Bulkhead, CancelToken, Clock, Policy, Quota, RateLimiter, Retry, RetryBudget,
};

fn everything(clock: &Clock) -> PolicyBuilder<&'static str> {
    let budget = RetryBudget::builder().clock(clock).build().unwrap();
    let retry = Retry::builder().attempts(3).budget(&budget);
    let breaker = Breaker::builder().slow_calls(Duration::from_secs(1), 0.5);
    Policy::builder()
        .name("everything")
        .within(Duration::from_secs(10))
        .retry(retry.backoff(Backoff::constant(Duration::ZERO)))
        .rate_limit(&RateLimiter::with_clock(Quota::per_second(1000), clock))
        .bulkhead(&Bulkhead::new(1))
        .breaker(&breaker.clock(clock).build().unwrap())
        .attempt_timeout(Duration::from_secs(1))
}

/// Allocations of a hundred calls, after a first one.
fn allocations(policy: &Policy<&'static str>, token: &CancelToken) -> usize {
    let call = || {
        let answer = policy.call_or(token, |_| Ok(7), |_| Ok(0));
        assert_eq!(answer.unwrap(), 7);
    };
    counting::allocations(1, 100, call)
}

#[test]
fn a_call_through_every_part_that_succeeds_allocates_nothing() {
    // A clock that stands still, so that no window ends and no token is used up.
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    let slack = everything(&clock)
        .slack(Duration::from_secs(1))
        .build()
        .unwrap();
    assert_eq!(allocations(&slack, &token), 0);
    // The negative control: without slack each attempt has a token of its own.
    let exact = everything(&clock).build().unwrap();
    assert!(allocations(&exact, &token) >= 100);
}
