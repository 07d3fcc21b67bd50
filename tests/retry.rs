//! Retry: attempts, one budget of time, waits that end with the token, deadlines of attempts, history.

mod support;

use std::cell::{Cell, RefCell};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cleanbreak::backoff::{Backoff, Jitter};
use cleanbreak::resilience::retry::{AttemptEvent, GaveUp, Next, RetryBuilder, RetryError};
use cleanbreak::{CancelKind, CancelToken, Clock, ManualClock, Retry, RetryBudget};
use support::{in_time, millis, payload_of, secs};

/// Attempts that follow at once.
fn at_once<E>() -> RetryBuilder<E> {
    Retry::builder().backoff(Backoff::constant(Duration::ZERO))
}

fn manual() -> (ManualClock, CancelToken) {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    (clock, token)
}

/// Runs `call`, and moves the clock on to each wait's end. The answer and the waits in milliseconds.
fn with_waits<T: Send>(clock: &ManualClock, call: impl FnOnce() -> T + Send) -> (T, Vec<u128>) {
    let mut waits = Vec::new();
    let answer = std::thread::scope(|s| {
        let call = s.spawn(call);
        while !call.is_finished() {
            match clock.next_deadline() {
                Some(at) => {
                    waits.push(at.duration_since(clock.now()).as_millis());
                    clock.advance_to(at);
                    // It takes its timer back when it goes on.
                    support::until(|| clock.next_deadline() != Some(at));
                }
                None => std::thread::yield_now(),
            }
        }
        call.join().unwrap()
    });
    (answer, waits)
}

fn why<T: std::fmt::Debug, E>(result: Result<T, RetryError<E>>) -> (String, u32) {
    let error = result.unwrap_err();
    (error.gave_up().to_string(), error.attempts())
}

#[test]
fn it_tries_as_often_as_it_may_and_stops_at_the_first_success() {
    // (attempts allowed, the one that succeeds, attempts made)
    for (allowed, good, made) in [(1, 1, 1), (1, 2, 1), (3, 1, 1), (3, 3, 3), (3, 4, 3)] {
        let retry = at_once().attempts(allowed).build().unwrap();
        let tried = Cell::new(0);
        let result = retry.call(&CancelToken::new(), |_| {
            tried.set(tried.get() + 1);
            if tried.get() == good {
                Ok(good)
            } else {
                Err(tried.get())
            }
        });
        assert_eq!(tried.get(), made);
        match result {
            Ok(value) => assert!(value == good && good <= allowed),
            Err(error) => {
                assert!(matches!(error.gave_up(), GaveUp::Attempts));
                assert_eq!((error.attempts(), error.last_error()), (made, Some(&made)));
            }
        }
    }
}

#[test]
fn the_waits_are_those_of_the_backoff() {
    let tables: [(Backoff, &[u128]); 3] = [
        (Backoff::exponential(millis(100)), &[100, 200, 400, 800]),
        (Backoff::fibonacci(millis(100)), &[100, 100, 200, 300]),
        (Backoff::custom(|n| millis(7 - u64::from(n))), &[7, 6, 5, 4]),
    ];
    for (backoff, expected) in tables {
        in_time(move || {
            let (clock, token) = manual();
            let retry = Retry::builder()
                .attempts(5)
                .backoff(backoff.jitter(Jitter::None));
            let retry = retry.build().unwrap();
            let (result, waits) =
                with_waits(&clock, || retry.call(&token, |_| Err::<(), _>("down")));
            assert_eq!(waits, expected);
            let error = result.unwrap_err();
            assert_eq!(error.elapsed().as_millis(), expected.iter().sum::<u128>());
            let delays = error.history().iter().map(|attempt| attempt.delay);
            let mut expected: Vec<_> = expected.iter().map(|n| Some(millis(*n as u64))).collect();
            expected.push(None);
            assert!(delays.eq(expected));
        });
    }
}

#[test]
fn a_seed_repeats_the_jitter() {
    in_time(|| {
        let waits = |seed| {
            let (clock, token) = manual();
            let backoff = Backoff::exponential(secs(1)).jitter(Jitter::Decorrelated);
            let retry = Retry::builder().attempts(6).backoff(backoff).seed(seed);
            let retry = retry.build().unwrap();
            with_waits(&clock, || retry.call(&token, |_| Err::<(), _>(()))).1
        };
        assert_eq!(waits(7), waits(7));
        assert_ne!(waits(7), waits(8));
    });
}

