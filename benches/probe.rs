//! What a probe adds to a pass that has nothing to report: beside an empty loop and one that counts.
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use cleanbreak::{Clock, Probe};
use criterion::{Criterion, criterion_group, criterion_main};

/// Between two of the probe's own breakpoints.
const PASSES: u64 = 1_000_000;

/// Time of `rounds` passes.
#[allow(clippy::disallowed_methods, reason = "a time of its own")]
fn timed(rounds: u64, mut pass: impl FnMut(u64)) -> Duration {
    let begun = Instant::now();
    (0..rounds).for_each(|n| pass(black_box(n)));
    begun.elapsed()
}

fn rows(c: &mut Criterion) {
    let mut group = c.benchmark_group("probe/pass");
    group.bench_function("empty_loop", |b| {
        b.iter_custom(|rounds| {
            timed(rounds, |n| {
                black_box(n);
            })
        });
    });
    group.bench_function("atomic_count", |b| {
        let count = AtomicU64::new(0);
        b.iter_custom(|rounds| timed(rounds, |n| count.store(n, Ordering::Relaxed)));
    });
    group.bench_function("cleanbreak", |b| {
        b.iter_custom(|rounds| {
            let mut probe = Probe::builder("bench").every(PASSES).start().unwrap();
            let took = timed(rounds, |_| probe.pass());
            assert_eq!(probe.passes(), rounds);
            probe.finish_with("done");
            took
        });
    });
    group.bench_function("cleanbreak_watched", |b| {
        let clock = Clock::system();
        let _lease = clock.keep_timer().unwrap();
        b.iter_custom(|rounds| {
            let probe = Probe::builder("bench").every(PASSES).clock(&clock);
            let mut probe = probe.slow_after(Duration::from_secs(1)).start().unwrap();
            let took = timed(rounds, |_| probe.pass());
            assert_eq!(probe.passes(), rounds);
            probe.finish_with("done");
            took
        });
    });
    group.bench_function("cleanbreak_idle_between", |b| {
        b.iter_custom(|rounds| {
            let mut probe = Probe::builder("bench").every(PASSES).start().unwrap();
            let took = timed(rounds, |_| {
                probe.idle();
                probe.pass();
            });
            assert_eq!(probe.passes(), rounds);
            probe.finish_with("done");
            took
        });
    });
    group.finish();
}

criterion_group!(benches, rows);
criterion_main!(benches);
