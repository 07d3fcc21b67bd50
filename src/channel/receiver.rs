//! The receiving end: crossbeam's receiver, plus closing.

use super::err::{RecvCancelError, RecvError, RecvTimeoutError, TryRecvError};
use super::protocol::{Core, LastReceiver};
use super::users::End;
use super::{Shown, blocking, deadline_after};
use crate::cancel::CancelToken;
use crate::fault::{self, At};
use crate::sync::{Arc, Backoff};
use crossbeam_channel::{Receiver, select_biased};
use std::fmt;
use std::iter::FusedIterator;
use std::ops::Deref;
use std::panic::{RefUnwindSafe, UnwindSafe};
use std::time::{Duration, Instant};

/// The receiving end of a [`SafeChannel`](super::SafeChannel).
///
/// It dereferences to a crossbeam `Receiver`, and so stands in `select!` as it is. Differs from that
/// one in that it can close the channel, and in that dropping the last clone drops what is
/// queued at once (in crossbeam 0.5 a bounded channel keeps it until the last *sender* goes, so that
/// who waits for an answer to a queued request waits for ever).
///
/// A clone of the crossbeam receiver ([`as_crossbeam`](Self::as_crossbeam)) does not keep the channel
/// open.
///
/// # Examples
///
/// ```
/// use cleanbreak::channel::SafeChannel;
/// use crossbeam_channel::select;
///
/// let (tx, rx) = SafeChannel::bounded(1);
/// tx.send(1).unwrap();
/// tx.close();
/// select! {
///     recv(rx) -> message => assert_eq!(message, Ok(1)),
/// }
/// select! {
///     recv(rx) -> message => assert!(message.is_err()),
/// }
/// ```
pub struct SafeReceiver<T> {
    rx: Receiver<T>,
    last: Arc<LastReceiver<T>>,
    end: End,
}

impl<T> SafeReceiver<T> {
    pub(super) fn new(rx: Receiver<T>, last: LastReceiver<T>, end: End) -> Self {
        Self {
            rx,
            last: Arc::new(last),
            end,
        }
    }

    pub(super) fn core(&self) -> &Arc<Core<T>> {
        self.last.core()
    }

    /// Receives, waiting for a value.
    ///
    /// # Errors
    ///
    /// [`RecvError`] when the channel is closed and everything sent has been received.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::{RecvError, SafeChannel};
    ///
    /// let (tx, rx) = SafeChannel::bounded(1);
    /// tx.send(1).unwrap();
    /// drop(tx);
    /// assert_eq!(rx.recv(), Ok(1));
    /// assert_eq!(rx.recv(), Err(RecvError));
    /// ```
    #[inline]
    #[track_caller]
    pub fn recv(&self) -> Result<T, RecvError> {
        fault::pass(At::ChannelReceive);
        self.end.is_used();
        match self.rx.try_recv() {
            Ok(value) => Ok(value),
            Err(TryRecvError::Disconnected) => Err(RecvError),
            Err(TryRecvError::Empty) => self.when_empty(Shown::for_good(&self.end), |rx| rx.recv()),
        }
    }

    /// Where all waits go when the first look has found nothing.
    #[cold]
    #[track_caller]
    fn when_empty<R>(&self, shown: Shown<'_>, wait: impl FnOnce(&Receiver<T>) -> R) -> R {
        // Nothing gets ahead where there is hardly any room.
        if self.rx.capacity().is_none_or(|room| room > 8) {
            Backoff::linger();
        }
        blocking("receive from a channel", shown, || wait(&self.rx))
    }

    /// Receives if there is a value now; with capacity zero, if a sender is waiting now.
    ///
    /// # Errors
    ///
    /// [`TryRecvError`]: `Empty`, or `Disconnected` at the end.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::{SafeChannel, TryRecvError};
    ///
    /// let (tx, rx) = SafeChannel::unbounded::<u8>();
    /// assert_eq!(rx.try_recv(), Err(TryRecvError::Empty));
    /// tx.close();
    /// assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
    /// ```
    #[inline]
    pub fn try_recv(&self) -> Result<T, TryRecvError> {
        fault::pass(At::ChannelReceive);
        self.end.is_used();
        self.rx.try_recv()
    }

