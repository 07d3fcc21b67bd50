//! What a call that is let through at once allocates: nothing.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::hint::black_box;
use std::time::Duration;

use cleanbreak::resilience::{
    AdaptiveLimit, Bulkhead, KeyedRateLimiter, Quota, RateLimiter, Timeout,
};
use cleanbreak::{CancelToken, Clock};

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

/// Allocations of a hundred calls, after a first one.
fn allocations(call: impl Fn()) -> usize {
    call();
    let before = COUNT.get();
    (0..100).for_each(|_| call());
    COUNT.get() - before
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
