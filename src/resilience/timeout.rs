//! A bound on the time of a call that can be told to stop.

use std::fmt;
use std::time::Duration;

use super::spares::Spares;
use crate::cancel::{CancelKind, CancelToken, Cancelled};
use crate::clock::{Clock, TimerLease};
use crate::fault::{self, At};
use crate::observe;
use crate::sync::Arc;
use crate::threads::ThreadError;

/// Bounds the time of a call: the operation is given a child of the caller's token that has the
/// deadline, and the result says whose time was up.
///
/// Unlike a timeout around a future, it stops nothing by force: the operation waits on its token
/// (`wait`, `sleep`, `select!`, hooks), or hands [`remaining`](CancelToken::remaining) to a socket.
/// One that does neither comes back when it does; for those there is
/// [`Abandoner`](super::Abandoner). Cheap to clone.
///
/// # Edge cases
///
/// * A value that comes late is a value: `Ok` is never turned into a timeout.
/// * An error that comes when the time is up is a timeout, with the error inside, also if the
///   timer has not told the token yet: a socket's own timeout may be faster.
/// * When the caller's token is cancelled, or its own deadline comes first, that is
///   [`Cancelled`](TimeoutError::Cancelled) and not a timeout of this one.
/// * With no time at all, or a token that is cancelled already, the operation does not run.
///
/// # Performance
///
/// A child token with a timer: two allocations and a few locks, well below a microsecond on an idle
/// machine while the clock's timer thread runs. **A timeout that is the clock's only timer starts
/// that thread, and joins it at the end**, some 100 µs: [`keep_timer`](Self::keep_timer) keeps it
/// while this policy lives. With [`with_slack`](Self::with_slack) a call that succeeds allocates
/// nothing.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock};
/// use cleanbreak::resilience::Timeout;
///
/// let service = CancelToken::new();
/// let timeout = Timeout::new(Duration::from_secs(60)).keep_timer(&Clock::system()).unwrap();
/// let quick = timeout.call(&service, |token| Ok::<_, std::io::Error>(token.remaining()));
/// assert!(quick.unwrap().unwrap() <= Duration::from_secs(60)); // for a socket, say
///
/// let short = Timeout::new(Duration::from_millis(5));
/// let slow = short.call(&service, |token| token.sleep(Duration::from_secs(3600)));
/// assert!(slow.unwrap_err().is_timeout()); // in 5 ms, not in an hour
///
/// let failed = timeout.call(&service, |_| Err::<(), _>("refused")).unwrap_err();
/// assert_eq!(failed.into_error(), Some("refused"));
///
/// service.cancel();
/// let stopped = timeout.call(&service, |_| Ok::<_, std::io::Error>("never runs"));
/// assert!(stopped.unwrap_err().is_cancelled());
/// ```
#[derive(Clone)]
pub struct Timeout {
    limit: Duration,
    spares: Option<Arc<Spares>>,
    _lease: Option<Arc<TimerLease>>,
}

impl Timeout {
    /// A timeout of `limit` for each call, by the clock of the caller's token. Too long to count is
    /// none.
    #[must_use]
    pub fn new(limit: Duration) -> Self {
        Self {
            limit,
            spares: None,
            _lease: None,
        }
    }

    /// Keeps the timer thread of `clock` running for as long as a clone of this lives: the clock of
    /// the tokens that it is called with. See [`Clock::keep_timer`].
    ///
    /// # Errors
    ///
    /// If the thread cannot be started.
    pub fn keep_timer(mut self, clock: &Clock) -> Result<Self, ThreadError> {
        self._lease = Some(Arc::new(clock.keep_timer()?));
        Ok(self)
    }

    /// Lets a call take up to `slack` longer than the limit, so that a token with its timer can
    /// serve several calls: those of a thread that come one after the other under one token. Such
    /// a call costs a clock reading and a few uncontended locks, and allocates nothing.
    ///
    /// The tokens that are kept for that, at most eight, each hold a timer of the clock and a place
    /// in the caller's tree, until they are used up or the last clone of this is dropped. A token
    /// of which the operation has kept a clone, a child, a hook or a `done()` is not used again.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, Timeout};
    ///
    /// let (clock, millis) = (Clock::manual(), Duration::from_millis);
    /// let service = CancelToken::with_clock(&clock);
    /// let timeout = Timeout::new(millis(100)).with_slack(millis(50));
    /// let left = || timeout.call(&service, |token| Ok::<_, ()>(token.remaining().unwrap())).unwrap();
    /// let first = left();
    /// assert!(millis(100) <= first && first <= millis(150));
    /// clock.advance(millis(1));
    /// assert_eq!(left(), first - millis(1)); // the same token again
    /// ```
    #[must_use]
    pub fn with_slack(mut self, slack: Duration) -> Self {
        self.spares = Some(Arc::new(Spares::new(slack)));
        self
    }

    /// The limit.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::Timeout;
    ///
    /// let timeout = Timeout::new(Duration::from_secs(3)).with_slack(Duration::from_secs(1));
    /// assert_eq!(timeout.limit(), Duration::from_secs(3));
    /// ```
    #[must_use]
    pub fn limit(&self) -> Duration {
        self.limit
    }

