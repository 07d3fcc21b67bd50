//! Breakers that are alive, for people to look at.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::shared::Shared;
use super::state::Snapshot;
use crate::contain::drop_contained;
use crate::roll::{Listed, Roll};
use crate::sync::Arc;

static BREAKERS: Roll<Shared> = Roll::new();

pub(super) fn enlist(shared: &Arc<Shared>) -> Listed<Shared> {
    BREAKERS.enlist(Arc::downgrade(shared))
}

/// A breaker that is alive, as [`live()`] found it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::resilience::breaker::{self, State};
/// use cleanbreak::{Breaker, Clock};
///
/// let clock = Clock::manual();
/// let mail = Breaker::builder().name("mail").consecutive_failures(1).clock(&clock).build().unwrap();
/// mail.acquire().unwrap().failure();
/// clock.advance(Duration::from_secs(2));
/// let found = breaker::live().into_iter().find(|found| found.name == "mail").unwrap();
/// assert_eq!((found.snapshot.state, found.in_state), (State::Open, Duration::from_secs(2)));
/// assert_eq!(found.built_at.file(), file!());
/// assert!(found.to_string().contains(", OPEN for 2.0 s, "));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct BreakerInfo {
    /// Number of the breaker in this process, never used twice.
    pub id: u64,
    /// What it was named.
    pub name: String,
    /// The source line that built it.
    pub built_at: &'static Location<'static>,
    /// For how long it has been in its state, by its clock.
    pub in_state: Duration,
    /// State and counts of one moment.
    pub snapshot: Snapshot,
}

impl fmt::Display for BreakerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { name, built_at, .. } = self;
        let (state, counts) = (self.snapshot.state, self.snapshot.counts);
        let secs = self.in_state.as_secs_f64();
        write!(
            f,
            "breaker \"{name}\" at {built_at}, {state} for {secs:.1} s, "
        )?;
        write!(f, "{} of {} calls failed", counts.failures, counts.calls)
    }
}

impl Shared {
    fn info(&self, id: u64) -> BreakerInfo {
        let snapshot = self.snapshot();
        BreakerInfo {
            id,
            name: self.name.to_string(),
            built_at: self.site,
            in_state: self.clock.now().duration_since(snapshot.since),
            snapshot,
        }
    }
}

/// The breakers that are alive, oldest first. A look, not a lock: they go on meanwhile, and none
/// changes its state because of it.
///
/// # Performance
///
/// One lock for the list, and one for each breaker. A breaker that is built, or whose last handle
/// goes, takes the list's lock once; a call does not.
///
/// # Examples
///
/// ```
/// use cleanbreak::resilience::breaker::{self, State};
/// use cleanbreak::{Breaker, CancelToken};
///
/// let stock = Breaker::builder().name("stock").consecutive_failures(1).build().unwrap();
/// let find = || breaker::live().into_iter().find(|found| found.name == "stock");
/// assert_eq!(find().unwrap().snapshot.state, State::Closed);
/// stock.call(&CancelToken::new(), |_| Err::<(), _>("down")).unwrap_err();
/// assert_eq!(find().unwrap().snapshot.state, State::Open);
/// drop(stock);
/// assert!(find().is_none());
/// ```
#[must_use]
pub fn live() -> Vec<BreakerInfo> {
    let look = |(id, shared): (u64, Arc<Shared>)| {
        let info = shared.info(id);
        // The last handle may have gone meanwhile, and left the listeners to us.
        drop_contained(shared);
        info
    };
    BREAKERS.live().into_iter().map(look).collect()
}
