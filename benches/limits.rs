//! What the limits cost: permits beside semaphores made of a mutex and a condition variable and of
//! a crossbeam channel, rate limits beside governor, and the rest beside nothing.
//!
//! Each contender asserts what it was let through.
#![allow(missing_docs, reason = "criterion's macros")]
#![allow(
    clippy::disallowed_methods,
    reason = "threads that are not the library's own"
)]

use std::hint::black_box;
use std::num::NonZeroU32;
use std::time::Duration;

use cleanbreak::resilience::{
    Abandoner, AdaptiveLimit, Bulkhead, Hedge, KeyedRateLimiter, Quota, RateLimiter, Timeout,
};
use cleanbreak::{CancelToken, Clock, ThreadCache};
use criterion::{Criterion, criterion_group, criterion_main};
use crossbeam_channel::bounded;
use parking_lot::{Condvar, Mutex};

/// The semaphore that everybody writes.
struct MutexSemaphore {
    free: Mutex<usize>,
    freed: Condvar,
}

impl MutexSemaphore {
    fn new(permits: usize) -> Self {
        Self {
            free: Mutex::new(permits),
            freed: Condvar::new(),
        }
    }

    fn acquire(&self) {
        let mut free = self.free.lock();
        while *free == 0 {
            self.freed.wait(&mut free);
        }
        *free -= 1;
    }

    fn release(&self) {
        *self.free.lock() += 1;
        self.freed.notify_one();
    }
}

const ROUNDS: usize = 2_000;

/// Runs `round` on so many threads, each so many times; returns the sum of what it gave.
fn on_threads(threads: usize, round: impl Fn() -> usize + Sync) -> usize {
    std::thread::scope(|s| {
        let all: Vec<_> = (0..threads)
            .map(|_| s.spawn(|| (0..ROUNDS).map(|_| round()).sum::<usize>()))
            .collect();
        all.into_iter().map(|thread| thread.join().unwrap()).sum()
    })
}

fn permits(c: &mut Criterion) {
    let mut group = c.benchmark_group("limits/permit_alone");
    let token = CancelToken::new();
    let bulkhead = Bulkhead::new(4);
    group.bench_function("bulkhead_acquire", |b| {
        b.iter(|| {
            let _permit = black_box(bulkhead.acquire(&token).unwrap());
        })
    });
    group.bench_function("bulkhead_try_acquire", |b| {
        b.iter(|| {
            let _permit = black_box(bulkhead.try_acquire().unwrap());
        })
    });
    assert_eq!(bulkhead.in_use(), 0);
    let semaphore = MutexSemaphore::new(4);
    group.bench_function("mutex_condvar", |b| {
        b.iter(|| {
            semaphore.acquire();
            semaphore.release();
        })
    });
    assert_eq!(*semaphore.free.lock(), 4);
    let (give, take) = bounded(4);
    (0..4).for_each(|_| give.send(()).unwrap());
    group.bench_function("crossbeam_bounded", |b| {
        b.iter(|| {
            take.recv().unwrap();
            give.send(()).unwrap();
        })
    });
    assert_eq!(take.len(), 4);
    let limit = AdaptiveLimit::gradient().build();
    group.bench_function("adaptive_limit", |b| {
        b.iter(|| limit.acquire(&token).unwrap().success())
    });
    assert_eq!(limit.in_use(), 0);
    group.finish();

    for (threads, permits) in [(2, 4), (8, 2)] {
        let name = format!("limits/{threads}_threads_{permits}_permits_{ROUNDS}_rounds");
        let mut group = c.benchmark_group(name);
        group.sample_size(10);
        let expected = threads * ROUNDS;
        let bulkhead = Bulkhead::new(permits);
        group.bench_function("bulkhead", |b| {
            b.iter(|| {
                let rounds = on_threads(threads, || {
                    let _permit = bulkhead.acquire(&token).unwrap();
                    1
                });
                assert_eq!(rounds, expected);
            })
        });
        let semaphore = MutexSemaphore::new(permits);
        group.bench_function("mutex_condvar", |b| {
            b.iter(|| {
                let rounds = on_threads(threads, || {
                    semaphore.acquire();
                    semaphore.release();
                    1
                });
                assert_eq!(rounds, expected);
            })
        });
        let (give, take) = bounded(permits);
        (0..permits).for_each(|_| give.send(()).unwrap());
        group.bench_function("crossbeam_bounded", |b| {
            b.iter(|| {
                let rounds = on_threads(threads, || {
                    take.recv().unwrap();
                    give.send(()).unwrap();
                    1
                });
                assert_eq!(rounds, expected);
            })
        });
        group.finish();
    }
}

const fn nonzero(n: u32) -> NonZeroU32 {
    NonZeroU32::new(n).unwrap()
}

