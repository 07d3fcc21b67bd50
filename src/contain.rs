//! Floor 0: code of the user, run where nothing may unwind.
//!
//! Callbacks, destructors of captured values, of results and of panic payloads: any of them may
//! panic, and where a panic is on its way already, or a thread serves others, a second one must not
//! get out.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Calls `code`; a panic ends here, and is all that is lost. `None` if there was one.
pub(crate) fn contain<T>(code: impl FnOnce() -> T) -> Option<T> {
    match catch_unwind(AssertUnwindSafe(code)) {
        Ok(value) => Some(value),
        Err(payload) => {
            discard(payload);
            None
        }
    }
}

/// Drops a value whose destructor may panic.
pub(crate) fn drop_contained<T>(value: T) {
    contain(|| drop(value));
}

/// Drops a payload whose own destructor may panic. The payload of that panic is let go: its
/// destructor may be the same.
pub(crate) fn discard(payload: Box<dyn Any + Send>) {
    if let Err(again) = catch_unwind(AssertUnwindSafe(|| drop(payload))) {
        std::mem::forget(again);
    }
}
