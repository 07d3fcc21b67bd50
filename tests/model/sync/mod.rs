//! The model's twin of `src/sync`: loom's primitives with the signatures that the protocols use.
//!
//! What loom does not have is modelled from its documented behaviour: a crossbeam channel (queue,
//! capacity, disconnection on the last sender) and the gate. `Arc` and `Weak` are std's in both:
//! loom's `Arc` has no `Weak`, and the reference counts of std are not what we set out to prove.

pub(crate) mod chan;

pub(crate) use std::sync::{Arc, Weak};

/// Locks that the checker does not see; see the twin.
pub(crate) mod plain {
    pub(crate) use parking_lot::Mutex;
}

use std::ops::{Deref, DerefMut};

pub(crate) use loom::sync::atomic::{AtomicBool, AtomicU64, Ordering};
pub(crate) use loom::thread::ThreadId;

pub(crate) fn current_thread() -> ThreadId {
    loom::thread::current().id()
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

    /// No time passes in the model: it waits for a notification.
    pub(crate) fn wait_until<T>(
        &self,
        guard: &mut MutexGuard<'_, T>,
        _deadline: std::time::Instant,
    ) -> WaitTimeoutResult {
        self.wait(guard);
        WaitTimeoutResult
    }

    pub(crate) fn notify_all(&self) {
        self.0.notify_all();
    }

    pub(crate) fn notify_one(&self) {
        self.0.notify_one();
    }
}

/// What a wait with a deadline says.
pub(crate) struct WaitTimeoutResult;

impl WaitTimeoutResult {
    pub(crate) fn timed_out(&self) -> bool {
        false
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

/// Repeating a failed attempt teaches the model nothing: it parks at once.
pub(crate) struct Backoff;

impl Backoff {
    pub(crate) fn new() -> Self {
        Self
    }

    pub(crate) fn snooze(&mut self) -> bool {
        false
    }
}

/// A mutex whose `try_lock` may fail. loom's own blocks instead if it was about to run when
/// the lock was taken, so a protocol that relies on not waiting would deadlock in the model.
pub(crate) struct BriefMutex<T> {
    locked: Mutex<bool>,
    unlocked: Condvar,
    value: Mutex<T>,
}

/// The `Option` is empty only inside `drop`.
pub(crate) struct BriefMutexGuard<'a, T> {
    owner: &'a BriefMutex<T>,
    value: Option<MutexGuard<'a, T>>,
}

impl<T> BriefMutex<T> {
    pub(crate) fn new(value: T) -> Self {
        Self {
            locked: Mutex::new(false),
            unlocked: Condvar::new(),
            value: Mutex::new(value),
        }
    }

    pub(crate) fn lock(&self) -> BriefMutexGuard<'_, T> {
        let mut locked = self.locked.lock();
        while *locked {
            self.unlocked.wait(&mut locked);
        }
        self.guard(&mut locked)
    }

    pub(crate) fn try_lock(&self) -> Option<BriefMutexGuard<'_, T>> {
        let mut locked = self.locked.lock();
        (!*locked).then(|| self.guard(&mut locked))
    }

    fn guard(&self, locked: &mut bool) -> BriefMutexGuard<'_, T> {
        *locked = true;
        BriefMutexGuard {
            owner: self,
            value: Some(self.value.lock()),
        }
    }
}

impl<T> Deref for BriefMutexGuard<'_, T> {
    type Target = T;
    fn deref(&self) -> &T {
        self.value.as_ref().expect("unlocked")
    }
}

impl<T> DerefMut for BriefMutexGuard<'_, T> {
    fn deref_mut(&mut self) -> &mut T {
        self.value.as_mut().expect("unlocked")
    }
}

impl<T> Drop for BriefMutexGuard<'_, T> {
    fn drop(&mut self) {
        self.value = None;
        *self.owner.locked.lock() = false;
        self.owner.unlocked.notify_one();
    }
}

/// A thread that waits for more than one thing, as `select!` does. (Not by loom's `park`: its
/// token is lost when the thread then waits for a mutex.)
#[derive(Clone, Debug)]
pub(crate) struct Waiter(Arc<(Mutex<bool>, Condvar)>);

impl Waiter {
    pub(crate) fn new() -> Self {
        Self(Arc::new((Mutex::new(false), Condvar::new())))
    }

    /// Returns once for every round in which it was woken.
    pub(crate) fn wait(&self) {
        let mut woken = self.0.0.lock();
        while !*woken {
            self.0.1.wait(&mut woken);
        }
        *woken = false;
    }

    fn wake(&self) {
        *self.0.0.lock() = true;
        self.0.1.notify_one();
    }
}

#[derive(Debug, Default)]
pub(crate) struct Waiters(Vec<Waiter>);

impl Waiters {
    pub(crate) fn add(&mut self, waiter: &Waiter) {
        self.0.push(waiter.clone());
    }

    pub(crate) fn wake_all(&mut self) {
        self.0.drain(..).for_each(|waiter| waiter.wake());
    }
}

#[derive(Debug)]
struct Door {
    open: Mutex<bool>,
    opened: Condvar,
    waiters: Mutex<Waiters>,
}

#[derive(Clone, Debug)]
pub(crate) struct GateReceiver(Arc<Door>);
#[derive(Debug)]
pub(crate) struct GateSender(Arc<Door>);

pub(crate) fn gate() -> (GateSender, GateReceiver) {
    let door = Arc::new(Door {
        open: Mutex::new(false),
        opened: Condvar::new(),
        waiters: Mutex::default(),
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

    pub(crate) fn is_open(&self) -> bool {
        *self.0.open.lock()
    }

    /// One arm of a `select!`: `true` if open, else `waiter` will be woken.
    pub(crate) fn poll(&self, waiter: &Waiter) -> bool {
        let open = self.0.open.lock();
        if !*open {
            self.0.waiters.lock().add(waiter);
        }
        *open
    }
}

impl Drop for GateSender {
    fn drop(&mut self) {
        *self.0.open.lock() = true;
        self.0.opened.notify_all();
        self.0.waiters.lock().wake_all();
    }
}
