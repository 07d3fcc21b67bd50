//! Time limits, timeouts, waits and their ends.

use super::*;

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
