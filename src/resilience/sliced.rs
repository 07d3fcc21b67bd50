//! Sums over a window of time that moves on slice by slice. Pure: the time is an argument.
//!
//! The window is cut into ten slices that lie on the clock's own grid. What is added falls into the
//! newest; as time moves on, the oldest drops out as a whole. So a sum covers at least nine tenths of
//! the window and at most all of it.

use std::ops::{AddAssign, SubAssign};
use std::time::Duration;

use crate::clock::Instant;

pub(crate) const SLICES: u64 = 10;

#[derive(Debug)]
pub(crate) struct Sliced<T> {
    /// Nanoseconds.
    width: u64,
    /// Number of the newest slice, from the clock's zero.
    newest: u64,
    slices: [T; SLICES as usize],
    total: T,
}

impl<T: Copy + Default + AddAssign + SubAssign> Sliced<T> {
    /// A window of this length, which is not zero.
    pub(crate) fn new(window: Duration) -> Self {
        let nanos = u64::try_from(window.as_nanos()).unwrap_or(u64::MAX);
        Self {
            width: nanos.div_ceil(SLICES).max(1),
            newest: 0,
            slices: [T::default(); SLICES as usize],
            total: T::default(),
        }
    }

    /// Moves on to `now`. A time before the newest slice, as of a thread that read the clock and
    /// came late to the lock, changes nothing.
    pub(crate) fn advance(&mut self, now: Instant) {
        let slice = now.as_nanos() / self.width;
        if slice <= self.newest {
            return;
        }
        for passed in (self.newest + 1..=slice).take(SLICES as usize) {
            self.total -= std::mem::take(&mut self.slices[(passed % SLICES) as usize]);
        }
        self.newest = slice;
    }

    /// Adds to the newest slice.
    pub(crate) fn add(&mut self, value: T) {
        self.slices[(self.newest % SLICES) as usize] += value;
        self.total += value;
    }

    pub(crate) fn total(&self) -> T {
        self.total
    }

    /// When the newest slice ends: nanoseconds from the clock's zero.
    pub(crate) fn slice_end(&self) -> u64 {
        self.newest.saturating_add(1).saturating_mul(self.width)
    }

    pub(crate) fn clear(&mut self) {
        self.slices = [T::default(); SLICES as usize];
        self.total = T::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }

    #[test]
    fn a_slice_drops_out_as_a_whole_when_the_window_has_passed_its_start() {
        let mut sliced = Sliced::<u64>::new(Duration::from_nanos(100));
        sliced.advance(at(9));
        sliced.add(1);
        sliced.advance(at(10));
        sliced.add(2);
        sliced.advance(at(99));
        assert_eq!(sliced.total(), 3);
        sliced.advance(at(100));
        assert_eq!(sliced.total(), 2);
        sliced.advance(at(110));
        assert_eq!(sliced.total(), 0);
    }

    #[test]
    fn a_long_pause_empties_it_and_a_late_reader_of_the_clock_does_not_move_it_back() {
        let mut sliced = Sliced::<u64>::new(Duration::from_nanos(100));
        sliced.add(5);
        sliced.advance(at(u64::MAX));
        assert_eq!(sliced.total(), 0);
        sliced.add(1);
        sliced.advance(at(3));
        assert_eq!(sliced.total(), 1);
        assert_eq!(sliced.slice_end(), u64::MAX);
    }

    #[test]
    fn no_window_is_too_short_or_too_long() {
        for window in [Duration::from_nanos(1), Duration::MAX] {
            let mut sliced = Sliced::<u64>::new(window);
            sliced.advance(at(u64::MAX));
            sliced.add(1);
            assert_eq!(sliced.total(), 1);
            assert_eq!(sliced.slice_end(), u64::MAX);
        }
    }
}