#[test]
fn what_the_error_asks_for_goes_in_place_of_the_delay() {
    in_time(|| {
        let (clock, token) = manual();
        let retry = Retry::builder()
            .attempts(4)
            .backoff(Backoff::exponential(millis(100)).jitter(Jitter::None))
            .retry_after(|error: &Option<u64>| error.map(millis))
            .build()
            .unwrap();
        let mut answers = [Some(5), None, Some(900), None].into_iter();
        let call = || retry.call(&token, move |_| Err::<(), _>(answers.next().unwrap()));
        let (result, waits) = with_waits(&clock, call);
        assert_eq!(waits, [5, 200, 900]);
        assert_eq!(why(result), ("no attempts left".to_owned(), 4));
    });
}

#[test]
fn an_error_that_is_not_worth_it_ends_it_at_once() {
    let retry = at_once()
        .attempts(9)
        .retry_if(|error: &&str| *error != "forbidden");
    let retry = retry.build().unwrap();
    let mut answers = ["reset", "forbidden"].into_iter();
    let result = retry.call(&CancelToken::new(), |_| {
        Err::<(), _>(answers.next().unwrap())
    });
    let error = result.unwrap_err();
    assert!(matches!(error.gave_up(), GaveUp::NotRetryable));
    assert_eq!(
        (error.attempts(), error.last_error()),
        (2, Some(&"forbidden"))
    );
    assert_eq!(error.into_last_error(), Some("forbidden"));
}

#[test]
fn a_cancelled_token_gets_no_attempt_at_all() {
    let token = CancelToken::new();
    token.cancel_with("shutting down");
    let result = at_once()
        .build()
        .unwrap()
        .call(&token, |_| -> Result<(), &str> {
            panic!("it must not be called")
        });
    let error = result.unwrap_err();
    assert!(error.is_cancelled());
    assert_eq!((error.attempts(), error.last_error()), (0, None));
    assert!(
        error
            .to_string()
            .starts_with("cancelled: shutting down after 0 attempts in ")
    );
}

#[test]
fn a_wait_that_is_interrupted_is_not_followed_by_another_attempt() {
    in_time(|| {
        let (clock, token) = manual();
        let retry = Retry::builder()
            .attempts(9)
            .backoff(Backoff::constant(secs(3600)));
        let retry = retry.build().unwrap();
        let tried = Mutex::new(0);
        std::thread::scope(|s| {
            let call = s.spawn(|| {
                retry.call(&token, |_| {
                    *tried.lock().unwrap() += 1;
                    Err::<(), _>("down")
                })
            });
            clock.await_timers(1);
            token.cancel_with("enough");
            let error = call.join().unwrap().unwrap_err();
            assert!(error.is_cancelled());
            assert_eq!(
                error.last_error(),
                Some(&"down"),
                "the real one, not the cancellation"
            );
            assert_eq!(error.history()[0].delay, Some(secs(3600)));
        });
        assert_eq!(*tried.lock().unwrap(), 1);
    });
}

#[test]
fn an_attempt_that_ends_with_the_token_is_not_retried_and_the_real_error_is_kept() {
    let token = CancelToken::new();
    let mut number = 0;
    let result = at_once()
        .attempts(9)
        .build()
        .unwrap()
        .call(&token, |attempt| {
            number += 1;
            if number == 2 {
                attempt.cancel(); // the caller's own: the attempt has no deadline
                return Err(format!("attempt {number}: told to stop"));
            }
            Err::<(), _>(format!("attempt {number}: refused"))
        });
    let error = result.unwrap_err();
    assert!(error.is_cancelled());
    assert_eq!(error.attempts(), 2);
    assert_eq!(error.last_error().unwrap(), "attempt 1: refused");
    assert_eq!(error.history()[1].error, "attempt 2: told to stop");
    assert!(error.history()[1].cancelled && !error.history()[0].cancelled);
    assert_eq!(error.into_history().len(), 2);
}

/// Of a service that returns "cancelled" of its own accord.
#[test]
fn an_error_that_says_cancelled_is_retried_while_the_token_lives() {
    let elsewhere = CancelToken::new();
    elsewhere.cancel();
    let mut answers = [elsewhere.check(), Ok(())].into_iter();
    let result = at_once().build().unwrap();
    let result = result.call(&CancelToken::new(), |_| answers.next().unwrap());
    assert!(result.is_ok());
}

