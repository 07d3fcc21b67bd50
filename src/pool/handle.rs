//! The pool itself.

use std::fmt;

use super::builder::PoolBuilder;
use super::err::SubmitError;
use super::job::Job;
use super::list::{self, Entry};
use super::report::{Report, Shutdown};
use super::shared::Shared;
use super::submission::Submission;
use crate::cancel::{CancelToken, Registration};
use crate::clock::Instant;
use crate::fault::{self, At};
use crate::sync::{Arc, Weak};
use crate::threads::ThreadError;

/// Workers that serve a bounded queue of tasks; see the [module](super) for what is promised.
///
/// Unlike rayon's or `threadpool`'s, it is bounded, tells its tasks to stop, says what became of
/// each, and joins its threads when it is dropped. Share it by reference or in an
/// [`Arc`](std::sync::Arc).
///
/// # Drop
///
/// Stops the pool as [`DrainFor`](Shutdown::DrainFor) zero does, drops the backlog, and waits until
/// every task has ended and every thread is joined. Who holds it up for longer than
/// [`straggler_after`](PoolBuilder::straggler_after) is reported. Dropped by one of its own tasks,
/// it stops, but waits for nothing: the threads end by themselves.
///
/// # Performance
///
/// A task costs one allocation and a few locks. The queue's is shared by all workers and submits,
/// so that in a stream of empty tasks 0.2–0.6 µs go by for each; waking a worker that sleeps takes a
/// few microseconds or more. For tasks that small, `threadpool` and rusty_pool are faster when no
/// result is wanted, also than [`execute`](Pool::execute); rayon and a rusty_pool with results are not.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, Pool, Shutdown};
///
/// let pool = Pool::builder().workers(2).build(&CancelToken::new()).unwrap();
/// let jobs: Vec<_> = (0..100_u64).map(|n| pool.submit(move |_| Ok(n * n)).unwrap()).collect();
/// let sum: u64 = jobs.into_iter().map(|job| job.join().unwrap()).sum();
/// assert_eq!(sum, 328_350);
///
/// let report = pool.shutdown(Shutdown::Drain);
/// assert_eq!((report.submitted(), report.completed), (100, 100));
/// ```
#[must_use = "a pool that is dropped stops, and hands nothing back"]
pub struct Pool<E = anyhow::Error>
where
    E: Send + 'static,
{
    pub(super) shared: Arc<Shared<E>>,
    /// Ends what waits when the pool's token is cancelled.
    _hook: Registration,
    _listed: Entry,
}

impl Pool {
    /// The settings of a new pool.
    pub fn builder() -> PoolBuilder {
        PoolBuilder::new()
    }
}

