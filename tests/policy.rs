//! The policy: every part in its place, whatever the others do.

mod support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering::Relaxed};
use std::time::Duration;

use cleanbreak::backoff::Backoff;
use cleanbreak::resilience::AcquireError;
use cleanbreak::resilience::breaker::{Outcome, State};
use cleanbreak::resilience::policy::{AttemptError, PolicyBuilder, PolicyErrorKind as Kind};
use cleanbreak::resilience::retry::{GaveUp, RetryBuilder};
use cleanbreak::{
    Breaker, Bulkhead, CancelKind, CancelToken, Clock, ManualClock, Policy, Quota, RateLimiter,
    Retry, scope,
};
use support::{cancelled, in_time, millis, payload_of, secs, until, until_waiting};

type Error = &'static str;

fn policy() -> PolicyBuilder<Error> {
    Policy::builder()
}

/// Another attempt at once.
fn at_once(attempts: u32) -> RetryBuilder<AttemptError<Error>> {
    let retry = Retry::builder().attempts(attempts);
    retry.backoff(Backoff::constant(Duration::ZERO))
}

/// Opens with the first failure, for ten seconds.
fn fragile(clock: &Clock) -> Breaker {
    let breaker = Breaker::builder().consecutive_failures(1);
    let breaker = breaker.open_for(secs(10)).clock(clock);
    breaker.build().unwrap()
}

fn manual() -> (ManualClock, CancelToken) {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    (clock, token)
}

/// How many tokens can be had now.
fn tokens(limiter: &RateLimiter) -> usize {
    (0..).take_while(|_| limiter.try_acquire().is_ok()).count()
}

#[test]
fn with_nothing_set_it_is_the_operation_alone() {
    let token = CancelToken::new();
    let policy = policy().build().unwrap();
    let same = policy
        .call(&token, |attempt| Ok(attempt.deadline()))
        .unwrap();
    assert_eq!(same, None);
    let error = policy.call(&token, |_| Err::<(), _>("reset")).unwrap_err();
    assert_eq!(error.kind(), Kind::Failed);
    assert_eq!((error.attempts(), error.to_string().as_str()), (1, "reset"));
    assert_eq!(error.into_last_error(), Some("reset"));
}

#[test]
fn a_rejected_call_takes_no_rate_token_and_no_permit_and_does_not_wait() {
    let (clock, token) = manual();
    let breaker = fragile(&clock);
    let limiter = RateLimiter::with_clock(Quota::per_second(1).burst(3), &clock);
    let bulkhead = Bulkhead::new(1);
    let policy = policy()
        .breaker(&breaker)
        .rate_limit(&limiter)
        .bulkhead(&bulkhead);
    let policy = policy.build().unwrap();
    let _busy = bulkhead.try_acquire().unwrap(); // it would wait for ever
    for state in [State::Open, State::ForcedOpen, State::HalfOpen] {
        let mut probe = None;
        match state {
            State::Open => breaker.trip(),
            State::ForcedOpen => breaker.force_open(),
            _ => {
                breaker.reset();
                breaker.trip();
                clock.advance(secs(10));
                probe = Some(breaker.acquire().unwrap()); // the one probe is on its way
            }
        }
        let rejected = breaker.snapshot().rejected;
        let error = policy.call(&token, |_| Ok(())).unwrap_err();
        assert_eq!(error.kind(), Kind::Rejected, "{state}");
        assert!(error.is_refused() && error.last_error().is_none());
        assert_eq!(breaker.snapshot().rejected, rejected + 1, "counted once");
        assert_eq!(breaker.state(), state);
        drop(probe);
    }
    assert_eq!(bulkhead.waiting(), 0);
    assert_eq!(tokens(&limiter), 3);
}

#[test]
fn the_look_at_a_breaker_takes_no_probes_place() {
    let (clock, token) = manual();
    let breaker = fragile(&clock);
    let limiter = RateLimiter::with_clock(Quota::per_second(1).burst(1), &clock);
    let policy = policy()
        .breaker(&breaker)
        .rate_limit(&limiter)
        .max_wait(Duration::ZERO);
    let policy = policy.build().unwrap();
    breaker.trip();
    clock.advance(secs(10));
    assert_eq!(tokens(&limiter), 1);
    let error = policy.call(&token, |_| Ok(())).unwrap_err();
    assert_eq!(error.kind(), Kind::RateLimited);
    assert_eq!(breaker.state(), State::Open); // nobody has probed
    clock.advance(secs(1));
    assert!(policy.call(&token, |_| Ok(())).is_ok());
    assert_eq!(breaker.state(), State::Closed);
}

