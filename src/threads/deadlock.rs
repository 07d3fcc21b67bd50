//! Threads that wait for each other: facts from the registry, put to the [graph](super::graph).
//!
//! # Why nothing is named that moves
//!
//! 1. Every thread's wait has a number. What it waits for is asked between two looks at that number;
//!    a wait that is not the same in both counts as none. So all that is found was so at one moment
//!    between the looks.
//! 2. That a task has not ended, and who runs it, is a fact: such a join ends when its runner goes on,
//!    and not before. The same goes for a place in a queue, of which the queue says under its lock
//!    that there is none.
//! 3. That nobody else has the other end of a channel is a guess from who has used it. For this one
//!    the kernel is asked too: each thread must have slept all the while, so that none of them has
//!    been woken and is only slow to say so; and have waited for a while before.
//!
//! No lock is held while another is taken: the registry's is given back before a thing is asked.

use std::collections::HashMap;
use std::fmt;
use std::time::Duration;

use super::awaited::{Awaited, Needs, User, Who, things};
use super::graph::{self, Knot, Need, Node};
use super::info::ThreadInfo;
use super::registry::{Record, Seen, records};
use crate::contain::drop_contained;
use crate::sync::Arc;

#[cfg(all(feature = "diagnose", target_os = "linux", not(cleanbreak_portable)))]
use super::asleep::Runs;

/// For how long the threads of a suspected deadlock have waited, when nothing else is said.
const PATIENCE: Duration = Duration::from_secs(1);

/// Threads that wait for each other, as [`deadlocks()`] found them: none of them goes on by itself.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, GroupBuilder, Task, threads};
///
/// let one_thread = GroupBuilder::new().name("narrow").limit(1);
/// one_thread.scope(&CancelToken::new(), |group| {
///     let (give, given) = crossbeam_channel::unbounded::<Task<'_, (), anyhow::Error>>();
///     group.spawn_named("first", move |_| {
///         given.recv()?.join().ok(); // waits for the thread that it occupies itself
///         Ok(())
///     })?;
///     give.send(group.spawn(|_| Ok(()))?).ok();
///     let found = loop {
///         let mut found = threads::deadlocks().into_iter();
///         match found.find(|it| it.threads[0].thread.name == "first") {
///             Some(found) => break found,
///             None => std::thread::yield_now(),
///         }
///     };
///     assert!(found.certain && found.held_up.is_empty());
///     assert_eq!(found.ended_by, ["a cancel of group \"narrow\""]);
///     let text = found.to_string();
///     assert!(text.starts_with("deadlock: a thread waits for itself; only a cancel of group"));
///     assert_eq!(text.lines().count(), 2);
///     group.token().cancel();
///     Ok(())
/// })
/// .unwrap();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Deadlock {
    /// `true`: it is one, as far as these threads go. `false`: it is one if no others use the
    /// channels in it than those that have so far.
    pub certain: bool,
    /// The circle: each waits for the next one, and the last for the first. Alone, it waits for
    /// itself.
    pub threads: Vec<StuckThread>,
    /// Others that can not go on because these do not.
    pub held_up: Vec<StuckThread>,
    /// What would end it, from outside, such as a cancel of a pool; empty if nothing would.
    pub ended_by: Vec<String>,
}

/// A thread in a [`Deadlock`].
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, GroupBuilder, Task, threads};
///
/// let one_thread = GroupBuilder::new().name("narrow").limit(1);
/// one_thread.scope(&CancelToken::new(), |group| {
///     let (give, given) = crossbeam_channel::unbounded::<Task<'_, (), anyhow::Error>>();
///     group.spawn_named("first", move |_| {
///         given.recv()?.join().ok(); // waits for the thread that it occupies itself
///         Ok(())
///     })?;
///     give.send(group.spawn(|_| Ok(()))?).ok();
///     let found = loop {
///         let mut found = threads::deadlocks().into_iter();
///         match found.find(|it| it.threads[0].thread.name == "first") {
///             Some(found) => break found,
///             None => std::thread::yield_now(),
///         }
///     };
///     let first = &found.threads[0];
///     assert_eq!(first.on, [first.thread.id]);
///     assert!(!first.any); // there is only one
///     let line = format!("to join a task at {}, for thread {}",
///         first.thread.waiting.unwrap().at, first.thread.id);
///     assert!(first.to_string().ends_with(&line), "{first}");
///     group.token().cancel();
///     Ok(())
/// })
/// .unwrap();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct StuckThread {
    /// The thread, with what it waits on.
    pub thread: ThreadInfo,
    /// The numbers of the threads that it waits for.
    pub on: Vec<u64>,
    /// Whether one of those would do.
    pub any: bool,
}

