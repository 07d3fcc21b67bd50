//! What a dump of a thousand sleeping threads costs, the first time and later; what one of threads
//! that run does by signal, and for how long the signal holds such a thread up. The stacks are
//! checked: a dump that is fast and wrong does not count.
#![allow(missing_docs, reason = "criterion's macros")]
#![allow(
    clippy::disallowed_methods,
    reason = "measures time, on threads of its own"
)]

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use cleanbreak::diagnose::{DumpedThread, StackSignal, TakenBy, ThreadDump};
use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

/// Where the threads sleep.
const LINE: u32 = line!() + 3;
#[inline(never)]
fn sleeper(wake: &mpsc::Receiver<()>) {
    std::hint::black_box(wake.recv()).ok();
}

struct Sleepers {
    threads: Vec<(thread::JoinHandle<()>, mpsc::Sender<()>)>,
}

impl Sleepers {
    fn new(count: usize) -> Self {
        let start = |index| {
            let (sender, wake) = mpsc::channel();
            let name = format!("sleeper-{index}");
            let builder = thread::Builder::new().name(name).stack_size(64 << 10);
            let thread = builder.spawn(move || sleeper(&wake)).unwrap();
            (thread, sender)
        };
        Self {
            threads: (0..count).map(start).collect(),
        }
    }

    fn end(self) {
        for (thread, sender) in self.threads {
            drop(sender);
            thread.join().unwrap();
        }
    }
}

fn is_right(thread: &DumpedThread) -> bool {
    let sleeps = |function: &str| function.ends_with("dump::sleeper");
    thread.stack.is_complete()
        && thread
            .stack
            .frames()
            .iter()
            .any(|frame| frame.function().is_some_and(sleeps) && frame.line() == Some(LINE))
}

/// Processor time of the calling thread, which on a busy machine says more.
fn processor_time() -> Duration {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap_or_default();
    let nanos = line.split(' ').next().and_then(|nanos| nanos.parse().ok());
    Duration::from_nanos(nanos.unwrap_or(0))
}

/// A dump and what it took.
fn timed(which: &str) -> ThreadDump {
    let (start, busy) = (Instant::now(), processor_time());
    let dump = ThreadDump::capture();
    let (took, busy) = (start.elapsed(), processor_time() - busy);
    println!("the {which} dump: {took:.1?}, of which on a processor {busy:.1?}");
    dump
}

/// How many stacks of sleepers are right.
fn right(dump: &ThreadDump) -> usize {
    let sleepers = dump.threads().iter();
    let sleepers = sleepers.filter(|thread| thread.name.starts_with("sleeper-"));
    sleepers.filter(|thread| is_right(thread)).count()
}

fn dump(c: &mut Criterion) {
    let mut group = c.benchmark_group("dump");
    group.sample_size(20);
    let mut first = true;
    for count in [1000, 100, 10] {
        let sleepers = Sleepers::new(count);
        if std::mem::take(&mut first) {
            assert!(timed("first").threads().len() > count);
            assert!(timed("second").threads().len() > count);
        }
        // Until the last of them sleeps.
        for tries in 0.. {
            let dump = ThreadDump::capture();
            if right(&dump) == count {
                break;
            }
            let wrong =
                |thread: &&DumpedThread| thread.name.starts_with("sleeper") && !is_right(thread);
            let wrong = dump.threads().iter().find(wrong);
            assert!(tries < 1000, "not right: {}", wrong.unwrap());
        }
        group.bench_function(BenchmarkId::new("sleeping_threads", count), |b| {
            b.iter_with_large_drop(|| {
                let dump = ThreadDump::capture();
                assert_eq!(right(&dump), count);
                dump
            });
        });
        sleepers.end();
    }
    group.finish();
}

/// Threads that read the clock without end, and note the longest time between two readings.
struct Spinners {
    stop: Arc<AtomicBool>,
    threads: Vec<(thread::JoinHandle<()>, Arc<AtomicU64>)>,
}

#[inline(never)]
fn spinner(stop: &AtomicBool, longest: &AtomicU64) {
    let mut last = Instant::now();
    while !stop.load(Ordering::Relaxed) {
        let now = Instant::now();
        let gap = u64::try_from((now - last).as_nanos()).unwrap_or(u64::MAX);
        if gap > longest.load(Ordering::Relaxed) {
            longest.store(gap, Ordering::Relaxed);
        }
        last = now;
    }
}

impl Spinners {
    fn new(count: usize) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let start = |index| {
            let longest = Arc::new(AtomicU64::new(0));
            let (stop, noted) = (stop.clone(), longest.clone());
            let builder = thread::Builder::new().name(format!("spinner-{index}"));
            let thread = builder.spawn(move || spinner(&stop, &noted)).unwrap();
            (thread, longest)
        };
        let threads = (0..count).map(start).collect();
        Self { stop, threads }
    }

    fn end(self) {
        self.stop.store(true, Ordering::Relaxed);
        for (thread, _) in self.threads {
            thread.join().unwrap();
        }
    }
}

/// How many stacks of spinners are right.
fn right_spinners(dump: &ThreadDump) -> usize {
    let spins = |thread: &&DumpedThread| {
        let mut frames = thread.stack.frames().iter();
        let spins = |function: &str| function.ends_with("dump::spinner");
        thread.stack.is_complete() && frames.any(|frame| frame.function().is_some_and(spins))
    };
    dump.threads().iter().filter(spins).count()
}

/// The median, over some dumps, of the longest time for which the spinner stood still meanwhile. A
/// thread that loses its processor to another one stands still for much longer: the lower quartile
/// is given too.
fn pause(which: &str, take: impl Fn() -> ThreadDump, by: TakenBy) {
    let spinners = Spinners::new(1);
    let longest = &spinners.threads[0].1;
    let mut pauses = Vec::new();
    while pauses.len() < 300 {
        longest.store(0, Ordering::Relaxed);
        let dump = take();
        let pause = longest.load(Ordering::Relaxed);
        let mut threads = dump.threads().iter();
        let spinner = threads.find(|thread| thread.name == "spinner-0").unwrap();
        if by == TakenBy::Signal && spinner.stack.taken_by() == by && right_spinners(&dump) == 0 {
            continue; // at its very start
        }
        if spinner.stack.taken_by() == by {
            pauses.push(pause);
        }
    }
    pauses.sort_unstable();
    let at = |share: usize| Duration::from_nanos(pauses[pauses.len() * share / 100]);
    println!(
        "longest pause of a running thread in a dump {which}: {:?} in 25 %, {:?} in 50 %, {:?} in 90 % of {}",
        at(25),
        at(50),
        at(90),
        pauses.len()
    );
    spinners.end();
}

fn by_signal(c: &mut Criterion) {
    let Ok(signal) = StackSignal::install() else {
        println!("no stacks by signal here");
        return;
    };
    let take = || ThreadDump::builder().signal(signal).capture();
    pause("without signals", ThreadDump::capture, TakenBy::Look);
    pause("with signals", take, TakenBy::Signal);
    let mut group = c.benchmark_group("dump");
    group.sample_size(10);
    for count in [1, 10, 100] {
        let spinners = Spinners::new(count);
        while right_spinners(&take()) < count {}
        group.bench_function(BenchmarkId::new("running_threads_by_signal", count), |b| {
            b.iter_with_large_drop(|| {
                let dump = take();
                // One may have been seen while it had lost its processor for a moment.
                assert!(right_spinners(&dump) * 10 >= count * 9);
                dump
            });
        });
        spinners.end();
    }
    group.finish();
}

criterion_group!(benches, dump, by_signal);
criterion_main!(benches);
