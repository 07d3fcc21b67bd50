//! Percentiles beside a sorted list, and the limit of concurrency under random samples.

use std::time::Duration;

use proptest::prelude::*;

use super::controller::{AdaptiveOutcome, Algorithm, Controller, Sample, Settings};
use super::latency::Latencies;
use crate::clock::Instant;
use crate::noise::cases;

fn outcome() -> impl Strategy<Value = AdaptiveOutcome> {
    use AdaptiveOutcome::{Ignored, Overloaded, Success};
    prop::sample::select(vec![Success, Success, Success, Overloaded, Ignored])
}

fn algorithm() -> impl Strategy<Value = Algorithm> {
    let gradient = (1.0..4.0, 1..10_u32).prop_map(|(tolerance, probe_every)| Algorithm::Gradient {
        tolerance,
        probe_every,
    });
    prop_oneof![Just(Algorithm::Aimd), gradient]
}

proptest! {
    #![proptest_config(cases(300))]

    #[test]
    fn a_percentile_is_a_latency_with_so_many_below_it(
        nanos in prop::collection::vec(prop_oneof![0..100_u64, any::<u64>()], 0..600),
        percentile in 0.0..=100.0,
    ) {
        let mut latencies = Latencies::new(percentile);
        let mut found = None;
        for (at, latency) in nanos.iter().enumerate() {
            latencies.record(Duration::from_nanos(*latency));
            let seen = at + 1;
            if seen >= 20 && (seen - 20).is_multiple_of(16) {
                let mut last = nanos[seen.saturating_sub(256)..seen].to_vec();
                last.sort_unstable();
                let below = |value| last.partition_point(|other| *other < value) as f64;
                let rank = percentile / 100.0 * last.len() as f64;
                let nearest = last.iter().rev().find(|value| below(**value) < rank);
                found = Some(*nearest.unwrap_or(&last[0]));
            }
            prop_assert_eq!(latencies.percentile(), found.map(Duration::from_nanos));
        }
    }

    /// Invariant 1.
    #[test]
    fn no_samples_take_the_limit_out_of_its_bounds(
        algorithm in algorithm(), min in 1..50_usize, room in 0..200_usize, initial in 0..250_usize,
        backoff in 0.01..0.99, window in 0..100_u64, samples in 1..10_u32,
        calls in prop::collection::vec(
            (any::<u16>(), prop_oneof![0..50_u64, any::<u64>()], 0..300_usize, outcome()), 0..300,
        ),
    ) {
        let max = min + room;
        let mut controller = Controller::new(Settings {
            algorithm,
            initial: initial.clamp(min, max),
            min,
            max,
            backoff,
            window: Duration::from_nanos(window),
            samples,
            overload_above: None,
        });
        let mut now = 0_u64;
        for (step, latency, in_use, outcome) in calls {
            now = now.saturating_add(step.into());
            let before = controller.limit();
            controller.sample(Sample {
                started: Instant::from_nanos(now.saturating_sub(latency)),
                now: Instant::from_nanos(now),
                in_use,
                outcome,
            });
            let limit = controller.limit();
            prop_assert!((min..=max).contains(&limit), "{}", limit);
            prop_assert!(outcome != AdaptiveOutcome::Ignored || limit == before);
        }
    }
}
