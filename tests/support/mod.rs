//! What the tests share: a watchdog, seeds, children of the test binary, and looks at the process.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(
    clippy::disallowed_methods,
    reason = "the watchdog must not rest on what it watches"
)]

use std::cell::RefCell;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use cleanbreak::threads::WaitInfo;
use cleanbreak::{CancelToken, scope};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded};

/// Long enough for any machine; only a test that has failed waits it out.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const fn secs(n: u64) -> Duration {
    Duration::from_secs(n)
}

pub(crate) const fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

/// Longer than any test takes on the busiest machine: who is not done by then hangs.
/// `CLEANBREAK_PATIENCE` sets another, in seconds.
fn patience() -> Duration {
    let given = std::env::var("CLEANBREAK_PATIENCE").ok();
    Duration::from_secs(given.map_or(120, |secs| secs.parse().unwrap()))
}

/// Runs `test` on a thread of its own and fails if it hangs.
pub(crate) fn in_time<T: Send + 'static>(test: impl FnOnce() -> T + Send + 'static) -> T {
    let (tx, rx) = bounded(1);
    let name = thread::current().name().unwrap_or("test").to_owned();
    let thread = thread::Builder::new().name(name);
    let thread = thread.spawn(move || tx.send(test()).is_ok()).unwrap();
    match rx.recv_timeout(patience()) {
        Ok(value) => {
            thread.join().unwrap();
            value
        }
        Err(RecvTimeoutError::Disconnected) => resume_unwind(thread.join().unwrap_err()),
        Err(RecvTimeoutError::Timeout) => panic!("it hangs"),
    }
}

/// The seed of a random test: printed, and taken from `CLEANBREAK_SEED` if that is set.
pub(crate) fn seed() -> u64 {
    let given = std::env::var("CLEANBREAK_SEED").ok();
    let seed = given.map_or_else(|| fastrand::u64(..), |seed| seed.parse().unwrap());
    println!("CLEANBREAK_SEED={seed}");
    seed
}

/// A generator with such a seed.
pub(crate) fn rng(test: &str) -> fastrand::Rng {
    print!("{test}: ");
    fastrand::Rng::with_seed(seed())
}

/// Some processor time to shift the threads of a race against each other. Not a synchronisation.
pub(crate) fn dither(rng: &mut fastrand::Rng, most: u32) {
    for _ in 0..rng.u32(0..=most) {
        std::hint::spin_loop();
    }
}

/// What a closure panics with.
pub(crate) fn payload_of<T>(f: impl FnOnce() -> T) -> Box<dyn std::any::Any + Send> {
    match catch_unwind(AssertUnwindSafe(f)) {
        Ok(_) => panic!("it did not panic"),
        Err(payload) => payload,
    }
}

/// Polls until `true`; for states that nothing announces.
pub(crate) fn until(mut what: impl FnMut() -> bool) {
    let patience = crossbeam_channel::after(patience());
    while !what() {
        assert!(patience.try_recv().is_err(), "it never came about");
        thread::yield_now();
    }
}

/// Polls until `condition` holds; for what happens a moment after what can be waited for, such as
/// the end of a thread that nobody joins.
pub(crate) fn eventually(what: &str, condition: impl Fn() -> bool) {
    println!("{what}?");
    until(condition);
}

/// Counts how many of it are alive and how many have been dropped.
#[derive(Default)]
pub(crate) struct Census {
    pub(crate) born: AtomicUsize,
    pub(crate) dropped: AtomicUsize,
}

pub(crate) struct Citizen<'a>(&'a Census);

impl Census {
    pub(crate) fn citizen(&self) -> Citizen<'_> {
        self.born.fetch_add(1, Ordering::SeqCst);
        Citizen(self)
    }

    pub(crate) fn alive(&self) -> usize {
        self.born.load(Ordering::SeqCst) - self.dropped.load(Ordering::SeqCst)
    }
}

impl Drop for Citizen<'_> {
    fn drop(&mut self) {
        self.0.dropped.fetch_add(1, Ordering::SeqCst);
    }
}

