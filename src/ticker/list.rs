//! Tickers that are alive, for people to look at.

use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::{MissedTicks, Shared};
use crate::roll::{Listed, Roll};
use crate::sync::Arc;

static TICKERS: Roll<Shared> = Roll::new();

pub(super) fn enlist(shared: &Arc<Shared>) -> Listed<Shared> {
    TICKERS.enlist(Arc::downgrade(shared))
}

/// A ticker that is alive, as [`live()`] found it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{Clock, MissedTicks, Ticker, ticker};
///
/// let clock = Clock::manual();
/// let beat = Ticker::builder(Duration::from_secs(5)).clock(&clock).start().unwrap();
/// let line = line!() - 1;
/// clock.advance(Duration::from_secs(12));
/// let all = ticker::live();
/// let found = all.iter().find(|found| found.started_at.line() == line).unwrap();
/// assert_eq!((found.period, found.policy), (beat.period(), MissedTicks::Skip));
/// assert_eq!((found.sent, found.missed, found.stopped), (2, 1, false)); // 10 took 5's place
/// assert!(found.to_string().ends_with("every 5s, 2 sent, 1 missed"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct TickerInfo {
    /// Number of the ticker in this process, never used twice.
    pub id: u64,
    /// The source line that started it.
    pub started_at: &'static Location<'static>,
    /// The present period.
    pub period: Duration,
    /// What it does about ticks that nobody took in time.
    pub policy: MissedTicks,
    /// How many ticks were sent; not all of them may have been taken.
    pub sent: u64,
    /// How many were missed.
    pub missed: u64,
    /// Whether it has been stopped.
    pub stopped: bool,
}

impl fmt::Display for TickerInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let stopped = if self.stopped { "stopped, " } else { "" };
        write!(f, "ticker at {}, {stopped}", self.started_at)?;
        write!(f, "every {:?}, ", self.period)?;
        write!(f, "{} sent, {} missed", self.sent, self.missed)
    }
}

impl Shared {
    fn look(&self, id: u64) -> TickerInfo {
        let state = self.state.lock();
        TickerInfo {
            id,
            started_at: self.site,
            period: state.grid.period(),
            policy: state.grid.policy(),
            sent: state.sent,
            missed: state.lost,
            stopped: state.sender.is_none(),
        }
    }
}

/// The tickers that are alive, oldest first. A look, not a lock: they go on meanwhile.
///
/// # Performance
///
/// One lock for the list, and one for each ticker. A ticker that is started or dropped takes the
/// list's lock once; a tick does not.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{Clock, Ticker, ticker};
///
/// let clock = Clock::manual();
/// let beat = Ticker::builder(Duration::from_secs(5)).clock(&clock).start().unwrap();
/// let line = line!() - 1;
/// let find = || ticker::live().into_iter().find(|found| found.started_at.line() == line);
/// clock.advance(Duration::from_secs(12)); // nobody took the tick at 5
/// let found = find().unwrap();
/// assert_eq!((found.period, found.missed), (Duration::from_secs(5), 1));
/// beat.stop();
/// assert!(find().unwrap().stopped);
/// drop(beat);
/// assert!(find().is_none());
/// ```
#[must_use]
pub fn live() -> Vec<TickerInfo> {
    let tickers = TICKERS.live();
    tickers
        .iter()
        .map(|(id, shared)| shared.look(*id))
        .collect()
}
