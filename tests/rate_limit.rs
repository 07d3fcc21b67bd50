//! Rate limiters: exact at every threshold, waits that end, keys that are forgotten.

#![allow(
    clippy::disallowed_methods,
    reason = "threads that are not the library's own"
)]

mod support;

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use cleanbreak::resilience::{CallError, KeyedRateLimiter, Quota, RateLimitError, RateLimiter};
use cleanbreak::{CancelToken, Clock, ManualClock};
use support::{in_time, millis, rng, secs, until};

const NANO: Duration = Duration::from_nanos(1);

#[test]
fn a_burst_comes_at_once_and_then_one_each_period_to_the_nanosecond() {
    let clock = Clock::manual();
    let limiter = RateLimiter::with_clock(Quota::per_second(10).burst(3), &clock);
    (0..3).for_each(|_| limiter.try_acquire().unwrap());
    for _ in 0..5 {
        let refused = limiter.try_acquire().unwrap_err();
        assert_eq!(refused.retry_after(), Some(millis(100)));
        clock.advance(millis(100) - NANO);
        let refused = limiter.try_acquire().unwrap_err();
        assert_eq!(refused.retry_after(), Some(NANO));
        clock.advance(NANO);
        limiter.try_acquire().unwrap();
    }
    // A refusal costs nothing; a rest fills the bucket up to the burst, and no further.
    clock.advance(secs(3600));
    (0..3).for_each(|_| limiter.try_acquire().unwrap());
    assert!(limiter.try_acquire().unwrap_err().is_limited());
}

#[test]
fn three_a_second_are_three_a_second_and_not_a_little_more() {
    let clock = Clock::manual();
    let limiter = RateLimiter::with_clock(Quota::per_second(3).burst(1), &clock);
    let mut admitted = 0;
    // A third of a second is not a whole number of nanoseconds: by the end of a day of rounding
    // down, one more would have come through.
    for _ in 0..1000 {
        assert!(limiter.try_acquire().is_ok());
        admitted += 1;
        let wait = limiter.try_acquire().unwrap_err().retry_after().unwrap();
        clock.advance(wait);
    }
    let third = Duration::from_nanos(333_333_334);
    assert!(clock.now().as_nanos() >= 1000 * 1_000_000_000 / 3);
    assert!(clock.now().as_nanos() <= 1000 * third.as_nanos() as u64);
    assert_eq!(admitted, 1000);
}

#[test]
fn a_cost_counts_as_so_many_and_more_than_the_burst_is_never_let_through() {
    let clock = Clock::manual();
    let limiter = RateLimiter::with_clock(Quota::new(1, secs(1)).burst(5), &clock);
    limiter.try_acquire_n(0).unwrap();
    limiter.try_acquire_n(3).unwrap();
    let refused = limiter.try_acquire_n(3).unwrap_err();
    assert_eq!(refused.retry_after(), Some(secs(1)));
    limiter.try_acquire_n(2).unwrap();
    let refused = limiter.try_acquire_n(5).unwrap_err();
    assert_eq!(refused.retry_after(), Some(secs(5)));
    clock.advance(secs(1000));
    let refused = limiter.try_acquire_n(6).unwrap_err();
    assert!(refused.is_too_large() && refused.retry_after().is_none());
    assert_eq!(
        refused.to_string(),
        "a cost of 6 is more than the burst of 5"
    );
    limiter.try_acquire_n(5).unwrap();
}

#[test]
fn settings_that_make_no_sense_are_refused_with_a_message() {
    let message = |quota: fn() -> Quota| {
        let payload = support::payload_of(quota);
        *payload.downcast::<&str>().unwrap()
    };
    assert!(message(|| Quota::per_second(0)).contains("limit"));
    assert!(message(|| Quota::per_second(1).burst(0)).contains("burst"));
    assert!(message(|| Quota::new(1, Duration::ZERO)).contains("period"));
    assert!(message(|| Quota::new(1, Duration::MAX)).contains("period"));
    // The slowest, largest and longest that there is neither panics nor wraps.
    let slow = RateLimiter::new(Quota::new(1, Duration::from_nanos(u64::MAX)).burst(u32::MAX));
    slow.try_acquire_n(u32::MAX).unwrap();
    assert!(slow.try_acquire().unwrap_err().is_limited());
    let token = CancelToken::new();
    let refused = slow.acquire_n(&token, u32::MAX).unwrap_err();
    assert!(refused.is_deadline(), "that is after the end of time");
}

/// Runs `wait` beside the clock, and returns at what time it came back.
fn wait_on(
    clock: &ManualClock,
    limiter: &RateLimiter,
    token: &CancelToken,
    act: impl FnOnce(),
) -> Result<(), RateLimitError> {
    thread::scope(|s| {
        let waiter = s.spawn(|| limiter.acquire(token));
        clock.await_timers(1);
        act();
        waiter.join().unwrap()
    })
}

