//! One submission: its settings, its wait for a place, and the task back if it is refused.

use std::panic::Location;
use std::time::Duration;

use super::detached::Detached;
use super::err::{SubmitError, SubmitErrorKind};
use super::handle::Pool;
use super::job::Job;
use super::packet::{Packet, Run};
use super::queue::{Label, Labelled, Refused};
use super::shared::Shared;
use crate::cancel::CancelToken;
use crate::clock::Instant;
use crate::fault::{self, At};
use crate::sync::Arc;
use crate::threads::{self, Awaits, Part};

/// A task that is about to be submitted, with settings of its own; from [`Pool::task`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock, Pool, Shutdown};
///
/// let clock = Clock::manual();
/// let token = CancelToken::with_clock(&clock);
/// let pool = Pool::builder().name("images").workers(0).queue(3).build(&token).unwrap();
/// let job = pool.task().name("scale").submit(|_| Ok("small")).unwrap();
/// pool.task().name("crop").submit_deadline(clock.now(), |_| Ok(())).unwrap();
/// pool.task().timeout(Duration::from_secs(1)).execute(|_| Ok(())).unwrap();
/// assert!(pool.task().try_submit(|_| Ok(())).unwrap_err().is_full());
/// assert!(pool.task().try_execute(|_| Ok(())).unwrap_err().is_full());
///
/// let report = pool.shutdown(Shutdown::Abandon);
/// let names: Vec<_> = report.backlog.iter().map(|task| task.name()).collect();
/// assert_eq!(names, ["scale", "crop", "images"]); // without a name it has its pool's
/// assert!(job.join().unwrap_err().is_abandoned());
/// ```
#[must_use = "nothing is submitted yet"]
#[derive(Debug)]
pub struct Submission<'pool, E: Send + 'static = anyhow::Error> {
    pub(super) pool: &'pool Pool<E>,
    pub(super) name: Option<Arc<str>>,
    pub(super) timeout: Option<Duration>,
}

/// For how long a submission waits for a place.
enum Patience {
    None,
    Until(Option<Instant>),
}

impl<E: Send + 'static> Submission<'_, E> {
    /// Names the task in thread lists and reports.
    pub fn name(mut self, name: &str) -> Self {
        self.name = Some(name.into());
        self
    }

    /// Cancels the task's token so long after it has started. The time in the queue does not count;
    /// zero means that it never runs.
    ///
    /// # Performance
    ///
    /// A lone timer starts and joins a thread;
    /// [`Clock::keep_timer`](crate::Clock::keep_timer) avoids that.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelKind, CancelToken, Clock, Pool};
    ///
    /// let clock = Clock::manual();
    /// let pool = Pool::builder().workers(1).build(&CancelToken::with_clock(&clock)).unwrap();
    /// let job = pool.task().timeout(Duration::from_secs(3)).submit(|token| Ok(token.remaining()));
    /// assert_eq!(job.unwrap().join().unwrap(), Some(Duration::from_secs(3)));
    /// let never = pool.task().timeout(Duration::ZERO).submit(|_| Ok(()));
    /// assert!(never.unwrap().join().unwrap_err().is_cancelled());
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// See [`Pool::submit`].
    ///
    /// # Errors
    ///
    /// Those of [`Pool::submit`].
    #[track_caller]
    pub fn submit<R: Send + 'static, F>(self, task: F) -> Result<Job<R, E>, SubmitError<F>>
    where
        F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'static,
    {
        self.push(task, Patience::Until(None))
    }

    /// See [`Pool::try_submit`].
    ///
    /// # Errors
    ///
    /// Those of [`Pool::try_submit`].
    #[track_caller]
    pub fn try_submit<R: Send + 'static, F>(self, task: F) -> Result<Job<R, E>, SubmitError<F>>
    where
        F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'static,
    {
        self.push(task, Patience::None)
    }

