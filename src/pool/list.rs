//! Pools that are alive, for people to look at.

use std::fmt;
use std::panic::Location;

use super::queue::Counts;
use super::shared::Shared;
use crate::contain::drop_contained;
use crate::roll::{Listed, Roll};
use crate::sync::{Arc, Weak};
use crate::threads::{Awaited, Needs, Part, Who};

static POOLS: Roll<dyn Look> = Roll::new();

/// What can be looked at, whatever its tasks fail with.
pub(super) trait Look: Send + Sync {
    fn look(&self, id: u64) -> PoolInfo;
}

/// Takes a pool out of the list when it is dropped.
pub(super) type Entry = Listed<dyn Look>;

pub(super) fn enlist<E: Send + 'static>(shared: &Arc<Shared<E>>) -> Entry {
    let weak: Weak<Shared<E>> = Arc::downgrade(shared);
    POOLS.enlist(weak)
}

/// A pool that is alive, as [`live()`] found it. The numbers are of one moment.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, Pool, pool};
///
/// let mails = Pool::builder().name("mails").workers(1).queue(8).errors::<&str>();
/// let mails = mails.build(&CancelToken::new()).unwrap();
/// mails.submit(|_| Err::<(), _>("bounced")).unwrap().join().unwrap_err();
/// mails.submit(|_| Ok(())).unwrap().join().unwrap();
/// # while pool::live().iter().any(|found| found.name == "mails" && found.running > 0) {
/// #     std::thread::yield_now();
/// # }
/// let found = pool::live().into_iter().find(|found| found.name == "mails").unwrap();
/// assert_eq!((found.completed, found.failed, found.panicked), (1, 1, 0));
/// assert!(found.to_string().ends_with("open, 0 of 1 workers busy, 0 of 8 queued"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolInfo {
    /// Number of the pool in this process, never used twice.
    pub id: u64,
    /// The pool's name.
    pub name: String,
    /// The source line that built it.
    pub built_at: &'static Location<'static>,
    /// Workers in all: busy, idle, and on their way.
    pub workers: usize,
    /// Tasks that run.
    pub running: usize,
    /// Tasks that wait for a worker.
    pub queued: usize,
    /// How many may wait.
    pub bound: usize,
    /// Tasks that returned `Ok`.
    pub completed: usize,
    /// Tasks that returned an error.
    pub failed: usize,
    /// Tasks that panicked.
    pub panicked: usize,
    /// Tasks that never ran, because they or the pool were cancelled before.
    pub cancelled: usize,
    /// Tasks that never ran, because a shutdown took them out of the queue.
    pub abandoned: usize,
    /// Whether it takes tasks in: it has been neither shut down nor cancelled.
    pub open: bool,
}

impl fmt::Display for PoolInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, built_at, .. } = self;
        let open = if self.open { "open" } else { "closed" };
        write!(f, "pool \"{name}\" at {built_at}, {open}, ")?;
        let (running, workers) = (self.running, self.workers);
        write!(f, "{running} of {workers} workers busy, ")?;
        write!(f, "{} of {} queued", self.queued, self.bound)
    }
}

impl<E: Send + 'static> Look for Shared<E> {
    fn look(&self, id: u64) -> PoolInfo {
        let found = self.queue.look();
        let Counts {
            completed,
            failed,
            panicked,
            cancelled,
            abandoned,
        } = found.counts;
        PoolInfo {
            id,
            name: self.name.to_string(),
            built_at: self.site,
            workers: found.workers,
            running: found.running,
            queued: found.queued,
            bound: found.bound,
            completed,
            failed,
            panicked,
            cancelled,
            abandoned,
            open: found.open,
        }
    }
}

impl<E: Send + 'static> Awaited for Shared<E> {
    fn needs(&self, part: Part) -> Needs {
        let key = match part {
            Part::Task(key) => key,
            _ => 0,
        };
        let found = self.queue.standing(key);
        let records = found.running.iter().filter_map(|it| it.record.as_ref());
        let busy = || records.clone().map(|record| record.id()).collect();
        match part {
            Part::All => Needs {
                who: Who::All(busy()),
                or: None,
            },
            Part::Task(key) if !found.has_key => Needs {
                who: Who::RunnerOf(key),
                or: None,
            },
            Part::Task(_) if found.all_busy => self.until_cancelled(busy()),
            Part::Place if found.all_busy && found.full => self.until_cancelled(busy()),
            _ => Needs::default(),
        }
    }
}

impl<E> Shared<E> {
    /// Needs that a cancel makes an end of. A deadline is such a cancel, and comes by itself.
    fn until_cancelled(&self, who: Vec<u64>) -> Needs {
        if self.token.is_cancelled() || self.token.deadline().is_some() {
            return Needs::default();
        }
        let name = &self.name;
        let or = format!("a cancel of pool \"{name}\", a shutdown that abandons, or more workers");
        Needs {
            who: Who::AnyOf(who),
            or: Some(or),
        }
    }
}

/// The pools that are alive, oldest first. A look, not a lock: they go on meanwhile.
///
/// A pool is here until its drop has joined its workers.
///
/// # Performance
///
/// One lock for the list, and one for each pool. A pool that is built or dropped takes the list's
/// lock once.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, Pool, Shutdown, pool};
///
/// let jobs = Pool::builder().name("jobs").workers(0).queue(8).build(&CancelToken::new()).unwrap();
/// let _job = jobs.submit(|_| Ok(())).unwrap();
/// let find = || pool::live().into_iter().find(|found| found.name == "jobs");
/// let found = find().unwrap();
/// assert_eq!((found.workers, found.queued, found.bound, found.open), (0, 1, 8, true));
/// jobs.shutdown(Shutdown::Abandon);
/// let found = find().unwrap();
/// assert_eq!((found.queued, found.abandoned, found.open), (0, 1, false));
/// drop(jobs);
/// assert!(find().is_none());
/// ```
#[must_use]
pub fn live() -> Vec<PoolInfo> {
    let look = |(id, pool): (u64, Arc<dyn Look>)| {
        let info = pool.look(id);
        // Its owner may have gone meanwhile, and left closures of the user's to us.
        drop_contained(pool);
        info
    };
    POOLS.live().into_iter().map(look).collect()
}
