//! Tokens with a deadline that serve several calls, one after the other.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::cancel::CancelToken;
use crate::clock::Instant;
use crate::contain::drop_contained;
use crate::sync::Mutex;

/// How many threads find a spare of their own.
const SLOTS: usize = 8;

/// Tokens that nobody has kept anything of, for the next call.
pub(super) struct Spares {
    slack: Duration,
    slots: [Mutex<Option<CancelToken>>; SLOTS],
}

thread_local! {
    /// Spreads threads over the slots.
    static SLOT: usize = {
        // Relaxed: any spread will do.
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        NEXT.fetch_add(1, Ordering::Relaxed) % SLOTS
    };
}

impl Spares {
    pub(super) fn new(slack: Duration) -> Self {
        let slots = std::array::from_fn(|_| Mutex::new(None));
        Self { slack, slots }
    }

    pub(super) fn slack(&self) -> Duration {
        self.slack
    }

    fn slot(&self) -> &Mutex<Option<CancelToken>> {
        &self.slots[SLOT.with(|slot| *slot)]
    }

    /// A child of `token` whose deadline is at `earliest`, or up to the slack later.
    pub(super) fn child_of(&self, token: &CancelToken, earliest: Instant) -> CancelToken {
        let latest = earliest.checked_add(self.slack).unwrap_or(earliest);
        let spare = self.slot().lock().take();
        match spare {
            Some(spare) if fits(&spare, token, earliest, latest) => spare,
            _ => token.child_deadline(latest),
        }
    }

    pub(super) fn give_back(&self, child: CancelToken) {
        if child.is_untouched() {
            let before = self.slot().lock().replace(child);
            drop_contained(before);
        }
    }
}

/// Whether `spare` is as good as a new child of `token` with a deadline in the given time.
fn fits(spare: &CancelToken, token: &CancelToken, earliest: Instant, latest: Instant) -> bool {
    let in_time = match (spare.deadline(), token.deadline()) {
        (Some(at), Some(inherited)) if inherited < earliest => at == inherited,
        (Some(at), _) => earliest <= at && at <= latest,
        (None, _) => false,
    };
    in_time && spare.is_child_of(token) && spare.is_untouched()
}
