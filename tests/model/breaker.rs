//! The cell of a breaker under the model checker: probes are exactly so many, nothing that goes past
//! the lock is lost or comes too late, and what comes back from an earlier generation does nothing.
//!
//! The last part is the counter-proof: the same steps with a planted fault, in which the checker must
//! find it.

#[path = "../../src/resilience/breaker/cell.rs"]
mod cell;
#[path = "../../src/resilience/breaker/machine.rs"]
mod machine;
#[path = "../../src/resilience/breaker/state.rs"]
mod state;
#[path = "../../src/resilience/breaker/window.rs"]
mod window;

use std::time::Duration;

use loom::sync::atomic::{AtomicU64, AtomicUsize, Ordering::SeqCst};
use loom::thread;

use crate::clock::Instant;
use crate::sync::{Arc, Mutex};
use cell::{Cell, Look, Passed};
use machine::{Admission, Machine, Rules};
use state::{Snapshot, State};
use window::{Sample, Window};

const GOOD: Sample = Sample {
    failed: false,
    slow: false,
};
const BAD: Sample = Sample {
    failed: true,
    slow: false,
};

/// OPEN for ten, HALF_OPEN for ten at the most.
const TEN: Duration = Duration::from_nanos(10);

fn at(nanos: u64) -> Instant {
    Instant::from_nanos(nanos)
}

fn check(preemptions: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(scenario);
}

fn cell(consecutive: u64, window: Window, probes: u32, successes: u32) -> Arc<Cell<()>> {
    let rules = Rules {
        consecutive: Some(consecutive),
        failure_rate: None,
        slow_rate: None,
        minimum_calls: 1,
        probes,
        successes,
        probe_wait: TEN,
    };
    Arc::new(Cell::new(Machine::new(rules, window, TEN, at(0)), ()))
}

/// As `Shared::admit`, without the bell.
fn admit(cell: &Cell<()>, now: Instant) -> Option<u32> {
    match cell.look() {
        Look::Granted(generation) => Some(generation),
        Look::Open { until, .. } if now.as_nanos() < until => None,
        Look::ForcedOpen => None,
        Look::Open { .. } | Look::HalfOpen => match cell.admit(now).0 {
            Admission::Granted(generation) => Some(generation),
            Admission::Refused(..) => None,
        },
    }
}

/// As `Shared::end`.
fn end(cell: &Cell<()>, generation: u32, sample: Option<Sample>, now: Instant) {
    let passed = match sample == Some(GOOD) {
        true => cell.pass(generation, Some(now)),
        false => Passed::Ask,
    };
    if passed == Passed::Ask && cell.is_current(generation) {
        cell.report(generation, sample, now);
    }
}

fn snapshot(cell: &Cell<()>, now: Instant) -> Snapshot {
    cell.with(|machine, ()| machine.snapshot(now, 0))
}

/// OPEN until ten.
fn opened(probes: u32, successes: u32) -> Arc<Cell<()>> {
    let cell = cell(1, Window::count(2), probes, successes);
    end(&cell, 0, Some(BAD), at(0));
    assert_eq!(snapshot(&cell, at(0)).state, State::Open);
    cell
}

fn race(cell: &Arc<Cell<()>>, act: impl Fn(&Cell<()>) + Send + Sync + Clone + 'static) {
    let theirs = (cell.clone(), act.clone());
    let other = thread::spawn(move || (theirs.1)(&theirs.0));
    act(cell);
    other.join().unwrap();
}

#[test]
fn of_three_that_race_exactly_so_many_are_probes() {
    for probes in [1, 2] {
        check(3, move || {
            let cell = opened(probes, 1);
            let admitted = Arc::new(AtomicUsize::new(0));
            let others: Vec<_> = (0..2)
                .map(|_| {
                    let (cell, admitted) = (cell.clone(), admitted.clone());
                    thread::spawn(move || {
                        if admit(&cell, at(10)).is_some() {
                            admitted.fetch_add(1, SeqCst);
                        }
                    })
                })
                .collect();
            if admit(&cell, at(10)).is_some() {
                admitted.fetch_add(1, SeqCst);
            }
            for other in others {
                other.join().unwrap();
            }
            assert_eq!(admitted.load(SeqCst), probes as usize);
            let all = snapshot(&cell, at(10));
            assert_eq!((all.state, all.probes_running), (State::HalfOpen, probes));
        });
    }
}

