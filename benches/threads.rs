//! What the registry of threads costs: to say what a thread waits on, and to start and end one.
#![allow(missing_docs, reason = "criterion's macros")]
#![allow(
    clippy::disallowed_methods,
    reason = "measures time, on threads of its own"
)]

use std::time::{Duration, Instant};

use cleanbreak::{Bulkhead, CancelToken, SafeChannel, scope, threads};
use criterion::{Criterion, criterion_group, criterion_main};

fn waiting_on(c: &mut Criterion) {
    let mut group = c.benchmark_group("threads/waiting_on");
    // On a thread of the library: on others it does nothing.
    let on_a_thread = |iterations: u64, body: fn(u64) -> Duration| {
        scope(&CancelToken::new(), |group| {
            let task = group.spawn_named("bench", move |_| Ok(body(iterations)))?;
            Ok(task.join()?)
        })
        .unwrap()
    };
    group.bench_function("listed", |b| {
        b.iter_custom(|iterations| {
            on_a_thread(iterations, |iterations| {
                let own = || {
                    threads::live()
                        .into_iter()
                        .find(|thread| thread.name == "bench")
                };
                let start = Instant::now();
                for _ in 0..iterations {
                    drop(std::hint::black_box(threads::waiting_on("measure")));
                }
                let took = start.elapsed();
                let guard = threads::waiting_on("measure");
                assert_eq!(own().unwrap().waiting.unwrap().on, "measure");
                drop(guard);
                assert!(own().unwrap().waiting.is_none());
                took
            })
        });
    });
    group.bench_function("not_listed", |b| b.iter(|| threads::waiting_on("measure")));
    group.bench_function("clock_alone", |b| b.iter(Instant::now));
    group.finish();
}

/// A look for deadlocks among so many threads that wait.
fn deadlocks(c: &mut Criterion) {
    let mut bench = c.benchmark_group("threads/deadlocks");
    for waiting in [10, 100] {
        bench.bench_function(format!("{waiting}_that_wait"), |b| {
            scope(&CancelToken::new(), |group| {
                for _ in 0..waiting {
                    group.spawn_named("bench", |token| {
                        token.wait();
                        Ok(())
                    })?;
                }
                let all_wait = || {
                    let live = threads::live();
                    let named = live.iter().filter(|thread| thread.name == "bench");
                    named.filter(|thread| thread.waiting.is_some()).count() == waiting
                };
                while !all_wait() {
                    std::thread::yield_now();
                }
                b.iter(|| assert!(threads::deadlocks_after(Duration::ZERO).is_empty()));
                group.token().cancel();
                Ok(())
            })
            .unwrap();
        });
    }
    bench.finish();
}

/// What is listed takes its list's lock when it is made and when it goes.
fn lists(c: &mut Criterion) {
    let mut bench = c.benchmark_group("threads/list");
    bench.bench_function("bulkhead_made_and_dropped", |b| {
        b.iter(|| assert_eq!(Bulkhead::new(2).capacity(), 2));
    });
    bench.bench_function("bulkhead_listed_with_1000", |b| {
        let others: Vec<_> = (0..1000).map(|_| Bulkhead::new(1)).collect();
        b.iter(|| assert_eq!(Bulkhead::new(2).capacity(), 2));
        assert!(Bulkhead::live().len() >= others.len());
    });
    bench.finish();
}

/// With the feature `diagnose`, an end of a channel remembers who used it.
fn channel_ends(c: &mut Criterion) {
    let mut bench = c.benchmark_group("threads/channel_users");
    let on_a_thread = |iterations: u64| {
        scope(&CancelToken::new(), |group| {
            let task = group.spawn(move |_| {
                let (tx, rx) = SafeChannel::bounded(1);
                let start = Instant::now();
                for n in 0..iterations {
                    tx.send(n)?;
                    assert_eq!(rx.recv()?, n);
                }
                Ok(start.elapsed())
            })?;
            Ok(task.join()?)
        })
        .unwrap()
    };
    bench.bench_function("send_and_receive", |b| b.iter_custom(on_a_thread));
    bench.finish();
}

criterion_group!(benches, waiting_on, deadlocks, lists, channel_ends);
criterion_main!(benches);
