//! The clock that a test moves by hand.

use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use super::queue::{DeadlineQueue, Key};
use super::{Clock, Instant, Source, Timed};
use crate::sync::{Arc, Condvar, Mutex, Weak};

/// A clock that stands still until it is advanced; see [`Clock::manual`].
///
/// It dereferences to the [`Clock`] that tokens and tickers take. Clones are the same clock.
///
/// # Examples
///
/// A thread that sleeps on a manual clock, without a sleep in the test:
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock};
///
/// let clock = Clock::manual();
/// let token = CancelToken::with_clock(&clock);
/// std::thread::scope(|s| {
///     let sleeper = s.spawn(|| token.sleep(Duration::from_secs(3600)));
///     clock.await_timers(1); // it sleeps now
///     clock.advance(Duration::from_secs(3600));
///     assert!(sleeper.join().unwrap().is_ok());
/// });
/// ```
#[derive(Clone)]
pub struct ManualClock {
    clock: Clock,
    manual: Arc<Manual>,
}

pub(super) struct Manual {
    state: Mutex<State>,
    /// Signalled when something is registered.
    registered: Condvar,
    /// One thread advances at a time, so that each returns only when all that was due has been
    /// delivered; what fires may advance again from within.
    advancing: parking_lot::ReentrantMutex<()>,
}

struct State {
    now: Instant,
    queue: DeadlineQueue<Weak<dyn Timed>>,
}

impl ManualClock {
    pub(super) fn new() -> Self {
        let manual = Arc::new(Manual {
            state: Mutex::new(State {
                now: Instant::ZERO,
                queue: DeadlineQueue::new(),
            }),
            registered: Condvar::new(),
            advancing: parking_lot::ReentrantMutex::new(()),
        });
        let clock = Clock(Source::Manual(manual.clone()));
        Self { clock, manual }
    }

    /// Moves the time on by `duration` and fires what is due on the way, on this thread, in the
    /// order (deadline, registration). While something fires, the time is its deadline.
    ///
    /// Returns when all of it has been delivered: tokens are cancelled with their hooks run, ticks
    /// are in their channels, sleepers have been woken (that they have *run* since is not
    /// promised). Concurrent calls queue up.
    ///
    /// Time stops at the last instant that can be counted, 584 years after the start.
    pub fn advance(&self, duration: Duration) {
        let _one = self.manual.advancing.lock();
        let target = self.now().checked_add(duration);
        self.advance_to(target.unwrap_or(Instant::from_nanos(u64::MAX)));
    }

    /// Moves the time on to `target`, as [`advance`](Self::advance) does. A time in the past
    /// changes nothing.
    pub fn advance_to(&self, target: Instant) {
        let _one = self.manual.advancing.lock();
        while self.manual.fire_next(target) {}
        let mut state = self.manual.state.lock();
        state.now = state.now.max(target);
    }

    /// How many timers wait for a deadline.
    #[must_use]
    pub fn timers(&self) -> usize {
        self.manual.state.lock().queue.queued()
    }

    /// The next deadline, if anything waits for one.
    #[must_use]
    pub fn next_deadline(&self) -> Option<Instant> {
        self.manual.state.lock().queue.next_deadline()
    }

    /// Blocks until at least `count` timers wait for a deadline: the way to know that another
    /// thread sleeps on this clock.
    pub fn await_timers(&self, count: usize) {
        let mut state = self.manual.state.lock();
        while state.queue.queued() < count {
            self.manual.registered.wait(&mut state);
        }
    }
}

// A panic never leaves one half changed: no code of the user runs under a lock of ours.
impl std::panic::UnwindSafe for ManualClock {}
impl std::panic::RefUnwindSafe for ManualClock {}

impl Deref for ManualClock {
    type Target = Clock;

    fn deref(&self) -> &Clock {
        &self.clock
    }
}

impl fmt::Debug for ManualClock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.manual.state.lock();
        f.debug_struct("ManualClock")
            .field("now", &state.now)
            .field("timers", &state.queue.queued())
            .finish()
    }
}

impl Manual {
    pub(super) fn now(&self) -> Instant {
        self.state.lock().now
    }

    pub(super) fn register(&self, at: Instant, timed: Weak<dyn Timed>) -> Key {
        let mut state = self.state.lock();
        let key = state.queue.insert(at, timed);
        let now = state.now;
        drop(state);
        self.registered.notify_all();
        // The clock may have passed `at` since the caller looked; no later advance is owed.
        if at <= now {
            while self.fire_next(now) {}
        }
        key
    }

    pub(super) fn deregister(&self, key: Key) {
        let timed = self.state.lock().queue.remove(key);
        drop(timed);
    }

    /// Fires the first that is due by `target`; `false` if there is none.
    fn fire_next(&self, target: Instant) -> bool {
        let mut state = self.state.lock();
        let Some((key, due, timed)) = state.queue.pop_due(target) else {
            return false;
        };
        let timed = timed.upgrade();
        state.now = state.now.max(due);
        let now = state.now;
        drop(state);
        let next = timed.and_then(|timed| timed.fire(due, now));
        if let Some(next) = next {
            self.state.lock().queue.requeue(key, next);
            self.registered.notify_all();
        }
        true
    }
}
