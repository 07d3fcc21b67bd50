//! With the feature `tracing`: spans that are inherited, and those of loops.

use tracing::dispatcher::{self, Dispatch};
use tracing::span::{EnteredSpan, Id};
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
    pub(crate) fn enter(self) -> SpanGuard {
        SpanGuard(self.0.entered())
    }
}

/// Where events of another thread about something belong: the span that it was started in, if
/// that is still open. Does not hold it open, as what is watched may live as long as the program.
pub(crate) struct SpanOrigin {
    /// Of the thread that started it: ids mean something to this one only.
    dispatch: Dispatch,
    span: Option<Id>,
}

impl SpanOrigin {
    pub(crate) fn here() -> Self {
        Self {
            dispatch: dispatcher::get_default(Dispatch::clone),
            span: Span::current().id(),
        }
    }
}

/// Inside a span until it is dropped.
#[derive(Debug)]
pub(crate) struct SpanGuard(#[allow(dead_code, reason = "its drop leaves the span")] EnteredSpan);

/// OpenTelemetry has no unsigned numbers: as such they would arrive as text.
fn int(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

/// One level for the routine, one for what somebody should look at; the attributes are the same.
macro_rules! pass_span {
    ($level:ident, $of:expr) => {
        $level!(
            target: "cleanbreak::loop",
            "loop.pass",
            "loop.name" = $of.name,
            "loop.iteration" = int($of.iteration),
            "loop.total_count" = $of.total.map(int),
            "loop.interval" = int($of.interval),
            "loop.is_last" = $of.exit.is_some(),
            "loop.is_breakpoint" = $of.regular,
            "loop.exit" = $of.exit,
            "loop.slow_ms" = $of.slow.map(|slow| slow.as_secs_f64() * 1e3),
            "otel.status_code" = $of.failed.then_some("ERROR"),
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
pub(crate) fn overdue_pass(of: &Breakpoint<'_>, origin: &SpanOrigin) {
    dispatcher::with_default(&origin.dispatch, || {
        warn!(
            target: "cleanbreak::loop",
            parent: origin.span.clone(),
            {
                "loop.name" = of.name,
                "loop.iteration" = int(of.iteration),
                "loop.slow_ms" = of.slow.map(|slow| slow.as_secs_f64() * 1e3),
            },
            "a pass is over its time, and still runs"
        );
    });
}
