//! Floor 0: the primitives that the protocols are made of.
//!
//! The one place that names parking_lot and std's atomics. A protocol file (`cancel/node.rs`,
//! `cancel/hook.rs`, `channel/protocol.rs`, `group/queue.rs`) uses only what is here, so that the
//! same lines run in production and, included by `tests/model` beside a twin of this module, under
//! [loom](https://docs.rs/loom), which runs every interleaving of a small scenario.

mod brief;
pub(crate) mod chan;
#[cfg(feature = "chaos")]
mod early;

pub(crate) use std::sync::{Arc, Weak};

/// Locks that the model checker does not see: for global tables, which outlive a modelled run, and
/// whose critical sections touch nothing that is modelled.
pub(crate) mod plain {
    pub(crate) use parking_lot::Mutex;
}

use std::convert::Infallible;

pub(crate) use brief::{BriefMutex, BriefMutexGuard};
#[cfg(feature = "chaos")]
pub(crate) use early::Condvar;
#[cfg(not(feature = "chaos"))]
pub(crate) use parking_lot::Condvar;
pub(crate) use parking_lot::{Mutex, MutexGuard};
pub(crate) use std::sync::Once;
pub(crate) use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use std::thread::ThreadId;

/// The end that a wait holds: nothing ever comes, it only disconnects.
pub(crate) type GateReceiver = crossbeam_channel::Receiver<Infallible>;
/// The end that opens the gate for every waiter by being dropped.
pub(crate) type GateSender = crossbeam_channel::Sender<Infallible>;

/// A closed gate. The list flavour, because looking at it takes no lock (the rendezvous
/// flavour's does) and because it allocates no block before a first message.
pub(crate) fn gate() -> (GateSender, GateReceiver) {
    crossbeam_channel::unbounded()
}

pub(crate) fn current_thread() -> ThreadId {
    std::thread::current().id()
}

/// How long to try again before parking: the schedule of crossbeam's own blocking calls, so
/// that a wait of ours parks neither sooner nor later than one of theirs.
pub(crate) struct Backoff(u32);

impl Backoff {
    const SPINS: u32 = 6;
    const YIELDS: u32 = 10;

    pub(crate) fn new() -> Self {
        Self(0)
    }

    /// Lets a sender that is at work get some values ahead, without a look at the channel in
    /// between: two threads that meet at every value pay for moving its memory from core to core
    /// each time. Some hundred nanoseconds, no more than the wait for one such move or two.
    pub(crate) fn linger() {
        (0..16).for_each(|_| std::hint::spin_loop());
    }

    /// Spins, later yields; `false` when it is time to park instead.
    pub(crate) fn snooze(&mut self) -> bool {
        if self.0 > Self::YIELDS {
            return false;
        }
        if self.0 <= Self::SPINS {
            (0..1_u32 << self.0).for_each(|_| std::hint::spin_loop());
        } else {
            std::thread::yield_now();
        }
        self.0 += 1;
        true
    }
}
