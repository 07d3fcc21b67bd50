//! Calls that cannot be told: back on time, with the threads that are left behind counted and
//! listed, and none left in secret.

#![allow(
    clippy::disallowed_methods,
    reason = "threads that are not the library's own"
)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use cleanbreak::resilience::{AbandonError, Abandoner, AbandonerBuilder, Late, RefusedKind};
use cleanbreak::{CancelToken, Clock};
use crossbeam_channel::{Sender, bounded, unbounded};
use support::{
    child_passes, in_time, is_child, live_named, millis, payload_of, rng, secs, threads_named,
    until,
};

fn named(name: &str) -> AbandonerBuilder {
    Abandoner::builder().name(name)
}

/// Abandons an operation that hangs until the sender is dropped.
fn abandon_one(abandoner: &Abandoner) -> Sender<()> {
    let (release, held) = bounded::<()>(0);
    let hang = move |_: &CancelToken| Ok::<_, ()>(held.recv().unwrap_err());
    abandon(abandoner, hang, drop);
    release
}

/// Abandons an operation after it has started.
fn abandon<T, E>(
    abandoner: &Abandoner,
    operation: impl FnOnce(&CancelToken) -> Result<T, E> + Send + 'static,
    late: impl FnOnce(Late<T, E>) + Send + 'static,
) where
    T: Send + 'static,
    E: Send + 'static,
{
    let token = CancelToken::new();
    let told = token.clone();
    let operation = move |token: &CancelToken| {
        told.cancel();
        operation(token)
    };
    let call = abandoner.abandon_after_with(&token, Duration::MAX, operation, late);
    assert!(matches!(call, Err(AbandonError::Cancelled(_))));
}

#[test]
fn a_result_in_time_comes_back_and_its_thread_is_gone() {
    in_time(|| {
        let abandoner = named("ab in time").build();
        let token = CancelToken::new();
        for n in 0..20 {
            let call = abandoner.abandon_after(&token, Duration::MAX, move |_| Ok::<_, ()>(n));
            assert_eq!(call.unwrap(), n);
            assert_eq!(live_named("ab in time"), 0);
        }
        let call = abandoner.abandon_after(&token, secs(60), |_| Err::<(), _>("refused"));
        assert_eq!(call.unwrap_err().into_failure(), Some("refused"));
        assert!(abandoner.abandoned().is_empty());
        until(|| threads_named("ab in time") == 0);
    });
}

#[test]
fn it_is_on_time_at_the_limit_and_not_before() {
    in_time(|| {
        for (advanced, abandoned) in [(4, false), (5, true), (6, true)] {
            let clock = Clock::manual();
            let token = CancelToken::with_clock(&clock);
            let abandoner = named("ab limit").clock(&clock).build();
            let (release, held) = bounded::<()>(0);
            let (begin, begun) = bounded(1);
            thread::scope(|s| {
                let caller = s.spawn(|| {
                    let hang = move |_: &CancelToken| {
                        begin.send(()).unwrap();
                        Ok::<_, ()>(held.recv().is_err())
                    };
                    abandoner.abandon_after(&token, secs(5), hang)
                });
                begun.recv().unwrap();
                clock.advance(secs(advanced));
                if abandoned {
                    // It returns although the operation has not ended.
                    match caller.join().unwrap().unwrap_err() {
                        AbandonError::TimedOut { limit, .. } => assert_eq!(limit, secs(5)),
                        other => panic!("{other:?}"),
                    }
                    assert_eq!(abandoner.abandoned().len(), 1);
                    drop(release);
                } else {
                    drop(release);
                    assert!(caller.join().unwrap().unwrap());
                }
            });
            assert!(abandoner.close(Duration::MAX).is_empty());
            assert_eq!(live_named("ab limit"), 0);
        }
    });
}

#[test]
fn the_caller_s_cancellation_ends_the_call_at_once_and_tells_the_operation() {
    in_time(|| {
        let abandoner = named("ab told").build();
        let token = CancelToken::new();
        let (started, has_started) = bounded(1);
        let (tell, told) = bounded(1);
        thread::scope(|s| {
            let caller = s.spawn(|| {
                // One that looks after all.
                abandoner.abandon_after(&token, Duration::MAX, move |token| {
                    started.send(()).unwrap();
                    token.wait();
                    tell.send(token.check().unwrap_err()).unwrap();
                    Ok::<_, ()>(())
                })
            });
            has_started.recv().unwrap();
            token.cancel_with("shutting down");
            // The operation may have been quick enough to end in time.
            match caller.join().unwrap() {
                Ok(()) => {}
                Err(AbandonError::Cancelled(why)) => {
                    assert_eq!(why.to_string(), "cancelled: shutting down");
                }
                Err(other) => panic!("{other:?}"),
            }
        });
        assert_eq!(told.recv().unwrap().to_string(), "cancelled: shutting down");
        assert!(abandoner.close(Duration::MAX).is_empty());
    });
}

