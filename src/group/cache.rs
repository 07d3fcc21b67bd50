//! Warm threads that outlive a group.

use std::collections::VecDeque;
use std::fmt;
use std::panic::Location;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::lender::Roster;
use super::queue::{Lender, look_a_while};
use crate::fault::{self, At};
use crate::sync::{Arc, Condvar, Mutex};
use crate::threads::{self, Origin, Spec, Task, ThreadError};

const NAME: &str = "cleanbreak cached";

type Server = Box<dyn FnOnce() + Send>;

/// A server, and how many threads its group has been lent. (Under the cache's lock, so Relaxed.)
struct Loan {
    server: Server,
    lent: Arc<AtomicUsize>,
}

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
/// assert_eq!(cache.idle(), cache.threads()); // all of them are back
/// ```
pub struct ThreadCache {
    shared: Arc<Shared>,
}

pub(super) struct Shared {
    site: &'static Location<'static>,
    /// Of who made the cache, and not of the group that happens to need a thread.
    origin: Origin,
    roster: Roster,
    state: Mutex<State>,
    work: Condvar,
    /// Signalled when a group has given back all that it was lent.
    returned: Condvar,
}

/// A loan goes to an idle thread, of which there is one for each: `loans.len() <= idle` whenever
/// the lock is free. Or it goes to a new thread, which brings it along. So loans never wait for
/// each other.
#[derive(Default)]
struct State {
    loans: VecDeque<Loan>,
    /// Includes those that were woken for a loan and have not taken it yet.
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
            origin: Origin::here(),
            roster: Roster::default(),
            state: Mutex::default(),
            work: Condvar::new(),
            returned: Condvar::new(),
        });
        Self { shared }
    }

    /// How many threads it has, idle or lent.
    #[must_use]
    pub fn threads(&self) -> usize {
        self.shared.state.lock().threads
    }

    /// How many of its threads are idle. When a scope returns, all that it was lent are.
    #[must_use]
    pub fn idle(&self) -> usize {
        self.shared.state.lock().idle
    }

    /// Makes a lender for each scope that is run.
    pub(super) fn lenders(&self) -> Arc<dyn Fn() -> Box<dyn Lender> + Send + Sync> {
        let shared = self.shared.clone();
        Arc::new(move || CachedThreads::lender(&shared))
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
        self.shared.roster.close();
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

/// What one scope is lent.
struct CachedThreads {
    cache: Arc<Shared>,
    lent: Arc<AtomicUsize>,
}

impl CachedThreads {
    fn lender(cache: &Arc<Shared>) -> Box<dyn Lender> {
        let (cache, lent) = (cache.clone(), Arc::default());
        Box::new(Self { cache, lent })
    }
}

impl Lender for CachedThreads {
    fn lend(&self, _task: &Task, server: Server) -> Result<(), ThreadError> {
        let lent = self.lent.clone();
        Shared::lend(&self.cache, Loan { server, lent })
    }

    /// The threads are the cache's. But they are on their way back when the last task has ended,
    /// and a next group would find none idle and start more of them each time.
    fn join_all(&self) {
        let mut state = self.cache.state.lock();
        while self.lent.load(Ordering::Relaxed) > 0 {
            self.cache.returned.wait(&mut state);
        }
    }
}

impl Shared {
    fn lend(shared: &Arc<Self>, loan: Loan) -> Result<(), ThreadError> {
        fault::pass(At::GroupLend);
        let mut state = shared.state.lock();
        let lent = loan.lent.clone();
        lent.fetch_add(1, Ordering::Relaxed);
        if state.loans.len() < state.idle {
            state.loans.push_back(loan);
            drop(state);
            shared.work.notify_one();
            return Ok(());
        }
        state.threads += 1;
        drop(state);
        let serving = shared.clone();
        let spec = Spec::new(NAME, shared.site);
        let _inside = shared.origin.enter();
        let started = shared.roster.start(spec, move || serving.serve(loan));
        if started.is_err() {
            let mut state = shared.state.lock();
            state.threads -= 1;
            lent.fetch_sub(1, Ordering::Relaxed);
        }
        started
    }

    /// The loop of a thread that was started for a loan.
    fn serve(&self, first: Loan) {
        let mut next = Some(first);
        let mut state = self.state.lock();
        'serve: loop {
            while let Some(loan) = next.take().or_else(|| state.loans.pop_front()) {
                drop(state);
                (loan.server)();
                state = self.state.lock();
                // Idle from here on: the lock is held until it waits or takes the next.
                if loan.lent.fetch_sub(1, Ordering::Relaxed) == 1 {
                    self.returned.notify_all();
                }
            }
            if state.closed {
                break 'serve;
            }
            let _wait = threads::waiting_on("be lent to a group");
            state.idle += 1;
            let called = |state: &State| !state.loans.is_empty() || state.closed;
            state = look_a_while(&self.state, state, called);
            if !called(&state) {
                self.work.wait(&mut state);
            }
            state.idle -= 1;
        }
        state.threads -= 1;
    }
}
