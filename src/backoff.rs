//! Floor 0: how long to wait before trying again. Pure arithmetic: nothing here waits.
//!
//! A [`Backoff`] is a rule; its [`delays`](Backoff::delays) are the waits that come of it, one after
//! the other, without end. How often to try, and for how long in all, is decided by who uses it.
//!
//! # What is promised
//!
//! * No delay is longer than [`max`](Backoff::max), whatever the factor, the number of the attempt
//!   or the jitter; nothing overflows or panics, for [`Duration::MAX`] neither.
//! * With a seed, the same rule gives the same delays, on every machine.
//! * The delays differ by their jitter only: without it, a rule is a table.

use std::fmt;
use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use crate::sync::Arc;

/// What grows no further by default.
const MAX: Duration = Duration::from_secs(60);

/// The shortest time between two reports of what is late.
pub(crate) const SHORTEST_PATIENCE: Duration = Duration::from_millis(1);

/// The patience until the next report of something that has been late for `overdue`: doubled, and
/// past the present, so that a clock that leaps, or a patience of zero, leads to no burst of reports.
pub(crate) fn more_patience(mut patience: Duration, overdue: Duration) -> Duration {
    while patience <= overdue && patience < Duration::MAX {
        patience = patience.saturating_mul(2).max(SHORTEST_PATIENCE);
    }
    patience
}

/// How the delays are spread, so that those who failed together do not all come back together.
///
/// The names and the rules are those of Marc Brooker's *Exponential Backoff And Jitter* (AWS
/// Architecture Blog, 2015).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::backoff::{Backoff, Jitter};
///
/// let second = Duration::from_secs(1);
/// let spread = |jitter| Backoff::constant(second).jitter(jitter).delays_seeded(7).take(1000);
/// assert!(spread(Jitter::None).all(|delay| delay == second));
/// assert!(spread(Jitter::Full).all(|delay| delay <= second));
/// assert!(spread(Jitter::Full).any(|delay| delay < second / 10)); // nearly at once
/// assert!(spread(Jitter::Equal).all(|delay| second / 2 <= delay && delay <= second));
/// assert!(spread(Jitter::Decorrelated).all(|delay| delay >= second));
/// assert!(spread(Jitter::Decorrelated).any(|delay| delay > 3 * second)); // it grows by itself
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Jitter {
    /// The delay itself.
    None,
    /// Anything from zero to the delay: spreads best, and may try again at once.
    #[default]
    Full,
    /// Half the delay, and anything up to the other half.
    Equal,
    /// Anything from the first delay to three times the one before: grows by itself, so of the rule
    /// only the first delay and the longest count.
    Decorrelated,
}

/// A rule for the delays between attempts. Cheap to clone.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::backoff::{Backoff, Jitter};
///
/// let millis = |backoff: Backoff| -> Vec<_> {
///     let delays = backoff.jitter(Jitter::None).max(Duration::from_millis(500)).delays();
///     delays.take(5).map(|delay| delay.as_millis()).collect()
/// };
/// let first = Duration::from_millis(100);
/// assert_eq!(millis(Backoff::constant(first)), [100, 100, 100, 100, 100]);
/// assert_eq!(millis(Backoff::exponential(first)), [100, 200, 400, 500, 500]);
/// assert_eq!(millis(Backoff::exponential(first).factor(1.5)), [100, 150, 225, 337, 500]);
/// assert_eq!(millis(Backoff::fibonacci(first)), [100, 100, 200, 300, 500]);
/// assert_eq!(millis(Backoff::custom(|n| Duration::from_millis(n.into()))), [0, 1, 2, 3, 4]);
///
/// // With jitter, a seed makes a test repeatable.
/// let spread = Backoff::exponential(first);
/// let (a, b) = (spread.delays_seeded(7), spread.delays_seeded(7));
/// assert!(a.zip(b).take(100).all(|(a, b)| a == b && a <= Duration::from_secs(60)));
/// ```
#[derive(Clone)]
pub struct Backoff {
    curve: Curve,
    max: Duration,
    jitter: Jitter,
}