#[test]
fn refusals_of_the_limits_are_neutral_for_the_breaker_and_are_not_retried() {
    let (clock, token) = manual();
    let breaker = fragile(&clock);
    let limiter = RateLimiter::with_clock(Quota::per_second(1).burst(1), &clock);
    let bulkhead = Bulkhead::new(1).with_queue(0);
    let parts = policy().breaker(&breaker).retry(at_once(3));
    let full = parts.bulkhead(&bulkhead).build().unwrap();
    let busy = bulkhead.try_acquire().unwrap();
    let error = full.call(&token, |_| Ok(())).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (Kind::Full, 1));
    assert!(matches!(error.gave_up(), GaveUp::NotRetryable));
    drop(busy);
    assert_eq!(tokens(&limiter), 1);
    let limited = policy()
        .breaker(&breaker)
        .rate_limit(&limiter)
        .retry(at_once(3));
    let limited = limited.max_wait(millis(999)).build().unwrap();
    let error = limited.call(&token, |_| Ok(())).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (Kind::RateLimited, 1));
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.counts.calls), (State::Closed, 0));
}

#[test]
fn refusals_are_retried_if_the_retry_says_so() {
    let bulkhead = Bulkhead::new(1).with_queue(0);
    let busy = bulkhead.try_acquire().unwrap();
    let busy = std::sync::Mutex::new(Some(busy));
    let retry = at_once(2).retry_if(|error| matches!(error, AttemptError::Full(_)));
    let policy = policy().bulkhead(&bulkhead).retry(retry).build().unwrap();
    let token = CancelToken::new();
    assert_eq!(policy.call(&token, |_| Ok(())).unwrap_err().attempts(), 2);
    busy.lock().unwrap().take();
    assert!(policy.call(&token, |_| Ok(())).is_ok());
}

#[test]
fn a_call_that_the_bulkhead_refuses_gives_its_rate_token_back() {
    let (clock, token) = manual();
    let limiter = RateLimiter::with_clock(Quota::per_second(1).burst(2), &clock);
    let bulkhead = Bulkhead::new(1).with_queue(0);
    let policy = policy()
        .rate_limit(&limiter)
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let busy = bulkhead.try_acquire().unwrap();
    for _ in 0..10 {
        assert_eq!(
            policy.call(&token, |_| Ok(())).unwrap_err().kind(),
            Kind::Full
        );
    }
    drop(busy);
    assert!(policy.call(&token, |_| Ok(())).is_ok());
    assert_eq!(tokens(&limiter), 1);
}

#[test]
fn a_breaker_that_opens_during_the_wait_rejects_after_it_and_all_is_given_back() {
    in_time(|| {
        let (clock, token) = manual();
        let breaker = fragile(&clock);
        let limiter = RateLimiter::with_clock(Quota::per_second(1).burst(1), &clock);
        let bulkhead = Bulkhead::new(1);
        let policy = policy()
            .rate_limit(&limiter)
            .bulkhead(&bulkhead)
            .breaker(&breaker);
        let policy = policy.build().unwrap();
        let busy = bulkhead.try_acquire().unwrap();
        let kind = scope(&token, |group| {
            let waits = group.spawn_named("policy waits", |token| {
                Ok(policy.call(token, |_| Ok(())).unwrap_err().kind())
            })?;
            until(|| bulkhead.waiting() == 1);
            breaker.trip();
            drop(busy);
            Ok(waits.join()?)
        });
        assert_eq!(kind.unwrap(), Kind::Rejected);
        assert_eq!(bulkhead.in_use(), 0);
        assert_eq!(tokens(&limiter), 1);
    });
}

