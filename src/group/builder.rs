//! A group's settings, and its life from the body's start to the last join.

use std::convert::Infallible;
use std::fmt;
use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::ops::ControlFlow;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::process::abort;
use std::time::Duration;

use super::cache::ThreadCache;
use super::end::{End, First, why};
use super::lender::{OwnThreads, Roster};
use super::list::Shown;
use super::packet::Policy;
use super::queue::{Lender, Queue};
use super::spawn::Group;
use super::straggler::{Straggler, Watch};
use crate::cancel::CancelToken;
use crate::contain::drop_contained;
use crate::sync::Arc;

/// How many tasks may wait for a thread when nothing else is said.
const BACKLOG: usize = 1024;

/// The settings of a group. Reusable: running a scope borrows it.
///
/// `E` is the error of the tasks, `B` the value that they may break the group with.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, GroupBuilder};
///
/// #[derive(Debug, PartialEq)]
/// struct Refused(u32);
/// impl std::fmt::Display for Refused {
///     fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
///         write!(f, "{} refused", self.0)
///     }
/// }
///
/// let result = GroupBuilder::new()
///     .name("uploads")
///     .limit(4)
///     .straggler_after(Duration::from_secs(2))
///     .errors::<Refused>()
///     .scope(&CancelToken::new(), |group| {
///         for n in 0..100 {
///             let spawned = group.spawn(move |_| if n == 7 { Err(Refused(n)) } else { Ok(()) });
///             if spawned.is_err() { break; } // cancelled: the result says why
///         }
///         Ok(())
///     });
/// assert_eq!(result, Err(Refused(7)));
/// ```
#[must_use = "a builder does nothing until a scope is run"]
pub struct GroupBuilder<E = anyhow::Error, B = Infallible> {
    pub(super) name: Arc<str>,
    limit: Option<NonZeroUsize>,
    backlog: usize,
    stack_size: Option<usize>,
    cache: Option<Arc<dyn Fn() -> Box<dyn Lender> + Send + Sync>>,
    policy: Policy,
    watch: Watch,
    types: PhantomData<fn() -> (E, B)>,
}

impl GroupBuilder {
    /// No limit, threads of its own, errors of [`anyhow::Error`].
    pub fn new() -> Self {
        Self {
            name: "group".into(),
            limit: None,
            backlog: BACKLOG,
            stack_size: None,
            cache: None,
            policy: Policy::default(),
            watch: Watch::default(),
            types: PhantomData,
        }
    }
}

impl Default for GroupBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl<E, B> GroupBuilder<E, B> {
    /// Names the group, and the tasks that are spawned without a name.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// Runs on `threads` threads at most, which serve a queue of tasks. See
    /// [`backlog`](Self::backlog) for when a spawn waits.
    ///
    /// # Panics
    ///
    /// If it is zero: no task could ever run.
    pub fn limit(mut self, threads: usize) -> Self {
        let threads = NonZeroUsize::new(threads);
        self.limit = Some(threads.expect("the limit of a group must not be zero"));
        self
    }

    /// With a limit, how many tasks may wait for a thread before [`spawn`](Group::spawn) waits and
    /// [`try_spawn`](Group::try_spawn) refuses; 1,024 by default. Zero makes a spawn wait for a
    /// thread, as Go's `SetLimit` does. A spawn from inside a task of the group exceeds it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use cleanbreak::{CancelToken, GroupBuilder};
    ///
    /// let result = GroupBuilder::new().limit(1).backlog(1).scope(&CancelToken::new(), |group| {
    ///     let (finish, wait) = mpsc::channel::<()>();
    ///     let busy = group.spawn(move |_| Ok(wait.recv().is_err()))?;
    ///     let queued = group.spawn(|_| Ok("queued"))?;
    ///     assert!(group.try_spawn(|_| Ok(())).unwrap_err().is_full());
    ///     drop(finish);
    ///     assert!(busy.join()?);
    ///     Ok(queued.join()?)
    /// });
    /// assert_eq!(result.unwrap(), "queued");
    /// ```
    pub fn backlog(mut self, tasks: usize) -> Self {
        self.backlog = tasks;
        self
    }

    /// Stack of the group's own threads, in bytes. Those of a cache have the platform's default.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{CancelToken, GroupBuilder};
    ///
    /// fn depth(below: usize) -> usize {
    ///     let frame = std::hint::black_box([1_usize; 128]); // 1 kB
    ///     if below == 0 { 0 } else { frame[below % 128] + depth(below - 1) }
    /// }
    ///
    /// let group = GroupBuilder::new().stack_size(64 << 20); // 2 MB, the default, would not do
    /// let deep = group.scope(&CancelToken::new(), |group| {
    ///     Ok(group.spawn(|_| Ok(depth(5_000)))?.join()?)
    /// });
    /// assert_eq!(deep.unwrap(), 5_000);
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// Runs on warm threads of `cache`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{CancelToken, GroupBuilder, ThreadCache};
    ///
    /// let cache = ThreadCache::new();
    /// let settings = GroupBuilder::new().cache(&cache);
    /// for _ in 0..100 {
    ///     let run = settings.scope(&CancelToken::new(), |group| {
    ///         group.spawn(|_| Ok(()))?;
    ///         Ok(())
    ///     });
    ///     run.unwrap();
    /// }
    /// assert_eq!((cache.threads(), cache.idle()), (1, 1)); // one thread for a hundred tasks
    /// ```
    pub fn cache(mut self, cache: &ThreadCache) -> Self {
        self.cache = Some(cache.lenders());
        self
    }

