//! The supervisor itself.

use std::convert::Infallible;
use std::fmt;

use crossbeam_channel::{Receiver, bounded};

use super::builder::SupervisorBuilder;
use super::end::ChildEnd;
use super::err::{AddError, ChildError, ChildErrorKind, StartError};
use super::list;
use super::report::{ChildInfo, Report};
use super::shared::{Ask, Message, Reply, Role, Shared};
use super::spec::ChildSpec;
use crate::cancel::{CancelToken, Registration};
use crate::roll::Listed;
use crate::sync::Arc;
use crate::threads;

/// Loops that are started in order, restarted when they fail, and stopped in order; see the
/// [module](super) for what is promised.
///
/// Share it by reference or in an [`Arc`](std::sync::Arc).
///
/// # Drop
///
/// Stops it as [`shutdown`](Self::shutdown) does, and then waits for as long as it takes until
/// every thread is joined; who is stuck is reported again and again. Dropped by one of its own
/// children, or an event callback, it stops, but waits for nothing: the threads end by themselves.
///
/// # Performance
///
/// One thread, and one for each child that runs. A restart costs a new thread, some 50–100 µs. Each
/// thing that happens is looked at in time proportional to the number of children: it is made for
/// up to some hundreds of loops, not for a child for each connection, which is a
/// [`Pool`](crate::Pool)'s.
///
/// # Examples
///
/// ```
/// use cleanbreak::supervise::{ChildEnd, ChildSpec, ChildState, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let (orders, inbox) = crossbeam_channel::unbounded::<u32>();
/// let (done, results) = crossbeam_channel::unbounded();
/// let worker = ChildSpec::new("worker", move |cx| {
///     cx.ready();
///     'work: loop {
///         crossbeam_channel::select! {
///             recv(cx.token().done()) -> _ => break 'work,
///             recv(inbox) -> order => done.send(100 / order?)?, // panics for 0
///         }
///     }
///     Ok(())
/// });
/// let supervisor = Supervisor::builder().child(worker).start(&CancelToken::new()).unwrap();
/// for order in [5, 0, 4] { orders.send(order).unwrap(); }
/// assert_eq!(results.recv().unwrap(), 20);
/// assert_eq!(results.recv().unwrap(), 25); // by the second run
///
/// let report = supervisor.shutdown();
/// let worker = report.child("worker").unwrap();
/// assert_eq!(worker.restarts, 1);
/// assert!(matches!(&worker.state, ChildState::Ended(ChildEnd::Cancelled(_))));
/// ```
#[must_use = "a supervisor that is dropped stops its children"]
pub struct Supervisor {
    shared: Arc<Shared>,
    /// Tells the supervisor's thread when the token is cancelled.
    _hook: Registration,
    /// Until the drop has joined its threads.
    _listed: Listed<Shared>,
}

impl Supervisor {
    /// The settings of a new supervisor.
    pub fn builder() -> SupervisorBuilder {
        SupervisorBuilder::new()
    }

    pub(super) fn new(shared: Arc<Shared>) -> Self {
        let inbox = shared.inbox.clone();
        let hook = shared.token.hook(move || {
            inbox.send(Message::Cancelled).ok();
        });
        Self {
            _listed: list::enlist(&shared),
            shared,
            _hook: hook,
        }
    }

    /// The supervisor's token, a child of the one it was started with. Cancelling it stops all
    /// children, in order, and waits for nothing. The children's tokens are not below it.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::supervise::{ChildSpec, Supervisor};
    /// use cleanbreak::CancelToken;
    ///
    /// let service = CancelToken::new();
    /// let feed = ChildSpec::new("feed", |cx| { cx.ready(); Ok(cx.token().wait()) });
    /// let supervisor = Supervisor::builder().child(feed).start(&service).unwrap();
    /// supervisor.token().cancel_with("enough");
    /// let report = supervisor.wait();
    /// assert_eq!(report.child("feed").unwrap().state.to_string(), "cancelled: enough");
    /// assert!(!service.is_cancelled()); // it is a child
    /// ```
    #[must_use]
    pub fn token(&self) -> &CancelToken {
        &self.shared.token
    }

