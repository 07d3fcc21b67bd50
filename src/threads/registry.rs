//! Who is alive, doing what.

use std::cell::{Cell, OnceCell};
use std::collections::BTreeMap;
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::awaited::Awaits;
use super::info::{ThreadInfo, WaitInfo, stack_of};
use super::moment::{Moment, now};
use super::origin::{Origin, OriginGuard};
use super::scope::{Scope, TokenPath};
use super::wait::{Wait, WaitCell};
use crate::observe;
use crate::sync::{Arc, Condvar, Mutex};

static REGISTRY: LazyLock<Mutex<BTreeMap<u64, Arc<Record>>>> = LazyLock::new(Mutex::default);

/// Told, under the registry's lock, when a thread has gone from it.
static RETIRED: LazyLock<Condvar> = LazyLock::new(Condvar::new);

// Relaxed is enough: the value only has to be unique.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static CURRENT: OnceCell<Arc<Record>> = const { OnceCell::new() };
    /// Number of its record, without a look at that; 0 on a thread that the library did not start.
    static CURRENT_ID: Cell<u64> = const { Cell::new(0) };
}

/// What runs on a thread: the thread itself, or the task that a warm thread has been lent to.
#[derive(Clone, Debug)]
pub(crate) struct Task {
    pub(crate) name: Arc<str>,
    pub(crate) site: &'static Location<'static>,
}

impl Task {
    /// A task that the caller asks for.
    #[track_caller]
    pub(crate) fn here(name: Arc<str>) -> Self {
        let site = Location::caller();
        Self { name, site }
    }
}

impl fmt::Display for Task {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "task \"{}\" ({})", self.name, self.site)
    }
}

/// One thread of the library.
#[derive(Debug)]
pub(crate) struct Record {
    id: u64,
    /// Of the library's thread that asked for it; 0 for another.
    parent: u64,
    own: Task,
    /// The token that it was started with.
    scope: Option<Scope>,
    origin: Origin,
    since: Instant,
    /// The kernel's number of the thread; 0 until it runs, or where that is not known.
    tid: AtomicU32,
    lent_to: Mutex<Loan>,
    /// The key of the task that it runs and that can be joined; 0 for none. Written by the thread
    /// itself. Relaxed: a look compares it with what else it sees, twice.
    runs: AtomicU64,
    wait: WaitCell,
}

/// What a thread has been lent to.
#[derive(Debug, Default)]
struct Loan {
    task: Option<Task>,
    /// Of that task.
    scope: Option<Scope>,
}