    /// Keeps errors in the handles of their tasks: they do not cancel the group, and
    /// [`Task::join`](super::Task::join) returns them. An error of the body still does.
    ///
    /// # Examples
    ///
    /// ```
    /// use anyhow::bail;
    /// use cleanbreak::{CancelToken, GroupBuilder};
    ///
    /// let done = GroupBuilder::new().collect_errors().scope(&CancelToken::new(), |group| {
    ///     let bad = group.spawn(|_| -> anyhow::Result<()> { bail!("disk full") })?;
    ///     let error = bad.join().unwrap_err().into_failure().unwrap();
    ///     assert_eq!(error.to_string(), "disk full");
    ///     Ok(group.spawn(|_| Ok("went on"))?.join()?)
    /// });
    /// assert_eq!(done.unwrap(), "went on");
    /// ```
    pub fn collect_errors(mut self) -> Self {
        self.policy.collect_errors = true;
        self
    }

    /// Keeps the payloads of panics in the handles of their tasks: they do not cancel the group,
    /// and are not resumed. A panic of the body still is.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{CancelToken, GroupBuilder};
    ///
    /// let done = GroupBuilder::new().collect_panics().scope(&CancelToken::new(), |group| {
    ///     let buggy = group.spawn(|_| -> anyhow::Result<()> { panic!("a bug") })?;
    ///     assert!(buggy.join().unwrap_err().is_panic());
    ///     Ok(group.spawn(|_| Ok("went on"))?.join()?)
    /// });
    /// assert_eq!(done.unwrap(), "went on");
    /// ```
    pub fn collect_panics(mut self) -> Self {
        self.policy.collect_panics = true;
        self
    }

    /// Undoes [`collect_errors`](Self::collect_errors) and
    /// [`collect_panics`](Self::collect_panics), for joiners that have no place to keep them.
    pub(super) fn first_failure_ends(mut self) -> Self {
        self.policy = Policy::default();
        self
    }

    /// How long after the cancellation a task that still runs is reported, by the clock of the
    /// token; five seconds by default. It is reported again after twice the time, and so on.
    /// [`Duration::MAX`] is never.
    ///
    /// The count starts when somebody waits: the scope, for all tasks, when its body has returned;
    /// or the body, in [`Task::join`](super::Task::join). A body that itself ignores the
    /// cancellation is not reported.
    pub fn straggler_after(mut self, patience: Duration) -> Self {
        self.watch.after = patience;
        self
    }

    /// What to do with a report of stragglers, instead of printing a line for each to standard
    /// error. Called on the thread that runs the scope; a panic in it is contained.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, GroupBuilder};
    ///
    /// let clock = Clock::manual();
    /// let (tell, reports) = mpsc::channel();
    /// GroupBuilder::new()
    ///     .straggler_after(Duration::from_secs(5))
    ///     .on_straggler(move |late| tell.send((late.len(), late[0].overdue)).unwrap())
    ///     .scope(&CancelToken::with_clock(&clock), |group| {
    ///         let clock = clock.clone();
    ///         group.spawn(move |token| {
    ///             token.cancel(); // it tells all to stop, and goes on
    ///             for overdue in [5, 10].map(Duration::from_secs) {
    ///                 clock.await_timers(1);
    ///                 clock.advance(Duration::from_secs(5));
    ///                 assert_eq!(reports.recv()?, (1, overdue));
    ///             }
    ///             Ok(())
    ///         })?;
    ///         Ok(())
    ///     })
    ///     .unwrap();
    /// ```
    pub fn on_straggler(mut self, report: impl Fn(&[Straggler]) + Send + Sync + 'static) -> Self {
        self.watch.report = Arc::new(report);
        self
    }

    /// The type of the tasks' errors.
    pub fn errors<E2>(self) -> GroupBuilder<E2, B> {
        self.typed()
    }

    /// The type of the value that a task may break the group with; then run
    /// [`scope_flow`](Self::scope_flow).
    pub fn breaks<B2>(self) -> GroupBuilder<E, B2> {
        self.typed()
    }

    fn typed<E2, B2>(self) -> GroupBuilder<E2, B2> {
        GroupBuilder {
            name: self.name,
            limit: self.limit,
            backlog: self.backlog,
            stack_size: self.stack_size,
            cache: self.cache,
            policy: self.policy,
            watch: self.watch,
            types: PhantomData,
        }
    }

    fn lender(&self) -> Box<dyn Lender> {
        match &self.cache {
            Some(cache) => cache(),
            None => Box::new(OwnThreads {
                stack_size: self.stack_size,
                roster: Roster::default(),
            }),
        }
    }
}

