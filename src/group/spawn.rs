//! The group as its body and its tasks see it.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::panic::Location;

use super::end::{End, First};
use super::erase::{Run, erase};
use super::packet::{Packet, Policy, Task};
use super::queue::Refused;
use crate::cancel::{CancelToken, Cancelled};
use crate::fault::{self, At};
use crate::sync::Arc;
use crate::threads::{self, Task as Named, ThreadError};

/// Spawns tasks into a scope; see [`scope()`](super::scope()).
///
/// The lifetimes are those of [`std::thread::Scope`]: tasks may borrow what lives for `'scope`.
/// `E` is the error of its tasks, `B` what they may break the group with.
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
/// use cleanbreak::{CancelToken, scope, threads};
///
/// let service = CancelToken::new();
/// let names = vec!["a", "b"];
/// let told = scope(&service, |group| {
///     let (ready, is_ready) = mpsc::channel();
///     let reader = group.spawn_named("reader", move |token| {
///         ready.send(threads::live().iter().any(|thread| thread.name == "reader"))?;
///         token.wait();
///         Ok(token.check().unwrap_err().to_string())
///     })?;
///     assert!(is_ready.recv()?);
///     let counter = group.try_spawn(|_| Ok(names.len())).unwrap(); // borrows
///     assert_eq!(counter.join()?, 2);
///
///     group.token().cancel_with("that will do"); // a child of `service`
///     assert!(group.try_spawn_named("late", |_| Ok(())).unwrap_err().is_cancelled());
///     Ok(reader.join()?)
/// });
/// assert_eq!(told.unwrap(), "cancelled: that will do");
/// assert!(!service.is_cancelled());
/// ```
pub struct Group<'scope, 'env: 'scope, E = anyhow::Error, B = Infallible> {
    pub(super) end: End<E, B>,
    pub(super) policy: Policy,
    pub(super) scope: PhantomData<&'scope mut &'scope ()>,
    pub(super) env: PhantomData<&'env mut &'env ()>,
}

impl<E, B> Group<'_, '_, E, B> {
    /// The group's token: a child of the one that was given, cancelled with the first failure.
    #[must_use]
    pub fn token(&self) -> &CancelToken {
        self.end.token()
    }

    /// Ends the whole group with a value: the labelled break that crosses threads. The siblings
    /// are cancelled, and [`scope_flow`](super::GroupBuilder::scope_flow) returns
    /// `ControlFlow::Break(value)` when they have been joined.
    ///
    /// The caller goes on: return from the task after it.
    ///
    /// # Errors
    ///
    /// The value comes back if an error or another break was first.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use cleanbreak::{CancelToken, GroupBuilder};
    ///
    /// let haystack: Vec<u32> = (0..1000).collect();
    /// let found = GroupBuilder::new().breaks::<u32>().scope_flow(&CancelToken::new(), |group| {
    ///     for part in haystack.chunks(250) {
    ///         group.spawn(move |token| {
    ///             'search: for n in part {
    ///                 if token.is_cancelled() { break 'search; }
    ///                 if n * n == 514_089 {
    ///                     group.break_with(*n).ok();
    ///                     break 'search;
    ///                 }
    ///             }
    ///             Ok(())
    ///         })?;
    ///     }
    ///     Ok(())
    /// });
    /// assert_eq!(found.unwrap(), ControlFlow::Break(717));
    /// ```
    #[track_caller]
    pub fn break_with(&self, value: B) -> Result<(), B> {
        fault::pass(At::GroupBreak);
        let why = format!(
            "group \"{}\" broken at {}",
            self.end.name(),
            Location::caller()
        );
        match self.end.first(First::Break(value), why) {
            Ok(()) => Ok(()),
            Err(First::Break(value)) => Err(value),
            Err(First::Error(_)) => unreachable!("a break comes back as a break"),
        }
    }
}