#[test]
fn a_wait_is_no_slow_call_and_no_part_of_the_attempts_time() {
    in_time(|| {
        let (clock, token) = manual();
        let breaker = Breaker::builder().slow_calls(secs(1), 0.1).minimum_calls(1);
        let breaker = breaker.clock(&clock).build().unwrap();
        let bulkhead = Bulkhead::new(1);
        let policy = policy().bulkhead(&bulkhead).breaker(&breaker);
        let policy = policy.attempt_timeout(secs(3)).build().unwrap();
        let busy = bulkhead.try_acquire().unwrap();
        let left = scope(&token, |group| {
            let waits = group.spawn_named("policy queues", |token| {
                Ok(policy
                    .call(token, |attempt| Ok(attempt.remaining()))
                    .unwrap())
            })?;
            until(|| bulkhead.waiting() == 1);
            clock.advance(secs(100));
            drop(busy);
            Ok(waits.join()?)
        });
        assert_eq!(left.unwrap(), Some(secs(3)));
        let snapshot = breaker.snapshot();
        assert_eq!((snapshot.counts.calls, snapshot.counts.slow), (1, 0));
        // The control: the same time in the operation is one.
        let slow = |_: &CancelToken| {
            clock.advance(secs(1));
            Ok(())
        };
        policy.call(&token, slow).unwrap();
        assert_eq!(breaker.state(), State::Open);
    });
}

#[test]
fn a_timeout_of_the_attempt_is_a_failure_for_the_breaker_and_is_retried_with_half_the_time() {
    let (clock, token) = manual();
    let breaker = Breaker::builder().consecutive_failures(3).clock(&clock);
    let breaker = breaker.build().unwrap();
    let retry = at_once(3).attempt_timeout_halving(millis(800), millis(1));
    // Not asked about timeouts.
    let retry = retry.retry_if(|error| error.is_retryable() && error.error() != Some(&"late"));
    let policy = policy().retry(retry).breaker(&breaker).build().unwrap();
    let mut given = Vec::new();
    let error = policy.call(&token, |attempt| {
        let left = attempt.remaining().unwrap();
        given.push(left);
        clock.advance(left);
        Err::<(), _>("late")
    });
    let error = error.unwrap_err();
    assert_eq!(given, [800, 400, 200].map(millis));
    assert!(error.is_timeout() && error.history().iter().all(|attempt| attempt.timed_out));
    assert_eq!(error.last_error(), Some(&"late"));
    assert_eq!(breaker.state(), State::Open);
    assert!(!token.is_cancelled());
}

#[test]
fn the_time_limit_is_one_for_attempts_delays_and_waits() {
    let (clock, token) = manual();
    let breaker = fragile(&clock);
    let policy = policy().within(secs(5)).breaker(&breaker).retry(at_once(9));
    let limited = policy.build().unwrap();
    let error = limited.call(&token, |attempt| {
        clock.advance(attempt.remaining().unwrap());
        Err::<(), _>("late")
    });
    let error = error.unwrap_err();
    assert_eq!(
        (error.kind(), error.attempts(), error.elapsed()),
        (Kind::TimedOut, 1, secs(5))
    );
    assert!(matches!(error.gave_up(), GaveUp::Time));
    assert_eq!(breaker.state(), State::Open); // no answer in time

    let bulkhead = Bulkhead::new(1);
    let _busy = bulkhead.try_acquire().unwrap();
    let token = CancelToken::new();
    let queue = self::policy()
        .within(millis(5))
        .bulkhead(&bulkhead)
        .build()
        .unwrap();
    let error = in_time(move || queue.call(&token, |_| Ok(())).unwrap_err());
    let last = error.last_attempt().unwrap();
    assert!(
        matches!(last, AttemptError::Full(AcquireError::Timeout)),
        "{last}"
    );
}

#[test]
fn a_cancelled_call_is_neutral_is_not_retried_and_skips_the_fallback() {
    let (clock, token) = manual();
    let breaker = fragile(&clock);
    let policy = policy()
        .breaker(&breaker)
        .retry(at_once(3))
        .attempt_timeout(secs(1));
    let policy = policy.build().unwrap();
    let error = policy.call_or(
        &token,
        |_| {
            token.cancel_with("enough");
            Err("interrupted")
        },
        |_| Ok(()),
    );
    let error = error.unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (Kind::Cancelled, 1));
    assert_eq!(error.last_error(), Some(&"interrupted"));
    let snapshot = breaker.snapshot();
    assert_eq!((snapshot.state, snapshot.counts.calls), (State::Closed, 0));
    let error = policy.call_or(&token, |_| Ok(()), |_| Ok(())).unwrap_err();
    assert_eq!(
        (error.attempts(), error.to_string().as_str()),
        (0, "cancelled: enough")
    );
}

