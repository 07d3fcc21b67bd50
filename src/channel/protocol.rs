//! How a channel closes while others send.
//!
//! A crossbeam channel ends for its receivers when its last `Sender` is dropped, so closing means
//! to take every `Sender` away. Each handle keeps its own in a *slot*, a mutex that only this
//! handle and the closer ever lock; a send holds the slot while it uses the `Sender`. Taking the
//! slot is therefore the point at which close and send are ordered.
//!
//! # Invariants
//!
//! 1. A `Sender` of the channel exists only in `Open::master`, in a slot listed in `Open::slots`,
//!    or on the stack of a send, close or drop that is running.
//! 2. `closed` is set before anything is taken away, and stays set.
//! 3. `open` goes from `Some` to `None` once, inside `shut`; from then on no `Sender` is cloned
//!    and no slot is filled.
//! 4. When `shut` has run, every slot is empty. With 1 and 3: what can still send is a send that
//!    had borrowed from `master` before, and the channel ends for its receivers when that is over.
//! 5. `Core::rx` lives as long as any handle. So crossbeam never disconnects the channel from the
//!    receiving side, dropping a `Sender` never drops a message, and no user code runs in `shut`.
//! 6. A thread that blocks in a send waits for the gate too, and the gate opens before `shut` locks
//!    the first slot. So `shut` waits for no receiver.
//!
//! # Lock order
//!
//! None is nested: `open` and each slot are held alone. The one exception is a send that finds its
//! slot taken by another thread: it holds nothing when it locks `open`.
//!
//! # Rejected
//!
//! A flag in front of the channel: a sender passes the check, stalls, and pushes after the drain.
//! A count of sends in flight: one contended line for all senders, and receivers would have to be
//! told of the end by something that `select!` cannot see. Dropping the one `Sender` under the
//! feet of those who use it: as fast as crossbeam, and sound only by the grace of its internals.

use super::{Shown, blocking};
use crate::sync::chan::{Receiver, Sender, TrySendError, Unsent, has_fired, send_or_stop};
use crate::sync::{
    Arc, AtomicBool, Backoff, BriefMutex, BriefMutexGuard, GateReceiver, GateSender, Mutex, Once,
    Ordering, gate,
};
use std::collections::BTreeMap;
use std::ops::Deref;
use std::time::Instant;

/// Keeps what one thread writes off the cache lines of its neighbours (128: the adjacent-line
/// prefetcher fetches pairs).
#[repr(align(128))]
struct Padded<T>(T);

type Slot<T> = Padded<BriefMutex<Option<Sender<T>>>>;

/// What all handles of a channel share.
pub(crate) struct Core<T> {
    /// Read by every send, written once.
    closed: Padded<AtomicBool>,
    /// Runs `shut`, and makes the closers that lost wait for the one that won.
    shut: Once,
    /// Opens with the first close.
    gate: GateReceiver,
    open: Mutex<Option<Open<T>>>,
    rx: Receiver<T>,
}

/// What there is to take away.
struct Open<T> {
    master: Sender<T>,
    gate: GateSender,
    /// One per sending handle, by its id: a dropped handle leaves nothing, and the map is empty
    /// exactly when the last one has gone.
    slots: BTreeMap<u64, Arc<Slot<T>>>,
    next_id: u64,
}

/// A sending handle.
pub(crate) struct Handle<T> {
    slot: Arc<Slot<T>>,
    core: Arc<Core<T>>,
    id: u64,
}

/// Held by every receiving handle: the last one to go closes the channel and drops the backlog.
pub(crate) struct LastReceiver<T>(Arc<Core<T>>);

/// How long a blocking call may take.
#[derive(Clone, Copy, Default)]
pub(crate) struct Limit<'a> {
    pub(crate) deadline: Option<Instant>,
    pub(crate) stop: Option<&'a GateReceiver>,
    pub(super) shown: Shown<'a>,
}

/// A `Sender` for the length of one send.
enum Entry<'a, T> {
    Own(BriefMutexGuard<'a, Option<Sender<T>>>),
    Borrowed(Sender<T>),
}

pub(crate) fn new<T>(master: Sender<T>, rx: Receiver<T>) -> (Handle<T>, LastReceiver<T>) {
    let (gate_tx, gate_rx) = gate();
    let core = Arc::new(Core {
        closed: Padded(AtomicBool::new(false)),
        shut: Once::new(),
        gate: gate_rx,
        open: Mutex::new(Some(Open {
            master,
            gate: gate_tx,
            slots: BTreeMap::new(),
            next_id: 0,
        })),
        rx,
    });
    (Core::handle(&core), LastReceiver(core))
}

impl<T> Core<T> {
    fn handle(core: &Arc<Self>) -> Handle<T> {
        let mut open = core.open.lock();
        let (id, slot) = match open.as_mut() {
            Some(open) => open.add_slot(),
            None => (0, Arc::new(Padded(BriefMutex::new(None)))),
        };
        drop(open);
        Handle {
            slot,
            core: core.clone(),
            id,
        }
    }

    #[inline]
    pub(crate) fn is_closed(&self) -> bool {
        // Acquire, paired with the swap in `close`: who sees it set also sees what the closer did
        // before. No more is asked of it (the slots order sends and close); it makes a send that
        // begins while a close is under way refuse early, so that a busy sender cannot keep the
        // closer waiting for its slot.
        self.closed.0.load(Ordering::Acquire)
    }