    /// Runs `operation`, here, with a child of `token` whose deadline is the limit from now.
    ///
    /// # Errors
    ///
    /// [`TimeoutError`] says whether the operation failed by itself, was told that its time was up,
    /// or that the caller was cancelled; it has the operation's own error in any case, if it ran.
    pub fn call<T, E>(
        &self,
        token: &CancelToken,
        operation: impl FnOnce(&CancelToken) -> Result<T, E>,
    ) -> Result<T, TimeoutError<E>> {
        let child = self.child_of(token);
        if let Some(cancelled) = child.cancelled() {
            let end = ended_by(token, &child).unwrap_or(EndedBy::Caller(cancelled));
            return Err(self.error(end, None));
        }
        fault::run(At::TimeoutCall);
        match operation(&child) {
            Ok(value) => {
                if let Some(spares) = &self.spares {
                    spares.give_back(child);
                }
                Ok(value)
            }
            Err(error) => Err(match ended_by(token, &child) {
                Some(end) => self.error(end, Some(error)),
                None => TimeoutError::Failed(error),
            }),
        }
    }

    fn child_of(&self, token: &CancelToken) -> CancelToken {
        match &self.spares {
            None => token.child_timeout(self.limit),
            Some(spares) => match token.clock().deadline_after(self.limit) {
                Some(earliest) => spares.child_of(token, earliest),
                None => token.child(),
            },
        }
    }

    fn error<E>(&self, end: EndedBy, error: Option<E>) -> TimeoutError<E> {
        match end {
            EndedBy::Limit => {
                observe::timed_out();
                let limit = self.limit;
                TimeoutError::TimedOut { limit, error }
            }
            EndedBy::Caller(cancelled) => TimeoutError::Cancelled { cancelled, error },
        }
    }
}

/// What ended an operation.
pub(super) enum EndedBy {
    /// Its own deadline.
    Limit,
    /// The token of the caller.
    Caller(Cancelled),
}

/// What has told `child`, which was made from `token` with a deadline of its own: `None` if nothing
/// has, or only the operation itself.
pub(super) fn ended_by(token: &CancelToken, child: &CancelToken) -> Option<EndedBy> {
    let due = || child.remaining() == Some(Duration::ZERO);
    let inherited = child.deadline() == token.deadline();
    match child.cancelled() {
        Some(told) if told.is_deadline() && inherited => Some(EndedBy::Caller(told)),
        Some(told) if told.is_deadline() => Some(EndedBy::Limit),
        Some(told) => token.is_cancelled().then_some(EndedBy::Caller(told)),
        None if due() && inherited => {
            let told = Cancelled::new(CancelKind::DeadlineExceeded, None);
            Some(EndedBy::Caller(told))
        }
        None => due().then_some(EndedBy::Limit),
    }
}

// A panic never leaves one half changed: no code of the user runs under a lock of ours.
impl std::panic::UnwindSafe for Timeout {}
impl std::panic::RefUnwindSafe for Timeout {}

impl fmt::Debug for Timeout {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Timeout")
            .field("limit", &self.limit)
            .field("slack", &self.spares.as_ref().map(|spares| spares.slack()))
            .finish_non_exhaustive()
    }
}

/// Why a call under a [`Timeout`] has no value.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::resilience::TimeoutError;
/// use cleanbreak::{CancelToken, Clock, Timeout};
///
/// let (clock, second) = (Clock::manual(), Duration::from_secs(1));
/// let service = CancelToken::with_clock(&clock);
/// let timeout = Timeout::new(second);
/// let late = timeout.call(&service, |_| { clock.advance(second); Err::<(), _>("gave up") });
/// let late = late.unwrap_err();
/// assert!(late.is_timeout() && !late.is_cancelled());
/// assert_eq!(late.to_string(), "timed out after 1s: gave up");
/// assert_eq!(late.into_error(), Some("gave up"));
///
/// let failed = timeout.call(&service, |_| Err::<(), _>("reset")).unwrap_err();
/// assert!(matches!(failed, TimeoutError::Failed("reset"))); // in time
///
/// let stopped = timeout.call(&service, |_| { service.cancel(); Err::<(), _>("interrupted") });
/// let stopped = stopped.unwrap_err();
/// assert!(stopped.is_cancelled() && !stopped.is_timeout());
/// assert_eq!(stopped.into_error(), Some("interrupted"));
/// let unrun = timeout.call(&service, |_| Err::<(), _>("never runs")).unwrap_err();
/// assert_eq!(unrun.into_error(), None);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum TimeoutError<E> {
    /// The time was up.
    #[non_exhaustive]
    TimedOut {
        /// The limit.
        limit: Duration,
        /// What the operation returned when it was told; `None` if it was not run.
        error: Option<E>,
    },
    /// The caller's token was cancelled, or its own deadline passed.
    #[non_exhaustive]
    Cancelled {
        /// What happened to the caller's token. (Or that the clock's timer thread could not be
        /// started, as its cause: then the operation was not run.)
        cancelled: Cancelled,
        /// What the operation returned when it was told; `None` if it was not run.
        error: Option<E>,
    },
    /// The operation failed in time, with its own error.
    Failed(E),
}

impl<E> TimeoutError<E> {
    /// Whether the time was up.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self, Self::TimedOut { .. })
    }

    /// Whether the caller was cancelled.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled { .. })
    }

    /// The operation's error, whatever made it fail; `None` if it was not run.
    #[must_use]
    pub fn into_error(self) -> Option<E> {
        match self {
            Self::TimedOut { error, .. } | Self::Cancelled { error, .. } => error,
            Self::Failed(error) => Some(error),
        }
    }
}

impl<E: fmt::Display> fmt::Display for TimeoutError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (error, words) = match self {
            Self::Failed(error) => return error.fmt(f),
            Self::TimedOut { limit, error } => (error, format!("timed out after {limit:?}")),
            Self::Cancelled { cancelled, error } => (error, cancelled.to_string()),
        };
        match error {
            None => write!(f, "{words}"),
            Some(error) => write!(f, "{words}: {error}"),
        }
    }
}

// The text has what is inside already.
impl<E: fmt::Debug + fmt::Display> std::error::Error for TimeoutError<E> {}
