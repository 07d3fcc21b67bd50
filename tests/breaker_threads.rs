//! The breaker under many threads: races for the probes, exact counts, the timer, the order of what
//! listeners hear.

#![allow(
    clippy::disallowed_methods,
    reason = "takes up the room for threads with some of its own"
)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;
use std::time::Duration;

use cleanbreak::resilience::breaker::{Outcome, State};
use cleanbreak::{Breaker, CancelToken, Clock};
use crossbeam_channel::bounded;
use support::{child_passes, dither, in_time, is_child, millis, rng, secs, until};

use State::{Closed, HalfOpen, Open};

#[test]
fn of_fifty_threads_that_race_exactly_so_many_are_probes() {
    in_time(|| {
        let mut rng = rng("breaker race");
        for round in 0..60 {
            let probes = [1, 3, 10][round % 3];
            let clock = Clock::manual();
            let builder = Breaker::builder().consecutive_failures(1).probes(probes);
            let breaker = builder.open_for(secs(1)).clock(&clock).build().unwrap();
            breaker.acquire().unwrap().failure();
            clock.advance(secs(1));
            let (start, seed) = (Barrier::new(50), rng.u64(..));
            let admitted = AtomicUsize::new(0);
            thread::scope(|s| {
                for n in 0..50 {
                    let (breaker, start, admitted) = (&breaker, &start, &admitted);
                    s.spawn(move || {
                        let mut rng = fastrand::Rng::with_seed(seed + n);
                        start.wait();
                        dither(&mut rng, 200);
                        if let Ok(permit) = breaker.acquire() {
                            admitted.fetch_add(1, Ordering::SeqCst);
                            std::mem::forget(permit);
                        }
                    });
                }
            });
            assert_eq!(admitted.into_inner(), probes as usize);
            let all = breaker.snapshot();
            assert_eq!((all.state, all.probes_running), (HalfOpen, probes));
            assert_eq!(all.rejected, 50 - u64::from(probes));
        }
    });
}

/// The same race against a check that is not one step with what it allows: more get through.
#[test]
fn a_race_that_admits_too_many_is_seen() {
    in_time(|| {
        let mut rng = rng("breaker race, planted");
        let overrun = (0..10_000).any(|_| {
            let (free, admitted) = (AtomicUsize::new(1), AtomicUsize::new(0));
            let (start, seed) = (Barrier::new(4), rng.u64(..));
            thread::scope(|s| {
                for n in 0..4 {
                    let (free, admitted, start) = (&free, &admitted, &start);
                    s.spawn(move || {
                        let mut rng = fastrand::Rng::with_seed(seed + n);
                        start.wait();
                        dither(&mut rng, 20);
                        if free.load(Ordering::SeqCst) > 0 {
                            thread::yield_now();
                            free.store(0, Ordering::SeqCst);
                            admitted.fetch_add(1, Ordering::SeqCst);
                        }
                    });
                }
            });
            admitted.into_inner() > 1
        });
        assert!(overrun);
    });
}

#[test]
fn places_that_come_back_in_a_race_are_given_out_again_and_never_twice() {
    in_time(|| {
        let clock = Clock::manual();
        let builder = Breaker::builder().consecutive_failures(1).probes(2);
        let breaker = builder.clock(&clock).build().unwrap();
        breaker.acquire().unwrap().failure();
        clock.advance(secs(10));
        let (inside, admitted) = (AtomicUsize::new(0), AtomicUsize::new(0));
        thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    for _ in 0..2_000 {
                        let Ok(permit) = breaker.acquire() else {
                            continue;
                        };
                        assert!(inside.fetch_add(1, Ordering::SeqCst) < 2);
                        admitted.fetch_add(1, Ordering::SeqCst);
                        inside.fetch_sub(1, Ordering::SeqCst);
                        permit.ignore();
                    }
                });
            }
        });
        assert!(admitted.into_inner() >= 2_000, "it goes on");
        assert_eq!(breaker.snapshot().probes_running, 0);
    });
}

/// Most successes go past the lock; none of them is lost or counted twice.
#[test]
fn counts_are_exact_whatever_the_threads_do() {
    const THREADS: usize = 8;
    const CALLS: usize = 20_000;
    in_time(|| {
        let mut rng = rng("breaker counts");
        for builder in [
            Breaker::builder().count_window(THREADS * CALLS),
            Breaker::builder().time_window(secs(3600)),
        ] {
            let clock = Clock::manual();
            let breaker = builder.failure_rate(0.9).clock(&clock).build().unwrap();
            let (failures, seed) = (AtomicUsize::new(0), rng.u64(..));
            let looking = AtomicBool::new(true);
            thread::scope(|s| {
                let calls: Vec<_> = (0..THREADS as u64)
                    .map(|n| {
                        let (breaker, failures) = (&breaker, &failures);
                        s.spawn(move || {
                            let mut rng = fastrand::Rng::with_seed(seed + n);
                            for _ in 0..CALLS {
                                let fails = rng.u8(..50) == 0;
                                failures.fetch_add(fails.into(), Ordering::Relaxed);
                                breaker.acquire().unwrap().report(match fails {
                                    true => Outcome::Failure,
                                    false => Outcome::Success,
                                });
                            }
                        })
                    })
                    .collect();
                s.spawn(|| {
                    let mut before = 0;
                    while looking.load(Ordering::SeqCst) {
                        let counts = breaker.snapshot().counts;
                        assert!(counts.failures <= counts.calls && before <= counts.calls);
                        before = counts.calls;
                    }
                });
                calls.into_iter().for_each(|call| call.join().unwrap());
                looking.store(false, Ordering::SeqCst);
            });
            let counts = breaker.snapshot().counts;
            assert_eq!(counts.calls, (THREADS * CALLS) as u64);
            assert_eq!(counts.failures, failures.into_inner() as u64);
        }
    });
}

