//! What a chaos scope decides by, and what it has done.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::points::{Fault, points};

pub(crate) const KINDS: usize = Fault::ALL.len();

/// How many injected faults a scope keeps in words; of all it keeps the count.
const LOG: usize = 65_536;

/// One in how many passes has a fault, by its kind; 0 for none.
pub(crate) type Odds = [u32; KINDS];

/// What happens, and how much of it, by lineage, point and pass.
pub(crate) type Exactly = BTreeMap<(String, String, u64), (Fault, Duration)>;

/// What a plan comes to.
#[derive(Clone, Debug)]
pub(crate) struct Rates {
    pub(crate) seed: u64,
    /// By the place's number.
    pub(crate) library: Vec<Odds>,
    pub(crate) own: BTreeMap<String, Odds>,
    pub(crate) own_else: Odds,
    pub(crate) longest: [Duration; KINDS],
    /// Only these, if there are any.
    pub(crate) exactly: Option<Exactly>,
}

pub(crate) type Cancel = Arc<dyn Fn(u64, String) + Send + Sync>;

/// What one guard has begun.
pub(crate) struct Scope {
    pub(crate) rates: Rates,
    /// Cancels one of the plan's tokens, picked by a number, for a reason. A closure of a floor
    /// above, and gone with the scope, as tokens may lead back to it.
    cancel: Mutex<Option<Cancel>>,
    live: AtomicBool,
    passes: Vec<AtomicU64>,
    book: Mutex<Book>,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub(crate) struct Book {
    pub(crate) counts: BTreeMap<(&'static str, Fault), u64>,
    pub(crate) log: Vec<Injected>,
}

/// A fault that was injected; from [`Report::injected`](crate::chaos::Report::injected).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::chaos::{Fault, Plan};
/// use cleanbreak::{CancelToken, scope};
///
/// let plan = Plan::seeded(7).at("cancel.child", Fault::Delay, 1);
/// let chaos = plan.delays_up_to(Duration::from_micros(50)).start().unwrap();
/// scope(&CancelToken::new(), |group| {
///     group.spawn(|token| Ok(drop(token.child())))?;
///     Ok(())
/// })
/// .unwrap();
/// let report = chaos.finish();
/// let of_the_task = report.injected().iter().find(|fault| fault.lineage == "0/k0").unwrap();
/// assert_eq!((of_the_task.point, of_the_task.pass), ("cancel.child", 1));
/// assert!(of_the_task.amount <= Duration::from_micros(50));
/// ```
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[non_exhaustive]
pub struct Injected {
    /// Whose pass it was: the way from the scope's own thread, `0`, by the numbers of the threads
    /// (`t`) and tasks (`k`) that each started on the way, as `0/k2/t0`.
    pub lineage: String,
    /// The name of the point.
    pub point: &'static str,
    /// Which pass of that lineage through that point it was, from 1.
    pub pass: u64,
    /// What was injected.
    pub fault: Fault,
    /// How long a delay, how late, or how far a jump; else zero.
    pub amount: Duration,
}

impl fmt::Display for Injected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            lineage,
            point,
            pass,
            fault,
            amount,
        } = self;
        write!(f, "{fault} at {point}, pass {pass} of {lineage}")?;
        match amount.is_zero() {
            true => Ok(()),
            false => write!(f, ", {amount:?}"),
        }
    }
}

/// Nothing panics under these locks.
pub(super) fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Scope {
    pub(crate) fn new(rates: Rates, cancel: Cancel) -> Self {
        Self {
            rates,
            cancel: Mutex::new(Some(cancel)),
            live: AtomicBool::new(true),
            passes: points().iter().map(|_| AtomicU64::new(0)).collect(),
            book: Mutex::default(),
        }
    }

    pub(crate) fn is_live(&self) -> bool {
        // Relaxed: who passes while the scope ends may be in it or not.
        self.live.load(Ordering::Relaxed)
    }

    pub(crate) fn end(&self) {
        self.live.store(false, Ordering::Relaxed);
        let cancel = lock(&self.cancel).take();
        drop(cancel);
    }

    pub(super) fn cancel(&self, pick: u64, why: String) {
        let cancel = lock(&self.cancel).clone();
        if let Some(cancel) = cancel {
            cancel(pick, why);
        }
    }

    pub(super) fn count_pass(&self, number: usize) {
        self.passes[number].fetch_add(1, Ordering::Relaxed);
    }

    /// By the place's number.
    pub(crate) fn passes(&self) -> Vec<u64> {
        let passes = self.passes.iter();
        passes
            .map(|passes| passes.load(Ordering::Relaxed))
            .collect()
    }

    pub(super) fn enter(&self, injected: Injected) {
        let mut book = lock(&self.book);
        *book
            .counts
            .entry((injected.point, injected.fault))
            .or_default() += 1;
        if book.log.len() < LOG {
            book.log.push(injected);
        }
    }

    pub(crate) fn book(&self) -> Book {
        lock(&self.book).clone()
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Scope")
            .field("seed", &self.rates.seed)
            .finish_non_exhaustive()
    }
}
