//! Hedges: a second attempt when the first is slow, the first success wins, the budget holds, and
//! no attempt is left running.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cleanbreak::resilience::{Hedge, HedgeBuilder, HedgeError};
use cleanbreak::{CancelToken, Clock, ManualClock, ThreadCache};
use crossbeam_channel::{bounded, unbounded};
use support::{in_time, live_named, payload_of, rng, secs, threads_named, until};

const NANO: Duration = Duration::from_nanos(1);

fn after(delay: Duration, name: &str) -> HedgeBuilder {
    Hedge::after(delay).name(name)
}

/// Attempts in the order in which they start.
#[derive(Default)]
struct Attempts(AtomicUsize);

impl Attempts {
    fn next(&self) -> usize {
        self.0.fetch_add(1, Ordering::SeqCst)
    }

    fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}

/// A policy that hedges after a second, and a clock of which the first attempt moves the hands:
/// so the attempts start in their order.
fn in_order(name: &str) -> (HedgeBuilder, ManualClock, CancelToken) {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    (after(secs(1), name), clock, token)
}

/// The operation of which every attempt waits until it is told.
fn waits(token: &CancelToken) -> Result<(), String> {
    token.wait();
    Err(token.check().unwrap_err().to_string())
}

#[test]
fn a_quick_success_needs_no_hedge_and_leaves_no_thread() {
    in_time(|| {
        let hedge = after(secs(3600), "he quick").build();
        let attempts = Attempts::default();
        for n in 0..20 {
            let call = hedge.call(&CancelToken::new(), |_| {
                attempts.next();
                Ok::<_, String>(n)
            });
            assert_eq!(call.unwrap(), n);
            assert_eq!(live_named("he quick"), 0);
        }
        assert_eq!((attempts.count(), hedge.stats().hedges), (20, 0));
        until(|| threads_named("he quick") == 0);
    });
}

/// A call on a manual clock whose attempts hang; what `act` sees while it waits. Returns how many
/// attempts there were.
fn hang(hedge: &Hedge, clock: &ManualClock, act: impl FnOnce(&Attempts)) -> usize {
    let attempts = Attempts::default();
    let token = CancelToken::with_clock(clock);
    thread::scope(|s| {
        let call = s.spawn(|| {
            hedge.call(&token, |token| {
                attempts.next();
                waits(token)
            })
        });
        act(&attempts);
        token.cancel();
        assert!(call.join().unwrap().is_err());
    });
    attempts.count()
}

#[test]
fn the_second_attempt_starts_at_the_delay_and_not_before() {
    in_time(|| {
        for (advanced, expected) in [(secs(5) - NANO, 1), (secs(5), 2), (secs(50), 2)] {
            let clock = Clock::manual();
            let hedge = after(secs(5), "he delay").build();
            let attempts = hang(&hedge, &clock, |attempts| {
                until(|| attempts.count() == 1);
                clock.await_timers(1);
                clock.advance(advanced);
                until(|| attempts.count() == expected);
            });
            assert_eq!(attempts, expected, "after {advanced:?}");
            assert_eq!(hedge.stats().hedges, expected as u64 - 1);
            assert_eq!((clock.timers(), live_named("he delay")), (0, 0));
        }
    });
}

#[test]
fn there_are_as_many_hedges_as_allowed_each_a_delay_after_the_one_before() {
    in_time(|| {
        for most in [0, 1, 3] {
            let clock = Clock::manual();
            let hedge = after(secs(5), "he most").max_hedges(most).build();
            let attempts = hang(&hedge, &clock, |attempts| {
                until(|| attempts.count() == 1);
                for n in 1..=most {
                    clock.await_timers(1);
                    clock.advance(secs(5) - NANO);
                    assert_eq!(attempts.count(), n);
                    clock.advance(NANO);
                    until(|| attempts.count() == n + 1);
                }
                until(|| clock.timers() == 0);
                clock.advance(secs(500));
            });
            assert_eq!(attempts, most + 1);
        }
    });
}