/// Generations come and go while permits of all ages are reported: every transition follows from the
/// one before, and is told in its place.
#[test]
fn listeners_hear_transitions_in_their_order_whichever_threads_make_them() {
    in_time(|| {
        let mut rng = rng("breaker order");
        let seen = Arc::new(Mutex::new(Vec::new()));
        let told = seen.clone();
        let inside = AtomicUsize::new(0);
        let builder = Breaker::builder().consecutive_failures(2).probes(2);
        let breaker = builder
            .open_for(Duration::from_nanos(1))
            .on_transition(move |transition| {
                assert_eq!(inside.fetch_add(1, Ordering::SeqCst), 0, "one at a time");
                told.lock().unwrap().push(*transition);
                inside.fetch_sub(1, Ordering::SeqCst);
            })
            .build()
            .unwrap();
        let seed = rng.u64(..);
        thread::scope(|s| {
            for n in 0..4 {
                let breaker = &breaker;
                s.spawn(move || {
                    let mut rng = fastrand::Rng::with_seed(seed + n);
                    let mut flights = Vec::new();
                    while breaker.snapshot().generation < 300 {
                        flights.extend(breaker.acquire());
                        if flights.len() > rng.usize(..4) {
                            let flight = flights.swap_remove(rng.usize(..flights.len()));
                            flight.report(match rng.u8(..3) {
                                0 => Outcome::Success,
                                _ => Outcome::Failure,
                            });
                        }
                    }
                });
            }
        });
        // Who tells may be at it still after the last call has returned elsewhere; here all have.
        let seen = seen.lock().unwrap();
        assert!(seen.len() >= 300);
        let mut before = (Closed, 0);
        for transition in seen.iter() {
            assert_eq!(
                (transition.from, transition.generation),
                (before.0, before.1 + 1)
            );
            before = (transition.to, transition.generation);
        }
        assert_eq!(before, (breaker.state(), breaker.snapshot().generation));
    });
}

#[test]
fn a_slow_listener_holds_up_neither_calls_nor_the_end_of_the_open_time() {
    in_time(|| {
        let (entered, has_entered) = bounded(1);
        let (release, released) = bounded::<()>(0);
        let builder = Breaker::builder().consecutive_failures(1).open_for(secs(1));
        let clock = Clock::manual();
        let breaker = builder
            .clock(&clock)
            .on_transition(move |_| {
                entered.try_send(()).ok();
                released.recv().ok();
            })
            .build()
            .unwrap();
        thread::scope(|s| {
            s.spawn(|| breaker.acquire().unwrap().failure());
            has_entered.recv().unwrap();
            assert!(breaker.acquire().is_err());
            // Also for openings that come while the listener is at the first one.
            for _ in 0..3 {
                clock.advance(secs(1));
                breaker.acquire().unwrap().failure();
                assert_eq!(breaker.state(), Open);
                assert!(breaker.acquire().is_err());
            }
            drop(release);
        });
    });
}

#[test]
fn the_timer_of_an_open_breaker_is_gone_when_it_is_probed_reset_or_dropped() {
    in_time(|| {
        let open = |clock: &Clock, time| {
            let builder = Breaker::builder().consecutive_failures(1).open_for(time);
            let breaker = builder.clock(clock).build().unwrap();
            assert!(!clock.timer_runs());
            breaker.acquire().unwrap().failure();
            assert!(clock.timer_runs());
            breaker
        };
        let clock = Clock::isolated();
        let breaker = open(&clock, millis(1));
        until(|| breaker.acquire().map(|probe| probe.ignore()).is_ok());
        assert!(!clock.timer_runs());
        let breaker = open(&clock, secs(3600));
        breaker.reset();
        assert!(!clock.timer_runs());
        drop(open(&clock, secs(3600)));
        assert!(!clock.timer_runs());
    });
}

/// A hook of somebody else's sits on the timer thread, and with it on the bell.
#[test]
fn a_timer_thread_that_hangs_does_not_keep_it_open() {
    in_time(|| {
        let clock = Clock::isolated();
        let (entered, has_entered) = bounded(1);
        let (release, released) = bounded::<()>(0);
        let stuck = CancelToken::with_clock(&clock).child_timeout(millis(1));
        let _hook = stuck.on_cancel(move || {
            entered.send(()).unwrap();
            released.recv().ok();
        });
        has_entered.recv().unwrap();
        let builder = Breaker::builder()
            .consecutive_failures(1)
            .open_for(millis(1));
        let breaker = builder.clock(&clock).build().unwrap();
        breaker.acquire().unwrap().failure();
        until(|| breaker.acquire().is_ok());
        assert_eq!(breaker.state(), HalfOpen);
        drop(release);
    });
}

/// In a process whose threads would have more stack than there is address space.
#[test]
fn without_a_thread_for_the_timer_it_reads_the_clock() {
    const NAME: &str = "without_a_thread_for_the_timer_it_reads_the_clock";
    if !is_child() {
        child_passes(NAME, "export RUST_MIN_STACK=70368744177664");
        return;
    }
    let clock = Clock::isolated();
    assert!(clock.keep_timer().is_err(), "there is room for a thread");
    let builder = Breaker::builder()
        .consecutive_failures(1)
        .open_for(millis(20));
    let breaker = builder.clock(&clock).build().unwrap();
    breaker.acquire().unwrap().failure();
    assert!(breaker.acquire().is_err());
    assert!(!clock.timer_runs());
    until(|| breaker.acquire().is_ok());
    assert_eq!(breaker.state(), HalfOpen);
}
