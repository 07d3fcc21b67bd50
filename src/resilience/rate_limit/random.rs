//! The algorithm beside a bucket of tokens in plain arithmetic, up to the ends of all ranges.

use std::time::Duration;

use proptest::prelude::*;

use super::gcra::Quota;
use crate::clock::Instant;
use crate::noise::cases;

/// A bucket that holds `burst` tokens and gets `limit` in a period. A token is `period` units, so
/// that a nanosecond brings `limit` of them.
struct Tokens {
    limit: u128,
    period: u128,
    capacity: u128,
    level: u128,
    at: u64,
}

impl Tokens {
    /// Whether there are so many, after when; if there are not, in how many nanoseconds there will be.
    fn wait(&mut self, now: u64, cost: u32) -> u128 {
        let new = u128::from(now - self.at) * self.limit;
        self.level = (self.level + new).min(self.capacity);
        self.at = now;
        let missing = (u128::from(cost) * self.period).saturating_sub(self.level);
        missing.div_ceil(self.limit)
    }

    fn take(&mut self, cost: u32) {
        self.level -= u128::from(cost) * self.period;
    }
}

fn edges() -> impl Strategy<Value = u32> {
    prop_oneof![1..=8_u32, Just(u32::MAX), 1..=u32::MAX]
}

/// Limit, period and burst.
fn quotas() -> impl Strategy<Value = (u32, u64, u32)> {
    let period = prop_oneof![
        1..=20_u64,
        Just(1_000_000_000),
        Just(u64::MAX),
        1..=u64::MAX
    ];
    (edges(), period, edges())
}

/// Steps in time, and costs.
fn calls() -> impl Strategy<Value = Vec<(u64, u32)>> {
    let step = prop_oneof![0..=4_u64, 0..=2_000_000_000_u64, 0..=u64::MAX];
    prop::collection::vec((step, edges()), 1..60)
}

proptest! {
    #![proptest_config(cases(1_000))]

    #[test]
    fn it_grants_what_a_bucket_of_tokens_grants((limit, period, burst) in quotas(), calls in calls()) {
        let quota = Quota::new(limit, Duration::from_nanos(period)).burst(burst);
        let (limit, period) = (u128::from(limit), u128::from(period));
        let capacity = u128::from(burst) * period;
        let mut tokens = Tokens { limit, period, capacity, level: capacity, at: 0 };
        let (mut bucket, mut now) = (0, 0_u64);
        for (step, cost) in calls {
            now = now.saturating_add(step);
            let at = Instant::from_nanos(now);
            let expected = u64::try_from(tokens.wait(now, cost)).unwrap_or(u64::MAX);
            let (next, wait) = quota.ask(bucket, at, cost);
            prop_assert_eq!(wait, expected, "at {}", now);
            prop_assert_eq!(quota.is_idle(bucket, at), tokens.level == capacity);
            if wait == 0 {
                tokens.take(cost);
                // Taken and given back: as if nothing had been. (What had been idle is, again.)
                let back = quota.give_back(next, cost);
                prop_assert_eq!(back.max(bucket), back);
                prop_assert_eq!(quota.ask(back, at, cost).0, next);
                bucket = next;
            } else if wait < u64::MAX - now && cost <= burst {
                // Then, and not a nanosecond before. More than the burst never comes.
                prop_assert_eq!(quota.ask(bucket, Instant::from_nanos(now + wait), cost).1, 0);
                prop_assert_eq!(quota.ask(bucket, Instant::from_nanos(now + wait - 1), cost).1, 1);
            }
        }
    }

    #[test]
    fn an_empty_bucket_is_full_after_its_refill_and_not_before((limit, period, burst) in quotas()) {
        let quota = Quota::new(limit, Duration::from_nanos(period)).burst(burst);
        let (empty, _) = quota.ask(0, Instant::ZERO, burst);
        let refill = quota.refill();
        prop_assert!(refill == u64::MAX || quota.is_idle(empty, Instant::from_nanos(refill + 1)));
        prop_assert!(refill == 0 || !quota.is_idle(empty, Instant::from_nanos(refill - 1)));
    }
}
