//! A pool's settings.

use std::marker::PhantomData;
use std::num::NonZeroUsize;
use std::panic::Location;
use std::time::Duration;

use super::handle::Pool;
use super::queue::Queue;
use super::report::{Stuck, Watch};
use super::shared::Shared;
use crate::cancel::CancelToken;
use crate::group::Roster;
use crate::observe::PoolFacts;
use crate::sync::{Arc, Mutex};
use crate::threads::{Place, ThreadError};

/// How many tasks may wait for a worker when nothing else is said.
const QUEUE: usize = 1024;

/// The settings of a [`Pool`]; from [`Pool::builder`].
///
/// `E` is the error of the tasks.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Pool, Shutdown};
///
/// let pool = Pool::builder()
///     .name("thumbnails")
///     .workers(4)
///     .queue(100)
///     .straggler_after(Duration::from_secs(2))
///     .errors::<std::num::ParseIntError>()
///     .build(&CancelToken::new())
///     .unwrap();
/// let parsed = pool.submit(|_| "12".parse::<u32>()).unwrap();
/// let not_a_number = pool.submit(|_| "twelve".parse::<u32>()).unwrap();
/// assert_eq!(parsed.join().unwrap(), 12);
/// assert!(not_a_number.join().unwrap_err().into_failure().is_some());
/// assert_eq!(pool.shutdown(Shutdown::Drain).to_string(), "2 tasks: 1 completed, 1 failed");
/// ```
#[must_use = "a builder does nothing until the pool is built"]
pub struct PoolBuilder<E = anyhow::Error> {
    name: Arc<str>,
    workers: usize,
    queue: usize,
    stack_size: Option<usize>,
    watch: Watch,
    errors: PhantomData<fn() -> E>,
}

impl PoolBuilder {
    /// A worker for each core, a queue of 1,024, errors of [`anyhow::Error`].
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::pool::{self, PoolBuilder};
    /// use cleanbreak::CancelToken;
    ///
    /// let pool = PoolBuilder::new().build(&CancelToken::new()).unwrap(); // as `Pool::builder()`
    /// let cores = std::thread::available_parallelism().map_or(1, |cores| cores.get());
    /// assert_eq!(pool.workers(), cores);
    /// let found = pool::live().into_iter().find(|found| found.name == "pool").unwrap();
    /// assert_eq!(found.bound, 1024);
    /// ```
    pub fn new() -> Self {
        let cores = std::thread::available_parallelism();
        Self {
            name: "pool".into(),
            workers: cores.map_or(1, NonZeroUsize::get),
            queue: QUEUE,
            stack_size: None,
            watch: Watch::default(),
            errors: PhantomData,
        }
    }
}

impl Default for PoolBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl<E: Send + 'static> PoolBuilder<E> {
    /// Names the pool, its threads, and the tasks that are submitted without a name.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// How many threads there are. Zero makes a pool that only collects tasks, until
    /// [`resize`](Pool::resize) starts some.
    pub fn workers(mut self, workers: usize) -> Self {
        self.workers = workers;
        self
    }

    /// How many tasks may wait when all workers are busy, before [`submit`](Pool::submit) waits and
    /// [`try_submit`](Pool::try_submit) refuses; 1,024 by default. Zero is a hand-over: a task is
    /// taken in only for a worker that is free.
    pub fn queue(mut self, tasks: usize) -> Self {
        self.queue = tasks;
        self
    }

    /// Stack of each worker, in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{CancelToken, Pool};
    ///
    /// let deep = Pool::builder().workers(1).stack_size(16 << 20).build(&CancelToken::new()).unwrap();
    /// let task = |_: &CancelToken| Ok(std::hint::black_box([1_u8; 4 << 20]).len());
    /// assert_eq!(deep.submit(task).unwrap().join().unwrap(), 4 << 20); // more than Rust's 2 MiB
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// For how long a shutdown, or the drop, sees no task end before it reports those that run; 5
    /// seconds by default, by the pool's clock. It reports again after twice that, and so on. Also
    /// how long [`Shutdown::DrainFor`](super::Shutdown::DrainFor) waits after it has cancelled.
    pub fn straggler_after(mut self, patience: Duration) -> Self {
        self.watch.after = patience;
        self
    }

    /// Is told of tasks that hold a shutdown up, instead of standard error. Runs on the thread that
    /// shuts down; a panic in it is contained.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, Pool, Shutdown};
    /// use crossbeam_channel::bounded;
    ///
    /// let ((started, is_started), (release, held)) = (bounded(0), bounded(1));
    /// let (tell, told) = bounded(1);
    /// let pool = Pool::builder()
    ///     .workers(1)
    ///     .straggler_after(Duration::ZERO)
    ///     .on_straggler(move |stuck| {
    ///         tell.send(stuck[0].name.clone()).unwrap();
    ///         release.send(()).unwrap(); // or page somebody
    ///     })
    ///     .build(&CancelToken::with_clock(&Clock::manual()))
    ///     .unwrap();
    /// let import = pool.task().name("import");
    /// import.execute(move |_| { started.send(())?; Ok(held.recv()?) }).unwrap(); // deaf to its token
    /// is_started.recv().unwrap();
    /// assert!(pool.shutdown(Shutdown::Drain).all_completed());
    /// assert_eq!(told.recv().unwrap(), "import");
    /// ```
    pub fn on_straggler(mut self, report: impl Fn(&[Stuck]) + Send + Sync + 'static) -> Self {
        self.watch.report = Arc::new(report);
        self
    }

    /// Gives the tasks an error type of your own.
    pub fn errors<E2>(self) -> PoolBuilder<E2> {
        let Self {
            name,
            workers,
            queue,
            stack_size,
            watch,
            errors: _,
        } = self;
        PoolBuilder {
            name,
            workers,
            queue,
            stack_size,
            watch,
            errors: PhantomData,
        }
    }

    /// Starts the workers. The pool's token is a child of `token`, whose clock it goes by.
    ///
    /// # Errors
    ///
    /// If a thread cannot be started; those that were are joined.
    #[track_caller]
    pub fn build(self, token: &CancelToken) -> Result<Pool<E>, ThreadError> {
        let shared = Arc::new(Shared {
            facts: PoolFacts::new(&self.name),
            name: self.name,
            site: Location::caller(),
            stack_size: self.stack_size,
            watch: self.watch,
            token: token.child(),
            queue: Queue::new(self.queue),
            roster: Roster::default(),
            joining: Mutex::new(()),
            place: Place::default(),
        });
        // If this fails, the pool's drop joins what there is.
        let pool = Pool::new(shared);
        pool.resize(self.workers)?;
        Ok(pool)
    }
}

/// By hand: the tasks' error need not be it.
impl<E> Clone for PoolBuilder<E> {
    fn clone(&self) -> Self {
        Self {
            name: self.name.clone(),
            workers: self.workers,
            queue: self.queue,
            stack_size: self.stack_size,
            watch: self.watch.clone(),
            errors: PhantomData,
        }
    }
}

impl<E> std::fmt::Debug for PoolBuilder<E> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("PoolBuilder")
            .field("name", &self.name)
            .field("workers", &self.workers)
            .field("queue", &self.queue)
            .finish_non_exhaustive()
    }
}