impl<'scope, E, B> Group<'scope, '_, E, B>
where
    E: fmt::Display + Send + 'scope,
    B: Send + 'scope,
{
    /// Runs `task` on a thread of the group. It is given the group's token.
    ///
    /// With a limit, waits for a place when all threads are busy and the backlog is full; not when
    /// called from a task of this group, which may be what the place waits for. (A task of a scope
    /// nested inside such a task does wait: if the outer task waits for it in turn, they wait until
    /// they are cancelled.)
    ///
    /// # Errors
    ///
    /// [`SpawnError::Cancelled`] if the group is, or becomes so while this waits;
    /// [`SpawnError::Thread`] if the operating system does not give a thread. The task is dropped;
    /// [`try_spawn`](Self::try_spawn) gives it back.
    #[track_caller]
    pub fn spawn<R: Send + 'scope>(
        &'scope self,
        task: impl FnOnce(&CancelToken) -> Result<R, E> + Send + 'scope,
    ) -> Result<Task<'scope, R, E>, SpawnError> {
        let name = self.end.name().clone();
        self.spawn_waiting(&Named::here(name), task)
    }

    /// As [`spawn`](Self::spawn), with a name for thread lists and reports.
    ///
    /// # Errors
    ///
    /// Those of [`spawn`](Self::spawn).
    #[track_caller]
    pub fn spawn_named<R: Send + 'scope>(
        &'scope self,
        name: &str,
        task: impl FnOnce(&CancelToken) -> Result<R, E> + Send + 'scope,
    ) -> Result<Task<'scope, R, E>, SpawnError> {
        self.spawn_waiting(&Named::here(name.into()), task)
    }

    /// As [`spawn`](Self::spawn), but never waits.
    ///
    /// # Errors
    ///
    /// [`TrySpawnError`] gives the task back, and the reason: no place, cancelled, or no thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use cleanbreak::{CancelToken, GroupBuilder};
    ///
    /// let squares = GroupBuilder::new().limit(1).backlog(0).scope(&CancelToken::new(), |group| {
    ///     let (finish, wait) = mpsc::channel::<()>();
    ///     let busy = group.try_spawn(move |_| Ok(wait.recv().is_err())).unwrap();
    ///     let refused = group.try_spawn(|_| Ok(7 * 7)).unwrap_err(); // does not wait
    ///     assert!(refused.is_full());
    ///     let task = refused.into_inner();
    ///     let here = task(group.token())?; // run by the caller instead: nobody else is free
    ///     drop(finish);
    ///     Ok((busy.join()?, here))
    /// });
    /// assert_eq!(squares.unwrap(), (true, 49));
    /// ```
    #[track_caller]
    pub fn try_spawn<R: Send + 'scope, F>(
        &'scope self,
        task: F,
    ) -> Result<Task<'scope, R, E>, TrySpawnError<F>>
    where
        F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'scope,
    {
        fault::pass(At::GroupSpawn);
        let name = self.end.name().clone();
        self.submit(&Named::here(name), task)
    }

    /// As [`try_spawn`](Self::try_spawn), with a name for thread lists and reports.
    ///
    /// # Errors
    ///
    /// Those of [`try_spawn`](Self::try_spawn).
    #[track_caller]
    pub fn try_spawn_named<R: Send + 'scope, F>(
        &'scope self,
        name: &str,
        task: F,
    ) -> Result<Task<'scope, R, E>, TrySpawnError<F>>
    where
        F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'scope,
    {
        fault::pass(At::GroupSpawn);
        self.submit(&Named::here(name.into()), task)
    }

    #[track_caller]
    pub(super) fn spawn_waiting<R: Send + 'scope, F>(
        &'scope self,
        named: &Named,
        mut task: F,
    ) -> Result<Task<'scope, R, E>, SpawnError>
    where
        F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'scope,
    {
        fault::pass(At::GroupSpawn);
        loop {
            let refused = match self.submit(named, task) {
                Ok(handle) => return Ok(handle),
                Err(refused) => refused,
            };
            match refused.kind {
                TrySpawnErrorKind::Full => task = refused.task,
                TrySpawnErrorKind::Cancelled(cancelled) => return Err(cancelled.into()),
                TrySpawnErrorKind::Thread(error) => return Err(error.into()),
            }
            self.await_place();
        }
    }

    fn submit<R: Send + 'scope, F>(
        &'scope self,
        named: &Named,
        task: F,
    ) -> Result<Task<'scope, R, E>, TrySpawnError<F>>
    where
        F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'scope,
    {
        if let Err(cancelled) = self.token().check() {
            let kind = TrySpawnErrorKind::Cancelled(cancelled);
            return Err(TrySpawnError { kind, task });
        }
        let packet = Packet::new(&self.end, self.policy, named.clone(), task);
        let job = forget_scope(packet.clone());
        let overflow = self.end.queue().served_here();
        let kind = match self.end.queue().try_push(job, packet.named(), overflow) {
            Ok(()) => return Ok(packet.handle()),
            Err(Refused::Full) => TrySpawnErrorKind::Full,
            Err(Refused::Thread(error)) => TrySpawnErrorKind::Thread(error),
        };
        let task = packet.take_task().expect("a refused task has not run");
        Err(TrySpawnError { kind, task })
    }

    #[track_caller]
    fn await_place(&self) {
        let _wait = threads::awaiting("get a place in a group", self.end.place());
        let queue = self.end.queue().clone();
        let nudge = self.token().hook(move || queue.nudge());
        self.end.queue().await_place(|| self.token().is_cancelled());
        drop(nudge);
    }
}

