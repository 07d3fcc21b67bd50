//! Fallback, classification, panics, threads and settings.

use super::*;

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
