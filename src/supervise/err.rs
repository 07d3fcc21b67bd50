//! Why something was not started, stopped or added.

use std::fmt;

use super::end::ChildEnd;
use super::report::{ChildInfo, GaveUp, Report, StopReason};
use super::spec::ChildSpec;
use crate::cancel::Cancelled;
use crate::threads::ThreadError;

/// Why a supervisor was not started. The builder is still there, to start again.
///
/// The children that had been started have been stopped, in reverse order, and their threads
/// joined. If any is [stuck](Report::stuck), it and the supervisor's thread end by themselves later.
///
/// # Examples
///
/// ```
/// use cleanbreak::supervise::{ChildSpec, StartErrorKind, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let wait = |name| ChildSpec::new(name, |cx| { cx.ready(); Ok(cx.token().wait()) });
/// let broken = ChildSpec::new("broken", |_| -> anyhow::Result<()> { anyhow::bail!("no route") });
/// let token = CancelToken::new();
/// let service = Supervisor::builder().child(wait("database")).child(broken).child(wait("web"));
/// let error = service.start(&token).unwrap_err();
/// assert_eq!(error.to_string(), "child \"broken\" did not start: failed: no route");
/// assert!(matches!(error.kind(), StartErrorKind::Child { name, .. } if name == "broken"));
///
/// let report = error.report().unwrap();
/// let ends = report.children.iter().map(|child| child.state.to_string());
/// let stopped = "cancelled: \"broken\" did not start: failed: no route";
/// assert_eq!(ends.collect::<Vec<_>>(), [stopped, "failed: no route", "never ran"]);
///
/// token.cancel();
/// assert!(service.start(&token).unwrap_err().is_cancelled()); // the builder is still there
/// ```
pub struct StartError {
    kind: Box<StartErrorKind>,
    report: Option<Box<Report>>,
}

/// Why a supervisor was not started.
///
/// # Examples
///
/// ```
/// use cleanbreak::supervise::{ChildSpec, StartErrorKind, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let wait = ChildSpec::new("web", |cx| { cx.ready(); Ok(cx.token().wait()) });
/// let twice = Supervisor::builder().child(wait.clone()).child(wait);
/// let error = twice.start(&CancelToken::new()).unwrap_err();
/// assert!(matches!(error.kind(), StartErrorKind::DuplicateName(name) if name == "web"));
/// assert!(error.report().is_none()); // nothing was started
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum StartErrorKind {
    /// Two children have this name. Nothing was started.
    DuplicateName(String),
    /// The supervisor's own thread could not be started.
    Thread(std::sync::Arc<ThreadError>),
    /// The token was cancelled before the start was over.
    Cancelled(Cancelled),
    /// A child failed, ended or was too slow before it was ready.
    Child {
        /// Its name.
        name: String,
        /// How it ended.
        end: ChildEnd,
    },
    /// Children that had been ready failed too often before the start was over.
    GaveUp(GaveUp),
}

impl StartError {
    pub(super) fn new(kind: StartErrorKind) -> Self {
        Self {
            kind: Box::new(kind),
            report: None,
        }
    }

    /// From the report of a supervisor that stopped before it had started.
    pub(super) fn stopped(report: Report) -> Self {
        let kind = match &report.reason {
            Some(StopReason::Cancelled(cancelled)) => StartErrorKind::Cancelled(cancelled.clone()),
            Some(StopReason::GaveUp(gave_up)) => StartErrorKind::GaveUp(gave_up.clone()),
            Some(StopReason::NotStarted { child, end }) => StartErrorKind::Child {
                name: child.clone(),
                end: end.clone(),
            },
            None => unreachable!("what stopped had a reason"),
        };
        Self {
            kind: Box::new(kind),
            report: Some(Box::new(report)),
        }
    }

    /// The reason.
    #[must_use]
    pub fn kind(&self) -> &StartErrorKind {
        &self.kind
    }

    /// What became of the children, if any was to be started.
    #[must_use]
    pub fn report(&self) -> Option<&Report> {
        self.report.as_deref()
    }

    /// Whether the token was cancelled meanwhile.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(*self.kind, StartErrorKind::Cancelled(_))
    }
}

impl fmt::Debug for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StartError")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl fmt::Display for StartError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.kind {
            StartErrorKind::DuplicateName(name) => {
                write!(f, "two children have the name \"{name}\"")
            }
            StartErrorKind::Thread(error) => write!(f, "{error}: {}", error.io_error()),
            StartErrorKind::Cancelled(cancelled) => {
                write!(
                    f,
                    "the supervisor was stopped while it started: {cancelled}"
                )
            }
            StartErrorKind::Child { name, end } => {
                write!(f, "child \"{name}\" did not start: {}", end.words())
            }
            StartErrorKind::GaveUp(gave_up) => gave_up.fmt(f),
        }?;
        let stuck = self.report.iter().flat_map(|report| report.stuck());
        stuck
            .into_iter()
            .try_for_each(|child| write!(f, "; {child}"))
    }
}

// The sources are in the text already.
impl std::error::Error for StartError {}

