//! Floor 0: the places where a fault may be injected, for tests.
//!
//! With the feature `chaos`, each place asks whether a fault is due; which ones are is the affair of
//! [`chaos`](crate::chaos), far above. Without it every function here is empty and every value of size
//! zero: no code is left, and no name of a point.
//!
//! This is below [`sync`](crate::sync), whose condition variable asks here, so it takes its locks and
//! atomics from the standard library.
//!
//! # Invariants
//!
//! 1. A place that may delay, panic or cancel is passed with no lock of the library held. What is
//!    asked under one ([`refuses`], [`wakes_early`], [`Late`], [`Leap`]) only answers.
//! 2. The locks of this module are leaves: no other is taken, and no code of the user's runs, under
//!    one of them.
//! 3. What is decided is a function of the plan and its seed, the place, the lineage of the thread,
//!    and how many times that lineage has passed the place before; of nothing else.
//! 4. While a fault is being carried out, its thread meets no other.

#[cfg(not(feature = "chaos"))]
mod off;
#[cfg(feature = "chaos")]
mod on;
mod points;
#[cfg(feature = "chaos")]
mod scope;

#[cfg(not(feature = "chaos"))]
use off as faults;
#[cfg(feature = "chaos")]
use on as faults;

#[cfg(any(feature = "chaos", all(feature = "io", unix)))]
pub(crate) use faults::wakes_early;
pub(crate) use faults::{Late, Leap, Line, LineGuard, own_pass, own_refuses, pass, refuses, run};
pub(crate) use points::At;
#[cfg(feature = "chaos")]
pub use points::{Fault, Point, points};
#[cfg(feature = "chaos")]
pub use scope::Injected;
#[cfg(feature = "chaos")]
pub(crate) use scope::{Book, Cancel, KINDS, Odds, Rates, Scope};