/// As many a second as there will never be.
const MANY: u32 = 1_000_000_000;

fn rates(c: &mut Criterion) {
    let mut group = c.benchmark_group("limits/rate_let_through");
    let quota = Quota::per_second(MANY);
    let theirs = governor::Quota::per_second(nonzero(MANY));
    let limiter = RateLimiter::new(quota);
    group.bench_function("cleanbreak", |b| b.iter(|| limiter.try_acquire().unwrap()));
    let peer = governor::RateLimiter::direct_with_clock(theirs, governor::clock::MonotonicClock);
    group.bench_function("governor", |b| b.iter(|| peer.check().unwrap()));
    group.finish();

    let mut group = c.benchmark_group("limits/rate_refused");
    let limiter = RateLimiter::new(Quota::new(1, Duration::from_secs(3600)));
    limiter.try_acquire().unwrap();
    group.bench_function("cleanbreak", |b| {
        b.iter(|| assert!(black_box(limiter.try_acquire()).is_err()))
    });
    let hour = governor::Quota::with_period(Duration::from_secs(3600)).unwrap();
    let peer = governor::RateLimiter::direct_with_clock(hour, governor::clock::MonotonicClock);
    peer.check().unwrap();
    group.bench_function("governor", |b| {
        b.iter(|| assert!(black_box(peer.check()).is_err()))
    });
    group.finish();

    let mut group = c.benchmark_group("limits/rate_of_10000_keys");
    let limiter = KeyedRateLimiter::<u32>::new(quota);
    let mut keys = (0..10_000).cycle();
    group.bench_function("cleanbreak", |b| {
        b.iter(|| limiter.try_acquire(&keys.next().unwrap()).unwrap())
    });
    let peer = governor::RateLimiter::dashmap_with_clock(theirs, governor::clock::MonotonicClock);
    let mut keys = (0..10_000_u32).cycle();
    group.bench_function("governor_dashmap", |b| {
        b.iter(|| peer.check_key(&keys.next().unwrap()).unwrap())
    });
    group.finish();

    let mut group = c.benchmark_group(format!("limits/rate_8_threads_{ROUNDS}_rounds"));
    group.sample_size(10);
    let limiter = RateLimiter::new(quota);
    group.bench_function("cleanbreak", |b| {
        b.iter(|| {
            let through = on_threads(8, || usize::from(limiter.try_acquire().is_ok()));
            assert_eq!(through, 8 * ROUNDS);
        })
    });
    let peer = governor::RateLimiter::direct_with_clock(theirs, governor::clock::MonotonicClock);
    group.bench_function("governor", |b| {
        b.iter(|| {
            let through = on_threads(8, || usize::from(peer.check().is_ok()));
            assert_eq!(through, 8 * ROUNDS);
        })
    });
    group.finish();
}

fn bounded_calls(c: &mut Criterion) {
    let mut group = c.benchmark_group("limits/call");
    let (token, clock) = (CancelToken::new(), Clock::system());
    let timeout = Timeout::new(Duration::from_secs(1));
    group.bench_function("timeout_alone", |b| {
        b.iter(|| assert_eq!(timeout.call(&token, |_| Ok::<_, ()>(7)).unwrap(), 7))
    });
    let timeout = timeout.keep_timer(&clock).unwrap();
    group.bench_function("timeout_timer_kept", |b| {
        b.iter(|| assert_eq!(timeout.call(&token, |_| Ok::<_, ()>(7)).unwrap(), 7))
    });
    let timeout = timeout.with_slack(Duration::from_millis(100));
    group.bench_function("timeout_with_slack", |b| {
        b.iter(|| assert_eq!(timeout.call(&token, |_| Ok::<_, ()>(7)).unwrap(), 7))
    });
    let abandoner = Abandoner::builder().build();
    group.bench_function("abandon_after", |b| {
        b.iter(|| {
            let call = abandoner.abandon_after(&token, Duration::from_secs(1), |_| Ok::<_, ()>(7));
            assert_eq!(call.unwrap(), 7);
        })
    });
    let hedge = Hedge::after(Duration::from_secs(1));
    let cold = hedge.build();
    group.bench_function("hedge", |b| {
        b.iter(|| assert_eq!(cold.call(&token, |_| Ok::<_, ()>(7)).unwrap(), 7))
    });
    let cache = ThreadCache::new();
    let warm = Hedge::after(Duration::from_secs(1)).cache(&cache).build();
    group.bench_function("hedge_warm", |b| {
        b.iter(|| assert_eq!(warm.call(&token, |_| Ok::<_, ()>(7)).unwrap(), 7))
    });
    group.finish();
}

criterion_group!(benches, permits, rates, bounded_calls);
criterion_main!(benches);