    /// Receives, waiting for at most `timeout`.
    ///
    /// A timeout beyond the range of `Instant` (`Duration::MAX`) means no limit.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError`]: `Timeout`, or `Disconnected` at the end.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::{RecvTimeoutError, SafeChannel};
    /// use std::time::Duration;
    ///
    /// let (tx, rx) = SafeChannel::bounded(1);
    /// assert_eq!(rx.recv_timeout(Duration::ZERO), Err(RecvTimeoutError::Timeout));
    /// tx.send(1).unwrap();
    /// assert_eq!(rx.recv_timeout(Duration::MAX), Ok(1));
    /// tx.close();
    /// assert_eq!(rx.recv_timeout(Duration::MAX), Err(RecvTimeoutError::Disconnected));
    /// ```
    #[track_caller]
    pub fn recv_timeout(&self, timeout: Duration) -> Result<T, RecvTimeoutError> {
        match deadline_after(timeout) {
            Some(deadline) => self.recv_deadline(deadline),
            None => self.recv().map_err(RecvTimeoutError::from),
        }
    }

    /// Receives, waiting until `deadline`.
    ///
    /// With a deadline in the past it still receives what is there. It is one of the standard
    /// library; [`Clock::to_std`](crate::Clock::to_std) makes it of a clock's.
    ///
    /// # Errors
    ///
    /// [`RecvTimeoutError`]: `Timeout`, or `Disconnected` at the end.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::{RecvTimeoutError, SafeChannel};
    /// use std::time::Instant;
    ///
    /// let (tx, rx) = SafeChannel::bounded(1);
    /// tx.send(1).unwrap();
    /// let past = Instant::now();
    /// assert_eq!(rx.recv_deadline(past), Ok(1));
    /// assert_eq!(rx.recv_deadline(past), Err(RecvTimeoutError::Timeout));
    /// ```
    #[track_caller]
    pub fn recv_deadline(&self, deadline: Instant) -> Result<T, RecvTimeoutError> {
        fault::pass(At::ChannelReceive);
        self.end.is_used();
        match self.rx.try_recv() {
            Ok(value) => Ok(value),
            Err(TryRecvError::Disconnected) => Err(RecvTimeoutError::Disconnected),
            Err(TryRecvError::Empty) => {
                self.when_empty(Shown::default(), |rx| rx.recv_deadline(deadline))
            }
        }
    }

    /// Receives, waiting until `token` is cancelled.
    ///
    /// On a token that is cancelled already it receives nothing, even if something is queued (it
    /// stays queued): a loop that is told to stop does not first work through a backlog.
    ///
    /// # Errors
    ///
    /// [`RecvCancelError`]: `Cancelled`, or `Closed` at the end.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{CancelToken, SafeChannel};
    ///
    /// let (tx, rx) = SafeChannel::bounded(2);
    /// let token = CancelToken::new();
    /// tx.send(1).unwrap();
    /// assert_eq!(rx.recv_or_cancel(&token).unwrap(), 1);
    /// std::thread::scope(|s| {
    ///     let empty = s.spawn(|| rx.recv_or_cancel(&token));
    ///     token.cancel_with("that will do"); // wakes it, if it waits already
    ///     let error = empty.join().unwrap().unwrap_err();
    ///     assert_eq!(error.to_string(), "no value was received: cancelled: that will do");
    /// });
    /// tx.close();
    /// assert!(rx.recv_or_cancel(&CancelToken::new()).unwrap_err().is_closed());
    /// ```
    #[track_caller]
    pub fn recv_or_cancel(&self, token: &CancelToken) -> Result<T, RecvCancelError> {
        fault::pass(At::ChannelReceive);
        if let Some(cancelled) = token.cancelled() {
            return Err(RecvCancelError::Cancelled(cancelled));
        }
        self.end.is_used();
        match self.rx.try_recv() {
            Ok(value) => Ok(value),
            Err(TryRecvError::Disconnected) => Err(RecvCancelError::Closed),
            Err(TryRecvError::Empty) => {
                let shown = Shown::until_cancelled(&self.end, token);
                self.when_empty(shown, |_| self.wait_or_cancel(token))
            }
        }
    }

