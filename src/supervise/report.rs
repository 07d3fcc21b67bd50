//! What became of every child, and why a supervisor stopped.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::end::ChildEnd;
use crate::cancel::Cancelled;
use crate::clock::Instant;
use crate::threads::{Deadlock, DeadlockText, StackText, WaitInfo};

/// What a child does.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::supervise::{ChildSpec, ChildState, Phase, Supervisor};
/// use cleanbreak::{CancelToken, Clock};
///
/// let (release, held) = crossbeam_channel::bounded::<()>(0);
/// let deaf = ChildSpec::new("deaf", move |cx| { cx.ready(); held.recv().ok(); Ok(()) });
/// let good = ChildSpec::new("good", |cx| { cx.ready(); Ok(cx.token().wait()) });
/// let token = CancelToken::with_clock(&Clock::manual());
/// let deaf = Phase::new("deaf").stop_timeout(Duration::ZERO).child(deaf);
/// let supervisor = Supervisor::builder().phase(deaf).child(good).on_event(|_| ());
/// let supervisor = supervisor.start(&token).unwrap();
/// let state = |name| supervisor.report().child(name).unwrap().state.clone();
/// assert!(matches!(state("good"), ChildState::Running));
///
/// supervisor.stop_child("good").unwrap();
/// assert!(state("good").end().unwrap().is_cancelled());
/// supervisor.stop_child("deaf").unwrap_err();
/// assert!(state("deaf").is_stuck() && state("deaf").end().is_none());
/// drop(release);
/// supervisor.shutdown();
/// # while state("deaf").is_stuck() { std::thread::yield_now() }
/// assert!(state("deaf").end().unwrap().is_cancelled()); // it came home after all
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ChildState {
    /// Its turn to start has not come.
    Waiting,
    /// It runs, and has not said that it is ready.
    Starting,
    /// It runs, and is ready.
    Running,
    /// It is started again at this time of the supervisor's clock, or later if others come first.
    /// `None` is never: the backoff said longer than can be counted.
    BackingOff(Option<Instant>),
    /// It has been told to stop, and has time left.
    Stopping,
    /// It was told to stop, its time is up, and it still runs.
    Stuck {
        /// Since it was told.
        overdue: Duration,
    },
    /// It has ended, and is not started again by itself.
    Ended(ChildEnd),
}

impl ChildState {
    /// How it ended, if it did for good.
    #[must_use]
    pub fn end(&self) -> Option<&ChildEnd> {
        match self {
            Self::Ended(end) => Some(end),
            _ => None,
        }
    }

    /// Whether it still runs, long after it was told to stop.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        matches!(self, Self::Stuck { .. })
    }
}

impl fmt::Display for ChildState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Waiting => f.write_str("waiting for its turn"),
            Self::Starting => f.write_str("starting"),
            Self::Running => f.write_str("running"),
            Self::BackingOff(Some(_)) => f.write_str("backing off"),
            Self::BackingOff(None) => f.write_str("backing off for ever"),
            Self::Stopping => f.write_str("stopping"),
            Self::Stuck { overdue } => {
                let secs = overdue.as_secs_f64();
                write!(f, "still runs {secs:.1} s after it was told to stop")
            }
            Self::Ended(end) => end.fmt(f),
        }
    }
}

/// One child, as a list or a report shows it.
///
/// # Examples
///
/// ```
/// use cleanbreak::supervise::{ChildSpec, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let feed = ChildSpec::new("feed", |cx| { cx.ready(); Ok(cx.token().wait()) });
/// let supervisor = Supervisor::builder().child(feed).start(&CancelToken::new()).unwrap();
/// supervisor.restart_child("feed").unwrap();
/// let feed = &supervisor.children()[0];
/// assert_eq!((feed.name.as_str(), feed.phase.as_str(), feed.restarts), ("feed", "feed", 1));
/// assert!(feed.last_end.as_ref().unwrap().is_cancelled()); // of the run before
/// assert_eq!(feed.spawned_at.file(), file!());
/// assert_eq!(feed.to_string(), "\"feed\" running, after 1 restart");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ChildInfo {
    /// Its name.
    pub name: String,
    /// The line that made its [`ChildSpec`](super::ChildSpec).
    pub spawned_at: &'static Location<'static>,
    /// The phase in which it is stopped.
    pub phase: String,
    /// What it does, or how it ended.
    pub state: ChildState,
    /// How often it was started again, for whatever reason.
    pub restarts: u64,
    /// How its last run that has ended did so.
    pub last_end: Option<ChildEnd>,
    /// What it waits on, if it runs and the library can see it; see
    /// [`threads::waiting_on`](crate::threads::waiting_on).
    pub waiting: Option<WaitInfo>,
    /// Of one that is stuck: its stack, if reports show them; see the module `diagnose`.
    pub stack: Option<String>,
    /// Of one that is stuck: the deadlock that it is in, or held up by; see
    /// [`threads::deadlocks`](crate::threads::deadlocks()).
    pub deadlock: Option<Deadlock>,
}