impl Record {
    /// Lists a thread that is about to start. Take it out with [`Record::retire`].
    pub(crate) fn enlist(own: Task, scope: Option<Scope>) -> Arc<Self> {
        let record = Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            parent: current_id(),
            own,
            scope,
            origin: Origin::of_new_thread(),
            since: now(),
            tid: AtomicU32::new(0),
            lent_to: Mutex::default(),
            runs: AtomicU64::new(0),
            wait: WaitCell::new(),
        });
        REGISTRY.lock().insert(record.id, record.clone());
        record
    }

    pub(crate) fn retire(&self) {
        let mut registry = REGISTRY.lock();
        let record = registry.remove(&self.id);
        RETIRED.notify_all();
        drop(registry);
        drop(record);
    }

    /// Makes this the record of the calling thread, which has none yet.
    pub(crate) fn adopt(self: &Arc<Self>) -> OriginGuard {
        #[cfg(all(feature = "diagnose", target_os = "linux"))]
        {
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            // Relaxed: the number stands for itself.
            self.tid.store(tid.unsigned_abs(), Ordering::Relaxed);
        }
        let adopted = CURRENT.with(|current| current.set(self.clone()));
        debug_assert!(adopted.is_ok(), "a thread has one record");
        CURRENT_ID.set(self.id);
        self.origin.enter()
    }

    /// Says that the thread runs none of a group's tasks any more.
    pub(crate) fn rest(&self) {
        let before = std::mem::take(&mut *self.lent_to.lock());
        drop(before);
    }

    fn lend(&self, task: &Task, token: usize, scope: impl FnOnce() -> Option<Scope>) {
        let mut lent_to = self.lent_to.lock();
        let Loan {
            task: running,
            scope: under,
        } = &mut *lent_to;
        // Tasks of one group mostly share their name and their token: no need to count them again.
        let (mut before, mut above) = (None, None);
        match running {
            Some(known) if Arc::ptr_eq(&known.name, &task.name) => known.site = task.site,
            other => before = other.replace(task.clone()),
        }
        if under.as_ref().map_or(token != 0, |under| !under.is(token)) {
            above = std::mem::replace(under, scope());
        }
        drop(lent_to);
        drop((before, above));
    }

    /// The task that it was lent to and runs.
    pub(crate) fn task(&self) -> Option<Task> {
        self.lent_to.lock().task.clone()
    }

    pub(crate) fn token(&self) -> Option<TokenPath> {
        let lent = self.lent_to.lock().scope.clone();
        lent.as_ref().or(self.scope.as_ref())?.path()
    }

    pub(crate) const fn id(&self) -> u64 {
        self.id
    }

    pub(super) const fn parent(&self) -> u64 {
        self.parent
    }

    /// What it does, as far as a look for deadlocks is concerned.
    pub(super) fn seen(&self) -> Seen {
        Seen {
            wait: self.wait.look(),
            runs: self.runs.load(Ordering::Relaxed),
        }
    }

    pub(crate) fn waiting(&self) -> Option<WaitInfo> {
        self.wait.get().map(WaitInfo::from)
    }

    /// Its stack as text, if something above the threads provides that.
    pub(crate) fn stack(&self) -> Option<String> {
        stack_of(self.tid())
    }

    /// The kernel's number of the thread, if that is known.
    pub(crate) fn tid(&self) -> Option<u32> {
        let tid = self.tid.load(Ordering::Relaxed);
        (tid != 0).then_some(tid)
    }

    /// With no lock held: the last handle of its token may come to be ours.
    pub(crate) fn info(&self) -> ThreadInfo {
        let token = self.token();
        ThreadInfo {
            token,
            ..self.info_without_token()
        }
    }

    pub(crate) fn info_without_token(&self) -> ThreadInfo {
        let task = self.task().unwrap_or_else(|| self.own.clone());
        ThreadInfo {
            id: self.id,
            tid: self.tid(),
            name: task.name.to_string(),
            spawned_at: task.site,
            age: self.since.elapsed(),
            waiting: self.waiting(),
            token: None,
        }
    }
}

/// A thread at one moment.
#[derive(Clone, Copy)]
pub(super) struct Seen {
    /// With its number.
    pub(super) wait: Option<(u64, Wait)>,
    pub(super) runs: u64,
}

impl Seen {
    /// Whether it is in the same wait, in the same task.
    pub(super) fn is_still(&self, later: &Self) -> bool {
        let number = |seen: &Self| seen.wait.map(|(number, _)| number);
        number(self) == number(later) && self.runs == later.runs
    }
}

/// The record of the calling thread, if the library started it.
pub(crate) fn current_record() -> Option<Arc<Record>> {
    CURRENT.try_with(|current| current.get().cloned()).ok()?
}

/// Says which task the calling thread runs from now on, under the token that it has anyway.
pub(crate) fn run_task(task: &Task) {
    on_this_thread(|record| record.lend(task, 0, || None));
}

/// The same for a task that has a token, of which this is the number.
pub(crate) fn run_task_under(task: &Task, token: usize, scope: impl FnOnce() -> Scope) {
    on_this_thread(|record| record.lend(task, token, || Some(scope())));
}

/// Number of the calling thread's record; 0 if the library did not start it.
#[inline]
pub(crate) fn current_id() -> u64 {
    CURRENT_ID.get()
}

/// A number that is greater than those of all records there are, and smaller than those of all
/// there will be.
#[cfg(all(feature = "diagnose", target_os = "linux", not(cleanbreak_portable)))]
#[inline]
pub(crate) fn records_so_far() -> u64 {
    NEXT_ID.load(Ordering::Relaxed)
}

