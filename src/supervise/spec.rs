//! What is to be supervised, and how.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::context::Context;
use crate::backoff::Backoff;
use crate::sync::Arc;

/// When a child that has ended is started again; OTP's restart types.
///
/// A run whose own token was cancelled is never followed by another.
///
/// # Examples
///
/// ```
/// use cleanbreak::supervise::{ChildSpec, Event, Restart, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let is_restarted = |restart, fails: bool| {
///     let (tell, told) = crossbeam_channel::unbounded();
///     let child = ChildSpec::new("once", move |cx| {
///         cx.ready();
///         anyhow::ensure!(!fails, "no route");
///         Ok(())
///     });
///     let supervisor = Supervisor::builder()
///         .on_event(move |event| { tell.send(event.clone()).ok(); })
///         .child(child.restart(restart))
///         .start(&CancelToken::new())
///         .unwrap();
///     told.iter().find(|event| matches!(event, Event::Ended { .. })).unwrap();
///     supervisor.shutdown();
///     told.try_iter().any(|event| matches!(event, Event::Restarting { .. }))
/// };
/// use Restart::{Permanent, Temporary, Transient};
/// let after_ok = [Permanent, Transient, Temporary].map(|restart| is_restarted(restart, false));
/// let after_error = [Permanent, Transient, Temporary].map(|restart| is_restarted(restart, true));
/// assert_eq!((after_ok, after_error), ([true, false, false], [true, true, false]));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Restart {
    /// Always, also after a normal return.
    #[default]
    Permanent,
    /// After an error or a panic.
    Transient,
    /// Never.
    Temporary,
}

/// Who is restarted when one child has failed; OTP's restart strategies.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::backoff::Backoff;
/// use cleanbreak::supervise::{ChildSpec, Event, Strategy, Supervisor};
/// use cleanbreak::CancelToken;
///
/// // How often each of three is started again when the second one fails, so many in all.
/// let restarts = |strategy, in_all: usize| -> Vec<u64> {
///     let (ready, is_ready) = crossbeam_channel::unbounded();
///     let (fail, failing) = crossbeam_channel::bounded(0);
///     let wait = |name| ChildSpec::new(name, |cx| { cx.ready(); Ok(cx.token().wait()) });
///     let second = ChildSpec::new("b", move |cx| {
///         cx.ready();
///         if cx.restarts() == 0 { failing.recv()?; anyhow::bail!("once") }
///         Ok(cx.token().wait())
///     });
///     let supervisor = Supervisor::builder()
///         .strategy(strategy)
///         .backoff(Backoff::constant(Duration::ZERO))
///         .on_event(move |event| if let Event::Ready { .. } = event { ready.send(()).ok(); })
///         .child(wait("a")).child(second).child(wait("c"))
///         .start(&CancelToken::new())
///         .unwrap();
///     fail.send(()).unwrap();
///     assert_eq!(is_ready.iter().take(3 + in_all).count(), 3 + in_all);
///     supervisor.shutdown().children.iter().map(|child| child.restarts).collect()
/// };
/// assert_eq!(restarts(Strategy::OneForOne, 1), [0, 1, 0]);
/// assert_eq!(restarts(Strategy::OneForAll, 3), [1, 1, 1]);
/// assert_eq!(restarts(Strategy::RestForOne, 2), [0, 1, 1]);
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Strategy {
    /// The one that failed.
    #[default]
    OneForOne,
    /// All: the others are stopped, in reverse order, then all are started, in order. A
    /// [`Temporary`](Restart::Temporary) one is stopped and not started again.
    OneForAll,
    /// The one that failed and those that come after it in the order of start, as above.
    RestForOne,
}

pub(super) type Body = dyn Fn(&Context) -> anyhow::Result<()> + Send + Sync;

/// A loop to supervise: its name, what it does, and when it is started again. Cheap to clone.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::backoff::Backoff;
/// use cleanbreak::supervise::{ChildSpec, Restart};
/// use cleanbreak::Ticker;
/// use crossbeam_channel::select;
///
/// let beat = ChildSpec::new("heartbeat", |cx| {
///     let beat = Ticker::new(Duration::from_secs(5))?; // what fails here is tried again
///     cx.ready();
///     'beats: loop {
///         select! {
///             recv(cx.token().done()) -> _ => break 'beats,
///             recv(beat) -> _tick => println!("alive, after {} restarts", cx.restarts()),
///         }
///     }
///     Ok(())
/// })
/// .restart(Restart::Transient)
/// .backoff(Backoff::exponential(Duration::from_secs(1)));
/// assert_eq!(beat.name(), "heartbeat");
/// ```
#[derive(Clone)]
#[must_use = "a child is started by its supervisor"]
pub struct ChildSpec {
    pub(super) name: Arc<str>,
    pub(super) site: &'static Location<'static>,
    pub(super) body: Arc<Body>,
    pub(super) restart: Restart,
    pub(super) ready_at_start: bool,
    pub(super) start_timeout: Option<Duration>,
    pub(super) backoff: Option<Backoff>,
    pub(super) stack_size: Option<usize>,
}

