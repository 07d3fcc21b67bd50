//! The cases of `go/main.go`, under the same names, for the page that puts both side by side: the same
//! work, the same way of timing it, the same answers asserted. Where threads can be kept warm there is
//! a row with and one without.
#![allow(
    clippy::disallowed_methods,
    reason = "measures time, on threads that are not the library's own"
)]

#[path = "shared/rows.rs"]
mod rows;

use std::hint::black_box;
use std::panic::{catch_unwind, resume_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cleanbreak::{CancelToken, GroupBuilder, SafeChannel, ThreadCache, Ticker};
use crossbeam_channel::{bounded, never, select};
use rows::{Rows, resident};

const OURS: &str = "cleanbreak";

fn main() {
    let mut rows = Rows::from_args("beside");
    println!("part,case,who,n,unit,value");
    spawns(&mut rows, 1000); // first, in a fresh heap
    looks(&mut rows);
    children(&mut rows);
    cancel_many(&mut rows);
    wake(&mut rows);
    ticks(&mut rows);
    breakouts(&mut rows);
    channels(&mut rows);
    groups(&mut rows);
}

/// The median of samples, each of which is of so many.
fn row(rows: &mut Rows, case: &str, who: &str, items: usize, mut sample: impl FnMut() -> Duration) {
    let [nanos] = rows.medians(|| [sample()]);
    rows.add(case, who, 1, "ns", nanos / items as f64);
}

fn timed(what: impl FnOnce()) -> Duration {
    let start = Instant::now();
    what();
    start.elapsed()
}

fn looks(rows: &mut Rows) {
    let n = rows.pick(1000, 1000, 1_000_000);
    let token = CancelToken::new();
    row(rows, "look", OURS, n, || {
        timed(|| (0..n).for_each(|_| assert!(!black_box(&token).is_cancelled())))
    });
}

fn children(rows: &mut Rows) {
    let n = rows.pick(100, 100, 10_000);
    let root = CancelToken::new();
    row(rows, "child create cancel", OURS, n, || {
        timed(|| (0..n).for_each(|_| assert!(root.child().cancel())))
    });
}

fn cancel_many(rows: &mut Rows) {
    let n = rows.pick(1000, 1000, 100_000);
    row(rows, "cancel 100000 children", OURS, n, || {
        let root = CancelToken::new();
        let all: Vec<_> = (0..n).map(|_| root.child()).collect();
        let took = timed(|| assert!(root.cancel()));
        assert!(all[n - 1].is_cancelled());
        took
    });
}

/// From cancel until the waiter runs. The waiter is given a while to block.
fn wake(rows: &mut Rows) {
    let rounds = rows.pick(10, 10, 1000);
    row(rows, "cancel to woken waiter", OURS, rounds, || {
        let (work, jobs) = bounded::<CancelToken>(0);
        let (ready, is_ready) = bounded(0);
        let (woken, is_woken) = bounded(1);
        thread::scope(|scope| {
            scope.spawn(move || {
                for token in jobs {
                    ready.send(()).unwrap();
                    token.wait();
                    woken.send(Instant::now()).unwrap();
                }
            });
            let mut total = Duration::ZERO;
            for _ in 0..rounds {
                let token = CancelToken::new();
                work.send(token.clone()).unwrap();
                is_ready.recv().unwrap();
                let settled = Instant::now() + Duration::from_micros(100);
                while Instant::now() < settled {}
                let start = Instant::now();
                assert!(token.cancel());
                let woken: Instant = is_woken.recv().unwrap();
                total += woken.saturating_duration_since(start);
            }
            drop(work);
            total
        })
    });
}

fn ticks(rows: &mut Rows) {
    let n = rows.pick(3, 3, 100);
    row(rows, "tick of 1 ms in a select", OURS, n, || {
        let stop = never::<()>();
        timed(|| {
            let ticker = Ticker::new(Duration::from_millis(1)).unwrap();
            let mut seen = 0;
            'ticks: while seen < n {
                select! {
                    recv(stop) -> _ => break 'ticks,
                    recv(ticker) -> tick => seen += usize::from(tick.is_ok()),
                }
            }
            assert_eq!(seen, n);
        })
    });
}

#[inline(never)]
fn is_hit(row: u32, column: u32) -> bool {
    black_box((row, column)) == (1, 1)
}

fn grid() -> usize {
    let mut seen = 0;
    'grid: for row in 0..3 {
        for column in 0..3 {
            if is_hit(row, column) {
                break 'grid;
            }
            seen += 1;
        }
    }
    seen
}