#[test]
fn one_budget_of_time_counts_attempts_and_waits() {
    in_time(|| {
        let (clock, token) = manual();
        let retry = Retry::builder().attempts(99).within(secs(10));
        let retry = retry.backoff(Backoff::constant(secs(1))).build().unwrap();
        let left = Mutex::new(Vec::new());
        let attempt = |token: &CancelToken| {
            left.lock()
                .unwrap()
                .push(token.remaining().unwrap().as_secs());
            clock.advance(secs(3));
            Err::<(), _>("down")
        };
        let call = std::thread::scope(|s| {
            s.spawn(|| {
                for wait in 1..=2 {
                    support::until(|| left.lock().unwrap().len() == wait);
                    clock.await_timers(1);
                    // The deadline of an attempt is a timer too; the waits are those of a second.
                    let now = clock.now().as_nanos() / 1_000_000_000;
                    support::until(|| {
                        let next = clock.next_deadline();
                        next.is_some_and(|at| at.as_nanos() / 1_000_000_000 == 4 * wait as u64)
                    });
                    assert!(now < 10);
                    clock.advance_to(clock.next_deadline().unwrap());
                }
            });
            retry.call(&token, attempt)
        });
        let error = call.unwrap_err();
        assert!(matches!(error.gave_up(), GaveUp::Time));
        // 3 s + 1 s + 3 s + 1 s + what is left of the third.
        assert_eq!(*left.lock().unwrap(), [10, 6, 2]);
        assert_eq!(error.attempts(), 3);
        assert!(
            !error.history()[2].timed_out,
            "it is not the attempt's own deadline"
        );
    });
}

#[test]
fn a_wait_that_would_end_past_the_time_is_not_begun() {
    // (delay, time for all, attempts)
    for (delay, within, attempts) in [(4, 10, 1), (3, 10, 1), (0, 10, 9)] {
        let (clock, token) = manual();
        let retry = Retry::builder().attempts(9).within(secs(within));
        let retry = retry
            .backoff(Backoff::constant(secs(delay)))
            .build()
            .unwrap();
        let mut first = true;
        let result = retry.call(&token, |_| {
            if std::mem::take(&mut first) {
                clock.advance(secs(7));
            }
            Err::<(), _>("down")
        });
        assert_eq!(
            result.unwrap_err().attempts(),
            attempts,
            "{delay} s of {within}"
        );
    }
    // Nor one past the deadline of the token.
    let (_clock, token) = manual();
    let retry = Retry::builder().backoff(Backoff::constant(secs(5))).build();
    let result = retry
        .unwrap()
        .call(&token.child_timeout(secs(5)), |_| Err::<(), _>("down"));
    assert_eq!(why(result), ("no time left".to_owned(), 1));
    // What is too long to count is not waited for either.
    let retry = Retry::builder()
        .within(secs(5))
        .backoff(Backoff::constant(Duration::MAX));
    let result = retry
        .build()
        .unwrap()
        .call(&token, |_| Err::<(), _>("down"));
    assert_eq!(why(result), ("no time left".to_owned(), 1));
}

#[test]
fn each_attempt_has_its_deadline_and_one_that_runs_into_it_is_retried_whatever_its_error() {
    let (clock, token) = manual();
    let retry = at_once()
        .attempts(3)
        .attempt_timeout_halving(millis(800), millis(300));
    let retry = retry.retry_if(|_: &&str| false).build().unwrap();
    let given = RefCell::new(Vec::new());
    let result = retry.call(&token, |attempt| {
        let left = attempt.remaining().unwrap();
        given.borrow_mut().push(left.as_millis());
        clock.advance(left);
        assert_eq!(attempt.kind(), Some(CancelKind::DeadlineExceeded));
        Err::<(), _>("timed out")
    });
    assert_eq!(*given.borrow(), [800, 400, 300]);
    let error = result.unwrap_err();
    assert!(matches!(error.gave_up(), GaveUp::Attempts));
    assert!(
        error
            .history()
            .iter()
            .all(|attempt| attempt.timed_out && !attempt.cancelled)
    );
    assert!(!token.is_cancelled());
    let took: Vec<_> = error.history().iter().map(|a| a.took.as_millis()).collect();
    assert_eq!(took, [800, 400, 300]);
    let started: Vec<_> = error
        .history()
        .iter()
        .map(|a| a.started.as_nanos() / 1_000_000)
        .collect();
    assert_eq!(started, [0, 800, 1200]);
}

#[test]
fn the_deadline_of_the_whole_token_is_not_retried() {
    let (clock, token) = manual();
    let token = token.child_timeout(millis(500));
    let retry = at_once()
        .attempts(9)
        .attempt_timeout(millis(800))
        .build()
        .unwrap();
    let result = retry.call(&token, |attempt| {
        assert_eq!(attempt.remaining(), Some(millis(500)), "the earlier one");
        clock.advance(millis(500));
        Err::<(), _>("timed out")
    });
    let error = result.unwrap_err();
    let GaveUp::Cancelled(cancelled) = error.gave_up() else {
        panic!("{error:?}")
    };
    assert!(cancelled.is_deadline());
    assert_eq!(error.attempts(), 1);
}

