//! Leaving nested loops. The trap: a bare `break` leaves only the inner loop, and the outer one
//! goes on as if nothing had been found.
//!
//! Prints exactly `0 0`, `0 1`, `0 2`, `1 0` for the 3×3 grid that is left at (1, 1).

use std::cell::RefCell;

use anyhow::ensure;
use scopeguard::defer;

/// The cells visited before the whole grid is left at (1, 1).
fn left_at_the_middle(log: &RefCell<Vec<&'static str>>) -> Vec<(u32, u32)> {
    let mut visited = Vec::new();
    'outer: for row in 0..3 {
        // Guards that are armed before a break still run, inner ones first.
        defer!(log.borrow_mut().push("row closed"));
        for column in 0..3 {
            defer!(log.borrow_mut().push("cell closed"));
            if (row, column) == (1, 1) {
                break 'outer;
            }
            visited.push((row, column));
        }
    }
    visited
}

/// The cells visited when each row is given up at the diagonal.
fn below_the_diagonal() -> Vec<(u32, u32)> {
    let mut visited = Vec::new();
    'outer: for row in 0..3 {
        for column in 0..3 {
            if column == row {
                continue 'outer;
            }
            visited.push((row, column));
        }
    }
    visited
}

/// The trap: without a label the last row is visited too.
fn left_by_a_bare_break() -> usize {
    let mut visited = 0;
    for row in 0..3 {
        for column in 0..3 {
            if (row, column) == (1, 1) {
                break;
            }
            visited += 1;
        }
    }
    visited
}

fn main() -> anyhow::Result<()> {
    let log = RefCell::default();
    let visited = left_at_the_middle(&log);
    for (row, column) in &visited {
        println!("{row} {column}");
    }
    ensure!(visited == [(0, 0), (0, 1), (0, 2), (1, 0)], "{visited:?}");
    let log = log.into_inner();
    let cells = log.iter().filter(|what| **what == "cell closed").count();
    ensure!((cells, log.len()) == (5, 7), "guards did not run: {log:?}");
    ensure!(log.ends_with(&["cell closed", "row closed"]), "{log:?}");
    let below = below_the_diagonal();
    ensure!(below == [(1, 0), (2, 0), (2, 1)], "{below:?}");
    ensure!(left_by_a_bare_break() == 7, "the trap is no trap");
    Ok(())
}
