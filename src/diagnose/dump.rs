//! The dump, and what it can be asked.

use std::collections::BTreeSet;
use std::fmt;
use std::ops::Range;
use std::time::Duration;

use super::capture::{self, Captured};
use super::signal::StackSignal;
use super::stack::StackProblem;
use super::thread::{DumpedThread, OsState, SystemCall};
use super::{json, pprof, stacks, text};
use crate::fault::{self, At};
use crate::sync::Arc;
use crate::threads::{self, Deadlock};

/// All threads of the process at (nearly) one moment. See the [module](super).
///
/// # Examples
///
/// ```
/// # if !cfg!(all(target_os = "linux", target_arch = "x86_64", not(cleanbreak_portable))) { return }
/// use cleanbreak::diagnose::ThreadDump;
/// use cleanbreak::{CancelToken, scope};
///
/// scope(&CancelToken::new(), |group| {
///     for _ in 0..2 { group.spawn_named("reader", |token| Ok(token.wait()))?; }
///     # let list = || ThreadDump::builder().stacks(false).capture();
///     # let blocked = |t: &&cleanbreak::diagnose::DumpedThread| {
///     #     let waits = t.library.as_ref().is_some_and(|info| info.waiting.is_some());
///     #     t.name == "reader" && waits && t.system_call.is_some()
///     # };
///     # while list().threads().iter().filter(blocked).count() != 2 { std::thread::yield_now() }
///     let dump = ThreadDump::capture();
///     let readers = dump.threads().iter().filter(|thread| thread.name == "reader");
///     assert_eq!(readers.count(), 2);
///     assert!(dump.problems().is_empty());
///     assert!(dump.current().unwrap().stack.is_complete());
///
///     // The same stack, so one group; the others are this thread and who else there is.
///     let groups = dump.groups();
///     let readers = groups.iter().find(|group| group.threads[0].name == "reader").unwrap();
///     assert_eq!(readers.threads.len(), 2);
///     assert!(dump.grouped().to_string().contains("\n2 threads [sleeping in futex]:\n"));
///
///     // For programs:
///     assert!(dump.to_json().starts_with("{\"pid\":"));
///     assert_eq!(dump.to_pprof()[..2], [0x1f, 0x8b]); // gzipped
///     group.token().cancel();
///     Ok(())
/// })
/// .unwrap();
/// ```
#[derive(Clone, Debug)]
pub struct ThreadDump {
    pub(super) threads: Vec<DumpedThread>,
    pub(super) problems: Vec<String>,
    pub(super) deadlocks: Vec<Deadlock>,
    pub(super) modules: Vec<Module>,
}

/// Code that is loaded.
#[derive(Clone, Debug)]
pub(super) struct Module {
    pub(super) path: Arc<str>,
    pub(super) text: Range<u64>,
    pub(super) base: u64,
}

impl ThreadDump {
    /// Dumps every thread of the process, with stacks.
    ///
    /// Never fails: what cannot be had is `None` in its thread, or said in
    /// [`problems`](Self::problems). No other thread is stopped or delayed. Two dumps at a time take
    /// turns.
    ///
    /// # Performance
    ///
    /// See the [module](super).
    #[must_use]
    #[inline(never)]
    pub fn capture() -> Self {
        Self::builder().capture()
    }

    /// A dump of some threads only, or without stacks.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::diagnose::ThreadDump;
    ///
    /// let list = ThreadDump::builder().stacks(false).capture(); // cheap: names, states, waits
    /// assert!(list.threads().iter().all(|thread| thread.stack.frames().is_empty()));
    /// ```
    #[must_use]
    pub fn builder() -> DumpBuilder {
        DumpBuilder::default()
    }

    /// The threads, in the order of their kernel's numbers; those of the library that the kernel
    /// does not list (or on systems where it does not) come last.
    #[must_use]
    pub fn threads(&self) -> &[DumpedThread] {
        &self.threads
    }

    /// The thread that took the dump.
    #[must_use]
    pub fn current(&self) -> Option<&DumpedThread> {
        self.threads.iter().find(|thread| thread.is_current)
    }

    /// Threads that wait for each other, as [`threads::deadlocks`](crate::threads::deadlocks()) found
    /// them right after the stacks; none in a dump of [some threads](DumpBuilder::only).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::diagnose::ThreadDump;
    ///
    /// let dump = ThreadDump::capture();
    /// assert!(dump.deadlocks().is_empty(), "{}", dump.deadlocks()[0]);
    /// ```
    #[must_use]
    pub fn deadlocks(&self) -> &[Deadlock] {
        &self.deadlocks
    }

