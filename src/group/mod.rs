//! Floor 4: threads that come home.
//!
//! [`scope()`] runs a closure that spawns tasks on threads, and returns when all of them have ended
//! and their threads are joined: Go's `errgroup` with the scope of `std::thread::scope`.
//!
//! # What is promised
//!
//! * **G1** The call returns only when every task has ended and every thread that it created has
//!   been joined, also when the body returns early or panics. Warm threads come only from a
//!   [`ThreadCache`] that you own.
//! * **G2** The first error, in time, is the result, and the cause that the siblings are cancelled
//!   with. It is stored before they are told, so it is never theirs.
//! * **G3** A panic cancels the siblings, and its payload is resumed in the caller after all have
//!   been joined. It goes before an error or a break, whenever they came: a panic is a bug, and
//!   is not hidden by what it led to. ([`collect_panics`](GroupBuilder::collect_panics) keeps it in
//!   the task's handle instead.)
//! * **G4** [`limit`](GroupBuilder::limit) bounds the threads. A spawn that waits for a place gives
//!   up when the group is cancelled; a task that had not started by then never does. `try_spawn`
//!   never blocks. A thread that cannot be created is an error.
//! * **G5** [`all`](GroupBuilder::all), [`first_success`](GroupBuilder::first_success) and
//!   [`collect`](GroupBuilder::collect) give results in the order of submission. A task can
//!   [break the whole group with a value](Group::break_with): the labelled break that crosses
//!   threads.
//! * **G6** A task that still runs some time after the cancellation is reported: name, line that
//!   spawned it, what it waits on.
//!
//! # What is not
//!
//! * Nothing stops a task by force: one that never looks at its token holds the call up for ever,
//!   and is reported again and again.
//! * With a limit, tasks that wait for each other can deadlock, as in any bounded pool: one of them
//!   may not have a thread.
//! * The order in which tasks start is that of their spawns only with `limit(1)`.
//!
//! # Which to use
//!
//! * Tasks of different kinds, some that run for long: [`scope()`], or [`GroupBuilder::scope`] for
//!   a limit, an error type of your own, names.
//! * A worker may find *the* answer for all: [`GroupBuilder::breaks`] and
//!   [`GroupBuilder::scope_flow`].
//! * A list of like tasks: `all` (every result or the first error), `first_success` (the first
//!   result or every error), `collect` (every outcome, nothing cancelled).
//!
//! # What does not compile
//!
//! Tasks borrow what lives for the whole call, so not a local of the body, which ends before them:
//!
//! ```compile_fail,E0373
//! # use cleanbreak::{CancelToken, scope};
//! scope(&CancelToken::new(), |group| {
//!     let name = String::from("dies with the body");
//!     group.spawn(|_| Ok(name.len()))?;
//!     Ok(())
//! })
//! .unwrap();
//! ```
//!
//! ```
//! # use cleanbreak::{CancelToken, scope};
//! let outside = String::from("outlives the group");
//! scope(&CancelToken::new(), |group| {
//!     let name = String::from("moves into the task");
//!     group.spawn(|_| Ok(outside.len()))?;
//!     group.spawn(move |_| Ok(name.len()))?;
//!     Ok(())
//! })
//! .unwrap();
//! ```
//!
//! Nor one that the body has when the task starts, whatever the closure says:
//!
//! ```compile_fail,E0597
//! # use cleanbreak::{CancelToken, scope};
//! scope(&CancelToken::new(), |group| {
//!     let name = String::from("dies with the body");
//!     let name = &name;
//!     group.spawn(move |_| Ok(name.len()))?;
//!     Ok(())
//! })
//! .unwrap();
//! ```
//!
//! The handle of a task does not leave the scope; its result does:
//!
//! ```compile_fail
//! # use cleanbreak::{CancelToken, scope};
//! let task = scope(&CancelToken::new(), |group| Ok(group.spawn(|_| Ok(7))?)).unwrap();
//! ```
//!
//! ```
//! # use cleanbreak::{CancelToken, scope};
//! let result = scope(&CancelToken::new(), |group| Ok(group.spawn(|_| Ok(7))?.join()));
//! assert_eq!(result.unwrap().unwrap(), 7);
//! ```
//!
//! What tasks share must be [`Sync`], as with any thread:
//!
//! ```compile_fail,E0277
//! # use cleanbreak::{CancelToken, scope};
//! let count = std::cell::Cell::new(0);
//! scope(&CancelToken::new(), |group| Ok(group.spawn(|_| Ok(count.set(1))).map(drop)?)).unwrap();
//! ```
//!
//! ```
//! # use cleanbreak::{CancelToken, scope};
//! let count = std::sync::atomic::AtomicU32::new(0);
//! let add = || count.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
//! scope(&CancelToken::new(), |group| Ok(group.spawn(|_| Ok(add())).map(drop)?)).unwrap();
//! assert_eq!(count.into_inner(), 1);
//! ```

mod builder;
mod cache;
mod end;
mod erase;
mod joiners;
mod lender;
mod list;
mod packet;
mod queue;
mod spawn;
mod straggler;

pub(crate) use lender::Roster;
pub(crate) use queue::look_a_while;

pub use builder::GroupBuilder;
pub use cache::ThreadCache;
pub use list::{GroupInfo, RunningTask, live};
pub use packet::{PanicPayload, Task, TaskError};
pub use spawn::{Group, SpawnError, TrySpawnError, TrySpawnErrorKind};
pub use straggler::Straggler;

use crate::cancel::CancelToken;

/// Runs `body` with a group of threads, and returns when every one of them has been joined: the
/// body's value, or the first error in time, of the body or of a task.
///
/// The group's token is a child of `token`, and is cancelled with the first error, panic or break,
/// or at the latest when the call returns. Errors are [`anyhow::Error`]; use
/// [`GroupBuilder::errors`] for a type of your own.
///
/// # Panics
///
/// With the payload of the first task that panicked, or of the body, after all have been joined.
///
/// # Errors
///
/// The first, in time, that a task or the body returned.
///
/// # Performance
///
/// A thread for each task, some 30–100 µs to create and join. [`GroupBuilder::cache`] lends warm
/// ones.
///
/// # Examples
///
/// ```
/// use anyhow::bail;
/// use cleanbreak::{CancelToken, scope};
///
/// let names = vec!["a", "b", "c"]; // tasks borrow from the stack
/// let lengths = scope(&CancelToken::new(), |group| {
///     let tasks = names.iter().map(|name| group.spawn(|_| Ok(name.len())));
///     let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
///     Ok(tasks.into_iter().filter_map(|task| task.join().ok()).sum::<usize>())
/// });
/// assert_eq!(lengths.unwrap(), 3);
///
/// let error = scope(&CancelToken::new(), |group| {
///     group.spawn(|_| -> anyhow::Result<()> { bail!("disk full") })?;
///     group.spawn(|token| {
///         token.wait(); // ended by the sibling's error
///         Ok(token.check()?) // an error too, but not the first
///     })?;
///     Ok(())
/// });
/// assert_eq!(error.unwrap_err().to_string(), "disk full");
/// ```
#[track_caller]
pub fn scope<'env, T>(
    token: &CancelToken,
    body: impl for<'scope> FnOnce(&'scope Group<'scope, 'env>) -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    GroupBuilder::new().scope(token, body)
}
