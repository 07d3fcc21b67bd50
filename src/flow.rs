//! Floor 2: why a loop ended, as a value that crosses functions and closures.
//!
//! A label ends at the edge of its function. Past it, [`ControlFlow`] and `?` carry a break up the
//! calls without a panic: a function that may end its caller's loop returns
//! `ControlFlow<Exit<B>, T>`, and the loop sees one [`Exit`] that says why. (Across threads, a
//! group is [broken with a value](crate::group::Group::break_with).)
//!
//! # Examples
//!
//! ```
//! use std::ops::ControlFlow::{self, Break, Continue};
//! use cleanbreak::CancelToken;
//! use cleanbreak::flow::{Exit, repeat};
//!
//! /// Ends the caller's loop when it finds the needle, or when told to stop.
//! fn search(token: &CancelToken, row: &[u32], needle: u32) -> ControlFlow<Exit<usize>> {
//!     for (column, value) in row.iter().enumerate() {
//!         token.proceed()?;
//!         if *value == needle {
//!             return Break(Exit::Broke(column));
//!         }
//!     }
//!     Continue(())
//! }
//!
//! let rows = [[1, 2, 3], [4, 5, 6]];
//! let token = CancelToken::new();
//! let mut left = rows.iter();
//! let exit = repeat(&token, || match left.next() {
//!     Some(row) => search(&token, row, 6),
//!     None => Break(Exit::Closed),
//! });
//! assert_eq!(exit.broke(), Some(2));
//!
//! token.cancel_with("shutting down");
//! let exit = repeat(&token, || search(&token, &rows[0], 1));
//! assert_eq!(exit.to_string(), "cancelled: shutting down");
//! ```

use std::fmt;
use std::ops::ControlFlow;

use crate::cancel::{CancelToken, Cancelled};

/// Why a loop ended. `B` is what it was broken with.
///
/// # Examples
///
/// ```
/// use std::ops::ControlFlow::{Break, Continue};
/// use cleanbreak::CancelToken;
/// use cleanbreak::flow::{Exit, repeat};
///
/// let token = CancelToken::new();
/// let run = |values: &[i32]| -> Exit<i32> {
///     let mut values = values.iter();
///     repeat(&token, || match values.next() {
///         Some(value) if *value < 0 => Break(Exit::Broke(*value)),
///         Some(_) => Continue(()),
///         None => Break(Exit::Closed),
///     })
/// };
/// assert_eq!(run(&[1, -2, 3]).broke(), Some(-2));
/// let closed = run(&[1, 2]);
/// assert!(closed.is_closed() && closed.cancelled().is_none());
/// assert_eq!(closed.to_string(), "inputs closed");
///
/// token.cancel_with("shutting down");
/// let told = run(&[-1]); // looked at before the first pass
/// assert_eq!(told.cancelled().unwrap().to_string(), "cancelled: shutting down");
/// assert!(!told.is_closed() && told.broke().is_none());
/// ```
#[derive(Clone, Debug)]
pub enum Exit<B = ()> {
    /// It broke off by itself, with this value.
    Broke(B),
    /// Its token was cancelled.
    Cancelled(Cancelled),
    /// Its inputs ended.
    Closed,
}

impl<B> Exit<B> {
    /// The value, if it broke off by itself.
    #[must_use]
    pub fn broke(self) -> Option<B> {
        match self {
            Self::Broke(value) => Some(value),
            Self::Cancelled(_) | Self::Closed => None,
        }
    }

    /// The kind and cause, if it was cancelled.
    #[must_use]
    pub fn cancelled(&self) -> Option<&Cancelled> {
        match self {
            Self::Cancelled(cancelled) => Some(cancelled),
            Self::Broke(_) | Self::Closed => None,
        }
    }

    /// Whether it ended because its inputs did.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self, Self::Closed)
    }
}

impl<B> fmt::Display for Exit<B> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Broke(_) => f.write_str("broke off"),
            Self::Cancelled(cancelled) => cancelled.fmt(f),
            Self::Closed => f.write_str("inputs closed"),
        }
    }
}

impl<B> From<Cancelled> for Exit<B> {
    fn from(cancelled: Cancelled) -> Self {
        Self::Cancelled(cancelled)
    }
}

impl CancelToken {
    /// [`check`](Self::check) for functions that return a [`ControlFlow`]: `token.proceed()?`
    /// breaks with [`Exit::Cancelled`] once the token is cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::ops::ControlFlow;
    /// use cleanbreak::CancelToken;
    /// use cleanbreak::flow::Exit;
    ///
    /// fn sum(token: &CancelToken, values: &[u32]) -> ControlFlow<Exit, u32> {
    ///     let mut sum = 0;
    ///     for value in values {
    ///         token.proceed()?; // leaves the function, and the loop that called it
    ///         sum += value;
    ///     }
    ///     ControlFlow::Continue(sum)
    /// }
    ///
    /// let token = CancelToken::new();
    /// assert_eq!(sum(&token, &[1, 2]).continue_value(), Some(3));
    /// token.cancel();
    /// assert!(sum(&token, &[1, 2]).break_value().unwrap().cancelled().is_some());
    /// ```
    #[inline]
    #[must_use = "only `?`, or a look at it, ends the loop"]
    pub fn proceed<B>(&self) -> ControlFlow<Exit<B>> {
        match self.check() {
            Ok(()) => ControlFlow::Continue(()),
            Err(cancelled) => ControlFlow::Break(Exit::Cancelled(cancelled)),
        }
    }
}

/// Runs `pass` over and over until it breaks or `token` is cancelled, and says why it ended. The
/// token is looked at before each pass; a pass that blocks must wait on it itself.
///
/// # Examples
///
/// ```
/// use std::ops::ControlFlow::{Break, Continue};
/// use cleanbreak::CancelToken;
/// use cleanbreak::flow::{Exit, repeat};
///
/// let token = CancelToken::new();
/// let mut passes = 0;
/// let exit: Exit = repeat(&token, || {
///     passes += 1;
///     if passes == 3 {
///         token.cancel(); // seen before the fourth pass
///     }
///     Continue(())
/// });
/// assert_eq!((passes, exit.cancelled().is_some()), (3, true));
///
/// let exit = repeat(&CancelToken::new(), || Break(Exit::Broke("found")));
/// assert_eq!(exit.broke(), Some("found"));
/// ```
pub fn repeat<B>(token: &CancelToken, mut pass: impl FnMut() -> ControlFlow<Exit<B>>) -> Exit<B> {
    'passes: loop {
        let flow = match token.proceed() {
            ControlFlow::Continue(()) => pass(),
            stop => stop,
        };
        if let ControlFlow::Break(exit) = flow {
            break 'passes exit;
        }
    }
}
