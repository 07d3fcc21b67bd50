//! Loops on blocking OS threads that stop when they are told.

mod sync;

pub mod threads;

pub mod clock;

pub mod cancel;

pub mod flow;

pub mod channel;

pub mod ticker;

pub mod group;

pub use cancel::{CancelKind, CancelToken, Cancelled, Cause, DropGuard, Registration};
pub use channel::{Inputs, SafeChannel, SafeReceiver, SafeSender};
pub use clock::{Clock, ManualClock};
pub use group::{Group, GroupBuilder, Task, TaskError, ThreadCache, scope};
pub use ticker::{MissedTicks, Tick, Ticker};