/// Threads of the library that wait for each other, and will for ever if nothing from outside
/// interferes: what is *certain* at once, what is *suspected* after a second.
///
/// Certain: circles of tasks that join each other or themselves ([`Task::join`](crate::Task::join),
/// [`Job::join`](crate::Job::join), the end of a scope, the shutdown of a pool), and of tasks that wait
/// for a place or for a task in the queue of a group or pool whose threads all wait for them.
///
/// Suspected, with the feature `diagnose` on Linux: circles in which somebody waits in
/// [`send`](crate::SafeSender::send) or [`recv`](crate::SafeReceiver::recv) for another end, each
/// handle of which has been used by threads of the circle alone. A handle that was never used, was
/// used by a thread that the library does not know or that has ended, or by more than four, is taken
/// for one that may be used yet; so is one whose user has since started a thread that goes on.
///
/// # Not guaranteed
///
/// * What a thread waits for out of the library's sight (a `select!`, a mutex, a system call) is
///   taken for something that will come: deadlocks through it are not found. Nor are those through
///   permits, hooks and supervisors.
/// * A wait that has a deadline, or whose token has one, is never part of one; one that a token
///   ends is, with that in [`ended_by`](Deadlock::ended_by).
/// * A *suspected* deadlock is none if a handle was used, then given to another thread (in a message,
///   say), and that has not used it yet.
/// * What the callback of a straggler report does counts as the outside.
///
/// # Performance
///
/// Linear in the number of threads, with a lock for each group and pool that is waited for: 0.6 µs for
/// ten threads that wait, 5 µs for a hundred (bench `threads`). Only where channels are suspected, two
/// looks into `/proc` more for each thread in it.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, Pool, Shutdown, threads};
///
/// let pool = Pool::builder().name("full").workers(1).build(&CancelToken::new()).unwrap();
/// std::thread::scope(|s| {
///     s.spawn(|| {
///         let pool = &pool;
///         let inner = crossbeam_channel::bounded(1);
///         let outer = pool.submit({
///             let inner = inner.1.clone();
///             move |_| {
///                 let inner: cleanbreak::Job<()> = inner.recv()?;
///                 Ok(inner.join().is_err()) // waits for the worker that it occupies itself
///             }
///         });
///         inner.0.send(pool.submit(|_| Ok(())).unwrap()).unwrap();
///         assert!(outer.unwrap().join().unwrap());
///     });
///     let found = loop {
///         match threads::deadlocks().pop() {
///             Some(found) => break found,
///             None => std::thread::yield_now(),
///         }
///     };
///     assert!(found.certain);
///     assert_eq!(found.threads[0].thread.name, "full");
///     assert!(found.ended_by[0].contains("cancel of pool \"full\""));
///     pool.token().cancel(); // and so it ends
/// });
/// assert!(threads::deadlocks().is_empty());
/// # pool.shutdown(Shutdown::Drain);
/// ```
#[must_use]
pub fn deadlocks() -> Vec<Deadlock> {
    deadlocks_after(PATIENCE)
}

/// As [`deadlocks()`], with the suspected ones as soon as all that are in it have waited for
/// `patience`.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::threads;
///
/// assert!(threads::deadlocks_after(Duration::ZERO).is_empty());
/// ```
#[must_use]
pub fn deadlocks_after(patience: Duration) -> Vec<Deadlock> {
    let look = Look::take();
    if graph::knots(&look.nodes).is_empty() {
        return Vec::new(); // nearly always
    }
    let sleepers = Sleepers::among(&look);
    let mut look = Look::take();
    look.open(|thread| !sleepers.contain(thread) || thread.has_waited_less_than(patience));
    look.open_what_moved();
    let knots = graph::knots(&look.nodes);
    knots.iter().map(|knot| look.name(knot)).collect()
}

/// The deadlocks there are, for reports about some threads.
pub(crate) struct Deadlocks(Vec<Deadlock>);

impl Deadlocks {
    pub(crate) fn look() -> Self {
        Self(deadlocks())
    }

    /// The one that a thread is in, or held up by.
    pub(crate) fn of(&self, record: &Record) -> Option<Deadlock> {
        let has = |deadlock: &&Deadlock| {
            let mut all = deadlock.threads.iter().chain(&deadlock.held_up);
            all.any(|stuck| stuck.thread.id == record.id())
        };
        self.0.iter().find(has).cloned()
    }
}

