//! The scope of a plan.

use std::any::Any;
use std::fmt;
use std::marker::PhantomData;

use super::report::Report;
use crate::cancel::CancelToken;
use crate::fault::{Cancel, Line, LineGuard, Rates, Scope};
use crate::sync::Arc;

/// A plan in force, until this is dropped; from [`Plan::start`](super::Plan::start).
///
/// # Examples
///
/// ```
/// use cleanbreak::chaos::{Fault, Plan, fails};
///
/// let chaos = Plan::seeded(1).at("my.call", Fault::Refuse, 1).start().unwrap();
/// assert!(fails("my.call"));
/// assert_eq!((chaos.seed(), chaos.report().total()), (1, 1)); // so far
/// let reporter = chaos.reporter(); // for a watchdog
/// std::thread::scope(|scope| {
///     scope.spawn(|| assert!(!fails("my.call"))); // not a thread of the library's
/// });
/// let report = chaos.finish();
/// assert_eq!(report.count("my.call", Fault::Refuse), 1);
/// assert!(!fails("my.call")); // it is over
/// assert_eq!(reporter.report().total(), 1);
/// ```
#[must_use = "the scope ends when this is dropped"]
pub struct Chaos {
    scope: Arc<Scope>,
    _inside: LineGuard,
    /// The scope is on this thread.
    here: PhantomData<*const ()>,
}

impl Chaos {
    pub(super) fn begin(rates: Rates, tokens: Vec<CancelToken>) -> Self {
        let cancel: Cancel = Arc::new(move |pick, why| {
            let count = u64::try_from(tokens.len()).unwrap_or(u64::MAX).max(1);
            let token = usize::try_from(pick % count)
                .ok()
                .and_then(|at| tokens.get(at));
            token.map(|token| token.cancel_with(why));
        });
        let scope = Arc::new(Scope::new(rates, cancel));
        Self {
            _inside: Line::root(scope.clone()).enter(),
            scope,
            here: PhantomData,
        }
    }

    /// What the plan decides by.
    #[must_use]
    pub fn seed(&self) -> u64 {
        self.scope.rates.seed
    }

    /// What has been injected so far.
    #[must_use]
    pub fn report(&self) -> Report {
        self.reporter().report()
    }

    /// For a watchdog on another thread, to see what was injected into a test that hangs.
    #[must_use]
    pub fn reporter(&self) -> Reporter {
        let scope = self.scope.clone();
        Reporter { scope }
    }

    /// Ends the scope.
    pub fn finish(self) -> Report {
        self.scope.end();
        self.report()
    }
}

impl Drop for Chaos {
    fn drop(&mut self) {
        self.scope.end();
        Line::root_ends();
    }
}

/// Tells what a scope has injected, from any thread; from [`Chaos::reporter`].
///
/// # Examples
///
/// ```
/// use cleanbreak::chaos::{Fault, Plan, fails};
///
/// let chaos = Plan::seeded(1).at("my.call", Fault::Refuse, 1).start().unwrap();
/// let reporter = chaos.reporter();
/// assert!(fails("my.call"));
/// let seen = std::thread::spawn(move || reporter.report().total()).join().unwrap();
/// assert_eq!(seen, 1);
/// ```
#[derive(Clone, Debug)]
pub struct Reporter {
    scope: Arc<Scope>,
}

impl Reporter {
    /// What has been injected so far.
    #[must_use]
    pub fn report(&self) -> Report {
        let scope = &self.scope;
        Report::new(scope.rates.seed, scope.book(), &scope.passes())
    }
}

impl fmt::Debug for Chaos {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Chaos")
            .field("seed", &self.seed())
            .finish_non_exhaustive()
    }
}

/// Whether a panic was injected, by its payload; it is a `String`.
///
/// # Examples
///
/// ```
/// use cleanbreak::chaos::{Fault, Plan, is_injected, point};
///
/// let chaos = Plan::seeded(1).at("my.point", Fault::Panic, 1).start().unwrap();
/// let payload = std::panic::catch_unwind(|| point("my.point")).unwrap_err();
/// assert!(is_injected(&*payload));
/// assert_eq!(payload.downcast_ref::<String>().unwrap(), "chaos: panic at my.point, pass 1 of 0");
/// # drop(chaos);
/// ```
#[must_use]
pub fn is_injected(payload: &(dyn Any + Send)) -> bool {
    let message = payload.downcast_ref::<String>();
    message.is_some_and(|message| message.starts_with("chaos: panic at "))
}
