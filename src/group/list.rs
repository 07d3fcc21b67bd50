//! Groups that are alive, for people to look at, and what a wait on one needs to end.

use std::fmt;
use std::panic::Location;

use super::queue::{Look, Queue};
use crate::cancel::CancelToken;
use crate::contain::drop_contained;
use crate::roll::{Listed, Roll};
use crate::sync::Arc;
use crate::threads::{Awaited, Awaits, Needs, Part, Place, Record, Task, Who};

static GROUPS: Roll<Shown> = Roll::new();

/// What can be seen of a group, whatever its tasks fail with.
pub(super) struct Shown {
    pub(super) name: Arc<str>,
    site: &'static Location<'static>,
    pub(super) token: CancelToken,
    pub(super) queue: Arc<Queue>,
    /// Among the things that threads wait for.
    place: Place,
}

impl Shown {
    pub(super) fn new(
        name: Arc<str>,
        site: &'static Location<'static>,
        token: CancelToken,
        queue: Arc<Queue>,
    ) -> (Arc<Self>, Listed<Self>) {
        let shown = Arc::new(Self {
            name,
            site,
            token,
            queue,
            place: Place::default(),
        });
        let listed = GROUPS.enlist(Arc::downgrade(&shown));
        (shown, listed)
    }

    /// The wait for a part of this group.
    pub(super) fn wait_for(self: &Arc<Self>, part: Part) -> Awaits {
        self.place.of(self, part)
    }

    /// Needs that a cancel makes an end of. A deadline is such a cancel, and comes by itself.
    fn until_cancelled(&self, who: Vec<Arc<Record>>) -> Needs {
        if self.token.is_cancelled() || self.token.deadline().is_some() {
            return Needs::default();
        }
        Needs {
            who: Who::AnyOf(ids(&who)),
            or: Some(format!("a cancel of group \"{}\"", self.name)),
        }
    }

    fn info(&self, id: u64) -> GroupInfo {
        let found = self.queue.look(0);
        let tasks: Vec<_> = found.threads.iter().filter_map(|it| it.task()).collect();
        GroupInfo {
            id,
            name: self.name.to_string(),
            started_at: self.site,
            limit: found.limit,
            threads: found.threads.len(),
            running: tasks.iter().map(RunningTask::from).collect(),
            queued: found.queued,
            waiting_spawns: found.spawns,
            cancelled: self.token.is_cancelled(),
        }
    }
}

fn ids(records: &[Arc<Record>]) -> Vec<u64> {
    records.iter().map(|record| record.id()).collect()
}

impl Awaited for Shown {
    fn needs(&self, part: Part) -> Needs {
        let key = match part {
            Part::Task(key) => key,
            _ => 0,
        };
        let Look {
            threads,
            has_key,
            all_busy,
            full,
            ..
        } = self.queue.look(key);
        match part {
            // Whoever is in a stuck wait is in a task: the idle do not say that they wait.
            Part::All => Needs {
                who: Who::All(ids(&threads)),
                or: None,
            },
            Part::Task(key) if !has_key => Needs {
                who: Who::RunnerOf(key),
                or: None,
            },
            Part::Task(_) if all_busy => self.until_cancelled(threads),
            Part::Place if all_busy && full => self.until_cancelled(threads),
            _ => Needs::default(),
        }
    }
}

