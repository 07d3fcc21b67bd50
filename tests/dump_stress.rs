//! Many dumps in a row beside threads that allocate, unwind, spawn and exit: no crash, no hang, no
//! wrong stack.
//!
//! What is right, each thread's name says: the function that it runs, and how deep. A stack that is
//! complete has to agree; an incomplete one has to be flagged, and to be rare. `CLEANBREAK_DUMPS`
//! says how many dumps, `CLEANBREAK_SEED` repeats a run.
#![cfg(all(target_os = "linux", target_arch = "x86_64", not(cleanbreak_portable)))]
#![allow(
    clippy::disallowed_methods,
    reason = "most of what is dumped are threads that the library did not start"
)]

mod support;

use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cleanbreak::diagnose::{DumpedThread, StackProblem, ThreadDump};
use crossbeam_channel::{Receiver, never};
use fastrand::Rng;
use support::rng;

/// Goes down so many levels, waits there for a moment, and comes back by a return.
#[inline(never)]
fn sinks(levels: usize, nothing: &Receiver<()>, moment: Duration) -> usize {
    if levels == 0 {
        std::hint::black_box(nothing.recv_timeout(moment)).unwrap_err();
        return 0;
    }
    std::hint::black_box(sinks(levels - 1, nothing, moment)) + 1
}

/// Waits in its destructor, in the middle of a panic.
struct Dawdles(Duration);

impl Drop for Dawdles {
    #[inline(never)]
    fn drop(&mut self) {
        std::hint::black_box(never::<()>().recv_timeout(self.0)).unwrap_err();
    }
}

/// Goes down so many levels and comes back by a panic.
#[inline(never)]
fn plunges(levels: usize, moment: Duration) -> usize {
    let _dawdles = Dawdles(moment);
    if levels == 0 {
        resume_unwind(Box::new("up"));
    }
    std::hint::black_box(plunges(levels - 1, moment)) + 1
}

#[inline(never)]
fn allocates(rng: &mut Rng) -> usize {
    let sizes = [16, 300, 5_000, 400_000, 3_000_000];
    let size = sizes[rng.usize(..sizes.len())];
    let blocks: Vec<Vec<u8>> = (0..rng.usize(1..8)).map(|_| vec![1; size]).collect();
    if rng.bool() {
        thread::sleep(Duration::from_micros(rng.u64(1..300)));
    }
    blocks.iter().map(Vec::len).sum()
}

#[inline(never)]
fn spawns(rng: &mut Rng) {
    let levels = rng.usize(..20);
    let moment = Duration::from_micros(rng.u64(..300));
    let brief = named(format!("sink{levels}"));
    let brief = brief
        .spawn(move || sinks(levels, &never(), moment))
        .unwrap();
    assert_eq!(brief.join().unwrap(), levels);
}

fn named(name: String) -> thread::Builder {
    thread::Builder::new().name(name)
}

/// Runs `pass` until told, on a thread whose name says which and how deep.
fn worker(
    name: String,
    mut rng: Rng,
    stop: &Arc<AtomicBool>,
    pass: impl Fn(&mut Rng) + Send + 'static,
) -> thread::JoinHandle<()> {
    let stop = stop.clone();
    let run = move || {
        while !stop.load(Ordering::Relaxed) {
            pass(&mut rng);
        }
    };
    named(name).spawn(run).unwrap()
}

fn workers(rng: &mut Rng, stop: &Arc<AtomicBool>) -> Vec<thread::JoinHandle<()>> {
    let mut all = Vec::new();
    for _ in 0..6 {
        let levels = rng.usize(..60);
        all.push(worker(
            format!("sink{levels}"),
            rng.fork(),
            stop,
            move |rng| {
                let moment = Duration::from_micros(rng.u64(1..20_000));
                assert_eq!(sinks(levels, &never(), moment), levels);
            },
        ));
    }
    for _ in 0..4 {
        let levels = rng.usize(..12);
        all.push(worker(
            format!("plunge{levels}"),
            rng.fork(),
            stop,
            move |rng| {
                let moment = Duration::from_micros(rng.u64(1..2_000));
                catch_unwind(AssertUnwindSafe(|| plunges(levels, moment))).unwrap_err();
            },
        ));
    }
    for _ in 0..2 {
        all.push(worker("allocate0".to_owned(), rng.fork(), stop, |rng| {
            std::hint::black_box(allocates(rng));
        }));
        all.push(worker("spawn0".to_owned(), rng.fork(), stop, spawns));
    }
    all
}