#[test]
fn the_end_of_the_callers_own_deadline_is_a_failure_and_skips_retry_and_fallback_too() {
    let (clock, token) = manual();
    let breaker = fragile(&clock);
    let policy = policy()
        .breaker(&breaker)
        .retry(at_once(3))
        .attempt_timeout(secs(9));
    let policy = policy.within(secs(8)).build().unwrap();
    let caller = token.child_timeout(secs(1));
    let op = |attempt: &CancelToken| {
        clock.advance(attempt.remaining().unwrap());
        Err("late")
    };
    let error = policy.call_or(&caller, op, |_| Ok(())).unwrap_err();
    assert_eq!((error.kind(), error.attempts()), (Kind::Cancelled, 1));
    assert!(
        matches!(error.gave_up(), GaveUp::Cancelled(it) if it.kind() == CancelKind::DeadlineExceeded)
    );
    assert_eq!(breaker.state(), State::Open);
}

#[test]
fn a_wait_for_a_permit_for_the_rate_limit_and_for_the_next_attempt_end_with_the_token() {
    let bulkhead = Bulkhead::new(1);
    let _busy = bulkhead.try_acquire().unwrap();
    let queue = policy().bulkhead(&bulkhead).build().unwrap();
    let limiter = RateLimiter::new(Quota::new(1, secs(3600)));
    limiter.try_acquire().unwrap();
    let limited = policy().rate_limit(&limiter).build().unwrap();
    let delay = Retry::builder().backoff(Backoff::constant(secs(3600)));
    let delayed = policy().retry(delay).build().unwrap();
    for (name, policy, said) in [
        ("policy bulkhead", queue, "get a permit"),
        ("policy rate", limited, "be let through by a rate limit"),
        ("policy delay", delayed, "be cancelled"),
    ] {
        let (kind, wait) = cancelled(name, move |token| {
            policy
                .call(token, |_| Err::<(), _>("down"))
                .unwrap_err()
                .kind()
        });
        assert_eq!(kind, Kind::Cancelled, "{name}");
        assert_eq!(wait.on, said);
    }
}

#[test]
fn an_open_breaker_is_waited_for_if_that_is_within_the_time_limit() {
    in_time(|| {
        let clock = Clock::manual();
        let token = CancelToken::with_clock(&clock);
        let breaker = fragile(&clock);
        let build = |within: Option<Duration>, attempts| {
            let policy = policy().breaker(&breaker).retry(at_once(attempts));
            let policy = match within {
                Some(time) => policy.within(time),
                None => policy,
            };
            policy.build().unwrap()
        };
        // Without a limit it is not, and nor if it is too short.
        for (within, attempts, why) in [
            (None, 1, "not an error to try again for"),
            (Some(secs(10)), 1, "no time left"),
        ] {
            breaker.reset();
            breaker.trip();
            let error = build(within, 9).call(&token, |_| Ok(())).unwrap_err();
            let found = (error.kind(), error.attempts(), error.gave_up().to_string());
            assert_eq!(found, (Kind::Rejected, attempts, why.to_owned()));
        }
        let patient = build(Some(secs(11)), 2);
        let answer = scope(&token, |group| {
            let waits = group.spawn_named("policy patient", |token| {
                Ok(patient.call(token, |_| Ok(7)).unwrap())
            })?;
            until_waiting("policy patient");
            clock.advance(secs(10));
            Ok(waits.join()?)
        });
        assert_eq!(answer.unwrap(), 7);
        breaker.force_open(); // for ever: no use to wait
        assert_eq!(patient.call(&token, |_| Ok(7)).unwrap_err().attempts(), 1);
    });
}

