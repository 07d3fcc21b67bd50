//! A call that succeeds allocates nothing, through a breaker, a retry and its shared budget.

#[path = "support/counting.rs"]
mod counting;

use std::time::Duration;

use cleanbreak::backoff::Backoff;
use cleanbreak::{Breaker, CancelToken, Retry, RetryBudget};

fn allocations(body: impl FnMut()) -> usize {
    counting::allocations(100, 10_000, body)
}

#[test]
fn a_call_that_succeeds_allocates_nothing() {
    let token = CancelToken::new();
    let by_count = Breaker::builder().build().unwrap();
    let by_time = Breaker::builder().time_window(Duration::from_secs(60));
    let by_time = by_time
        .slow_calls(Duration::from_secs(60), 0.5)
        .build()
        .unwrap();
    let budget = RetryBudget::builder().build().unwrap();
    let retry = Retry::builder().backoff(Backoff::constant(Duration::ZERO));
    let retry = retry.attempts(2).budget(&budget).build().unwrap();

    for breaker in [&by_count, &by_time] {
        let calls = allocations(|| {
            let answer = retry.call(&token, |token| {
                breaker.call(token, |token| match token.is_cancelled() {
                    false => Ok(7),
                    true => Err(()),
                })
            });
            assert_eq!(answer.ok(), Some(7));
        });
        assert_eq!(calls, 0);
        let permits = allocations(|| breaker.acquire().unwrap().success());
        assert_eq!(permits, 0);
    }
    // Rejections neither; and one that is retried is seen to allocate, for its history.
    by_count.force_open();
    let rejected = allocations(|| assert!(by_count.call(&token, |_| Ok::<_, ()>(7)).is_err()));
    assert_eq!(rejected, 0);
    let retried = allocations(|| {
        let answer = retry.call(&token, |token| by_count.call(token, |_| Ok::<_, ()>(7)));
        assert!(answer.is_err());
    });
    assert!(retried >= 10_000, "{retried}");
}