#[test]
fn the_first_success_wins_and_the_loser_is_told_and_joined() {
    in_time(|| {
        let (hedge, clock, token) = in_order("he wins");
        let hedge = hedge.build();
        let (attempts, told) = (Attempts::default(), Mutex::new(None));
        let call = hedge.call(&token, |token| match attempts.next() {
            0 => {
                clock.advance(secs(1));
                let words = waits(token);
                // It has ended before the call returns.
                *told.lock().unwrap() = words.clone().err();
                words.map(|()| "the first")
            }
            _ => Ok("the second"),
        });
        assert_eq!(call.unwrap(), "the second");
        let told = told.into_inner().unwrap();
        assert_eq!(told.unwrap(), "cancelled: another attempt succeeded");
        assert_eq!(live_named("he wins"), 0);
        let stats = hedge.stats();
        assert_eq!((stats.calls, stats.hedges, stats.won), (1, 1, 1));
    });
}

#[test]
fn the_first_attempt_may_win_after_all() {
    in_time(|| {
        let (hedge, clock, token) = in_order("he after all");
        let hedge = hedge.build();
        let attempts = Attempts::default();
        let (second, second_runs) = bounded(1);
        let call = hedge.call(&token, |token| match attempts.next() {
            0 => {
                clock.advance(secs(1));
                second_runs.recv().unwrap();
                Ok("the first")
            }
            _ => {
                second.send(()).unwrap();
                waits(token).map(|()| "the second")
            }
        });
        assert_eq!(call.unwrap(), "the first");
        let stats = hedge.stats();
        assert_eq!((stats.hedges, stats.won), (1, 0));
    });
}

#[test]
fn a_failure_alone_ends_the_call_and_one_beside_another_attempt_does_not() {
    in_time(|| {
        let hedge = after(secs(3600), "he fails").build();
        let attempts = Attempts::default();
        let call = hedge.call(&CancelToken::new(), |_| {
            Err::<(), _>(format!("attempt {} failed", attempts.next()))
        });
        let error = call.unwrap_err();
        assert_eq!(error.to_string(), "attempt 0 failed");
        assert_eq!(error.into_errors(), ["attempt 0 failed"]);

        for second_succeeds in [true, false] {
            let (hedge, clock, token) = in_order("he fails");
            let hedge = hedge.build();
            let attempts = Attempts::default();
            let (fail, failed) = bounded(1);
            let (second, second_runs) = bounded(1);
            let call = hedge.call(&token, |_| match attempts.next() {
                0 => {
                    clock.advance(secs(1));
                    second_runs.recv().unwrap();
                    fail.send(()).unwrap();
                    Err("the first")
                }
                _ => {
                    second.send(()).unwrap();
                    failed.recv().unwrap();
                    second_succeeds.then_some(7).ok_or("the second")
                }
            });
            match call {
                Ok(value) => assert!(second_succeeds && value == 7),
                Err(error) => {
                    assert!(!second_succeeds);
                    let mut errors = error.into_errors();
                    errors.sort_unstable();
                    assert_eq!(errors, ["the first", "the second"]);
                }
            }
        }
    });
}

#[test]
fn the_caller_s_cancellation_reaches_every_attempt() {
    in_time(|| {
        let hedge = after(Duration::ZERO, "he told").max_hedges(2).build();
        let token = CancelToken::new();
        let attempts = Attempts::default();
        let call = hedge.call(&token, |child| {
            if attempts.next() == 2 {
                token.cancel_with("shutting down");
            }
            waits(child)
        });
        let errors = call.unwrap_err().into_errors();
        assert_eq!(errors, ["cancelled: shutting down"; 3]);
        // And before it starts: nothing runs.
        let call = hedge.call(&token, |_| -> Result<(), String> { unreachable!() });
        assert!(matches!(call, Err(HedgeError::Cancelled(_))));
        assert_eq!((attempts.count(), live_named("he told")), (3, 0));
    });
}

