//! The handle.

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::fmt;
use std::sync::{LazyLock, OnceLock};
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::cause::{CancelKind, Cancelled, Cause};
use super::node::{Extra, Node};
use super::registration::{DropGuard, Registration};
use crate::clock::{Clock, Instant, Timed, Timer};
use crate::fault::{self, At};
use crate::observe;
use crate::sync::{Arc, GateReceiver, Weak, gate};
use crate::threads::{self, Scope, TokenPath};

/// The receiver of tokens that were cancelled before anybody asked.
static DISCONNECTED: LazyLock<GateReceiver> = LazyLock::new(|| gate().1);

pub(super) type TokenNode = Node<Data>;

/// What a token keeps in its node.
pub(super) struct Data {
    clock: Clock,
    /// The earliest on the path to the root.
    deadline: Option<Instant>,
    /// The deadline is not that of the one parent: a sweep must look at it.
    own_deadline: bool,
    never: bool,
    /// Present if the deadline is this token's own. Set once, before the token is handed out.
    timer: OnceLock<Box<Timer>>,
}

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
    node: Arc<TokenNode>,
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

    /// A receiver that disconnects on cancellation and never carries a message: for `select!`,
    /// with any number of clones and waiters, for as long as you like.
    ///
    /// A clone of it does not keep the token: it also disconnects when the last handle of the token
    /// and of all below it is gone, since nothing could cancel it any more.
    ///
    /// # Performance
    ///
    /// The first call allocates a channel; later ones are one atomic load.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::CancelToken;
    /// use crossbeam_channel::{select, unbounded};
    ///
    /// let token = CancelToken::new();
    /// let (tx, rx) = unbounded();
    /// tx.send(1).unwrap();
    /// let mut seen = Vec::new();
    /// 'work: loop {
    ///     select! {
    ///         recv(token.done()) -> _ => break 'work,
    ///         recv(rx) -> message => {
    ///             seen.push(message.unwrap());
    ///             token.cancel();
    ///         }
    ///     }
    /// }
    /// assert_eq!(seen, [1]);
    /// ```
    #[must_use]
    pub fn done(&self) -> &Receiver<Infallible> {
        self.node.gate().unwrap_or(&DISCONNECTED)
    }

    /// Blocks until it is cancelled. On a token that nobody else can cancel that is for ever; see
    /// [`stop_possible`](Self::stop_possible).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::CancelToken;
    ///
    /// let token = CancelToken::new();
    /// std::thread::scope(|s| {
    ///     let main = s.spawn(|| token.wait()); // such as a `main` that has started its services
    ///     token.cancel();
    ///     main.join().unwrap();
    /// });
    /// token.wait(); // cancelled: does not block
    /// ```
    #[track_caller]
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// Blocks until it is cancelled, for `timeout` at the longest, by the token's clock. `true` if
    /// it is cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock};
    ///
    /// let clock = Clock::manual();
    /// let token = CancelToken::with_clock(&clock);
    /// std::thread::scope(|s| {
    ///     let poller = s.spawn(|| {
    ///         let mut polls = 0;
    ///         while !token.wait_timeout(Duration::from_secs(60)) { // `false`: a minute is over
    ///             polls += 1;
    ///         }
    ///         polls
    ///     });
    ///     for _ in 0..2 {
    ///         clock.await_timers(1);
    ///         clock.advance(Duration::from_secs(60));
    ///     }
    ///     clock.await_timers(1);
    ///     token.cancel(); // in the middle of the third minute
    ///     assert_eq!(poller.join().unwrap(), 2);
    /// });
    /// ```
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(self.clock().deadline_after(timeout))
    }

    /// Blocks until it is cancelled, or until `deadline`. `true` if it is cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock};
    ///
    /// let clock = Clock::manual();
    /// let token = CancelToken::with_clock(&clock);
    /// let deadline = clock.deadline_after(Duration::from_secs(9)).unwrap();
    /// std::thread::scope(|s| {
    ///     let waiter = s.spawn(|| token.wait_deadline(deadline));
    ///     clock.await_timers(1);
    ///     clock.advance(Duration::from_secs(9));
    ///     assert!(!waiter.join().unwrap()); // the time is up, and it is not cancelled
    /// });
    /// token.cancel();
    /// assert!(token.wait_deadline(deadline)); // cancelled comes before late
    /// ```
    #[track_caller]
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.wait_until(Some(deadline))
    }

    #[track_caller]
    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        fault::pass(At::CancelWait);
        if self.is_cancelled() {
            return true;
        }
        let done = self.done();
        let _wait = threads::waiting_on("be cancelled");
        match self.clock().recv_until(done, deadline) {
            Ok(never) => match never {},
            Err(RecvTimeoutError::Disconnected) => true,
            // The two may come together, and cancellation is what the caller must not miss.
            Err(RecvTimeoutError::Timeout) => self.is_cancelled(),
        }
    }

    /// Sleeps for `duration` by the token's clock, or until it is cancelled.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the sleep was cut short, or the token was cancelled before.
    #[track_caller]
    pub fn sleep(&self, duration: Duration) -> Result<(), Cancelled> {
        match self.wait_timeout(duration) {
            true => self.check(),
            false => Ok(()),
        }
    }

    /// Runs `hook` once: when the token is cancelled, on the thread that cancels it, or at once, on
    /// this one, if it has been.
    ///
    /// Dropping the registration takes the hook back (see there). Hooks run outside every lock, in
    /// the order of registration, a parent's before its children's. A panic in one is reported by
    /// the panic hook and stops there. If the token goes away uncancelled, the closure is dropped.
    ///
    /// Keep it short: `cancel` waits for it, and a deadline's hooks delay the other timers. A
    /// detached hook that holds a handle of its own token keeps both until it is cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::CancelToken;
    /// use std::net::{Shutdown, TcpListener, TcpStream};
    /// use std::io::Read;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    /// let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    /// let token = CancelToken::new();
    /// let wake = stream.try_clone().unwrap();
    /// let registration = token.on_cancel(move || drop(wake.shutdown(Shutdown::Both)));
    ///
    /// let reader = std::thread::spawn(move || stream.read(&mut [0; 16]));
    /// token.cancel(); // ends the blocked read
    /// assert_eq!(reader.join().unwrap().unwrap(), 0);
    /// assert!(!registration.try_unregister()); // too late: it has run
    /// ```
    pub fn on_cancel(&self, hook: impl FnOnce() + Send + 'static) -> Registration {
        self.hook(move || {
            fault::run(At::CancelHook);
            hook();
        })
    }

    /// A hook of the library's own, which does not panic.
    pub(crate) fn hook(&self, hook: impl FnOnce() + Send + 'static) -> Registration {
        let closure = Box::new(hook);
        match self.node.extra.never {
            true => Registration::never(closure),
            false => Registration::arm(&self.node, closure),
        }
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

const fn deadline_exceeded() -> Cancelled {
    Cancelled::new(CancelKind::DeadlineExceeded, None)
}

impl Data {
    #[inline]
    fn new(clock: Clock, deadline: Option<Instant>) -> Self {
        Self {
            clock,
            deadline,
            own_deadline: false,
            never: false,
            timer: OnceLock::new(),
        }
    }
}

impl Extra for Data {
    fn overdue(&self) -> Option<Cancelled> {
        let deadline = self.deadline.filter(|_| self.own_deadline)?;
        (deadline <= self.clock.now()).then(deadline_exceeded)
    }
}

impl Timed for TokenNode {
    fn fire(self: Arc<Self>, _due: Instant, _now: Instant) -> Option<Instant> {
        self.expire();
        None
    }
}

impl TokenNode {
    fn first_parent(&self) -> Option<&Self> {
        self.parents().next().map(|parent| &**parent)
    }

    fn expire(self: &Arc<Self>) {
        if self.cancel(&deadline_exceeded()) {
            observe::cancellation(true);
        }
    }
}

/// How much of a path is shown.
const PATH: usize = 16;

impl threads::Path for TokenNode {
    fn path(&self) -> TokenPath {
        let address = |node: &Self| std::ptr::from_ref(node).addr();
        let mut nodes = std::iter::successors(Some(self), |node| node.first_parent());
        let mut ids: Vec<_> = nodes.by_ref().take(PATH).map(address).collect();
        ids.reverse();
        TokenPath {
            ids,
            cut: nodes.next().is_some(),
            cancelled: self.is_cancelled(),
        }
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