#[derive(Clone)]
enum Curve {
    Constant(Duration),
    Exponential { first: Duration, factor: f64 },
    Fibonacci(Duration),
    Custom(Arc<dyn Fn(u32) -> Duration + Send + Sync>),
}

impl Backoff {
    /// The same delay each time. No jitter unless it is asked for.
    #[must_use]
    pub fn constant(delay: Duration) -> Self {
        Self {
            curve: Curve::Constant(delay),
            max: Duration::MAX,
            jitter: Jitter::None,
        }
    }

    /// `first`, then twice as long each time, up to a minute, with [`Jitter::Full`].
    #[must_use]
    pub fn exponential(first: Duration) -> Self {
        Self::growing(Curve::Exponential { first, factor: 2.0 })
    }

    /// `first`, `first`, then the sum of the two before, up to a minute, with [`Jitter::Full`]:
    /// grows by 1.6 and starts more gently.
    #[must_use]
    pub fn fibonacci(first: Duration) -> Self {
        Self::growing(Curve::Fibonacci(first))
    }

    /// Whatever `delay` says for the attempt of this number, from 0; up to a minute, and with no
    /// jitter unless it is asked for. It is called where the delay is needed, and a panic in it
    /// goes to who asked.
    #[must_use]
    pub fn custom(delay: impl Fn(u32) -> Duration + Send + Sync + 'static) -> Self {
        Self {
            jitter: Jitter::None,
            ..Self::growing(Curve::Custom(Arc::new(delay)))
        }
    }

    fn growing(curve: Curve) -> Self {
        Self {
            curve,
            max: MAX,
            jitter: Jitter::Full,
        }
    }

    /// By how much an [`exponential`](Self::exponential) one grows; for the others it says nothing.
    ///
    /// # Panics
    ///
    /// If it is less than 1, infinite, or not a number.
    #[must_use]
    pub fn factor(mut self, by: f64) -> Self {
        assert!(
            by >= 1.0 && by.is_finite(),
            "a backoff must grow by a finite factor of at least 1, not {by}"
        );
        if let Curve::Exponential { factor, .. } = &mut self.curve {
            *factor = by;
        }
        self
    }

    /// The longest delay.
    #[must_use]
    pub fn max(mut self, max: Duration) -> Self {
        self.max = max;
        self
    }

    /// How to spread the delays.
    #[must_use]
    pub fn jitter(mut self, jitter: Jitter) -> Self {
        self.jitter = jitter;
        self
    }

    /// The delays, spread in another way each time.
    pub fn delays(&self) -> Delays {
        // The one source of randomness in the standard library.
        self.delays_seeded(RandomState::new().build_hasher().finish())
    }

    /// The delays as `seed` spreads them.
    pub fn delays_seeded(&self, seed: u64) -> Delays {
        Delays {
            rule: self.clone(),
            attempt: 0,
            before: (Duration::ZERO, Duration::ZERO),
            random: SplitMix64(seed),
        }
    }

    /// Before jitter. `before` is the last delay and, for Fibonacci, the one before that.
    fn plain(&self, attempt: u32, before: (Duration, Duration)) -> Duration {
        let delay = match &self.curve {
            Curve::Constant(delay) => *delay,
            Curve::Exponential { first, factor } => grown(*first, *factor, attempt),
            Curve::Fibonacci(first) if attempt < 2 => *first,
            Curve::Fibonacci(_) => before.0.saturating_add(before.1),
            Curve::Custom(delay) => delay(attempt),
        };
        delay.min(self.max)
    }

    fn first(&self) -> Duration {
        self.plain(0, (Duration::ZERO, Duration::ZERO))
    }
}

/// `first` × `factor`^`attempt`; what is too long to count is the longest there is.
fn grown(first: Duration, factor: f64, attempt: u32) -> Duration {
    let times = factor.powi(i32::try_from(attempt).unwrap_or(i32::MAX));
    let secs = first.as_secs_f64() * times;
    // Zero times infinity is not a number: nothing grows from zero.
    match secs.is_nan() {
        true => Duration::ZERO,
        false => Duration::try_from_secs_f64(secs).unwrap_or(Duration::MAX),
    }
}

