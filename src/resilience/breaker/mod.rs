//! Whether to call at all: a circuit breaker.
//!
//! A [`Breaker`] counts how the calls to one thing end. When too many fail, or take too long, it
//! *opens*: calls are rejected at once, which spares both sides. After a time some calls go through
//! as *probes*, and decide whether it closes. (Michael Nygard, *Release It!*.)
//!
//! | state | calls | leaves it |
//! |---|---|---|
//! | [`Closed`](State::Closed) | go through, counted | a threshold is reached → `Open` |
//! | [`Open`](State::Open) | rejected | the open time is over and a call comes → `HalfOpen` |
//! | [`HalfOpen`](State::HalfOpen) | so many go through as probes | enough succeeded → `Closed`; too many failed, or one hung → `Open` |
//! | [`ForcedOpen`](State::ForcedOpen) | rejected | by hand |
//! | [`Disabled`](State::Disabled) | go through, not counted | by hand |
//! | [`MetricsOnly`](State::MetricsOnly) | go through, counted | by hand |
//!
//! # What is promised
//!
//! * **R1** A [`Permit`] is a value of one generation, and each change of state begins a new one. A
//!   result that comes back in a later generation has no effect: what was admitted when closed is no
//!   probe, whenever it ends. Dropped by a panic, a permit is a failure; dropped otherwise it is
//!   neutral, as nothing was learnt, and frees its place. Half-open admits exactly
//!   [`probes`](BreakerBuilder::probes) calls, whoever comes at the same time, and does not stick:
//!   a probe that has not come back after the [maximum wait](BreakerBuilder::probe_wait) is a failed
//!   one for the next call that comes.
//! * **R2** It opens on [consecutive failures](BreakerBuilder::consecutive_failures), on a [rate of
//!   failures](BreakerBuilder::failure_rate) or of [slow calls](BreakerBuilder::slow_calls), over the
//!   last so many calls or over a time, from a minimum of calls on. A threshold that is *reached*
//!   trips. Listeners run with no lock held, contained, one transition after the other in their
//!   order; they may use the breaker.
//! * Time alone changes nothing: transitions happen in calls, reports and by hand, and the time comes
//!   from one [`Clock`](crate::Clock).
//! * A [`Snapshot`] shows state and counts of one moment.
//!
//! # What is not
//!
//! * It does not end a call, nor bound it in time: that is its token's part.
//! * Several processes, or several breakers, know nothing of each other.
//! * Which of two reports that come at the same time is counted first is not said.
//! * A listener may be called by another thread than the one whose call led to the transition, and
//!   after that call has returned: by the thread that is calling listeners already.
//! * While it is open, one timer of its clock runs, so that a rejection need not read the time; it is
//!   given back by the first call that probes. If it comes late, as behind a slow hook on the same
//!   clock, so may the first probe: by 64 rejections at the most.
//!
//! # Lock order
//!
//! The cell's lock is innermost. Timers are made and dropped, open times are computed and listeners
//! are called with no lock held.

mod builder;
mod cell;
mod err;
mod handle;
mod list;
mod machine;
mod permit;
#[cfg(test)]
mod random;
mod shared;
mod state;
mod window;

pub use builder::BreakerBuilder;
pub use err::Rejected;
pub use handle::Breaker;
pub use list::{BreakerInfo, live};
pub(super) use permit::Pass;
pub use permit::{Outcome, Permit};
pub use state::{Counts, Reason, Snapshot, State, Transition};
