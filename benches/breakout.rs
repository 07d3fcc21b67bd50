//! Ways to leave two nested loops, and what each costs: a labelled break, `ControlFlow`, an error
//! return, and unwinding with `resume_unwind` or `panic!`, with and without the panic hook.
//!
//! An operation is one entry into a 3×3 grid that is left from the inside at (1, 1). Time is
//! criterion's; the bytes that an operation allocates are counted in a first pass of a million
//! operations (a hundred thousand for those that unwind) and printed as `bytes/op`.
#![allow(missing_docs, reason = "criterion's macros")]
#![allow(unsafe_code, reason = "an allocator that counts")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::hint::black_box;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, catch_unwind, panic_any, resume_unwind, set_hook, take_hook};
use std::sync::atomic::{AtomicU64, Ordering};

use criterion::{Criterion, criterion_group};

struct Counting;

static ALLOCATED: AtomicU64 = AtomicU64::new(0);

// SAFETY: forwards to the system's allocator and changes nothing of what it answers.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size() as u64, Ordering::Relaxed);
        // SAFETY: the caller's promise, handed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, ptr: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise, handed on.
        unsafe { System.dealloc(ptr, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

type Cell = (u32, u32);
/// Returns the number of cells seen before the hit, and the hit.
type Leave = fn() -> (u32, Cell);

const HIT: Cell = (1, 1);
/// Cells seen before the break: (0,0), (0,1), (0,2), (1,0).
const SEEN: u32 = 4;

fn is_hit(row: u32, column: u32) -> bool {
    black_box((row, column)) == HIT
}

fn labelled_break() -> (u32, Cell) {
    let mut seen = 0;
    let found = 'grid: {
        for row in 0..3 {
            for column in 0..3 {
                if is_hit(row, column) {
                    break 'grid (row, column);
                }
                seen += 1;
            }
        }
        unreachable!("the hit is in the grid")
    };
    (seen, found)
}

#[inline(never)]
fn row_flow(row: u32, seen: &mut u32) -> ControlFlow<Cell> {
    for column in 0..3 {
        if is_hit(row, column) {
            return ControlFlow::Break((row, column));
        }
        *seen += 1;
    }
    ControlFlow::Continue(())
}

fn control_flow() -> (u32, Cell) {
    let mut seen = 0;
    let mut grid = || {
        for row in 0..3 {
            row_flow(row, &mut seen)?;
        }
        ControlFlow::Continue(())
    };
    match grid() {
        ControlFlow::Break(found) => (seen, found),
        ControlFlow::Continue(()) => unreachable!("the hit is in the grid"),
    }
}

#[inline(never)]
fn row_error(row: u32, seen: &mut u32) -> Result<(), Cell> {
    for column in 0..3 {
        if is_hit(row, column) {
            return Err((row, column));
        }
        *seen += 1;
    }
    Ok(())
}

fn error_return() -> (u32, Cell) {
    let mut seen = 0;
    let mut grid = || (0..3).try_for_each(|row| row_error(row, &mut seen));
    let found = grid().unwrap_err();
    (seen, found)
}

#[inline(never)]
fn row_boxed(row: u32, seen: &mut u32) -> anyhow::Result<()> {
    for column in 0..3 {
        if is_hit(row, column) {
            anyhow::bail!(Found((row, column)));
        }
        *seen += 1;
    }
    Ok(())
}

#[derive(Debug)]
struct Found(Cell);

impl std::fmt::Display for Found {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "found at {:?}", self.0)
    }
}

impl std::error::Error for Found {}

fn anyhow_return() -> (u32, Cell) {
    let mut seen = 0;
    let mut grid = || (0..3).try_for_each(|row| row_boxed(row, &mut seen));
    let found = grid().unwrap_err().downcast::<Found>().unwrap();
    (seen, found.0)
}

fn unwind(throw: fn(Cell)) -> (u32, Cell) {
    let mut seen = 0;
    let grid = AssertUnwindSafe(|| {
        for row in 0..3 {
            for column in 0..3 {
                if is_hit(row, column) {
                    throw((row, column));
                }
                seen += 1;
            }
        }
    });
    let payload = catch_unwind(grid).unwrap_err();
    let found = *payload.downcast::<Cell>().unwrap();
    (seen, found)
}

fn resumed() -> (u32, Cell) {
    unwind(|cell| resume_unwind(Box::new(cell)))
}

fn panicked() -> (u32, Cell) {
    unwind(|cell| panic_any(cell))
}

fn count_bytes(name: &str, operations: u64, leave: Leave) {
    let before = ALLOCATED.load(Ordering::Relaxed);
    for _ in 0..operations {
        assert_eq!(leave(), (SEEN, HIT));
    }
    let bytes = ALLOCATED.load(Ordering::Relaxed) - before;
    let each = bytes as f64 / operations as f64;
    println!("breakout/bytes/{name}: {each:.1} bytes/op, {bytes} bytes in {operations} operations");
}

fn breakout(c: &mut Criterion) {
    let mut group = c.benchmark_group("breakout/grid");
    let ways: [(&str, u64, Leave); 6] = [
        ("labelled_break", 1_000_000, labelled_break),
        ("control_flow", 1_000_000, control_flow),
        ("error_return", 1_000_000, error_return),
        ("anyhow_return", 1_000_000, anyhow_return),
        ("resume_unwind", 100_000, resumed),
        ("panic_no_hook", 100_000, panicked),
    ];
    set_hook(Box::new(|_| {}));
    for (name, operations, leave) in ways {
        count_bytes(name, operations, leave);
        group.bench_function(name, |b| b.iter(|| assert_eq!(leave(), (SEEN, HIT))));
    }
    // A hook that does what the default one does, but not to the terminal.
    set_hook(Box::new(|info| {
        let line = format!("thread panicked at {:?}", info.location());
        assert!(!black_box(line).is_empty());
    }));
    count_bytes("panic_formatting_hook", 100_000, panicked);
    group.bench_function("panic_formatting_hook", |b| {
        b.iter(|| assert_eq!(panicked(), (SEEN, HIT)));
    });
    drop(take_hook());
    group.finish();
}

/// A million loops each, as the published figures for Go count them.
fn million(c: &mut Criterion) {
    let mut group = c.benchmark_group("breakout/million");
    group.sample_size(10);
    let run = |leave: Leave| {
        let seen: u64 = (0..1_000_000).map(|_| u64::from(leave().0)).sum();
        assert_eq!(seen, 1_000_000 * u64::from(SEEN));
    };
    group.bench_function("labelled_break", |b| b.iter(|| run(labelled_break)));
    group.bench_function("control_flow", |b| b.iter(|| run(control_flow)));
    group.bench_function("error_return", |b| b.iter(|| run(error_return)));
    group.bench_function("resume_unwind", |b| b.iter(|| run(resumed)));
    group.finish();
}

criterion_group!(benches, breakout, million);

fn main() {
    benches();
    Criterion::default().configure_from_args().final_summary();
}