impl<E: Send + 'static> Pool<E> {
    pub(super) fn new(shared: Arc<Shared<E>>) -> Self {
        // Weak, as the token that keeps the hook is in what is shared.
        let weak: Weak<Shared<E>> = Arc::downgrade(&shared);
        let hook = shared.token.hook(move || {
            if let Some(shared) = weak.upgrade() {
                shared.cancel_backlog();
            }
        });
        Self {
            _listed: list::enlist(&shared),
            shared,
            _hook: hook,
        }
    }

    /// The pool's token, a child of the one it was built with. Each task's token is a child of it.
    /// Cancelling it ends what waits, tells what runs, and refuses what comes.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{CancelToken, Pool};
    ///
    /// let service = CancelToken::new();
    /// let pool = Pool::builder().workers(0).build(&service).unwrap();
    /// let waits = pool.submit(|_| Ok(())).unwrap();
    /// pool.token().cancel_with("out of memory");
    /// assert!(waits.join().unwrap_err().is_cancelled()); // at once, and unrun
    /// assert!(pool.submit(|_| Ok(())).unwrap_err().is_cancelled());
    /// assert!(!service.is_cancelled()); // it is a child
    /// ```
    #[must_use]
    pub fn token(&self) -> &CancelToken {
        &self.shared.token
    }

    /// How many workers there are, busy, idle, starting, or about to leave after a
    /// [`resize`](Self::resize).
    #[must_use]
    pub fn workers(&self) -> usize {
        self.shared.queue.sizes().0
    }

    /// How many tasks wait for a worker.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{CancelToken, Pool};
    ///
    /// let pool = Pool::builder().workers(0).build(&CancelToken::new()).unwrap();
    /// let jobs = [1, 2].map(|n| pool.submit(move |_| Ok(n)).unwrap());
    /// assert_eq!(pool.queued(), 2);
    /// ```
    #[must_use]
    pub fn queued(&self) -> usize {
        self.shared.queue.sizes().1
    }

    /// Has a worker run `task`, which is given a token of its own. Waits for a place when the
    /// queue is full; but not when called from a task of this pool, which may be what the place
    /// waits for: then the queue grows past its bound.
    ///
    /// The order in which tasks start is that of their submission; with one worker they also end in
    /// that order. What happened before the submission happens before the task.
    ///
    /// # Errors
    ///
    /// [`SubmitError`] gives the task back: the pool has been shut down or cancelled, maybe while
    /// this waited.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{CancelToken, Pool, Shutdown};
    ///
    /// let pool = Pool::builder().workers(1).queue(1).build(&CancelToken::new()).unwrap();
    /// let (tell, told) = crossbeam_channel::unbounded();
    /// for n in 0..100 {
    ///     let tell = tell.clone();
    ///     pool.submit(move |_| Ok(tell.send(n)?)).unwrap(); // waits for a place
    /// }
    /// pool.shutdown(Shutdown::Drain);
    /// assert!(told.try_iter().eq(0..100)); // one worker: in their order
    ///
    /// let refused = pool.submit(|_| Ok(7)).unwrap_err();
    /// assert!(refused.is_closed());
    /// assert_eq!(refused.into_inner()(&CancelToken::new()).unwrap(), 7); // it comes back
    /// ```
    #[track_caller]
    pub fn submit<R: Send + 'static, F>(&self, task: F) -> Result<Job<R, E>, SubmitError<F>>
    where
        F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'static,
    {
        self.task().submit(task)
    }

    /// As [`submit`](Self::submit), but never waits.
    ///
    /// # Errors
    ///
    /// Those of `submit`, and if the queue is full.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{CancelToken, Pool};
    ///
    /// let token = CancelToken::new();
    /// let pool = Pool::builder().workers(0).queue(1).build(&token).unwrap();
    /// assert!(pool.try_submit(|_| Ok(1)).is_ok());
    /// let refused = pool.try_submit(|_| Ok(2)).unwrap_err();
    /// assert!(refused.is_full());
    /// let task = refused.into_inner();
    /// assert_eq!(task(&token).unwrap(), 2); // run it yourself
    /// token.cancel();
    /// assert!(pool.try_submit(task_again).unwrap_err().is_cancelled());
    /// # fn task_again(_: &CancelToken) -> anyhow::Result<u32> { Ok(3) }
    /// ```
    #[track_caller]
    pub fn try_submit<R: Send + 'static, F>(&self, task: F) -> Result<Job<R, E>, SubmitError<F>>
    where
        F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'static,
    {
        self.task().try_submit(task)
    }

    /// As [`submit`](Self::submit), but waits for a place until `deadline` of the pool's clock at
    /// most.
    ///
    /// # Errors
    ///
    /// Those of `submit`, and if the time is up.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, Pool};
    ///
    /// let clock = Clock::manual();
    /// let token = CancelToken::with_clock(&clock);
    /// let pool = Pool::builder().workers(0).queue(1).build(&token).unwrap();
    /// let by = clock.deadline_after(Duration::from_secs(1)).unwrap();
    /// let job = pool.submit_deadline(by, |_| Ok(1)).unwrap(); // there was a place
    /// clock.advance(Duration::from_secs(1));
    /// let late = pool.submit_deadline(by, |_| Ok(2)).unwrap_err();
    /// assert!(late.is_timeout());
    /// ```
    #[track_caller]
    pub fn submit_deadline<R: Send + 'static, F>(
        &self,
        deadline: Instant,
        task: F,
    ) -> Result<Job<R, E>, SubmitError<F>>
    where
        F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'static,
    {
        self.task().submit_deadline(deadline, task)
    }

    /// Has a worker run `task`, as [`submit`](Self::submit) does, for who does not want its result:
    /// there is no handle. What becomes of it is counted; an error is dropped, and a panic's payload.
    ///
    /// # Errors
    ///
    /// Those of `submit`.
    ///
    /// # Performance
    ///
    /// Cheaper than a submission whose handle is dropped, by a sixth for an empty task: no memory is
    /// shared with the worker after it has been handed over.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::Arc;
    /// use std::sync::atomic::{AtomicU32, Ordering};
    /// use cleanbreak::{CancelToken, Pool, Shutdown};
    ///
    /// let pool = Pool::builder().workers(2).build(&CancelToken::new()).unwrap();
    /// let done = Arc::new(AtomicU32::new(0));
    /// for n in 0..10 {
    ///     let done = done.clone();
    ///     pool.execute(move |_| {
    ///         anyhow::ensure!(n != 7, "seven");
    ///         done.fetch_add(1, Ordering::Relaxed);
    ///         Ok(())
    ///     })
    ///     .unwrap();
    /// }
    /// let report = pool.shutdown(Shutdown::Drain);
    /// assert_eq!(report.to_string(), "10 tasks: 9 completed, 1 failed");
    /// assert_eq!(done.load(Ordering::Relaxed), 9);
    /// assert!(pool.execute(|_| Ok(())).unwrap_err().is_closed());
    /// ```
    #[track_caller]
    pub fn execute<F>(&self, task: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce(&CancelToken) -> Result<(), E> + Send + 'static,
    {
        self.task().execute(task)
    }

    /// As [`execute`](Self::execute), but never waits.
    ///
    /// # Errors
    ///
    /// Those of `execute`, and if the queue is full.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{CancelToken, Pool};
    ///
    /// let token = CancelToken::new();
    /// let pool = Pool::builder().workers(0).queue(1).build(&token).unwrap();
    /// pool.try_execute(|_| Ok(())).unwrap();
    /// let refused = pool.try_execute(|_| Ok(())).unwrap_err(); // not an error to ignore
    /// assert!(refused.is_full());
    /// refused.into_inner()(&token).unwrap(); // here, instead
    /// ```
    #[track_caller]
    pub fn try_execute<F>(&self, task: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce(&CancelToken) -> Result<(), E> + Send + 'static,
    {
        self.task().try_execute(task)
    }

    /// A task with a name or a timeout, to be submitted.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, Pool};
    ///
    /// let clock = Clock::manual();
    /// let pool = Pool::builder().workers(1).build(&CancelToken::with_clock(&clock)).unwrap();
    /// let fetch = pool.task().name("fetch").timeout(Duration::from_secs(3));
    /// let job = fetch.submit(|token| { token.wait(); Ok(token.kind()) }).unwrap();
    /// clock.await_timers(1); // it has started
    /// clock.advance(Duration::from_secs(3));
    /// assert_eq!(job.join().unwrap(), Some(cleanbreak::CancelKind::DeadlineExceeded));
    /// ```
    pub fn task(&self) -> Submission<'_, E> {
        Submission {
            pool: self,
            name: None,
            timeout: None,
        }
    }

    /// Changes the number of workers: starts some now, or lets some go when they have ended the
    /// task that they run. Zero is a pause: tasks wait. Of two calls at once, either may win.
    ///
    /// # Errors
    ///
    /// If the pool has been shut down; or a thread cannot be started, in which case those that were
    /// stay.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{CancelToken, Pool, Shutdown};
    ///
    /// let pool = Pool::builder().workers(0).build(&CancelToken::new()).unwrap();
    /// let job = pool.submit(|_| Ok(7)).unwrap();
    /// assert_eq!((pool.workers(), pool.queued()), (0, 1)); // a pause
    /// pool.resize(2).unwrap();
    /// assert_eq!((job.join().unwrap(), pool.workers()), (7, 2));
    /// pool.shutdown(Shutdown::Drain);
    /// assert!(pool.resize(1).is_err());
    /// ```
    pub fn resize(&self, workers: usize) -> Result<(), ThreadError> {
        fault::pass(At::PoolShutdown);
        self.shared.resize(workers)
    }

    /// Takes no more tasks in, ends those there are as `policy` says, joins the threads, and
    /// reports what became of every task.
    ///
    /// * May be called again, by several threads at once, and with another policy each time: the
    ///   harder one acts on what is left, and each waits for the end that it asked for. All get the
    ///   same numbers if nothing is stuck.
    /// * With a deadline, it returns also when tasks are stuck; the report says which. The threads
    ///   of the others have ended, but are joined only by a later shutdown that does not find
    ///   anything stuck, or by the drop.
    /// * Without workers nobody would run a backlog: it is handed back, whatever the policy.
    /// * If the pool's token is cancelled, what waits is ended as cancelled rather than handed back.
    /// * From inside a task of this pool it does not wait, as that would be for itself: it closes
    ///   the queue, hands the backlog back if the policy is to do so now, and reports what it finds.
    ///   A deadline in the future is left to a later shutdown, or to the drop.
    ///
    /// A wait without deadline in which no task ends for
    /// [`straggler_after`](PoolBuilder::straggler_after) reports those that run.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Pool, Shutdown};
    ///
    /// let pool = Pool::builder().workers(0).build(&CancelToken::new()).unwrap();
    /// let job = pool.submit(|_| Ok("never ran in the pool")).unwrap();
    /// let report = pool.shutdown(Shutdown::DrainFor(Duration::from_secs(10)));
    /// assert_eq!((report.submitted(), report.abandoned), (1, 1));
    /// assert!(job.join().unwrap_err().is_abandoned());
    /// for task in report.backlog {
    ///     task.run(&CancelToken::new()).unwrap(); // here and now, instead
    /// }
    /// assert!(pool.submit(|_| Ok(())).unwrap_err().is_closed());
    /// ```
    #[track_caller]
    pub fn shutdown(&self, policy: Shutdown) -> Report<E> {
        fault::pass(At::PoolShutdown);
        self.shared.shutdown(policy)
    }
}

impl<E: Send + 'static> Drop for Pool<E> {
    fn drop(&mut self) {
        self.shared.stop();
    }
}

impl<E: Send + 'static> fmt::Debug for Pool<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (workers, queued) = self.shared.queue.sizes();
        f.debug_struct("Pool")
            .field("name", &self.shared.name)
            .field("workers", &workers)
            .field("queued", &queued)
            .field("cancelled", &self.token().is_cancelled())
            .finish_non_exhaustive()
    }
}