#[test]
fn a_place_that_comes_back_is_given_out_once() {
    check(3, || {
        let cell = opened(1, 1);
        let inside = Arc::new(AtomicUsize::new(0));
        let first = admit(&cell, at(10)).unwrap();
        inside.fetch_add(1, SeqCst);
        let others = [(); 2].map(|()| {
            let (cell, inside) = (cell.clone(), inside.clone());
            thread::spawn(move || {
                let admitted = admit(&cell, at(11)).is_some();
                if admitted {
                    assert_eq!(inside.fetch_add(1, SeqCst), 0, "two at a time");
                }
                admitted
            })
        });
        inside.fetch_sub(1, SeqCst);
        end(&cell, first, None, at(11));
        let admitted = others.map(|other| other.join().unwrap());
        let running = admitted.iter().filter(|admitted| **admitted).count();
        assert!(running <= 1);
        assert_eq!(snapshot(&cell, at(11)).probes_running as usize, running);
        // Nobody holds it: the next one gets it.
        assert_eq!(admit(&cell, at(11)).is_some(), running == 0);
    });
}

#[test]
fn two_probes_that_end_at_the_same_time_close_it_once() {
    check(3, || {
        let cell = opened(2, 2);
        let generation = admit(&cell, at(10)).unwrap();
        assert_eq!(admit(&cell, at(10)), Some(generation));
        race(&cell, move |cell| end(cell, generation, Some(GOOD), at(11)));
        let all = snapshot(&cell, at(11));
        assert_eq!((all.state, all.generation), (State::Closed, generation + 1));
        assert_eq!(all.counts.calls, 0);
    });
}

#[test]
fn a_hung_probe_that_comes_back_while_others_look_counts_or_is_too_late() {
    check(3, || {
        let cell = opened(1, 1);
        let hung = admit(&cell, at(10)).unwrap();
        let late = cell.clone();
        let other = thread::spawn(move || end(&late, hung, Some(GOOD), at(20)));
        let admitted = admit(&cell, at(20));
        other.join().unwrap();
        let all = snapshot(&cell, at(20));
        match admitted {
            Some(_) => assert_eq!((all.state, all.generation), (State::Closed, hung + 1)),
            None => assert_eq!((all.state, all.generation), (State::Open, hung + 1)),
        }
    });
}

#[test]
fn a_late_success_from_when_it_was_closed_is_no_probe() {
    check(3, || {
        let cell = cell(1, Window::count(2), 1, 1);
        let late = admit(&cell, at(0)).unwrap();
        let other = {
            let cell = cell.clone();
            thread::spawn(move || end(&cell, late, Some(GOOD), at(9)))
        };
        let failing = admit(&cell, at(0)).unwrap();
        end(&cell, failing, Some(BAD), at(0));
        let probe = admit(&cell, at(10));
        other.join().unwrap();
        let all = snapshot(&cell, at(10));
        assert_eq!((all.state, all.probes_running), (State::HalfOpen, 1));
        assert_eq!(Some(all.generation), probe);
    });
}

/// Success and failure at once: counted both, in an order that explains the state.
#[test]
fn a_success_past_the_lock_comes_before_or_after_a_failure_and_is_not_lost() {
    check(4, || {
        let cell = cell(2, Window::time(Duration::from_nanos(100)), 1, 1);
        end(&cell, 0, Some(BAD), at(0));
        let theirs = cell.clone();
        let good = thread::spawn(move || {
            end(&theirs, 0, Some(GOOD), at(1));
            end(&theirs, 0, Some(GOOD), at(1));
        });
        end(&cell, 0, Some(BAD), at(1));
        good.join().unwrap();
        let all = snapshot(&cell, at(1));
        match all.state {
            State::Open => assert_eq!((all.generation, all.counts.calls), (1, 0)),
            _ => {
                assert_eq!((all.counts.calls, all.counts.failures), (4, 2));
                assert!(all.counts.consecutive_failures <= 1);
            }
        }
    });
}

