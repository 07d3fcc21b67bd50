//! What a supervisor tells while it works.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use super::end::{ChildEnd, Contained};
use super::report::{ChildInfo, GaveUp, Report};
use crate::contain::contain;
use crate::fault::{self, At};
use crate::sync::Arc;

/// What happened to a supervisor or a child of it; see
/// [`SupervisorBuilder::on_event`](super::SupervisorBuilder::on_event).
///
/// # Examples
///
/// ```
/// use cleanbreak::supervise::{ChildSpec, Event, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let (tell, told) = crossbeam_channel::unbounded();
/// let feed = ChildSpec::new("feed", |cx| { cx.ready(); Ok(cx.token().wait()) });
/// let token = CancelToken::new();
/// let supervisor = Supervisor::builder()
///     .on_event(move |event| { tell.send(event.clone()).ok(); })
///     .child(feed)
///     .start(&token)
///     .unwrap();
/// token.cancel_with("SIGTERM");
/// supervisor.wait();
/// let events: Vec<_> = told.try_iter().collect();
/// let lines: Vec<_> = events.iter().take(3).map(Event::to_string).collect();
/// let ended = "\"feed\" ended: cancelled: SIGTERM";
/// assert_eq!(lines, ["\"feed\" started", "\"feed\" is ready", ended]);
/// assert!(matches!(&events[3], Event::Stopped(report) if report.check().is_ok()));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum Event {
    /// The thread of a run has started.
    Started {
        /// Name of the child.
        child: String,
        /// How often it has been started again.
        restarts: u64,
    },
    /// A child said that it is ready.
    Ready {
        /// Name of the child.
        child: String,
    },
    /// A run has ended, or could not be started.
    Ended {
        /// Name of the child.
        child: String,
        /// How.
        end: ChildEnd,
    },
    /// A child is going to be started again.
    Restarting {
        /// Name of the child.
        child: String,
        /// How its last run ended.
        end: ChildEnd,
        /// The delay, from the end of that run. Longer if others must be stopped or started first.
        after: Duration,
    },
    /// A child was told to stop, and has not in the time it had. Told again, after twice the time
    /// and so on, for as long as it runs.
    Stuck {
        /// The child.
        child: ChildInfo,
    },
    /// There were more failures than the intensity allows: all children are going to be stopped.
    GaveUp(GaveUp),
    /// All phases have been stopped.
    Stopped(Report),
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Started { child, restarts: 0 } => write!(f, "\"{child}\" started"),
            Self::Started { child, restarts } => {
                write!(f, "\"{child}\" started again, restart {restarts}")
            }
            Self::Ready { child } => write!(f, "\"{child}\" is ready"),
            Self::Ended { child, end } => write!(f, "\"{child}\" ended: {}", end.words()),
            Self::Restarting { child, end, after } => {
                let end = end.words();
                write!(f, "\"{child}\" {end}; it is restarted after {after:.1?}")
            }
            Self::Stuck { child } => child.fmt(f),
            Self::GaveUp(gave_up) => gave_up.fmt(f),
            Self::Stopped(report) => report.fmt(f),
        }
    }
}

/// Who is told.
#[derive(Clone)]
pub(super) struct Listener(Arc<Contained<Box<Listening>>>);

type Listening = dyn Fn(&Event) + Send + Sync;

impl Listener {
    pub(super) fn new(listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        Self(Arc::new(Contained::new(Box::new(listener))))
    }

    /// Called with no lock held; a panic ends here.
    pub(super) fn tell(&self, event: &Event) {
        contain(|| {
            fault::run(At::SuperviseEvent);
            (**self.0)(event);
        });
    }
}

/// What must not go unseen, to standard error.
impl Default for Listener {
    fn default() -> Self {
        Self::new(|event| {
            if let Event::Restarting { .. } | Event::Stuck { .. } | Event::GaveUp(_) = event {
                // Not `eprintln!`, which panics where there is no standard error.
                writeln!(std::io::stderr().lock(), "cleanbreak: {event}").ok();
            }
        })
    }
}
