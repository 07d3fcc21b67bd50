//! What a child is given.

use std::fmt;

use crate::cancel::CancelToken;
use crate::sync::{Arc, AtomicBool, Ordering};

/// What one run of a child is given: its token, and the means to say that it is ready.
pub struct Context {
    pub(super) name: Arc<str>,
    pub(super) token: CancelToken,
    pub(super) supervisor: CancelToken,
    pub(super) restarts: u64,
    pub(super) ready: Ready,
}

pub(super) struct Ready {
    said: AtomicBool,
    say: Box<dyn Fn() + Send + Sync>,
}

impl Ready {
    pub(super) fn new(say: impl Fn() + Send + Sync + 'static) -> Self {
        Self {
            said: AtomicBool::new(false),
            say: Box::new(say),
        }
    }
}

impl Context {
    /// The token of this run, cancelled when the child is to stop.
    ///
    /// Cancelling it yourself stops this child for good: it is not started again, whatever it then
    /// returns. It is not a child of the supervisor's token, so that the supervisor can keep an
    /// order; it is on the same clock.
    #[must_use]
    pub fn token(&self) -> &CancelToken {
        &self.token
    }

    /// Says that it is ready: who waits for that goes on, such as the next child. Only the first
    /// call counts.
    pub fn ready(&self) {
        // Relaxed: nothing is published by it; the message that is sent brings its own order.
        if !self.ready.said.swap(true, Ordering::Relaxed) {
            (self.ready.say)();
        }
    }

    /// The supervisor's token. Cancelling it stops all children, in order, this one among them.
    #[must_use]
    pub fn supervisor(&self) -> &CancelToken {
        &self.supervisor
    }

    /// How often this child has been started again; 0 on its first run.
    #[must_use]
    pub fn restarts(&self) -> u64 {
        self.restarts
    }

    /// Name of the child.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Debug for Context {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Context")
            .field("name", &self.name)
            .field("restarts", &self.restarts)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}
