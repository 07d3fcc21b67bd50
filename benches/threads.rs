//! What the registry of threads costs: to say what a thread waits on, and to start and end one.
#![allow(missing_docs, reason = "criterion's macros")]
#![allow(
    clippy::disallowed_methods,
    reason = "measures time, on threads of its own"
)]

use std::time::{Duration, Instant};

use cleanbreak::{CancelToken, scope, threads};
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

criterion_group!(benches, waiting_on);
criterion_main!(benches);
