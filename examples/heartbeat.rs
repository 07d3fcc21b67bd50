//! A ticker tied to a loop. The trap: the loop is left by a path that never stops the ticker, whose
//! thread goes on, or keeps the loop alive.
//!
//! Here the ticker belongs to the function that loops. However that is left (break, return, `?`,
//! panic), the ticker's thread is gone afterwards: asserted each time.

use std::panic::catch_unwind;
use std::time::Duration;

use anyhow::{bail, ensure};
use cleanbreak::{CancelToken, Clock, Ticker, threads};
use crossbeam_channel::select;

#[derive(Clone, Copy, Debug, PartialEq)]
enum Way {
    Break,
    Return,
    Question,
    Panic,
    Cancel,
}

fn failing() -> anyhow::Result<()> {
    bail!("the third beat failed")
}

/// Beats three times, and leaves. On the way it looks that its timer thread is there.
fn beat(way: Way, token: &CancelToken) -> anyhow::Result<u32> {
    let ticker = Ticker::builder(Duration::from_millis(2))
        .clock(token.clock())
        .start()?;
    ensure!(timers() == 1, "the check is blind: {:?}", threads::live());
    let mut beats = 0;
    'beat: loop {
        select! {
            recv(token.done()) -> _ => break 'beat,
            recv(ticker) -> tick => { tick?; beats += 1 }
        }
        if beats < 3 {
            continue 'beat;
        }
        match way {
            Way::Break => break 'beat,
            Way::Return => return Ok(beats),
            Way::Question => failing()?,
            Way::Panic => std::panic::resume_unwind(Box::new("the third beat panicked")),
            Way::Cancel => drop(token.cancel()),
        }
    }
    Ok(beats)
}

fn timers() -> usize {
    threads::live().len()
}

fn main() -> anyhow::Result<()> {
    for way in [
        Way::Break,
        Way::Return,
        Way::Question,
        Way::Panic,
        Way::Cancel,
    ] {
        let token = CancelToken::with_clock(&Clock::isolated());
        ensure!(timers() == 0, "a thread before: {:?}", threads::live());
        let left = catch_unwind(std::panic::AssertUnwindSafe(|| beat(way, &token)));
        ensure!(
            timers() == 0,
            "left behind by {way:?}: {:?}",
            threads::live()
        );
        let beats = match left {
            Ok(Ok(beats)) => format!("{beats} beats"),
            Ok(Err(error)) => format!("error: {error}"),
            Err(_) => "panic".to_owned(),
        };
        let expected = match way {
            Way::Question => "error: the third beat failed",
            Way::Panic => "panic",
            _ => "3 beats",
        };
        ensure!(beats == expected || way == Way::Cancel, "{way:?}: {beats}");
        println!("{way:?}: {beats}, no thread left");
    }
    Ok(())
}