#[test]
fn a_wait_ends_when_its_time_comes_or_its_token_is_cancelled() {
    in_time(|| {
        let clock = Clock::manual();
        let limiter = RateLimiter::with_clock(Quota::per_second(1), &clock);
        let token = CancelToken::with_clock(&clock);
        limiter.acquire(&token).unwrap();
        wait_on(&clock, &limiter, &token, || clock.advance(secs(1))).unwrap();
        assert_eq!(clock.now().as_nanos(), 1_000_000_000);

        let waits = token.child();
        let told = wait_on(&clock, &limiter, &waits, || {
            clock.advance(secs(1) - NANO);
            waits.cancel_with("enough");
        });
        assert_eq!(told.unwrap_err().to_string(), "cancelled: enough");
        assert_eq!(clock.timers(), 0);
        // What it had reserved was given back: the next one is due when it would have been.
        let refused = limiter.try_acquire().unwrap_err();
        assert_eq!(refused.retry_after(), Some(NANO));
        clock.advance(NANO);
        limiter.try_acquire().unwrap();
        assert!(limiter.acquire(&waits).unwrap_err().is_cancelled());
    });
}

#[test]
fn who_cannot_wait_for_long_enough_is_told_at_once_at_the_nanosecond() {
    in_time(|| {
        let clock = Clock::manual();
        let limiter = RateLimiter::with_clock(Quota::per_second(1), &clock);
        let token = CancelToken::with_clock(&clock);
        limiter.try_acquire().unwrap();
        let hasty = token.child_timeout(secs(1) - NANO);
        let refused = limiter.acquire(&hasty).unwrap_err();
        assert!(refused.is_deadline());
        assert_eq!(refused.retry_after(), Some(secs(1)));
        let refused = limiter.acquire_timeout(&token, secs(1) - NANO).unwrap_err();
        assert!(
            refused.is_deadline(),
            "it has reserved nothing, either: {refused}"
        );
        drop(hasty);
        thread::scope(|s| {
            let waiter = s.spawn(|| limiter.acquire_timeout(&token, secs(1)));
            clock.await_timers(1);
            clock.advance(secs(1));
            waiter.join().unwrap().unwrap();
        });
    });
}

#[test]
fn those_who_wait_come_one_period_after_the_other_and_a_gap_is_not_filled_twice() {
    in_time(|| {
        let clock = Clock::manual();
        let limiter = RateLimiter::with_clock(Quota::per_second(1), &clock);
        let token = CancelToken::with_clock(&clock);
        limiter.try_acquire().unwrap();
        let through = AtomicUsize::new(0);
        let gives_up = token.child();
        thread::scope(|s| {
            for n in 1..=3 {
                let token = if n == 2 { &gives_up } else { &token };
                let (limiter, through) = (&limiter, &through);
                s.spawn(move || match limiter.acquire(token) {
                    Ok(()) => drop(through.fetch_add(1, Ordering::SeqCst)),
                    Err(refused) => assert!(refused.is_cancelled() && n == 2),
                });
                clock.await_timers(n);
            }
            gives_up.cancel();
            until(|| clock.timers() == 2);
            // The second one's place lies before the third's, whose time is fixed: if others could
            // have it, two would come at once.
            let refused = limiter.try_acquire().unwrap_err();
            assert_eq!(refused.retry_after(), Some(secs(4)));
            clock.advance(secs(2));
            until(|| through.load(Ordering::SeqCst) == 1);
            clock.advance(secs(1));
        });
        assert_eq!(through.into_inner(), 2);
    });
}

#[test]
fn a_call_runs_when_it_is_let_through_and_not_otherwise() {
    let clock = Clock::manual();
    let limiter = RateLimiter::with_clock(Quota::per_second(1).burst(2), &clock);
    let token = CancelToken::with_clock(&clock).child_timeout(millis(1));
    assert_eq!(limiter.call(&token, |_| Ok::<_, ()>(7)).unwrap(), 7);
    let failed = limiter.call(&token, |_| Err::<(), _>("no")).unwrap_err();
    assert!(matches!(failed, CallError::Failed("no")));
    let refused = limiter.call(&token, |_| -> Result<(), ()> { unreachable!() });
    assert!(refused.unwrap_err().into_refusal().unwrap().is_deadline());
}

