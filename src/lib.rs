//! Loops on blocking OS threads that stop when they are told.

#![cfg_attr(cleanbreak_loom, allow(dead_code, unused_imports, unreachable_pub))]

mod sync;

#[cfg(not(cleanbreak_loom))]
pub mod threads;

#[cfg(not(cleanbreak_loom))]
pub mod clock;

#[cfg(not(cleanbreak_loom))]
pub mod cancel;

#[cfg(not(cleanbreak_loom))]
pub mod flow;

#[cfg(not(cleanbreak_loom))]
pub mod ticker;

#[cfg(not(cleanbreak_loom))]
pub mod group;

#[cfg(not(cleanbreak_loom))]
pub use cancel::{CancelKind, CancelToken, Cancelled, Cause, DropGuard, Registration};
#[cfg(not(cleanbreak_loom))]
pub use clock::{Clock, ManualClock};
#[cfg(not(cleanbreak_loom))]
pub use ticker::{MissedTicks, Tick, Ticker};

#[cfg(all(cleanbreak_loom, test))]
mod model;

#[cfg(not(cleanbreak_loom))]
pub use group::{Group, GroupBuilder, Task, TaskError, ThreadCache, scope};
