//! Loops on blocking OS threads that stop when they are told.
//!
//! No async runtime. Worker loops over crossbeam's `select!` that leave by labelled breaks; a
//! [`CancelToken`] that every wait can see; a [`SafeChannel`] that closes once; a [`Ticker`] whose
//! thread stops on drop; a [`scope()`] that joins what it spawned and returns the first error.
//!
//! # A worker
//!
//! The shape that everything here is made for: a named loop, one arm for each thing that can
//! happen, one way out for each reason to stop.
//!
//! ```
//! use std::time::Duration;
//! use cleanbreak::{CancelToken, SafeChannel, SafeReceiver, Ticker, scope};
//! use crossbeam_channel::select;
//!
//! fn worker(token: &CancelToken, inbox: &SafeReceiver<u32>) -> anyhow::Result<u32> {
//!     let heartbeat = Ticker::new(Duration::from_secs(5))?;
//!     let mut total = 0;
//!     'work: loop {
//!         select! {
//!             recv(token.done()) -> _ => break 'work,      // told to stop
//!             recv(inbox) -> order => match order {
//!                 Ok(order) => total += order,
//!                 Err(_) => break 'work,                   // closed, and drained
//!             },
//!             recv(heartbeat) -> _tick => println!("{total} so far"),
//!         }
//!     }
//!     Ok(total)
//! }
//!
//! let service = CancelToken::new();
//! let (orders, inbox) = SafeChannel::bounded(16);
//! let total = scope(&service, |group| {
//!     let worker = group.spawn_named("worker", |token| worker(token, &inbox))?;
//!     (1..=10).try_for_each(|order| orders.send(order))?;
//!     orders.close();
//!     Ok(worker.join()?)
//! });
//! assert_eq!(total.unwrap(), 55);
//! ```
//!
//! # Where to go on
//!
//! * The [guide]: from a polled flag to a token in four steps, and tests of such loops.
//! * [How to stop a thread that is blocked in X](crate::guide::blocked); a [cookbook](crate::guide::cookbook)
//!   of loops to copy; [from Go](crate::guide::from_go), side by side.
//! * [What every part promises, and what it costs](crate::guide::guarantees); [what was decided, and
//!   why](crate::guide::design).
//!
//! # The floors
//!
//! Each module uses only those above it.
//!
//! | module | what it is about |
//! |---|---|
//! | `observe` | facts about all parts, as metrics (feature `metrics`) |
//! | [`threads`] | who is alive: name, spawn site, what it waits on |
//! | [`backoff`] | how long to wait before trying again |
//! | [`clock`] | what time it is, by the system or by hand in tests; one timer thread |
//! | [`cancel`] | being told to stop: tokens, kinds, causes, hooks |
//! | [`flow`] | why a loop ended, as a value for `ControlFlow` and `?` |
//! | [`channel`] | what flows, until it is closed; ending a select loop when its inputs end |
//! | [`ticker`] | ticks on a grid |
//! | `io` | sockets, pipes, children and standard input whose waits end with a token (feature `io`, Unix) |
//! | [`probe`] | how a loop is doing: passes, slow ones, and why it ended |
//! | [`group`] | threads that come home, with the first error |
//! | [`pool`] | workers that serve a queue, and what became of each task at the end |
//! | [`supervise`] | loops that are restarted when they fail, started and stopped in order |
//! | [`resilience`] | when the other side is slow, or fails: breaker, retry, bounds on time, number and rate of calls |
//! | `interrupt` | signals of the operating system, counted, on a channel (feature `signal`, Unix) |
//! | [`leak`] | threads that did not come home, for tests |
//! | [`chaos`] | faults on purpose, seeded, for tests (feature `chaos`; without it, your own points do nothing) |
//! | `diagnose` | a dump of all threads with their stacks (feature `diagnose`; stacks on Linux, x86-64) |
//! | `debug` | a page about the process, on loopback (feature `debug-http`, Unix) |
//!
//! Three streams, each one way: *stop* goes down from a token to its children and every wait on
//! them; *results* go up by return value; *facts* go sideways into lists and reports, and nothing
//! decides from them.

mod fault;

mod contain;

#[cfg(any(test, fuzzing))]
mod noise;

mod sync;

mod roll;

#[cfg(feature = "metrics")]
pub mod observe;
#[cfg(not(feature = "metrics"))]
mod observe;

pub mod threads;

pub mod backoff;

pub mod clock;

pub mod cancel;

pub mod flow;

pub mod channel;

pub mod ticker;

#[cfg(all(feature = "io", unix))]
pub mod io;

pub mod probe;

pub mod group;

pub mod pool;

pub mod supervise;

pub mod resilience;

#[cfg(all(feature = "signal", unix))]
pub mod interrupt;

pub mod leak;

pub mod chaos;

#[cfg(feature = "diagnose")]
pub mod diagnose;

#[cfg(all(feature = "debug-http", unix))]
pub mod debug;

#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;

pub use cancel::{CancelKind, CancelToken, Cancelled, Cause, DropGuard, Registration};
pub use channel::{Inputs, SafeChannel, SafeReceiver, SafeSender};
pub use clock::{Clock, ManualClock};
pub use group::{Group, GroupBuilder, Task, TaskError, ThreadCache, scope};
#[cfg(all(feature = "io", unix))]
pub use io::Interruptible;
pub use pool::{Job, Pool, PoolBuilder, Shutdown};
pub use probe::Probe;
pub use resilience::{
    Abandoner, AdaptiveLimit, Breaker, Bulkhead, Hedge, KeyedRateLimiter, Policy, Quota,
    RateLimiter, Retry, RetryBudget, Timeout,
};
pub use supervise::{ChildSpec, Supervisor};
pub use ticker::{MissedTicks, Tick, Ticker};

/// Pages that are longer than a module's documentation. Empty but for text.
///
/// [cookbook]: crate::guide::cookbook
/// [blocked]: crate::guide::blocked
/// [from-go]: crate::guide::from_go
#[cfg(any(doc, doctest))]
pub mod guide {
    #![doc = include_str!("../docs/GUIDE.md")]

    /// How to stop a thread that is blocked in something.
    ///
    /// [guide]: crate::guide
    pub mod blocked {
        #![doc = include_str!("../docs/BLOCKED.md")]
    }

    /// Loops to copy.
    pub mod cookbook {
        #![doc = include_str!("../docs/COOKBOOK.md")]
    }

    /// For those who come from Go.
    pub mod from_go {
        #![doc = include_str!("../docs/FROM-GO.md")]
    }

    /// What every part promises, and what it costs.
    pub mod guarantees {
        #![doc = include_str!("../docs/GUARANTEES.md")]
    }

    /// What was decided, and why.
    pub mod design {
        #![doc = include_str!("../docs/DESIGN.md")]
    }
}

/// The README's example is compiled and run with the others.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