    fn wait_or_cancel(&self, token: &CancelToken) -> Result<T, RecvCancelError> {
        let mut backoff = crate::sync::Backoff::new();
        while self.rx.is_empty() && backoff.snooze() {}
        select_biased! {
            recv(token.done()) -> _ => {
                let cancelled = token.cancelled().expect("done, so it is cancelled");
                Err(RecvCancelError::Cancelled(cancelled))
            }
            recv(self.rx) -> value => value.map_err(RecvCancelError::from),
        }
    }

    /// The values until the channel has ended, waiting for each.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::SafeChannel;
    ///
    /// let (tx, rx) = SafeChannel::unbounded();
    /// tx.send(1).unwrap();
    /// tx.send(2).unwrap();
    /// tx.close();
    /// assert_eq!(rx.iter().collect::<Vec<_>>(), [1, 2]);
    /// ```
    pub fn iter(&self) -> Iter<'_, T> {
        Iter { receiver: self }
    }

    /// The values that are there, without waiting.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::SafeChannel;
    ///
    /// let (tx, rx) = SafeChannel::unbounded();
    /// tx.send(1).unwrap();
    /// assert_eq!(rx.try_iter().collect::<Vec<_>>(), [1]);
    /// assert!(!tx.is_closed());
    /// ```
    pub fn try_iter(&self) -> TryIter<'_, T> {
        TryIter { receiver: self }
    }

    /// The crossbeam receiver, where the type does not follow from the context.
    ///
    /// A clone of it can read but does not count as a receiver of this channel.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::SafeChannel;
    /// use crossbeam_channel::Select;
    ///
    /// let (tx, rx) = SafeChannel::bounded(1);
    /// tx.send(1).unwrap();
    /// let mut select = Select::new();
    /// let arm = select.recv(rx.as_crossbeam()); // generic: not by dereference
    /// let ready = select.select();
    /// assert_eq!(ready.index(), arm);
    /// assert_eq!(ready.recv(rx.as_crossbeam()), Ok(1));
    ///
    /// let reader = rx.as_crossbeam().clone();
    /// drop(rx);
    /// assert!(tx.is_closed() && reader.recv().is_err()); // `reader` does not keep it open
    /// ```
    #[must_use]
    pub fn as_crossbeam(&self) -> &Receiver<T> {
        self.end.is_used();
        &self.rx
    }

    /// Closes the channel; `true` for the one call that closed it.
    ///
    /// The same as [`SafeSender::close`](super::SafeSender::close). What has been sent can still be
    /// received.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::SafeChannel;
    ///
    /// let (tx, rx) = SafeChannel::bounded(1);
    /// tx.send(1).unwrap();
    /// assert!(rx.close());
    /// assert!(!rx.close());
    /// assert_eq!(tx.send(2).unwrap_err().into_inner(), 2);
    /// assert_eq!(rx.iter().collect::<Vec<_>>(), [1]);
    /// ```
    pub fn close(&self) -> bool {
        fault::pass(At::ChannelClose);
        self.core().close()
    }

    /// Closes the channel and takes what is in it, in order.
    ///
    /// Includes what a send that was under way put in: it returns when the channel has ended.
    /// Values that other receivers take in the meantime are theirs.
    ///
    /// # Performance
    ///
    /// Waits for sends that are between two instructions, never for room or for a receiver.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::{RecvError, SafeChannel};
    ///
    /// let (tx, rx) = SafeChannel::unbounded();
    /// tx.send(1).unwrap();
    /// tx.send(2).unwrap();
    /// assert_eq!(rx.close_and_drain(), [1, 2]);
    /// assert!(tx.is_closed());
    /// assert_eq!(rx.recv(), Err(RecvError));
    /// ```
    #[must_use = "the backlog is in the vector; `close` leaves it in the channel"]
    pub fn close_and_drain(&self) -> Vec<T> {
        fault::pass(At::ChannelClose);
        self.core().close_and_drain()
    }

    /// Whether a close has begun. There may still be values to receive.
    #[must_use]
    #[inline]
    pub fn is_closed(&self) -> bool {
        self.core().is_closed()
    }
}

impl<T> Deref for SafeReceiver<T> {
    type Target = Receiver<T>;

