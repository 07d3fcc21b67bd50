//! In place of `users` where nobody looks: nothing, at no cost.

use crate::threads::Awaits;

#[derive(Clone)]
pub(super) struct End;

impl End {
    pub(super) fn pair() -> (Self, Self) {
        (Self, Self)
    }

    #[inline]
    pub(super) fn is_used(&self) {}

    #[inline]
    pub(super) fn waits(&self) -> Awaits {
        Awaits::default()
    }
}
