//! How the cost grows: tokens, tickers, tasks and messages from one to a million, threads from one to
//! ten thousand, each beside its peers in the same run, in time and in memory for each item.
//!
//! Every sample is of so many items that the clock's own cost does not count; the median of at least
//! five is shown, and every answer is asserted. It keeps its own time, as criterion has no place for
//! memory or for several phases of one run. Threads go as far as the system lets them.
#![allow(
    clippy::disallowed_methods,
    reason = "measures time, and threads that are not the library's own"
)]

#[path = "../tests/support/counting.rs"]
mod counting;
#[path = "shared/rows.rs"]
mod rows;

use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cleanbreak::clock::ManualClock;
use cleanbreak::{CancelToken, Cancelled, Clock, GroupBuilder, Pool, SafeChannel, Ticker};
use counting::held;
use crossbeam_channel::{Receiver, Sender, bounded, tick};
use rows::{Effort, Rows, resident};
use tokio_util::sync::CancellationToken;

/// Items in one sample, at least.
const ITEMS: u64 = 1000;

fn main() {
    let mut rows = Rows::from_args("growth");
    if let Some((who, n)) = asked_for_threads() {
        return measure_threads(&rows, &who, n);
    }
    println!("part,case,who,n,unit,value");
    for n in sizes(&rows, 1_000_000) {
        tokens::<CancelToken>(&mut rows, "cleanbreak", n);
        tokens::<CancellationToken>(&mut rows, "tokio-util", n);
        tickers(&mut rows, n);
        backlogs(&mut rows, n);
        tasks(&mut rows, n);
    }
    for n in sizes(&rows, 10_000) {
        let ours = in_a_process(&mut rows, "cleanbreak", n);
        let std = in_a_process(&mut rows, "std scope", n);
        if !(ours && std) {
            println!("threads: the system refused some of {n}; that is as far as it goes");
            break;
        }
    }
}

/// Powers of ten, as many as the effort allows.
fn sizes(rows: &Rows, most: u64) -> Vec<u64> {
    let most = most.min(rows.pick(if most > 10_000 { 100 } else { 10 }, most / 100, most));
    let powers = (0..).map(|power| 10_u64.pow(power));
    powers.take_while(|n| *n <= most).collect()
}

/// How many groups of `n` make one sample.
fn groups_of(rows: &Rows, n: u64) -> u64 {
    match rows.effort() {
        Effort::Test => 1,
        _ => (ITEMS / n).max(1),
    }
}

/// Times the phases of a run one after the other.
struct Lap(Instant);

impl Lap {
    fn start() -> Self {
        Self(Instant::now())
    }

    fn time(&mut self) -> Duration {
        let now = Instant::now();
        now - std::mem::replace(&mut self.0, now)
    }

    /// Leaves out what came since the last.
    fn skip(&mut self) {
        self.0 = Instant::now();
    }
}

trait Token: Sized {
    fn root() -> Self;
    fn new_child(&self) -> Self;
    fn cancel_all(&self);
    fn is_over(&self) -> bool;
}

impl Token for CancelToken {
    fn root() -> Self {
        Self::new()
    }

    fn new_child(&self) -> Self {
        self.child()
    }

    fn cancel_all(&self) {
        assert!(self.cancel());
    }

    fn is_over(&self) -> bool {
        self.is_cancelled()
    }
}

impl Token for CancellationToken {
    fn root() -> Self {
        Self::new()
    }

    fn new_child(&self) -> Self {
        self.child_token()
    }

    fn cancel_all(&self) {
        self.cancel();
    }

    fn is_over(&self) -> bool {
        self.is_cancelled()
    }
}

/// A root and what is below it: beside each other, or each below the one before.
fn tree<T: Token>(n: u64, deep: bool) -> Vec<T> {
    let mut tree = Vec::with_capacity(n as usize + 1);
    tree.push(T::root());
    for nth in 0..n as usize {
        let parent = if deep { nth } else { 0 };
        tree.push(tree[parent].new_child());
    }
    tree
}

