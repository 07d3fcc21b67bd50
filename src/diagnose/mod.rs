//! Floor 6: seeing what every thread of the process does.
//!
//! [`ThreadDump::capture`] lists all threads of the process, not only those of the library: name,
//! state, system call, for how long blocked, and the stack with function, file and line. For threads
//! of the library also the line that spawned them and what they wait on.
//!
//! New, and not final: names and formats may change before 1.0.
//!
//! # What is promised
//!
//! * No thread is stopped, signalled or delayed, unless [that is asked for](DumpBuilder::signal). The
//!   stack of a thread that sleeps is copied while it sleeps; the kernel's counters prove that it did all
//!   the while, or the copy is thrown away.
//! * With a [signal](StackSignal), threads that run have stacks too. Only they get it, and others that a
//!   look from outside brings no stack of. [`Stack::taken_by`] says of each stack how it was taken.
//! * A stack that [is complete](Stack::is_complete) is right: it was followed up to the first
//!   function of its thread. One that was not is flagged, with the [reason](StackProblem).
//! * A dump never fails. Where the system denies something, a thread ends midway, or a library has
//!   no tables, what is left is there, and what is missing is said.
//! * No unwinding, no allocation and no lock in a signal handler. There is one only after
//!   [`StackSignal::install`], and it copies registers and stack, if somebody still waits for that.
//!
//! # What is not
//!
//! * Without a signal, a thread that runs has no stack in a dump: it is listed as running. So is one
//!   whose processor has been taken away for the moment.
//! * A dump is not one instant: threads are looked at one after the other, some 50 µs each.
//! * Stacks are for Linux on x86-64, with glibc's unwind tables. Elsewhere on Linux there are names,
//!   states and system calls, on other systems the threads of the library.
//! * A stack that goes through code without unwind tables (hand-written assembly, a just-in-time
//!   compiler, another stack such as a coroutine's) ends there, flagged.
//! * The token that a thread works under is shown by numbers, as tokens have no names; and not the
//!   one that a task of a pool has for itself, but its pool's.
//!
//! # Symbols
//!
//! Lines and inlined functions come from debug information, of which `debug = "line-tables-only"` in
//! the profile is enough. Without it there are the names of the symbol table, and in a stripped file
//! the file and the offset in it. Debug information is read at the first dump that needs it, and kept.
//! Separate `.debug` files are looked for in `/usr/lib/debug`; split ones (`.dwo`, `.dwp`) are not
//! read.
//!
//! # JSON
//!
//! [`ThreadDump::to_json`] gives `{pid, threads, problems, deadlocks}`. A thread is `{tid, name, current, state,
//! system_call, age_seconds, blocked_seconds_at_least, library, stack}`; `library` is `{id,
//! spawned_at, token: {ids, cut, cancelled}, waiting: {on, at, seconds}}`; `stack` is `{complete, problem,
//! omitted, omitted_after, frames, taken_by}`, the last of them `look`, `signal` or `own`; a frame is
//! `{function, file, line, column, inlined, module, address, offset}`. A
//! [deadlock](crate::threads::Deadlock) is `{certain, ended_by, threads, held_up}`, each of the threads
//! in it `{name, tid, library, any, waits_for}` with the `id`s of those that it waits for. What is not
//! known is `null`.
//!
//! # Performance
//!
//! A thousand sleeping threads take some 30 ms of processor time, the first time 0.1 s more to read debug information,
//! which is kept (some tens of MB for a large program). Bench: `dump`.
//!
//! # Examples
//!
//! ```
//! use cleanbreak::{CancelToken, diagnose::ThreadDump, scope, threads};
//!
//! scope(&CancelToken::new(), |group| {
//!     group.spawn_named("reader", |token| {
//!         token.wait();
//!         Ok(())
//!     })?;
//!     # while !threads::live().iter().any(|t| t.name == "reader" && t.waiting.is_some()) {
//!     #     std::thread::yield_now();
//!     # }
//!     let dump = ThreadDump::capture();
//!     let reader = dump.threads().iter().find(|thread| thread.name == "reader").unwrap();
//!     let library = reader.library.as_ref().unwrap();
//!     assert_eq!(library.waiting.unwrap().on, "be cancelled");
//!     assert!(library.spawned_at.file().ends_with(".rs"));
//!     println!("{dump}");                 // one block for each thread
//!     println!("{}", dump.grouped());     // identical stacks together
//!     group.token().cancel();
//!     Ok(())
//! })
//! .unwrap();
//! ```

#[cfg_attr(
    any(not(target_os = "linux"), cleanbreak_portable),
    path = "capture_elsewhere.rs"
)]
mod capture;
mod dump;
mod json;
mod pprof;
#[cfg(any(test, fuzzing))]
pub(crate) mod random;
#[cfg(all(target_os = "linux", not(cleanbreak_portable)))]
mod sample;
mod signal;
#[cfg(all(
    target_os = "linux",
    target_arch = "x86_64",
    target_pointer_width = "64",
    not(cleanbreak_portable)
))]
mod signalled;
mod stack;
#[cfg_attr(
    not(all(
        target_os = "linux",
        target_arch = "x86_64",
        target_pointer_width = "64",
        not(cleanbreak_portable)
    )),
    path = "no_stacks.rs"
)]
mod stacks;
mod syscalls;
#[cfg(all(target_os = "linux", not(cleanbreak_portable)))]
mod task;
mod text;
mod thread;

#[cfg(all(feature = "debug-http", unix))]
pub(crate) use json::{Maybe, Seconds, Text, list};

pub use dump::{DumpBuilder, Grouped, ThreadDump, ThreadGroup};
pub use signal::{StackSignal, StackSignalError};
pub use stack::{Frame, Stack, StackProblem, TakenBy};
pub use thread::{DumpedThread, OsState, SystemCall};

/// From now on, reports of who does not end show stacks too: a group's stragglers
/// ([`Straggler::stack`](crate::group::Straggler::stack)), a pool's stuck tasks
/// ([`Stuck::stack`](crate::pool::Stuck::stack)), a supervisor's stuck children
/// ([`ChildInfo::stack`](crate::supervise::ChildInfo::stack)), and leaked threads
/// ([`LeakedThreads`](crate::leak::LeakedThreads)). Call it once, in `main` or a test.
///
/// # Performance
///
/// Nothing until there is a report; then some 0.1 s to read debug information the first time, and less
/// than a millisecond for each thread in it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::leak::leak_check;
/// use cleanbreak::{CancelToken, Pool, diagnose};
///
/// diagnose::stacks_in_reports();
/// let leaks = leak_check();
/// let pool = Pool::builder().name("forgotten").workers(1).build(&CancelToken::new()).unwrap();
/// # while cleanbreak::threads::live().iter().all(|t| t.waiting.is_none()) { std::thread::yield_now() }
/// let leaked = leaks.patience(Duration::ZERO).finish().unwrap_err();
/// # if cfg!(all(target_os = "linux", target_arch = "x86_64", not(cleanbreak_portable))) {
/// assert!(leaked.to_string().contains("await_work")); // the function that it is blocked in
/// # }
/// ```
pub fn stacks_in_reports() {
    crate::threads::provide_stacks(|tid| {
        let dump = ThreadDump::builder()
            .only([tid])
            .max_frames(FRAMES)
            .capture();
        let thread = dump.threads().first()?;
        Some(thread.stack.to_string())
    });
}

/// Of a stack in a report.
const FRAMES: usize = 40;
