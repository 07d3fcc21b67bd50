//! What a token says of itself: whether and why it was cancelled, and until when it has time.

use std::collections::BTreeSet;
use std::time::Duration;

use super::cause::{CancelKind, Cancelled, Cause};
use super::token::CancelToken;
use crate::clock::{Clock, Instant};
use crate::sync::Arc;

impl CancelToken {
    /// What happened, if it is cancelled: kind and cause.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{CancelKind, CancelToken};
    ///
    /// let token = CancelToken::new();
    /// assert!(token.cancelled().is_none());
    /// token.cancel_with("disk full");
    /// token.cancel_with("and no network"); // too late: the first one counts
    ///
    /// let why = token.cancelled().unwrap();
    /// assert_eq!(why.kind(), CancelKind::Cancelled);
    /// assert_eq!(token.kind(), Some(CancelKind::Cancelled)); // the same, for short
    /// assert_eq!(token.cause().unwrap().to_string(), "disk full");
    /// let plain = CancelToken::new();
    /// plain.cancel();
    /// assert!(plain.cause().is_none()); // cancelled, and nobody said why
    /// ```
    #[must_use]
    pub fn cancelled(&self) -> Option<Cancelled> {
        self.node.outcome()
    }

    /// The kind of the cancellation, if it is cancelled.
    #[must_use]
    pub fn kind(&self) -> Option<CancelKind> {
        self.cancelled().map(|cancelled| cancelled.kind())
    }

    /// What led to the cancellation, if it is cancelled and the one who did it said so.
    #[must_use]
    pub fn cause(&self) -> Option<Cause> {
        self.cancelled()?.cause().cloned()
    }

    /// Turns cancellation into an error, for `?`: `token.check()?`.
    ///
    /// # Errors
    ///
    /// [`Cancelled`], with kind and cause, if it is cancelled.
    #[inline]
    pub fn check(&self) -> Result<(), Cancelled> {
        match self.is_cancelled() {
            false => Ok(()),
            true => self.cancelled().map_or(Ok(()), Err),
        }
    }

    /// The earliest deadline on the path from here to the root, by the token's clock.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock};
    ///
    /// let clock = Clock::manual();
    /// let root = CancelToken::with_clock(&clock);
    /// assert_eq!(root.deadline(), None);
    /// let request = root.child_timeout(Duration::from_secs(5));
    /// let query = request.child_timeout(Duration::from_secs(60));
    /// assert_eq!(query.deadline(), clock.deadline_after(Duration::from_secs(5))); // the request's
    /// let quick = request.child_timeout(Duration::from_secs(1));
    /// assert_eq!(quick.deadline(), clock.deadline_after(Duration::from_secs(1))); // its own
    /// ```
    #[must_use]
    pub fn deadline(&self) -> Option<Instant> {
        self.node.extra.deadline
    }

    /// The time left until [`deadline`](Self::deadline), zero if it has passed; `None` if there is
    /// none. For the timeouts of sockets and the like; std's refuse zero, so [`check`](Self::check)
    /// first, and use a millisecond at least.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock};
    ///
    /// let clock = Clock::manual();
    /// let request = CancelToken::with_clock(&clock).child_timeout(Duration::from_secs(5));
    /// clock.advance(Duration::from_secs(2));
    /// assert_eq!(request.remaining(), Some(Duration::from_secs(3)));
    /// let socket = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    /// let left = request.remaining().map(|left| left.max(Duration::from_millis(1)));
    /// socket.set_read_timeout(left).unwrap(); // `None`, where there is no deadline, is for ever
    ///
    /// clock.advance(Duration::from_secs(60));
    /// assert_eq!(request.remaining(), Some(Duration::ZERO)); // not negative
    /// assert_eq!(request.shield().remaining(), None); // no deadline
    /// ```
    #[must_use]
    pub fn remaining(&self) -> Option<Duration> {
        let deadline = self.deadline()?;
        Some(deadline.duration_since(self.clock().now()))
    }

    /// Whether a wait on this handle can end: the token is cancelled, has a deadline, or somebody
    /// other than this handle holds it, an ancestor, or a token that those are linked to.
    ///
    /// `false` means that waiting here would be for ever, unless a hook of your own cancels it.
    /// `true` is a momentary answer: the other handles may go away uncancelled.
    ///
    /// # Performance
    ///
    /// Takes each lock on the path to the root once.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::CancelToken;
    ///
    /// let root = CancelToken::new();
    /// assert!(!root.stop_possible()); // this is the only handle
    /// let child = root.child();
    /// assert!(child.stop_possible());
    /// drop(root);
    /// assert!(!child.stop_possible());
    /// assert!(!CancelToken::never().clone().stop_possible());
    /// ```
    #[must_use]
    pub fn stop_possible(&self) -> bool {
        if self.is_cancelled() || self.deadline().is_some() {
            return true;
        }
        if self.node.extra.never {
            return false;
        }
        if self.node.handles() > 1 {
            return true;
        }
        let mut above: Vec<_> = self.node.parents().collect();
        let mut seen = BTreeSet::new();
        while let Some(node) = above.pop() {
            // Linked tokens may lead to one ancestor by many ways.
            if !seen.insert(Arc::as_ptr(node)) {
                continue;
            }
            if node.handles() > 0 || node.extra.deadline.is_some() {
                return true;
            }
            above.extend(node.parents());
        }
        false
    }

    /// The number by which lists of threads ([`ThreadInfo::token`](crate::threads::ThreadInfo::token)),
    /// dumps and the debug page tell it from the others that are alive. Clones have the same; when
    /// the last is gone another token may get it.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{CancelToken, scope, threads};
    ///
    /// let service = CancelToken::new();
    /// scope(&service, |group| {
    ///     group.spawn_named("under", |token| { token.wait(); Ok(()) })?;
    ///     # while !threads::live().iter().any(|t| t.name == "under" && t.waiting.is_some()) {
    ///     #     std::thread::yield_now();
    ///     # }
    ///     let all = threads::live();
    ///     let under = all.iter().find(|thread| thread.name == "under").unwrap();
    ///     let path = under.token.as_ref().unwrap();
    ///     assert_eq!(path.ids, [service.id(), group.token().id()]);
    ///     service.cancel();
    ///     Ok(())
    /// })
    /// .unwrap();
    /// ```
    #[must_use]
    pub fn id(&self) -> usize {
        Arc::as_ptr(&self.node).addr()
    }

    /// The clock that this token's deadlines and sleeps go by.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock};
    ///
    /// /// How long `work` takes, by the clock that its token goes by.
    /// fn timed(token: &CancelToken, work: impl FnOnce()) -> Duration {
    ///     let start = token.clock().now();
    ///     work();
    ///     token.clock().now().duration_since(start)
    /// }
    ///
    /// let clock = Clock::manual();
    /// let token = CancelToken::with_clock(&clock).child(); // children inherit it
    /// assert_eq!(timed(&token, || clock.advance(Duration::from_secs(3))), Duration::from_secs(3));
    /// ```
    #[must_use]
    pub fn clock(&self) -> &Clock {
        &self.node.extra.clock
    }
}
