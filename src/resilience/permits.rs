//! Permits, and the queue of those who wait for one: a fair counting semaphore.
//!
//! This is a protocol file: it touches only `crate::sync`, and is run under the model checker.
//!
//! # Invariants
//!
//! 1. `QUEUED` is set exactly while somebody waits. It is set and cleared under the lock, and while
//!    it is set only the holder of the lock changes the word: a fast path that sees it, or whose
//!    exchange fails because of it, goes through the lock.
//! 2. When the lock is free and somebody waits, no permit is free: what comes free, by a release
//!    or a resize, is handed to the first in the queue, under the same lock. So nobody overtakes,
//!    and no wake-up is lost: a permit is handed over, not announced.
//! 3. Who has left the queue by another's hand has a permit (`granted`, and counted in the word), or
//!    the permits are closed. Who gives up looks once more, under the lock: it then has a permit, or
//!    is out of the queue and will never get one.
//!
//! Lock order: the queue's lock is the only one; `give_up` is called under it, and reads a token's
//! state or a clock.

use std::collections::BTreeMap;

use crate::sync::{Arc, AtomicBool, AtomicU64, Condvar, Mutex, Ordering};

/// Somebody waits (1).
const QUEUED: u64 = 1;
/// No permit is given any more.
const CLOSED: u64 = 2;
/// One permit in use.
const ONE: u64 = 4;
const IN_USE_SHIFT: u32 = 2;
const CAPACITY_SHIFT: u32 = 32;

/// The most permits that there can be: what fits between the flags and the capacity.
pub(super) const MOST: usize = (1 << (CAPACITY_SHIFT - IN_USE_SHIFT)) - 1;

/// A value of the word.
///
/// | bits | what |
/// |---|---|
/// | 0 | `QUEUED` |
/// | 1 | `CLOSED` |
/// | 2..32 | permits in use; more than the capacity after that has shrunk |
/// | 32..62 | capacity |
#[derive(Clone, Copy)]
struct Word(u64);

impl Word {
    fn in_use(self) -> usize {
        (self.0 >> IN_USE_SHIFT) as usize & MOST
    }

    fn capacity(self) -> usize {
        (self.0 >> CAPACITY_SHIFT) as usize
    }

    fn is_closed(self) -> bool {
        self.0 & CLOSED != 0
    }

    fn is_queued(self) -> bool {
        self.0 & QUEUED != 0
    }

    fn has_free(self) -> bool {
        self.in_use() < self.capacity()
    }
}

/// Why there is no permit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refused {
    /// All are in use, or the queue is full.
    Full,
    Closed,
}

/// What comes of asking for a permit.
pub(super) enum Entry {
    /// Here it is.
    Admitted,
    /// In the queue; now [`Permits::await_grant`].
    Waiting(Arc<Waiter>),
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Waited {
    Granted,
    Closed,
    GaveUp,
}

/// A place in the queue.
pub(super) struct Waiter {
    ticket: u64,
    /// Changed and read under the lock.
    granted: AtomicBool,
    called: Condvar,
}

pub(super) struct Permits {
    word: AtomicU64,
    queue: Mutex<Queue>,
}

struct Queue {
    /// By ticket: in the order of arrival.
    waiting: BTreeMap<u64, Arc<Waiter>>,
    next_ticket: u64,
    /// How many may wait.
    bound: usize,
}

/// How many permits there are, are in use, and are waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Counts {
    pub(super) capacity: usize,
    pub(super) in_use: usize,
    pub(super) closed: bool,
}

impl Permits {
    /// `capacity` permits, of [`MOST`] at most, and a queue for `bound`.
    pub(super) fn new(capacity: usize, bound: usize) -> Self {
        let queue = Queue {
            waiting: BTreeMap::new(),
            next_ticket: 0,
            bound,
        };
        Self {
            word: AtomicU64::new((capacity.min(MOST) as u64) << CAPACITY_SHIFT),
            queue: Mutex::new(queue),
        }
    }

    /// Takes a permit if one is free and nobody waits for it.
    #[inline]
    pub(super) fn try_acquire(&self) -> Result<(), Refused> {
        let mut word = Word(self.word.load(Ordering::Relaxed));
        loop {
            if word.is_closed() {
                return Err(Refused::Closed);
            }
            if word.is_queued() || !word.has_free() {
                return Err(Refused::Full);
            }
            match self.exchange(word, word.0 + ONE) {
                Ok(()) => return Ok(()),
                Err(now) => word = now,
            }
        }
    }

    /// Takes a permit, or a place in the queue.
    pub(super) fn enter(&self) -> Result<Entry, Refused> {
        let mut queue = self.queue.lock();
        let mut word = Word(self.word.load(Ordering::Relaxed));
        loop {
            if word.is_closed() {
                return Err(Refused::Closed);
            }
            let admitted = !word.is_queued() && word.has_free();
            if !admitted && queue.waiting.len() >= queue.bound {
                return Err(Refused::Full);
            }
            // Of the whole word, so that at the moment in which it says that somebody waits, no
            // permit is free; who releases one later sees it (2).
            let next = if admitted {
                word.0 + ONE
            } else {
                word.0 | QUEUED
            };
            match self.exchange(word, next) {
                Ok(()) if admitted => return Ok(Entry::Admitted),
                Ok(()) => return Ok(Entry::Waiting(queue.push())),
                Err(now) => word = now,
            }
        }
    }