impl ChildSpec {
    /// A [`Permanent`](Restart::Permanent) child. `body` is called for each run, on a new thread;
    /// it must call [`Context::ready`] when it is, and return soon after its token is cancelled.
    /// Its value is dropped.
    #[track_caller]
    pub fn new<T>(
        name: &str,
        body: impl Fn(&Context) -> anyhow::Result<T> + Send + Sync + 'static,
    ) -> Self {
        Self {
            name: name.into(),
            site: Location::caller(),
            body: Arc::new(move |context| body(context).map(drop)),
            restart: Restart::default(),
            ready_at_start: false,
            start_timeout: None,
            backoff: None,
            stack_size: None,
        }
    }

    /// The name, by which the supervisor knows it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// When it is started again.
    pub fn restart(mut self, restart: Restart) -> Self {
        self.restart = restart;
        self
    }

    /// Takes it for ready as soon as its thread has started, so that it need not say so.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::supervise::{ChildSpec, Supervisor};
    /// use cleanbreak::CancelToken;
    ///
    /// let silent = ChildSpec::new("silent", |cx| Ok(cx.token().wait())).ready_at_start();
    /// assert!(Supervisor::builder().child(silent).start(&CancelToken::new()).is_ok());
    /// ```
    pub fn ready_at_start(mut self) -> Self {
        self.ready_at_start = true;
        self
    }

    /// How long it may take to be ready, instead of
    /// [the supervisor's](super::SupervisorBuilder::start_timeout). [`Duration::MAX`] is for ever.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::supervise::{ChildSpec, Supervisor};
    /// use cleanbreak::CancelToken;
    ///
    /// let silent = ChildSpec::new("silent", |cx| Ok(cx.token().wait()));
    /// let impatient = silent.start_timeout(Duration::ZERO); // the supervisor's is 30 seconds
    /// let error = Supervisor::builder().child(impatient).start(&CancelToken::new()).unwrap_err();
    /// let words = "child \"silent\" did not start: was not ready within 0.0 s";
    /// assert_eq!(error.to_string(), words);
    /// ```
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.start_timeout = Some(timeout);
        self
    }

    /// The delays before its restarts, instead of
    /// [the supervisor's](super::SupervisorBuilder::backoff).
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.backoff = Some(backoff);
        self
    }

    /// Stack of its thread, in bytes.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::supervise::{ChildSpec, Restart, Supervisor};
    /// use cleanbreak::CancelToken;
    ///
    /// let (tell, told) = crossbeam_channel::bounded(1);
    /// let deep = ChildSpec::new("deep", move |_| {
    ///     tell.send(std::hint::black_box([1_u8; 4 << 20]).len())?; // more than Rust's 2 MiB
    ///     Ok(())
    /// });
    /// let deep = deep.stack_size(16 << 20).restart(Restart::Temporary);
    /// let supervisor = Supervisor::builder().child(deep).start(&CancelToken::new()).unwrap();
    /// assert_eq!(told.recv().unwrap(), 4 << 20);
    /// ```
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }
}

impl fmt::Debug for ChildSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ChildSpec")
            .field("name", &self.name)
            .field("site", &format_args!("{}", self.site))
            .field("restart", &self.restart)
            .finish_non_exhaustive()
    }
}

/// Children that are stopped together, with one deadline. They are started one after the other, as
/// all are.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::supervise::{ChildSpec, Phase, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let wait = |name| ChildSpec::new(name, |cx| { cx.ready(); cx.token().wait(); Ok(()) });
/// let workers = Phase::new("workers").stop_timeout(Duration::from_secs(20));
/// let workers = workers.child(wait("a")).child(wait("b"));
/// let supervisor = Supervisor::builder()
///     .child(wait("database")) // a phase of its own: started first, stopped last
///     .phase(workers)
///     .child(wait("listener"))
///     .start(&CancelToken::new())
///     .unwrap();
/// let report = supervisor.shutdown();
/// let phases: Vec<_> = report.phases.iter().map(|phase| phase.name.as_str()).collect();
/// assert_eq!(phases, ["listener", "workers", "database"]);
/// assert!(report.phases.iter().all(|phase| phase.late.is_empty()));
/// ```
#[derive(Clone, Debug)]
#[must_use = "a phase is given to the builder of a supervisor"]
pub struct Phase {
    pub(super) name: Arc<str>,
    pub(super) stop_timeout: Option<Duration>,
    pub(super) children: Vec<ChildSpec>,
}

impl Phase {
    /// A phase without children.
    pub fn new(name: &str) -> Self {
        Self {
            name: name.into(),
            stop_timeout: None,
            children: Vec::new(),
        }
    }

    /// One for a child alone, with its name.
    pub(super) fn of(child: ChildSpec) -> Self {
        Self {
            name: child.name.clone(),
            stop_timeout: None,
            children: vec![child],
        }
    }

    /// How long its children have to stop before they are reported and the next phase is stopped,
    /// instead of [the supervisor's](super::SupervisorBuilder::stop_timeout). [`Duration::MAX`] is
    /// for ever; zero tells them and does not wait.
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.stop_timeout = Some(timeout);
        self
    }

    /// Adds a child, which is started after those before it.
    pub fn child(mut self, child: ChildSpec) -> Self {
        self.children.push(child);
        self
    }
}
