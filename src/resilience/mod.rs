//! Floor 5: what to do when the other side is slow, or fails.
//!
//! | part | what it does |
//! |---|---|
//! | [`Timeout`] | bounds a call that can be told, by a token with a deadline |
//! | [`Abandoner`] | bounds a call that cannot: on a thread of its own, which is left behind when it is late |
//! | [`Bulkhead`] | so many calls at a time, first come first served |
//! | [`RateLimiter`], [`KeyedRateLimiter`] | so many calls in a time, for all or for each key |
//! | [`Hedge`] | a second attempt when the first one is slow; the first success wins |
//! | [`AdaptiveLimit`] | so many calls at a time, where the number is found out |

mod abandon;
mod adaptive;
mod bulkhead;
mod call;
mod controller;
mod hedge;
mod latency;
mod permits;
mod rate_limit;
mod semaphore;
mod timeout;

pub use abandon::{
    AbandonError, AbandonedCall, Abandoner, AbandonerBuilder, Late, RefusedCall, RefusedKind,
};
pub use adaptive::{AdaptiveLimit, AdaptiveLimitBuilder, AdaptivePermit, Outcome};
pub use bulkhead::{Bulkhead, Permit};
pub use call::CallError;
pub use hedge::{Hedge, HedgeBuilder, HedgeError, HedgeStats};
pub use rate_limit::{KeyedRateLimiter, Quota, RateLimitError, RateLimiter};
pub use semaphore::AcquireError;
pub use timeout::{Timeout, TimeoutError};