impl<E: fmt::Display + Send> GroupBuilder<E, Infallible> {
    /// Runs `body` with a group, as [`scope()`](super::scope()) does.
    ///
    /// # Panics
    ///
    /// With the payload of the first task that panicked, or of the body, after all were joined.
    ///
    /// # Errors
    ///
    /// The first, in time, that a task or the body returned.
    #[track_caller]
    pub fn scope<'env, T>(
        &self,
        token: &CancelToken,
        body: impl for<'scope> FnOnce(&'scope Group<'scope, 'env, E>) -> Result<T, E>,
    ) -> Result<T, E> {
        match self.scope_flow(token, body)? {
            ControlFlow::Continue(value) => Ok(value),
            ControlFlow::Break(never) => match never {},
        }
    }
}

impl<E: fmt::Display + Send, B: Send> GroupBuilder<E, B> {
    /// Runs `body` with a group that a task can [break with a value](Group::break_with).
    /// `Continue` has the body's value, `Break` the task's.
    ///
    /// Of an error and a break, the first in time is the result.
    ///
    /// # Panics
    ///
    /// With the payload of the first task that panicked, or of the body, after all were joined.
    ///
    /// # Errors
    ///
    /// The first, in time, that a task or the body returned.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::ops::ControlFlow::{self, Break, Continue};
    /// use anyhow::bail;
    /// use cleanbreak::{CancelToken, GroupBuilder};
    ///
    /// let run = |values: &'static [i32]| -> anyhow::Result<ControlFlow<i32, usize>> {
    ///     GroupBuilder::new().breaks::<i32>().scope_flow(&CancelToken::new(), |group| {
    ///         for value in values {
    ///             group.spawn(move |_| match value {
    ///                 0 => bail!("zero"),
    ///                 1.. => Ok(()),
    ///                 _ => Ok(group.break_with(*value).unwrap()),
    ///             })?;
    ///         }
    ///         Ok(values.len())
    ///     })
    /// };
    /// assert_eq!(run(&[1, 2, 3]).unwrap(), Continue(3));
    /// assert_eq!(run(&[1, -2, 3]).unwrap(), Break(-2));
    /// assert_eq!(run(&[1, 0, 3]).unwrap_err().to_string(), "zero");
    /// ```
    #[track_caller]
    pub fn scope_flow<'env, T>(
        &self,
        token: &CancelToken,
        body: impl for<'scope> FnOnce(&'scope Group<'scope, 'env, E, B>) -> Result<T, E>,
    ) -> Result<ControlFlow<B, T>, E> {
        let queue = Queue::new(self.lender(), self.limit, self.backlog);
        let name = self.name.clone();
        let shown = Shown::new(name, Location::caller(), token.child(), queue);
        let group = Group {
            end: End::new(shown, self.watch.clone()),
            policy: self.policy,
            scope: PhantomData,
            env: PhantomData,
        };
        // From here until the queue is closed, tasks borrow from this frame and those above.
        let bomb = AbortOnUnwind;
        let mut value = None;
        let mut late = None;
        match catch_unwind(AssertUnwindSafe(|| body(&group))) {
            Ok(Ok(returned)) => value = Some(returned),
            Ok(Err(error)) => {
                let why = why(&format_args!("the body of group \"{}\"", self.name), &error);
                late = group.end.first(First::Error(error), why).err();
            }
            Err(payload) => {
                let who = format!("the body of group \"{}\"", self.name);
                group.end.panicked(payload, &who);
            }
        }
        group.end.await_all();
        group.end.queue().close();
        std::mem::forget(bomb);

        // What was derived from the group's token ends with the group.
        group.token().end(Some("the group has ended".into()));
        let first = match group.end.take_first() {
            Ok(first) => first,
            Err(payload) => {
                drop_contained(late);
                drop_contained(value);
                resume_unwind(payload)
            }
        };
        drop(late);
        match (first, value) {
            (Some(First::Error(error)), _) => Err(error),
            (Some(First::Break(value)), _) => Ok(ControlFlow::Break(value)),
            (None, Some(value)) => Ok(ControlFlow::Continue(value)),
            (None, None) => unreachable!("a body without a value left a failure"),
        }
    }
}

/// Ends the process rather than a frame that tasks borrow from.
struct AbortOnUnwind;

impl Drop for AbortOnUnwind {
    fn drop(&mut self) {
        abort();
    }
}

impl<E, B> Clone for GroupBuilder<E, B> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            limit: self.limit,
            backlog: self.backlog,
            stack_size: self.stack_size,
            cache: self.cache.clone(),
            policy: self.policy,
            watch: self.watch.clone(),
            types: PhantomData,
        }
    }
}

impl<E, B> fmt::Debug for GroupBuilder<E, B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GroupBuilder")
            .field("name", &self.name)
            .field("limit", &self.limit)
            .field("backlog", &self.backlog)
            .field("cached", &self.cache.is_some())
            .field("straggler_after", &self.watch.after)
            .finish_non_exhaustive()
    }
}
