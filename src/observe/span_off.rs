//! Without the feature `tracing`: nothing, in the same shape.

use std::time::Duration;

use super::Breakpoint;
use crate::sync::Arc;

/// The span that something was asked for in.
#[derive(Clone, Debug)]
pub(crate) struct SpanContext;

impl SpanContext {
    #[inline(always)]
    pub(crate) fn here() -> Self {
        Self
    }

    #[inline(always)]
    pub(crate) fn enter(self) -> SpanGuard {
        SpanGuard
    }
}

/// Where events of another thread about something belong.
pub(crate) struct SpanOrigin;

impl SpanOrigin {
    #[inline(always)]
    pub(crate) fn here() -> Self {
        Self
    }
}

/// Inside a span until it is dropped.
#[derive(Debug)]
pub(crate) struct SpanGuard;

#[inline(always)]
pub(crate) fn breakpoint(_of: &Breakpoint<'_>) -> SpanGuard {
    SpanGuard
}

#[inline(always)]
pub(crate) fn marker(_of: &Breakpoint<'_>) {}

#[inline(always)]
pub(crate) fn overdue_pass(_of: &Breakpoint<'_>, _origin: &SpanOrigin) {}

#[inline(always)]
pub(crate) fn breaker_event(
    _name: &str,
    _from: &'static str,
    _to: &'static str,
    _reason: &'static str,
) {
}

#[inline(always)]
pub(crate) fn retry_event(_name: Option<&Arc<str>>, _attempt: u32, _delay: Duration) {}

#[inline(always)]
pub(crate) fn give_up_event(_name: Option<&Arc<str>>, _attempts: u32, _reason: &'static str) {}