fn grid_by_unwinding() -> usize {
    let mut seen = 0;
    let found = catch_unwind(std::panic::AssertUnwindSafe(|| {
        for row in 0..3 {
            for column in 0..3 {
                if is_hit(row, column) {
                    resume_unwind(Box::new("found"));
                }
                seen += 1;
            }
        }
    }));
    assert_eq!(found.unwrap_err().downcast_ref(), Some(&"found"));
    seen
}

fn breakouts(rows: &mut Rows) {
    let ways = ["leave a grid by break", "leave a grid by panic"];
    for (case, leave) in ways
        .into_iter()
        .zip([grid, grid_by_unwinding as fn() -> usize])
    {
        let n = rows.pick(1000, 1000, 1_000_000);
        row(rows, case, OURS, n, || {
            timed(|| assert_eq!((0..n).map(|_| leave()).sum::<usize>(), 4 * n))
        });
    }
}

fn channels(rows: &mut Rows) {
    for (capacity, producers) in [0, 1, 1024].iter().flat_map(|c| [(*c, 1), (*c, 4)]) {
        let each = rows.pick(400, 400, 80_000) / producers;
        let case = format!("channel of {capacity} from {producers}");
        row(rows, &case, OURS, each * producers, || {
            let (tx, rx) = SafeChannel::bounded(capacity);
            let start = Barrier::new(producers + 1);
            thread::scope(|scope| {
                for _ in 0..producers {
                    let (tx, start) = (tx.clone(), &start);
                    scope.spawn(move || {
                        start.wait();
                        (0..each).for_each(|value| tx.send(value).unwrap());
                    });
                }
                start.wait();
                timed(|| {
                    let sum: usize = (0..each * producers).map(|_| rx.recv().unwrap()).sum();
                    assert_eq!(sum, producers * each * (each - 1) / 2);
                })
            })
        });
    }
}

fn groups(rows: &mut Rows) {
    const TASKS: usize = 100;
    let cache = ThreadCache::new();
    let warm = GroupBuilder::new().cache(&cache);
    for (who, group) in [(OURS, GroupBuilder::new()), ("cleanbreak warm", warm)] {
        row(rows, "group of 100 tasks", who, 1, || {
            let count = AtomicUsize::new(0);
            timed(|| {
                let all = group.scope(&CancelToken::new(), |group| {
                    for _ in 0..TASKS {
                        group.spawn(|_| {
                            count.fetch_add(1, Ordering::Relaxed);
                            Ok(())
                        })?;
                    }
                    Ok(())
                });
                all.unwrap();
                assert_eq!(count.load(Ordering::Relaxed), TASKS);
            })
        });
        row(
            rows,
            "group of 100 tasks of which one fails",
            who,
            1,
            || {
                timed(|| {
                    let first = group.scope(&CancelToken::new(), |group| -> anyhow::Result<()> {
                        for nth in 0..TASKS {
                            let spawned = group.spawn(move |token| {
                                if nth == TASKS / 2 {
                                    anyhow::bail!("found");
                                }
                                token.wait();
                                token.check().map_err(Into::into)
                            });
                            // Refused from the failure on, as the group is being cancelled.
                            if spawned.is_err() {
                                break;
                            }
                        }
                        Ok(())
                    });
                    assert_eq!(first.unwrap_err().to_string(), "found");
                })
            },
        );
    }
}

fn spawns(rows: &mut Rows, n: usize) {
    let n = rows.pick(16, 100, n);
    let mut memory = None;
    row(rows, "spawn and join 1000", OURS, 1, || {
        let (token, began) = (CancelToken::new(), AtomicUsize::new(0));
        let before = resident();
        let (mut took, mut start) = (Duration::ZERO, Instant::now());
        let result = GroupBuilder::new().scope(&token, |group| {
            for _ in 0..n {
                group.spawn(|token| {
                    began.fetch_add(1, Ordering::Relaxed);
                    token.wait();
                    Ok(())
                })?;
            }
            while began.load(Ordering::Relaxed) < n {
                thread::yield_now();
            }
            took = start.elapsed();
            memory.get_or_insert(resident().saturating_sub(before));
            start = Instant::now();
            assert!(token.cancel());
            Ok(())
        });
        took += start.elapsed();
        let told = result.err();
        assert!(told.is_none_or(|error| error.is::<cleanbreak::Cancelled>()));
        took
    });
    let each = memory.unwrap_or(0) as f64 / n as f64;
    rows.add("memory of one that waits", OURS, 1, "B", each);
}
