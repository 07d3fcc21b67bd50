//! Who is alive, doing what.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::sync::LazyLock;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use super::origin::{Origin, OriginGuard};
use crate::observe;
use crate::sync::{Arc, Condvar, Mutex};

static REGISTRY: LazyLock<Mutex<BTreeMap<u64, Arc<Record>>>> = LazyLock::new(Mutex::default);

/// Told, under the registry's lock, when a thread has gone from it.
static RETIRED: LazyLock<Condvar> = LazyLock::new(Condvar::new);

// Relaxed is enough: the value only has to be unique.
static NEXT_ID: AtomicU64 = AtomicU64::new(1);

thread_local! {
    static CURRENT: RefCell<Option<Arc<Record>>> = const { RefCell::new(None) };
}

#[allow(
    clippy::disallowed_methods,
    reason = "below the clock; these times are for people"
)]
fn now() -> Instant {
    Instant::now()
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
    own: Task,
    origin: Origin,
    since: Instant,
    activity: Mutex<Activity>,
}

#[derive(Debug, Default)]
struct Activity {
    lent_to: Option<Task>,
    wait: Option<WaitInfo>,
}

/// A thread of the library that is alive, as [`live()`] found it.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ThreadInfo {
    /// Number of the thread in this process, never used twice.
    pub id: u64,
    /// Name of the thread, or of the task that a warm thread is running.
    pub name: String,
    /// The source line that asked for the thread (or the task).
    pub spawned_at: &'static Location<'static>,
    /// For how long the thread has been running.
    pub age: Duration,
    /// What it waits on; `None` while it runs.
    pub waiting: Option<WaitInfo>,
}

/// What a thread waits on.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct WaitInfo {
    /// In words, such as `"receive from a channel"`.
    pub on: &'static str,
    /// The source line that waits.
    pub at: &'static Location<'static>,
    /// Since when.
    pub since: Instant,
}

impl fmt::Display for ThreadInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            name,
            spawned_at,
            age,
            waiting,
        } = self;
        write!(f, "thread {id} \"{name}\", spawned at {spawned_at}, ")?;
        write!(f, "age {:.1} s, ", age.as_secs_f64())?;
        match waiting {
            None => write!(f, "running"),
            Some(wait) => write!(f, "{wait}"),
        }
    }
}

impl fmt::Display for WaitInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.since.elapsed().as_secs_f64();
        write!(f, "waiting {secs:.1} s to {} at {}", self.on, self.at)
    }
}

impl Record {
    /// Lists a thread that is about to start. Take it out with [`Record::retire`].
    pub(crate) fn enlist(own: Task) -> Arc<Self> {
        let record = Arc::new(Self {
            id: NEXT_ID.fetch_add(1, Ordering::Relaxed),
            own,
            origin: Origin::here(),
            since: now(),
            activity: Mutex::default(),
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

    /// Makes this the record of the calling thread.
    pub(crate) fn adopt(self: &Arc<Self>) -> OriginGuard {
        CURRENT.with_borrow_mut(|current| *current = Some(self.clone()));
        self.origin.enter()
    }

    /// Says that the thread runs none of a group's tasks any more.
    pub(crate) fn rest(&self) {
        let before = self.activity.lock().lent_to.take();
        drop(before);
    }

    fn lend(&self, task: &Task) {
        let mut activity = self.activity.lock();
        match &mut activity.lent_to {
            // Tasks of one group mostly share their name: no need to count it again.
            Some(before) if Arc::ptr_eq(&before.name, &task.name) => before.site = task.site,
            other => {
                let before = other.replace(task.clone());
                drop(activity);
                drop(before);
            }
        }
    }

    /// The task that it was lent to and runs.
    pub(crate) fn task(&self) -> Option<Task> {
        let activity = self.activity.lock();
        activity.lent_to.clone()
    }

    pub(crate) fn waiting(&self) -> Option<WaitInfo> {
        self.activity.lock().wait
    }

    fn set_wait(&self, wait: Option<WaitInfo>) -> Option<WaitInfo> {
        std::mem::replace(&mut self.activity.lock().wait, wait)
    }

    fn info(&self) -> ThreadInfo {
        let activity = self.activity.lock();
        let task = activity.lent_to.as_ref().unwrap_or(&self.own);
        ThreadInfo {
            id: self.id,
            name: task.name.to_string(),
            spawned_at: task.site,
            age: self.since.elapsed(),
            waiting: activity.wait,
        }
    }
}

/// The record of the calling thread, if the library started it.
pub(crate) fn current_record() -> Option<Arc<Record>> {
    CURRENT.try_with(|current| current.borrow().clone()).ok()?
}

/// Says which task the calling thread runs from now on.
pub(crate) fn run_task(task: &Task) {
    let lend = |current: &RefCell<Option<Arc<Record>>>| {
        if let Some(record) = &*current.borrow() {
            record.lend(task);
        }
    };
    CURRENT.try_with(lend).ok();
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
    let records: Vec<_> = REGISTRY.lock().values().cloned().collect();
    records.iter().map(|record| record.info()).collect()
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
/// A clock reading and two uncontended locks, some 50 ns. Put it where the thread is about to
/// block, not on a hot path.
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
pub fn waiting_on(on: &'static str) -> WaitGuard {
    let at = Location::caller();
    let record = current_record();
    let before = record.as_ref().and_then(|record| {
        let since = now();
        record.set_wait(Some(WaitInfo { on, at, since }))
    });
    WaitGuard {
        record,
        before,
        _fact: observe::Wait::begin(on),
    }
}

/// Ends what [`waiting_on`] began when it is dropped.
#[must_use = "the wait is shown for as long as the guard lives"]
#[derive(Debug)]
pub struct WaitGuard {
    record: Option<Arc<Record>>,
    before: Option<WaitInfo>,
    /// Also on threads that are not listed.
    _fact: observe::Wait,
}

impl Drop for WaitGuard {
    fn drop(&mut self) {
        if let Some(record) = &self.record {
            record.set_wait(self.before);
        }
    }
}
