//! What is refused, and what that costs the others.

use super::*;

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
