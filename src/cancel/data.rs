//! What a token keeps in its node: clock, deadline and timer.

use std::sync::OnceLock;

use super::cause::{CancelKind, Cancelled};
use super::node::{Extra, Node};
use crate::clock::{Clock, Instant, Timed, Timer};
use crate::observe;
use crate::sync::Arc;
use crate::threads::{self, TokenPath};

pub(super) type TokenNode = Node<Data>;

/// What a token keeps in its node.
pub(super) struct Data {
    pub(super) clock: Clock,
    /// The earliest on the path to the root.
    pub(super) deadline: Option<Instant>,
    /// The deadline is not that of the one parent: a sweep must look at it.
    pub(super) own_deadline: bool,
    pub(super) never: bool,
    /// Present if the deadline is this token's own. Set once, before the token is handed out.
    pub(super) timer: OnceLock<Box<Timer>>,
}

const fn deadline_exceeded() -> Cancelled {
    Cancelled::new(CancelKind::DeadlineExceeded, None)
}

impl Data {
    #[inline]
    pub(super) fn new(clock: Clock, deadline: Option<Instant>) -> Self {
        Self {
            clock,
            deadline,
            own_deadline: false,
            never: false,
            timer: OnceLock::new(),
        }
    }
}

impl Extra for Data {
    fn overdue(&self) -> Option<Cancelled> {
        let deadline = self.deadline.filter(|_| self.own_deadline)?;
        (deadline <= self.clock.now()).then(deadline_exceeded)
    }
}

impl Timed for TokenNode {
    fn fire(self: Arc<Self>, _due: Instant, _now: Instant) -> Option<Instant> {
        self.expire();
        None
    }
}

impl TokenNode {
    pub(super) fn first_parent(&self) -> Option<&Self> {
        self.parents().next().map(|parent| &**parent)
    }

    pub(super) fn expire(self: &Arc<Self>) {
        if self.cancel(&deadline_exceeded()) {
            observe::cancellation(true);
        }
    }
}

/// How much of a path is shown.
const PATH: usize = 16;

impl threads::Path for TokenNode {
    fn path(&self) -> TokenPath {
        let address = |node: &Self| std::ptr::from_ref(node).addr();
        let mut nodes = std::iter::successors(Some(self), |node| node.first_parent());
        let mut ids: Vec<_> = nodes.by_ref().take(PATH).map(address).collect();
        ids.reverse();
        TokenPath {
            ids,
            cut: nodes.next().is_some(),
            cancelled: self.is_cancelled(),
        }
    }
}
