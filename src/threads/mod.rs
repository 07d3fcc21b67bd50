//! Floor 0: the one door through which the library starts threads, and the list of those alive.
//!
//! Every thread of the library is named, remembers the source line that asked for it, is listed
//! while it lives, and says what it waits on. [`live()`] shows them; [`waiting_on`] lets your own
//! blocking code appear in the list beside the library's waits.
//!
//! [`deadlocks()`] names those that wait for each other.
//!
//! The list is written for people and reports: nothing in the library decides from it.
//!
//! # Invariants
//!
//! 1. A record is in the registry from before its thread runs user code until after that code,
//!    its result and its captured values are gone. (The operating system's thread ends a moment
//!    later; who joins it waits for that.)
//! 2. Ids grow and are never used again.
//! 3. Lock order: the registry's lock before a record's; neither is held while user code runs.
//! 4. What a thread waits on is written by that thread alone, without a lock.

#[cfg(all(feature = "diagnose", target_os = "linux", not(cleanbreak_portable)))]
mod asleep;
mod awaited;
mod deadlock;
mod graph;
mod info;
mod moment;
mod origin;
mod registry;
mod scope;
mod spawn;
mod wait;

#[cfg(all(feature = "diagnose", target_os = "linux", not(cleanbreak_portable)))]
pub(crate) use awaited::User;
pub(crate) use awaited::{Awaited, Awaits, Needs, Part, Place, Who};
pub use deadlock::{Deadlock, StuckThread, deadlocks, deadlocks_after};
pub(crate) use deadlock::{DeadlockText, Deadlocks};
#[cfg(feature = "diagnose")]
pub(crate) use info::provide_stacks;
pub(crate) use info::{StackText, stack_of};
pub use info::{ThreadInfo, WaitInfo};
pub(crate) use origin::{Inherited, Origin, OriginGuard};
#[cfg(all(feature = "diagnose", target_os = "linux", not(cleanbreak_portable)))]
pub(crate) use registry::records;
#[cfg(all(feature = "io", unix))]
pub(crate) use registry::waiting_at;
pub(crate) use registry::{
    Record, Task, await_retired, awaiting, awaiting_at, current_record, run_task, run_task_under,
    running,
};
pub use registry::{WaitGuard, live, waiting_on};
#[cfg(all(feature = "diagnose", target_os = "linux", not(cleanbreak_portable)))]
pub(crate) use registry::{current_id, records_so_far};
pub use scope::TokenPath;
pub(crate) use scope::{Path, Scope};
pub use spawn::ThreadError;
pub(crate) use spawn::{Handle, Spec, spawn};
