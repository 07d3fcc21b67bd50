//! The handle.

use std::fmt;
use std::time::Duration;

use super::cause::{CancelKind, Cancelled, Cause};
use super::data::{Data, TokenNode};
use super::node::Node;
use super::registration::DropGuard;
use crate::clock::{Clock, Instant};
use crate::fault::{self, At};
use crate::observe;
use crate::sync::{Arc, Weak};
use crate::threads::Scope;

/// A handle to one node of a tree of cancellation; clones are the same node.
///
/// Unlike an `AtomicBool`, it can be waited on without polling, it has children, deadlines and
/// hooks, and it says why it was cancelled. Unlike Go's `Context`, whoever holds it may cancel it:
/// hand out a [`child`](Self::child) to keep that for yourself.
///
/// The module documentation ([`cancel`](crate::cancel)) has the list of promises.
///
/// # Performance
///
/// `is_cancelled` is one atomic load, `clone` one reference count. A child costs one allocation and
/// its parent's lock; a cancel takes time in proportion to the tree below it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{CancelKind, CancelToken};
///
/// let service = CancelToken::new();
/// let request = service.child_timeout(Duration::from_secs(5));
///
/// let worker = std::thread::spawn({
///     let request = request.clone();
///     move || request.sleep(Duration::from_secs(3600))
/// });
/// assert!(service.cancel_with("shutting down"));
/// let woken = worker.join().unwrap().unwrap_err(); // at once, not in an hour
/// assert_eq!(woken.kind(), CancelKind::Cancelled);
/// assert_eq!(woken.to_string(), "cancelled: shutting down");
/// assert!(!service.cancel()); // only the first call gets true
/// ```
#[derive(Clone)]
pub struct CancelToken {
    pub(super) node: Arc<TokenNode>,
}

impl CancelToken {
    /// A root token on the system's clock.
    #[must_use]
    pub fn new() -> Self {
        Self::with_clock(&Clock::system())
    }

    /// A root token on `clock`, which its children inherit.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock};
    ///
    /// let clock = Clock::manual();
    /// let token = CancelToken::with_clock(&clock);
    /// let request = token.child().child_timeout(Duration::from_secs(60));
    /// clock.advance(Duration::from_secs(60)); // a test does not wait a minute
    /// assert!(request.is_cancelled() && !token.is_cancelled());
    /// ```
    #[must_use]
    pub fn with_clock(clock: &Clock) -> Self {
        Self::root(clock, false)
    }

    /// A token that nothing cancels, for callees that want one: `cancel` on it does nothing and
    /// returns `false`, and its children are roots.
    #[must_use]
    pub fn never() -> Self {
        Self::root(&Clock::system(), true)
    }

    fn root(clock: &Clock, never: bool) -> Self {
        let mut data = Data::new(clock.clone(), None);
        data.never = never;
        let node = Node::root(data);
        Self { node }
    }

    /// A token that is cancelled with this one, or by itself. Born cancelled if this one is.
    ///
    /// # Performance
    ///
    /// One allocation, and this token's lock when it is made and when its last clone is dropped.
    #[must_use]
    pub fn child(&self) -> Self {
        self.child_until(self.deadline(), false).born()
    }

    /// A child whose deadline is `timeout` from now. Too long to count is no deadline of its own;
    /// zero is born cancelled. See [`child_deadline`](Self::child_deadline).
    #[must_use]
    pub fn child_timeout(&self, timeout: Duration) -> Self {
        match self.clock().deadline_after(timeout) {
            Some(deadline) => self.child_deadline(deadline),
            None => self.child(),
        }
    }

