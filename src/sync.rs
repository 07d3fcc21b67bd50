//! Floor 0: the primitives that the protocols are made of.
//!
//! The one file that names parking_lot, std's atomics or the model checker. A protocol file
//! (`cancel/node.rs`, `cancel/hook.rs`, `channel/protocol.rs`, `group/latch.rs`) uses only what is
//! here, so that the same lines run in production and, built with `--cfg cleanbreak_loom`, under
//! [loom](https://docs.rs/loom), which runs every interleaving of a small scenario.
//!
//! What loom does not have is modelled here from its documented behaviour: a crossbeam channel
//! (queue, capacity, disconnection on the last sender) and a *gate*, the channel that carries
//! nothing and only disconnects. `Arc` and `Weak` are std's in both builds: loom's `Arc` has no
//! `Weak`, and the reference counts of std are not what we set out to prove.

pub(crate) use std::sync::{Arc, Weak};

/// Locks that the model checker does not see: for global tables, which outlive a modelled run, and
/// whose critical sections touch nothing that is modelled.
pub(crate) mod plain {
    pub(crate) use parking_lot::Mutex;
}

#[cfg(not(cleanbreak_loom))]
pub(crate) use real::*;

#[cfg(cleanbreak_loom)]
pub(crate) use model::*;

#[cfg(not(cleanbreak_loom))]
mod real {
    use std::convert::Infallible;

    pub(crate) use parking_lot::{Condvar, Mutex, MutexGuard};
    pub(crate) use std::sync::Once;
    pub(crate) use std::sync::atomic::{AtomicBool, Ordering};
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

    /// A short wait for another thread, longer with each `round`: first on the processor, then by
    /// giving it away.
    pub(crate) fn pause(round: u32) {
        if round < 4 {
            (0..1 << (round + 3)).for_each(|_| std::hint::spin_loop());
        } else {
            std::thread::yield_now();
        }
    }
}

#[cfg(cleanbreak_loom)]
mod model {
    use std::ops::{Deref, DerefMut};
    use std::sync::Arc;

    pub(crate) use loom::sync::atomic::{AtomicBool, Ordering};
    pub(crate) use loom::thread::ThreadId;

    pub(crate) fn current_thread() -> ThreadId {
        loom::thread::current().id()
    }

    pub(crate) fn pause(_round: u32) {
        loom::thread::yield_now();
    }

    /// loom's mutex with parking_lot's signatures.
    #[derive(Debug, Default)]
    pub(crate) struct Mutex<T>(loom::sync::Mutex<T>);

    /// The `Option` is empty only while a condition variable has the inner guard.
    pub(crate) struct MutexGuard<'a, T>(Option<loom::sync::MutexGuard<'a, T>>);

    impl<T> Mutex<T> {
        pub(crate) fn new(value: T) -> Self {
            Self(loom::sync::Mutex::new(value))
        }

        pub(crate) fn lock(&self) -> MutexGuard<'_, T> {
            MutexGuard(Some(self.0.lock().expect("poisoned")))
        }

        pub(crate) fn try_lock(&self) -> Option<MutexGuard<'_, T>> {
            self.0.try_lock().ok().map(|guard| MutexGuard(Some(guard)))
        }

        pub(crate) fn get_mut(&mut self) -> &mut T {
            self.0.get_mut().expect("poisoned")
        }
    }

    impl<T> Deref for MutexGuard<'_, T> {
        type Target = T;
        fn deref(&self) -> &T {
            self.0.as_ref().expect("guard lent to a condvar")
        }
    }

    impl<T> DerefMut for MutexGuard<'_, T> {
        fn deref_mut(&mut self) -> &mut T {
            self.0.as_mut().expect("guard lent to a condvar")
        }
    }

    #[derive(Debug)]
    pub(crate) struct Condvar(loom::sync::Condvar);

    impl Condvar {
        pub(crate) fn new() -> Self {
            Self(loom::sync::Condvar::new())
        }

        pub(crate) fn wait<T>(&self, guard: &mut MutexGuard<'_, T>) {
            let inner = guard.0.take().expect("guard lent to a condvar");
            guard.0 = Some(self.0.wait(inner).expect("poisoned"));
        }

        pub(crate) fn notify_all(&self) {
            self.0.notify_all();
        }

        pub(crate) fn notify_one(&self) {
            self.0.notify_one();
        }
    }

    /// `std::sync::Once`: later callers wait for the first one's closure.
    #[derive(Debug)]
    pub(crate) struct Once(Mutex<bool>);

    impl Once {
        pub(crate) fn new() -> Self {
            Self(Mutex::new(false))
        }

        pub(crate) fn call_once(&self, f: impl FnOnce()) {
            let mut done = self.0.lock();
            if !*done {
                f();
                *done = true;
            }
        }
    }

    #[derive(Debug)]
    struct Door {
        open: Mutex<bool>,
        opened: Condvar,
    }

    #[derive(Clone, Debug)]
    pub(crate) struct GateReceiver(Arc<Door>);
    #[derive(Debug)]
    pub(crate) struct GateSender(Arc<Door>);

    pub(crate) fn gate() -> (GateSender, GateReceiver) {
        let door = Arc::new(Door {
            open: Mutex::new(false),
            opened: Condvar::new(),
        });
        (GateSender(door.clone()), GateReceiver(door))
    }

    impl GateReceiver {
        /// Returns when the gate is open, as `recv` on the real one returns its error.
        pub(crate) fn recv(&self) {
            let mut open = self.0.open.lock();
            while !*open {
                self.0.opened.wait(&mut open);
            }
        }

        /// What `try_recv` tells of the real one.
        pub(crate) fn is_open(&self) -> bool {
            *self.0.open.lock()
        }
    }

    impl Drop for GateSender {
        fn drop(&mut self) {
            *self.0.open.lock() = true;
            self.0.opened.notify_all();
        }
    }
}