    /// The children and what they do, in the order of their start.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::supervise::{ChildSpec, Supervisor};
    /// use cleanbreak::CancelToken;
    ///
    /// let wait = |name| ChildSpec::new(name, |cx| { cx.ready(); Ok(cx.token().wait()) });
    /// let supervisor = Supervisor::builder().child(wait("database")).child(wait("web"));
    /// let supervisor = supervisor.start(&CancelToken::new()).unwrap();
    /// let lines: Vec<_> = supervisor.children().iter().map(|child| child.to_string()).collect();
    /// assert_eq!(lines, ["\"database\" running", "\"web\" running"]);
    /// ```
    #[must_use]
    pub fn children(&self) -> Vec<ChildInfo> {
        self.shared.children()
    }

    /// What can be said so far; of a supervisor that has stopped, with those that were late and
    /// have ended since.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::supervise::Supervisor;
    /// use cleanbreak::CancelToken;
    ///
    /// let supervisor = Supervisor::builder().start(&CancelToken::new()).unwrap();
    /// assert!(supervisor.report().reason.is_none()); // it runs
    /// supervisor.shutdown();
    /// assert!(supervisor.report().reason.is_some());
    /// ```
    #[must_use]
    pub fn report(&self) -> Report {
        self.shared.report()
    }

    /// Disconnects when all phases have been stopped, for whatever reason: for `select!`. Unless a
    /// child is stuck, their threads have been joined by then.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::supervise::Supervisor;
    /// use cleanbreak::CancelToken;
    /// use crossbeam_channel::{TryRecvError, select};
    ///
    /// let token = CancelToken::new();
    /// let supervisor = Supervisor::builder().start(&token).unwrap();
    /// assert_eq!(supervisor.ended().try_recv(), Err(TryRecvError::Empty));
    /// token.cancel();
    /// select! { recv(supervisor.ended()) -> end => assert!(end.is_err()) } // disconnected
    /// ```
    #[must_use]
    pub fn ended(&self) -> &Receiver<Infallible> {
        &self.shared.ended
    }

    /// Waits until the supervisor has stopped: its token was cancelled, or it gave up. That all
    /// children have ended for good is no reason to stop.
    ///
    /// Called from one of its own children, or an event callback, it does not wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::supervise::{ChildSpec, Supervisor};
    /// use cleanbreak::CancelToken;
    ///
    /// let service = CancelToken::new();
    /// let feed = ChildSpec::new("feed", |cx| { cx.ready(); Ok(cx.token().wait()) });
    /// let supervisor = Supervisor::builder().child(feed).start(&service).unwrap();
    /// service.cancel_with("SIGTERM"); // by a signal, say
    /// let report = supervisor.wait(); // and not its drop, which would say nothing
    /// assert_eq!(report.reason.as_ref().unwrap().to_string(), "cancelled: SIGTERM");
    /// assert!(report.check().is_ok() && report.stuck().next().is_none());
    /// ```
    #[track_caller]
    pub fn wait(&self) -> Report {
        if self.shared.role().is_none() {
            let _wait = threads::waiting_on("see a supervisor end");
            self.shared.ended.recv().unwrap_err();
            if self.shared.report().stuck().next().is_none() {
                self.shared.join();
            }
        }
        self.shared.report()
    }