    /// What went wrong with the dump as a whole, in words. What is missing of one thread, its
    /// [`Stack::problem`](super::Stack::problem) says.
    #[must_use]
    pub fn problems(&self) -> &[String] {
        &self.problems
    }

    /// Threads with the same stack, state and system call together: the largest group first, in
    /// each the oldest thread first.
    #[must_use]
    pub fn groups(&self) -> Vec<ThreadGroup<'_>> {
        let mut groups: Vec<ThreadGroup<'_>> = Vec::new();
        let mut by_key = std::collections::HashMap::new();
        for thread in &self.threads {
            let at = *by_key.entry(Key::of(thread)).or_insert_with(|| {
                groups.push(ThreadGroup {
                    threads: Vec::new(),
                });
                groups.len() - 1
            });
            groups[at].threads.push(thread);
        }
        for group in &mut groups {
            let oldest_first = |thread: &&DumpedThread| std::cmp::Reverse(thread.age);
            group.threads.sort_by_key(oldest_first);
        }
        groups.sort_by_key(|group| std::cmp::Reverse(group.threads.len()));
        groups
    }

    /// As text, the threads with identical stacks together and of each group the oldest three by
    /// name: like Go's `goroutine?debug=1`. (`Display` shows each thread: `debug=2`.)
    #[must_use]
    pub fn grouped(&self) -> Grouped<'_> {
        Grouped(self)
    }

    /// As JSON, one object; see the [module](super) for its fields.
    #[must_use]
    pub fn to_json(&self) -> String {
        json::dump(self)
    }

    /// As a profile for `go tool pprof` and its likes: a gzipped
    /// [protocol buffer](https://github.com/google/pprof/blob/main/proto/profile.proto), with the
    /// number of threads for each stack, and labels `thread`, `state` and `spawned_at`. Threads
    /// without a stack count under their state.
    #[must_use]
    pub fn to_pprof(&self) -> Vec<u8> {
        pprof::gzipped(self)
    }
}

impl fmt::Display for ThreadDump {
    /// One block for each thread, like Go's `goroutine?debug=2`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::each(self, f)
    }
}

/// A dump as text, by group. See [`ThreadDump::grouped`].
///
/// # Examples
///
/// ```
/// use cleanbreak::diagnose::ThreadDump;
///
/// let dump = ThreadDump::builder().stacks(false).capture();
/// let text = dump.grouped().to_string();
/// let total = format!("thread profile: total {}\n", dump.threads().len());
/// assert!(text.contains(&total));
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Grouped<'a>(&'a ThreadDump);

impl fmt::Display for Grouped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        text::grouped(self.0, f)
    }
}

/// Threads that do the same. Never empty.
///
/// # Examples
///
/// ```
/// use cleanbreak::diagnose::ThreadDump;
///
/// let dump = ThreadDump::builder().stacks(false).capture();
/// let groups = dump.groups();
/// assert!(groups.iter().all(|group| !group.threads.is_empty()));
/// assert!(groups.iter().map(|group| group.threads.len()).is_sorted_by(|a, b| a >= b));
/// let in_groups: usize = groups.iter().map(|group| group.threads.len()).sum();
/// assert_eq!(in_groups, dump.threads().len()); // each thread is in one
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ThreadGroup<'a> {
    /// The oldest first.
    pub threads: Vec<&'a DumpedThread>,
}

#[derive(PartialEq, Eq, Hash)]
struct Key {
    state: Option<OsState>,
    call: Option<SystemCall>,
    addresses: Arc<[u64]>,
    problem: Option<StackProblem>,
}

impl Key {
    fn of(thread: &DumpedThread) -> Self {
        Self {
            state: thread.state,
            call: thread.system_call,
            addresses: thread.stack.addresses.clone(),
            problem: thread.stack.problem,
        }
    }
}

