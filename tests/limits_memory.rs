//! What a call that is let through at once allocates: nothing.

#[path = "support/counting.rs"]
mod counting;

use std::hint::black_box;
use std::time::Duration;

use cleanbreak::resilience::{
    AdaptiveLimit, Bulkhead, KeyedRateLimiter, Quota, RateLimiter, Timeout,
};
use cleanbreak::{CancelToken, Clock};

/// Allocations of a hundred calls, after a first one.
fn allocations(call: impl Fn()) -> usize {
    counting::allocations(1, 100, call)
}

#[test]
fn a_call_that_is_let_through_allocates_nothing() {
    // A clock that stands still, so that no window ends and no token is used up.
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    let bulkhead = Bulkhead::new(1);
    let call = || bulkhead.call(&token, |_| Ok::<_, ()>(())).unwrap();
    assert_eq!(allocations(call), 0);
    let limiter = RateLimiter::with_clock(Quota::per_second(1000), &clock);
    let call = || limiter.call(&token, |_| Ok::<_, ()>(())).unwrap();
    assert_eq!(allocations(call), 0);
    let keyed = KeyedRateLimiter::<String>::with_clock(Quota::per_second(1000), &clock);
    let call = || keyed.call(&token, "ann", |_| Ok::<_, ()>(())).unwrap();
    assert_eq!(allocations(call), 0);
    let limit = AdaptiveLimit::gradient().clock(&clock).build();
    let call = || limit.call(&token, |_| Ok::<_, ()>(())).unwrap();
    assert_eq!(allocations(call), 0);
    let timeout = Timeout::new(Duration::from_secs(1)).with_slack(Duration::from_secs(1));
    let call = || timeout.call(&token, |_| Ok::<_, ()>(())).unwrap();
    assert_eq!(allocations(call), 0);
}

/// The negative control: a timeout without slack makes a token for each call.
#[test]
fn an_allocation_would_be_counted() {
    assert_eq!(allocations(|| drop(black_box(Box::new(7)))), 100);
    let token = CancelToken::with_clock(&Clock::manual());
    let timeout = Timeout::new(Duration::from_secs(1));
    let call = || timeout.call(&token, |_| Ok::<_, ()>(())).unwrap();
    assert!(allocations(call) >= 100);
}
