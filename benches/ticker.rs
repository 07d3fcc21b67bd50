//! Tickers: what one costs, how far a select loop drifts, and ten thousand on one thread.
#![allow(missing_docs, reason = "criterion's macros")]
#![allow(clippy::disallowed_methods, reason = "measures time")]

use std::time::{Duration, Instant};

use cleanbreak::{Clock, Ticker, threads};
use criterion::{Criterion, criterion_group, criterion_main};
use crossbeam_channel::{Receiver, never, select, tick};

fn start_stop(c: &mut Criterion) {
    let mut group = c.benchmark_group("ticker/start_drop");
    let clock = Clock::isolated();
    let period = Duration::from_secs(1);
    let start = || Ticker::builder(period).clock(&clock).start().unwrap();
    group.bench_function("cleanbreak_cold", |b| b.iter(start));
    let lease = clock.keep_timer().unwrap();
    group.bench_function("cleanbreak", |b| b.iter(start));
    drop(lease);
    group.bench_function("crossbeam_tick", |b| b.iter(|| tick(period)));
    group.finish();
}

/// Time for 100 ticks of a nominal millisecond in a select loop: the drift is what is above 100 ms.
fn drift(c: &mut Criterion) {
    const TICKS: u32 = 100;
    let period = Duration::from_millis(1);
    let mut group = c.benchmark_group("ticker/100_ticks_of_1ms_in_select");
    group.sample_size(10);
    fn count<T>(ticks: &Receiver<T>) {
        let stop = never::<()>();
        let mut seen = 0;
        'ticks: while seen < TICKS {
            select! {
                recv(stop) -> _ => break 'ticks,
                recv(ticks) -> tick => seen += u32::from(tick.is_ok()),
            }
        }
        assert_eq!(seen, TICKS);
    }
    group.bench_function("cleanbreak", |b| {
        b.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                let start = Instant::now();
                count(Ticker::new(period).unwrap().ticks());
                total += start.elapsed();
            }
            total
        });
    });
    group.bench_function("crossbeam_tick", |b| {
        b.iter_custom(|rounds| {
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                let start = Instant::now();
                count(&tick(period));
                total += start.elapsed();
            }
            total
        });
    });
    group.finish();
}

/// Ten thousand tickers at 100 ms for two seconds: one thread, and what was missed, how late the
/// ticks came, and how far the last is from its grid. Printed, because criterion has no column for
/// it; on an idle machine nothing is missed.
fn ten_thousand(c: &mut Criterion) {
    const TICKERS: usize = 10_000;
    const TICKS: u32 = 20;
    let period = Duration::from_millis(100);
    let mut group = c.benchmark_group("ticker/10k_at_100ms");
    group.sample_size(10);
    group.bench_function("cleanbreak", |b| {
        b.iter_custom(|rounds| {
            let start = Instant::now();
            for _ in 0..rounds {
                run_many(TICKERS, TICKS, period);
            }
            start.elapsed()
        });
    });
    group.finish();
}

fn run_many(count: usize, ticks: u32, period: Duration) {
    let clock = Clock::isolated();
    let start = || Ticker::builder(period).clock(&clock).start().unwrap();
    let first = clock.now();
    let tickers: Vec<_> = (0..count).map(|_| (clock.now(), start())).collect();
    let timers = threads::live();
    let timers = timers
        .iter()
        .filter(|t| t.name.contains("isolated"))
        .count();
    assert_eq!(timers, 1, "all tickers share one thread");
    let mut missed_by = vec![0_u32; count];
    let (mut seen, mut off_grid) = (0_u64, Duration::ZERO);
    for nth in 1..=ticks {
        for ((started, ticker), missed) in tickers.iter().zip(&mut missed_by) {
            let tick = ticker.recv().unwrap();
            *missed += u32::try_from(tick.missed).unwrap();
            seen += 1;
            // The grid starts between the reading of the clock and the return of `start`.
            let since = tick.scheduled.duration_since(*started);
            off_grid = off_grid.max(since.saturating_sub(period * (nth + *missed)));
        }
    }
    let missed: u32 = missed_by.iter().sum();
    assert_eq!(seen, count as u64 * u64::from(ticks));
    let ran = clock.now().duration_since(first);
    println!(
        "ticker/10k_at_100ms: {count} tickers, 1 thread, {seen} ticks in {ran:.2?}, \
         {missed} missed, at most {off_grid:.1?} off the grid of their start"
    );
}

criterion_group!(benches, start_stop, drift, ten_thousand);
criterion_main!(benches);