fn tokens<T: Token>(rows: &mut Rows, who: &str, n: u64) {
    for (shape, deep) in [("children", false), ("chain", true)] {
        let groups = groups_of(rows, n);
        let phases = rows.medians(|| {
            let mut trees = Vec::with_capacity(groups as usize);
            let mut lap = Lap::start();
            trees.extend((0..groups).map(|_| tree::<T>(n, deep)));
            let made = lap.time();
            trees.iter().for_each(|tree| tree[0].cancel_all());
            let cancelled = lap.time();
            assert!(trees.iter().flatten().all(T::is_over));
            lap.skip();
            drop(trees);
            [made, cancelled, lap.time()]
        });
        for (phase, nanos) in ["create", "cancel", "drop"].iter().zip(phases) {
            let case = format!("token {shape} {phase}");
            rows.add(&case, who, n, "ns", nanos / (n * groups) as f64);
        }
        let (tree, bytes) = held(|| tree::<T>(n, deep));
        assert!(!tree[n as usize].is_over());
        // Without the handles, which are the caller's own.
        let handles = (n + 1) as isize * size_of::<T>() as isize;
        let case = format!("token {shape} memory");
        rows.add(
            &case,
            who,
            n,
            "B",
            (bytes - handles) as f64 / (n + 1) as f64,
        );
    }
}

const HOUR: Duration = Duration::from_secs(3600);

fn our_tickers(clock: &ManualClock, n: u64) -> Vec<Ticker> {
    let start = |_| Ticker::builder(HOUR).clock(clock).start().unwrap();
    let mut tickers = Vec::with_capacity(n as usize);
    tickers.extend((0..n).map(start));
    tickers
}

/// Ours on the manual clock, so that it is the work that is timed and not an hour; crossbeam's can
/// only be started, as it has no thread that would do any.
fn tickers(rows: &mut Rows, n: u64) {
    let groups = groups_of(rows, n);
    let phases = rows.medians(|| {
        let mut total = [Duration::ZERO; 3];
        for _ in 0..groups {
            let clock = Clock::manual();
            let mut lap = Lap::start();
            let tickers = our_tickers(&clock, n);
            total[0] += lap.time();
            clock.advance(HOUR);
            assert!(tickers.iter().all(|ticker| ticker.try_recv().is_ok()));
            total[1] += lap.time();
            drop(tickers);
            total[2] += lap.time();
        }
        total
    });
    for (phase, nanos) in ["start", "tick", "drop"].iter().zip(phases) {
        let case = format!("ticker {phase}");
        rows.add(&case, "cleanbreak", n, "ns", nanos / (n * groups) as f64);
    }
    let clock = Clock::manual();
    let (tickers, bytes) = held(|| our_tickers(&clock, n));
    let handles = n as isize * size_of::<Ticker>() as isize;
    let each = (bytes - handles) as f64 / n as f64;
    rows.add("ticker memory", "cleanbreak", n, "B", each);
    drop(tickers);

    let ticks = |n| {
        let mut ticks = Vec::with_capacity(n as usize);
        ticks.extend((0..n).map(|_| tick(HOUR)));
        ticks
    };
    let [started] = rows.medians(|| {
        let mut lap = Lap::start();
        let made = ticks(n * groups);
        let started = lap.time();
        assert!(made.iter().all(Receiver::is_empty));
        [started]
    });
    let each = started / (n * groups) as f64;
    rows.add("ticker start", "crossbeam tick", n, "ns", each);
    let (made, bytes) = held(|| ticks(n));
    let handles = n as isize * size_of_val(&made[0]) as isize;
    let each = (bytes - handles) as f64 / n as f64;
    rows.add("ticker memory", "crossbeam tick", n, "B", each);
}

