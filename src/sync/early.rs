//! A condition variable whose waits may end early, for tests: every wait of the library is one of
//! these, in a loop that looks again.

use std::time::Instant;

use parking_lot::MutexGuard;

use crate::fault::{At, wakes_early};

#[derive(Debug, Default)]
pub(crate) struct Condvar(parking_lot::Condvar);

/// Whether a wait came to its deadline.
pub(crate) struct WaitTimeoutResult(bool);

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        self.0
    }
}

impl Condvar {
    pub(crate) const fn new() -> Self {
        Self(parking_lot::Condvar::new())
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn wait<T>(&self, locked: &mut MutexGuard<'_, T>) {
        match wakes_early(At::SyncWait) {
            true => wake_early(locked),
            false => self.0.wait(locked),
        }
    }

    pub(crate) fn wait_until<T>(
        &self,
        locked: &mut MutexGuard<'_, T>,
        at: Instant,
    ) -> WaitTimeoutResult {
        if wakes_early(At::SyncWait) {
            wake_early(locked);
            return WaitTimeoutResult(false);
        }
        WaitTimeoutResult(self.0.wait_until(locked, at).timed_out())
    }
}

/// As a wait does, it lets others have the lock.
fn wake_early<T>(locked: &mut MutexGuard<'_, T>) {
    MutexGuard::unlocked(locked, std::thread::yield_now);
}
