//! What is told of a thread, and its stack if somebody provides that.

use std::fmt;
use std::panic::Location;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::scope::TokenPath;
use super::wait::Wait;

/// A thread of the library that is alive, as [`live()`](super::live) found it.
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
/// use cleanbreak::{CancelToken, scope, threads};
///
/// let (waits, ready) = mpsc::channel();
/// let (lock, locked) = mpsc::channel::<()>(); // stands for a lock
/// let spawn_line = line!() + 2;
/// scope(&CancelToken::new(), |group| {
///     group.spawn_named("ledger", move |_| {
///         let _wait = threads::waiting_on("get the ledger's lock");
///         waits.send(())?;
///         Ok(drop(locked.recv()))
///     })?;
///     ready.recv()?;
///     let all = threads::live();
///     let ledger = all.iter().find(|thread| thread.name == "ledger").unwrap();
///     assert_eq!(ledger.spawned_at.line(), spawn_line);
///     let wait = ledger.waiting.unwrap();
///     assert_eq!((wait.on, wait.at.line()), ("get the ledger's lock", spawn_line + 1));
///     assert!(ledger.to_string().contains("s to get the ledger's lock at "));
///     Ok(drop(lock))
/// })
/// .unwrap();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ThreadInfo {
    /// Number of the thread in this process, never used twice.
    pub id: u64,
    /// The kernel's number of the thread, which may be used again after its end; on Linux, with
    /// the feature `diagnose`, and from when the thread runs.
    pub tid: Option<u32>,
    /// Name of the thread, or of the task that a warm thread is running.
    pub name: String,
    /// The source line that asked for the thread (or the task).
    pub spawned_at: &'static Location<'static>,
    /// For how long the thread has been running.
    pub age: Duration,
    /// What it waits on; `None` while it runs.
    pub waiting: Option<WaitInfo>,
    /// The token that it was started with, or that the task has which it runs for a group; `None`
    /// if there was none, or it is gone.
    pub token: Option<TokenPath>,
}

/// What a thread waits on.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, scope, threads};
///
/// scope(&CancelToken::new(), |group| {
///     group.spawn_named("disk", |_| {
///         let own = || threads::live().into_iter().find(|thread| thread.name == "disk").unwrap();
///         assert!(own().waiting.is_none()); // it runs
///         let line = line!() + 1;
///         let _wait = threads::waiting_on("see the disk answer");
///         let wait = own().waiting.unwrap();
///         assert_eq!((wait.on, wait.at.line()), ("see the disk answer", line));
///         assert!(wait.to_string().contains("s to see the disk answer at "));
///         Ok(())
///     })?;
///     Ok(())
/// })
/// .unwrap();
/// ```
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct WaitInfo {
    /// In words, such as `"receive from a channel"`.
    pub on: &'static str,
    /// The source line that waits.
    pub at: &'static Location<'static>,
    /// Since when. With the feature `diagnose` on Linux, up to a tick of the kernel (1 to 10 ms)
    /// too early.
    pub since: Instant,
}

impl fmt::Display for ThreadInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            id,
            tid: _,
            name,
            spawned_at,
            age,
            waiting,
            token: _,
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

impl From<Wait> for WaitInfo {
    fn from(wait: Wait) -> Self {
        Self {
            on: wait.on,
            at: wait.at,
            since: wait.since.to_instant(),
        }
    }
}

/// Who looks at the stack of the thread with a number of the kernel's: a floor far above, so it says
/// so from there.
static STACKS: OnceLock<fn(u32) -> Option<String>> = OnceLock::new();

#[cfg(feature = "diagnose")]
pub(crate) fn provide_stacks(look: fn(u32) -> Option<String>) {
    STACKS.set(look).ok();
}

/// For reports, which call it with no lock held: it takes milliseconds.
pub(crate) fn stack_of(tid: Option<u32>) -> Option<String> {
    STACKS.get()?(tid?)
}

/// What a report writes behind a thread: its stack, if there is one, on lines of its own.
pub(crate) struct StackText<'a>(pub(crate) Option<&'a String>);

impl fmt::Display for StackText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines = self.0.into_iter().flat_map(|stack| stack.lines());
        lines
            .into_iter()
            .try_for_each(|line| write!(f, "\n    {line}"))
    }
}