/// Sends so many to an unbounded channel and then receives them.
fn backlog<Tx, Rx>(
    rows: &mut Rows,
    who: &str,
    n: u64,
    make: impl Fn() -> (Tx, Rx),
    send: impl Fn(&Tx, u64),
    recv: impl Fn(&Rx) -> u64,
) {
    let groups = groups_of(rows, n);
    let phases = rows.medians(|| {
        let mut total = [Duration::ZERO; 2];
        for _ in 0..groups {
            let (tx, rx) = make();
            let mut lap = Lap::start();
            (0..n).for_each(|value| send(&tx, value));
            total[0] += lap.time();
            let sum: u64 = (0..n).map(|_| recv(&rx)).sum();
            total[1] += lap.time();
            assert_eq!(sum, n * (n - 1) / 2);
        }
        total
    });
    for (phase, nanos) in ["send", "recv"].iter().zip(phases) {
        let case = format!("backlog {phase}");
        rows.add(&case, who, n, "ns", nanos / (n * groups) as f64);
    }
    let (tx, rx) = make();
    let ((), bytes) = held(|| (0..n).for_each(|value| send(&tx, value)));
    assert_eq!(recv(&rx), 0);
    rows.add("backlog memory", who, n, "B", bytes as f64 / n as f64);
}

fn backlogs(rows: &mut Rows, n: u64) {
    macro_rules! contender {
        ($who:literal, $make:expr) => {
            backlog(
                rows,
                $who,
                n,
                || $make,
                |tx, value| assert!(tx.send(value).is_ok()),
                |rx| rx.recv().unwrap(),
            );
        };
    }
    contender!("cleanbreak", SafeChannel::unbounded());
    contender!("crossbeam", crossbeam_channel::unbounded());
    contender!("flume", flume::unbounded());
    contender!("kanal", kanal::unbounded());
}

/// Counts tasks; the last one says so.
#[derive(Clone)]
struct Tally(Arc<AtomicUsize>, Sender<()>);

impl Tally {
    fn of(tasks: u64) -> (Self, Receiver<()>) {
        let (done, all_done) = bounded(1);
        let left = Arc::new(AtomicUsize::new(tasks as usize));
        (Self(left, done), all_done)
    }

    fn take(&self) {
        if self.0.fetch_sub(1, Ordering::Relaxed) == 1 {
            self.1.send(()).unwrap();
        }
    }
}

type Task = Box<dyn FnOnce() + Send>;

/// So many tasks through two workers, and the memory of so many that wait.
fn through(rows: &mut Rows, who: &str, n: u64, execute: &dyn Fn(Task)) {
    let groups = groups_of(rows, n);
    let [nanos] = rows.medians(|| {
        let mut lap = Lap::start();
        for _ in 0..groups {
            let (tally, all_done) = Tally::of(n);
            for _ in 0..n {
                let tally = tally.clone();
                execute(Box::new(move || tally.take()));
            }
            all_done.recv().unwrap();
        }
        [lap.time()]
    });
    rows.add("task", who, n, "ns", nanos / (n * groups) as f64);
    let (open, gate) = bounded::<()>(0);
    let (begun, both_begun) = bounded(2);
    for _ in 0..2 {
        let (begun, gate) = (begun.clone(), gate.clone());
        execute(Box::new(move || {
            begun.send(()).unwrap();
            gate.recv().unwrap_err();
        }));
    }
    (0..2).for_each(|_| both_begun.recv().unwrap());
    let (tally, all_done) = Tally::of(n);
    let ((), bytes) = held(|| {
        for _ in 0..n {
            let tally = tally.clone();
            execute(Box::new(move || tally.take()));
        }
    });
    drop(open);
    all_done.recv().unwrap();
    // Without the boxed closure, which is the bench's own.
    let each = bytes as f64 / n as f64 - size_of::<Tally>() as f64;
    rows.add("task memory", who, n, "B", each);
}

fn tasks(rows: &mut Rows, n: u64) {
    let ours = Pool::builder().workers(2).queue(n as usize + 2);
    let ours = ours.build(&CancelToken::new()).unwrap();
    through(rows, "cleanbreak", n, &|task| {
        ours.execute(move |_: &CancelToken| {
            task();
            Ok(())
        })
        .unwrap();
    });
    let pool = threadpool::ThreadPool::new(2);
    through(rows, "threadpool", n, &|task| pool.execute(task));
    let pool = rayon::ThreadPoolBuilder::new().num_threads(2);
    let pool = pool.build().unwrap();
    through(rows, "rayon", n, &|task| pool.spawn(task));
    let pool = rusty_pool::Builder::new().core_size(2).max_size(2).build();
    through(rows, "rusty_pool", n, &|task| pool.execute(task));
    pool.shutdown_join();
}