#[derive(Debug, Default)]
struct Tally {
    right: usize,
    running: usize,
    /// Of which the proof failed, or that were not worth a stack.
    without: BTreeMap<&'static str, usize>,
    incomplete: BTreeMap<String, usize>,
}

impl Tally {
    fn add(&mut self, thread: &DumpedThread) {
        let Some((kind, depth)) = kind_of(&thread.name) else {
            return;
        };
        match thread.stack.problem() {
            None => {
                let wrong = wrong(thread, kind, depth);
                assert_eq!(wrong, None, "{thread}");
                self.right += 1;
            }
            Some(StackProblem::Running) => self.running += 1,
            Some(StackProblem::KeptRunning) => {
                *self.without.entry("kept running").or_default() += 1
            }
            Some(StackProblem::Ended) => *self.without.entry("ended").or_default() += 1,
            Some(problem) => *self.incomplete.entry(problem.to_string()).or_default() += 1,
        }
    }
}

fn kind_of(name: &str) -> Option<(&str, usize)> {
    let digits = name.find(|c: char| c.is_ascii_digit())?;
    let (kind, depth) = name.split_at(digits);
    let known = ["sink", "plunge", "allocate", "spawn"].contains(&kind);
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
    // At its very start or end a thread is in none of its functions.
    let levels = match kind {
        "sink" => count("::sinks"),
        "plunge" => count("::plunges"),
        "allocate" => usize::from(count("::plunges") + count("::sinks") > 0) * 99,
        "spawn" => usize::from(count("::plunges") + count("::sinks") > 0) * 99,
        _ => return Some("what thread is this?".to_owned()),
    };
    let waits = names.iter().any(|name| name.contains("recv_timeout"));
    match kind {
        // It waits at the bottom alone.
        "sink" if waits && levels != depth + 1 => Some(format!("{levels} levels of {depth}")),
        // It waits on each level, on the way up.
        "plunge" if waits && !(1..=depth + 1).contains(&levels) => {
            Some(format!("{levels} levels of {depth}"))
        }
        _ if levels > depth + 1 => Some(format!("{levels} levels of {depth}")),
        _ => None,
    }
}

#[test]
fn no_dump_has_a_wrong_stack() {
    let dumps = std::env::var("CLEANBREAK_DUMPS").ok();
    let dumps: usize = dumps.map_or(300, |dumps| dumps.parse().unwrap());
    let mut rng = rng("no_dump_has_a_wrong_stack");
    let stop = Arc::new(AtomicBool::new(false));
    let workers = workers(&mut rng, &stop);
    let tally = Mutex::new(Tally::default());
    for dump in 0..dumps {
        let dumped = ThreadDump::builder().max_frames(1_000).capture();
        assert_eq!(dumped.problems(), [""; 0]);
        let mut tally = tally.lock().unwrap();
        dumped.threads().iter().for_each(|thread| tally.add(thread));
        if dump % 1_000 == 999 {
            println!("{} dumps: {tally:?}", dump + 1);
        }
    }
    stop.store(true, Ordering::Relaxed);
    workers
        .into_iter()
        .for_each(|worker| worker.join().unwrap());
    let tally = tally.into_inner().unwrap();
    println!("{dumps} dumps: {tally:?}");
    let incomplete: usize = tally.incomplete.values().sum();
    assert!(tally.right > dumps, "hardly any stack: {tally:?}");
    assert!(
        incomplete * 20 <= tally.right,
        "incomplete ones are not rare: {tally:?}"
    );
}

/// The negative control: the check of depths finds a stack that is one level off.
#[test]
fn a_stack_that_is_off_is_found() {
    let (sender, receiver) = crossbeam_channel::bounded::<()>(0);
    let sinking = named("sink3".to_owned());
    let sinking = sinking.spawn(move || sinks(3, &receiver, Duration::from_secs(600)));
    let mut seen = None;
    support::until(|| {
        let dump = ThreadDump::capture();
        let thread = dump.threads().iter().find(|thread| {
            let waits = |name: &str| name.contains("recv_timeout");
            let mut frames = thread.stack.frames().iter();
            thread.name == "sink3" && frames.any(|frame| frame.function().is_some_and(waits))
        });
        seen = thread.filter(|thread| thread.stack.is_complete()).cloned();
        seen.is_some()
    });
    let seen = seen.unwrap();
    assert_eq!(wrong(&seen, "sink", 3), None);
    assert!(wrong(&seen, "sink", 2).is_some());
    assert!(wrong(&seen, "sink", 4).is_some());
    assert!(wrong(&seen, "allocate", 0).is_some());
    drop(sender);
    assert_eq!(sinking.unwrap().join().unwrap(), 3);
}
