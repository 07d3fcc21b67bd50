//! What a dump of a thousand sleeping threads costs, the first time and later. The stacks are
//! checked: a dump that is fast and wrong does not count.
#![allow(missing_docs, reason = "criterion's macros")]
#![allow(
    clippy::disallowed_methods,
    reason = "measures time, on threads of its own"
)]

use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use cleanbreak::diagnose::{DumpedThread, ThreadDump};
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

criterion_group!(benches, dump);
criterion_main!(benches);