/// Asks for one measurement of threads: whose, and how many.
const THREADS: &str = "--threads";

fn asked_for_threads() -> Option<(String, u64)> {
    let mut args = std::env::args().skip_while(|arg| arg != THREADS).skip(1);
    Some((args.next()?, args.next()?.parse().unwrap()))
}

/// Measures threads in a process of their own, so that none uses stacks and memory of others that
/// have ended. False if the system refused one.
fn in_a_process(rows: &mut Rows, who: &str, n: u64) -> bool {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([THREADS, who, &n.to_string()]);
    command.args(rows.pick(Some("--test"), Some("--quick"), None));
    let output = command.stderr(Stdio::inherit()).output().unwrap();
    assert!(output.status.success(), "threads of {who}: {output:?}");
    let told = String::from_utf8(output.stdout).unwrap();
    for (case, figure) in ["start", "end", "memory"]
        .iter()
        .zip(told.split_whitespace())
    {
        let unit = if *case == "memory" { "B" } else { "ns" };
        let value = figure.parse::<f64>().unwrap() / n as f64;
        rows.add(&format!("thread {case}"), who, n, unit, value);
    }
    !told.trim().is_empty()
}

/// Tells the time until all have been started, the time until all have ended, and the memory of the
/// first time; nothing if the system refused one.
fn measure_threads(rows: &Rows, who: &str, n: u64) {
    let mut memory = None;
    let mut refused = false;
    let [start, end] = rows.medians(|| {
        let run = match who {
            "cleanbreak" => our_threads(n),
            _ => std_threads(n),
        };
        refused |= run.is_none();
        let (phases, bytes) = run.unwrap_or_default();
        memory.get_or_insert(bytes);
        phases
    });
    if !refused {
        println!("{start} {end} {}", memory.unwrap_or(0));
    }
}

/// What one run came to: until all were started, until all had ended, and resident bytes between.
type Run = ([Duration; 2], u64);

/// So many tasks of one group, all alive at once, that wait on the token.
fn our_threads(n: u64) -> Option<Run> {
    let (token, began) = (CancelToken::new(), AtomicUsize::new(0));
    let (mut start, mut memory) = (Duration::ZERO, 0);
    let before = resident();
    let mut lap = Lap::start();
    let result = GroupBuilder::new().scope(&token, |group| {
        for _ in 0..n {
            group.spawn(|token| {
                began.fetch_add(1, Ordering::Relaxed);
                token.wait();
                Ok(())
            })?;
        }
        until(|| began.load(Ordering::Relaxed) == n as usize);
        start = lap.time();
        memory = resident().saturating_sub(before);
        lap.skip();
        token.cancel();
        Ok(())
    });
    let end = lap.time();
    // The cancellation is the bench's own.
    let refused = result.is_err_and(|error| !error.is::<Cancelled>());
    (!refused).then_some(([start, end], memory))
}

/// The same of std's scope, whose threads wait on a channel that closes.
fn std_threads(n: u64) -> Option<Run> {
    let (stop, stopped) = bounded::<()>(0);
    let began = AtomicUsize::new(0);
    let (mut start, mut memory, mut refused) = (Duration::ZERO, 0, false);
    let before = resident();
    let mut lap = Lap::start();
    thread::scope(|scope| {
        // Dropped on every way out, or the scope waits for ever.
        let stop = stop;
        for _ in 0..n {
            let (stopped, began) = (stopped.clone(), &began);
            let spawned = thread::Builder::new().spawn_scoped(scope, move || {
                began.fetch_add(1, Ordering::Relaxed);
                stopped.recv().unwrap_err();
            });
            refused |= spawned.is_err();
            if refused {
                return;
            }
        }
        until(|| began.load(Ordering::Relaxed) == n as usize);
        start = lap.time();
        memory = resident().saturating_sub(before);
        lap.skip();
        drop(stop);
    });
    let end = lap.time();
    (!refused).then_some(([start, end], memory))
}

/// Lets the others run until it is so.
fn until(what: impl Fn() -> bool) {
    while !what() {
        thread::yield_now();
    }
}
