//! Many dumps with signals in a row beside threads that run, allocate, unwind, spawn, exit, and block
//! the signal: no crash, no hang, no wrong stack.
//!
//! What is right, each thread's name says: the function that it runs, and how deep. A stack that is
//! complete has to agree; an incomplete one has to be flagged, and to be rare. `CLEANBREAK_DUMPS`
//! says how many dumps, `CLEANBREAK_SEED` repeats a run.
#![cfg(all(target_os = "linux", target_arch = "x86_64", not(cleanbreak_portable)))]
#![allow(
    clippy::disallowed_methods,
    reason = "what is dumped are threads that the library did not start"
)]

#[path = "support/signals.rs"]
mod signals;
mod support;

use std::collections::BTreeMap;
use std::hint::black_box;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use cleanbreak::diagnose::{DumpedThread, StackProblem, StackSignal, TakenBy, ThreadDump};
use fastrand::Rng;
use signals::set_blocked;
use support::rng;

/// Runs for a while, most of it at the start and the end of small functions, where tables are easily
/// wrong.
#[inline(never)]
fn burns(turns: u32) -> u64 {
    (0..turns).fold(0, |sum, turn| sum ^ step(u64::from(turn)))
}

#[inline(never)]
fn step(n: u64) -> u64 {
    let words = black_box([n, n + 1, n * 3]);
    words.iter().fold(0, |sum, &word| mix(sum, word))
}

#[inline(never)]
fn mix(a: u64, b: u64) -> u64 {
    black_box(a).rotate_left(7) ^ b
}

/// Goes down so many levels, runs there, and comes back by a return.
#[inline(never)]
fn descends(levels: usize, turns: u32) -> usize {
    if levels == 0 {
        black_box(burns(turns));
        return 0;
    }
    black_box(descends(levels - 1, turns)) + 1
}

/// Runs in its destructor, in the middle of a panic.
struct Burns(u32);

impl Drop for Burns {
    #[inline(never)]
    fn drop(&mut self) {
        black_box(burns(self.0));
    }
}

/// Goes down so many levels and comes back by a panic.
#[inline(never)]
fn plunges(levels: usize, turns: u32) -> usize {
    let _burns = Burns(turns);
    if levels == 0 {
        resume_unwind(Box::new("up"));
    }
    black_box(plunges(levels - 1, turns)) + 1
}

#[inline(never)]
fn allocates(rng: &mut Rng) -> usize {
    let sizes = [16, 300, 5_000, 400_000, 3_000_000];
    let size = sizes[rng.usize(..sizes.len())];
    let blocks: Vec<Vec<u8>> = (0..rng.usize(1..8)).map(|_| vec![1; size]).collect();
    blocks.iter().map(Vec::len).sum()
}

/// Threads that end while they are looked at.
#[inline(never)]
fn spawns(rng: &mut Rng) {
    let (levels, turns) = (rng.usize(..20), rng.u32(..2_000));
    let brief = named(format!("down{levels}"));
    let brief = brief.spawn(move || descends(levels, turns)).unwrap();
    assert_eq!(brief.join().unwrap(), levels);
}

/// So that signals come late: after their request has been given up, and while the next ones are
/// under way.
#[inline(never)]
fn blocks(levels: usize, rng: &mut Rng, signal: i32) {
    set_blocked(Some(signal), true);
    black_box(burns(rng.u32(..3_000)));
    set_blocked(Some(signal), false);
    descends(levels, rng.u32(..500));
}

fn named(name: String) -> thread::Builder {
    thread::Builder::new().name(name)
}

/// Runs `pass` until told, on a thread whose name says which and how deep.
fn worker(
    name: String,
    rng: &mut Rng,
    stop: &Arc<AtomicBool>,
    pass: impl Fn(&mut Rng) + Send + 'static,
) -> thread::JoinHandle<()> {
    let (stop, mut rng) = (stop.clone(), rng.fork());
    let run = move || {
        while !stop.load(Ordering::Relaxed) {
            pass(&mut rng);
        }
    };
    named(name).spawn(run).unwrap()
}

fn workers(rng: &mut Rng, stop: &Arc<AtomicBool>, signal: i32) -> Vec<thread::JoinHandle<()>> {
    let mut all = Vec::new();
    for _ in 0..3 {
        let levels = rng.usize(..60);
        all.push(worker(format!("down{levels}"), rng, stop, move |rng| {
            assert_eq!(descends(levels, rng.u32(..20_000)), levels);
        }));
    }
    for _ in 0..2 {
        let levels = rng.usize(..12);
        all.push(worker(format!("plunge{levels}"), rng, stop, move |rng| {
            let turns = rng.u32(..300);
            catch_unwind(AssertUnwindSafe(|| plunges(levels, turns))).unwrap_err();
        }));
        let levels = rng.usize(..30);
        all.push(worker(format!("block{levels}"), rng, stop, move |rng| {
            blocks(levels, rng, signal);
        }));
    }
    all.push(worker("allocate0".to_owned(), rng, stop, |rng| {
        black_box(allocates(rng));
    }));
    all.push(worker("spawn0".to_owned(), rng, stop, spawns));
    all
}

#[derive(Debug, Default)]
struct Tally {
    by_signal: usize,
    by_look: usize,
    /// Of which those that came late or were refused are a part of what is tested.
    without: BTreeMap<String, usize>,
    incomplete: BTreeMap<String, usize>,
}