    /// A child that is cancelled with [`CancelKind::DeadlineExceeded`] at `deadline`, unless it was
    /// before. Its effective deadline is the earlier of this and its parent's.
    ///
    /// If the clock's timer thread is needed and cannot be started, the child fails safe: it is
    /// born cancelled, with the [`ThreadError`](crate::threads::ThreadError) as its cause, rather
    /// than never.
    ///
    /// # Performance
    ///
    /// A child plus a place in the clock's deadline queue. If it is the clock's only timer, a
    /// thread is started, and joined when the child is dropped; [`Clock::keep_timer`] avoids that
    /// for timeouts that come one at a time.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelKind, CancelToken, Clock};
    ///
    /// let clock = Clock::manual();
    /// let at = |secs| clock.deadline_after(Duration::from_secs(secs)).unwrap();
    /// let job = CancelToken::with_clock(&clock).child_deadline(at(10));
    /// let step = job.child_deadline(at(20)); // a child gets no more time than its parent
    /// assert_eq!(step.deadline(), job.deadline());
    /// assert!(job.child_deadline(clock.now()).is_cancelled()); // born cancelled
    ///
    /// clock.advance(Duration::from_secs(10));
    /// assert_eq!(step.kind(), Some(CancelKind::DeadlineExceeded));
    /// ```
    #[must_use]
    pub fn child_deadline(&self, deadline: Instant) -> Self {
        match self.deadline() {
            Some(inherited) if inherited <= deadline => self.child(),
            _ => self.child_until(Some(deadline), true).armed(),
        }
    }

    #[inline]
    fn child_until(&self, deadline: Option<Instant>, own_deadline: bool) -> Self {
        fault::pass(At::CancelChild);
        let mut data = Data::new(self.clock().clone(), deadline);
        data.own_deadline = own_deadline;
        let node = match self.node.extra.never {
            true => Node::root(data),
            false => Node::child(&self.node, data),
        };
        Self { node }
    }

    /// A token that is cancelled with the first of `sources`, with that one's kind and cause. Its
    /// deadline is the earliest of theirs, and its clock is the first one's. With no sources it is
    /// a new root.
    ///
    /// Deadlines of sources on *other* clocks still cancel it; only the first clock's are shown by
    /// [`deadline`](Self::deadline).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::CancelToken;
    ///
    /// let (service, client) = (CancelToken::new(), CancelToken::new());
    /// let call = CancelToken::linked(&[&service, &client]);
    /// client.cancel_with("hung up");
    /// assert_eq!(call.check().unwrap_err().to_string(), "cancelled: hung up");
    /// assert!(!service.is_cancelled());
    /// ```
    #[must_use]
    pub fn linked(sources: &[&Self]) -> Self {
        let clock = sources.first().map(|first| first.clock().clone());
        let clock = clock.unwrap_or_default();
        let same_clock = sources.iter().filter(|source| source.clock().is(&clock));
        let deadline = same_clock.filter_map(|source| source.deadline()).min();
        let mut data = Data::new(clock, deadline);
        // One source may be overdue when another one's cancel comes by.
        data.own_deadline = true;
        let parents = sources.iter().filter(|source| !source.node.extra.never);
        let parents: Vec<_> = parents.map(|source| &source.node).collect();
        let node = Node::child_of_all(&parents, data);
        Self { node }.born()
    }

    /// A token for the work that must be done *because* this one was cancelled: on the same clock,
    /// but not cancelled with this one and without its deadline. Bound it with
    /// [`child_timeout`](Self::child_timeout).
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::CancelToken;
    ///
    /// let service = CancelToken::new();
    /// service.cancel();
    /// let cleanup = service.shield().child_timeout(Duration::from_secs(2));
    /// assert!(cleanup.check().is_ok()); // two seconds to flush
    /// ```
    #[must_use]
    pub fn shield(&self) -> Self {
        Self::with_clock(self.clock())
    }