impl fmt::Debug for Backoff {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let curve = match &self.curve {
            Curve::Constant(delay) => format!("constant {delay:?}"),
            Curve::Exponential { first, factor } => format!("{first:?} × {factor}^n"),
            Curve::Fibonacci(first) => format!("fibonacci {first:?}"),
            Curve::Custom(_) => "custom".to_owned(),
        };
        f.debug_struct("Backoff")
            .field("curve", &format_args!("{curve}"))
            .field("max", &self.max)
            .field("jitter", &self.jitter)
            .finish()
    }
}

/// One delay after the other; never ends. From [`Backoff::delays`].
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::backoff::{Backoff, Jitter};
///
/// let rule = Backoff::exponential(Duration::from_secs(1)).jitter(Jitter::None);
/// let mut delays = rule.delays();
/// assert_eq!(delays.next_delay(), Duration::from_secs(1));
/// assert_eq!(delays.next(), Some(Duration::from_secs(2))); // the same, as an iterator
/// assert_eq!(delays.attempt(), 2);
/// delays.reset(); // it went well for a while
/// assert_eq!(delays.attempt(), 0);
/// assert_eq!(delays.next_delay(), Duration::from_secs(1));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a delay is not waited for by itself"]
pub struct Delays {
    rule: Backoff,
    attempt: u32,
    /// The last delay and the one before it; for decorrelated jitter, as they were spread.
    before: (Duration, Duration),
    random: SplitMix64,
}

impl Delays {
    /// Starts over with the first delay; for when things went well for a while. The randomness goes
    /// on.
    pub fn reset(&mut self) {
        self.attempt = 0;
        self.before = (Duration::ZERO, Duration::ZERO);
    }

    /// How many have been given since the start, or the last [`reset`](Self::reset).
    #[must_use]
    pub fn attempt(&self) -> u32 {
        self.attempt
    }

    /// The next one. [`Iterator::next`] is this, and never `None`.
    pub fn next_delay(&mut self) -> Duration {
        let plain = self.rule.plain(self.attempt, self.before);
        let delay = match self.rule.jitter {
            Jitter::None => plain,
            Jitter::Full => self.random.between(Duration::ZERO, plain),
            Jitter::Equal => self.random.between(plain / 2, plain),
            Jitter::Decorrelated => self.decorrelated(),
        };
        let grows = match self.rule.jitter {
            Jitter::Decorrelated => delay,
            _ => plain,
        };
        self.before = (grows, self.before.0);
        self.attempt = self.attempt.saturating_add(1);
        delay
    }

    fn decorrelated(&mut self) -> Duration {
        let first = self.rule.first();
        let last = self.before.0.max(first);
        let delay = self.random.between(first, last.saturating_mul(3));
        delay.min(self.rule.max)
    }
}

impl Iterator for Delays {
    type Item = Duration;

    fn next(&mut self) -> Option<Duration> {
        Some(self.next_delay())
    }
}

/// Sebastiano Vigna's SplitMix64: enough to spread delays, and five lines instead of a dependency.
#[derive(Clone, Debug)]
struct SplitMix64(u64);

