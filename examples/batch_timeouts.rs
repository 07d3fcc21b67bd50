//! A batch whose items have their own timeouts. The trap: one context shared by all items, so that
//! one slow item's timeout stops them all; and timers that stay behind in the parent.
//!
//! `cargo run --example batch_timeouts [FILE]` reads items, one per line, from a file (`-` is
//! standard input): a name and how many milliseconds it takes. Without a file it runs a batch of
//! its own. Each item has 200 ms.

use std::fs;
use std::io::{self, Read};
use std::time::Duration;

use anyhow::{Context, ensure};
use cleanbreak::{CancelKind, CancelToken, Cancelled, Clock, GroupBuilder};

const OWN: &str = "quick 1\nslow 60000\nsteady 5\nbrisk 2\n";
const EACH: Duration = Duration::from_millis(200);

struct Item {
    name: String,
    takes: Duration,
}

fn parse(line: &str) -> anyhow::Result<Item> {
    let (name, millis) = line.rsplit_once(' ').context("not \"name millis\"")?;
    let takes = Duration::from_millis(millis.parse().context(line.to_owned())?);
    let name = name.trim().to_owned();
    Ok(Item { name, takes })
}

/// Stands for a call that takes its time, and a token.
fn process(item: &Item, token: &CancelToken) -> Result<(), Cancelled> {
    token.sleep(item.takes)
}

/// The outcome of each item, in order.
fn run(items: &[Item], batch: &CancelToken) -> Vec<Result<(), Cancelled>> {
    let tasks = items.iter().map(|item| {
        move |token: &CancelToken| {
            // A child of the batch: stopped with it, and its timeout stops nobody else.
            let own = token.child_timeout(EACH);
            Ok(process(item, &own))
        }
    });
    let group = GroupBuilder::new().name("item").limit(4);
    group.all(batch, tasks).unwrap_or_default()
}

fn main() -> anyhow::Result<()> {
    let text = match std::env::args().nth(1).as_deref() {
        None => OWN.to_owned(),
        Some("-") => {
            let mut text = String::new();
            io::stdin().read_to_string(&mut text)?;
            text
        }
        Some(file) => fs::read_to_string(file).with_context(|| file.to_owned())?,
    };
    let lines = text.lines().filter(|line| !line.trim().is_empty());
    let items = lines.map(parse).collect::<anyhow::Result<Vec<_>>>()?;

    let clock = Clock::isolated();
    let batch = CancelToken::with_clock(&clock);
    let outcomes = run(&items, &batch);
    ensure!(outcomes.len() == items.len(), "an outcome for each");
    for (item, outcome) in items.iter().zip(&outcomes) {
        match outcome {
            Ok(()) => println!("{}: done", item.name),
            Err(error) => println!("{}: {error}", item.name),
        }
        let timed_out = outcome
            .as_ref()
            .is_err_and(|c| c.kind() == CancelKind::DeadlineExceeded);
        ensure!(timed_out == outcome.is_err(), "nothing else stops an item");
        // An item may be late on a busy machine, but a slow one is never let through.
        ensure!(
            timed_out || item.takes < EACH,
            "{} was let through",
            item.name
        );
    }
    ensure!(!batch.is_cancelled(), "a timeout reached the batch");
    ensure!(!clock.timer_runs(), "a timer was left behind");
    Ok(())
}