#[test]
fn a_panic_tells_the_others_and_comes_out_when_they_have_ended() {
    in_time(|| {
        let hedge = after(Duration::ZERO, "he panics").build();
        let (attempts, ended) = (Attempts::default(), Attempts::default());
        let payload = payload_of(|| {
            hedge
                .call(&CancelToken::new(), |token| match attempts.next() {
                    0 => {
                        waits(token).ok();
                        ended.next();
                        Ok(())
                    }
                    _ => std::panic::panic_any(7_u8),
                })
                .map_err(|error: HedgeError<String>| error.to_string())
        });
        assert_eq!(*payload.downcast::<u8>().unwrap(), 7);
        assert_eq!((ended.count(), live_named("he panics")), (1, 0));
    });
}

#[test]
fn a_loser_that_ignores_its_token_is_reported_and_waited_for() {
    in_time(|| {
        let clock = Clock::manual();
        let (tell, told) = unbounded();
        let hedge = after(secs(1), "he ignores").straggler_after(secs(10));
        let hedge = hedge.on_straggler(move |late| tell.send(late[0].name.clone()).unwrap());
        let hedge = hedge.build();
        let (release, held) = bounded::<()>(0);
        let attempts = Arc::new(Attempts::default());
        let token = CancelToken::with_clock(&clock);
        thread::scope(|s| {
            let call = s.spawn(|| {
                hedge.call(&token, |_| match attempts.next() {
                    0 => Err(held.recv().unwrap_err()),
                    _ => Ok("the second"),
                })
            });
            until(|| attempts.count() == 1);
            clock.await_timers(1);
            clock.advance(secs(1));
            until(|| hedge.stats().won == 1);
            clock.await_timers(1);
            clock.advance(secs(10));
            assert_eq!(told.recv().unwrap(), "he ignores");
            assert!(!call.is_finished());
            drop(release);
            assert_eq!(call.join().unwrap().unwrap(), "the second");
        });
    });
}

#[test]
fn the_budget_bounds_the_hedges_of_an_outage() {
    in_time(|| {
        // Every call is slow: with the attempts unbounded, that would be two for each. (Of the
        // first call's tenth, a full reserve has no use.)
        for (percent, reserve, calls, expected) in [
            (10, 5, 100, 14),
            (0, 3, 20, 3),
            (0, 0, 10, 0),
            (50, 0, 20, 10),
            (100, 0, 20, 20),
        ] {
            let hedge = after(Duration::ZERO, "he budget")
                .budget(percent, reserve)
                .build();
            let attempts = Attempts::default();
            for _ in 0..calls {
                let before = hedge.stats();
                // Fails when the policy has decided about a hedge.
                let call = hedge.call(&CancelToken::new(), |_| {
                    attempts.next();
                    until(|| {
                        let now = hedge.stats();
                        now.hedges + now.refused > before.hedges + before.refused
                    });
                    Err::<(), _>("outage")
                });
                assert!(call.is_err());
            }
            let stats = hedge.stats();
            assert_eq!(stats.hedges, expected, "{percent} % and {reserve}");
            assert_eq!(stats.calls, calls);
            assert_eq!(stats.hedges + stats.refused, calls);
            assert_eq!(attempts.count() as u64, calls + expected);
        }
    });
}

#[test]
fn the_delay_follows_the_latencies() {
    in_time(|| {
        let clock = Clock::manual();
        let token = CancelToken::with_clock(&clock);
        let hedge = Hedge::after_percentile(90.0, secs(100)).max_hedges(0);
        let hedge = hedge.build();
        let served = |latency| {
            let call = hedge.call(&token, |_| {
                clock.advance(latency);
                Ok::<_, String>(())
            });
            call.unwrap();
        };
        for n in 1..=19 {
            served(secs(n));
            assert_eq!(hedge.delay(), secs(100), "{n} are too few");
        }
        served(secs(20));
        assert_eq!(hedge.delay(), secs(18));
        (0..256).for_each(|_| served(secs(2)));
        assert_eq!(hedge.delay(), secs(2), "the old ones are forgotten");
        // Failures say nothing about the latency of a success.
        for _ in 0..256 {
            let failed = hedge.call(&token, |_| Err::<(), _>("refused"));
            assert!(failed.is_err());
        }
        assert_eq!(hedge.delay(), secs(2));
        assert_eq!(hedge.stats().hedges, 0);
    });
}