impl SplitMix64 {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// From `low` to `high`, both included; to the nanosecond below 584 years.
    fn between(&mut self, low: Duration, high: Duration) -> Duration {
        let span = high.saturating_sub(low).as_nanos();
        let span = u64::try_from(span).unwrap_or(u64::MAX);
        // Multiply and shift (Lemire); the bias is below 2^-64 of the span.
        let within = (u128::from(self.next()) * (u128::from(span) + 1)) >> 64;
        low.saturating_add(Duration::from_nanos(within as u64))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::cases;
    use proptest::prelude::*;

    fn jitter() -> impl Strategy<Value = Jitter> {
        use Jitter::{Decorrelated, Equal, Full, None};
        prop::sample::select(vec![None, Full, Equal, Decorrelated])
    }

    fn curve() -> impl Strategy<Value = Backoff> {
        let first = prop_oneof![
            Just(Duration::ZERO),
            Just(Duration::MAX),
            any::<u64>().prop_map(Duration::from_nanos)
        ];
        (first, 0..3, 1.0..1e9).prop_map(|(first, kind, factor)| match kind {
            0 => Backoff::constant(first),
            1 => Backoff::exponential(first).factor(factor),
            _ => Backoff::fibonacci(first),
        })
    }

    proptest! {
        #![proptest_config(cases(256))]

        #[test]
        fn no_delay_is_longer_than_the_longest_and_a_seed_repeats_them(
            rule in curve(), jitter in jitter(), max in any::<u64>(), seed in any::<u64>(),
        ) {
            let max = Duration::from_nanos(max);
            let rule = rule.jitter(jitter).max(max);
            let delays: Vec<_> = rule.delays_seeded(seed).take(200).collect();
            prop_assert!(delays.iter().all(|delay| *delay <= max));
            let again: Vec<_> = rule.delays_seeded(seed).take(200).collect();
            prop_assert_eq!(delays, again);
        }

        #[test]
        fn jitter_stays_within_its_range(nanos in 1..u64::MAX / 8, seed in any::<u64>()) {
            let first = Duration::from_nanos(nanos);
            let rule = Backoff::constant(first);
            let mut full = rule.clone().jitter(Jitter::Full).delays_seeded(seed);
            let mut equal = rule.clone().jitter(Jitter::Equal).delays_seeded(seed);
            let mut last = first;
            let mut free = rule.jitter(Jitter::Decorrelated).delays_seeded(seed);
            for _ in 0..20 {
                prop_assert!(full.next_delay() <= first);
                let half = equal.next_delay();
                prop_assert!(first / 2 <= half && half <= first);
                let next = free.next_delay();
                prop_assert!(first <= next && next <= last.saturating_mul(3));
                last = next;
            }
        }
    }

    #[test]
    fn full_jitter_reaches_both_ends_of_its_range() {
        let rule = Backoff::constant(Duration::from_nanos(3)).jitter(Jitter::Full);
        let mut seen: Vec<_> = rule.delays_seeded(1).take(200).collect();
        seen.sort();
        seen.dedup();
        assert_eq!(seen, [0, 1, 2, 3].map(Duration::from_nanos));
    }

    #[test]
    fn nothing_overflows_after_millions_of_attempts() {
        let mut delays = Backoff::exponential(Duration::from_secs(1)).max(Duration::MAX);
        delays = delays.jitter(Jitter::None);
        let mut delays = delays.delays_seeded(0);
        delays.attempt = u32::MAX;
        assert_eq!(delays.next_delay(), Duration::MAX);
        assert_eq!(delays.next_delay(), Duration::MAX);
        let mut none = Backoff::exponential(Duration::ZERO).delays_seeded(0);
        none.attempt = u32::MAX;
        assert_eq!(none.next_delay(), Duration::ZERO);
    }

    #[test]
    fn patience_doubles_past_the_present() {
        let more = |patience, overdue| {
            more_patience(Duration::from_secs(patience), Duration::from_secs(overdue)).as_secs()
        };
        assert_eq!((more(5, 5), more(5, 100), more(5, 4)), (10, 160, 5));
        assert_eq!(
            more_patience(Duration::ZERO, Duration::ZERO),
            SHORTEST_PATIENCE
        );
        let never = more_patience(Duration::ZERO, Duration::MAX);
        assert_eq!(never, Duration::MAX);
    }

    #[test]
    fn a_reset_starts_over() {
        let rule = Backoff::fibonacci(Duration::from_secs(1)).jitter(Jitter::None);
        let mut delays = rule.delays();
        assert_eq!(delays.by_ref().nth(5), Some(Duration::from_secs(8)));
        assert_eq!(delays.attempt(), 6);
        delays.reset();
        assert_eq!(delays.next(), Some(Duration::from_secs(1)));
    }

    #[test]
    #[should_panic(expected = "at least 1, not 0.5")]
    fn a_factor_that_shrinks_is_refused() {
        drop(Backoff::exponential(Duration::from_secs(1)).factor(0.5));
    }

    #[test]
    fn two_iterators_without_a_seed_differ() {
        let rule = Backoff::exponential(Duration::from_secs(1));
        let (a, b) = (rule.delays(), rule.delays());
        assert!(a.zip(b).take(50).any(|(a, b)| a != b));
    }
}
