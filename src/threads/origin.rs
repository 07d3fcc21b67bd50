//! On whose behalf a thread runs: for a check that must tell a test's threads from its neighbours'.

use std::cell::RefCell;

use crate::observe::{SpanContext, SpanGuard};
use crate::sync::Arc;

thread_local! {
    static ORIGIN: RefCell<Origin> = const { RefCell::new(Origin(None)) };
}

/// What threads and tasks inherit from who asked for them: nothing, or a mark and all around it.
#[derive(Clone, Debug, Default)]
pub(crate) struct Origin(Option<Arc<Mark>>);

#[derive(Debug)]
struct Mark {
    outer: Origin,
}

impl Origin {
    /// That of the calling thread.
    pub(crate) fn here() -> Self {
        let origin = ORIGIN.try_with(|origin| origin.borrow().clone());
        origin.unwrap_or_default()
    }

    /// Nobody's: for what the whole process shares.
    pub(crate) const fn nobody() -> Self {
        Self(None)
    }

    /// A new mark, inside that of the calling thread.
    pub(crate) fn mark() -> Self {
        let outer = Self::here();
        Self(Some(Arc::new(Mark { outer })))
    }

    /// Makes it that of the calling thread, until the guard is dropped.
    pub(crate) fn enter(&self) -> OriginGuard {
        let enter = |origin: &RefCell<Self>| origin.replace(self.clone());
        let before = ORIGIN.try_with(enter).unwrap_or_default();
        OriginGuard { before }
    }

    /// Whether it is `mark`, or inside it.
    pub(crate) fn is_within(&self, mark: &Self) -> bool {
        let Some(mark) = &mark.0 else { return false };
        let mut at = self;
        while let Some(own) = &at.0 {
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
    before: Origin,
}

impl Drop for OriginGuard {
    fn drop(&mut self) {
        let before = std::mem::take(&mut self.before);
        let ours = ORIGIN.try_with(|origin| origin.replace(before));
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
            origin: Origin::here(),
        }
    }

    pub(crate) fn enter(self) -> InheritedGuard {
        InheritedGuard {
            _span: self.span.enter(),
            _origin: self.origin.0.is_some().then(|| self.origin.enter()),
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