    /// See [`Pool::submit_deadline`].
    ///
    /// # Errors
    ///
    /// Those of [`Pool::submit_deadline`].
    #[track_caller]
    pub fn submit_deadline<R: Send + 'static, F>(
        self,
        deadline: Instant,
        task: F,
    ) -> Result<Job<R, E>, SubmitError<F>>
    where
        F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'static,
    {
        self.push(task, Patience::Until(Some(deadline)))
    }

    /// See [`Pool::execute`].
    ///
    /// # Errors
    ///
    /// Those of [`Pool::execute`].
    #[track_caller]
    pub fn execute<F>(self, task: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce(&CancelToken) -> Result<(), E> + Send + 'static,
    {
        self.push_detached(task, &Patience::Until(None))
    }

    /// See [`Pool::try_execute`].
    ///
    /// # Errors
    ///
    /// Those of [`Pool::try_execute`].
    #[track_caller]
    pub fn try_execute<F>(self, task: F) -> Result<(), SubmitError<F>>
    where
        F: FnOnce(&CancelToken) -> Result<(), E> + Send + 'static,
    {
        self.push_detached(task, &Patience::None)
    }

    #[track_caller]
    fn push_detached<F>(self, task: F, patience: &Patience) -> Result<(), SubmitError<F>>
    where
        F: FnOnce(&CancelToken) -> Result<(), E> + Send + 'static,
    {
        let (name, site) = (self.name, Location::caller());
        let detached = Detached::new(Label { name, site }, self.timeout, task);
        let refused = self.pool.shared.push(detached, patience);
        refused.map_err(|(kind, job)| {
            let task = job.into_any().downcast::<Detached<F>>().ok();
            let task = task.and_then(|detached| detached.take_task());
            SubmitError::new(kind, task.expect("what was refused comes back unrun"))
        })
    }

    #[track_caller]
    fn push<R: Send + 'static, F>(
        self,
        task: F,
        patience: Patience,
    ) -> Result<Job<R, E>, SubmitError<F>>
    where
        F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'static,
    {
        let shared = &self.pool.shared;
        let (name, site) = (self.name, Location::caller());
        let packet = Packet::new(Label { name, site }, self.timeout, task);
        match shared.push(packet.clone(), &patience) {
            Ok(()) => {
                let awaits = shared.place.of(shared, Part::Task(packet.key()));
                Ok(Job::new(packet, shared.token.clock().clone(), awaits))
            }
            Err((kind, _)) => {
                let task = packet.take_task().expect("a refused task has not run");
                Err(SubmitError::new(kind, task))
            }
        }
    }
}

impl<E: Send + 'static> Shared<E> {
    #[track_caller]
    fn push(
        self: &Arc<Self>,
        mut job: Arc<dyn Run<E>>,
        patience: &Patience,
    ) -> Result<(), (SubmitErrorKind, Arc<dyn Run<E>>)> {
        fault::pass(At::PoolSubmit);
        loop {
            let (inside, cancelled) = (self.serves_here(), self.token.is_cancelled());
            // Before, as a worker may be faster than this thread.
            self.facts.queued();
            let refused = match self.queue.try_push(job, inside, cancelled) {
                Ok(()) => return Ok(()),
                Err((refused, back)) => {
                    self.facts.dequeued(1);
                    job = back;
                    refused
                }
            };
            let deadline = match (refused, patience) {
                (Refused::Closed, _) => return Err((SubmitErrorKind::Closed, job)),
                (Refused::Cancelled, _) => return Err((self.cancelled(), job)),
                (Refused::Full, Patience::None) => return Err((SubmitErrorKind::Full, job)),
                (Refused::Full, Patience::Until(deadline)) => *deadline,
            };
            let awaits = match deadline {
                None => self.place.of(self, Part::Place),
                Some(_) => Awaits::default(),
            };
            let _wait = threads::awaiting("get a place in a pool", awaits);
            if !self.await_place(deadline) {
                return Err((SubmitErrorKind::Timeout, job));
            }
        }
    }

    fn cancelled(&self) -> SubmitErrorKind {
        let cancelled = self.token.cancelled();
        SubmitErrorKind::Cancelled(cancelled.expect("the queue was told by the token's hook"))
    }
}