#[test]
fn the_fallback_gets_the_error_and_may_return_it() {
    let token = CancelToken::new();
    let policy = policy().retry(at_once(2)).build().unwrap();
    let down = |_: &CancelToken| Err::<u32, _>("down");
    let answer = policy.call_or(&token, down, |error| {
        assert_eq!((error.kind(), error.attempts()), (Kind::Failed, 2));
        Ok(7)
    });
    assert_eq!(answer.unwrap(), 7);
    let error = policy.call_or(&token, down, Err).unwrap_err();
    assert!(
        error
            .to_string()
            .starts_with("no attempts left after 2 attempts in "),
        "{error}"
    );
    let fine = policy.call_or(&token, |_| Ok(1), |_| panic!("it is not needed"));
    assert_eq!(fine.unwrap(), 1);
}

#[test]
fn what_an_error_means_for_the_breaker_can_be_said() {
    let (clock, token) = manual();
    let breaker = fragile(&clock);
    let policy = policy().breaker(&breaker).classify(|error| match *error {
        "not found" => Outcome::Success,
        "bad request" => Outcome::Ignored,
        _ => Outcome::Failure,
    });
    let policy = policy.build().unwrap();
    let call = |error| {
        policy
            .call(&token, move |_| Err::<(), _>(error))
            .unwrap_err()
            .kind()
    };
    assert_eq!(call("not found"), Kind::Failed);
    assert_eq!(breaker.snapshot().counts.calls, 1);
    assert_eq!(call("bad request"), Kind::Failed);
    assert_eq!(breaker.snapshot().counts.calls, 1);
    assert_eq!(call("down"), Kind::Failed);
    assert_eq!(call("down"), Kind::Rejected);
}

#[test]
fn a_panic_is_a_failure_gives_the_permit_back_and_goes_on() {
    let (clock, token) = manual();
    let breaker = fragile(&clock);
    let bulkhead = Bulkhead::new(1);
    let policy = policy()
        .breaker(&breaker)
        .bulkhead(&bulkhead)
        .attempt_timeout(secs(1));
    let policy = policy.slack(secs(1)).build().unwrap();
    let payload =
        payload_of(|| policy.call(&token, |_| -> Result<(), Error> { panic!("planted") }));
    assert_eq!(payload.downcast_ref::<&str>(), Some(&"planted"));
    assert_eq!((bulkhead.in_use(), breaker.state()), (0, State::Open));
}

#[test]
fn with_slack_a_token_serves_many_calls_and_each_has_at_least_its_time() {
    let (clock, token) = manual();
    let policy = policy()
        .attempt_timeout(secs(1))
        .slack(millis(500))
        .build()
        .unwrap();
    let mut ends = Vec::new();
    for _ in 0..20 {
        let left = policy
            .call(&token, |attempt| Ok(attempt.remaining().unwrap()))
            .unwrap();
        assert!(secs(1) <= left && left <= millis(1500), "{left:?}");
        ends.push(clock.now().checked_add(left));
        clock.advance(millis(100));
    }
    ends.dedup();
    assert!(ends.len() <= 4, "{ends:?}");
    // One that is kept is not used again.
    let kept = policy.call(&token, |attempt| Ok(attempt.clone())).unwrap();
    kept.cancel();
    let next = policy.call(&token, |attempt| Ok(attempt.is_cancelled()));
    assert!(!next.unwrap());
}

#[test]
fn clones_are_one_policy_for_many_threads() {
    in_time(|| {
        let token = CancelToken::new();
        let bulkhead = Bulkhead::new(3);
        let limiter = RateLimiter::new(Quota::per_second(1_000_000_000));
        let breaker = Breaker::builder().consecutive_failures(1).build().unwrap();
        let policy = policy()
            .bulkhead(&bulkhead)
            .rate_limit(&limiter)
            .breaker(&breaker);
        let policy = policy
            .attempt_timeout(secs(600))
            .slack(secs(60))
            .within(secs(6000));
        let policy = policy.retry(at_once(2)).build().unwrap();
        let (running, most) = (AtomicU32::new(0), AtomicU32::new(0));
        scope(&token, |group| {
            for _ in 0..8 {
                let (policy, running, most) = (policy.clone(), &running, &most);
                group.spawn(move |token| {
                    for _ in 0..500 {
                        let call = policy.call(token, |attempt| {
                            most.fetch_max(running.fetch_add(1, Relaxed) + 1, Relaxed);
                            let alive = attempt.check();
                            running.fetch_sub(1, Relaxed);
                            alive.map_err(|_| "told")
                        });
                        call.unwrap();
                    }
                    Ok(())
                })?;
            }
            Ok(())
        })
        .unwrap();
        assert!(most.load(Relaxed) <= 3);
        assert_eq!((bulkhead.in_use(), breaker.state()), (0, State::Closed));
        fn crosses<T: Clone + Send + Sync + std::panic::UnwindSafe + 'static>(_: &T) {}
        crosses(&policy);
    });
}

