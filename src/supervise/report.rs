//! What became of every child, and why a supervisor stopped.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::end::ChildEnd;
use crate::cancel::Cancelled;
use crate::clock::Instant;
use crate::threads::{Deadlock, DeadlockText, StackText, WaitInfo};

/// What a child does.
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
