//! One thread, as a dump shows it.

use std::fmt;
use std::time::Duration;

use super::stack::Stack;
use super::syscalls;
use crate::threads::ThreadInfo;

/// A thread of the process, as a dump found it.
///
/// What is not known is `None`: where the kernel does not show it, or for a thread of the library
/// that the kernel does not list.
///
/// # Examples
///
/// ```
/// # if !cfg!(all(target_os = "linux", target_arch = "x86_64", not(cleanbreak_portable))) { return }
/// use cleanbreak::diagnose::{OsState, ThreadDump};
/// use cleanbreak::{CancelToken, Pool};
///
/// let pool = Pool::builder().name("idle").workers(1).build(&CancelToken::new()).unwrap();
/// # let list = || ThreadDump::builder().stacks(false).capture();
/// # let blocked = |t: &&cleanbreak::diagnose::DumpedThread| {
/// #     let waits = t.library.as_ref().is_some_and(|info| info.waiting.is_some());
/// #     t.name == "idle" && waits && t.system_call.is_some()
/// # };
/// # while list().threads().iter().filter(blocked).count() != 1 { std::thread::yield_now() }
/// let dump = ThreadDump::builder().stacks(false).capture();
/// let worker = dump.threads().iter().find(|thread| thread.name == "idle").unwrap();
/// assert_eq!((worker.state, worker.is_current), (Some(OsState::Sleeping), false));
/// assert!(worker.tid.is_some() && worker.blocked.is_some());
/// assert_eq!(worker.library.as_ref().unwrap().spawned_at.file(), file!());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct DumpedThread {
    /// The kernel's number of the thread; may be used again after its end.
    pub tid: Option<u32>,
    /// For a thread of the library its name, or that of the task that it runs; else the kernel's,
    /// which is cut after 15 bytes.
    pub name: String,
    /// Whether it is the thread that took the dump.
    pub is_current: bool,
    /// What the kernel says that it does.
    pub state: Option<OsState>,
    /// The system call that it is blocked in.
    pub system_call: Option<SystemCall>,
    /// Since it began, in the kernel's ticks of 10 ms.
    pub age: Option<Duration>,
    /// For at least how long it has been blocked: since its wait of the library began, or since
    /// the first dump between which and this one it never ran, whichever is longer. A thread that
    /// the library did not start has none in the first dump that sees it blocked.
    pub blocked: Option<Duration>,
    /// What the library knows of it, if the library started it: number, spawn site, and what it
    /// waits on.
    pub library: Option<ThreadInfo>,
    /// The calls that it is in.
    pub stack: Stack,
}

/// What the kernel says that a thread does.
///
/// # Examples
///
/// ```
/// # if !cfg!(all(target_os = "linux", target_arch = "x86_64", not(cleanbreak_portable))) { return }
/// use cleanbreak::diagnose::{OsState, ThreadDump};
///
/// let dump = ThreadDump::builder().stacks(false).capture();
/// let state = dump.current().unwrap().state.unwrap();
/// assert_eq!(state, OsState::Running); // who looks, runs
/// assert_eq!(state.to_string(), "running");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum OsState {
    /// Runs, or would if it had a processor.
    Running,
    /// Waits for something, until that or a signal comes.
    Sleeping,
    /// Waits for something that signals do not interrupt, most often a disk.
    DiskSleep,
    /// Was told to stop, by a signal or a debugger.
    Stopped,
    /// Is at its end, or past it.
    Dead,
    /// Another letter of the kernel's.
    Other(char),
}

impl OsState {
    #[cfg_attr(
        any(not(target_os = "linux"), cleanbreak_portable),
        allow(dead_code, reason = "no such list there")
    )]
    pub(super) fn from_letter(letter: char) -> Self {
        match letter {
            'R' => Self::Running,
            'S' | 'I' => Self::Sleeping,
            'D' => Self::DiskSleep,
            'T' | 't' => Self::Stopped,
            'Z' | 'X' | 'x' => Self::Dead,
            other => Self::Other(other),
        }
    }
}

impl fmt::Display for OsState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Running => f.write_str("running"),
            Self::Sleeping => f.write_str("sleeping"),
            Self::DiskSleep => f.write_str("disk sleep"),
            Self::Stopped => f.write_str("stopped"),
            Self::Dead => f.write_str("dead"),
            Self::Other(letter) => write!(f, "state {letter}"),
        }
    }
}

/// A call of the kernel's.
///
/// # Examples
///
/// ```
/// # if !cfg!(all(target_os = "linux", target_arch = "x86_64", not(cleanbreak_portable))) { return }
/// use cleanbreak::diagnose::ThreadDump;
/// use cleanbreak::{CancelToken, Pool};
///
/// let pool = Pool::builder().name("blocked").workers(1).build(&CancelToken::new()).unwrap();
/// # let list = || ThreadDump::builder().stacks(false).capture();
/// # let blocked = |t: &&cleanbreak::diagnose::DumpedThread| {
/// #     let waits = t.library.as_ref().is_some_and(|info| info.waiting.is_some());
/// #     t.name == "blocked" && waits && t.system_call.is_some()
/// # };
/// # while list().threads().iter().filter(blocked).count() != 1 { std::thread::yield_now() }
/// let dump = ThreadDump::builder().stacks(false).capture();
/// let worker = dump.threads().iter().find(|thread| thread.name == "blocked").unwrap();
/// let call = worker.system_call.unwrap();
/// assert_eq!((call.name(), call.number()), (Some("futex"), 202)); // on x86-64
/// assert_eq!(call.to_string(), "futex");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SystemCall(pub(super) u32);

impl SystemCall {
    /// As the kernel numbers it on this processor.
    #[must_use]
    pub fn number(self) -> u32 {
        self.0
    }

    /// Such as `"futex"`; on x86-64, for calls that were there in Linux 6.1.
    #[must_use]
    pub fn name(self) -> Option<&'static str> {
        syscalls::name(self.0)
    }
}

impl fmt::Display for SystemCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "system call {}", self.0),
        }
    }
}
