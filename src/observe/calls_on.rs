//! With the feature: what the parts of `resilience` tell, each a line of the facade.

use metrics::{Counter, Gauge, counter, gauge};

use super::table as names;
use crate::sync::Arc;

pub(crate) fn retried(retry: Option<&Arc<str>>) {
    if let Some(retry) = retry {
        counter!(names::RETRIES, "retry" => retry.clone()).increment(1);
    }
}

pub(crate) fn retry_gave_up(retry: Option<&Arc<str>>, reason: &'static str) {
    if let Some(retry) = retry {
        let gave_up = counter!(names::RETRY_GIVE_UPS, "retry" => retry.clone(), "reason" => reason);
        gave_up.increment(1);
    }
}

pub(crate) fn timed_out() {
    counter!(names::TIMEOUTS).increment(1);
}

pub(crate) fn rate_limited(limiter: Option<&Arc<str>>) {
    if let Some(limiter) = limiter {
        counter!(names::RATE_LIMITED, "limiter" => limiter.clone()).increment(1);
    }
}

pub(crate) fn adaptive_limit(limit: Option<&Arc<str>>, now: usize) {
    if let Some(limit) = limit {
        gauge!(names::ADAPTIVE_LIMIT, "limit" => limit.clone()).set(now as f64);
    }
}

pub(crate) fn hedged(hedge: &Arc<str>) {
    counter!(names::HEDGES, "hedge" => hedge.clone()).increment(1);
}

pub(crate) fn hedge_won(hedge: &Arc<str>) {
    counter!(names::HEDGES_WON, "hedge" => hedge.clone()).increment(1);
}

pub(crate) fn abandoned_call(abandoner: &Arc<str>) {
    counter!(names::ABANDONED_CALLS, "abandoner" => abandoner.clone()).increment(1);
}

/// A thread that was left behind, until it has ended.
#[derive(Debug)]
pub(crate) struct AbandonedThread(Arc<str>);

impl AbandonedThread {
    pub(crate) fn begin(abandoner: &Arc<str>) -> Self {
        gauge!(names::ABANDONED_THREADS, "abandoner" => abandoner.clone()).increment(1);
        Self(abandoner.clone())
    }
}

impl Drop for AbandonedThread {
    fn drop(&mut self) {
        gauge!(names::ABANDONED_THREADS, "abandoner" => self.0.clone()).decrement(1);
    }
}

/// Of a breaker that has a name.
pub(crate) struct BreakerFacts(Option<BreakerHandles>);

struct BreakerHandles {
    breaker: Arc<str>,
    rejections: Counter,
}

impl BreakerFacts {
    /// `states` are all there are; it is in the first.
    pub(crate) fn new(breaker: Option<&Arc<str>>, states: &[&'static str]) -> Self {
        let handles = breaker.map(|breaker| BreakerHandles {
            breaker: breaker.clone(),
            rejections: counter!(names::BREAKER_REJECTIONS, "breaker" => breaker.clone()),
        });
        for (number, state) in states.iter().enumerate() {
            if let Some(handles) = &handles {
                handles.set(state, number == 0);
            }
        }
        Self(handles)
    }

    pub(crate) fn rejected(&self) {
        if let Some(handles) = &self.0 {
            handles.rejections.increment(1);
        }
    }

    pub(crate) fn changed(&self, from: &'static str, to: &'static str, reason: &'static str) {
        if let Some(handles) = &self.0 {
            handles.set(from, false);
            handles.set(to, true);
            let breaker = handles.breaker.clone();
            let changes = counter!(
                names::BREAKER_TRANSITIONS, "breaker" => breaker, "to" => to, "reason" => reason
            );
            changes.increment(1);
        }
    }
}

impl BreakerHandles {
    fn set(&self, state: &'static str, is_in: bool) {
        let breaker = self.breaker.clone();
        let gauge = gauge!(names::BREAKER_STATE, "breaker" => breaker, "state" => state);
        gauge.set(f64::from(u8::from(is_in)));
    }
}

/// Of a bulkhead that has a name.
#[derive(Clone)]
pub(crate) struct BulkheadFacts(Option<BulkheadHandles>);

#[derive(Clone)]
struct BulkheadHandles {
    in_use: Gauge,
    refused: Counter,
}

impl BulkheadFacts {
    pub(crate) fn new(bulkhead: Option<&Arc<str>>) -> Self {
        Self(bulkhead.map(|bulkhead| BulkheadHandles {
            in_use: gauge!(names::BULKHEAD_IN_USE, "bulkhead" => bulkhead.clone()),
            refused: counter!(names::BULKHEAD_REFUSED, "bulkhead" => bulkhead.clone()),
        }))
    }

    pub(crate) fn acquired(&self) {
        if let Some(handles) = &self.0 {
            handles.in_use.increment(1);
        }
    }

    pub(crate) fn released(&self) {
        if let Some(handles) = &self.0 {
            handles.in_use.decrement(1);
        }
    }

    pub(crate) fn refused(&self) {
        if let Some(handles) = &self.0 {
            handles.refused.increment(1);
        }
    }
}

/// Of a policy that has a name.
pub(crate) struct PolicyFacts(Option<PolicyHandles>);

struct PolicyHandles {
    policy: Arc<str>,
    succeeded: Counter,
}

impl PolicyFacts {
    pub(crate) fn new(policy: Option<&Arc<str>>) -> Self {
        Self(policy.map(|policy| PolicyHandles {
            policy: policy.clone(),
            succeeded: calls(policy, "succeeded"),
        }))
    }

    pub(crate) fn succeeded(&self) {
        if let Some(handles) = &self.0 {
            handles.succeeded.increment(1);
        }
    }

    pub(crate) fn failed(&self, outcome: &'static str) {
        if let Some(handles) = &self.0 {
            calls(&handles.policy, outcome).increment(1);
        }
    }

    pub(crate) fn fell_back(&self) {
        if let Some(handles) = &self.0 {
            counter!(names::POLICY_FALLBACKS, "policy" => handles.policy.clone()).increment(1);
        }
    }
}

fn calls(policy: &Arc<str>, outcome: &'static str) -> Counter {
    counter!(names::POLICY_CALLS, "policy" => policy.clone(), "outcome" => outcome)
}
