//! Floor 6: faults on purpose, seeded, for tests.
//!
//! A test that passes has seen the interleavings that the scheduler chose and a machine on which
//! nothing failed. With the feature `chaos` every part of the library has *points*, at which a
//! `Plan` may let a thread stand still, a closure panic, the operating system refuse a thread, a
//! wait end early, a deadline come late, a clock leap, or a token be cancelled. The faults are
//! those of a bad day and no others: each is something that the library says it bears, so a promise
//! that breaks under them is a bug, in the library or in what is built on it.
//!
//! `Plan::start` begins a scope that ends with its guard. It is for the calling thread and all
//! that is started from it through the library: threads of groups, pools and supervisors, tasks, and
//! the timers that they set. Whoever is outside of it meets no fault, so tests run in parallel.
//!
//! Without the feature there is nothing here but [`point()`] and [`fails()`], which do nothing, so that
//! points of your own need no `cfg`; of the library's own points no code is left. The feature is for
//! tests: put it where your tests ask for it, and not into what you ship.
//!
//! # What is promised
//!
//! * Whether a fault happens is decided by the seed, the plan, the point, the *lineage* of the thread,
//!   and how many times that lineage has passed the point before; by nothing else. The lineage is the
//!   way from the scope's own thread by the numbers of the threads and tasks that were started on the
//!   way. So **a seed replays the same decisions**, whatever the scheduler does: where the same task
//!   comes to the same point for the same time, the same happens. What happened is in the
//!   `Report`, and a plan made of that replays exactly those faults, or some of them.
//! * A fault is injected with no lock of the library held, and never a second one inside the first.
//! * A panic is injected only where a closure of the user's would run, before its first line: its
//!   captured values are dropped, and all is as if it had panicked itself. Never while the
//!   thread panics already. The panic hook is not called.
//! * A late deadline is put off by itself. The timer thread, which all share, goes on.
//! * Nothing is injected after the guard's drop has returned, but by who was in the middle of it.
//!
//! # What is not
//!
//! * The interleaving of threads is not replayed: only the operating system decides that. A lineage that comes to
//!   a point a number of times that depends on the others (such as a loop that waits) meets the same
//!   faults at the same passes, but may make fewer passes or more.
//! * Of a group with a limit, a pool or a cache, which *thread* is started when depends on the
//!   scheduler, and with it the lineages of the threads. The lineages of *tasks* do not: they count
//!   what was accepted, in the order of the thread that submitted them. Tasks that several threads
//!   submit under one lineage are numbered as they come.
//! * A task that comes from outside of the scope to a pool in it runs on a thread of the scope, and meets its
//!   faults.
//! * A jump needs a clock of its own, that was made in the scope: [`Clock::isolated`](crate::Clock::isolated).
//!   The process shares the others. A manual clock moves by hand alone.
//!   A wait that has begun before a jump may end late by as much.
//! * The waits of crossbeam's channels have no points inside.
//!
//! # Examples
//!
//! Points of your own, with or without the feature:
//!
//! ```
//! use cleanbreak::chaos;
//!
//! fn save(record: &str) -> std::io::Result<()> {
//!     chaos::point("save.begin"); // may stand still here
//!     if chaos::fails("save.write") {
//!         return Err(std::io::Error::other("chaos"));
//!     }
//!     # let _ = record;
//!     Ok(())
//! }
//! assert!(save("one").is_ok()); // there is no plan: nothing happens
//! ```
#![cfg_attr(feature = "chaos", doc = include_str!("feature.md"))]

#[cfg(feature = "chaos")]
mod guard;
#[cfg(feature = "chaos")]
mod plan;
#[cfg(feature = "chaos")]
mod report;

use crate::fault;

#[cfg(feature = "chaos")]
pub use fault::{Fault, Injected, Point, points};
#[cfg(feature = "chaos")]
pub use guard::{Chaos, Reporter, is_injected};
#[cfg(feature = "chaos")]
pub use plan::{Plan, PlanError};
#[cfg(feature = "chaos")]
pub use report::Report;

/// A point of your own: in a chaos scope the thread may stand still here, or cancel one of the plan's
/// tokens, and panic if the plan names the point for that.
///
/// Pass it with no lock held that others need, as for any call that may take a while.
///
/// # Panics
///
/// If a plan says so.
///
/// # Performance
///
/// Nothing without the feature `chaos`. With it, one load while there is no scope in the process.
///
/// # Examples
///
/// ```
/// use cleanbreak::chaos;
///
/// fn next_batch() -> Vec<u32> {
///     chaos::point("batch.fetch");
///     vec![1, 2, 3]
/// }
/// assert_eq!(next_batch().len(), 3);
/// ```
#[inline(always)]
pub fn point(name: &'static str) {
    fault::own_pass(name);
}

/// Whether an operation of your own is to fail now; `false` without a chaos scope.
///
/// # Performance
///
/// As [`point()`].
///
/// # Examples
///
/// ```
/// use cleanbreak::chaos;
///
/// let answer = if chaos::fails("db.query") { Err("chaos") } else { Ok(42) };
/// assert_eq!(answer, Ok(42)); // outside of a scope
/// ```
#[inline(always)]
#[must_use]
pub fn fails(name: &'static str) -> bool {
    fault::own_refuses(name)
}
