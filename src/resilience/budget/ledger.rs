//! What callers and retries come to within a window: exact, and cheap for who only calls.
//!
//! # Invariants
//!
//! 1. The book changes only under the lock. Calls are counted beside it, in `counted`; who takes the
//!    lock takes them over before anything else, into the slice in which they were counted. So each
//!    call is in the book or in `counted`, and in one of them only.
//! 2. A retry is granted, and entered, under the lock: of those that come at the same time, exactly
//!    as many get through as there is room for.
//! 3. In the window, retries <= `ratio` × calls + `reserve`. Counted in millionths, so that nothing
//!    is lost in fractions.
//!
//! Lock order: this lock is taken with no other held, and none is taken under it.

use std::ops::{AddAssign, SubAssign};
use std::time::Duration;

use super::super::sliced::Sliced;
use crate::clock::Instant;
use crate::sync::{AtomicU64, Mutex, Ordering};

pub(super) const MILLION: u64 = 1_000_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Sums {
    pub(super) calls: u64,
    pub(super) retries: u64,
}

impl AddAssign for Sums {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.retries += other.retries;
    }
}

impl SubAssign for Sums {
    fn sub_assign(&mut self, other: Self) {
        self.calls -= other.calls;
        self.retries -= other.retries;
    }
}

pub(super) struct Ledger {
    /// Calls that are not in the book yet.
    counted: AtomicU64,
    /// Until when they may be counted there: where the book's newest slice ends.
    slice_end: AtomicU64,
    book: Mutex<Sliced<Sums>>,
    /// Retries for a million calls.
    ratio: u64,
    /// Retries that need no calls, in millionths.
    reserve: u64,
}

impl Ledger {
    pub(super) fn new(window: Duration, ratio: u64, reserve: u64) -> Self {
        let book = Sliced::new(window);
        Self {
            counted: AtomicU64::new(0),
            slice_end: AtomicU64::new(book.slice_end()),
            book: Mutex::new(book),
            ratio,
            reserve,
        }
    }

    /// A call is made.
    ///
    /// Both are Relaxed. The partner of the addition is the swap in `locked`: each addition comes
    /// before or after it, and the number is all that is handed over. Whoever knows that this has
    /// returned and then takes the lock finds it counted, by the order of changes of one word. If
    /// `slice_end` is out of date, the call is counted one slice too late, as if it had come then.
    #[inline]
    pub(super) fn call(&self, now: Instant) {
        if now.as_nanos() >= self.slice_end.load(Ordering::Relaxed) {
            self.locked(now, |_| {});
        }
        self.counted.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether there is room for a retry; if so, it is taken.
    pub(super) fn retry(&self, now: Instant) -> bool {
        self.locked(now, |book| {
            let granted = self.room(book.total()) > 0;
            if granted {
                book.add(Sums {
                    calls: 0,
                    retries: 1,
                });
            }
            granted
        })
    }

    /// What is in the window, and how many retries there is room for.
    pub(super) fn sums(&self, now: Instant) -> (Sums, u64) {
        self.locked(now, |book| (book.total(), self.room(book.total())))
    }

    fn room(&self, sums: Sums) -> u64 {
        let all = u128::from(sums.calls) * u128::from(self.ratio) + u128::from(self.reserve);
        let all = u64::try_from(all / u128::from(MILLION)).unwrap_or(u64::MAX);
        all.saturating_sub(sums.retries)
    }

    fn locked<R>(&self, now: Instant, act: impl FnOnce(&mut Sliced<Sums>) -> R) -> R {
        let mut book = self.book.lock();
        let calls = self.counted.swap(0, Ordering::Relaxed);
        book.add(Sums { calls, retries: 0 });
        book.advance(now);
        let result = act(&mut book);
        self.slice_end.store(book.slice_end(), Ordering::Relaxed);
        result
    }
}
