//! What a child is given.

use std::fmt;

use crate::cancel::CancelToken;
use crate::sync::{Arc, AtomicBool, Ordering};

/// What one run of a child is given: its token, and the means to say that it is ready.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::backoff::Backoff;
/// use cleanbreak::supervise::{ChildSpec, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let (tell, told) = crossbeam_channel::unbounded();
/// let feed = ChildSpec::new("feed", move |cx| {
///     tell.send((cx.name().to_owned(), cx.restarts()))?;
///     cx.ready(); // without it, `start` would wait, and then give up
///     anyhow::ensure!(cx.restarts() > 0, "the first connection breaks");
///     cx.token().wait();
///     Ok(())
/// });
/// let supervisor = Supervisor::builder().on_event(|_| ());
/// let supervisor = supervisor.child(feed.backoff(Backoff::constant(Duration::ZERO)));
/// let supervisor = supervisor.start(&CancelToken::new()).unwrap();
/// assert_eq!(told.recv().unwrap(), ("feed".to_owned(), 0));
/// assert_eq!(told.recv().unwrap(), ("feed".to_owned(), 1)); // a new run, and a new token
/// assert_eq!(supervisor.shutdown().child("feed").unwrap().restarts, 1);
/// ```
pub struct Context {
    pub(super) name: Arc<str>,
    pub(super) token: CancelToken,
    pub(super) supervisor: CancelToken,
    pub(super) restarts: u64,
    pub(super) ready: Ready,
}

pub(super) struct Ready {
    said: AtomicBool,
    say: Box<dyn Fn() + Send + Sync>,
}

impl Ready {
    pub(super) fn new(say: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            said: AtomicBool::new(false),
            say: Box::new(say),
        }
    }
}

impl Context {
    /// The token of this run, cancelled when the child is to stop.
    ///
    /// Cancelling it yourself stops this child for good: it is not started again, whatever it then
    /// returns. It is not a child of the supervisor's token, so that the supervisor can keep an
    /// order; it is on the same clock.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::supervise::{ChildSpec, Event, Supervisor};
    /// use cleanbreak::CancelToken;
    ///
    /// let (tell, told) = crossbeam_channel::unbounded();
    /// let once = ChildSpec::new("once", |cx| {
    ///     cx.ready();
    ///     cx.token().cancel(); // enough: also a permanent child is not started again
    ///     Ok(())
    /// });
    /// let supervisor = Supervisor::builder()
    ///     .on_event(move |event| { tell.send(event.clone()).ok(); })
    ///     .child(once)
    ///     .start(&CancelToken::new())
    ///     .unwrap();
    /// let end = told.iter().find_map(|event| match event {
    ///     Event::Ended { end, .. } => Some(end),
    ///     _ => None,
    /// });
    /// assert!(end.unwrap().is_cancelled());
    /// supervisor.shutdown();
    /// assert!(!told.try_iter().any(|event| matches!(event, Event::Restarting { .. })));
    /// ```
    #[must_use]
    pub fn token(&self) -> &CancelToken {
        &self.token
    }

    /// Says that it is ready: who waits for that goes on, such as the next child. Only the first
    /// call counts.
    pub fn ready(&self) {
        // Relaxed: nothing is published by it; the message that is sent brings its own order.
        if !self.ready.said.swap(true, Ordering::Relaxed) {
            (self.ready.say)();
        }
    }

    /// The supervisor's token. Cancelling it stops all children, in order, this one among them.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::supervise::{ChildSpec, Supervisor};
    /// use cleanbreak::CancelToken;
    ///
    /// let (alarm, alarms) = crossbeam_channel::bounded(0);
    /// let watchdog = ChildSpec::new("watchdog", move |cx| {
    ///     cx.ready();
    ///     alarms.recv()?;
    ///     cx.supervisor().cancel_with("the disk is full"); // all of them
    ///     Ok(cx.token().wait())
    /// });
    /// let supervisor = Supervisor::builder().child(watchdog).start(&CancelToken::new()).unwrap();
    /// alarm.send(()).unwrap();
    /// let report = supervisor.wait();
    /// assert_eq!(report.reason.unwrap().to_string(), "cancelled: the disk is full");
    /// ```
    #[must_use]
    pub fn supervisor(&self) -> &CancelToken {
        &self.supervisor
    }

    /// How often this child has been started again; 0 on its first run.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Name of the child.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("name", &self.name)
            .field("restarts", &self.restarts)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}
