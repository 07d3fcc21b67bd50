//! With the feature `tracing`: spans that are inherited, and those of loops.

use tracing::span::EnteredSpan;
use tracing::{Span, info_span, warn, warn_span};

use super::Breakpoint;

/// The span that something was asked for in: who runs it later runs it inside.
#[derive(Clone, Debug)]
pub(crate) struct SpanContext(Span);

impl SpanContext {
    pub(crate) fn here() -> Self {
        Self(Span::current())
    }

    /// A reference to the span, so it is closed when whoever opened it has, and this task.
    pub(crate) fn enter(&self) -> SpanGuard {
        SpanGuard(self.0.clone().entered())
    }
}

/// Inside a span until it is dropped.
#[derive(Debug)]
pub(crate) struct SpanGuard(#[allow(dead_code, reason = "its drop leaves the span")] EnteredSpan);

/// One level for the routine, one for what somebody should look at; the attributes are the same.
macro_rules! pass_span {
    ($level:ident, $of:expr) => {
        $level!(
            target: "cleanbreak::loop",
            "loop.pass",
            "loop.name" = $of.name,
            "loop.iteration" = $of.iteration,
            "loop.total_count" = $of.total,
            "loop.interval" = $of.interval,
            "loop.is_last" = $of.exit.is_some(),
            "loop.is_breakpoint" = $of.regular,
            "loop.exit" = $of.exit,
            "loop.slow_ms" = $of.slow.map(|slow| slow.as_secs_f64() * 1e3),
        )
    };
}

/// Opens and enters the span of a pass.
pub(crate) fn breakpoint(of: &Breakpoint<'_>) -> SpanGuard {
    let span = match of.alarming {
        true => pass_span!(warn_span, of),
        false => pass_span!(info_span, of),
    };
    SpanGuard(span.entered())
}

/// An empty span, about a pass that has ended.
pub(crate) fn marker(of: &Breakpoint<'_>) {
    let _empty = breakpoint(of);
}

/// A pass that is over its time and still runs, from the thread that watches it.
pub(crate) fn overdue_pass(of: &Breakpoint<'_>) {
    warn!(
        target: "cleanbreak::loop",
        {
            "loop.name" = of.name,
            "loop.iteration" = of.iteration,
            "loop.slow_ms" = of.slow.map(|slow| slow.as_secs_f64() * 1e3),
        },
        "a pass is over its time, and still runs"
    );
}