    /// Returns when no send can begin any more; `true` to exactly one caller.
    pub(crate) fn close(&self) -> bool {
        // One total order of the swaps picks the winner. Release, paired with the load in
        // `is_closed`; Acquire, so that a loser is ordered after the winner's preparations.
        let first = !self.closed.0.swap(true, Ordering::AcqRel);
        // Also publishes: whoever returns from here sees all that `shut` did.
        self.shut.call_once(|| self.shut());
        first
    }

    fn shut(&self) {
        // The guard goes with this statement: from here on nothing is locked but one slot at a time.
        let open = self.open.lock().take();
        let open = open.expect("taken only here (3)");
        drop(open.gate);
        for slot in open.slots.values() {
            // A send that has the slot has either been woken by the gate or is on its way out.
            let taken = slot.0.lock().take();
            drop(taken);
        }
        drop(open.master);
    }

    /// All that no receiver took, including what is still being sent: it returns when the last
    /// send in flight is over (4), which waits for no receiver (6).
    pub(crate) fn close_and_drain(&self) -> Vec<T> {
        self.close();
        std::iter::from_fn(|| self.rx.recv().ok()).collect()
    }

    pub(crate) fn receiver(&self) -> &Receiver<T> {
        &self.rx
    }

    /// How many sending handles are listed; `None` once closed.
    #[cfg(test)]
    pub(crate) fn listed(&self) -> Option<usize> {
        self.open.lock().as_ref().map(|open| open.slots.len())
    }

    fn borrow_sender(&self) -> Option<Sender<T>> {
        self.open.lock().as_ref().map(|open| open.master.clone())
    }

    /// The channel was full: try again for a while, then park.
    #[cold]
    fn send_full(&self, tx: &Sender<T>, mut value: T, limit: Limit<'_>) -> Result<(), Unsent<T>> {
        let mut backoff = Backoff::new();
        while backoff.snooze() {
            if self.is_closed() {
                return Err(Unsent::Closed(value));
            }
            if limit.is_stopped() {
                return Err(Unsent::Stopped(value));
            }
            value = match tx.try_send(value) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Disconnected(value)) => return Err(Unsent::Closed(value)),
                Err(TrySendError::Full(value)) => value,
            };
        }
        send_or_stop(tx, value, &self.gate, limit.stop, limit.deadline)
    }
}

impl<T> Open<T> {
    fn add_slot(&mut self) -> (u64, Arc<Slot<T>>) {
        let slot = Arc::new(Padded(BriefMutex::new(Some(self.master.clone()))));
        let id = self.next_id;
        self.next_id += 1;
        self.slots.insert(id, slot.clone());
        (id, slot)
    }
}

impl<T> Handle<T> {
    pub(crate) fn core(&self) -> &Arc<Core<T>> {
        &self.core
    }

    #[inline]
    pub(crate) fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        match self.enter() {
            Some(tx) => tx.try_send(value),
            None => Err(TrySendError::Disconnected(value)),
        }
    }

    #[inline]
    #[track_caller]
    pub(crate) fn send(&self, value: T, limit: Limit<'_>) -> Result<(), Unsent<T>> {
        if limit.is_stopped() {
            return Err(Unsent::Stopped(value));
        }
        let Some(tx) = self.enter() else {
            return Err(Unsent::Closed(value));
        };
        match tx.try_send(value) {
            Ok(()) => Ok(()),
            Err(TrySendError::Disconnected(value)) => Err(Unsent::Closed(value)),
            Err(TrySendError::Full(value)) => blocking("send into a channel", limit.shown, || {
                self.core.send_full(&tx, value, limit)
            }),
        }
    }

    /// The `Sender` to use for one send, or `None` when closed.
    ///
    /// The slot is taken by another thread only if that one sends through this very handle, or
    /// closes. Waiting for it could last as long as a blocked send, so borrow from `master`: that
    /// tells the two apart as well (3).
    #[inline]
    fn enter(&self) -> Option<Entry<'_, T>> {
        if self.core.is_closed() {
            return None;
        }
        match self.slot.0.try_lock() {
            Some(slot) => slot.is_some().then_some(Entry::Own(slot)),
            None => self.core.borrow_sender().map(Entry::Borrowed),
        }
    }
}

impl<T> Deref for Entry<'_, T> {
    type Target = Sender<T>;

    #[inline]
    fn deref(&self) -> &Sender<T> {
        match self {
            Entry::Own(slot) => slot.as_ref().expect("entered through a filled slot"),
            Entry::Borrowed(tx) => tx,
        }
    }
}

impl<T> Clone for Handle<T> {
    fn clone(&self) -> Self {
        Core::handle(&self.core)
    }
}

impl<T> Drop for Handle<T> {
    fn drop(&mut self) {
        let mut open = self.core.open.lock();
        let Some(state) = open.as_mut() else {
            return;
        };
        let slot = state.slots.remove(&self.id);
        let last = state.slots.is_empty();
        drop(open);
        // Frees the slot's `Sender` with the handle, outside the lock.
        drop(slot);
        if last {
            self.core.close();
        }
    }
}

impl<T> LastReceiver<T> {
    pub(crate) fn core(&self) -> &Arc<Core<T>> {
        &self.0
    }
}

impl<T> Drop for LastReceiver<T> {
    fn drop(&mut self) {
        // Collected first: a vector goes on dropping its items when the drop of one panics.
        drop(self.0.close_and_drain());
    }
}

impl Limit<'_> {
    #[inline]
    fn is_stopped(&self) -> bool {
        self.stop.is_some_and(has_fired)
    }
}
