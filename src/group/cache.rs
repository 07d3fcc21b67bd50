//! Warm threads that outlive a group.

use std::collections::VecDeque;
use std::fmt;
use std::panic::Location;

use super::lender::Roster;
use super::queue::Lender;
use crate::sync::{Arc, Condvar, Mutex};
use crate::threads::{self, Spec, Task, ThreadError};

const NAME: &str = "cleanbreak cached";

type Server = Box<dyn FnOnce() + Send>;

/// Threads kept warm for groups, because creating one is most of what a short task costs.
///
/// It starts threads as groups need them and keeps them, idle, until it is dropped, which joins
/// them all: there is no hidden pool behind it. Many groups may share one. A task on a warm thread
/// finds thread-locals as the task before it left them.
///
/// # Performance
///
/// Lending a warm thread costs a wake-up, a few microseconds, instead of the 30–100 µs of creating
/// and joining one.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, GroupBuilder, ThreadCache};
///
/// let cache = ThreadCache::new();
/// let token = CancelToken::new();
/// for round in 0..3 {
///     let squares = GroupBuilder::new()
///         .cache(&cache)
///         .all(&token, (0..4).map(|n| move |_: &CancelToken| Ok(n * n + round)));
///     assert_eq!(squares.unwrap(), [round, 1 + round, 4 + round, 9 + round]);
/// }
/// assert!(cache.threads() <= 4); // the first round's
/// ```
pub struct ThreadCache {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    site: &'static Location<'static>,
    roster: Roster,
    state: Mutex<State>,
    work: Condvar,
}

#[derive(Default)]
struct State {
    servers: VecDeque<Server>,
    starting: usize,
    idle: usize,
    threads: usize,
    closed: bool,
}

impl ThreadCache {
    /// An empty cache.
    #[track_caller]
    #[must_use]
    pub fn new() -> Self {
        let shared = Arc::new(Shared {
            site: Location::caller(),
            roster: Roster::default(),
            state: Mutex::default(),
            work: Condvar::new(),
        });
        Self { shared }
    }

    /// How many threads it has, idle or lent.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.shared.state.lock().threads
    }

    /// How many of its threads are idle.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.shared.state.lock().idle
    }

    /// Makes a lender for each scope that is run.
    pub(super) fn lenders(&self) -> Arc<dyn Fn() -> Box<dyn Lender> + Send + Sync> {
        let shared = self.shared.clone();
        Arc::new(move || Box::new(CachedThreads(shared.clone())))
    }
}

impl Default for ThreadCache {
    #[track_caller]
    fn default() -> Self {
        Self::new()
    }
}

/// Joins every thread. Waits for tasks that still run on them.
impl Drop for ThreadCache {
    fn drop(&mut self) {
        self.shared.state.lock().closed = true;
        self.shared.work.notify_all();
        self.shared.roster.join_all();
    }
}

impl fmt::Debug for ThreadCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.shared.state.lock();
        f.debug_struct("ThreadCache")
            .field("threads", &state.threads)
            .field("idle", &state.idle)
            .finish()
    }
}

struct CachedThreads(Arc<Shared>);

impl Lender for CachedThreads {
    fn lend(&self, _task: &Task, server: Server) -> Result<(), ThreadError> {
        Shared::lend(&self.0, server)
    }

    /// The threads are the cache's.
    fn join_all(&self) {}
}

impl Shared {
    fn lend(shared: &Arc<Self>, server: Server) -> Result<(), ThreadError> {
        let mut state = shared.state.lock();
        let served = state.servers.len() < state.idle + state.starting;
        if !served {
            if state.closed {
                return Err(ThreadError::refused(
                    NAME,
                    "the thread cache has been dropped",
                ));
            }
            state.starting += 1;
            state.threads += 1;
            drop(state);
            let spec = Spec::new(NAME, shared.site);
            let serving = shared.clone();
            let started = shared.roster.start(spec, move || serving.serve());
            state = shared.state.lock();
            if let Err(error) = started {
                state.starting -= 1;
                state.threads -= 1;
                return Err(error);
            }
        }
        state.servers.push_back(server);
        drop(state);
        shared.work.notify_one();
        Ok(())
    }

    fn serve(&self) {
        let mut state = self.state.lock();
        state.starting -= 1;
        'serve: loop {
            while let Some(server) = state.servers.pop_front() {
                drop(state);
                server();
                state = self.state.lock();
            }
            if state.closed {
                break 'serve;
            }
            let _wait = threads::waiting_on("be lent to a group");
            state.idle += 1;
            self.work.wait(&mut state);
            state.idle -= 1;
        }
        state.threads -= 1;
    }
}