    /// Whether it has been cancelled: one atomic load (Acquire).
    ///
    /// Once `true`, always `true`; and what the canceller did before is visible. A deadline counts
    /// from when the timer has delivered it.
    #[inline]
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        self.node.is_cancelled()
    }

    /// Cancels this token and all below it. `true` for the one call that did; `false` if it was
    /// cancelled already, its deadline had passed, or it is a [`never`](Self::never) token.
    ///
    /// When it returns, with either answer, every descendant is cancelled and every wait on them
    /// has been woken. With `true`, the hooks of this token have run too, on this thread; those of
    /// a descendant may still be running on another, if that was cancelling it at the same time.
    pub fn cancel(&self) -> bool {
        self.cancel_now(None)
    }

    /// Cancels as [`cancel`](Self::cancel) does, and says what led to it.
    pub fn cancel_with(&self, cause: impl Into<Cause>) -> bool {
        self.cancel_now(Some(cause.into()))
    }

    fn cancel_now(&self, cause: Option<Cause>) -> bool {
        if self.node.extra.never {
            return false;
        }
        fault::pass(At::CancelCancel);
        // A deadline that has passed but was not delivered yet came first all the same.
        if !self.is_cancelled() && self.is_due() {
            self.node.expire();
            return false;
        }
        let cancelled = self.end(cause);
        if cancelled {
            observe::cancellation(false);
        }
        cancelled
    }

    /// Cancels what is over: no news, so nobody is told of it.
    pub(crate) fn end(&self, cause: Option<Cause>) -> bool {
        self.node
            .cancel(&Cancelled::new(CancelKind::Cancelled, cause))
    }

    /// Cancels as another token was: with its kind and its cause.
    pub(crate) fn cancel_as(&self, other: &Cancelled) -> bool {
        self.node.cancel(other)
    }

    /// A guard that cancels this token when it is dropped.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::CancelToken;
    ///
    /// let token = CancelToken::new();
    /// let worker = token.child();
    /// let result: Result<(), &str> = (|| {
    ///     let _guard = worker.clone().drop_guard();
    ///     Err("left early")?;
    ///     Ok(())
    /// })();
    /// assert!(result.is_err());
    /// assert!(worker.is_cancelled());
    /// assert!(!token.drop_guard().disarm().is_cancelled());
    /// ```
    pub fn drop_guard(self) -> DropGuard {
        DropGuard::new(self)
    }

    /// For lists of threads; keeps nothing alive.
    pub(crate) fn scope(&self) -> Scope {
        Scope::of(&self.node)
    }

    #[cfg(all(feature = "debug-http", unix))]
    pub(super) fn node(&self) -> &Arc<TokenNode> {
        &self.node
    }

    #[cfg(all(feature = "debug-http", unix))]
    pub(super) fn from_node(node: Arc<TokenNode>) -> Self {
        Self { node }
    }

    /// Whether this handle is as good as new: nothing that was made from it is left anywhere, so
    /// that it can serve as somebody else's new token.
    pub(crate) fn is_untouched(&self) -> bool {
        self.node.is_untouched()
    }

    /// Whether this is a child of `parent`'s, or a root as children of `never` tokens are.
    pub(crate) fn is_child_of(&self, parent: &Self) -> bool {
        match parent.node.extra.never {
            true => self.node.parents().next().is_none(),
            false => {
                let mut parents = self.node.parents();
                parents.any(|node| Arc::ptr_eq(node, &parent.node))
            }
        }
    }

    /// Whether the deadline has passed, delivered or not.
    #[inline]
    fn is_due(&self) -> bool {
        self.remaining() == Some(Duration::ZERO)
    }

    /// Cancels a token that has just been made if its deadline is in the past.
    #[inline]
    fn born(self) -> Self {
        if self.deadline().is_some() && !self.is_cancelled() && self.is_due() {
            self.node.expire();
        }
        self
    }

    /// Arms the deadline of a token that has just been made.
    fn armed(self) -> Self {
        let this = self.born();
        let data = &this.node.extra;
        let Some(deadline) = data.deadline.filter(|_| !this.is_cancelled()) else {
            return this;
        };
        let node: Weak<TokenNode> = Arc::downgrade(&this.node);
        match data.clock.register(deadline, node) {
            Ok(timer) => drop(data.timer.set(Box::new(timer))),
            Err(error) => {
                let cause = Some(Cause::error(error));
                this.node
                    .cancel(&Cancelled::new(CancelKind::Cancelled, cause));
            }
        }
        this
    }
}

// A panic never leaves one half changed: no code of the user runs under a lock of ours.
impl std::panic::UnwindSafe for CancelToken {}
impl std::panic::RefUnwindSafe for CancelToken {}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("cancelled", &self.cancelled())
            .field("remaining", &self.remaining())
            .finish_non_exhaustive()
    }
}