#[test]
fn settings_that_make_no_sense_are_refused_with_a_message() {
    for percentile in [-1.0, 100.1, f64::NAN] {
        let payload = payload_of(|| Hedge::after_percentile(percentile, secs(1)));
        let message = payload.downcast::<String>().unwrap();
        assert!(message.starts_with("a percentile is between 0 and 100"));
    }
}

#[test]
fn warm_threads_serve_and_go_with_their_cache() {
    in_time(|| {
        let cache = ThreadCache::new();
        let (hedge, clock, token) = in_order("he cached");
        let hedge = hedge.budget(100, 100).cache(&cache).build();
        for _ in 0..20 {
            let attempts = Attempts::default();
            let call = hedge.call(&token, |token| match attempts.next() {
                0 => {
                    clock.advance(secs(1));
                    waits(token).map(|()| 0)
                }
                n => Ok(n),
            });
            assert_eq!(call.unwrap(), 1);
        }
        assert_eq!(live_named("he cached"), 0);
        drop(cache);
        until(|| threads_named("he cached") == 0);
    });
}

#[test]
fn under_stress_every_call_gets_an_answer_and_no_thread_is_left() {
    let mut rng = rng("hedge stress");
    in_time(move || {
        let hedge = after(Duration::from_micros(100), "he stress");
        let hedge = hedge.max_hedges(2).budget(100, 1000).build();
        let token = CancelToken::new();
        let _lease = token.clock().keep_timer().unwrap();
        let ended = Attempts::default();
        let started = Attempts::default();
        thread::scope(|s| {
            for _ in 0..4 {
                let seed = rng.u64(..);
                let (hedge, token, started, ended) = (&hedge, &token, &started, &ended);
                s.spawn(move || {
                    let rng = Mutex::new(fastrand::Rng::with_seed(seed));
                    for n in 0..60 {
                        let call = hedge.call(token, |token| {
                            started.next();
                            let (micros, fails) = {
                                let mut rng = rng.lock().unwrap();
                                (rng.u64(0..300), rng.u32(0..4) == 0)
                            };
                            let slept = token.sleep(Duration::from_micros(micros));
                            ended.next();
                            slept.map_err(|told| told.to_string())?;
                            if fails {
                                Err("fails".to_owned())
                            } else {
                                Ok(n)
                            }
                        });
                        match call {
                            Ok(value) => assert_eq!(value, n),
                            Err(error) => {
                                assert!(error.into_errors().iter().all(|words| words == "fails"))
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(started.count(), ended.count());
        // A hedge that is overtaken before it has a thread never starts.
        let attempts = 240..=240 + hedge.stats().hedges;
        assert!(attempts.contains(&(started.count() as u64)));
        assert_eq!(live_named("he stress"), 0);
        until(|| threads_named("he stress") == 0);
    });
}

/// The negative control: an attempt that nobody waits for is still there when the call is back.
#[test]
fn an_attempt_that_is_not_joined_would_be_seen_by_these_tests() {
    in_time(|| {
        let (release, held) = bounded::<()>(0);
        let token = CancelToken::new();
        let left = cleanbreak::Pool::builder().name("he leaked").workers(1);
        let left = left.build(&token).unwrap();
        let job = left.submit(move |_| Ok(held.recv().is_err()));
        until(|| threads_named("he leaked") == 1);
        assert_eq!(live_named("he leaked"), 1);
        drop(release);
        assert!(job.unwrap().join().unwrap());
    });
}