/// Why a child was not started, restarted, stopped or removed.
///
/// # Examples
///
/// ```
/// use cleanbreak::supervise::{ChildEnd, ChildErrorKind, ChildSpec, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let supervisor = Supervisor::builder().start(&CancelToken::new()).unwrap();
/// let broken = ChildSpec::new("broken", |_| -> anyhow::Result<()> { anyhow::bail!("no route") });
/// let error = supervisor.add(broken).unwrap_err();
/// let ChildErrorKind::NotReady(ChildEnd::Failed(failure)) = error.kind() else { panic!("{error}") };
/// assert_eq!(failure.to_string(), "no route");
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ChildErrorKind {
    /// There is a child of this name already.
    DuplicateName,
    /// There is no child of this name.
    Unknown,
    /// It failed, ended or was too slow before it was ready.
    NotReady(ChildEnd),
    /// It was stopped before it was ready: by another call, or because a sibling failed.
    Interrupted,
    /// It was told to stop, and has not in the time it had.
    Stuck(Box<ChildInfo>),
    /// The supervisor stops, or has ended.
    Closed,
    /// The call came from the child itself, or from the supervisor's thread, such as an event
    /// callback: it would have waited for itself. Nothing was done.
    OwnThread,
}

impl fmt::Display for ChildErrorKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::DuplicateName => f.write_str("there is a child of this name already"),
            Self::Unknown => f.write_str("there is no child of this name"),
            Self::NotReady(end) => write!(f, "it did not start: {}", end.words()),
            Self::Interrupted => f.write_str("it was stopped before it was ready"),
            Self::Stuck(child) => child.fmt(f),
            Self::Closed => f.write_str("the supervisor stops, or has ended"),
            Self::OwnThread => f.write_str("the call would wait for itself"),
        }
    }
}

/// What a supervisor could not do with a child, and why.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::supervise::{ChildErrorKind, ChildSpec, Supervisor};
/// use cleanbreak::{CancelToken, Clock};
///
/// let (release, held) = crossbeam_channel::bounded::<()>(0);
/// let deaf = ChildSpec::new("deaf", move |cx| { cx.ready(); held.recv().ok(); Ok(()) });
/// let token = CancelToken::with_clock(&Clock::manual());
/// let supervisor = Supervisor::builder().stop_timeout(Duration::ZERO).on_event(|_| ());
/// let supervisor = supervisor.child(deaf).start(&token).unwrap();
///
/// assert!(supervisor.stop_child("death").unwrap_err().is_unknown());
/// let error = supervisor.stop_child("deaf").unwrap_err(); // it does not look at its token
/// assert!(error.is_stuck() && error.name() == "deaf");
/// let ChildErrorKind::Stuck(child) = error.kind() else { panic!("{error}") };
/// assert_eq!((child.name.as_str(), child.spawned_at.file()), ("deaf", file!()));
/// drop(release);
/// supervisor.shutdown();
/// assert!(supervisor.restart_child("deaf").unwrap_err().is_closed());
/// ```
#[derive(Clone, Debug)]
pub struct ChildError {
    pub(super) name: String,
    pub(super) kind: ChildErrorKind,
}

impl ChildError {
    /// The name that was asked for.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The reason.
    #[must_use]
    pub fn kind(&self) -> &ChildErrorKind {
        &self.kind
    }

    /// Whether there is no child of this name.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        matches!(self.kind, ChildErrorKind::Unknown)
    }

    /// Whether it does not stop.
    #[must_use]
    pub fn is_stuck(&self) -> bool {
        matches!(self.kind, ChildErrorKind::Stuck(_))
    }

    /// Whether the supervisor stops, or has ended.
    #[must_use]
    pub fn is_closed(&self) -> bool {
        matches!(self.kind, ChildErrorKind::Closed)
    }
}

impl fmt::Display for ChildError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "child \"{}\": {}", self.name, self.kind)
    }
}

impl std::error::Error for ChildError {}

/// A child that was not added, and why.
///
/// # Examples
///
/// ```
/// use cleanbreak::supervise::{ChildErrorKind, ChildSpec, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let supervisor = Supervisor::builder().start(&CancelToken::new()).unwrap();
/// let broken = ChildSpec::new("feed", |_| -> anyhow::Result<()> { anyhow::bail!("no route") });
/// let error = supervisor.add(broken).unwrap_err();
/// assert!(matches!(error.kind(), ChildErrorKind::NotReady(_)));
/// assert_eq!(error.to_string(), "child \"feed\": it did not start: failed: no route");
/// assert!(supervisor.children().is_empty()); // it is no child, and the name is free
///
/// supervisor.shutdown();
/// let again = supervisor.add(error.into_inner()).unwrap_err();
/// assert!(matches!(again.kind(), ChildErrorKind::Closed));
/// ```
#[derive(Clone, Debug)]
pub struct AddError {
    pub(super) kind: ChildErrorKind,
    pub(super) spec: Box<ChildSpec>,
}

impl AddError {
    /// The reason.
    #[must_use]
    pub fn kind(&self) -> &ChildErrorKind {
        &self.kind
    }

    /// The child, to add again.
    pub fn into_inner(self) -> ChildSpec {
        *self.spec
    }
}

impl fmt::Display for AddError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "child \"{}\": {}", self.spec.name(), self.kind)
    }
}

impl std::error::Error for AddError {}