#[allow(unsafe_code)]
fn forget_scope<'scope>(run: Arc<dyn Run + 'scope>) -> super::erase::ErasedRun {
    // SAFETY: the job goes into the queue of the group that `'scope` belongs to, or is dropped by
    // the spawn that made it. `GroupBuilder::scope_flow` neither returns nor unwinds before that
    // queue has seen the end of every job that it took in (its invariant 1), and nobody can borrow
    // the group for `'scope` afterwards to put in another.
    unsafe { erase(run) }
}

impl<E, B> fmt::Debug for Group<'_, '_, E, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Group")
            .field("name", self.end.name())
            .field("cancelled", &self.token().is_cancelled())
            .finish_non_exhaustive()
    }
}

/// Why a task was not spawned.
///
/// # Examples
///
/// ```
/// use cleanbreak::group::SpawnError;
/// use cleanbreak::{CancelToken, scope};
///
/// let result = scope(&CancelToken::new(), |group| {
///     let error = group.spawn_named("no\0name", |_| Ok(())).unwrap_err();
///     assert!(matches!(error, SpawnError::Thread(_)) && !error.is_cancelled());
///     assert_eq!(error.to_string(), "could not start thread \"no\0name\"");
///
///     group.token().cancel_with("closing time");
///     let error = group.spawn(|_| Ok(())).unwrap_err();
///     assert!(error.is_cancelled());
///     assert_eq!(error.to_string(), "the group takes no more tasks: cancelled: closing time");
///     Ok(())
/// });
/// assert!(result.is_ok());
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum SpawnError {
    /// The group has been cancelled.
    Cancelled(Cancelled),
    /// No thread could be created.
    Thread(ThreadError),
}

impl SpawnError {
    /// Whether the group had been cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }
}

impl fmt::Display for SpawnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(cancelled) => write!(f, "the group takes no more tasks: {cancelled}"),
            Self::Thread(error) => error.fmt(f),
        }
    }
}

impl std::error::Error for SpawnError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            // Each says in its own words what the variant says.
            Self::Cancelled(cancelled) => cancelled.source(),
            Self::Thread(error) => error.source(),
        }
    }
}