/// What to dump. See [`ThreadDump::builder`].
///
/// # Examples
///
/// ```
/// # if !cfg!(all(target_os = "linux", target_arch = "x86_64", not(cleanbreak_portable))) { return }
/// use cleanbreak::diagnose::{StackProblem, ThreadDump};
///
/// fn deep(calls: u32, take: &dyn Fn() -> ThreadDump) -> ThreadDump {
///     let dump = if calls > 0 { deep(calls - 1, take) } else { take() };
///     std::hint::black_box(dump)
/// }
/// let dump = ThreadDump::builder().stacks(false).capture(); // a list, for little
/// let here = dump.current().unwrap();
/// assert_eq!(here.stack.problem(), Some(StackProblem::NotAsked));
///
/// // This thread alone, ten frames of it, and no second look at one that runs:
/// let tid = here.tid.unwrap();
/// let only = ThreadDump::builder().only([tid]).max_frames(10).attempts(1);
/// let dump = deep(50, &|| only.capture());
/// let [here] = dump.threads() else { panic!("{dump}") };
/// let (left_out, after) = here.stack.omitted().unwrap();
/// assert!(left_out > 40 && after >= 5); // five from each end; inlined ones are not counted
/// ```
#[derive(Clone, Debug)]
pub struct DumpBuilder {
    pub(super) stacks: bool,
    pub(super) max_frames: usize,
    pub(super) attempts: u32,
    pub(super) only: Option<BTreeSet<u32>>,
    #[cfg_attr(not(target_os = "linux"), allow(dead_code, reason = "there is none"))]
    pub(super) signal: Option<StackSignal>,
    pub(super) patience: Duration,
}

impl Default for DumpBuilder {
    fn default() -> Self {
        Self {
            stacks: true,
            max_frames: 128,
            attempts: 3,
            only: None,
            signal: None,
            patience: Duration::from_secs(3),
        }
    }
}

impl DumpBuilder {
    /// Whether to take stacks. They are most of the cost. Default: yes.
    #[must_use]
    pub fn stacks(mut self, stacks: bool) -> Self {
        self.stacks = stacks;
        self
    }

    /// How many frames to keep of a deep stack, half of them from each end; inlined functions come
    /// with their frame and are not counted. At least 2. Default: 128.
    #[must_use]
    pub fn max_frames(mut self, frames: usize) -> Self {
        self.max_frames = frames.max(2);
        self
    }

    /// How often to look at a thread that runs, before it is listed as running without a stack. At
    /// least once. Default: 3 times, right after each other. With a [signal](Self::signal), how often
    /// to ask such a thread whose answer cannot be used.
    #[must_use]
    pub fn attempts(mut self, attempts: u32) -> Self {
        self.attempts = attempts.max(1);
        self
    }

    /// Dumps only the threads with these numbers of the kernel's (see
    /// [`ThreadInfo::tid`](crate::threads::ThreadInfo::tid)). Those that do not exist are left out.
    #[must_use]
    pub fn only(mut self, tids: impl IntoIterator<Item = u32>) -> Self {
        self.only = Some(tids.into_iter().collect());
        self
    }

    /// Also takes the stacks of threads that run, by a signal: each copies its own stack in a handler.
    /// Off by default. Only those threads get one that a look from outside has not brought a stack
    /// of: that run, that may not be looked at, or whose stack came out incomplete for want of a
    /// register. See [`StackSignal`] for what that does to them.
    #[must_use]
    pub fn signal(mut self, signal: StackSignal) -> Self {
        self.signal = Some(signal);
        self
    }

    /// How long to wait for threads that were sent a [signal](Self::signal), all together: one that
    /// runs takes it when it next gets a processor. One that still has not is flagged; the signal
    /// does nothing when it comes later. Default: 3 s.
    ///
    /// # Examples
    ///
    /// ```
    /// # if cfg!(any(not(target_os = "linux"), not(target_arch = "x86_64"), cleanbreak_portable)) { return }
    /// use std::time::Duration;
    /// use cleanbreak::diagnose::{StackSignal, TakenBy, ThreadDump};
    ///
    /// let signal = StackSignal::install().unwrap();
    /// let dump = ThreadDump::builder().signal(signal).patience(Duration::from_secs(1)).capture();
    /// let own = dump.current().unwrap();
    /// assert_eq!(own.stack.taken_by(), TakenBy::Own); // who takes the dump needs no signal
    /// ```
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Takes the dump. See [`ThreadDump::capture`].
    #[must_use]
    #[inline(never)]
    pub fn capture(&self) -> ThreadDump {
        fault::pass(At::DiagnoseDump);
        let here = stacks::here();
        let captured = capture::capture(self, here);
        // After the call: it must not be one that replaces this function's frame.
        std::hint::black_box(&here);
        let Captured {
            threads: dumped,
            problems,
            modules,
        } = captured;
        let deadlocks = match self.only {
            None => threads::deadlocks(),
            Some(_) => Vec::new(),
        };
        ThreadDump {
            threads: dumped,
            problems,
            deadlocks,
            modules,
        }
    }
}
