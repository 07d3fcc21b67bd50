//! Floor 0: facts about the library's parts, written and never read back.
//!
//! With the feature `tracing`, a task of a group or a pool runs inside the span in which it was
//! spawned or submitted, a supervised loop inside that in which its supervisor was started, and a
//! [`Probe`](crate::probe::Probe) opens spans for the passes of a loop that are worth one. With the
//! feature `metrics`, every part tells the [`metrics`](https://docs.rs/metrics) facade what it
//! does, and whatever recorder the program has installed keeps it. Without the feature, every
//! function that is called here is empty and every value is of size zero: there is no code left. No
//! code of the library decides from what it writes here.
//!
//! # What is promised
//!
//! * Each metric is in [`METRICS`], by name, type, labels and meaning, and [`describe_metrics`] tells
//!   them to the recorder. Names follow the conventions of Prometheus: base units, `_total` for
//!   counters.
//! * Labels have few values: the names that you give to pools, groups, supervised loops, breakers,
//!   limits and policies, kinds of outcomes, names of signals, and the words of a wait. Never a
//!   number, an address or an error's text.
//!
//! # What is not
//!
//! * The facade drops what is told before a recorder is installed, and a [`Pool`](crate::Pool), a
//!   [`Breaker`](crate::Breaker), a [`Bulkhead`](crate::Bulkhead) or a [`Policy`](crate::Policy)
//!   that was built before goes on telling nobody. Install it first in `main`.
//! * Times are those of the system's clock, also where a manual clock rules: they are for people.
//! * The numbers are not one snapshot. Where counts must add up, ask the object, such as a pool for
//!   its report.
//! * Some facts are told under a lock of the library, so a recorder must not use the library.
//!
//! # Performance
//!
//! Beside what the recorder takes: a pool keeps its handles, so that a task costs two looks at the
//! clock and six atomic updates; so do a bulkhead with a name, for two updates of a gauge for each
//! permit, and a policy with a name, for one of a counter; the other parts look their metric up at
//! each event. Nothing is told for each message of a channel, nor for a call that a breaker or a
//! rate limit lets through.

#[cfg(not(feature = "metrics"))]
mod calls_off;
#[cfg(feature = "metrics")]
mod calls_on;
#[cfg(not(feature = "metrics"))]
mod off;
#[cfg(feature = "metrics")]
mod on;
#[cfg(feature = "metrics")]
mod table;

#[cfg(not(feature = "tracing"))]
mod span_off;
#[cfg(feature = "tracing")]
mod span_on;

#[cfg(not(feature = "metrics"))]
use calls_off as calls;
#[cfg(feature = "metrics")]
use calls_on as calls;
#[cfg(not(feature = "metrics"))]
use off as facts;
#[cfg(feature = "metrics")]
use on as facts;
#[cfg(not(feature = "tracing"))]
use span_off as spans;
#[cfg(feature = "tracing")]
use span_on as spans;

use std::time::Duration;

pub(crate) use calls::{
    AbandonedThread, BreakerFacts, BulkheadFacts, PolicyFacts, abandoned_call, adaptive_limit,
    hedge_won, hedged, rate_limited, retried, retry_gave_up, timed_out,
};
#[cfg(all(feature = "signal", unix))]
pub(crate) use facts::interrupts;
pub(crate) use facts::{
    Alive, PoolFacts, Stopwatch, Wait, cancellation, group_task, loop_exit, loop_passes,
    loop_sample, spawn_failure, supervised_restart, supervised_run, supervisor_gave_up, ticks,
    timer_late,
};
pub(crate) use spans::{
    SpanContext, SpanGuard, SpanOrigin, breaker_event, breakpoint, give_up_event, marker,
    overdue_pass, retry_event,
};
#[cfg(feature = "metrics")]
pub use table::{METRICS, Metric, MetricType, describe_metrics};

/// What the span of a pass says.
#[cfg_attr(not(feature = "tracing"), allow(dead_code, reason = "nobody is told"))]
pub(crate) struct Breakpoint<'a> {
    pub(crate) name: &'a str,
    /// From 1.
    pub(crate) iteration: u64,
    /// Of all the loop's passes, if that is known.
    pub(crate) total: Option<u64>,
    /// Every so many passes one is reported; 0 for none.
    pub(crate) interval: u64,
    /// It is one of those.
    pub(crate) regular: bool,
    /// The loop has ended, for this reason.
    pub(crate) exit: Option<&'static str>,
    /// How long it took, if that was too long.
    pub(crate) slow: Option<Duration>,
    /// Somebody should look at it.
    pub(crate) alarming: bool,
    /// Nobody said that the loop has ended: an error or a panic did it.
    pub(crate) failed: bool,
}

/// How a task of a group or a pool ended, as a label says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[cfg_attr(not(feature = "metrics"), allow(dead_code, reason = "nobody is told"))]
pub(crate) enum Ended {
    Completed,
    Failed,
    Panicked,
    /// Before it started.
    Cancelled,
    /// Handed back by a shutdown.
    Abandoned,
}
