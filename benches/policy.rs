//! What a policy costs on a call that succeeds, beside each of its parts alone and beside the same
//! parts nested by hand.
//!
//! Each contender asserts its answer.
#![allow(missing_docs, reason = "criterion's macros")]

use std::hint::black_box;
use std::time::Duration;

use cleanbreak::backoff::Backoff;
use cleanbreak::resilience::policy::PolicyBuilder;
use cleanbreak::{
    Breaker, Bulkhead, CancelToken, Clock, Policy, Quota, RateLimiter, Retry, RetryBudget, Timeout,
};
use criterion::{Criterion, criterion_group, criterion_main};

type Error = &'static str;

/// As many a second as there will never be.
const MANY: u32 = 1_000_000_000;
const SECOND: Duration = Duration::from_secs(1);

fn limiter() -> RateLimiter {
    RateLimiter::new(Quota::per_second(MANY))
}

fn breaker() -> Breaker {
    Breaker::builder().build().unwrap()
}

/// All but what costs a token of its own, and a shared budget.
fn most() -> PolicyBuilder<Error> {
    let retry = Retry::builder()
        .attempts(3)
        .backoff(Backoff::constant(SECOND));
    Policy::builder()
        .retry(retry)
        .rate_limit(&limiter())
        .bulkhead(&Bulkhead::new(4))
        .breaker(&breaker())
}

fn everything() -> PolicyBuilder<Error> {
    let policy = most().within(10 * SECOND).attempt_timeout(SECOND);
    policy.keep_timer(&Clock::system()).unwrap()
}

fn success(c: &mut Criterion) {
    let token = CancelToken::new();
    let op = |token: &CancelToken| match black_box(token).is_cancelled() {
        false => Ok::<u64, Error>(7),
        true => Err("told"),
    };
    let mut group = c.benchmark_group("policy/success");
    let mut bench = |name: &str, policy: Policy<Error>| {
        group.bench_function(name, |b| {
            b.iter(|| assert_eq!(policy.call(&token, op).ok(), Some(7)))
        });
    };
    let slack = Duration::from_millis(100);
    bench("nothing", Policy::builder().build().unwrap());
    bench("all_but_deadlines", most().build().unwrap());
    bench(
        "everything_with_slack",
        everything().slack(slack).build().unwrap(),
    );
    let budget = RetryBudget::builder().build().unwrap();
    let retry = Retry::builder().attempts(3).budget(&budget);
    let timed = Breaker::builder().slow_calls(SECOND, 0.5).build().unwrap();
    let more = everything().slack(slack).retry(retry).breaker(&timed);
    bench(
        "everything_with_slack_budget_and_slow_calls",
        more.build().unwrap(),
    );
    bench("everything_exact_deadlines", everything().build().unwrap());
    let fallback = everything().slack(slack).build().unwrap();
    group.bench_function("everything_with_slack_call_or", |b| {
        b.iter(|| {
            let answer = fallback.call_or(&token, op, |_| Ok(0));
            assert_eq!(answer.ok(), Some(7));
        })
    });

    let (retry, limiter, bulkhead, breaker) = (
        Retry::<Error>::builder().build().unwrap(),
        limiter(),
        Bulkhead::new(4),
        breaker(),
    );
    let timeout = Timeout::new(SECOND).keep_timer(&Clock::system()).unwrap();
    let timeout = timeout.with_slack(slack);
    group.bench_function("alone/operation", |b| {
        b.iter(|| assert_eq!(op(&token).ok(), Some(7)))
    });
    group.bench_function("alone/clock", |b| b.iter(|| token.clock().now()));
    group.bench_function("alone/retry", |b| {
        b.iter(|| assert_eq!(retry.call(&token, op).ok(), Some(7)))
    });
    group.bench_function("alone/rate_limit", |b| {
        b.iter(|| assert_eq!(limiter.call(&token, op).ok(), Some(7)))
    });
    group.bench_function("alone/bulkhead", |b| {
        b.iter(|| assert_eq!(bulkhead.call(&token, op).ok(), Some(7)))
    });
    group.bench_function("alone/breaker", |b| {
        b.iter(|| assert_eq!(breaker.call(&token, op).ok(), Some(7)))
    });
    group.bench_function("alone/timeout_with_slack", |b| {
        b.iter(|| assert_eq!(timeout.call(&token, op).ok(), Some(7)))
    });
    group.bench_function("nested_by_hand", |b| {
        b.iter(|| {
            let answer = retry.call(&token, |token| {
                limiter.acquire(token).map_err(|_| "limited")?;
                let _permit = bulkhead.acquire(token).map_err(|_| "full")?;
                breaker
                    .call(token, |token| timeout.call(token, op))
                    .map_err(|_| "failed")
            });
            assert_eq!(answer.ok(), Some(7));
        })
    });
    group.finish();
}

/// What does not succeed: how soon it is said.
fn refusal(c: &mut Criterion) {
    let token = CancelToken::new();
    let mut group = c.benchmark_group("policy/rejected");
    let open = breaker();
    open.force_open();
    let policy = everything().breaker(&open).build().unwrap();
    group.bench_function("everything", |b| {
        b.iter(|| assert!(policy.call(&token, |_| Ok(7)).unwrap_err().is_refused()))
    });
    group.bench_function("breaker_alone", |b| {
        b.iter(|| assert!(open.call(&token, |_| Ok::<_, Error>(7)).is_err()))
    });
    group.finish();
}

criterion_group!(benches, success, refusal);
criterion_main!(benches);