/// Says which task the calling thread runs, by a key that no other task has as long as it can be
/// joined, until the guard is dropped.
pub(crate) fn running(key: usize) -> RunGuard {
    let before = on_this_thread(|record| {
        let before = record.runs.load(Ordering::Relaxed);
        record.runs.store(key as u64, Ordering::Relaxed);
        before
    });
    RunGuard {
        before: before.unwrap_or(0),
        _of_this_thread: PhantomData,
    }
}

/// Ends what [`running`] began.
pub(crate) struct RunGuard {
    before: u64,
    _of_this_thread: PhantomData<*const ()>,
}

impl Drop for RunGuard {
    fn drop(&mut self) {
        on_this_thread(|record| record.runs.store(self.before, Ordering::Relaxed));
    }
}

/// The records of all threads that are alive, oldest first.
pub(crate) fn records() -> Vec<Arc<Record>> {
    REGISTRY.lock().values().cloned().collect()
}

/// The threads of the library that are alive, oldest first: its timer threads, the tasks of its
/// groups, and the warm threads of its caches.
///
/// A look, not a lock: threads start and end while it is taken. Threads that the library did not
/// start are not listed.
///
/// # Performance
///
/// Linear in the number of threads, with one uncontended lock for each.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, scope, threads};
///
/// let token = CancelToken::new();
/// scope(&token, |group| {
///     group.spawn_named("reader", |token| {
///         token.wait();
///         Ok(())
///     })?;
///     assert!(threads::live().iter().any(|thread| thread.name == "reader"));
///     group.token().cancel();
///     Ok(())
/// })
/// .unwrap();
/// assert!(!threads::live().iter().any(|thread| thread.name == "reader"));
/// ```
#[must_use]
pub fn live() -> Vec<ThreadInfo> {
    records().iter().map(|record| record.info()).collect()
}

/// Waits for all threads within a mark, or for all there are, to be gone, but the calling one; for
/// `patience` at most. Returns those that are left.
pub(crate) fn await_retired(within: Option<&Origin>, patience: Duration) -> Vec<ThreadInfo> {
    let deadline = now().checked_add(patience);
    let own = current_record().map(|record| record.id);
    let counts = |record: &Record| {
        Some(record.id) != own && within.is_none_or(|mark| record.origin.is_within(mark))
    };
    let mut registry = REGISTRY.lock();
    loop {
        let left = registry.values().filter(|record| counts(record));
        let left: Vec<_> = left.cloned().collect();
        if left.is_empty() {
            return Vec::new();
        }
        let late = match deadline {
            Some(at) => RETIRED.wait_until(&mut registry, at).timed_out(),
            None => {
                RETIRED.wait(&mut registry);
                false
            }
        };
        if late {
            drop(registry);
            return left.iter().map(|record| record.info()).collect();
        }
    }
}

/// Says what the calling thread waits on until the guard is dropped.
///
/// The library's own waits say it by themselves; this is for waits that it cannot see, such as a
/// `select!` of your own or a system call. Guards nest: the outer wait is shown again when the
/// inner guard goes. On a thread that the library did not start it does nothing.
///
/// # Performance
///
/// A look at the clock and a few stores that nobody contends for: 10 ns with the feature `diagnose`
/// on Linux, where the clock is the kernel's coarse one; some 40 ns elsewhere.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, SafeChannel, scope, threads};
///
/// let (tx, rx) = SafeChannel::bounded::<&str>(0);
/// scope(&CancelToken::new(), |group| {
///     group.spawn_named("ledger", move |_| {
///         let _wait = threads::waiting_on("get the ledger's lock");
///         tx.send("about to block").ok();
///         Ok(())
///     })?;
///     # while threads::live().iter().all(|t| t.name != "ledger" || t.waiting.is_none()) {
///     #     std::thread::yield_now();
///     # }
///     let all = threads::live();
///     let ledger = all.iter().find(|thread| thread.name == "ledger").unwrap();
///     assert!(ledger.waiting.is_some());
///     assert_eq!(rx.recv().unwrap(), "about to block");
///     Ok(())
/// })
/// .unwrap();
/// ```
#[track_caller]
#[inline]
pub fn waiting_on(on: &'static str) -> WaitGuard {
    wait_for(on, Location::caller(), Awaits::default())
}

