//! What a token costs, beside tokio-util's and beside the raw parts.
#![allow(missing_docs, reason = "criterion's macros")]
#![allow(
    clippy::disallowed_methods,
    reason = "measures time, on threads of its own"
)]

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use cleanbreak::{CancelToken, Clock, Ticker};
use criterion::{BatchSize, Criterion, criterion_group, criterion_main};
use crossbeam_channel::{Receiver, bounded, never, select, tick, unbounded};
use tokio_util::sync::CancellationToken;

fn is_cancelled(c: &mut Criterion) {
    let mut group = c.benchmark_group("token/is_cancelled");
    let flag = AtomicBool::new(false);
    group.bench_function("atomic_load", |b| {
        b.iter(|| assert!(!black_box(&flag).load(Ordering::Acquire)));
    });
    let token = CancelToken::new();
    group.bench_function("cleanbreak", |b| {
        b.iter(|| assert!(!black_box(&token).is_cancelled()));
    });
    let token = CancellationToken::new();
    group.bench_function("tokio_util", |b| {
        b.iter(|| assert!(!black_box(&token).is_cancelled()));
    });
    group.finish();
}

fn child_cancel_drop(c: &mut Criterion) {
    let mut group = c.benchmark_group("token/child_cancel_drop");
    let root = CancelToken::new();
    group.bench_function("cleanbreak", |b| {
        b.iter(|| {
            let child = root.child();
            assert!(child.cancel());
        });
    });
    let root = CancellationToken::new();
    group.bench_function("tokio_util", |b| {
        b.iter(|| {
            let child = root.child_token();
            child.cancel();
            assert!(child.is_cancelled());
        });
    });
    group.finish();
}

/// With the timer thread running, as beside a ticker, and with it started and joined each time.
fn child_timeout(c: &mut Criterion) {
    const TIMEOUT: Duration = Duration::from_secs(5);
    let mut group = c.benchmark_group("token/child_drop");
    let clock = Clock::isolated();
    let root = CancelToken::with_clock(&clock);
    group.bench_function("cleanbreak", |b| {
        b.iter(|| assert!(!root.child().is_cancelled()));
    });
    group.bench_function("cleanbreak_timeout_cold", |b| {
        b.iter(|| assert!(!root.child_timeout(TIMEOUT).is_cancelled()));
    });
    let lease = clock.keep_timer().unwrap();
    group.bench_function("cleanbreak_timeout", |b| {
        b.iter(|| assert!(!root.child_timeout(TIMEOUT).is_cancelled()));
    });
    drop(lease);
    let root = CancellationToken::new();
    group.bench_function("tokio_util", |b| {
        b.iter(|| assert!(!root.child_token().is_cancelled()));
    });
    group.finish();
}

fn cancel_many(c: &mut Criterion) {
    const CHILDREN: usize = 100_000;
    let mut group = c.benchmark_group("token/cancel_100k_children");
    group.sample_size(20);
    group.bench_function("cleanbreak", |b| {
        let tree = || {
            let root = CancelToken::new();
            let children: Vec<_> = (0..CHILDREN).map(|_| root.child()).collect();
            (root, children)
        };
        let cancel = |(root, children): (CancelToken, Vec<CancelToken>)| {
            root.cancel();
            assert!(children[CHILDREN - 1].is_cancelled());
            (root, children)
        };
        b.iter_batched(tree, cancel, BatchSize::LargeInput);
    });
    group.bench_function("tokio_util", |b| {
        let tree = || {
            let root = CancellationToken::new();
            let children: Vec<_> = (0..CHILDREN).map(|_| root.child_token()).collect();
            (root, children)
        };
        let cancel = |(root, children): (CancellationToken, Vec<CancellationToken>)| {
            root.cancel();
            assert!(children[CHILDREN - 1].is_cancelled());
            (root, children)
        };
        b.iter_batched(tree, cancel, BatchSize::LargeInput);
    });
    group.finish();
}

