//! Without the feature `tracing`: nothing, in the same shape.

use super::Breakpoint;

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