impl Tally {
    fn add(&mut self, thread: &DumpedThread) {
        let Some((kind, depth)) = kind_of(&thread.name) else {
            return;
        };
        match thread.stack.problem() {
            None => {
                assert_eq!(wrong(thread, kind, depth), None, "{thread}");
                match thread.stack.taken_by() {
                    TakenBy::Signal => self.by_signal += 1,
                    _ => self.by_look += 1,
                }
            }
            Some(problem) => {
                let map = match thread.stack.frames() {
                    [] => &mut self.without,
                    _ => &mut self.incomplete,
                };
                *map.entry(problem.to_string()).or_default() += 1;
            }
        }
    }

    fn without(&self, problem: StackProblem) -> usize {
        *self.without.get(&problem.to_string()).unwrap_or(&0)
    }
}

fn kind_of(name: &str) -> Option<(&str, usize)> {
    let digits = name.find(|c: char| c.is_ascii_digit())?;
    let (kind, depth) = name.split_at(digits);
    let known = ["down", "plunge", "block", "allocate", "spawn"].contains(&kind);
    Some((kind, depth.parse().ok()?)).filter(|_| known)
}

/// What is wrong with a stack that claims to be complete.
fn wrong(thread: &DumpedThread, kind: &str, depth: usize) -> Option<String> {
    let frames = thread.stack.frames();
    let names: Vec<_> = frames.iter().filter_map(|frame| frame.function()).collect();
    let count = |end: &str| names.iter().filter(|name| name.ends_with(end)).count();
    if count("clone3") + count("clone") + count("__clone") == 0 {
        return Some("it does not end where threads begin".to_owned());
    }
    let (down, plunge) = (count("::descends"), count("::plunges"));
    let burns = count("::burns");
    let calls = [count("::step"), count("::mix")];
    let right = match kind {
        // At the bottom alone it calls something that takes long. At its very start or end a thread is
        // in none of its functions.
        "down" => plunge == 0 && down <= depth + 1 && (burns == 0 || down == depth + 1),
        "block" => plunge == 0 && (burns == 0 || down == depth + 1 || down == 0),
        // It does on each level, on the way up.
        "plunge" => down == 0 && plunge <= depth + 1 && (burns == 0 || plunge >= 1),
        _ => down + plunge + burns == 0,
    };
    // What is called is there with all that called it.
    let whole = burns <= 1 && calls[1] <= calls[0] && calls[0] <= burns;
    (!right || !whole).then(|| {
        format!("{down} down, {plunge} plunges, {burns} burns, {calls:?} calls; of {kind} {depth}")
    })
}

#[test]
fn no_dump_has_a_wrong_stack_whatever_the_signal_interrupts() {
    let dumps = std::env::var("CLEANBREAK_DUMPS").ok();
    let dumps: usize = dumps.map_or(200, |dumps| dumps.parse().unwrap());
    let mut rng = rng("no_dump_has_a_wrong_stack_whatever_the_signal_interrupts");
    let signal = StackSignal::install().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let workers = workers(&mut rng, &stop, signal.number());
    let mut tally = Tally::default();
    for dump in 0..dumps {
        // Some are given up at once, and their signals come later.
        let patience = match rng.u32(..4) {
            0 => Duration::from_micros(rng.u64(..500)),
            _ => support::PATIENCE,
        };
        let dumped = ThreadDump::builder()
            .max_frames(1_000)
            .signal(signal)
            .patience(patience)
            .capture();
        assert_eq!(dumped.problems(), [""; 0]);
        dumped.threads().iter().for_each(|thread| tally.add(thread));
        if dump % 1_000 == 999 {
            println!("{} dumps: {tally:?}", dump + 1);
        }
    }
    stop.store(true, Ordering::Relaxed);
    for worker in workers {
        worker.join().unwrap();
    }
    println!("{dumps} dumps: {tally:?}");
    let incomplete: usize = tally.incomplete.values().sum();
    assert!(tally.by_signal > dumps, "hardly any stack: {tally:?}");
    assert!(
        incomplete * 20 <= tally.by_signal,
        "incomplete ones are not rare: {tally:?}"
    );
    // What is to be provoked was.
    assert!(tally.without(StackProblem::SignalLate) > 0, "{tally:?}");
}

/// The negative control: the check finds a stack that is one level off, or another thread's.
#[test]
fn a_stack_that_is_off_is_found() {
    let signal = StackSignal::install().unwrap();
    let stop = Arc::new(AtomicBool::new(false));
    let mut seed = Rng::with_seed(1);
    let pass = |_: &mut Rng| assert_eq!(descends(3, 50_000), 3);
    let burning = worker("off3".to_owned(), &mut seed, &stop, pass);
    let mut seen = None;
    support::until(|| {
        let dump = ThreadDump::builder().signal(signal).capture();
        let thread = dump.threads().iter().find(|thread| thread.name == "off3");
        let burns = |thread: &&DumpedThread| {
            let mut names = thread.stack.frames().iter().filter_map(|it| it.function());
            thread.stack.is_complete() && names.any(|name| name.ends_with("::burns"))
        };
        seen = thread.filter(burns).cloned();
        seen.is_some()
    });
    let seen = seen.unwrap();
    assert_eq!(wrong(&seen, "down", 3), None);
    for (kind, depth) in [
        ("down", 2),
        ("down", 4),
        ("plunge", 3),
        ("block", 7),
        ("spawn", 0),
    ] {
        assert!(wrong(&seen, kind, depth).is_some(), "{kind} {depth}");
    }
    stop.store(true, Ordering::Relaxed);
    burning.join().unwrap();
}
