//! On whose behalf a thread runs: for a check that must tell a test's threads from its neighbours'.

use std::cell::RefCell;

use crate::fault::{Line, LineGuard};
use crate::observe::{SpanContext, SpanGuard};
use crate::sync::Arc;

thread_local! {
    static MARK: RefCell<Option<Arc<Mark>>> = const { RefCell::new(None) };
}

/// What threads and tasks inherit from who asked for them: nothing, or a mark and all around it; and
/// whose faults they have.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin {
    mark: Option<Arc<Mark>>,
    line: Line,
}

#[derive(Debug)]
struct Mark {
    outer: Option<Arc<Self>>,
}

fn mark_here() -> Option<Arc<Mark>> {
    let mark = MARK.try_with(|mark| mark.borrow().clone());
    mark.unwrap_or_default()
}

impl Origin {
    /// That of the calling thread.
    pub(crate) fn here() -> Self {
        let (mark, line) = (mark_here(), Line::here());
        Self { mark, line }
    }

    /// Of a thread that the calling one starts.
    pub(super) fn of_new_thread() -> Self {
        let (mark, line) = (mark_here(), Line::of_new_thread());
        Self { mark, line }
    }

    /// Of a task that the calling thread submits.
    fn of_new_task() -> Self {
        let (mark, line) = (mark_here(), Line::of_new_task());
        Self { mark, line }
    }

    /// Nobody's: for what the whole process shares.
    pub(crate) const fn nobody() -> Self {
        Self {
            mark: None,
            line: Line::nobody(),
        }
    }

    /// A new mark, inside that of the calling thread.
    pub(crate) fn mark() -> Self {
        let outer = mark_here();
        Self {
            mark: Some(Arc::new(Mark { outer })),
            line: Line::here(),
        }
    }

    /// Makes it that of the calling thread, until the guard is dropped.
    pub(crate) fn enter(&self) -> OriginGuard {
        let enter = |mark: &RefCell<Option<Arc<Mark>>>| mark.replace(self.mark.clone());
        let before = MARK.try_with(enter).unwrap_or_default();
        let _line = self.line.enter();
        OriginGuard { before, _line }
    }

    fn is_nobody(&self) -> bool {
        self.mark.is_none() && self.line.is_nobody()
    }

    /// Whether it is `mark`, or inside it.
    pub(crate) fn is_within(&self, mark: &Self) -> bool {
        let Some(mark) = &mark.mark else { return false };
        let mut at = &self.mark;
        while let Some(own) = at {
            if Arc::ptr_eq(own, mark) {
                return true;
            }
            at = &own.outer;
        }
        false
    }
}

/// Puts back what was before.
#[derive(Debug)]
pub(crate) struct OriginGuard {
    before: Option<Arc<Mark>>,
    _line: LineGuard,
}

impl Drop for OriginGuard {
    fn drop(&mut self) {
        let before = std::mem::take(&mut self.before);
        let ours = MARK.try_with(|mark| mark.replace(before));
        drop(ours);
    }
}

/// All that a task inherits from where it was spawned or submitted.
#[derive(Clone, Debug)]
pub(crate) struct Inherited {
    span: SpanContext,
    origin: Origin,
}

/// Inside what was inherited until it is dropped.
pub(crate) struct InheritedGuard {
    _span: SpanGuard,
    /// None where nothing changes, which is nearly always.
    _origin: Option<OriginGuard>,
}

impl Inherited {
    pub(crate) fn here() -> Self {
        Self {
            span: SpanContext::here(),
            origin: Origin::of_new_task(),
        }
    }

    /// It was for a task that was refused.
    pub(crate) fn give_back(self) {
        self.origin.line.give_back();
    }

    pub(crate) fn enter(self) -> InheritedGuard {
        InheritedGuard {
            _span: self.span.enter(),
            _origin: (!self.origin.is_nobody()).then(|| self.origin.enter()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_is_within_itself_and_those_around_it_and_ends_with_its_guard() {
        let outer = Origin::mark();
        let in_outer = outer.enter();
        let inner = Origin::mark();
        let in_inner = inner.enter();
        assert!(Origin::here().is_within(&inner) && Origin::here().is_within(&outer));
        drop(in_inner);
        assert!(Origin::here().is_within(&outer) && !Origin::here().is_within(&inner));
        drop(in_outer);
        assert!(!Origin::here().is_within(&outer));
        assert!(
            !Origin::here().is_within(&Origin::nobody()),
            "nobody's is not a mark"
        );
    }
}
