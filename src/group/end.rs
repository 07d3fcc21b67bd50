//! How a group ends: the first failure, kept and told.
//!
//! # Invariants
//!
//! 1. The first error or break is stored before the token is cancelled (G2). Who is told finds it
//!    there, so what a sibling returns because it was told comes second.
//! 2. Who comes second returns with the token cancelled too, and with the first one's words as its
//!    cause: the first may not have come so far yet.
//! 3. The token is cancelled with no lock held.

use std::any::Any;
use std::fmt;

use super::list::Shown;
use super::queue::Queue;
use super::straggler::Watch;
use crate::cancel::{CancelToken, Cause};
use crate::contain::{contain, discard, drop_contained};
use crate::fault::{self, At};
use crate::roll::Listed;
use crate::sync::{Arc, Mutex};
use crate::threads::{Awaits, Part};

/// The payload of a panic.
pub(super) type Payload = Box<dyn Any + Send>;

/// What ended a group early.
pub(super) enum First<E, B> {
    Error(E),
    Break(B),
}

/// The result of a group, while it is being found.
pub(super) struct End<E, B> {
    shown: Arc<Shown>,
    /// For as long as this lives.
    _listed: Listed<Shown>,
    watch: Watch,
    kept: Mutex<Kept<E, B>>,
}

struct Kept<E, B> {
    first: Option<First<E, B>>,
    /// Why the first cancels the group.
    why: Option<Cause>,
    panic: Option<Payload>,
}

impl<E, B> End<E, B> {
    pub(super) fn new((shown, listed): (Arc<Shown>, Listed<Shown>), watch: Watch) -> Self {
        let kept = Mutex::new(Kept {
            first: None,
            why: None,
            panic: None,
        });
        Self {
            shown,
            _listed: listed,
            watch,
            kept,
        }
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.shown.name
    }

    pub(super) fn queue(&self) -> &Arc<Queue> {
        &self.shown.queue
    }

    /// Waits until every task has ended.
    #[track_caller]
    pub(super) fn await_all(&self) {
        fault::pass(At::GroupJoin);
        self.watch.await_end(&self.shown);
    }

    /// Waits until the task of this key has `ended`.
    #[track_caller]
    pub(super) fn await_task(&self, key: usize, ended: &dyn Fn() -> bool) {
        self.watch.await_task(&self.shown, key, ended);
    }

    /// The wait for a place, which a cancel ends.
    pub(super) fn place(&self) -> Awaits {
        self.shown.wait_for(Part::Place)
    }

    pub(super) fn token(&self) -> &CancelToken {
        &self.shown.token
    }

    /// Keeps an error or a break if it is the first; otherwise hands it back. The group is
    /// cancelled either way (2).
    pub(super) fn first(&self, first: First<E, B>, why: String) -> Result<(), First<E, B>> {
        let mut kept = self.kept.lock();
        let why = kept.why.get_or_insert_with(|| why.into()).clone();
        let refused = match kept.first {
            None => {
                kept.first = Some(first);
                Ok(())
            }
            Some(_) => Err(first),
        };
        drop(kept);
        self.shown.token.cancel_with(why);
        refused
    }

    /// Keeps the payload of a panic if it is the first, and cancels the group.
    pub(super) fn panicked(&self, payload: Payload, who: &str) {
        let mut kept = self.kept.lock();
        let late = match &mut kept.panic {
            Some(_) => Some(payload),
            none => {
                *none = Some(payload);
                None
            }
        };
        drop(kept);
        self.shown.token.cancel_with(format!("{who} panicked"));
        if let Some(late) = late {
            discard(late);
        }
    }

    /// The end, when every task has been joined: `Err` is the payload of the first panic.
    pub(super) fn take_first(&self) -> Result<Option<First<E, B>>, Payload> {
        let mut kept = self.kept.lock();
        let (first, panic) = (kept.first.take(), kept.panic.take());
        drop(kept);
        match panic {
            None => Ok(first),
            Some(payload) => {
                drop_contained(first);
                Err(payload)
            }
        }
    }
}

/// What a failure says in the cause of the cancellation. `Display` is the user's code: if it panics
/// the failure is kept all the same, and only its words are lost.
pub(super) fn why(who: &dyn fmt::Display, error: &dyn fmt::Display) -> String {
    contain(|| format!("{who} failed: {error:#}")).unwrap_or_else(|| {
        format!("{who} failed, and its error panicked when it was asked for its message")
    })
}
