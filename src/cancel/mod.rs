//! Floor 2: being told to stop.
//!
//! A [`CancelToken`] is a handle to a node of a tree. Cancelling a node cancels all below it, wakes
//! every wait on them and runs their hooks; it never touches the parent or siblings.
//!
//! # What is promised
//!
//! * **T1** [`is_cancelled`](CancelToken::is_cancelled) is one atomic load, a clone is one reference
//!   count; neither takes a lock.
//! * **T2** The first cancellation wins. Its kind and its cause are published together and never
//!   change. A child that is cancelled through its parent carries the parent's; one cancelled
//!   before keeps its own. Of an explicit cancel and a deadline, the earlier one is reported.
//! * **T3** When `cancel` returns, every descendant is cancelled and every blocked wait has been
//!   woken, whichever thread did the work; exactly one call returns `true`. A child of a cancelled
//!   token, or with a deadline in the past, is born cancelled.
//! * **T4** The effective deadline is the earliest on the path to the root.
//! * **T5** [`done`](CancelToken::done) is a crossbeam `Receiver` that disconnects on cancellation.
//! * **T6** `wait`, `wait_timeout` and `sleep` return at once on cancellation, without polling.
//! * **T7** A hook runs exactly once, or is taken back. Hooks run outside every lock; one that
//!   panics does not stop the others.
//! * **T8** A dropped child leaves nothing in its parent; no tree is too deep or too wide to cancel
//!   or drop.
//! * **T9** [`shield`](CancelToken::shield), [`linked`](CancelToken::linked),
//!   [`drop_guard`](CancelToken::drop_guard), [`stop_possible`](CancelToken::stop_possible).
//!
//! # What is not
//!
//! * A token stops nothing by force: code that neither looks nor waits on it runs on.
//! * While a child lives, the nodes on its path to the root live, about 200 bytes each, even when
//!   their own handles are gone.
//! * Hooks run on the thread that cancels, and before its `cancel` returns. For a deadline that is
//!   the timer thread.

mod ask;
mod cause;
mod data;
mod hook;
#[cfg(all(feature = "debug-http", unix))]
mod look;
mod node;
#[cfg(test)]
mod random;
mod registration;
mod slab;
mod token;
mod wait;

#[cfg(all(feature = "debug-http", unix))]
pub(crate) use look::{Bounds, TokenLook, WeakToken};

pub use cause::{CancelKind, Cancelled, Cause};
pub use registration::{DropGuard, Registration};
pub use token::CancelToken;
