#![allow(unsafe_code)]
//! A mutex that nearly always has one user: half the price of a general one.
//!
//! Taking it is one atomic exchange, giving it back a plain store, where a general mutex needs a
//! second exchange to find out whether somebody sleeps. Nobody sleeps on this one: who finds it
//! taken and must have it tries again, at first at once, then after giving up the processor, then
//! after naps, which let a holder of any priority run.
//!
//! So what holds it must be a few instructions from its end, or have been woken to leave.

use std::thread;
use std::time::Duration;

use parking_lot::lock_api::{self, GuardNoSend, RawMutex};

use super::{AtomicBool, Backoff, Ordering};

/// See the module.
pub(crate) type BriefMutex<T> = lock_api::Mutex<RawBrief, T>;
pub(crate) type BriefMutexGuard<'a, T> = lock_api::MutexGuard<'a, RawBrief, T>;

const NAP: Duration = Duration::from_micros(50);

/// Whether it is taken.
pub(crate) struct RawBrief(AtomicBool);

// SAFETY: `try_lock` returns `true` to the one thread whose swap found `false`; only `unlock`, which
// the holder alone may call, stores `false` again. Acquire in the swap, paired with Release in the
// store: who takes it sees what the one before did while it had it.
unsafe impl RawMutex for RawBrief {
    #[allow(clippy::declare_interior_mutable_const, reason = "the trait's")]
    const INIT: Self = Self(AtomicBool::new(false));

    type GuardMarker = GuardNoSend;

    #[inline]
    fn try_lock(&self) -> bool {
        !self.0.swap(true, Ordering::Acquire)
    }

    #[cold]
    #[allow(
        clippy::disallowed_methods,
        reason = "the holder is about to leave, and needs nothing but the processor"
    )]
    fn lock(&self) {
        let mut backoff = Backoff::new();
        while !self.try_lock() {
            if !backoff.snooze() {
                // Not `park`, whose wake-up may be meant for the user's own code.
                thread::sleep(NAP);
            }
        }
    }

    #[inline]
    unsafe fn unlock(&self) {
        self.0.store(false, Ordering::Release);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_at_a_time_has_it_and_a_panic_gives_it_back() {
        let sum = BriefMutex::new(0_u64);
        thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for n in 0..10_000 {
                        // A look that takes it only if it is free, and one that must have it.
                        match sum.try_lock().filter(|_| n % 2 == 0) {
                            Some(mut guard) => *guard += 1,
                            None => *sum.lock() += 1,
                        }
                    }
                });
            }
        });
        assert_eq!(*sum.lock(), 40_000);

        for round in 1..20 {
            let mut held = sum.lock();
            assert!(sum.try_lock().is_none());
            let started = AtomicBool::new(false);
            let waits = thread::scope(|scope| {
                let waits = scope.spawn(|| {
                    started.store(true, Ordering::SeqCst);
                    *sum.lock()
                });
                while !started.load(Ordering::SeqCst) {
                    thread::yield_now();
                }
                thread::yield_now();
                *held += 1;
                drop(held);
                waits.join().unwrap()
            });
            assert_eq!(waits, 40_000 + round);
        }

        let panics = std::panic::AssertUnwindSafe(|| {
            let _held = sum.lock();
            std::panic::resume_unwind(Box::new("planted"));
        });
        assert!(std::panic::catch_unwind(panics).is_err());
        assert!(sum.try_lock().is_some());
    }
}