    /// Stops all children, phase by phase, in reverse order, and reports what became of each.
    ///
    /// A phase is told to stop when those after it have ended, or their time was up. When this
    /// returns, every thread has been joined, but for those that are [stuck](Report::stuck).
    ///
    /// May be called again, and by several threads at once. Called from one of its own children, or
    /// an event callback, it stops them, but does not wait.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::supervise::Supervisor;
    /// use cleanbreak::CancelToken;
    ///
    /// let nothing_to_do = Supervisor::builder().start(&CancelToken::new()).unwrap();
    /// let report = nothing_to_do.shutdown();
    /// assert!(report.children.is_empty() && report.check().is_ok());
    /// assert_eq!(
    ///     report.to_string(),
    ///     "supervisor \"supervisor\" stopped (cancelled: supervisor \"supervisor\" shut down)"
    /// );
    /// ```
    #[track_caller]
    pub fn shutdown(&self) -> Report {
        self.stop("shut down");
        self.wait()
    }

    fn stop(&self, why: &str) {
        let name = &self.shared.name;
        self.shared
            .token
            .cancel_with(format!("supervisor \"{name}\" {why}"));
    }

    /// Adds a child, last in the order of start and in a phase of its own, and returns when it is
    /// ready. It starts at once, also while others are starting or backing off.
    ///
    /// # Errors
    ///
    /// [`AddError`] gives it back: the name is taken, it was not ready in time, failed, or ended
    /// before it was, a sibling's failure stopped it meanwhile, or the supervisor stops. It is then
    /// no child.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::supervise::{ChildSpec, Supervisor};
    /// use cleanbreak::CancelToken;
    ///
    /// let supervisor = Supervisor::builder().start(&CancelToken::new()).unwrap();
    /// let wait = ChildSpec::new("late", |cx| { cx.ready(); cx.token().wait(); Ok(()) });
    /// supervisor.add(wait.clone()).unwrap();
    /// let refused = supervisor.add(wait).unwrap_err();
    /// assert_eq!(refused.to_string(), "child \"late\": there is a child of this name already");
    ///
    /// assert!(supervisor.remove_child("late").unwrap().is_cancelled());
    /// supervisor.add(refused.into_inner()).unwrap();
    /// assert_eq!(supervisor.children().len(), 1);
    /// ```
    #[track_caller]
    pub fn add(&self, child: ChildSpec) -> Result<(), AddError> {
        let added = match self.shared.role() {
            Some(Role::Manager) => Err(ChildErrorKind::OwnThread),
            _ => self.send(|reply| Message::Add(child.clone(), reply)),
        };
        let spec = Box::new(child);
        added.map(drop).map_err(|kind| AddError { kind, spec })
    }

    /// Stops a child, and returns how it ended. It stays in the list, and is not started again but
    /// by [`restart_child`](Self::restart_child).
    ///
    /// # Errors
    ///
    /// If there is none of this name; it does not end within its phase's time, which leaves it to
    /// end later; the supervisor stops meanwhile; or the call comes from this child, which should
    /// cancel its own token, or an event callback.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::supervise::{ChildSpec, Supervisor};
    /// use cleanbreak::CancelToken;
    ///
    /// let feed = ChildSpec::new("feed", |cx| { cx.ready(); Ok(cx.token().wait()) });
    /// let supervisor = Supervisor::builder().child(feed).start(&CancelToken::new()).unwrap();
    /// assert!(supervisor.stop_child("feed").unwrap().is_cancelled());
    /// assert!(supervisor.children()[0].state.end().is_some()); // still listed
    /// assert!(supervisor.stop_child("food").unwrap_err().is_unknown());
    /// ```
    #[track_caller]
    pub fn stop_child(&self, name: &str) -> Result<ChildEnd, ChildError> {
        let end = self.ask(Ask::Stop, name)?;
        Ok(end.unwrap_or(ChildEnd::NeverRan))
    }

    /// Stops a child as [`stop_child`](Self::stop_child) does, and takes it off the list.
    ///
    /// # Errors
    ///
    /// Those of `stop_child`. One that is stuck is taken off the list when it ends.
    #[track_caller]
    pub fn remove_child(&self, name: &str) -> Result<ChildEnd, ChildError> {
        let end = self.ask(Ask::Remove, name)?;
        Ok(end.unwrap_or(ChildEnd::NeverRan))
    }

