//! One error per operation, with the refused value in it.
//!
//! Receiving has nothing to hand back, so its errors are crossbeam's own ([`RecvError`],
//! [`TryRecvError`], [`RecvTimeoutError`]): the ones that `select!` reports as well.

use crate::cancel::Cancelled;
use std::error::Error;
use std::fmt;

pub use crossbeam_channel::{RecvError, RecvTimeoutError, TryRecvError};

/// The channel is closed; the value comes back.
///
/// # Examples
///
/// ```
/// use cleanbreak::channel::SafeChannel;
///
/// let (tx, rx) = SafeChannel::bounded(1);
/// rx.close();
/// let error = tx.send("late").unwrap_err();
/// assert_eq!(error.to_string(), "sending on a closed channel");
/// assert_eq!(error.into_inner(), "late");
/// ```
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct SendError<T>(pub T);

impl<T> SendError<T> {
    /// The value that was not sent.
    #[must_use]
    pub fn into_inner(self) -> T {
        self.0
    }
}

/// By hand, so that `T` needs no `Debug`.
impl<T> fmt::Debug for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SendError(..)")
    }
}

impl<T> fmt::Display for SendError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(CLOSED)
    }
}

impl<T> Error for SendError<T> {}

const CLOSED: &str = "sending on a closed channel";

/// An error that hands the value back and has one reason besides `Closed`.
macro_rules! send_error {
    (
        $(#[$attr:meta])* $name:ident,
        $(#[$other_attr:meta])* $other:ident, $is_other:ident, $other_text:literal
    ) => {
        $(#[$attr])*
        #[derive(Clone, Copy, PartialEq, Eq)]
        pub enum $name<T> {
            $(#[$other_attr])*
            $other(T),
            /// The channel is closed: no later send will succeed either.
            Closed(T),
        }

        impl<T> $name<T> {
            /// The value that was not sent.
            #[must_use]
            pub fn into_inner(self) -> T {
                match self {
                    Self::$other(value) | Self::Closed(value) => value,
                }
            }

            #[doc = concat!("Whether this is `", stringify!($other), "`.")]
            #[must_use]
            pub fn $is_other(&self) -> bool {
                matches!(self, Self::$other(_))
            }

            /// Whether this is `Closed`.
            #[must_use]
            pub fn is_closed(&self) -> bool {
                matches!(self, Self::Closed(_))
            }
        }

        /// By hand, so that `T` needs no `Debug`.
        impl<T> fmt::Debug for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    Self::$other(_) => concat!(stringify!($other), "(..)"),
                    Self::Closed(_) => "Closed(..)",
                })
            }
        }

        impl<T> fmt::Display for $name<T> {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(match self {
                    Self::$other(_) => $other_text,
                    Self::Closed(_) => CLOSED,
                })
            }
        }

        impl<T> Error for $name<T> {}

        impl<T> From<SendError<T>> for $name<T> {
            fn from(SendError(value): SendError<T>) -> Self {
                Self::Closed(value)
            }
        }
    };
}

send_error! {
    /// Why [`SafeSender::try_send`](super::SafeSender::try_send) refused; the value comes back.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::{SafeChannel, TrySendError};
    ///
    /// let (tx, rx) = SafeChannel::bounded(1);
    /// assert_eq!(tx.try_send(1), Ok(()));
    /// let full = tx.try_send(2).unwrap_err();
    /// assert!(full.is_full() && !full.is_closed());
    /// assert_eq!(full.into_inner(), 2);
    /// rx.close();
    /// let closed = tx.try_send(3).unwrap_err(); // whether there is room or not
    /// assert!(closed.is_closed() && !closed.is_full());
    /// assert_eq!(closed, TrySendError::Closed(3));
    /// ```
    TrySendError,
    /// No room, or with capacity zero no receiver waiting.
    Full, is_full, "sending on a full channel"
}

send_error! {
    /// Why a send with a time limit gave up; the value comes back.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::channel::{SafeChannel, SendTimeoutError};
    /// use std::time::Duration;
    ///
    /// let (tx, rx) = SafeChannel::bounded(0);
    /// let error = tx.send_timeout("hello", Duration::ZERO).unwrap_err();
    /// assert!(error.is_timeout() && !error.is_closed());
    /// let hello = error.into_inner();
    /// rx.close();
    /// let error = tx.send_timeout(hello, Duration::MAX).unwrap_err(); // does not wait
    /// assert_eq!(error, SendTimeoutError::Closed("hello"));
    /// ```
    SendTimeoutError,
    /// The time was up while the channel was full.
    Timeout, is_timeout, "timed out sending on a full channel"
}

