//! The system's clock and its timer thread.

use std::time::Duration;

use super::queue::{DeadlineQueue, Key};
use super::{Instant, Timed};
use crate::fault::{Late, Leap};
use crate::observe;
use crate::sync::{Arc, Condvar, Mutex, Weak};
use crate::threads::{self, Handle, Origin, Spec, ThreadError};

/// Time since `zero`, and the thread that tells who is due.
pub(super) struct System {
    name: &'static str,
    /// Of who made the clock, and not of whoever needs its first timer.
    origin: Origin,
    zero: std::time::Instant,
    leap: Leap,
    state: Mutex<State>,
    /// Signalled when the thread would sleep too long or should stop.
    changed: Condvar,
}

struct State {
    queue: DeadlineQueue<Waiting>,
    leases: usize,
    thread: Option<Handle>,
    /// A thread serves while this is the number it was started with.
    generation: u64,
    /// What the thread of the present generation does. One that is on its way out while the next
    /// serves already does not write here.
    sleep: Sleep,
}

/// Who is told when it is time.
struct Waiting {
    timed: Weak<dyn Timed>,
    late: Late,
}

/// What the timer thread is doing, so that registering wakes it only when it must.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Sleep {
    Awake,
    Until(Instant),
    ForEver,
}

impl System {
    #[allow(clippy::disallowed_methods, reason = "the clock reads the time")]
    pub(super) fn new(name: &'static str, origin: Origin) -> Arc<Self> {
        Arc::new(Self {
            name,
            origin,
            zero: std::time::Instant::now(),
            leap: Leap::new(),
            state: Mutex::new(State {
                queue: DeadlineQueue::new(),
                leases: 0,
                thread: None,
                generation: 0,
                sleep: Sleep::Awake,
            }),
            changed: Condvar::new(),
        })
    }

    pub(super) fn now(&self) -> Instant {
        let since = self.zero.elapsed().saturating_add(self.leap.ahead());
        Instant::from_nanos(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
    }

    pub(super) fn instant_at(&self, at: std::time::Instant) -> Instant {
        let since = at.saturating_duration_since(self.zero);
        let since = since.saturating_add(self.leap.ahead());
        Instant::ZERO
            .checked_add(since)
            .unwrap_or(Instant::from_nanos(u64::MAX))
    }

    pub(super) fn to_std(&self, at: Instant) -> Option<std::time::Instant> {
        let since = Duration::from_nanos(at.as_nanos()).saturating_sub(self.leap.ahead());
        self.zero.checked_add(since)
    }

    pub(super) fn thread_runs(&self) -> bool {
        self.state.lock().thread.is_some()
    }

    pub(super) fn register(
        self: &Arc<Self>,
        at: Instant,
        timed: Weak<dyn Timed>,
    ) -> Result<Key, ThreadError> {
        let mut state = self.state.lock();
        self.ensure_thread(&mut state)?;
        let late = Late::here();
        let key = state.queue.insert(at, Waiting { timed, late });
        let oversleeps = match state.sleep {
            Sleep::Awake => false,
            Sleep::Until(wake) => at < wake,
            Sleep::ForEver => true,
        };
        if oversleeps {
            // Until it has looked, whoever comes next need not wake it again.
            state.sleep = Sleep::Awake;
            self.changed.notify_all();
        }
        Ok(key)
    }

    pub(super) fn deregister(&self, key: Key) {
        let mut state = self.state.lock();
        let timed = state.queue.remove(key);
        let stopped = self.stop_if_unused(&mut state);
        drop(state);
        drop(timed);
        if let Some(thread) = stopped {
            thread.join();
        }
    }

    pub(super) fn take_lease(self: &Arc<Self>) -> Result<(), ThreadError> {
        let mut state = self.state.lock();
        self.ensure_thread(&mut state)?;
        state.leases += 1;
        Ok(())
    }

    pub(super) fn return_lease(&self) {
        let mut state = self.state.lock();
        state.leases -= 1;
        let stopped = self.stop_if_unused(&mut state);
        drop(state);
        if let Some(thread) = stopped {
            thread.join();
        }
    }

    fn ensure_thread(self: &Arc<Self>, state: &mut State) -> Result<(), ThreadError> {
        if state.thread.is_some() {
            return Ok(());
        }
        let generation = state.generation;
        let system = self.clone();
        let spec = Spec::new(self.name, std::panic::Location::caller());
        let _inside = self.origin.enter();
        state.thread = Some(threads::spawn(spec, move || system.serve(generation))?);
        state.sleep = Sleep::Awake;
        Ok(())
    }

    /// Tells the thread to stop when nothing needs it, and returns it if the caller may join it.
    fn stop_if_unused(&self, state: &mut State) -> Option<Handle> {
        if state.queue.registered() > 0 || state.leases > 0 {
            return None;
        }
        let thread = state.thread.take()?;
        state.generation += 1;
        self.changed.notify_all();
        // Any other thread may join it (invariant 4 of the module). It does not join itself: it
        // sees the new generation and ends when it next takes the lock.
        (!thread.is_current()).then_some(thread)
    }

    fn serve(&self, generation: u64) {
        let mut state = self.state.lock();
        while state.generation == generation {
            let now = self.now();
            let Some((key, due, waiting)) = state.queue.pop_due(now) else {
                self.sleep(&mut state, generation);
                continue;
            };
            if let Some(delay) = waiting.late.put_off(due.as_nanos()) {
                let later = now.checked_add(delay).unwrap_or(now);
                state.queue.requeue(key, later);
                continue;
            }
            let due = Instant::from_nanos(waiting.late.since(due.as_nanos()));
            let Some(timed) = waiting.timed.upgrade() else {
                continue;
            };
            drop(state);
            observe::timer_late(|| now.duration_since(due));
            // Also drops `timed`, maybe the last reference, outside the lock.
            let next = timed.fire(due, now);
            state = self.state.lock();
            if let Some(next) = next {
                state.queue.requeue(key, next);
            }
        }
    }

    fn sleep(&self, state: &mut parking_lot::MutexGuard<'_, State>, generation: u64) {
        self.leap.pass();
        let next = state.queue.next_deadline();
        state.sleep = next.map_or(Sleep::ForEver, Sleep::Until);
        let _wait = threads::waiting_on("reach the next deadline");
        match next.and_then(|at| self.to_std(at)) {
            Some(at) => drop(self.changed.wait_until(state, at)),
            None => self.changed.wait(state),
        }
        // If another thread serves by now it may be asleep, and who registers must wake it.
        if state.generation == generation {
            state.sleep = Sleep::Awake;
        }
    }
}