impl fmt::Display for ChildInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\" {}", self.name, self.state)?;
        match self.restarts {
            0 => {}
            1 => f.write_str(", after 1 restart")?,
            n => write!(f, ", after {n} restarts")?,
        }
        if !self.state.is_stuck() {
            return Ok(());
        }
        write!(f, "; spawned at {}; ", self.spawned_at)?;
        match &self.waiting {
            Some(wait) => write!(f, "{wait}"),
            None => write!(f, "running, or in a wait that the library does not see"),
        }?;
        StackText(self.stack.as_ref()).fmt(f)?;
        DeadlockText(self.deadlock.as_ref()).fmt(f)
    }
}

/// Why a supervisor gave up: one failure too many.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::supervise::{ChildSpec, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let (orders, inbox) = crossbeam_channel::bounded::<u32>(0);
/// let reader = ChildSpec::new("reader", move |cx| -> anyhow::Result<()> {
///     cx.ready();
///     loop { inbox.recv()?; }
/// });
/// let supervisor = Supervisor::builder().intensity(0, Duration::from_secs(60)).on_event(|_| ());
/// let supervisor = supervisor.child(reader).start(&CancelToken::new()).unwrap();
/// drop(orders); // so that it fails, now and ever after
/// let gave_up = supervisor.wait().check().unwrap_err();
/// assert_eq!((gave_up.child.as_str(), gave_up.restarts), ("reader", 0));
/// assert!(gave_up.end.error().unwrap().is::<crossbeam_channel::RecvError>());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct GaveUp {
    /// The supervisor.
    pub supervisor: String,
    /// The child that failed last.
    pub child: String,
    /// How.
    pub end: ChildEnd,
    /// How many restarts there had been.
    pub restarts: usize,
    /// In how long a time.
    pub within: Duration,
}

impl fmt::Display for GaveUp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            supervisor,
            child,
            end,
            restarts,
            within,
        } = self;
        let (within, plural) = (within.as_secs_f64(), if *restarts == 1 { "" } else { "s" });
        write!(f, "supervisor \"{supervisor}\" gave up after {restarts} ")?;
        write!(f, "restart{plural} in {within:.1} s: \"{child}\" ")?;
        f.write_str(&end.words())
    }
}

impl std::error::Error for GaveUp {}

/// Why a supervisor stopped, or stops.
///
/// # Examples
///
/// ```
/// use cleanbreak::supervise::{StopReason, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let token = CancelToken::new();
/// let supervisor = Supervisor::builder().start(&token).unwrap();
/// token.cancel_with("SIGTERM");
/// let Some(StopReason::Cancelled(why)) = supervisor.wait().reason else { panic!() };
/// assert_eq!(why.to_string(), "cancelled: SIGTERM");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StopReason {
    /// Its token was cancelled: through its parent, by a shutdown, a drop, or a child.
    Cancelled(Cancelled),
    /// There were more failures than its intensity allows.
    GaveUp(GaveUp),
    /// This child could not be started, so that the supervisor was not.
    NotStarted {
        /// Its name.
        child: String,
        /// How it ended instead of being ready.
        end: ChildEnd,
    },
}

impl fmt::Display for StopReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Cancelled(cancelled) => cancelled.fmt(f),
            Self::GaveUp(gave_up) => gave_up.fmt(f),
            Self::NotStarted { child, end } => {
                write!(f, "\"{child}\" did not start: {}", end.words())
            }
        }
    }
}

