//! Floor 5: what to do when the other side is slow, or fails.
//!
//! A call to something that may fail, hang or be overrun. Each part decides one thing and is used by
//! itself; they fit into each other as closures do, the outer one around the inner one. All of them
//! hand a [`CancelToken`](crate::CancelToken) down to the call, and end their own waits with it.
//!
//! | part | what it decides |
//! |---|---|
//! | [`breaker`] | whether to call at all: not while what is called is down |
//! | [`retry`] | whether to try again, and when |
//! | [`budget`] | how many retries all callers together may make |
//! | [`Timeout`] | bounds a call that can be told, by a token with a deadline |
//! | [`Abandoner`] | bounds a call that cannot: on a thread of its own, which is left behind when it is late |
//! | [`Bulkhead`] | so many calls at a time, first come first served |
//! | [`RateLimiter`], [`KeyedRateLimiter`] | so many calls in a time, for all or for each key |
//! | [`Hedge`] | a second attempt when the first one is slow; the first success wins |
//! | [`AdaptiveLimit`] | so many calls at a time, where the number is found out |
//! | [`policy`] | all of it around one operation, in one order |
//!
//! # Which to combine, and in which order
//!
//! [`Policy`] is most of them around one operation, in an order that its [module](policy) argues
//! for:
//!
//! > fallback( time limit( retry( look at the breaker → rate limit → bulkhead → breaker → timeout( call ) ) ) )
//!
//! | you call | then |
//! |---|---|
//! | something that fails now and then | a retry, with a shared budget if there are many callers |
//! | something that can be down | the same, with a breaker within the retry: each attempt is counted, and none is made while it is open |
//! | something that hangs | a timeout for each attempt, within the breaker: no answer in time is a failure. An [`Abandoner`] inside, if it cannot be told |
//! | something slow, from many threads | a bulkhead before the breaker's permit, so that a wait is no slow call. [`AdaptiveLimit`] in its place if nobody knows the number |
//! | something with a quota | a rate limit before the bulkhead: nobody holds a permit while he waits for his turn |
//! | for clients that may ask too much | a [`KeyedRateLimiter`] outermost: it goes by who asks, and a refusal is no retry's affair |
//! | one of several replicas | a [`Hedge`] innermost, around a call to one of them, with a breaker for each replica inside it |
//!
//! Whatever the order by hand: cancellation comes through all of them as an error of the token, not of the
//! call. It is nobody's failure, and nobody's reason to try again.
//!
//! # Examples
//!
//! ```
//! use std::time::Duration;
//! use cleanbreak::backoff::Backoff;
//! use cleanbreak::resilience::CallError;
//! use cleanbreak::resilience::breaker::Rejected;
//! use cleanbreak::{Breaker, CancelToken, Retry};
//!
//! let breaker = Breaker::builder().consecutive_failures(3).build().unwrap();
//! let retry = Retry::builder()
//!     .attempts(3)
//!     .backoff(Backoff::exponential(Duration::from_millis(1)))
//!     .retry_if(|error: &CallError<Rejected, &str>| !error.is_refused())
//!     .build()
//!     .unwrap();
//!
//! let token = CancelToken::new();
//! let mut answers = [Err("reset"), Ok("stock: 7")].into_iter();
//! let answer = retry.call(&token, |token| {
//!     breaker.call(token, |_| answers.next().unwrap_or(Err("down")))
//! });
//! assert_eq!(answer.unwrap(), "stock: 7");
//!
//! // Three failures in a row: it calls no more, and the retry sees no use in trying again.
//! let error = retry.call(&token, |token| breaker.call(token, |_| Err::<(), _>("down")));
//! assert_eq!(error.unwrap_err().attempts(), 3);
//! let error = retry.call(&token, |token| breaker.call(token, |_| Err::<(), _>("down")));
//! let error = error.unwrap_err();
//! assert_eq!(error.attempts(), 1);
//! assert!(error.last_error().unwrap().is_refused());
//! ```

mod abandon;
mod adaptive;
mod bulkhead;
mod call;
mod controller;
mod hedge;
mod latency;
mod list;
mod permits;
#[cfg(test)]
mod random;
mod rate_limit;
mod semaphore;
mod setting;
mod sliced;
mod spares;
mod timeout;

pub mod breaker;
pub mod budget;
pub mod policy;
pub mod retry;

pub use abandon::{
    AbandonError, AbandonedCall, Abandoner, AbandonerBuilder, Late, RefusedCall, RefusedKind,
};
pub use adaptive::{AdaptiveLimit, AdaptiveLimitBuilder, AdaptiveOutcome, AdaptivePermit};
pub use breaker::Breaker;
pub use budget::RetryBudget;
pub use bulkhead::{Bulkhead, BulkheadPermit};
pub use call::CallError;
pub use hedge::{Hedge, HedgeBuilder, HedgeError, HedgeStats};
pub use list::{BulkheadInfo, RateLimiterInfo};
pub use policy::Policy;
pub use rate_limit::{KeyedRateLimiter, Quota, RateLimitError, RateLimiter};
pub use retry::Retry;
pub use semaphore::AcquireError;
pub use setting::InvalidSetting;
pub use timeout::{Timeout, TimeoutError};