/// Eight threads ask as fast as they can while the clock runs; how many were let through, and
/// what would have been allowed at the most.
fn hammer(
    ask: impl Fn() -> bool + Sync,
    clock: &ManualClock,
    rng: &mut fastrand::Rng,
) -> (u64, u64) {
    let admitted = AtomicU64::new(0);
    let begin = clock.now();
    thread::scope(|s| {
        let threads: Vec<_> = (0..8)
            .map(|_| {
                s.spawn(|| {
                    let mine = (0..20_000).filter(|_| ask()).count();
                    admitted.fetch_add(mine as u64, Ordering::Relaxed);
                })
            })
            .collect();
        while !threads.iter().all(thread::ScopedJoinHandle::is_finished) {
            clock.advance(Duration::from_micros(rng.u64(1..50)));
            thread::yield_now();
        }
    });
    let micros = clock.now().duration_since(begin).as_micros() as u64;
    // A burst of 10, and one each 10 µs.
    (admitted.into_inner(), 10 + micros / 10)
}

#[test]
fn eight_threads_are_never_let_through_more_often_than_burst_and_rate_allow() {
    let mut rng = rng("rate limit");
    in_time(move || {
        let clock = Clock::manual();
        let quota = Quota::per_second(100_000).burst(10);
        let limiter = RateLimiter::with_clock(quota, &clock);
        let (admitted, most) = hammer(|| limiter.try_acquire().is_ok(), &clock, &mut rng);
        assert!(10 <= admitted && admitted <= most, "{admitted} of {most}");

        let keyed = KeyedRateLimiter::<u32>::with_clock(quota, &clock);
        let (admitted, most) = hammer(|| keyed.try_acquire(&7).is_ok(), &clock, &mut rng);
        assert!(10 <= admitted && admitted <= most, "{admitted} of {most}");
    });
}

#[test]
fn with_the_clock_standing_still_eight_threads_get_the_burst_exactly() {
    in_time(|| {
        for _ in 0..50 {
            let clock = Clock::manual();
            let limiter = RateLimiter::with_clock(Quota::per_second(1).burst(100), &clock);
            let keyed = KeyedRateLimiter::<u8>::with_clock(limiter.quota(), &clock);
            let (single, by_key) = (AtomicUsize::new(0), AtomicUsize::new(0));
            thread::scope(|s| {
                for _ in 0..8 {
                    s.spawn(|| {
                        for _ in 0..50 {
                            let one = usize::from(limiter.try_acquire().is_ok());
                            single.fetch_add(one, Ordering::Relaxed);
                            let one = usize::from(keyed.try_acquire(&1).is_ok());
                            by_key.fetch_add(one, Ordering::Relaxed);
                        }
                    });
                }
            });
            assert_eq!((single.into_inner(), by_key.into_inner()), (100, 100));
            assert_eq!(keyed.keys(), 1);
        }
    });
}

/// The negative control: a bucket that is looked at and then changed lets more through.
#[test]
fn a_limiter_that_looks_first_and_counts_later_is_found_out() {
    let mut rng = rng("racy limiter");
    in_time(move || {
        let racy = |full: &AtomicU64| {
            let left = full.load(Ordering::SeqCst);
            thread::yield_now();
            full.store(left.saturating_sub(1), Ordering::SeqCst);
            left > 0
        };
        let clock = Clock::manual();
        until(|| {
            let full = AtomicU64::new(10);
            let admitted = AtomicU64::new(0);
            thread::scope(|s| {
                for _ in 0..8 {
                    s.spawn(|| {
                        let mine = (0..20).filter(|_| racy(&full)).count();
                        admitted.fetch_add(mine as u64, Ordering::Relaxed);
                    });
                }
            });
            clock.advance(Duration::from_micros(rng.u64(1..5)));
            admitted.into_inner() > 10
        });
    });
}

#[test]
fn each_key_has_a_bucket_of_its_own() {
    let clock = Clock::manual();
    let limiter = KeyedRateLimiter::<String>::with_clock(Quota::per_second(2), &clock);
    for name in ["ann", "ben"] {
        limiter.try_acquire(name).unwrap();
        limiter.try_acquire_n(name, 1).unwrap();
        assert_eq!(
            limiter.try_acquire(name).unwrap_err().retry_after(),
            Some(millis(500))
        );
    }
    assert_eq!(limiter.keys(), 2);
    assert!(limiter.try_acquire_n("cat", 3).unwrap_err().is_too_large());
    assert_eq!(limiter.keys(), 2, "who was refused is not remembered");
}

#[test]
fn idle_keys_are_forgotten_when_their_bucket_is_full_and_not_before() {
    let clock = Clock::manual();
    let limiter = KeyedRateLimiter::<u32>::with_clock(Quota::per_second(2), &clock);
    limiter.try_acquire_n(&1, 2).unwrap();
    limiter.try_acquire_n(&2, 1).unwrap();
    clock.advance(millis(500) - NANO);
    assert_eq!(limiter.forget_idle(), 0);
    clock.advance(NANO);
    assert_eq!(limiter.forget_idle(), 1); // 2 used one, which has come back
    clock.advance(millis(500) - NANO);
    assert_eq!((limiter.forget_idle(), limiter.keys()), (0, 1));
    clock.advance(NANO);
    assert_eq!((limiter.forget_idle(), limiter.keys()), (1, 0));
}