#[test]
fn schedules_halve_to_their_least_and_take_any_number() {
    let given = |builder: RetryBuilder<()>, attempts| {
        let (_clock, token) = manual();
        let given = RefCell::new(Vec::new());
        let retry = builder.attempts(attempts).build().unwrap();
        let result = retry.call(&token, |attempt| {
            given.borrow_mut().push(attempt.remaining());
            Err::<(), _>(())
        });
        assert_eq!(result.unwrap_err().attempts(), attempts);
        given.into_inner()
    };
    let halving = given(at_once().attempt_timeout_halving(secs(1), millis(1)), 200);
    assert_eq!(halving[..2], [Some(secs(1)), Some(millis(500))]);
    assert_eq!(halving[199], Some(millis(1)));
    let own = given(at_once().attempt_timeouts(|n| secs(n.into())), 3);
    assert_eq!(own, [1, 2, 3].map(|n| Some(secs(n))));
    let endless = given(
        at_once()
            .attempt_timeout(Duration::MAX)
            .within(Duration::MAX),
        2,
    );
    assert_eq!(endless, [None, None]);
    let endless = given(at_once().attempt_timeout_halving(Duration::MAX, secs(1)), 2);
    assert_eq!(endless[0], None);
}

#[test]
fn retries_come_out_of_the_shared_budget_and_calls_go_into_it() {
    let clock = Clock::manual();
    let budget = RetryBudget::builder()
        .ratio(0.5)
        .floor_per_second(0.0)
        .clock(&clock);
    let budget = budget.build().unwrap();
    let retry = at_once().attempts(5).budget(&budget).build().unwrap();
    let call = |good| {
        retry.call(&CancelToken::new(), |_| match good {
            true => Ok(()),
            false => Err("down"),
        })
    };
    (0..3).for_each(|_| call(true).unwrap());
    let error = call(false).unwrap_err(); // four calls: two retries
    assert!(matches!(error.gave_up(), GaveUp::Budget));
    assert_eq!(error.attempts(), 3);
    assert_eq!(call(false).unwrap_err().attempts(), 1);
    assert_eq!(call(false).unwrap_err().attempts(), 2);
    let all = budget.snapshot();
    assert_eq!((all.calls, all.retries, all.available), (6, 3, 0));
}

#[test]
fn what_is_not_retried_for_another_reason_takes_nothing_out_of_the_budget() {
    let budget = RetryBudget::builder().build().unwrap();
    let fails = |builder: RetryBuilder<&'static str>| {
        let retry = builder.budget(&budget).build().unwrap();
        retry
            .call(&CancelToken::new(), |_| Err::<(), _>("down"))
            .unwrap_err()
    };
    fails(at_once().attempts(1));
    fails(at_once().retry_if(|_| false));
    fails(
        Retry::builder()
            .within(secs(1))
            .backoff(Backoff::constant(secs(1))),
    );
    assert_eq!((budget.snapshot().calls, budget.snapshot().retries), (3, 0));
}

