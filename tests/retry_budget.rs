//! The shared retry budget: a share of the calls and a floor, over a window, exact under threads.

mod support;

use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use cleanbreak::resilience::budget::RetryBudgetBuilder;
use cleanbreak::{Clock, ManualClock, RetryBudget};
use support::{dither, in_time, millis, rng, secs};

fn build(builder: RetryBudgetBuilder) -> (ManualClock, RetryBudget) {
    let clock = Clock::manual();
    let budget = builder.clock(&clock).build().unwrap();
    (clock, budget)
}

fn only(ratio: f64) -> RetryBudgetBuilder {
    RetryBudget::builder().ratio(ratio).floor_per_second(0.0)
}

fn calls(budget: &RetryBudget, number: usize) {
    (0..number).for_each(|_| budget.record_call());
}

fn granted(budget: &RetryBudget) -> usize {
    (0..1000).take_while(|_| budget.try_retry()).count()
}

#[test]
fn a_retry_is_granted_when_its_share_of_the_calls_is_full() {
    // (ratio, calls, retries): below, at and above; and where floats would be off by one
    let table = [
        (0.2, 4, 0),
        (0.2, 5, 1),
        (0.2, 9, 1),
        (0.2, 10, 2),
        (0.29, 100, 29),
        (0.07, 100, 7),
        (1.0, 7, 7),
        (2.5, 3, 7),
        (0.0, 100, 0),
    ];
    for (ratio, number, retries) in table {
        let (_clock, budget) = build(only(ratio));
        calls(&budget, number);
        assert_eq!(budget.snapshot().available, retries as u64);
        assert_eq!(granted(&budget), retries, "{ratio} of {number}");
    }
}

#[test]
fn the_floor_is_there_without_calls_and_for_the_whole_window_at_once() {
    // (a second, window, retries)
    let table = [
        (10.0, secs(10), 100),
        (0.5, secs(10), 5),
        (0.19, secs(10), 1),
        (1.0, millis(500), 0),
        (2.0, millis(500), 1),
    ];
    for (floor, window, retries) in table {
        let builder = RetryBudget::builder().ratio(0.0).floor_per_second(floor);
        let (_clock, budget) = build(builder.window(window));
        assert_eq!(granted(&budget), retries, "{floor} a second for {window:?}");
    }
}

#[test]
fn calls_and_retries_leave_the_window_by_tenths() {
    let (clock, budget) = build(only(0.5));
    calls(&budget, 4);
    clock.advance(secs(1));
    assert!(budget.try_retry());
    calls(&budget, 2);
    clock.advance(millis(8999)); // 9.999 s
    let all = budget.snapshot();
    assert_eq!((all.calls, all.retries, all.available), (6, 1, 2));
    clock.advance(millis(1)); // the four calls are out; the retry is not
    let all = budget.snapshot();
    assert_eq!((all.calls, all.retries, all.available), (2, 1, 0));
    clock.advance(secs(1));
    assert_eq!((budget.snapshot().calls, budget.snapshot().retries), (0, 0));
    clock.advance(secs(1_000_000));
    calls(&budget, 2);
    assert_eq!(granted(&budget), 1);
}

#[test]
fn under_eight_threads_exactly_as_many_retries_are_granted_as_there_are() {
    const THREADS: usize = 8;
    in_time(|| {
        let mut rng = rng("retry budget");
        for _ in 0..50 {
            let builder = RetryBudget::builder().ratio(0.1).floor_per_second(0.5);
            let (_clock, budget) = build(builder);
            let (granted, seed) = (AtomicUsize::new(0), rng.u64(..));
            let counted = Barrier::new(THREADS);
            thread::scope(|s| {
                for n in 0..THREADS as u64 {
                    let (budget, granted, counted) = (&budget, &granted, &counted);
                    s.spawn(move || {
                        let mut rng = fastrand::Rng::with_seed(seed + n);
                        for _ in 0..250 {
                            budget.record_call();
                            dither(&mut rng, 5);
                            // While calls are counted, never more than their share so far.
                            granted.fetch_add(budget.try_retry().into(), Ordering::SeqCst);
                        }
                        counted.wait();
                        for _ in 0..250 {
                            granted.fetch_add(budget.try_retry().into(), Ordering::SeqCst);
                        }
                    });
                }
            });
            let all = budget.snapshot();
            assert_eq!((all.calls, all.retries, all.available), (2000, 205, 0));
            assert_eq!(granted.into_inner(), 205);
        }
    });
}

#[test]
fn calls_that_race_with_the_end_of_a_slice_are_all_counted() {
    in_time(|| {
        let (clock, budget) = build(only(1.0).window(secs(1000)));
        thread::scope(|s| {
            for _ in 0..4 {
                s.spawn(|| calls(&budget, 20_000));
            }
            s.spawn(|| (0..9).for_each(|_| clock.advance(secs(100))));
        });
        assert_eq!(budget.snapshot().calls, 80_000);
    });
}

#[test]
fn settings_that_make_no_sense_are_refused_and_large_ones_are_not() {
    let b = RetryBudget::builder;
    for builder in [
        b().ratio(-0.1),
        b().ratio(f64::NAN),
        b().ratio(f64::INFINITY),
        b().floor_per_second(-1.0),
        b().floor_per_second(2e6),
        b().window(Duration::ZERO),
    ] {
        let what = format!("{builder:?}");
        assert!(builder.build().is_err(), "{what}");
    }
    let huge = b().ratio(1e6).floor_per_second(1e6).window(Duration::MAX);
    let (clock, budget) = build(huge);
    clock.advance(Duration::MAX);
    assert_eq!(granted(&budget), 1000);
    assert!(format!("{budget:?}").contains("retries: 1000"));
}
