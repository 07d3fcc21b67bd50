//! The sending end: promises; the work is done in `protocol`.

use super::err::{SendCancelError, SendError, SendTimeoutError, TrySendError};
use super::protocol::{Handle, Limit};
use super::users::End;
use super::{SafeReceiver, Shown, deadline_after};
use crate::cancel::CancelToken;
use crate::fault::{self, At};
use crate::sync::Arc;
use crate::sync::chan::{self, Unsent};
use std::fmt;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

/// The sending end of a [`SafeChannel`](super::SafeChannel).
///
/// Differs from crossbeam's `Sender` in that the channel can be closed under it, and in that it does
/// not take part in `select!`. Dropping the last clone closes the channel.
///
/// # Performance
///
/// Give each sending thread a clone. A handle that several threads use at the same time works, but
/// slower.
///
/// # Examples
///
/// ```
/// use cleanbreak::SafeChannel;
///
/// let (tx, rx) = SafeChannel::bounded(4);
/// let other = tx.clone(); // one for each thread that sends
/// assert!(tx.is_empty());
/// other.send("hello").unwrap();
/// assert_eq!((tx.len(), tx.capacity()), (1, Some(4)));
/// assert!(tx.same_channel(&other) && tx.feeds(&rx));
/// drop(tx);
/// assert!(!other.is_closed()); // one is left
/// drop(other);
/// assert!(rx.is_closed());
/// assert_eq!(rx.recv(), Ok("hello")); // and then the end
/// assert!(rx.recv().is_err());
///
/// let (tx, unheard) = SafeChannel::unbounded();
/// assert_eq!(tx.capacity(), None);
/// assert!(!tx.feeds(&rx));
/// drop(unheard);
/// assert!(tx.is_closed()); // nobody would receive it
/// assert_eq!(tx.send("hello").unwrap_err().into_inner(), "hello");
/// ```
pub struct SafeSender<T> {
    handle: Handle<T>,
    end: End,
}

impl<T> SafeSender<T> {
    pub(super) fn new(handle: Handle<T>, end: End) -> Self {
        Self { handle, end }
    }

    /// Sends, waiting for room.
    ///
    /// A close wakes it at once. When it races with a close it may end either way, and the result
    /// says which: `Ok` means that the value will be received if receivers read to the end.
    ///
    /// # Errors
    ///
    /// [`SendError`] with the value when the channel is closed.
    ///
    /// # Performance
    ///
    /// When full it spins and yields for some microseconds, then parks.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::{SafeChannel, SendError};
    ///
    /// let (tx, rx) = SafeChannel::bounded(1);
    /// assert_eq!(tx.send(1), Ok(()));
    /// tx.close();
    /// assert_eq!(tx.send(2), Err(SendError(2)));
    /// assert_eq!(rx.iter().collect::<Vec<_>>(), [1]);
    /// ```
    #[inline]
    #[track_caller]
    pub fn send(&self, value: T) -> Result<(), SendError<T>> {
        fault::pass(At::ChannelSend);
        self.end.is_used();
        let limit = Limit {
            shown: Shown::for_good(&self.end),
            ..Limit::default()
        };
        self.handle
            .send(value, limit)
            .map_err(|unsent| match unsent {
                Unsent::Closed(value) | Unsent::Stopped(value) | Unsent::TimedOut(value) => {
                    SendError(value)
                }
            })
    }

