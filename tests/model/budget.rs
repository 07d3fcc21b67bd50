//! The ledger of a retry budget under the model checker: every call is counted once, and no retry is
//! granted that is not there.

#[path = "../../src/resilience/budget/ledger.rs"]
mod ledger;

use std::time::Duration;

use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use loom::thread;

use crate::clock::Instant;
use crate::sync::Arc;
use ledger::{Ledger, MILLION};

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn check(preemptions: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(scenario);
}

/// One retry for two calls, in slices of ten.
fn ledger() -> Arc<Ledger> {
    Arc::new(Ledger::new(Duration::from_nanos(100), MILLION / 2, 0))
}

#[test]
fn of_three_that_race_for_one_retry_one_gets_it() {
    check(3, || {
        let ledger = ledger();
        (0..2).for_each(|_| ledger.call(at(0)));
        let granted = Arc::new(AtomicUsize::new(0));
        let others = [(); 2].map(|()| {
            let (ledger, granted) = (ledger.clone(), granted.clone());
            thread::spawn(move || granted.fetch_add(ledger.retry(at(1)).into(), SeqCst))
        });
        granted.fetch_add(ledger.retry(at(1)).into(), SeqCst);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(granted.load(SeqCst), 1);
    });
}

#[test]
fn a_call_that_races_with_a_retry_is_counted_once_and_grants_once() {
    check(4, || {
        let ledger = ledger();
        ledger.call(at(0));
        let theirs = ledger.clone();
        let other = thread::spawn(move || theirs.call(at(1)));
        let first = ledger.retry(at(1));
        other.join().unwrap();
        let second = ledger.retry(at(1));
        assert!(first ^ second, "{first} {second}");
        let (sums, room) = ledger.sums(at(1));
        assert_eq!((sums.calls, sums.retries, room), (2, 1, 0));
    });
}

#[test]
fn calls_over_the_end_of_a_slice_add_up() {
    check(3, || {
        let ledger = ledger();
        let others = [9, 10].map(|now| {
            let ledger = ledger.clone();
            thread::spawn(move || ledger.call(at(now)))
        });
        ledger.call(at(10));
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(ledger.sums(at(10)).0.calls, 3);
        // The last of them is out with the slice that it may be in at the latest.
        assert_eq!(ledger.sums(at(110)).0.calls, 0);
    });
}

/// Two that ask and take in two steps.
#[test]
#[should_panic(expected = "more than there was")]
fn the_checker_finds_a_retry_that_is_granted_twice() {
    check(3, || {
        let (room, granted) = (Arc::new(AtomicU64::new(1)), Arc::new(AtomicUsize::new(0)));
        let theirs = (room.clone(), granted.clone());
        let take = |room: &AtomicU64, granted: &AtomicUsize| {
            if room.load(SeqCst) > 0 {
                room.store(0, SeqCst);
                granted.fetch_add(1, SeqCst);
            }
        };
        let other = thread::spawn(move || take(&theirs.0, &theirs.1));
        take(&room, &granted);
        other.join().unwrap();
        assert!(granted.load(SeqCst) <= 1, "more than there was");
    });
}
