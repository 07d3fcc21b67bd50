//! Where ticks fall: pure arithmetic.

use std::time::Duration;

use crate::clock::Instant;

/// What a ticker does about ticks that nobody took in time.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{Clock, MissedTicks, Ticker};
///
/// let ticks = |policy| -> [Vec<(u64, u64)>; 2] {
///     let clock = Clock::manual();
///     let builder = Ticker::builder(Duration::from_secs(10)).clock(&clock);
///     let ticker = builder.missed_ticks(policy).start().unwrap();
///     // At 35 and at 45, somebody looks: when were they scheduled, how many were missed before?
///     [35, 10].map(|secs| {
///         clock.advance(Duration::from_secs(secs));
///         let ticks = ticker.try_iter();
///         ticks.map(|tick| (tick.scheduled.as_nanos() / 1_000_000_000, tick.missed)).collect()
///     })
/// };
/// assert_eq!(ticks(MissedTicks::Skip), [vec![(30, 2)], vec![(40, 0)]]);
/// assert_eq!(ticks(MissedTicks::Burst), [vec![(10, 0), (20, 0), (30, 0)], vec![(40, 0)]]);
/// assert_eq!(ticks(MissedTicks::Delay), [vec![(10, 0)], vec![(40, 2)]]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MissedTicks {
    /// Keeps the latest tick only, on the grid; it says how many were missed before it. Right for
    /// almost everything: heartbeats, polls, flushes.
    #[default]
    Skip,
    /// Delivers every tick, late ones in a row, on the grid; for counting. Up to 1,024 undelivered
    /// ticks are kept, 16 bytes each; those beyond are missed, and the next that is delivered says
    /// so.
    Burst,
    /// Leaves the grid: the next tick comes a period after the last one was *sent*, and none is
    /// sent while that one has not been taken. So two sends are a full period apart; how soon a
    /// tick follows the taking of a late one is not bounded, because a channel does not tell when
    /// it was read.
    Delay,
}

/// The distance of the ticks and the policy. Copies are cheap.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grid {
    period: Duration,
    policy: MissedTicks,
}

impl Grid {
    /// `None` for a period of zero.
    pub(super) fn new(period: Duration, policy: MissedTicks) -> Option<Self> {
        (period > Duration::ZERO).then_some(Self { period, policy })
    }

    pub(super) fn period(self) -> Duration {
        self.period
    }

    pub(super) fn policy(self) -> MissedTicks {
        self.policy
    }

    /// `periods` after `at`; `None` if that never comes.
    pub(super) fn after(self, at: Instant, periods: u64) -> Option<Instant> {
        let nanos = self.period.as_nanos().checked_mul(periods.into())?;
        at.checked_add(Duration::from_nanos(u64::try_from(nanos).ok()?))
    }

    /// How many further ticks have come due by `now`, after the one at `due`.
    pub(super) fn passed(self, due: Instant, now: Instant) -> u64 {
        let late = now.duration_since(due).as_nanos();
        u64::try_from(late / self.period.as_nanos()).expect("less than the nanoseconds of a u64")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::cases;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(cases(256))]

        /// `after(due, passed)` is the last grid point that is not in the future.
        #[test]
        fn the_last_tick_passed_is_the_last_on_the_grid_not_after_now(
            due in 0..u64::MAX / 4, late in 0..u64::MAX / 4, period in 1..u64::MAX / 4,
        ) {
            let grid = Grid::new(Duration::from_nanos(period), MissedTicks::Skip).unwrap();
            let (due, now) = (Instant::from_nanos(due), Instant::from_nanos(due + late));
            let passed = grid.passed(due, now);
            prop_assert!(grid.after(due, passed).unwrap() <= now);
            prop_assert!(grid.after(due, passed + 1).is_none_or(|next| next > now));
        }
    }

    #[test]
    fn a_period_too_long_to_count_never_comes() {
        let grid = Grid::new(Duration::MAX, MissedTicks::Skip).unwrap();
        assert_eq!(grid.after(Instant::ZERO, 1), None);
        assert_eq!(grid.after(Instant::ZERO, u64::MAX), None);
        assert!(Grid::new(Duration::ZERO, MissedTicks::Skip).is_none());
    }
}