/// For a wait that knows a better line to show than that of its caller.
#[cfg_attr(
    not(all(feature = "io", unix)),
    allow(dead_code, reason = "only `io` knows better")
)]
#[inline]
pub(crate) fn waiting_at(on: &'static str, at: &'static Location<'static>) -> WaitGuard {
    wait_for(on, at, Awaits::default())
}

/// As [`waiting_on`], and says for which thing, so that a look for deadlocks can find out who could
/// end the wait.
#[track_caller]
#[inline]
pub(crate) fn awaiting(on: &'static str, awaits: Awaits) -> WaitGuard {
    wait_for(on, Location::caller(), awaits)
}

/// As [`awaiting`], for a wait that knows a better line to show than that of its caller.
#[inline]
pub(crate) fn awaiting_at(
    on: &'static str,
    awaits: Awaits,
    at: &'static Location<'static>,
) -> WaitGuard {
    wait_for(on, at, awaits)
}

#[inline]
fn wait_for(on: &'static str, at: &'static Location<'static>, awaits: Awaits) -> WaitGuard {
    let before = on_this_thread(|record| {
        let nested = record.wait.is_set();
        let before = if nested { record.wait.get() } else { None };
        let since = Moment::now();
        record.wait.set(Some(Wait {
            on,
            at,
            since,
            awaits,
        }));
        before
    });
    WaitGuard {
        before: before.flatten(),
        _of_this_thread: PhantomData,
        _fact: observe::Wait::begin(on),
    }
}

#[inline]
fn on_this_thread<T>(f: impl FnOnce(&Record) -> T) -> Option<T> {
    let with = CURRENT.try_with(|current| current.get().map(|record| f(record)));
    with.ok().flatten()
}

/// Ends what [`waiting_on`] began when it is dropped. Stays on its thread.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, scope, threads};
///
/// scope(&CancelToken::new(), |group| {
///     group.spawn_named("teller", |_| {
///         let own = || threads::live().into_iter().find(|thread| thread.name == "teller");
///         let shown = || own().unwrap().waiting.map(|wait| wait.on);
///         let client = threads::waiting_on("serve a client");
///         let ledger = threads::waiting_on("get the ledger's lock");
///         assert_eq!(shown(), Some("get the ledger's lock"));
///         drop(ledger);
///         assert_eq!(shown(), Some("serve a client")); // the outer wait again
///         drop(client);
///         assert_eq!(shown(), None);
///         Ok(())
///     })?;
///     Ok(())
/// })
/// .unwrap();
/// ```
#[must_use = "the wait is shown for as long as the guard lives"]
#[derive(Debug)]
pub struct WaitGuard {
    before: Option<Wait>,
    /// Not `Send`: a record is written by its own thread alone.
    _of_this_thread: PhantomData<*const ()>,
    /// Also on threads that are not listed.
    _fact: observe::Wait,
}

impl Drop for WaitGuard {
    #[inline]
    fn drop(&mut self) {
        on_this_thread(|record| record.wait.set(self.before));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Not a pass or fail: `cargo test --release --lib -- --ignored --nocapture registry_costs`.
    #[test]
    #[ignore = "measures time"]
    fn what_the_registry_costs_for_each_thread() {
        const TIMES: u32 = 100_000;
        for others in [0, 1_000] {
            let name: Arc<str> = "bench".into();
            let task = || Task::here(name.clone());
            let others: Vec<_> = (0..others).map(|_| Record::enlist(task(), None)).collect();
            let start = now();
            for _ in 0..TIMES {
                Record::enlist(task(), None).retire();
            }
            let each = start.elapsed() / TIMES;
            println!(
                "{each:?} to list a thread and take it out, beside {}",
                others.len()
            );
            others.iter().for_each(|record| record.retire());
        }
    }
}
