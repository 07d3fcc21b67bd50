//! What a scope has done.

use std::collections::BTreeMap;
use std::fmt;

use crate::fault::{Book, Fault, Injected, points};

/// The faults that a scope has injected.
///
/// # Examples
///
/// ```
/// use cleanbreak::CancelToken;
/// use cleanbreak::chaos::{Fault, Plan};
///
/// let chaos = Plan::seeded(7).at("cancel.child", Fault::Delay, 1).start().unwrap();
/// let _child = CancelToken::new().child();
/// let report = chaos.finish();
/// assert_eq!((report.seed(), report.total(), report.total_of(Fault::Panic)), (7, 1, 0));
/// assert_eq!(report.passes("cancel.child"), 1);
/// assert_eq!(report.count("cancel.child", Fault::Delay), 1);
/// assert_eq!(report.counts().collect::<Vec<_>>(), [("cancel.child", Fault::Delay, 1)]);
/// assert_eq!(report.injected()[0].lineage, "0");
/// assert!(report.to_string().contains("cancel.child"));
/// ```
#[derive(Clone, Debug)]
pub struct Report {
    seed: u64,
    counts: BTreeMap<(&'static str, Fault), u64>,
    injected: Vec<Injected>,
    passes: BTreeMap<&'static str, u64>,
}

impl Report {
    pub(super) fn new(seed: u64, book: Book, passes: &[u64]) -> Self {
        let Book { counts, mut log } = book;
        log.sort();
        let passes = points().iter().zip(passes);
        Self {
            seed,
            counts,
            injected: log,
            passes: passes
                .map(|(point, passes)| (point.name, *passes))
                .collect(),
        }
    }

    /// What the plan decided by.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// Each fault, ordered by lineage, point and pass; of more than 65,536, the first so many.
    #[must_use]
    pub fn injected(&self) -> &[Injected] {
        &self.injected
    }

    /// How many faults there were in all.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.counts.values().sum()
    }

    /// How many of this kind.
    #[must_use]
    pub fn total_of(&self, fault: Fault) -> u64 {
        let of_kind = self.counts.iter().filter(|((_, kind), _)| *kind == fault);
        of_kind.map(|(_, count)| count).sum()
    }

    /// How many of this kind at this point.
    #[must_use]
    pub fn count(&self, point: &str, fault: Fault) -> u64 {
        let here = self
            .counts()
            .filter(|(name, kind, _)| (*name, *kind) == (point, fault));
        here.map(|(.., count)| count).sum()
    }

    /// How many of each kind at each point that had any.
    pub fn counts(&self) -> impl Iterator<Item = (&'static str, Fault, u64)> {
        self.counts
            .iter()
            .map(|((point, fault), count)| (*point, *fault, *count))
    }

    /// How many times a point of the library was passed in the scope.
    #[must_use]
    pub fn passes(&self, point: &str) -> u64 {
        self.passes.get(point).copied().unwrap_or(0)
    }
}

/// A table of the points that had faults.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "seed {}: {} faults", self.seed, self.total())?;
        self.counts()
            .try_for_each(|(point, fault, count)| write!(f, "\n{point:<22} {fault:<8} {count:>9}"))
    }
}
