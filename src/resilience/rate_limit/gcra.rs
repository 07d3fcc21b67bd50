//! The generic cell rate algorithm, as a pure function of the time.
//!
//! A bucket is one number, the theoretical arrival time: when the bucket would be full again if
//! nothing more came. See ITU-T Recommendation I.371, annex A (virtual scheduling), and
//! <https://en.wikipedia.org/wiki/Generic_cell_rate_algorithm>.
//!
//! # Why our own
//!
//! `governor` does the same algorithm well, and is the peer in the bench. What a loop here needs
//! beside it, it does not have: a blocking wait that ends with a token (its waits are futures), our
//! manual clock (it has a clock trait of its own), a bound on the number of keys (its maps grow
//! until somebody calls `retain_recent`), and it rounds a cell's time to nanoseconds, so that three
//! a second are a little more than three. It would bring eight crates for these hundred lines.
//!
//! # Invariants
//!
//! Times are counted in nanoseconds times the quota's limit, so that a cell takes exactly `period`
//! units and nothing is rounded.
//!
//! 1. After cells were granted at a time `now`, the bucket is at most `now + burst` cells ahead. It
//!    only moves up, by one cell for each that is granted, from `now` at least. So from any moment
//!    on, for a time `t`, no more than `burst + rate·t` are granted.
//! 2. A bucket that is not ahead of `now` is full: it is as good as a new one.

use std::fmt;
use std::time::Duration;

use crate::clock::Instant;

/// So many cells in a period, and how many may come at once: what a rate limiter allows.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::resilience::Quota;
///
/// let quota = Quota::per_second(50).burst(5); // one each 20 ms, up to five at once
/// assert_eq!(quota, Quota::new(50, Duration::from_secs(1)).burst(5));
/// ```
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{Clock, Quota, RateLimiter};
///
/// let clock = Clock::manual();
/// let quota = Quota::per_minute(6);
/// assert_eq!(quota.burst_size(), 6); // as many as in a minute, if nothing else is said
/// let limiter = RateLimiter::with_clock(quota, &clock);
/// limiter.try_acquire_n(6).unwrap();
/// let refused = limiter.try_acquire().unwrap_err(); // and then one each ten seconds
/// assert_eq!(refused.retry_after(), Some(Duration::from_secs(10)));
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Quota {
    limit: u32,
    /// Nanoseconds.
    period: u64,
    burst: u32,
}

impl fmt::Display for Quota {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let period = Duration::from_nanos(self.period);
        write!(f, "{} per {period:?}, {} at once", self.limit, self.burst)
    }
}

/// A bucket: its theoretical arrival time, in units of the quota. Zero is full.
pub(super) type Bucket = u128;

impl Quota {
    /// `limit` in each second, and as many at once.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn per_second(limit: u32) -> Self {
        Self::new(limit, Duration::from_secs(1))
    }

    /// `limit` in each minute, and as many at once.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn per_minute(limit: u32) -> Self {
        Self::new(limit, Duration::from_secs(60))
    }

    /// `limit` in each `period`, and as many at once. They are spread evenly: after a burst, one
    /// comes back each `period / limit`, exactly.
    ///
    /// # Panics
    ///
    /// If one of them is zero, or the period longer than 584 years.
    #[must_use]
    pub fn new(limit: u32, period: Duration) -> Self {
        let nanos = u64::try_from(period.as_nanos()).unwrap_or(0);
        assert!(limit > 0, "the limit of a quota must not be zero");
        assert!(
            nanos > 0,
            "the period of a quota must be between 1 ns and 584 years"
        );
        Self {
            limit,
            period: nanos,
            burst: limit,
        }
    }

    /// The same rate, with up to `cells` at once.
    ///
    /// # Panics
    ///
    /// If it is zero.
    #[must_use]
    pub fn burst(mut self, cells: u32) -> Self {
        assert!(cells > 0, "the burst of a quota must not be zero");
        self.burst = cells;
        self
    }

    /// How many may come at once.
    #[must_use]
    pub fn burst_size(&self) -> u32 {
        self.burst
    }

    /// The bucket after `cost` more cells, and in how many nanoseconds from `now` they are within
    /// the quota: zero if they are now.
    pub(super) fn ask(&self, bucket: Bucket, now: Instant, cost: u32) -> (Bucket, u64) {
        let now = self.units(now);
        let next = bucket.max(now) + u128::from(cost) * u128::from(self.period);
        let full = now + u128::from(self.burst) * u128::from(self.period);
        let wait = next.saturating_sub(full).div_ceil(u128::from(self.limit));
        (next, u64::try_from(wait).unwrap_or(u64::MAX))
    }

    /// The bucket without `cost` cells that were its last.
    pub(super) fn give_back(&self, bucket: Bucket, cost: u32) -> Bucket {
        bucket.saturating_sub(u128::from(cost) * u128::from(self.period))
    }

    /// Whether the bucket is as good as a new one (2).
    pub(super) fn is_idle(&self, bucket: Bucket, now: Instant) -> bool {
        bucket <= self.units(now)
    }

    /// In how many nanoseconds an empty bucket is full.
    pub(super) fn refill(&self) -> u64 {
        let units = u128::from(self.burst) * u128::from(self.period);
        u64::try_from(units / u128::from(self.limit)).unwrap_or(u64::MAX)
    }

    fn units(&self, at: Instant) -> u128 {
        u128::from(at.as_nanos()) * u128::from(self.limit)
    }
}