    /// Sends if there is room now; with capacity zero, if a receiver is waiting now.
    ///
    /// Never waits for room, nor for a thread that is blocked in a send through the same handle.
    ///
    /// # Errors
    ///
    /// [`TrySendError`] with the value: `Full`, or `Closed`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::{SafeChannel, TrySendError};
    ///
    /// let (tx, rx) = SafeChannel::bounded(1);
    /// assert_eq!(tx.try_send('a'), Ok(()));
    /// assert_eq!(tx.try_send('b'), Err(TrySendError::Full('b')));
    /// drop(rx);
    /// assert_eq!(tx.try_send('c'), Err(TrySendError::Closed('c')));
    /// ```
    #[inline]
    pub fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        fault::pass(At::ChannelSend);
        self.end.is_used();
        self.handle
            .try_send(value)
            .map_err(|refused| match refused {
                chan::TrySendError::Full(value) => TrySendError::Full(value),
                chan::TrySendError::Disconnected(value) => TrySendError::Closed(value),
            })
    }

    /// Sends, waiting for room for at most `timeout`.
    ///
    /// A timeout beyond the range of `Instant` (`Duration::MAX`) means no limit.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError`] with the value: `Timeout`, or `Closed`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::{SafeChannel, SendTimeoutError};
    /// use std::time::Duration;
    ///
    /// let (tx, _rx) = SafeChannel::bounded(1);
    /// assert_eq!(tx.send_timeout(1, Duration::MAX), Ok(()));
    /// assert_eq!(tx.send_timeout(2, Duration::ZERO), Err(SendTimeoutError::Timeout(2)));
    /// ```
    #[track_caller]
    pub fn send_timeout(&self, value: T, timeout: Duration) -> Result<(), SendTimeoutError<T>> {
        self.send_by(value, deadline_after(timeout))
    }

    /// Sends, waiting for room until `deadline`.
    ///
    /// With a deadline in the past it still sends if there is room. It is one of the standard
    /// library; [`Clock::to_std`](crate::Clock::to_std) makes it of a clock's.
    ///
    /// # Errors
    ///
    /// [`SendTimeoutError`] with the value: `Timeout`, or `Closed`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::{SafeChannel, SendTimeoutError};
    /// use std::time::Instant;
    ///
    /// let (tx, _rx) = SafeChannel::bounded(1);
    /// let past = Instant::now();
    /// assert_eq!(tx.send_deadline(1, past), Ok(()));
    /// assert_eq!(tx.send_deadline(2, past), Err(SendTimeoutError::Timeout(2)));
    /// ```
    #[track_caller]
    pub fn send_deadline(&self, value: T, deadline: Instant) -> Result<(), SendTimeoutError<T>> {
        self.send_by(value, Some(deadline))
    }

    #[track_caller]
    fn send_by(&self, value: T, deadline: Option<Instant>) -> Result<(), SendTimeoutError<T>> {
        fault::pass(At::ChannelSend);
        self.end.is_used();
        let limit = Limit {
            deadline,
            shown: match deadline {
                None => Shown::for_good(&self.end),
                Some(_) => Shown::default(),
            },
            ..Limit::default()
        };
        self.handle
            .send(value, limit)
            .map_err(|unsent| match unsent {
                Unsent::TimedOut(value) => SendTimeoutError::Timeout(value),
                Unsent::Closed(value) | Unsent::Stopped(value) => SendTimeoutError::Closed(value),
            })
    }

    /// Sends, waiting for room until `token` is cancelled.
    ///
    /// On a token that is cancelled already it sends nothing, even if there is room.
    ///
    /// # Errors
    ///
    /// [`SendCancelError`] with the value: `Cancelled`, or `Closed`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::{SafeChannel, SendCancelError};
    /// use cleanbreak::CancelToken;
    ///
    /// let (tx, rx) = SafeChannel::bounded(1);
    /// let token = CancelToken::new();
    /// assert!(tx.send_or_cancel(1, &token).is_ok());
    /// std::thread::scope(|s| {
    ///     let full = s.spawn(|| tx.send_or_cancel(2, &token));
    ///     token.cancel_with("that will do"); // wakes it, if it waits already
    ///     let error = full.join().unwrap().unwrap_err();
    ///     assert_eq!(error.to_string(), "the value was not sent: cancelled: that will do");
    ///     assert_eq!(error.into_inner(), 2);
    /// });
    /// assert_eq!(rx.close_and_drain(), [1]);
    /// let error = tx.send_or_cancel(3, &CancelToken::new()).unwrap_err();
    /// assert!(matches!(error, SendCancelError::Closed(3)));
    /// ```
    #[track_caller]
    pub fn send_or_cancel(&self, value: T, token: &CancelToken) -> Result<(), SendCancelError<T>> {
        fault::pass(At::ChannelSend);
        self.end.is_used();
        let limit = Limit {
            deadline: None,
            stop: Some(token.done()),
            shown: Shown::until_cancelled(&self.end, token),
        };
        self.handle
            .send(value, limit)
            .map_err(|unsent| match unsent {
                Unsent::Stopped(value) => {
                    let cancelled = token.cancelled().expect("done, so it is cancelled");
                    SendCancelError::Cancelled(value, cancelled)
                }
                Unsent::Closed(value) | Unsent::TimedOut(value) => SendCancelError::Closed(value),
            })
    }

    /// Closes the channel; `true` for the one call that closed it.
    ///
    /// When it returns, from whichever call, no send can begin any more, blocked senders have been
    /// woken with their values, and receivers get what was sent and then the end. A call that
    /// returns `false` has waited until this is so.
    ///
    /// It does not wait for receivers, and does not touch the backlog.
    ///
    /// What a thread did before it closed is visible to a receiver that has seen the end.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::SafeChannel;
    ///
    /// let (tx, rx) = SafeChannel::bounded(1);
    /// tx.send(7).unwrap();
    /// assert!(tx.close());
    /// assert!(!tx.close() && !rx.close());
    /// assert_eq!(rx.recv(), Ok(7));
    /// assert!(rx.recv().is_err());
    /// ```
    pub fn close(&self) -> bool {
        fault::pass(At::ChannelClose);
        self.handle.core().close()
    }

    /// Whether a close has begun: a send that begins after this was `true` is refused.
    ///
    /// `false` says nothing about the next instant.
    #[must_use]
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.handle.core().is_closed()
    }

    /// The number of values in the channel.
    #[must_use]
    pub fn len(&self) -> usize {
        self.handle.core().receiver().len()
    }

    /// Whether there is nothing in the channel.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.handle.core().receiver().is_empty()
    }

    /// The most values that the channel holds; `None` if unbounded.
    #[must_use]
    pub fn capacity(&self) -> Option<usize> {
        self.handle.core().receiver().capacity()
    }

    /// Whether both send into the same channel.
    #[must_use]
    pub fn same_channel(&self, other: &Self) -> bool {
        Arc::ptr_eq(self.handle.core(), other.handle.core())
    }

    /// Whether `receiver` receives what this sends.
    #[must_use]
    pub fn feeds(&self, receiver: &SafeReceiver<T>) -> bool {
        Arc::ptr_eq(self.handle.core(), receiver.core())
    }
}

impl<T> Clone for SafeSender<T> {
    /// A clone of a closed sender is closed.
    fn clone(&self) -> Self {
        fault::pass(At::ChannelClone);
        Self {
            handle: self.handle.clone(),
            end: self.end.clone(),
        }
    }
}

impl<T> fmt::Debug for SafeSender<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SafeSender")
            .field("len", &self.len())
            .field("capacity", &self.capacity())
            .field("closed", &self.is_closed())
            .finish()
    }
}

// As crossbeam's: a panic cannot leave a channel half changed.
impl<T> UnwindSafe for SafeSender<T> {}
impl<T> RefUnwindSafe for SafeSender<T> {}