/// From the call that ends a wait until the waiter runs. The waiter says that it is about to wait;
/// it is given a while to block before the clock starts.
fn wake(c: &mut Criterion) {
    let mut group = c.benchmark_group("token/cancel_to_woken_waiter");
    group.bench_function("cleanbreak", |b| {
        b.iter_custom(|rounds| {
            time_to_wake(rounds, CancelToken::new, CancelToken::wait, |token| {
                assert!(token.cancel());
            })
        });
    });
    group.bench_function("crossbeam_drop_sender", |b| {
        let make = || {
            let (tx, rx) = unbounded::<()>();
            Raw(std::sync::Arc::new(parking_lot::Mutex::new(Some(tx))), rx)
        };
        let wait = |raw: &Raw| assert!(raw.1.recv().is_err());
        let wake = |raw: &Raw| drop(raw.0.lock().take());
        b.iter_custom(|rounds| time_to_wake(rounds, make, wait, wake));
    });
    group.finish();
}

#[derive(Clone)]
struct Raw(
    std::sync::Arc<parking_lot::Mutex<Option<crossbeam_channel::Sender<()>>>>,
    Receiver<()>,
);

fn time_to_wake<W: Clone + Send>(
    rounds: u64,
    make: impl Fn() -> W,
    wait: impl Fn(&W) + Send,
    wake: impl Fn(&W),
) -> Duration {
    let (work, jobs) = bounded::<W>(1);
    let (woken_at, woken) = bounded(1);
    let (ready, is_ready) = bounded(1);
    std::thread::scope(|scope| {
        scope.spawn(move || {
            for waited in jobs {
                ready.send(()).unwrap();
                wait(&waited);
                woken_at.send(Instant::now()).unwrap();
            }
        });
        let mut total = Duration::ZERO;
        for _ in 0..rounds {
            let waited = make();
            work.send(waited.clone()).unwrap();
            is_ready.recv().unwrap();
            let settled = Instant::now() + Duration::from_micros(100);
            while Instant::now() < settled {
                std::hint::spin_loop();
            }
            let start = Instant::now();
            wake(&waited);
            total += woken.recv().unwrap().duration_since(start);
        }
        drop(work);
        total
    })
}

/// A worker's loop over stop, tick and data, with data ready.
fn select_loop(c: &mut Criterion) {
    const MESSAGES: u64 = 1000;
    let period = Duration::from_secs(1);
    let mut group = c.benchmark_group("loop/select_stop_tick_data");
    let fill = || {
        let (tx, rx) = unbounded();
        (0..MESSAGES).for_each(|n| tx.send(n).unwrap());
        rx
    };
    let token = CancelToken::new();
    let ticker = Ticker::new(period).unwrap();
    group.bench_function("cleanbreak", |b| {
        let run = |rx: Receiver<u64>| {
            let mut sum = 0;
            'work: loop {
                select! {
                    recv(token.done()) -> _ => break 'work,
                    recv(ticker) -> _ => {}
                    recv(rx) -> message => match message {
                        Ok(n) => sum += n,
                        Err(_) => break 'work,
                    }
                }
            }
            assert_eq!(sum, MESSAGES * (MESSAGES - 1) / 2);
        };
        b.iter_batched(fill, run, BatchSize::SmallInput);
    });
    let ticks = tick(period);
    let stop = never::<()>();
    let (_stop, stop_live) = bounded::<()>(0);
    for (name, stop) in [("crossbeam", &stop_live), ("crossbeam_never", &stop)] {
        group.bench_function(name, |b| {
            let run = |rx: Receiver<u64>| {
                let mut sum = 0;
                'work: loop {
                    select! {
                        recv(stop) -> _ => break 'work,
                        recv(ticks) -> _ => {}
                        recv(rx) -> message => match message {
                            Ok(n) => sum += n,
                            Err(_) => break 'work,
                        }
                    }
                }
                assert_eq!(sum, MESSAGES * (MESSAGES - 1) / 2);
            };
            b.iter_batched(fill, run, BatchSize::SmallInput);
        });
    }
    group.finish();
}

criterion_group!(
    benches,
    is_cancelled,
    child_cancel_drop,
    child_timeout,
    cancel_many,
    wake,
    select_loop
);
criterion_main!(benches);