#[test]
fn what_is_abandoned_is_listed_until_it_ends() {
    in_time(|| {
        let clock = Clock::manual();
        let abandoner = named("ab listed").clock(&clock).build();
        let first = abandon_one(&abandoner);
        clock.advance(secs(3));
        let second = abandon_one(&abandoner);
        clock.advance(secs(4));
        let listed = abandoner.abandoned();
        let ages: Vec<_> = listed.iter().map(|call| call.abandoned_for).collect();
        assert_eq!(ages, [secs(7), secs(4)], "oldest first");
        for call in &listed {
            assert_eq!(call.name, "ab listed");
            assert!(call.called_at.file().ends_with("abandon.rs"));
        }
        let text = listed[0].to_string();
        assert!(
            text.contains("\"ab listed\" still runs 7.0 s after it was abandoned"),
            "{text}"
        );
        assert_eq!(live_named("ab listed"), 2);
        let live = cleanbreak::threads::live();
        let thread = live
            .iter()
            .find(|thread| thread.name == "ab listed")
            .unwrap();
        assert_eq!(thread.spawned_at, listed[0].called_at);
        drop(first);
        until(|| abandoner.abandoned().len() == 1);
        assert_eq!(abandoner.abandoned()[0].abandoned_for, secs(4));
        drop(second);
        assert!(abandoner.close(Duration::MAX).is_empty());
        assert_eq!(live_named("ab listed"), 0);
    });
}

#[test]
fn at_the_cap_a_call_is_refused_and_gives_its_closure_back() {
    in_time(|| {
        let abandoner = named("ab cap").max_threads(2).build();
        let token = CancelToken::new();
        let one = abandon_one(&abandoner);
        let call = abandoner.abandon_after(&token, secs(60), |_| Ok::<_, ()>(1));
        assert_eq!(call.unwrap(), 1, "below the cap");
        let two = abandon_one(&abandoner);
        let owned = String::from("not lost");
        let call = abandoner.abandon_after(&token, secs(60), move |_| Ok::<_, ()>(owned));
        let refused = call.unwrap_err().into_refused().unwrap();
        assert!(refused.is_full());
        assert_eq!(refused.into_inner()(&token).unwrap(), "not lost");
        assert_eq!(live_named("ab cap"), 2);
        drop(one);
        until(|| abandoner.abandoned().len() == 1);
        let call = abandoner.abandon_after(&token, secs(60), |_| Ok::<_, ()>(2));
        assert_eq!(call.unwrap(), 2, "a thread that has ended makes place");
        drop(two);
    });
}

#[test]
fn calls_that_run_count_as_they_could_all_be_abandoned() {
    in_time(|| {
        let abandoner = named("ab all").max_threads(2).build();
        let token = CancelToken::new();
        let (release, held) = bounded::<()>(0);
        thread::scope(|s| {
            for _ in 0..2 {
                let (held, abandoner, token) = (held.clone(), &abandoner, &token);
                s.spawn(move || {
                    let hang = move |_: &CancelToken| Ok::<_, ()>(held.recv().is_err());
                    assert!(abandoner.abandon_after(token, Duration::MAX, hang).unwrap());
                });
            }
            until(|| live_named("ab all") == 2);
            let call = abandoner.abandon_after(&token, secs(60), |_| Ok::<_, ()>(1));
            assert!(call.unwrap_err().into_refused().unwrap().is_full());
            drop(release);
        });
        let call = abandoner.abandon_after(&token, secs(60), |_| Ok::<_, ()>(1));
        assert_eq!(call.unwrap(), 1);
    });
}

#[test]
fn a_panic_in_time_comes_out_with_its_payload_and_the_place_is_free_again() {
    in_time(|| {
        let abandoner = named("ab panic").max_threads(1).build();
        let token = CancelToken::new();
        let payload = payload_of(|| {
            let bug = |_: &CancelToken| -> Result<(), ()> { std::panic::panic_any(7_u8) };
            abandoner.abandon_after(&token, secs(60), bug)
        });
        assert_eq!(*payload.downcast::<u8>().unwrap(), 7);
        let call = abandoner.abandon_after(&token, secs(60), |_| Ok::<_, ()>(1));
        assert_eq!(call.unwrap(), 1);
        assert_eq!(live_named("ab panic"), 0);
    });
}