/// What a report writes behind a thread: the deadlock, if it is in one, on lines of its own.
pub(crate) struct DeadlockText<'a>(pub(crate) Option<&'a Deadlock>);

impl fmt::Display for DeadlockText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(deadlock) = self.0 else {
            return Ok(());
        };
        let text = deadlock.to_string();
        text.lines().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

/// All threads, and what each needs to go on.
struct Look {
    threads: Vec<Thread>,
    /// By the places of threads.
    nodes: Vec<Node>,
}

struct Thread {
    record: Arc<Record>,
    seen: Seen,
    or: Option<String>,
}

impl Thread {
    fn has_waited_less_than(&self, patience: Duration) -> bool {
        let wait = self.record.waiting();
        wait.is_none_or(|wait| wait.since.elapsed() < patience)
    }
}

impl Look {
    fn take() -> Self {
        let threads: Vec<_> = records()
            .into_iter()
            .map(|record| Thread {
                seen: record.seen(),
                record,
                or: None,
            })
            .collect();
        let nodes = Vec::with_capacity(threads.len());
        let mut look = Self { threads, nodes };
        let index = Index::of(&look.threads);
        let things: HashMap<u64, Arc<dyn Awaited>> = match look.waits_for_something() {
            true => things().into_iter().collect(),
            false => HashMap::new(),
        };
        for at in 0..look.threads.len() {
            let needs = needs(&look.threads[at].seen, &things);
            let (need, guess) = index.places(needs.who, &look.threads);
            look.nodes.push(Node {
                need,
                guess,
                outside: needs.or.is_some(),
            });
            look.threads[at].or = needs.or;
        }
        // The last reference to one may be ours, with values of the user's in it.
        things.into_values().for_each(drop_contained);
        look
    }

    fn waits_for_something(&self) -> bool {
        let mut waits = self.threads.iter().filter_map(|thread| thread.seen.wait);
        waits.any(|(_, wait)| wait.awaits.is_something())
    }

    /// Of the guesses, drops those of threads of which `wrong` says so.
    fn open(&mut self, wrong: impl Fn(&Thread) -> bool) {
        for (thread, node) in self.threads.iter().zip(&mut self.nodes) {
            if node.guess && wrong(thread) {
                node.need = Need::Open;
            }
        }
    }

    fn open_what_moved(&mut self) {
        for (thread, node) in self.threads.iter().zip(&mut self.nodes) {
            if !thread.seen.is_still(&thread.record.seen()) {
                node.need = Need::Open;
            }
        }
    }

    fn name(&self, knot: &Knot) -> Deadlock {
        let stuck = |&at: &usize| {
            let (any, of) = match &self.nodes[at].need {
                Need::Open => (false, &[][..]),
                Need::All(of) => (false, &of[..]),
                Need::Any(of) => (of.len() > 1, &of[..]),
            };
            StuckThread {
                thread: self.threads[at].record.info(),
                on: of.iter().map(|&at| self.threads[at].record.id()).collect(),
                any,
            }
        };
        let ways_out = knot.circle.iter();
        let mut ended_by: Vec<_> = ways_out
            .filter_map(|&at| self.threads[at].or.clone())
            .collect();
        ended_by.sort();
        ended_by.dedup();
        Deadlock {
            certain: knot.certain,
            threads: knot.circle.iter().map(stuck).collect(),
            held_up: knot.behind.iter().map(stuck).collect(),
            ended_by,
        }
    }
}

/// What a thread needs, by the thing that it waits for.
fn needs(seen: &Seen, things: &HashMap<u64, Arc<dyn Awaited>>) -> Needs {
    let Some((_, wait)) = seen.wait else {
        return Needs::default();
    };
    let Some(thing) = things.get(&wait.awaits.thing) else {
        return Needs::default();
    };
    let mut needs = thing.needs(wait.awaits.part());
    if wait.awaits.is_cancellable() && needs.or.is_none() {
        needs.or = Some("a cancel of the token that it waits with".to_owned());
    }
    needs
}

/// Where threads are in a look.
struct Index {
    by_id: HashMap<u64, usize>,
    by_task: HashMap<u64, usize>,
}

impl Index {
    fn of(threads: &[Thread]) -> Self {
        let places = || threads.iter().enumerate();
        let runs = places().filter(|(_, thread)| thread.seen.runs != 0);
        Self {
            by_id: places()
                .map(|(at, thread)| (thread.record.id(), at))
                .collect(),
            by_task: runs.map(|(at, thread)| (thread.seen.runs, at)).collect(),
        }
    }

