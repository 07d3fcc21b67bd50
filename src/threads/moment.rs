//! When a wait began: for people, so as cheap as can be rather than as exact.
//!
//! With the feature `diagnose` on Linux this is the kernel's coarse clock, which the kernel moves on
//! at its timer ticks (1 to 10 ms) and which costs a fifth of an [`Instant`]. Else it is `Instant`.

use std::sync::LazyLock;
use std::time::{Duration, Instant};

/// Nanoseconds since some moment of the past, the same for the whole process.
#[derive(Clone, Copy, Debug)]
pub(super) struct Moment(u64);

/// Twice the same moment.
static START: LazyLock<(Instant, Moment)> = LazyLock::new(start);

#[allow(
    clippy::disallowed_methods,
    reason = "below the clock; these times are for people"
)]
pub(super) fn now() -> Instant {
    Instant::now()
}

impl Moment {
    pub(super) const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    pub(super) const fn to_bits(self) -> u64 {
        self.0
    }

    /// Within the precision of the coarse clock; never after the present.
    pub(super) fn to_instant(self) -> Instant {
        let (instant, moment) = *START;
        let then = match self.0.checked_sub(moment.0) {
            Some(after) => instant.checked_add(Duration::from_nanos(after)),
            None => instant.checked_sub(Duration::from_nanos(moment.0 - self.0)),
        };
        then.unwrap_or(instant)
    }
}

#[cfg(all(feature = "diagnose", target_os = "linux"))]
mod source {
    use super::{Instant, Moment, now};
    use rustix::time::{ClockId, clock_gettime};

    /// No time at all on a clock that the kernel keeps.
    fn read(clock: ClockId) -> Moment {
        let time = clock_gettime(clock);
        let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
        Moment(seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0))
    }

    impl Moment {
        #[inline]
        pub(in crate::threads) fn now() -> Self {
            read(ClockId::MonotonicCoarse)
        }
    }

    /// Of the exact clock: the coarse one is behind it, so none of its moments is too late.
    pub(super) fn start() -> (Instant, Moment) {
        let moment = read(ClockId::Monotonic);
        (now(), moment)
    }
}

#[cfg(not(all(feature = "diagnose", target_os = "linux")))]
mod source {
    use super::{Instant, Moment, START, now};

    impl Moment {
        #[inline]
        pub(in crate::threads) fn now() -> Self {
            let since = now().saturating_duration_since(START.0);
            Moment(u64::try_from(since.as_nanos()).unwrap_or(u64::MAX))
        }
    }

    pub(super) fn start() -> (Instant, Moment) {
        (now(), Moment(0))
    }
}

use source::start;
