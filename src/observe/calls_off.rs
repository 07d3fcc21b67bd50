//! Without the feature: nothing about calls, in the same shape.

use crate::sync::Arc;

#[inline(always)]
pub(crate) fn retried(_retry: Option<&Arc<str>>) {}

#[inline(always)]
pub(crate) fn retry_gave_up(_retry: Option<&Arc<str>>, _reason: &'static str) {}

#[inline(always)]
pub(crate) fn timed_out() {}

#[inline(always)]
pub(crate) fn rate_limited(_limiter: Option<&Arc<str>>) {}

#[inline(always)]
pub(crate) fn adaptive_limit(_limit: Option<&Arc<str>>, _now: usize) {}

#[inline(always)]
pub(crate) fn hedged(_hedge: &Arc<str>) {}

#[inline(always)]
pub(crate) fn hedge_won(_hedge: &Arc<str>) {}

#[inline(always)]
pub(crate) fn abandoned_call(_abandoner: &Arc<str>) {}

#[derive(Debug)]
pub(crate) struct AbandonedThread;

impl AbandonedThread {
    #[inline(always)]
    pub(crate) fn begin(_abandoner: &Arc<str>) -> Self {
        Self
    }
}

#[derive(Debug)]
pub(crate) struct BreakerFacts;

impl BreakerFacts {
    #[inline(always)]
    pub(crate) fn new(_breaker: Option<&Arc<str>>, _states: &[&'static str]) -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn rejected(&self) {}

    #[inline(always)]
    pub(crate) fn changed(&self, _from: &'static str, _to: &'static str, _reason: &'static str) {}
}

#[derive(Clone, Debug)]
pub(crate) struct BulkheadFacts;

impl BulkheadFacts {
    #[inline(always)]
    pub(crate) fn new(_bulkhead: Option<&Arc<str>>) -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn acquired(&self) {}

    #[inline(always)]
    pub(crate) fn released(&self) {}

    #[inline(always)]
    pub(crate) fn refused(&self) {}
}

#[derive(Debug)]
pub(crate) struct PolicyFacts;

impl PolicyFacts {
    #[inline(always)]
    pub(crate) fn new(_policy: Option<&Arc<str>>) -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn succeeded(&self) {}

    #[inline(always)]
    pub(crate) fn failed(&self, _outcome: &'static str) {}

    #[inline(always)]
    pub(crate) fn fell_back(&self) {}
}
