//! Channels that close once, from either end, and lose nothing.
//!
//! A [`SafeChannel`] is a crossbeam channel that can be *closed*: by any sender or receiver, while
//! other threads are sending, receiving or blocked. Its receivers are crossbeam receivers, so they
//! work in `select!`.
//!
//! ```
//! use cleanbreak::channel::SafeChannel;
//! use std::thread;
//!
//! let (tx, rx) = SafeChannel::bounded(8);
//! let producer = thread::spawn({
//!     let tx = tx.clone();
//!     move || (0..).find_map(|n| tx.send(n).err()) // until told to stop
//! });
//! assert_eq!(rx.recv(), Ok(0));
//! assert!(rx.close()); // a producer that is blocked wakes
//! let refused = producer.join().unwrap().unwrap().into_inner();
//! let received: Vec<i32> = rx.iter().collect();
//! assert_eq!(received, (1..refused).collect::<Vec<_>>()); // nothing sent is lost
//! ```
//!
//! # Promises
//!
//! | | |
//! |---|---|
//! | C1 | `close()` works from either end, any number of times; one call returns `true`. |
//! | C2 | A value whose send returned `Ok` is received if receivers read to the end. A send that began after a `close()` returned, whichever call that was, is refused. A refused value comes back in the error. |
//! | C3 | Blocked senders and receivers wake at once. Receivers drain what was sent, then see the end. |
//! | C4 | A [`SafeReceiver`] dereferences to a crossbeam `Receiver`: `select! { recv(rx) -> m => … }`. |
//! | C5 | [`close_and_drain`](SafeReceiver::close_and_drain) hands the backlog back; when the last receiver goes, the backlog is dropped at once, also while senders live. |
//! | C6 | [`Inputs`] ends a select loop when all its channels have ended, instead of spinning on one. |
//!
//! The channel is also closed when its last sender or its last receiver is dropped. That uses up the
//! one `true` of C1.
//!
//! # Not promised
//!
//! - A send that runs *while* a close runs may end either way; the result says which.
//! - Senders do not take part in `select!`: handing out the crossbeam `Sender` would let anyone keep
//!   the channel open. Use [`send_deadline`](SafeSender::send_deadline) or a token.
//! - A clone of the *crossbeam* receiver does not count as a receiver: it can read, but it does not
//!   keep the channel open, and it may take part of a backlog that is being drained.
//! - Blocked senders are not served in order of arrival.
//! - A handle that is leaked (`mem::forget`) counts as alive for ever.
//!
//! # Costs
//!
//! Receiving costs what it costs in crossbeam; who finds nothing lets the senders get some values
//! ahead for a few hundred nanoseconds before it looks again, which is what makes a stream fast. A
//! send adds one atomic exchange on a cache line of its own, some 5 ns; a send through a handle that
//! another thread is using *at this moment* (an `Arc<SafeSender>`, or a reference to one) borrows
//! from a shared lock instead, so clone one handle for each thread that sends. Cloning and dropping a
//! sender is O(log handles) under that lock; `close` is O(handles) once, and waits only for sends
//! that are between two instructions, never for room or for a receiver.
//!
//! A send that finds no room tries again for as long as crossbeam's does, and then parks in a
//! two-armed `select!`, because nothing else in crossbeam can be woken by a close. Where the
//! retries succeed, a send that waits is as fast as crossbeam's or faster. Where they do not, parking
//! costs more than crossbeam's does, and the worst case is **capacity zero with several senders on
//! a busy machine**: crossbeam's blocked sender leaves its value where the receiver picks it up,
//! a select must first wake up to hand it over. There a value took 2 to 4 times as long (14 to
//! 31 µs instead of 5 to 8 µs, on two virtual cores).

mod err;
mod inputs;
mod protocol;
mod receiver;
mod sender;
#[cfg_attr(
    not(all(feature = "diagnose", target_os = "linux", not(cleanbreak_portable))),
    path = "users_off.rs"
)]
mod users;

#[cfg(test)]
mod tests;