#[test]
fn a_stream_of_keys_that_come_once_does_not_grow_the_table() {
    let clock = Clock::manual();
    let limiter = KeyedRateLimiter::<u64>::with_clock(Quota::per_second(1), &clock);
    let mut most = 0;
    for key in 0..100_000 {
        limiter.try_acquire(&key).unwrap();
        clock.advance(millis(1)); // a thousand in use at any time
        most = most.max(limiter.keys());
    }
    assert!((1000..=2 * 1000 + 32 * 64).contains(&most), "{most}");
}

#[test]
fn at_the_cap_a_new_key_is_refused_and_known_ones_are_served() {
    let clock = Clock::manual();
    let limiter = KeyedRateLimiter::<u32>::with_clock(Quota::per_second(4).burst(4), &clock);
    let limiter = limiter.with_max_keys(100);
    (0..100).for_each(|key| limiter.try_acquire_n(&key, 4).unwrap());
    let refused = limiter.try_acquire(&100).unwrap_err();
    assert!(refused.is_too_many_keys(), "{refused}");
    assert_eq!(limiter.keys(), 100);
    // A bucket is full after a second, and a full table is looked through every sixteenth of it.
    clock.advance(secs(1) - NANO);
    assert!(limiter.try_acquire(&100).unwrap_err().is_too_many_keys());
    clock.advance(secs(1) / 16);
    limiter.try_acquire(&7).unwrap(); // known, and in use again
    limiter.try_acquire(&100).unwrap();
    assert!(
        limiter.keys() <= 2,
        "the idle ones are gone: {}",
        limiter.keys()
    );
    assert!(
        KeyedRateLimiter::<u8>::new(limiter.quota())
            .with_max_keys(0)
            .try_acquire(&1)
            .unwrap_err()
            .is_too_many_keys()
    );
}

#[test]
fn threads_that_bring_new_keys_never_exceed_the_cap() {
    in_time(|| {
        let clock = Clock::manual();
        let limiter = KeyedRateLimiter::<u64>::with_clock(Quota::per_second(1), &clock);
        let limiter = limiter.with_max_keys(500);
        let admitted = AtomicUsize::new(0);
        thread::scope(|s| {
            for thread in 0..8 {
                let (limiter, admitted) = (&limiter, &admitted);
                s.spawn(move || {
                    for n in 0..500 {
                        let served = limiter.try_acquire(&(thread * 500 + n)).is_ok();
                        admitted.fetch_add(usize::from(served), Ordering::Relaxed);
                        assert!(limiter.keys() <= 500);
                    }
                });
            }
        });
        assert_eq!((admitted.into_inner(), limiter.keys()), (500, 500));
        clock.advance(secs(1));
        assert_eq!(limiter.forget_idle(), 500);
        assert_eq!(limiter.keys(), 0);
    });
}

#[test]
fn a_wait_for_a_key_ends_with_its_token_and_gives_back() {
    in_time(|| {
        let clock = Clock::manual();
        let limiter = KeyedRateLimiter::<String>::with_clock(Quota::per_second(1), &clock);
        let token = CancelToken::with_clock(&clock);
        limiter.acquire(&token, "ann").unwrap();
        thread::scope(|s| {
            let waiter = s.spawn(|| limiter.acquire(&token, "ann"));
            clock.await_timers(1);
            limiter.acquire(&token, "ben").unwrap(); // does not wait for ann
            token.cancel();
            assert!(waiter.join().unwrap().unwrap_err().is_cancelled());
        });
        let refused = limiter.try_acquire("ann").unwrap_err();
        assert_eq!(refused.retry_after(), Some(secs(1)));
        let token = CancelToken::with_clock(&clock);
        let refused = limiter.acquire_timeout(&token, "ann", secs(1) - NANO);
        assert!(refused.unwrap_err().is_deadline());
        assert!(
            limiter
                .acquire_n(&token, "ann", 2)
                .unwrap_err()
                .is_too_large()
        );
    });
}

#[test]
fn a_wait_on_the_system_s_clock_takes_its_time() {
    in_time(|| {
        let limiter = RateLimiter::new(Quota::new(1, millis(5)));
        let token = CancelToken::new();
        let begin = token.clock().now();
        (0..5).for_each(|_| limiter.acquire(&token).unwrap());
        assert!(token.clock().now().duration_since(begin) >= millis(20));
    });
}