#[test]
fn it_calls_whatever_error_a_program_has() {
    let token = CancelToken::new();
    let count = Arc::new(AtomicU32::new(0));
    let retry = Retry::builder().backoff(Backoff::constant(Duration::ZERO));
    let any = Policy::<anyhow::Error>::builder()
        .retry(retry)
        .build()
        .unwrap();
    let (told, counted) = (count.clone(), |count: &AtomicU32| {
        count.fetch_add(1, Relaxed)
    });
    let error = any.call(&token, |_| -> anyhow::Result<()> {
        counted(&told);
        anyhow::bail!("down")
    });
    let error = anyhow::Error::from(error.unwrap_err()).to_string();
    assert!(error.ends_with(": down"), "{error}");
    assert_eq!(count.load(Relaxed), 3);
}

#[test]
fn settings_that_make_no_sense_are_refused() {
    let why = |builder: PolicyBuilder<Error>| builder.build().unwrap_err().to_string();
    assert_eq!(
        why(policy().within(Duration::ZERO)),
        "all attempts together must be given time"
    );
    assert_eq!(
        why(policy().attempt_timeout(Duration::ZERO)),
        "each attempt must be given time"
    );
    assert_eq!(
        why(policy().retry(at_once(0))),
        "there must be at least one attempt"
    );
    let forever = policy()
        .within(Duration::MAX)
        .attempt_timeout(Duration::MAX);
    let forever = forever
        .max_wait(Duration::MAX)
        .slack(Duration::MAX)
        .build()
        .unwrap();
    assert!(forever.call(&CancelToken::new(), |_| Ok(())).is_ok());
}

#[test]
fn an_attempt_with_no_time_is_not_run_and_says_nothing_about_what_it_would_have_called() {
    let (clock, token) = manual();
    let breaker = fragile(&clock);
    let retry = at_once(2).attempt_timeouts(|attempt| secs(u64::from(attempt) - 1));
    let policy = policy().breaker(&breaker).retry(retry).build().unwrap();
    let mut ran = 0;
    let answer = policy.call(&token, |attempt| {
        ran += 1;
        Ok(attempt.remaining())
    });
    assert_eq!((answer.unwrap(), ran), (Some(secs(1)), 1)); // the second one
    let counts = breaker.snapshot().counts;
    assert_eq!((counts.calls, counts.failures), (1, 0));
}

#[test]
fn a_rate_limit_and_a_breaker_may_go_by_clocks_of_their_own() {
    let (clock, token) = manual();
    let (theirs, others) = (Clock::manual(), Clock::manual());
    let breaker = fragile(&theirs);
    let limiter = RateLimiter::with_clock(Quota::per_second(1).burst(1), &others);
    let policy = policy()
        .breaker(&breaker)
        .rate_limit(&limiter)
        .max_wait(Duration::ZERO);
    let policy = policy.attempt_timeout(secs(1)).build().unwrap();
    let call = || {
        policy
            .call(&token, |_| Ok(()))
            .map_err(|error| error.kind())
    };
    assert_eq!(call(), Ok(()));
    clock.advance(secs(100));
    assert_eq!(call(), Err(Kind::RateLimited));
    others.advance(secs(1));
    assert_eq!(call(), Ok(()));
    breaker.trip();
    others.advance(secs(1));
    clock.advance(secs(100));
    assert_eq!(call(), Err(Kind::Rejected));
    theirs.advance(secs(10));
    assert_eq!(call(), Ok(()));
}