#[test]
fn listeners_hear_of_each_attempt_and_what_comes_next() {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (clock, token) = manual();
    let record = seen.clone();
    let retry = at_once()
        .attempts(3)
        .on_attempt(|_: &AttemptEvent<'_, &str>| panic!("in a listener"))
        .on_attempt(move |event| {
            let next = match event.next {
                Next::Done => "done".to_owned(),
                Next::Retry(delay) => format!("again after {delay:?}"),
                Next::GaveUp(why) => why.to_string(),
                _ => unreachable!(),
            };
            let error = event.error.copied().unwrap_or("none");
            let took = event.took.as_millis();
            record
                .lock()
                .unwrap()
                .push(format!("{} {took} ms {error}: {next}", event.number));
        })
        .build()
        .unwrap();
    let call = |good: u64| {
        let mut number = 0;
        drop(retry.call(&token, |_| {
            number += 1;
            clock.advance(millis(number));
            if number == good { Ok(()) } else { Err("down") }
        }));
        std::mem::take(&mut *seen.lock().unwrap())
    };
    assert_eq!(
        call(2),
        ["1 1 ms down: again after 0ns", "2 2 ms none: done"]
    );
    let all = call(9);
    assert_eq!(all[2], "3 3 ms down: no attempts left");
    assert_eq!(all.len(), 3);
}

#[test]
fn the_history_keeps_the_last_sixty_four() {
    let retry = at_once().attempts(100).build().unwrap();
    let mut number = 0;
    let error = retry.call(&CancelToken::new(), |_| {
        number += 1;
        Err::<(), _>(number)
    });
    let error = error.unwrap_err();
    assert_eq!((error.attempts(), error.history().len()), (100, 64));
    assert_eq!(
        (error.history()[0].number, error.history()[63].error),
        (37, 100)
    );
}

#[test]
fn a_panic_in_an_attempt_goes_on_and_is_not_retried() {
    let retry = at_once::<()>().build().unwrap();
    let mut tried = 0;
    let call = || {
        retry.call(&CancelToken::new(), |_| -> Result<(), ()> {
            tried += 1;
            panic!("in the attempt")
        })
    };
    assert_eq!(
        *payload_of(call).downcast::<&str>().unwrap(),
        "in the attempt"
    );
    assert_eq!(tried, 1);
}

#[test]
fn errors_need_be_neither_debug_nor_display_and_settings_without_sense_are_refused() {
    struct Opaque;
    let error = at_once().build().unwrap();
    let error = error
        .call(&CancelToken::new(), |_| Err::<(), _>(Opaque))
        .unwrap_err();
    assert!(format!("{error:?}").contains("Attempts"));
    for (builder, why) in [
        (at_once::<()>().attempts(0), "at least one attempt"),
        (at_once().within(Duration::ZERO), "given time"),
        (at_once().attempt_timeout(Duration::ZERO), "each attempt"),
        (
            at_once().attempt_timeout_halving(secs(1), Duration::ZERO),
            "each attempt",
        ),
    ] {
        assert!(
            builder.build().unwrap_err().to_string().contains(why),
            "{why}"
        );
    }
    fn crosses<T: Send + Sync + Clone + std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    crosses::<Retry>();
    crosses::<RetryBudget>();
    fn is_an_error<T: std::error::Error>() {}
    is_an_error::<RetryError<anyhow::Error>>();
}

#[test]
fn the_wait_is_shown_with_the_line_of_the_call() {
    in_time(|| {
        let (clock, token) = manual();
        let retry = Retry::builder()
            .backoff(Backoff::constant(secs(1)))
            .build()
            .unwrap();
        let line = Mutex::new(0);
        let service = CancelToken::new();
        let result = cleanbreak::scope(&service, |group| {
            let (token, retry, line) = (&token, &retry, &line);
            group.spawn_named("retries", move |_| {
                *line.lock().unwrap() = line!() + 1;
                drop(retry.call(token, |_| Err::<(), _>("down")));
                Ok(())
            })?;
            clock.await_timers(1);
            support::until_waiting("retries");
            let live = cleanbreak::threads::live();
            let thread = live.iter().find(|thread| thread.name == "retries").unwrap();
            let wait = thread.waiting.as_ref().unwrap();
            assert_eq!(
                (wait.at.file(), wait.at.line()),
                (file!(), *line.lock().unwrap())
            );
            token.cancel();
            Ok(())
        });
        result.unwrap();
    });
}

#[test]
fn an_attempt_ends_with_its_own_time_or_with_that_of_all_whichever_is_first() {
    for slack in [None, Some(Duration::ZERO)] {
        let (clock, token) = manual();
        let mut retry = at_once().attempts(9).within(millis(25));
        if let Some(slack) = slack {
            retry = retry.slack(slack);
        }
        let retry = retry.attempt_timeout(millis(10)).build().unwrap();
        let (began, mut deadlines) = (clock.now(), Vec::new());
        let error = retry.call(&token, |attempt| {
            let deadline = attempt.deadline().unwrap();
            deadlines.push(deadline.duration_since(began).as_millis());
            clock.advance_to(deadline);
            Err::<(), _>("slow")
        });
        let error = error.unwrap_err();
        assert_eq!(deadlines, [10, 20, 25]);
        assert!(matches!(error.gave_up(), GaveUp::Time), "{error:?}");
        let own: Vec<_> = error.history().iter().map(|it| it.timed_out).collect();
        assert_eq!(own, [true, true, false]);
    }
}

#[test]
fn the_deadline_of_the_caller_is_not_taken_for_that_of_the_attempt() {
    let (clock, token) = manual();
    let retry = at_once().attempt_timeout(millis(10)).build().unwrap();
    let error = retry.call(&token.child_timeout(millis(5)), |attempt| {
        clock.advance_to(attempt.deadline().unwrap());
        Err::<(), _>("slow")
    });
    let error = error.unwrap_err();
    assert!(error.is_cancelled());
    assert!(!error.history()[0].timed_out && error.history()[0].cancelled);
}