/// Why a send bounded by a token gave up; the value comes back.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, SafeChannel};
///
/// let (tx, rx) = SafeChannel::bounded(1);
/// let token = CancelToken::new();
/// token.cancel_with("closing time");
/// let error = tx.send_or_cancel("hello", &token).unwrap_err(); // although there is room
/// assert_eq!(error.cancelled().unwrap().to_string(), "cancelled: closing time");
/// assert!(error.is_cancelled() && !error.is_closed() && rx.is_empty());
/// let hello = error.into_inner();
///
/// rx.close();
/// let error = tx.send_or_cancel(hello, &CancelToken::new()).unwrap_err();
/// assert!(error.is_closed() && !error.is_cancelled() && error.cancelled().is_none());
/// assert_eq!(error.into_inner(), "hello");
/// ```
#[derive(Clone)]
pub enum SendCancelError<T> {
    /// The token was cancelled, before the call or during it, with this kind and cause.
    Cancelled(T, Cancelled),
    /// The channel is closed.
    Closed(T),
}

/// Why a receive bounded by a token gave up.
///
/// Nothing is lost by it: what was queued is still queued.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, SafeChannel};
///
/// let (tx, rx) = SafeChannel::bounded(1);
/// tx.send("hello").unwrap();
/// let token = CancelToken::new();
/// token.cancel_with("closing time");
/// let error = rx.recv_or_cancel(&token).unwrap_err();
/// assert_eq!(error.cancelled().unwrap().to_string(), "cancelled: closing time");
/// assert!(error.is_cancelled() && !error.is_closed());
///
/// let token = CancelToken::new();
/// assert_eq!(rx.recv_or_cancel(&token).unwrap(), "hello"); // still there
/// tx.close();
/// let error = rx.recv_or_cancel(&token).unwrap_err();
/// assert!(error.is_closed() && !error.is_cancelled() && error.cancelled().is_none());
/// ```
#[derive(Clone, Debug)]
pub enum RecvCancelError {
    /// The token was cancelled, before the call or during it, with this kind and cause.
    Cancelled(Cancelled),
    /// The channel is closed and everything in it has been received.
    Closed,
}

impl<T> SendCancelError<T> {
    /// The value that was not sent.
    #[must_use]
    pub fn into_inner(self) -> T {
        match self {
            Self::Cancelled(value, _) | Self::Closed(value) => value,
        }
    }

    /// Kind and cause, if the token was cancelled.
    #[must_use]
    pub fn cancelled(&self) -> Option<&Cancelled> {
        match self {
            Self::Cancelled(_, cancelled) => Some(cancelled),
            Self::Closed(_) => None,
        }
    }

    /// Whether the token was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(..))
    }

    /// Whether the channel is closed.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed(_))
    }
}

impl<T> fmt::Debug for SendCancelError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(_, cancelled) => write!(f, "Cancelled(.., {cancelled:?})"),
            Self::Closed(_) => f.write_str("Closed(..)"),
        }
    }
}

impl<T> fmt::Display for SendCancelError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(_, cancelled) => write!(f, "the value was not sent: {cancelled}"),
            Self::Closed(_) => f.write_str(CLOSED),
        }
    }
}

impl<T> Error for SendCancelError<T> {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cancelled()?.source()
    }
}

impl<T> From<SendError<T>> for SendCancelError<T> {
    fn from(SendError(value): SendError<T>) -> Self {
        Self::Closed(value)
    }
}

impl RecvCancelError {
    /// Kind and cause, if the token was cancelled.
    #[must_use]
    pub fn cancelled(&self) -> Option<&Cancelled> {
        match self {
            Self::Cancelled(cancelled) => Some(cancelled),
            Self::Closed => None,
        }
    }

    /// Whether the token was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }

    /// Whether the channel is closed and drained.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

impl fmt::Display for RecvCancelError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(cancelled) => write!(f, "no value was received: {cancelled}"),
            Self::Closed => f.write_str("receiving on an empty and closed channel"),
        }
    }
}

impl Error for RecvCancelError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cancelled()?.source()
    }
}

impl From<RecvError> for RecvCancelError {
    fn from(_: RecvError) -> Self {
        Self::Closed
    }
}
