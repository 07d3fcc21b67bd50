//! The windows beside lists in plain code.

use std::time::Duration;

use proptest::prelude::*;

use super::window::{Sample, Tally, Window};
use crate::clock::Instant;
use crate::noise::cases;

#[derive(Clone, Debug)]
enum Step {
    Call(bool, bool),
    Good(u64),
    Pass(u64),
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        8 => any::<(bool, bool)>().prop_map(|(failed, slow)| Step::Call(failed, slow)),
        4 => prop_oneof![0..12_u64, 0..=1_u64 << 40].prop_map(Step::Good),
        4 => prop_oneof![0..40_u64, 0..=u64::MAX].prop_map(Step::Pass),
        1 => Just(Step::Clear),
    ];
    prop::collection::vec(step, 0..100)
}

/// So many calls, failures and slow ones, at that time.
type Entry = (u64, [u64; 3]);

fn tally(entries: &[Entry]) -> Tally {
    let sum = |of: usize| entries.iter().map(|(_, counts)| counts[of]).sum();
    let (calls, failures, slow) = (sum(0), sum(1), sum(2));
    Tally {
        calls,
        failures,
        slow,
    }
}

/// The last so many calls.
fn keep_last(entries: &mut [Entry], most: u64) {
    let mut left = most;
    for (_, counts) in entries.iter_mut().rev() {
        // Of many in one, all are good.
        counts[0] = counts[0].min(left);
        if left == 0 {
            *counts = [0; 3];
        }
        left -= counts[0];
    }
}

fn add(entries: &mut Vec<Entry>, now: u64, step: &Step) {
    match *step {
        Step::Call(failed, slow) => entries.push((now, [1, failed.into(), slow.into()])),
        Step::Good(calls) => entries.push((now, [calls, 0, 0])),
        Step::Pass(_) => {}
        Step::Clear => entries.clear(),
    }
}

fn take(window: &mut Window, now: u64, step: &Step) {
    window.advance(Instant::from_nanos(now));
    match *step {
        Step::Call(failed, slow) => window.add(Sample { failed, slow }),
        Step::Good(calls) => window.add_good(calls),
        Step::Pass(_) => {}
        Step::Clear => window.clear(),
    }
}

proptest! {
    #![proptest_config(cases(500))]

    #[test]
    fn a_window_by_count_is_the_last_so_many_calls(length in 1..20_usize, steps in steps()) {
        let mut window = Window::count(length);
        let mut entries = Vec::new();
        prop_assert_eq!((window.length(), window.slice_end()), (length as u64, u64::MAX));
        for step in &steps {
            take(&mut window, 0, step);
            add(&mut entries, 0, step);
            keep_last(&mut entries, length as u64);
            let tally = tally(&entries);
            prop_assert_eq!(window.tally(), tally);
            let full_and_clean = tally.calls == length as u64 && tally.is_clean();
            prop_assert_eq!(window.is_settled(), full_and_clean);
            prop_assert_eq!(tally.is_clean(), tally.failures + tally.slow == 0);
        }
    }

    #[test]
    fn a_window_by_time_is_the_calls_of_the_last_ten_slices(
        length in prop_oneof![1..200_u64, Just(u64::MAX), 1..=u64::MAX], steps in steps(),
    ) {
        let mut window = Window::time(Duration::from_nanos(length));
        let width = length.div_ceil(10);
        let (mut now, mut entries) = (0_u64, Vec::new());
        for step in &steps {
            if let Step::Pass(time) = step {
                now = now.saturating_add(*time);
            }
            take(&mut window, now, step);
            add(&mut entries, now, step);
            entries.retain(|(at, _)| now / width - at / width < 10);
            prop_assert_eq!(window.tally(), tally(&entries));
            prop_assert!(!window.is_settled());
            // Until then nothing drops out.
            let end = (now / width).saturating_add(1).saturating_mul(width);
            prop_assert_eq!((window.length(), window.slice_end()), (u64::MAX, end));
        }
    }
}
