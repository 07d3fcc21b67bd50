//! Without the feature: nothing, in the same shape.

use std::time::Duration;

use super::At;

/// On whose behalf a thread runs, where that decides its faults.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line;

#[derive(Debug)]
pub(crate) struct LineGuard;

impl Line {
    #[inline(always)]
    pub(crate) const fn nobody() -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn here() -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn of_new_thread() -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn of_new_task() -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn give_back(&self) {}

    #[inline(always)]
    pub(crate) fn is_nobody(&self) -> bool {
        true
    }

    #[inline(always)]
    pub(crate) fn enter(&self) -> LineGuard {
        LineGuard
    }
}

#[inline(always)]
pub(crate) fn pass(_at: At) {}

#[inline(always)]
pub(crate) fn run(_at: At) {}

#[inline(always)]
pub(crate) fn refuses(_at: At) -> bool {
    false
}

#[inline(always)]
#[cfg_attr(
    not(all(feature = "io", unix)),
    allow(dead_code, reason = "nobody asks")
)]
pub(crate) fn wakes_early(_at: At) -> bool {
    false
}

#[inline(always)]
pub(crate) fn own_pass(_name: &'static str) {}

#[inline(always)]
pub(crate) fn own_refuses(_name: &'static str) -> bool {
    false
}

/// Whether what a timer is to tell comes late.
#[derive(Debug)]
pub(crate) struct Late;

impl Late {
    #[inline(always)]
    pub(crate) fn here() -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn put_off(&self, _due: u64) -> Option<Duration> {
        None
    }

    #[inline(always)]
    pub(crate) fn since(&self, due: u64) -> u64 {
        due
    }
}

/// How far a clock is ahead.
#[derive(Debug)]
pub(crate) struct Leap;

impl Leap {
    #[inline(always)]
    pub(crate) const fn new() -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn ahead(&self) -> Duration {
        Duration::ZERO
    }

    #[inline(always)]
    pub(crate) fn pass(&self) {}
}