/// A group that is alive, as [`live()`] found it. The numbers are of one moment.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, GroupBuilder, group};
///
/// let named = GroupBuilder::new().name("shown");
/// named.scope(&CancelToken::new(), |tasks| {
///     let spawn_line = line!() + 1;
///     tasks.spawn_named("first", |token| { token.wait(); Ok(()) })?;
///     let find = || group::live().into_iter().find(|it| it.name == "shown").unwrap();
///     # while find().running.is_empty() { std::thread::yield_now(); }
///     let found = find();
///     assert_eq!((found.threads, found.running.len(), found.limit), (1, 1, None));
///     assert_eq!(found.started_at.line(), spawn_line - 2);
///     assert!(found.to_string().ends_with(", 1 running"));
///     tasks.token().cancel();
///     Ok(())
/// })
/// .unwrap();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GroupInfo {
    /// Number of the group in this process, never used twice.
    pub id: u64,
    /// The group's name.
    pub name: String,
    /// The source line that runs the scope.
    pub started_at: &'static Location<'static>,
    /// How many threads it may have; `None` without a limit.
    pub limit: Option<usize>,
    /// How many it has, busy or idle.
    pub threads: usize,
    /// Tasks that run.
    pub running: Vec<RunningTask>,
    /// Tasks that wait for a thread.
    pub queued: usize,
    /// Spawns that wait for a place.
    pub waiting_spawns: usize,
    /// Whether it has been cancelled.
    pub cancelled: bool,
}

/// A task that runs in a group.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, GroupBuilder, group};
///
/// let named = GroupBuilder::new().name("shown too");
/// named.scope(&CancelToken::new(), |tasks| {
///     let spawn_line = line!() + 1;
///     tasks.spawn_named("first", |token| { token.wait(); Ok(()) })?;
///     let find = || group::live().into_iter().find(|it| it.name == "shown too").unwrap();
///     # while find().running.is_empty() { std::thread::yield_now(); }
///     let task = &find().running[0];
///     assert_eq!((&*task.name, task.spawned_at.line()), ("first", spawn_line));
///     tasks.token().cancel();
///     Ok(())
/// })
/// .unwrap();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct RunningTask {
    /// Its name, or its group's.
    pub name: String,
    /// The line that spawned it.
    pub spawned_at: &'static Location<'static>,
}

impl From<&Task> for RunningTask {
    fn from(task: &Task) -> Self {
        Self {
            name: task.name.to_string(),
            spawned_at: task.site,
        }
    }
}

impl fmt::Display for GroupInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name, started_at, ..
        } = self;
        let told = if self.cancelled { ", cancelled" } else { "" };
        write!(f, "group \"{name}\" at {started_at}{told}, ")?;
        write!(f, "{} running", self.running.len())?;
        if let Some(limit) = self.limit {
            write!(f, " of {limit} at most, {} queued", self.queued)?;
        }
        match self.waiting_spawns {
            0 => Ok(()),
            waiting => write!(f, ", {waiting} spawns wait"),
        }
    }
}

/// The groups that are alive, oldest first. A look, not a lock: they go on meanwhile.
///
/// A group is here from before its body runs until its threads have been joined.
///
/// # Performance
///
/// One lock for the list, one for each group, and one for each of its threads. A group takes the
/// list's lock when it begins and when it ends, some 0.1 µs together.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, GroupBuilder, group};
///
/// let find = || group::live().into_iter().find(|found| found.name == "fetch");
/// let fetch = GroupBuilder::new().name("fetch").limit(1);
/// fetch.scope(&CancelToken::new(), |tasks| {
///     tasks.spawn_named("first", |token| { token.wait(); Ok(()) })?;
///     tasks.spawn(|_| Ok(()))?; // waits for the one thread
///     # while find().unwrap().running.is_empty() { std::thread::yield_now(); }
///     let found = find().unwrap();
///     assert_eq!((found.limit, found.threads, found.queued), (Some(1), 1, 1));
///     assert_eq!(found.running[0].name, "first");
///     tasks.token().cancel();
///     assert!(find().unwrap().cancelled);
///     Ok(())
/// })
/// .unwrap();
/// assert!(find().is_none());
/// ```
#[must_use]
pub fn live() -> Vec<GroupInfo> {
    let look = |(id, shown): (u64, Arc<Shown>)| {
        let info = shown.info(id);
        // It may have ended meanwhile, and left hooks on its token to us.
        drop_contained(shown);
        info
    };
    GROUPS.live().into_iter().map(look).collect()
}
