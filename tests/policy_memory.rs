//! What a call under a policy allocates that succeeds at once: nothing, with every part in place.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::time::Duration;

use cleanbreak::backoff::Backoff;
use cleanbreak::resilience::policy::PolicyBuilder;
use cleanbreak::{
    Breaker, Bulkhead, CancelToken, Clock, Policy, Quota, RateLimiter, Retry, RetryBudget,
};

/// Counts what each thread allocates.
struct Counting;

thread_local! {
    static COUNT: Cell<usize> = const { Cell::new(0) };
}

#[allow(unsafe_code)]
// SAFETY: every call is handed to the system's allocator as it is; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        COUNT.try_with(|count| count.set(count.get() + 1)).ok();
        // SAFETY: the caller's promises are those that the system's allocator asks for.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

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
    call();
    let before = COUNT.get();
    (0..100).for_each(|_| call());
    COUNT.get() - before
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