pub use err::{
    RecvCancelError, RecvError, RecvTimeoutError, SendCancelError, SendError, SendTimeoutError,
    TryRecvError, TrySendError,
};
pub use inputs::{Input, Inputs, Source};
pub use receiver::{IntoIter, Iter, SafeReceiver, TryIter};
pub use sender::SafeSender;

use std::time::{Duration, Instant};

use crate::cancel::CancelToken;
use crate::threads::{self, Awaits};
use users::End;

/// Makes channels that can be closed.
///
/// What `crossbeam_channel::bounded` and `unbounded` are to crossbeam's ends, its functions are to
/// [`SafeSender`] and [`SafeReceiver`]. It is never constructed.
#[derive(Debug)]
pub enum SafeChannel {}

impl SafeChannel {
    /// A channel that holds at most `capacity` values; with zero, every send meets a receive.
    ///
    /// # Panics
    ///
    /// If `capacity` is too large to allocate, as crossbeam's does.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::SafeChannel;
    ///
    /// let (tx, rx) = SafeChannel::bounded(2);
    /// assert_eq!(tx.capacity(), Some(2));
    /// tx.send("a").unwrap();
    /// tx.send("b").unwrap();
    /// assert!(tx.try_send("c").unwrap_err().is_full());
    /// assert_eq!(rx.recv(), Ok("a"));
    /// ```
    pub fn bounded<T>(capacity: usize) -> (SafeSender<T>, SafeReceiver<T>) {
        Self::wrap(crossbeam_channel::bounded(capacity))
    }

    /// A channel that holds any number of values: a send never blocks.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::SafeChannel;
    ///
    /// let (tx, rx) = SafeChannel::unbounded();
    /// (0..1000).for_each(|n| tx.send(n).unwrap());
    /// tx.close();
    /// assert_eq!(rx.iter().sum::<i32>(), 499_500);
    /// ```
    pub fn unbounded<T>() -> (SafeSender<T>, SafeReceiver<T>) {
        Self::wrap(crossbeam_channel::unbounded())
    }

    fn wrap<T>(
        (tx, rx): (crossbeam_channel::Sender<T>, crossbeam_channel::Receiver<T>),
    ) -> (SafeSender<T>, SafeReceiver<T>) {
        let (handle, last) = protocol::new(tx, rx.clone());
        let (sender, receiver) = End::pair();
        (
            SafeSender::new(handle, sender),
            SafeReceiver::new(rx, last, receiver),
        )
    }
}

/// Every wait of this module that did not succeed at once goes through here, under a name.
#[inline]
#[track_caller]
fn blocking<R>(what: &'static str, shown: Shown<'_>, wait: impl FnOnce() -> R) -> R {
    let _wait = threads::awaiting(what, shown.awaits());
    wait()
}

/// What a wait shows to a look for deadlocks. The default: nothing, as it ends by itself.
#[derive(Clone, Copy, Default)]
struct Shown<'a> {
    end: Option<&'a End>,
    cancellable: bool,
}

impl<'a> Shown<'a> {
    /// A wait that nothing but the other end makes an end of.
    fn for_good(end: &'a End) -> Self {
        Self {
            end: Some(end),
            cancellable: false,
        }
    }

    /// A wait that ends with `token`, too. A deadline of that comes by itself.
    fn until_cancelled(end: &'a End, token: &CancelToken) -> Self {
        Self {
            end: token.deadline().is_none().then_some(end),
            cancellable: true,
        }
    }

    #[inline]
    fn awaits(self) -> Awaits {
        match self.end.map(End::waits) {
            None => Awaits::default(),
            Some(awaits) if self.cancellable => awaits.or_a_cancel(),
            Some(awaits) => awaits,
        }
    }
}

/// `None` means never: an overflow lies beyond any uptime.
#[allow(
    clippy::disallowed_methods,
    reason = "a timeout of crossbeam's, on its clock"
)]
fn deadline_after(timeout: Duration) -> Option<Instant> {
    Instant::now().checked_add(timeout)
}