    /// Open where one of them is not among the threads: it has ended meanwhile, or is new.
    fn places(&self, who: Who, threads: &[Thread]) -> (Need, bool) {
        let all = |ids: &[u64]| -> Option<Vec<usize>> {
            let places = ids.iter().map(|id| self.by_id.get(id).copied());
            places.collect()
        };
        let need = match &who {
            Who::Anybody => None,
            Who::RunnerOf(key) => {
                let runner = self.by_task.get(&(*key as u64));
                runner.map(|&runner| Need::All(vec![runner]))
            }
            Who::All(ids) => all(ids).map(Need::All),
            Who::AnyOf(ids) => all(ids).map(Need::Any),
            Who::AnyUser(users) => all(&with_heirs(users, threads)).map(Need::Any),
        };
        let need = need.filter(|need| *need != Need::Any(Vec::new()));
        (need.unwrap_or(Need::Open), matches!(who, Who::AnyUser(_)))
    }
}

/// The users of a channel's end, and the threads that those have started since: a handle may have
/// been moved into them. In the order of their numbers, so that an heir's heirs are found too.
fn with_heirs(users: &[User], threads: &[Thread]) -> Vec<u64> {
    let mut since: HashMap<u64, u64> = HashMap::new();
    for user in users {
        let before = since.entry(user.thread).or_insert(user.before);
        *before = user.before.min(*before);
    }
    for thread in threads {
        let (id, parent) = (thread.record.id(), thread.record.parent());
        if let Some(&before) = since.get(&parent)
            && id >= before
        {
            since.entry(id).or_insert(before);
        }
    }
    since.into_keys().collect()
}

/// Threads that wait by a guess and sleep, by what the kernel counted.
#[cfg(all(feature = "diagnose", target_os = "linux", not(cleanbreak_portable)))]
struct Sleepers(HashMap<u64, Runs>);

#[cfg(all(feature = "diagnose", target_os = "linux", not(cleanbreak_portable)))]
impl Sleepers {
    /// Those that a knot has in it.
    fn among(look: &Look) -> Self {
        let knots = graph::knots(&look.nodes);
        let places = knots
            .iter()
            .flat_map(|knot| knot.circle.iter().chain(&knot.behind));
        let guesses = places.filter(|&&at| look.nodes[at].guess);
        let runs = guesses.filter_map(|&at| {
            let record = &look.threads[at].record;
            Some((record.id(), Runs::of(record.tid()?)?))
        });
        Self(runs.collect())
    }

    /// Whether it has slept since, and does.
    fn contain(&self, thread: &Thread) -> bool {
        let runs = self.0.get(&thread.record.id());
        let tid = thread.record.tid();
        runs.zip(tid)
            .is_some_and(|(runs, tid)| runs.has_slept_since(tid))
    }
}

/// Where the kernel is not asked, nobody records who uses a channel either.
#[cfg(not(all(feature = "diagnose", target_os = "linux", not(cleanbreak_portable))))]
struct Sleepers;

#[cfg(not(all(feature = "diagnose", target_os = "linux", not(cleanbreak_portable))))]
impl Sleepers {
    fn among(_: &Look) -> Self {
        Self
    }

    fn contain(&self, _: &Thread) -> bool {
        false
    }
}

impl fmt::Display for Deadlock {
    /// A line that says what it is, one for each thread, and one for each that is held up.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let what = match self.certain {
            true => "deadlock",
            false => "suspected deadlock, by who has used the channels so far",
        };
        match self.threads.len() {
            1 => write!(f, "{what}: a thread waits for itself")?,
            count => write!(f, "{what}: {count} threads wait for each other")?,
        }
        if !self.ended_by.is_empty() {
            write!(f, "; only {} ends it", self.ended_by.join(", or "))?;
        }
        for stuck in &self.threads {
            write!(f, "\n  {stuck}")?;
        }
        for stuck in &self.held_up {
            write!(f, "\n  held up: {stuck}")?;
        }
        Ok(())
    }
}

impl fmt::Display for StuckThread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ThreadInfo {
            id,
            name,
            spawned_at,
            waiting,
            ..
        } = &self.thread;
        write!(f, "thread {id} {name:?}, spawned at {spawned_at}")?;
        if let Some(waiting) = waiting {
            write!(f, ", {waiting}")?;
        }
        f.write_str(if self.any {
            ", for any of thread"
        } else {
            ", for thread"
        })?;
        for (at, id) in self.on.iter().enumerate() {
            write!(f, "{} {id}", if at > 0 { "," } else { "" })?;
        }
        Ok(())
    }
}
