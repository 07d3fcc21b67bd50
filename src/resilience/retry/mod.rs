//! Whether to try again, and when.
//!
//! A [`Retry`] calls a closure until it succeeds or there is a reason to give up, and waits in
//! between. The caller's [token](crate::CancelToken) goes down into each attempt and ends each wait.
//!
//! # What is promised
//!
//! * **R3** Cancellation is never retried: not when an attempt ends with it, and a wait that it
//!   interrupts is not followed by another attempt. What counts is the caller's token, not the
//!   error: a service that answers "cancelled" while the token lives is an error like any other.
//! * One budget of time for all, attempts and waits together ([`within`](RetryBuilder::within)). A
//!   wait that would end past it, or past the token's deadline, is not begun.
//! * Each attempt can have a deadline of its own. It is that of the token that the attempt is given:
//!   [`remaining`](crate::CancelToken::remaining) is for the timeouts of sockets. An attempt that ran
//!   into it is retried whatever its error.
//! * Retries can be made to share a [budget](super::budget) with other callers.
//! * The [error](RetryError) has the last real error, every attempt with its own, and why it gave up.
//! * A call that succeeds at once allocates nothing, unless an attempt has a deadline of its own, and
//!   calls no closure of the settings but a schedule of your own.
//!
//! # What is not
//!
//! * An attempt that ignores its token is waited for, as long as it takes.
//! * Whether it is safe to do the thing twice is for you to know.

mod builder;
mod err;
mod handle;
mod rules;
mod run;

pub use builder::RetryBuilder;
pub use err::{Attempt, GaveUp, RetryError};
pub use handle::Retry;
pub use rules::{AttemptEvent, Next};