/// How one phase of a stop went.
///
/// # Examples
///
/// ```
/// use cleanbreak::supervise::{ChildSpec, Supervisor};
/// use cleanbreak::{CancelToken, Clock};
///
/// let wait = |name| ChildSpec::new(name, |cx| { cx.ready(); Ok(cx.token().wait()) });
/// let clock = Clock::manual();
/// let supervisor = Supervisor::builder().child(wait("database")).child(wait("web"));
/// let supervisor = supervisor.start(&CancelToken::with_clock(&clock)).unwrap();
/// let phases = supervisor.shutdown().phases;
/// assert_eq!((phases[0].name.as_str(), phases[1].name.as_str()), ("web", "database"));
/// assert!(phases.iter().all(|phase| phase.took.is_zero() && phase.late.is_empty()));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PhaseReport {
    /// Its name, or that of its only child.
    pub name: String,
    /// From when its children were told until they had ended or the time was up, by the
    /// supervisor's clock.
    pub took: Duration,
    /// The children that had not ended in time.
    pub late: Vec<String>,
}

/// What became of every child, and why the supervisor stopped; see
/// [`Supervisor::shutdown`](super::Supervisor::shutdown).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::supervise::{ChildSpec, Supervisor};
/// use cleanbreak::{CancelToken, Clock};
///
/// let (release, held) = crossbeam_channel::bounded::<()>(0);
/// let deaf = ChildSpec::new("deaf", move |cx| { cx.ready(); held.recv().ok(); Ok(()) });
/// let token = CancelToken::with_clock(&Clock::manual());
/// let supervisor = Supervisor::builder().stop_timeout(Duration::ZERO).on_event(|_| ());
/// let supervisor = supervisor.child(deaf).start(&token).unwrap();
/// let report = supervisor.shutdown();
/// assert!(report.check().is_ok()); // it was told to stop, and did not give up; but
/// let stuck: Vec<_> = report.stuck().map(|child| child.name.as_str()).collect();
/// assert_eq!(stuck, ["deaf"]);
/// assert!(report.child("deaf").unwrap().to_string().contains("still runs 0.0 s after"));
/// drop(release);
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Report {
    /// Name of the supervisor.
    pub name: String,
    /// Why it stopped; `None` if nothing has stopped it.
    pub reason: Option<StopReason>,
    /// The children, in the order of their start.
    pub children: Vec<ChildInfo>,
    /// The phases that have been stopped, in the order of that. Those in which nothing ran are left
    /// out.
    pub phases: Vec<PhaseReport>,
}

impl Report {
    /// An error if the supervisor gave up: what a supervisor's body returns when it is itself a
    /// child.
    ///
    /// # Errors
    ///
    /// [`GaveUp`], with the last failure.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::supervise::{ChildSpec, Supervisor};
    /// use cleanbreak::CancelToken;
    ///
    /// let (orders, inbox) = crossbeam_channel::bounded::<u32>(0);
    /// let reader = ChildSpec::new("reader", move |cx| -> anyhow::Result<()> {
    ///     cx.ready();
    ///     loop { inbox.recv()?; }
    /// });
    /// let supervisor = Supervisor::builder().intensity(0, Duration::from_secs(60)).on_event(|_| ());
    /// let supervisor = supervisor.child(reader).start(&CancelToken::new()).unwrap();
    /// assert!(supervisor.report().check().is_ok()); // it runs
    /// drop(orders);
    /// let report = supervisor.wait(); // returns as after a shutdown: only `check` is an error
    /// assert_eq!(
    ///     report.check().unwrap_err().to_string(),
    ///     "supervisor \"supervisor\" gave up after 0 restarts in 60.0 s: \"reader\" failed: \
    ///      receiving on an empty and disconnected channel",
    /// );
    /// ```
    pub fn check(&self) -> Result<(), GaveUp> {
        match &self.reason {
            Some(StopReason::GaveUp(gave_up)) => Err(gave_up.clone()),
            _ => Ok(()),
        }
    }

    /// The child of this name.
    #[must_use]
    pub fn child(&self, name: &str) -> Option<&ChildInfo> {
        self.children.iter().find(|child| child.name == name)
    }

    /// The children that still run, though they were told to stop and their time was up.
    pub fn stuck(&self) -> impl Iterator<Item = &ChildInfo> {
        self.children.iter().filter(|child| child.state.is_stuck())
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "supervisor \"{}\"", self.name)?;
        match &self.reason {
            None => f.write_str(" runs")?,
            Some(reason) => write!(f, " stopped ({reason})")?,
        }
        for child in &self.children {
            write!(f, "; {child}")?;
        }
        for PhaseReport { name, took, late } in &self.phases {
            write!(f, "; phase \"{name}\" took {:.1} s", took.as_secs_f64())?;
            if !late.is_empty() {
                write!(f, ", {} late", late.len())?;
            }
        }
        Ok(())
    }
}