    /// Starts a child that has ended or waits for its restart, or stops one that runs and starts it
    /// again, and returns when it is ready. Does not count for the intensity; its backoff starts
    /// over.
    ///
    /// # Errors
    ///
    /// Those of [`stop_child`](Self::stop_child); or it is not ready in time, fails, or ends before
    /// it is, and then goes on as its [`Restart`](super::Restart) says; or a sibling's failure
    /// stops it meanwhile. One that is stuck is started again when it ends.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::supervise::{ChildSpec, ChildState, Supervisor};
    /// use cleanbreak::CancelToken;
    ///
    /// let feed = ChildSpec::new("feed", |cx| { cx.ready(); Ok(cx.token().wait()) });
    /// let supervisor = Supervisor::builder().child(feed).start(&CancelToken::new()).unwrap();
    /// supervisor.restart_child("feed").unwrap(); // one that runs: stopped first
    /// supervisor.stop_child("feed").unwrap();
    /// supervisor.restart_child("feed").unwrap(); // one that has ended
    /// let feed = &supervisor.children()[0];
    /// assert!(matches!(feed.state, ChildState::Running) && feed.restarts == 2);
    /// ```
    #[track_caller]
    pub fn restart_child(&self, name: &str) -> Result<(), ChildError> {
        self.ask(Ask::Restart, name).map(drop)
    }

    #[track_caller]
    fn ask(&self, ask: Ask, name: &str) -> Result<Option<ChildEnd>, ChildError> {
        let answer = match self.shared.role() {
            Some(Role::Manager) => Err(ChildErrorKind::OwnThread),
            Some(Role::Child(id)) if self.shared.is_named(id, name) => {
                Err(ChildErrorKind::OwnThread)
            }
            _ => self.send(|reply| Message::Ask(ask, name.into(), reply)),
        };
        answer.map_err(|kind| ChildError {
            name: name.to_owned(),
            kind,
        })
    }

    #[track_caller]
    fn send(
        &self,
        message: impl FnOnce(Reply) -> Message,
    ) -> Result<Option<ChildEnd>, ChildErrorKind> {
        let (reply, answer) = bounded(1);
        let sent = self.shared.inbox.send(message(reply));
        sent.map_err(|_| ChildErrorKind::Closed)?;
        let _wait = threads::waiting_on("hear from a supervisor");
        // Who stops drops the reply.
        let closed = |_| ChildErrorKind::Closed;
        answer.recv().map_err(closed)?
    }

    /// The error of a supervisor whose thread has said that it stopped instead.
    pub(super) fn not_started(self) -> StartError {
        self.shared.ended.recv().unwrap_err();
        let report = self.shared.report();
        match report.stuck().next() {
            None => self.shared.join(),
            // It joins the others when they end. The drop must not wait for that.
            Some(_) => drop(self.shared.thread.lock().take()),
        }
        StartError::stopped(report)
    }
}

impl Shared {
    /// Joins the supervisor's thread: it is about to end.
    fn join(&self) {
        // Under the lock, so that of two callers neither returns before it is gone.
        let mut thread = self.thread.lock();
        if let Some(thread) = thread.take() {
            thread.join();
        }
    }

    fn is_named(&self, id: super::plan::ChildId, name: &str) -> bool {
        self.info(id).is_some_and(|child| child.name == name)
    }
}

// A panic never leaves one half changed: no code of the user runs under a lock of ours.
impl std::panic::UnwindSafe for Supervisor {}
impl std::panic::RefUnwindSafe for Supervisor {}

impl Drop for Supervisor {
    fn drop(&mut self) {
        self.stop("dropped");
        if self.shared.role().is_none() {
            self.shared.join();
        }
    }
}

impl fmt::Debug for Supervisor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Supervisor")
            .field("name", &self.shared.name)
            .field("children", &self.shared.children().len())
            .field("cancelled", &self.token().is_cancelled())
            .finish_non_exhaustive()
    }
}