    #[inline]
    fn deref(&self) -> &Receiver<T> {
        self.end.is_used();
        &self.rx
    }
}

impl<T> Clone for SafeReceiver<T> {
    fn clone(&self) -> Self {
        Self {
            rx: self.rx.clone(),
            last: self.last.clone(),
            end: self.end.clone(),
        }
    }
}

impl<T> fmt::Debug for SafeReceiver<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SafeReceiver")
            .field("len", &self.rx.len())
            .field("capacity", &self.rx.capacity())
            .field("closed", &self.is_closed())
            .finish()
    }
}

// As crossbeam's: a panic cannot leave a channel half changed.
impl<T> UnwindSafe for SafeReceiver<T> {}
impl<T> RefUnwindSafe for SafeReceiver<T> {}

/// The values of a channel until it has ended; from [`SafeReceiver::iter`].
///
/// # Examples
///
/// ```
/// use cleanbreak::SafeChannel;
///
/// let (tx, rx) = SafeChannel::unbounded();
/// (1..=3).for_each(|n| tx.send(n).unwrap());
/// 'first: for value in &rx {
///     if value == 2 { break 'first; }
/// }
/// assert_eq!(rx.recv(), Ok(3)); // what was not taken is still there
/// tx.close();
/// assert_eq!(rx.iter().next(), None);
/// ```
#[must_use = "iterators receive nothing until they are used"]
pub struct Iter<'a, T> {
    receiver: &'a SafeReceiver<T>,
}

/// The values that are in a channel; from [`SafeReceiver::try_iter`].
///
/// # Examples
///
/// ```
/// use cleanbreak::SafeChannel;
///
/// let (tx, rx) = SafeChannel::unbounded();
/// tx.send(1).unwrap();
/// let mut ready = rx.try_iter();
/// assert_eq!((ready.next(), ready.next()), (Some(1), None)); // nothing now
/// tx.send(2).unwrap();
/// assert_eq!(ready.next(), Some(2)); // it was not the end
/// ```
#[must_use = "iterators receive nothing until they are used"]
pub struct TryIter<'a, T> {
    receiver: &'a SafeReceiver<T>,
}

/// The values of a channel until it has ended, with the receiver.
///
/// Dropping it drops the receiver.
///
/// # Examples
///
/// ```
/// use cleanbreak::SafeChannel;
///
/// let (tx, rx) = SafeChannel::unbounded();
/// (1..=3).for_each(|n| tx.send(n).unwrap());
/// 'first: for value in rx {
///     assert_eq!(value, 1);
///     break 'first; // drops the last receiver, and 2 and 3 with it
/// }
/// assert_eq!(tx.send(4).unwrap_err().into_inner(), 4);
/// ```
#[must_use = "iterators receive nothing until they are used"]
pub struct IntoIter<T> {
    receiver: SafeReceiver<T>,
}

impl<T> Iterator for Iter<'_, T> {
    type Item = T;

    #[track_caller]
    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

impl<T> Iterator for TryIter<'_, T> {
    type Item = T;

    fn next(&mut self) -> Option<T> {
        self.receiver.try_recv().ok()
    }
}

impl<T> Iterator for IntoIter<T> {
    type Item = T;

    #[track_caller]
    fn next(&mut self) -> Option<T> {
        self.receiver.recv().ok()
    }
}

// The end of a channel is for ever. (Not so for `TryIter`: "nothing now".)
impl<T> FusedIterator for Iter<'_, T> {}
impl<T> FusedIterator for IntoIter<T> {}

impl<'a, T> IntoIterator for &'a SafeReceiver<T> {
    type Item = T;
    type IntoIter = Iter<'a, T>;

    fn into_iter(self) -> Iter<'a, T> {
        self.iter()
    }
}

impl<T> IntoIterator for SafeReceiver<T> {
    type Item = T;
    type IntoIter = IntoIter<T>;

    fn into_iter(self) -> IntoIter<T> {
        IntoIter { receiver: self }
    }
}

impl<T> fmt::Debug for Iter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Iter { .. }")
    }
}

impl<T> fmt::Debug for TryIter<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TryIter { .. }")
    }
}

impl<T> fmt::Debug for IntoIter<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IntoIter { .. }")
    }
}
