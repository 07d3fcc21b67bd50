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
    /// How many advances are under way, one within the other. While it is not zero, what comes due
    /// is left to them: fired elsewhere, it would not be delivered yet when they return.
    advances: usize,
    queue: DeadlineQueue<Weak<dyn Timed>>,
}

impl ManualClock {
    pub(super) fn new() -> Self {
        let manual = Arc::new(Manual {
            state: Mutex::new(State {
                now: Instant::ZERO,
                advances: 0,
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
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock};
    ///
    /// let clock = Clock::manual();
    /// let token = CancelToken::with_clock(&clock).child_timeout(Duration::from_secs(5));
    /// let noon = clock.deadline_after(Duration::from_secs(60)).unwrap();
    /// clock.advance_to(noon);
    /// assert_eq!(clock.now(), noon);
    /// assert!(token.is_cancelled()); // was due on the way
    /// clock.advance_to(token.deadline().unwrap()); // no way back
    /// assert_eq!(clock.now(), noon);
    /// ```
    pub fn advance_to(&self, target: Instant) {
        let _one = self.manual.advancing.lock();
        self.manual.state.lock().advances += 1;
        while self.manual.fire_next(target) || !self.manual.arrive(target) {}
    }

    /// How many timers wait for a deadline.
    #[must_use]
    pub fn timers(&self) -> usize {
        self.manual.state.lock().queue.queued()
    }

    /// The next deadline, if anything waits for one.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock};
    ///
    /// let clock = Clock::manual();
    /// let root = CancelToken::with_clock(&clock);
    /// let _deadlines = [3, 1, 2].map(|secs| root.child_timeout(Duration::from_secs(secs)));
    /// assert_eq!(clock.timers(), 3);
    ///
    /// // From one deadline to the next, whatever they are.
    /// let mut steps = Vec::new();
    /// while let Some(next) = clock.next_deadline() {
    ///     clock.advance_to(next);
    ///     steps.push((next.as_nanos() / 1_000_000_000, clock.timers()));
    /// }
    /// assert_eq!(steps, [(1, 2), (2, 1), (3, 0)]);
    /// ```
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
        // The clock may have passed `at` since the caller looked; no later advance is owed. This
        // one alone: what else is due belongs to an advance that may start at any moment.
        let overdue = match at <= now && state.advances == 0 {
            true => state.queue.pop(key).and_then(Weak::upgrade),
            false => None,
        };
        drop(state);
        self.registered.notify_all();
        if let Some(timed) = overdue {
            self.fire(key, timed, at, now);
        }
        key
    }

    pub(super) fn deregister(&self, key: Key) {
        let timed = self.state.lock().queue.remove(key);
        drop(timed);
    }

    /// Ends an advance, in one step with the last look whether anything is due.
    fn arrive(&self, target: Instant) -> bool {
        let mut state = self.state.lock();
        let target = state.now.max(target);
        if state.queue.next_deadline().is_some_and(|at| at <= target) {
            return false;
        }
        state.now = target;
        state.advances -= 1;
        true
    }

    /// Fires the first that is due by `target`, or by now if that is later; `false` if there is
    /// none.
    fn fire_next(&self, target: Instant) -> bool {
        let mut state = self.state.lock();
        let target = state.now.max(target);
        let Some((key, due, timed)) = state.queue.pop_due(target) else {
            return false;
        };
        let timed = timed.upgrade();
        state.now = state.now.max(due);
        let now = state.now;
        drop(state);
        if let Some(timed) = timed {
            self.fire(key, timed, due, now);
        }
        true
    }

    fn fire(&self, key: Key, timed: Arc<dyn Timed>, due: Instant, now: Instant) {
        if let Some(next) = timed.fire(due, now) {
            self.state.lock().queue.requeue(key, next);
            self.registered.notify_all();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicUsize, Ordering};

    #[derive(Default)]
    struct Fired(AtomicUsize);

    impl Timed for Fired {
        fn fire(self: Arc<Self>, _due: Instant, _now: Instant) -> Option<Instant> {
            self.0.fetch_add(1, Ordering::SeqCst);
            None
        }
    }

    /// Who looks at the time and registers after it has moved on has missed its advance.
    #[test]
    fn what_is_overdue_when_it_is_registered_fires_there_and_what_is_not_does_not() {
        let clock = Clock::manual();
        for advances in 1..4 {
            clock.advance(Duration::from_nanos(10));
            for (at, fired) in [(0, 1), (advances * 10, 1), (advances * 10 + 1, 0)] {
                let timed = Arc::new(Fired::default());
                let weak: Weak<dyn Timed> = Arc::downgrade(&(timed.clone() as Arc<dyn Timed>));
                let timer = clock.register(Instant::from_nanos(at), weak).unwrap();
                assert_eq!(timed.0.load(Ordering::SeqCst), fired, "{at}");
                assert_eq!(clock.timers(), 1 - fired);
                drop(timer);
            }
        }
        let shown = format!("{clock:?}");
        assert!(
            shown.contains("Instant(30)") && shown.contains("timers: 0"),
            "{shown}"
        );
    }
}
