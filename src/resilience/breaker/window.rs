//! What the last calls came to: by count, or by time. Pure.

use std::ops::{AddAssign, SubAssign};
use std::time::Duration;

use super::super::sliced::Sliced;
use crate::clock::Instant;

/// One call that counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) failed: bool,
    pub(super) slow: bool,
}

/// How many calls, and how many of them were bad in which way.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Tally {
    pub(super) calls: u64,
    pub(super) failures: u64,
    pub(super) slow: u64,
}

impl Tally {
    const fn good(calls: u64) -> Self {
        Self {
            calls,
            failures: 0,
            slow: 0,
        }
    }

    /// Neither failures nor slow calls.
    pub(super) fn is_clean(&self) -> bool {
        self.failures == 0 && self.slow == 0
    }
}

impl From<Sample> for Tally {
    fn from(sample: Sample) -> Self {
        Self {
            calls: 1,
            failures: sample.failed.into(),
            slow: sample.slow.into(),
        }
    }
}

impl AddAssign for Tally {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.failures += other.failures;
        self.slow += other.slow;
    }
}

impl SubAssign for Tally {
    fn sub_assign(&mut self, other: Self) {
        self.calls -= other.calls;
        self.failures -= other.failures;
        self.slow -= other.slow;
    }
}

#[allow(clippy::large_enum_variant, reason = "there is one for each breaker")]
#[derive(Debug)]
pub(super) enum Window {
    Count(Ring),
    Time(Sliced<Tally>),
}

impl Window {
    /// The last `calls` calls; at least one.
    pub(super) fn count(calls: usize) -> Self {
        Self::Count(Ring::new(calls))
    }

    /// The calls of the last `length`, in tenths; not zero.
    pub(super) fn time(length: Duration) -> Self {
        Self::Time(Sliced::new(length))
    }

    pub(super) fn advance(&mut self, now: Instant) {
        if let Self::Time(sliced) = self {
            sliced.advance(now);
        }
    }

    pub(super) fn add(&mut self, sample: Sample) {
        match self {
            Self::Count(ring) => ring.push(sample),
            Self::Time(sliced) => sliced.add(sample.into()),
        }
    }

    pub(super) fn add_good(&mut self, calls: u64) {
        match self {
            Self::Count(ring) => ring.push_good(calls),
            Self::Time(sliced) => sliced.add(Tally::good(calls)),
        }
    }

    pub(super) fn tally(&self) -> Tally {
        match self {
            Self::Count(ring) => ring.tally,
            Self::Time(sliced) => sliced.total(),
        }
    }

    /// Whether one more good call would leave it as it is.
    pub(super) fn is_settled(&self) -> bool {
        match self {
            Self::Count(ring) => ring.is_full() && ring.tally.is_clean(),
            Self::Time(_) => false,
        }
    }

    /// In calls.
    pub(super) fn length(&self) -> u64 {
        match self {
            Self::Count(ring) => ring.samples.len() as u64,
            Self::Time(_) => u64::MAX,
        }
    }

    /// Until when what is added stays together: nanoseconds from the clock's zero.
    pub(super) fn slice_end(&self) -> u64 {
        match self {
            Self::Count(_) => u64::MAX,
            Self::Time(sliced) => sliced.slice_end(),
        }
    }

    pub(super) fn clear(&mut self) {
        match self {
            Self::Count(ring) => ring.clear(),
            Self::Time(sliced) => sliced.clear(),
        }
    }
}

/// The last so many samples. Good ones until there are as many: `tally.calls` says how many of them
/// are real.
#[derive(Debug)]
pub(super) struct Ring {
    samples: Box<[Sample]>,
    /// Where the next goes: onto the oldest.
    next: usize,
    tally: Tally,
}

const GOOD: Sample = Sample {
    failed: false,
    slow: false,
};

impl Ring {
    fn new(calls: usize) -> Self {
        Self {
            samples: vec![GOOD; calls].into(),
            next: 0,
            tally: Tally::default(),
        }
    }

    fn is_full(&self) -> bool {
        self.tally.calls == self.samples.len() as u64
    }

    /// What is not real yet is good, so that taking it out changes nothing.
    fn push(&mut self, sample: Sample) {
        let oldest = std::mem::replace(&mut self.samples[self.next], sample);
        self.tally += sample.into();
        self.take_out(oldest);
        self.move_on(1);
    }

    fn push_good(&mut self, calls: u64) {
        let mut left = calls.min(self.samples.len() as u64) as usize;
        self.tally.calls += left as u64;
        while left > 0 {
            let to_the_end = self.samples.len() - self.next;
            let now = left.min(to_the_end);
            for place in self.next..self.next + now {
                let oldest = std::mem::replace(&mut self.samples[place], GOOD);
                self.take_out(oldest);
            }
            self.move_on(now);
            left -= now;
        }
    }

    fn take_out(&mut self, oldest: Sample) {
        self.tally.failures -= u64::from(oldest.failed);
        self.tally.slow -= u64::from(oldest.slow);
    }

    /// `places` do not go past the end.
    fn move_on(&mut self, places: usize) {
        self.next += places;
        if self.next == self.samples.len() {
            self.next = 0;
        }
        self.tally.calls = self.tally.calls.min(self.samples.len() as u64);
    }

    fn clear(&mut self) {
        self.samples.fill(GOOD);
        self.tally = Tally::default();
    }
}