#[test]
fn successes_of_three_threads_add_up_over_the_end_of_a_slice() {
    check(3, || {
        let cell = cell(9, Window::time(Duration::from_nanos(100)), 1, 1);
        let others = [9, 10].map(|now| {
            let cell = cell.clone();
            thread::spawn(move || end(&cell, 0, Some(GOOD), at(now)))
        });
        end(&cell, 0, Some(GOOD), at(9));
        assert!(snapshot(&cell, at(10)).counts.calls >= 1);
        for other in others {
            other.join().unwrap();
        }
        assert_eq!(snapshot(&cell, at(10)).counts.calls, 3);
    });
}

#[test]
fn a_window_full_of_successes_sees_the_failure_that_comes() {
    check(4, || {
        let cell = cell(2, Window::count(1), 1, 1);
        end(&cell, 0, Some(GOOD), at(0));
        let theirs = cell.clone();
        let other = thread::spawn(move || end(&theirs, 0, Some(GOOD), at(1)));
        end(&cell, 0, Some(BAD), at(1));
        other.join().unwrap();
        // Of a window of one call: the failure came last, or the success did.
        let counts = snapshot(&cell, at(1)).counts;
        assert_eq!(counts.calls, 1);
        assert_eq!(counts.failures, counts.consecutive_failures);
    });
}

/// A success that a reset overtakes is not counted in the new generation.
#[test]
fn a_reset_leaves_nothing_of_what_was_on_its_way() {
    check(4, || {
        let cell = cell(9, Window::count(4), 1, 1);
        let other = {
            let cell = cell.clone();
            thread::spawn(move || end(&cell, 0, Some(GOOD), at(1)))
        };
        cell.with(|machine, ()| machine.set(State::Closed, at(1)));
        other.join().unwrap();
        let all = snapshot(&cell, at(1));
        assert_eq!((all.generation, all.counts.calls), (1, 0));
    });
}

#[test]
fn arming_an_opening_that_is_over_does_nothing() {
    check(4, || {
        let cell = opened(1, 1);
        let theirs = cell.clone();
        let other = thread::spawn(move || theirs.arm(1, |()| {}));
        cell.with(|machine, ()| machine.set(State::Closed, at(1)));
        end(&cell, 2, Some(BAD), at(1));
        other.join().unwrap();
        let look = cell.look();
        let (until, armed) = (11, false);
        assert_eq!(look, Look::Open { until, armed }, "it is the next opening");
    });
}

/// A count of its own beside the generation, instead of in one word with it.
fn counts_beside(generation_in_word: bool) {
    check(3, move || {
        // Generation above, count below.
        let word = Arc::new(AtomicU64::new(0));
        let lock = Arc::new(Mutex::new(()));
        let theirs = word.clone();
        let other = thread::spawn(move || {
            let seen = theirs.load(SeqCst);
            if seen >> 32 != 0 {
                return;
            }
            match generation_in_word {
                true => drop(theirs.compare_exchange(seen, seen + 1, SeqCst, SeqCst)),
                false => drop(theirs.fetch_add(1, SeqCst)),
            }
        });
        let held = lock.lock();
        word.swap(1 << 32, SeqCst);
        drop(held);
        other.join().unwrap();
        assert_eq!(word.load(SeqCst) as u32, 0, "of the earlier generation");
    });
}

#[test]
fn the_checker_passes_a_count_in_one_step_with_the_generation() {
    counts_beside(true);
}

#[test]
#[should_panic(expected = "of the earlier generation")]
fn the_checker_finds_a_count_that_forgets_the_generation() {
    counts_beside(false);
}
