//! The ledger beside a list of all that ever happened, counted anew each time.

use std::time::Duration;

use proptest::prelude::*;

use super::ledger::{Ledger, Sums};
use crate::clock::Instant;
use crate::noise::cases;

/// What came when: a call or a retry.
type History = Vec<(u64, bool)>;

/// Calls and retries of the last ten slices, on the clock's grid.
fn count(history: &History, now: u64, window: u64) -> Sums {
    let width = window.div_ceil(10).max(1);
    let recent = |at: &u64| now / width - at / width < 10;
    let count = |of| {
        let same = history
            .iter()
            .filter(|(at, call)| recent(at) && *call == of);
        same.count() as u64
    };
    Sums {
        calls: count(true),
        retries: count(false),
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn a_retry_is_granted_if_and_only_if_the_window_has_room_for_it(
        window in prop_oneof![1..200_u64, Just(u64::MAX), 1..=u64::MAX],
        ratio in prop_oneof![0..2_000_000_u64, 0..=1_000_000_000_000_u64],
        reserve in prop_oneof![0..5_000_000_u64, Just(u64::MAX)],
        steps in prop::collection::vec((prop_oneof![0..30_u64, 0..=u64::MAX], 0..3), 0..120),
    ) {
        let ledger = Ledger::new(Duration::from_nanos(window), ratio, reserve);
        let (mut now, mut history) = (0_u64, History::new());
        for (step, kind) in steps {
            // Mostly there is no step.
            now = now.saturating_add(if kind == 2 { step } else { 0 });
            let at = Instant::from_nanos(now);
            let before = count(&history, now, window);
            let all = u128::from(before.calls) * u128::from(ratio) + u128::from(reserve);
            let room = (all / 1_000_000).saturating_sub(before.retries.into());
            match kind {
                0 => {
                    ledger.call(at);
                    history.push((now, true));
                }
                1 => {
                    prop_assert_eq!(ledger.retry(at), room > 0);
                    history.extend((room > 0).then_some((now, false)));
                }
                _ => prop_assert_eq!(ledger.sums(at), (before, room as u64)),
            }
        }
    }
}
