//! Without the feature: nothing, in the same shape.

use std::time::Duration;

use super::Ended;
use crate::sync::Arc;

/// No time is taken.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch;

impl Stopwatch {
    #[inline(always)]
    pub(crate) fn start() -> Self {
        Self
    }
}

#[derive(Debug)]
pub(crate) struct Alive;

impl Alive {
    #[inline(always)]
    pub(crate) fn begin() -> Self {
        Self
    }
}

#[derive(Debug)]
pub(crate) struct Wait;

impl Wait {
    #[inline(always)]
    pub(crate) fn begin(_on: &'static str) -> Self {
        Self
    }
}

#[inline(always)]
pub(crate) fn spawn_failure() {}

#[inline(always)]
pub(crate) fn cancellation(_deadline: bool) {}

#[inline(always)]
pub(crate) fn timer_late(_late: impl FnOnce() -> Duration) {}

#[inline(always)]
pub(crate) fn ticks(_sent: u64, _missed: u64) {}

#[inline(always)]
pub(crate) fn group_task(_group: &Arc<str>, _ended: Ended) {}

#[inline(always)]
pub(crate) fn loop_passes(_name: &Arc<str>, _passes: u64) {}

#[inline(always)]
pub(crate) fn loop_sample(_name: &Arc<str>, _since: Stopwatch) {}

#[inline(always)]
pub(crate) fn loop_exit(_name: &Arc<str>, _reason: &'static str) {}

#[inline(always)]
pub(crate) fn supervised_run(
    _supervisor: &Arc<str>,
    _child: &Arc<str>,
    _outcome: impl FnOnce() -> &'static str,
) {
}

#[inline(always)]
pub(crate) fn supervised_restart(_supervisor: &Arc<str>, _child: &Arc<str>) {}

#[inline(always)]
pub(crate) fn supervisor_gave_up(_supervisor: &Arc<str>) {}

#[cfg(all(feature = "signal", unix))]
#[inline(always)]
pub(crate) fn interrupts(_signal: i32, _name: Option<&'static str>, _count: u64) {}

#[derive(Clone, Debug)]
pub(crate) struct PoolFacts;

impl PoolFacts {
    #[inline(always)]
    pub(crate) fn new(_pool: &Arc<str>) -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn worker_started(&self) {}

    #[inline(always)]
    pub(crate) fn worker_ended(&self) {}

    #[inline(always)]
    pub(crate) fn queued(&self) {}

    #[inline(always)]
    pub(crate) fn dequeued(&self, _tasks: usize) {}

    #[inline(always)]
    pub(crate) fn ended(&self, _tasks: usize, _ended: Ended) {}

    #[inline(always)]
    pub(crate) fn waited(&self, _since: Stopwatch) {}

    #[inline(always)]
    pub(crate) fn ran(&self, _since: Stopwatch) {}
}