#[test]
fn what_comes_late_is_dropped_on_its_thread_or_given_to_a_callback() {
    in_time(|| {
        struct Late2(Arc<AtomicBool>);
        impl Drop for Late2 {
            fn drop(&mut self) {
                self.0.store(true, Ordering::SeqCst);
                panic!("in a destructor: contained");
            }
        }
        let abandoner = named("ab late").build();
        let dropped = Arc::new(AtomicBool::new(false));
        let (release, held) = bounded::<()>(0);
        let value = Late2(dropped.clone());
        let slow = move |_: &CancelToken| {
            held.recv().unwrap_err();
            Ok::<_, ()>(value)
        };
        abandon(&abandoner, slow, drop);
        assert!(!dropped.load(Ordering::SeqCst));
        drop(release);
        until(|| dropped.load(Ordering::SeqCst) && abandoner.abandoned().is_empty());

        for panics in [false, true] {
            let (release, held) = bounded::<()>(0);
            let (tell, told) = unbounded();
            let slow = move |_: &CancelToken| {
                held.recv().unwrap_err();
                assert!(!panics, "a late bug");
                Err::<(), _>("late")
            };
            let late = move |late: Late<(), &'static str>| {
                let said = late.map_err(|payload| payload.message().unwrap().to_owned());
                tell.send(said).unwrap();
                panic!("in a callback: contained");
            };
            abandon(&abandoner, slow, late);
            assert!(told.is_empty());
            drop(release);
            match told.recv().unwrap() {
                Ok(result) => assert_eq!((result, panics), (Err("late"), false)),
                Err(message) => assert_eq!((&*message, panics), ("a late bug", true)),
            }
        }
        assert!(abandoner.close(Duration::MAX).is_empty());
    });
}

#[test]
fn a_callback_for_what_is_late_is_not_called_for_what_is_in_time() {
    in_time(|| {
        let abandoner = named("ab not late").build();
        let late = |_: Late<i32, ()>| unreachable!();
        let call =
            abandoner.abandon_after_with(&CancelToken::new(), secs(60), |_| Ok::<_, ()>(7), late);
        assert_eq!(call.unwrap(), 7);
    });
}

#[test]
fn without_time_or_under_a_cancelled_token_nothing_runs_and_the_closure_comes_back() {
    let abandoner = named("ab refused").build();
    let token = CancelToken::new();
    let call = abandoner.abandon_after(&token, Duration::ZERO, |_| Ok::<_, ()>(1));
    let refused = call.unwrap_err().into_refused().unwrap();
    assert!(matches!(refused.kind(), RefusedKind::Timeout));
    assert_eq!(refused.into_inner()(&token), Ok(1));
    token.cancel_with("over");
    let call = abandoner.abandon_after(&token, secs(60), |_| Ok::<_, ()>(2));
    let refused = call.unwrap_err().into_refused().unwrap();
    assert_eq!(refused.to_string(), "cancelled: over");
    assert_eq!(refused.into_inner()(&token), Ok(2));
    abandoner.close(Duration::ZERO);
    let call = abandoner.abandon_after(&CancelToken::new(), secs(60), |_| Ok::<_, ()>(3));
    let refused = call.unwrap_err().into_refused().unwrap();
    assert!(matches!(refused.kind(), RefusedKind::Closed));
    assert_eq!(refused.into_inner()(&token), Ok(3));
}

#[test]
fn the_drop_waits_for_a_while_and_then_reports_and_lets_go() {
    in_time(|| {
        let clock = Clock::manual();
        let (tell, told) = unbounded();
        let abandoner = named("ab dropped")
            .clock(&clock)
            .drop_patience(secs(10))
            .on_straggler(move |left| {
                let names: Vec<_> = left.iter().map(|call| call.name.clone()).collect();
                tell.send(names).unwrap();
                panic!("in a callback: contained");
            })
            .build();
        let (quick, slow) = (abandon_one(&abandoner), abandon_one(&abandoner));
        let clone = abandoner.clone();
        drop(abandoner); // not the last
        let dropping = thread::spawn(move || drop(clone));
        clock.await_timers(1);
        drop(quick);
        until(|| live_named("ab dropped") == 1);
        clock.advance(secs(10) - Duration::from_nanos(1));
        assert!(told.is_empty() && !dropping.is_finished());
        clock.advance(Duration::from_nanos(1));
        dropping.join().unwrap();
        assert_eq!(told.recv().unwrap(), ["ab dropped"]);
        // It is not secret, and when it ends it is gone.
        assert_eq!(live_named("ab dropped"), 1);
        drop(slow);
        until(|| live_named("ab dropped") == 0 && threads_named("ab dropped") == 0);
        assert!(told.try_recv().is_err());
    });
}

