//! A loop around a select. The traps: in Go a bare `break` leaves only the select, and the loop
//! goes on; and an input that was closed is always ready, so the loop spins.
//!
//! Two producers send lines of a real file; the loop merges them until both inputs are closed, and
//! counts its passes to show that it did not spin.

use anyhow::ensure;
use cleanbreak::{CancelToken, scope};
use crossbeam_channel::{Receiver, bounded, never, select};

const TEXT: &str = include_str!("../Cargo.toml");

#[derive(Debug, Default, PartialEq)]
struct Tally {
    lines: usize,
    closings: usize,
    passes: usize,
}

/// Merges two inputs until both are closed or the token is cancelled.
fn merge(token: &CancelToken, mut left: Receiver<&str>, mut right: Receiver<&str>) -> Tally {
    let mut tally = Tally::default();
    'merge: loop {
        tally.passes += 1;
        select! {
            recv(token.done()) -> _ => break 'merge,
            recv(left) -> line => match line {
                Ok(_) => tally.lines += 1,
                // An arm of its own that is never ready: a closed one would be, always.
                Err(_) => { tally.closings += 1; left = never() }
            },
            recv(right) -> line => match line {
                Ok(_) => tally.lines += 1,
                Err(_) => { tally.closings += 1; right = never() }
            },
        }
        if tally.closings == 2 {
            break 'merge;
        }
    }
    tally
}

/// The trap, bounded: how often a loop that keeps its closed arm goes round for nothing.
fn spins(bound: usize) -> usize {
    let (closed, open) = (bounded::<()>(0).1, bounded::<()>(0));
    let mut passes = 0;
    'spin: loop {
        passes += 1;
        select! {
            recv(closed) -> _ => {} // should be replaced by `never()`
            recv(open.1) -> _ => break 'spin,
        }
        if passes == bound {
            break 'spin;
        }
    }
    passes
}

fn main() -> anyhow::Result<()> {
    let (even, odd) = (bounded(4), bounded(1));
    let tally = scope(&CancelToken::new(), |group| {
        for (part, tx) in [(0, even.0), (1, odd.0)] {
            group.spawn(move |token| {
                'send: for line in TEXT.lines().skip(part).step_by(2) {
                    select! {
                        send(tx, line) -> sent => sent?,
                        recv(token.done()) -> _ => break 'send,
                    }
                }
                Ok(()) // and the input is closed, the shorter one first
            })?;
        }
        Ok(merge(group.token(), even.1, odd.1))
    })?;
    println!("{tally:?}");
    let lines = TEXT.lines().count();
    let expected = Tally {
        lines,
        closings: 2,
        passes: lines + 2,
    };
    ensure!(tally == expected, "expected {expected:?}");

    // Told to stop while nothing comes, it makes one pass.
    let (token, silent) = (CancelToken::new(), (bounded(0), bounded(0)));
    token.cancel();
    let told = merge(&token, silent.0.1.clone(), silent.1.1.clone());
    ensure!(told.passes == 1 && told.closings == 0, "{told:?}");
    ensure!(spins(10_000) == 10_000, "the trap is no trap");
    Ok(())
}