    /// Waits for a grant, the closing, `deadline`, or until `give_up` says so; that is asked again
    /// after a [`nudge`](Self::nudge).
    pub(super) fn await_grant(
        &self,
        waiter: &Waiter,
        deadline: Option<std::time::Instant>,
        give_up: impl Fn() -> bool,
    ) -> Waited {
        let mut queue = self.queue.lock();
        let mut late = false;
        loop {
            if waiter.granted.load(Ordering::Relaxed) {
                return Waited::Granted;
            }
            if Word(self.word.load(Ordering::Relaxed)).is_closed() {
                return Waited::Closed;
            }
            if late || give_up() {
                return Waited::GaveUp;
            }
            match deadline {
                None => waiter.called.wait(&mut queue),
                Some(at) => late = waiter.called.wait_until(&mut queue, at).timed_out(),
            }
        }
    }

    /// Gives the place in the queue up. `true` if there is a permit after all: the caller's.
    pub(super) fn leave(&self, waiter: &Waiter) -> bool {
        let mut queue = self.queue.lock();
        if queue.waiting.remove(&waiter.ticket).is_some() && queue.waiting.is_empty() {
            self.word.fetch_and(!QUEUED, Ordering::Relaxed);
        }
        waiter.granted.load(Ordering::Relaxed)
    }

    /// Lets who waits look at its `give_up` again.
    pub(super) fn nudge(&self, waiter: &Waiter) {
        // Under the lock: it has looked, and sleeps, or has not looked yet.
        let _queue = self.queue.lock();
        waiter.called.notify_one();
    }

    /// Gives a permit back: to who waits, if somebody does.
    #[inline]
    pub(super) fn release(&self) {
        let mut word = Word(self.word.load(Ordering::Relaxed));
        while !word.is_queued() {
            match self.exchange(word, word.0 - ONE) {
                Ok(()) => return,
                Err(now) => word = now,
            }
        }
        self.release_to_queue();
    }

    #[cold]
    fn release_to_queue(&self) {
        let mut queue = self.queue.lock();
        // They may all have left meanwhile, so others may change the word: as one step.
        self.word.fetch_sub(ONE, Ordering::AcqRel);
        self.hand_over(&mut queue);
    }

    /// Sets how many permits there are. Those in use are not taken away.
    pub(super) fn resize(&self, capacity: usize) {
        let capacity = (capacity.min(MOST) as u64) << CAPACITY_SHIFT;
        let mut queue = self.queue.lock();
        let mut word = Word(self.word.load(Ordering::Relaxed));
        while let Err(now) = self.exchange(word, word.0 & !(!0 << CAPACITY_SHIFT) | capacity) {
            word = now;
        }
        self.hand_over(&mut queue);
    }

    /// Gives no permits any more. `true` for the first call. Those in use can still be given back.
    pub(super) fn close(&self) -> bool {
        let mut queue = self.queue.lock();
        let before = Word(self.word.fetch_or(CLOSED, Ordering::AcqRel));
        self.word.fetch_and(!QUEUED, Ordering::Relaxed);
        let waiting = std::mem::take(&mut queue.waiting);
        for waiter in waiting.values() {
            waiter.called.notify_one();
        }
        !before.is_closed()
    }

    pub(super) fn counts(&self) -> Counts {
        let word = Word(self.word.load(Ordering::Acquire));
        Counts {
            capacity: word.capacity(),
            in_use: word.in_use(),
            closed: word.is_closed(),
        }
    }

    pub(super) fn waiting(&self) -> usize {
        self.queue.lock().waiting.len()
    }

    /// Restores (2). Notified under the lock: parking_lot then moves the woken to the lock's own
    /// queue instead of letting them run into it.
    fn hand_over(&self, queue: &mut Queue) {
        while let Some(first) = queue.waiting.first_entry() {
            if !Word(self.word.load(Ordering::Relaxed)).has_free() {
                return;
            }
            // By (1) nobody else changes the word now.
            self.word.fetch_add(ONE, Ordering::AcqRel);
            let waiter = first.remove();
            waiter.granted.store(true, Ordering::Relaxed);
            waiter.called.notify_one();
        }
        self.word.fetch_and(!QUEUED, Ordering::Relaxed);
    }

    /// AcqRel, as each taking of a permit is to see what was done before each giving back: the
    /// partners are all the other changes of the word.
    #[inline]
    fn exchange(&self, from: Word, to: u64) -> Result<(), Word> {
        self.word
            .compare_exchange_weak(from.0, to, Ordering::AcqRel, Ordering::Relaxed)
            .map(drop)
            .map_err(Word)
    }
}

impl Queue {
    fn push(&mut self) -> Arc<Waiter> {
        let waiter = Arc::new(Waiter {
            ticket: self.next_ticket,
            granted: AtomicBool::new(false),
            called: Condvar::new(),
        });
        self.next_ticket += 1;
        self.waiting.insert(waiter.ticket, waiter.clone());
        waiter
    }
}
