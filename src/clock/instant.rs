//! A point in time of a clock.

use std::time::Duration;

/// A point in time of one [`Clock`](super::Clock): nanoseconds since that clock's own zero.
///
/// It is not [`std::time::Instant`], because a manual clock never reads the system's time and
/// could not make one. Compare and subtract instants of one clock only: those of two clocks have
/// nothing to do with each other, and nothing stops you.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::Clock;
/// use cleanbreak::clock::Instant;
///
/// let clock = Clock::manual();
/// let start = clock.now();
/// clock.advance(Duration::from_millis(3));
/// assert_eq!(clock.now().duration_since(start), Duration::from_millis(3));
/// assert_eq!(start.duration_since(clock.now()), Duration::ZERO);
/// assert_eq!(start.checked_add(Duration::from_millis(3)), Some(clock.now()));
/// assert_eq!(start.checked_add(Duration::MAX), None); // never
///
/// // As a number, to keep in an atomic or a file's header.
/// assert_eq!(clock.now().as_nanos(), 3_000_000);
/// assert_eq!(Instant::from_nanos(3_000_000), clock.now());
/// assert_eq!(Instant::ZERO, start); // a manual clock starts at its zero
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Instant(u64);

impl Instant {
    /// The clock's zero.
    pub const ZERO: Self = Self(0);

    /// The point `nanos` nanoseconds after the clock's zero.
    #[must_use]
    pub const fn from_nanos(nanos: u64) -> Self {
        Self(nanos)
    }

    /// Nanoseconds since the clock's zero; room for 584 years.
    #[must_use]
    pub const fn as_nanos(self) -> u64 {
        self.0
    }

    /// This much later, or `None` where that is past what can be counted: "never".
    #[must_use]
    pub fn checked_add(self, duration: Duration) -> Option<Self> {
        let nanos = u64::try_from(duration.as_nanos()).ok()?;
        self.0.checked_add(nanos).map(Self)
    }

    /// The time since `earlier`, or zero if that is later.
    #[must_use]
    pub fn duration_since(self, earlier: Self) -> Duration {
        Duration::from_nanos(self.0.saturating_sub(earlier.0))
    }
}
