//! All of it around one operation, in one order.
//!
//! A [`Policy`] is a time limit, a retry, a rate limit, a bulkhead, a breaker and a timeout for each
//! attempt, as many of them as it was given, around a closure. Make one for each thing that is
//! called, and share it.
//!
//! # The order
//!
//! From the outside in:
//!
//! | | part | why there |
//! |---|---|---|
//! | 1 | fallback | answers for whatever is below; a call that was told to stop needs no answer |
//! | 2 | time limit | [`within`](PolicyBuilder::within): all attempts, delays and waits together |
//! | 3 | retry | each attempt is a call of its own to what is below: it queues, pays and counts by itself |
//! | 4 | a look at the breaker | a call that would be rejected waits for nothing and takes nothing |
//! | 5 | rate limit | before the bulkhead, so that nobody holds a permit while he waits for his turn |
//! | 6 | bulkhead | |
//! | 7 | the breaker's permit | after the waits, so that a wait is no slow call, and a refusal no failure |
//! | 8 | timeout of the attempt | [`attempt_timeout`](PolicyBuilder::attempt_timeout): of the operation only; within the breaker, as no answer in time is a failure |
//! | 9 | the operation | |
//!
//! A retry within the breaker, as some libraries have it, would count one failure for three calls,
//! and go on calling what has just been found to be down. A bulkhead around the retry would hold its
//! permit through the delays. A timeout around the waits would punish the callee for our own queue.
//!
//! What goes by the caller and not by what is called stays outside: a
//! [`KeyedRateLimiter`](crate::KeyedRateLimiter) for each client, or a
//! [`Bulkhead`](crate::Bulkhead) of the whole service, around [`Policy::call`].
//!
//! # What is promised
//!
//! * **R4** Each part keeps its own promises, in this order, whatever the others do.
//! * A call that the breaker rejects, and that was open or half-open with no place for a probe when
//!   the attempt began, takes no rate token, no permit, and waits for nothing. One whose breaker opens
//!   while it waits is rejected after its wait, and what it took is given back: the permit always,
//!   the token unless somebody has taken one after it. The same goes for a token when the
//!   bulkhead refuses.
//! * Refusals, of the rate limit and the bulkhead, are neutral for the breaker, and so is a call whose
//!   token was cancelled. An attempt that ran into its timeout or the time limit is a failure; so is
//!   one that ran into the deadline of the caller's token, since there was no answer in time either.
//! * Cancellation of the caller's token, and the end of its deadline, are never retried, end every wait,
//!   and skip the fallback: who was told to stop must not start something else, and nobody
//!   waits for the answer any more.
//! * A value is a value, however late.
//! * The operation is given the token of its attempt: a child with the deadline, or the caller's.
//!
//! # What is retried
//!
//! Without [`retry`](PolicyBuilder::retry), nothing. With it, unless its
//! [`retry_if`](super::retry::RetryBuilder::retry_if) says otherwise, what
//! [`AttemptError::is_retryable`] says: the operation's own errors, timeouts, and rejections by a
//! breaker that will let a call through some day; but not what the limits refuse, as more calls are
//! the last thing that helps there. The delay after a rejection by an open breaker lasts
//! until its open time is over, if the retry's
//! [`retry_after`](super::retry::RetryBuilder::retry_after) says nothing else; if
//! that is past the time limit, or there is no [`within`](PolicyBuilder::within), it is not retried.
//!
//! # What is not
//!
//! * An operation that ignores its token is waited for: put an [`Abandoner`](crate::Abandoner) into it.
//! * The two looks at a breaker are two moments.

mod builder;
mod err;
mod handle;

pub use builder::PolicyBuilder;
pub use err::{AttemptError, PolicyError, PolicyErrorKind};
pub use handle::Policy;