const CHILD: &str = "CLEANBREAK_TEST_CHILD";

/// Whether this process is the child that [`child`] started.
pub(crate) fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

/// Runs the named test of this binary alone, in a process of its own. `limits` is what a shell is
/// told before, such as `ulimit -v 100000`.
pub(crate) fn child(test: &str, limits: &str) -> Output {
    let script = format!("{limits}\nexec \"$0\" --exact {test} --nocapture --test-threads=1");
    let mut command = Command::new("sh");
    command.arg("-c").arg(script);
    command.arg(std::env::current_exe().unwrap());
    command.env(CHILD, "1").output().unwrap()
}

/// Runs the named test as a child and fails with its output if it does.
pub(crate) fn child_passes(test: &str, limits: &str) -> Output {
    let output = child(test, limits);
    let (out, err) = (
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr),
    );
    assert!(output.status.success(), "{out}\n{err}");
    assert!(out.contains("1 passed"), "the child ran no test: {out}");
    output
}

/// Threads of this process whose name, as the kernel has it, starts with `prefix` (of 15 bytes at
/// most).
pub(crate) fn threads_named(prefix: &str) -> usize {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let names =
        tasks.filter_map(|task| std::fs::read_to_string(task.ok()?.path().join("comm")).ok());
    names.filter(|name| name.starts_with(prefix)).count()
}

/// How many descriptors this process has open.
pub(crate) fn descriptors() -> usize {
    // One of them is the folder's own.
    std::fs::read_dir("/proc/self/fd").unwrap().count() - 1
}

/// A line of `/proc/self/status`, in its own unit.
pub(crate) fn status(field: &str) -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(field)).unwrap();
    let number = line.split_whitespace().nth(1).unwrap();
    number.parse().unwrap()
}

/// How many threads of the library with this name are alive.
pub(crate) fn live_named(name: &str) -> usize {
    let live = cleanbreak::threads::live();
    live.iter().filter(|thread| thread.name == name).count()
}

/// Waits until a thread of the library of this name says that it waits.
pub(crate) fn until_waiting(name: &str) {
    until(|| {
        let mut live = cleanbreak::threads::live().into_iter();
        live.any(|thread| thread.name == name && thread.waiting.is_some())
    });
}

/// Runs `blocked` on a thread of the library of this name, cancels its token when it waits, and
/// returns what it came to, and what it said it waited on.
pub(crate) fn cancelled<T: Send + 'static>(
    name: &'static str,
    blocked: impl FnOnce(&CancelToken) -> T + Send + 'static,
) -> (T, WaitInfo) {
    in_time(move || {
        let (token, mut wait) = (CancelToken::new(), None);
        let told = token.clone();
        let result = scope(&CancelToken::new(), |group| {
            let task = group.spawn_named(name, move |_| Ok(blocked(&told)))?;
            until(|| {
                let live = cleanbreak::threads::live();
                wait = live
                    .into_iter()
                    .find(|thread| thread.name == name)
                    .and_then(|it| it.waiting);
                wait.is_some()
            });
            let begun = Instant::now();
            token.cancel_with("enough");
            let result = task.join()?;
            println!(
                "{name}: {:?} from cancel to the end of the thread",
                begun.elapsed()
            );
            Ok(result)
        });
        (result.unwrap(), wait.unwrap())
    })
}

thread_local! {
    static LAST: RefCell<Option<Last>> = const { RefCell::new(None) };
}

/// Lives in a thread-local: counts when its thread is really at its end.
struct Last {
    ended: &'static AtomicUsize,
    held: Option<Receiver<()>>,
}

impl Drop for Last {
    fn drop(&mut self) {
        if let Some(held) = &self.held {
            held.recv().unwrap_err();
        }
        (0..50).for_each(|_| thread::yield_now());
        self.ended.fetch_add(1, Ordering::SeqCst);
    }
}

/// Counts the end of the calling thread, which is not before `held` disconnects.
pub(crate) fn count_the_end(ended: &'static AtomicUsize, held: Option<Receiver<()>>) {
    LAST.set(Some(Last { ended, held }));
}