impl From<Cancelled> for SpawnError {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

impl From<ThreadError> for SpawnError {
    fn from(error: ThreadError) -> Self {
        Self::Thread(error)
    }
}

/// A task that was not spawned at once, and why.
///
/// # Examples
///
/// ```
/// use cleanbreak::group::TrySpawnErrorKind;
/// use cleanbreak::{CancelToken, scope};
///
/// let result = scope(&CancelToken::new(), |group| {
///     group.token().cancel_with("closing time");
///     let refused = group.try_spawn(|_| Ok(7)).unwrap_err();
///     assert!(refused.is_cancelled() && !refused.is_full());
///     assert!(matches!(refused.kind(), TrySpawnErrorKind::Cancelled(_)));
///     let text = "the group takes no more tasks: cancelled: closing time";
///     assert_eq!(refused.to_string(), text);
///
///     let (kind, task) = refused.into_parts();
///     let TrySpawnErrorKind::Cancelled(cancelled) = kind else { unreachable!() };
///     assert_eq!(cancelled.cause().unwrap().to_string(), "closing time");
///     let again = group.try_spawn(task).unwrap_err(); // nothing lost, nothing gained
///     let task = again.into_inner();
///     task(group.token())
/// });
/// assert_eq!(result.unwrap(), 7);
/// ```
pub struct TrySpawnError<F> {
    kind: TrySpawnErrorKind,
    task: F,
}

/// Why a task was not spawned at once.
///
/// # Examples
///
/// ```
/// use std::error::Error;
/// use cleanbreak::group::TrySpawnErrorKind;
/// use cleanbreak::{CancelToken, scope};
///
/// let result = scope(&CancelToken::new(), |group| {
///     let refused = group.try_spawn_named("no\0name", |_| Ok(())).unwrap_err();
///     let shed = match refused.kind() {
///         TrySpawnErrorKind::Full => "try later",
///         TrySpawnErrorKind::Cancelled(_) => "stop",
///         TrySpawnErrorKind::Thread(error) => error.thread_name(),
///         _ => "added in a later version",
///     };
///     assert_eq!(shed, "no\0name");
///     assert!(refused.source().unwrap().is::<std::io::Error>()); // what the system said
///     Ok(())
/// });
/// assert!(result.is_ok());
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum TrySpawnErrorKind {
    /// All threads of the limit are busy, and the backlog is full.
    Full,
    /// The group has been cancelled.
    Cancelled(Cancelled),
    /// No thread could be created.
    Thread(ThreadError),
}

impl<F> TrySpawnError<F> {
    /// The reason.
    #[must_use]
    pub fn kind(&self) -> &TrySpawnErrorKind {
        &self.kind
    }

    /// The task, unrun.
    #[must_use]
    pub fn into_inner(self) -> F {
        self.task
    }

    /// The reason and the task.
    #[must_use]
    pub fn into_parts(self) -> (TrySpawnErrorKind, F) {
        (self.kind, self.task)
    }

    /// Whether there was no place for it.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.kind, TrySpawnErrorKind::Full)
    }

    /// Whether the group had been cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self.kind, TrySpawnErrorKind::Cancelled(_))
    }
}

impl<F> fmt::Debug for TrySpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TrySpawnError")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Display for TrySpawnError<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            TrySpawnErrorKind::Full => f.write_str("all threads of the group are busy"),
            TrySpawnErrorKind::Cancelled(cancelled) => {
                write!(f, "the group takes no more tasks: {cancelled}")
            }
            TrySpawnErrorKind::Thread(error) => error.fmt(f),
        }
    }
}

impl<F> std::error::Error for TrySpawnError<F> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match &self.kind {
            TrySpawnErrorKind::Full => None,
            // As in `SpawnError`.
            TrySpawnErrorKind::Cancelled(cancelled) => cancelled.source(),
            TrySpawnErrorKind::Thread(error) => error.source(),
        }
    }
}
