//! Supervisors that are alive, for people to look at.

use std::fmt;
use std::panic::Location;

use super::report::{ChildInfo, StopReason};
use super::shared::Shared;
use crate::contain::drop_contained;
use crate::roll::{Listed, Roll};
use crate::sync::Arc;

static SUPERVISORS: Roll<Shared> = Roll::new();

/// Takes a supervisor out of the list when it is dropped.
pub(super) fn enlist(shared: &Arc<Shared>) -> Listed<Shared> {
    SUPERVISORS.enlist(Arc::downgrade(shared))
}

/// A supervisor that is alive, as [`live()`] found it.
///
/// # Examples
///
/// ```
/// use cleanbreak::supervise::{self, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let line = line!() + 1;
/// let idle = Supervisor::builder().name("idle").start(&CancelToken::new()).unwrap();
/// let find = || supervise::live().into_iter().find(|it| it.name == "idle").unwrap();
/// assert_eq!((find().started_at.line(), find().children.len()), (line, 0));
/// assert!(find().to_string().ends_with(" runs"));
/// idle.shutdown();
/// assert!(find().to_string().contains(" stops (cancelled: "));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SupervisorInfo {
    /// Number of the supervisor in this process, never used twice.
    pub id: u64,
    /// Its name.
    pub name: String,
    /// The source line that started it.
    pub started_at: &'static Location<'static>,
    /// Why it stopped, or stops; `None` while it runs.
    pub reason: Option<StopReason>,
    /// The children, in the order of their start.
    pub children: Vec<ChildInfo>,
}

impl fmt::Display for SupervisorInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name, started_at, ..
        } = self;
        write!(f, "supervisor \"{name}\" at {started_at}")?;
        match &self.reason {
            None => f.write_str(" runs")?,
            Some(reason) => write!(f, " stops ({reason})")?,
        }
        let mut children = self.children.iter();
        children.try_for_each(|child| write!(f, "; {child}"))
    }
}

/// The supervisors that are alive, oldest first. A look, not a lock: they go on meanwhile.
///
/// A supervisor is here from before its children start until its drop has joined them.
///
/// # Performance
///
/// One lock for the list, and one for each supervisor; a stuck child is looked at as for a report.
/// A supervisor that starts, or is dropped, takes the list's lock once.
///
/// # Examples
///
/// ```
/// use cleanbreak::supervise::{self, ChildSpec, ChildState, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let feed = ChildSpec::new("feed", |cx| { cx.ready(); cx.token().wait(); Ok(()) });
/// let feeds = Supervisor::builder().name("feeds").child(feed);
/// let feeds = feeds.start(&CancelToken::new()).unwrap();
/// let find = || supervise::live().into_iter().find(|found| found.name == "feeds");
/// let found = find().unwrap();
/// assert!(found.reason.is_none());
/// assert!(matches!(found.children[0].state, ChildState::Running));
/// feeds.shutdown();
/// assert!(find().unwrap().reason.is_some());
/// drop(feeds);
/// assert!(find().is_none());
/// ```
#[must_use]
pub fn live() -> Vec<SupervisorInfo> {
    let look = |(id, shared): (u64, Arc<Shared>)| {
        let report = shared.report();
        let info = SupervisorInfo {
            id,
            name: report.name,
            started_at: shared.site,
            reason: report.reason,
            children: report.children,
        };
        // Its owner may have gone meanwhile, and left callbacks of the user's to us.
        drop_contained(shared);
        info
    };
    SUPERVISORS.live().into_iter().map(look).collect()
}