#[test]
fn a_drop_that_finds_all_ended_reports_nothing_and_joins() {
    in_time(|| {
        let abandoner = named("ab clean").on_straggler(|_| unreachable!()).build();
        let hangs = [abandon_one(&abandoner), abandon_one(&abandoner)];
        let dropping = thread::spawn(move || drop(abandoner));
        drop(hangs);
        dropping.join().unwrap();
        assert_eq!(live_named("ab clean"), 0);
    });
}

#[test]
fn dropped_by_an_abandoned_operation_of_its_own_it_does_not_wait_for_itself() {
    in_time(|| {
        let abandoner = named("ab by itself")
            .drop_patience(Duration::MAX)
            .on_straggler(|left| assert_eq!(left.len(), 1, "the caller itself"))
            .build();
        let (release, held) = bounded::<()>(0);
        let inner = abandoner.clone();
        let hang = move |_: &CancelToken| {
            held.recv().unwrap_err();
            drop(inner);
            Ok::<_, ()>(())
        };
        assert!(
            abandoner
                .abandon_after(&CancelToken::new(), millis(1), hang)
                .is_err()
        );
        drop(abandoner);
        drop(release);
        until(|| live_named("ab by itself") == 0 && threads_named("ab by itself") == 0);
    });
}

#[test]
fn a_thread_that_is_refused_gives_the_closure_back() {
    let name = "a_thread_that_is_refused_gives_the_closure_back";
    if !is_child() {
        child_passes(name, "ulimit -v 1000000");
        return;
    }
    in_time(|| {
        // A stack larger than the address space that is left.
        let abandoner = named("ab huge").stack_size(1 << 40).max_threads(1).build();
        let token = CancelToken::new();
        for _ in 0..2 {
            let call = abandoner.abandon_after(&token, secs(60), |_| Ok::<_, ()>(7));
            let refused = call.unwrap_err().into_refused().unwrap();
            assert!(matches!(refused.kind(), RefusedKind::Thread(_)));
            assert_eq!(refused.into_inner()(&token), Ok(7));
            assert_eq!(live_named("ab huge"), 0);
        }
    });
}

#[test]
fn results_that_race_with_the_limit_come_exactly_once_in_time_or_late() {
    let mut rng = rng("abandon race");
    in_time(move || {
        let abandoner = named("ab race").max_threads(4).build();
        let token = CancelToken::new();
        let _lease = token.clock().keep_timer().unwrap();
        let late = Arc::new(AtomicUsize::new(0));
        let (mut in_time, mut abandoned) = (0, 0);
        for n in 0..600 {
            let limit = Duration::from_micros(rng.u64(50..300));
            let spins = rng.u32(0..60_000);
            let work = move |_: &CancelToken| {
                (0..spins).for_each(|_| std::hint::spin_loop());
                Ok::<_, ()>(n)
            };
            let count = late.clone();
            let call = abandoner.abandon_after_with(&token, limit, work, move |late| {
                assert!(late.is_ok_and(|result| result == Ok(n)));
                count.fetch_add(1, Ordering::SeqCst);
            });
            match call {
                Ok(value) => {
                    assert_eq!(value, n);
                    in_time += 1;
                }
                Err(AbandonError::TimedOut { .. }) => abandoned += 1,
                // Cut off before it started: then it never does, and nothing comes late.
                Err(refused) if refused.is_timeout() => drop(refused.into_refused().unwrap()),
                Err(refused) => assert!(refused.into_refused().unwrap().is_full()),
            }
            assert!(live_named("ab race") <= 4);
        }
        assert!(abandoner.close(Duration::MAX).is_empty());
        assert_eq!(late.load(Ordering::SeqCst), abandoned);
        println!("{in_time} in time, {abandoned} abandoned");
        assert_eq!(live_named("ab race"), 0);
    });
}

/// The negative control: a helper that nobody owns is left behind, and would be seen.
#[test]
fn a_thread_left_in_secret_would_be_seen_by_these_tests() {
    let (release, held) = bounded::<()>(0);
    let ended = Arc::new(Mutex::new(()));
    let leaked = thread::Builder::new().name("ab leaked".into());
    let leaked = leaked.spawn(move || drop((held.recv().unwrap_err(), ended)));
    until(|| threads_named("ab leaked") == 1);
    assert_eq!(live_named("ab leaked"), 0, "in secret");
    drop(release);
    leaked.unwrap().join().unwrap();
}
