//! Floor 4: workers that serve a queue, and can account for every task.
//!
//! A [`Pool`] has a number of threads and a bounded queue. Unlike a [group](crate::group), it
//! outlives the call that made it, and its tasks borrow nothing.
//!
//! # What is promised
//!
//! * **P1** The queue is bounded: [`submit`](Pool::submit) waits for a place,
//!   [`try_submit`](Pool::try_submit) never does, [`submit_deadline`](Pool::submit_deadline) does
//!   for a time. Each gives the task back if it is refused, and a wait ends at once when the pool
//!   is cancelled or shut down. A task has a token of its own, a child of the pool's. One that
//!   panics costs neither worker nor queue; its [`Job`] has the payload.
//! * **P2** [`shutdown`](Pool::shutdown) drains, hands the backlog back, or drains until a deadline
//!   and then cancels. The [`Report`] accounts for every task that was taken in, and names those
//!   that are stuck. The drop stops the pool and joins its threads; it never hangs without saying
//!   on whom.
//! * Every [`Job`] comes to an end at once, with a result or the reason why there is none: the task
//!   ended, was cancelled in the queue, or handed back.
//!
//! # What is not
//!
//! * Nothing stops a task by force: one that ignores its token holds a drop up for ever, and is
//!   reported again and again.
//! * Tasks that wait for each other can deadlock, as in any bounded pool.
//! * A task finds thread-locals as the task before it left them.

mod builder;
mod detached;
mod err;
mod handle;
mod job;
mod list;
mod packet;
mod queue;
mod report;
mod shared;
mod submission;
mod worker;

pub use builder::PoolBuilder;
pub use err::{SubmitError, SubmitErrorKind};
pub use handle::Pool;
pub use job::{Job, JobError};
pub use list::{PoolInfo, live};
pub use report::{Abandoned, Report, Shutdown, Stuck};
pub use submission::Submission;
