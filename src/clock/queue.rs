//! The deadline queue: pure, no time, no locks.
//!
//! A four-way heap of what is due, over a slab of entries that know their place in the heap, so
//! that taking an entry out is as cheap as putting it in and nothing dead is ever kept (a heap
//! with lazy deletion would hold every timeout that was not needed until it is due).
//!
//! # Invariants
//!
//! 1. `heap[i]` is not due after its children `heap[4i+1..=4i+4]`, by (deadline, registration).
//! 2. `slots[heap[i].slot]` is `Queued` at position `i`; every queued slot is in the heap once.
//! 3. A key names its slot and the registration, so a key that has been removed finds nothing,
//!    also when the slot is in use again.
//!
//! # Performance
//!
//! Insert and remove are O(log₄ n); a deadline later than all others (timeouts of one length) is
//! inserted in O(1).

use super::Instant;

const ARITY: usize = 4;

/// Room that an empty queue may keep.
const KEPT: usize = 64;

/// Names one registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    slot: u32,
    seq: u64,
}

#[derive(Clone, Copy, Debug)]
struct Due {
    at: Instant,
    seq: u64,
    slot: u32,
}

impl Due {
    fn before(&self, other: &Self) -> bool {
        (self.at, self.seq) < (other.at, other.seq)
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Queued(usize),
    /// Registered, with no deadline ahead: it is being fired, or has been.
    Idle,
}

#[derive(Debug)]
struct Entry<T> {
    seq: u64,
    place: Place,
    value: T,
}

#[derive(Debug)]
pub(crate) struct DeadlineQueue<T> {
    heap: Vec<Due>,
    slots: Vec<Option<Entry<T>>>,
    free: Vec<u32>,
    next_seq: u64,
}

impl<T> DeadlineQueue<T> {
    pub(crate) const fn new() -> Self {
        Self {
            heap: Vec::new(),
            slots: Vec::new(),
            free: Vec::new(),
            next_seq: 0,
        }
    }

    /// How many are registered, queued or idle.
    pub(crate) fn registered(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// How many have a deadline ahead.
    pub(crate) fn queued(&self) -> usize {
        self.heap.len()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        self.heap.first().map(|due| due.at)
    }

    /// Registers `value`, due at `at`.
    pub(crate) fn insert(&mut self, at: Instant, value: T) -> Key {
        let seq = self.next_seq;
        self.next_seq += 1;
        let entry = Some(Entry {
            seq,
            place: Place::Idle,
            value,
        });
        let slot = match self.free.pop() {
            Some(slot) => {
                self.slots[slot as usize] = entry;
                slot
            }
            None => {
                self.slots.push(entry);
                u32::try_from(self.slots.len() - 1).expect("more than 2^32 timers")
            }
        };
        self.push(Due { at, seq, slot });
        Key { slot, seq }
    }

    /// Ends a registration. `None` if it had ended.
    pub(crate) fn remove(&mut self, key: Key) -> Option<T> {
        self.entry(key)?;
        let entry = self.slots[key.slot as usize].take()?;
        if let Place::Queued(at) = entry.place {
            self.unqueue(at);
        }
        self.free.push(key.slot);
        if self.registered() == 0 && self.slots.capacity() > KEPT {
            // A burst of timers leaves no memory behind.
            *self = Self {
                next_seq: self.next_seq,
                ..Self::new()
            };
        }
        Some(entry.value)
    }

    /// Gives an idle registration its next deadline. It keeps its place in the registration
    /// order. `false` if the registration has ended.
    pub(crate) fn requeue(&mut self, key: Key, at: Instant) -> bool {
        match self.entry(key) {
            Some(entry) if entry.place == Place::Idle => {
                let Key { slot, seq } = key;
                self.push(Due { at, seq, slot });
                true
            }
            _ => false,
        }
    }

    /// The first registration that is due at `now`, which becomes idle.
    pub(crate) fn pop_due(&mut self, now: Instant) -> Option<(Key, Instant, &T)> {
        let due = *self.heap.first().filter(|due| due.at <= now)?;
        self.unqueue(0);
        let entry = self.slots[due.slot as usize].as_mut().expect("invariant 2");
        entry.place = Place::Idle;
        let Due { at, seq, slot } = due;
        Some((Key { slot, seq }, at, &entry.value))
    }

    /// Makes a registration idle before it is due; `None` if it is not queued.
    pub(crate) fn pop(&mut self, key: Key) -> Option<&T> {
        let Place::Queued(at) = self.entry(key)?.place else {
            return None;
        };
        self.unqueue(at);
        let entry = self.slots[key.slot as usize].as_mut()?;
        entry.place = Place::Idle;
        Some(&entry.value)
    }

    fn entry(&self, key: Key) -> Option<&Entry<T>> {
        let entry = self.slots.get(key.slot as usize)?.as_ref()?;
        (entry.seq == key.seq).then_some(entry)
    }

    fn push(&mut self, due: Due) {
        self.heap.push(due);
        self.sift_up(self.heap.len() - 1);
    }

    /// Takes `heap[at]` out; the caller deals with its slot.
    fn unqueue(&mut self, at: usize) {
        self.heap.swap_remove(at);
        if at < self.heap.len() {
            let at = self.sift_up(at);
            self.sift_down(at);
        }
    }

    fn sift_up(&mut self, mut at: usize) -> usize {
        let due = self.heap[at];
        while at > 0 {
            let parent = (at - 1) / ARITY;
            if !due.before(&self.heap[parent]) {
                break;
            }
            self.put(at, self.heap[parent]);
            at = parent;
        }
        self.put(at, due);
        at
    }

    fn sift_down(&mut self, mut at: usize) {
        let due = self.heap[at];
        while let Some(child) = self.first_child(at) {
            if !self.heap[child].before(&due) {
                break;
            }
            self.put(at, self.heap[child]);
            at = child;
        }
        self.put(at, due);
    }

    fn first_child(&self, at: usize) -> Option<usize> {
        let first = at * ARITY + 1;
        let end = (first + ARITY).min(self.heap.len());
        (first..end).min_by_key(|&child| (self.heap[child].at, self.heap[child].seq))
    }

    fn put(&mut self, at: usize, due: Due) {
        self.heap[at] = due;
        if let Some(entry) = &mut self.slots[due.slot as usize] {
            entry.place = Place::Queued(at);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::cases;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    #[derive(Clone, Debug)]
    enum Op {
        Insert(u8),
        Remove(prop::sample::Index),
        Requeue(prop::sample::Index, u8),
        Pop(u8),
        PopOne(prop::sample::Index),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            3 => any::<u8>().prop_map(Op::Insert),
            2 => any::<prop::sample::Index>().prop_map(Op::Remove),
            1 => (any::<prop::sample::Index>(), any::<u8>()).prop_map(|(i, at)| Op::Requeue(i, at)),
            2 => any::<u8>().prop_map(Op::Pop),
            1 => any::<prop::sample::Index>().prop_map(Op::PopOne),
        ]
    }

    fn at(nanos: u8) -> Instant {
        Instant::from_nanos(nanos.into())
    }

    fn check_invariants(queue: &DeadlineQueue<usize>) {
        for (i, due) in queue.heap.iter().enumerate().skip(1) {
            assert!(!due.before(&queue.heap[(i - 1) / ARITY]), "invariant 1");
        }
        for (i, due) in queue.heap.iter().enumerate() {
            let entry = queue.slots[due.slot as usize].as_ref().expect("in use");
            assert_eq!(entry.place, Place::Queued(i), "invariant 2");
            assert_eq!(entry.seq, due.seq, "invariant 2");
        }
    }

    #[test]
    fn a_burst_of_timers_leaves_no_memory_behind_and_a_few_are_kept_room_for() {
        let mut queue = DeadlineQueue::new();
        for (timers, kept) in [(KEPT, true), (KEPT + 1, false), (10_000, false)] {
            let keys: Vec<_> = (0..timers).map(|n| queue.insert(at(0), n)).collect();
            for (n, key) in keys.iter().enumerate() {
                assert_eq!(queue.remove(*key), Some(n));
            }
            assert_eq!(queue.slots.capacity() >= KEPT, kept, "{timers}");
            // Old keys find nothing, whatever became of their places.
            let new = queue.insert(at(0), 0);
            assert!(keys.iter().all(|key| queue.remove(*key).is_none()));
            assert_eq!(queue.remove(new), Some(0));
        }
    }

    proptest! {
        #![proptest_config(cases(256))]

        /// The queue and an ordered map in plain code give the same answers.
        #[test]
        fn the_queue_is_an_ordered_map_of_deadlines(ops in prop::collection::vec(op(), 1..200)) {
            let mut queue = DeadlineQueue::new();
            let mut model = BTreeMap::new(); // (deadline, number) of what is queued
            let mut keys: Vec<(Key, Option<u8>, bool)> = Vec::new(); // deadline, registered
            for op in ops {
                match op {
                    Op::Insert(due) => {
                        let n = keys.len();
                        keys.push((queue.insert(at(due), n), Some(due), true));
                        model.insert((due, n), ());
                    }
                    Op::Remove(i) if !keys.is_empty() => {
                        let n = i.index(keys.len());
                        let (key, due, registered) = &mut keys[n];
                        prop_assert_eq!(queue.remove(*key), registered.then_some(n));
                        if let Some(due) = due.take() {
                            model.remove(&(due, n));
                        }
                        *registered = false;
                    }
                    Op::Requeue(i, new) if !keys.is_empty() => {
                        let n = i.index(keys.len());
                        let (key, due, registered) = &mut keys[n];
                        let idle = *registered && due.is_none();
                        prop_assert_eq!(queue.requeue(*key, at(new)), idle);
                        if idle {
                            *due = Some(new);
                            model.insert((new, n), ());
                        }
                    }
                    Op::Pop(now) => {
                        let expected = model.keys().next().copied().filter(|(due, _)| *due <= now);
                        let popped = queue.pop_due(at(now)).map(|(key, due, n)| (key, due, *n));
                        match (expected, popped) {
                            (None, None) => {}
                            (Some((due, n)), Some((key, when, value))) => {
                                prop_assert_eq!((at(due), n), (when, value));
                                prop_assert_eq!(key, keys[n].0);
                                keys[n].1 = None;
                                model.remove(&(due, n));
                            }
                            other => prop_assert!(false, "{:?}", other),
                        }
                    }
                    Op::PopOne(i) if !keys.is_empty() => {
                        let n = i.index(keys.len());
                        let (key, due, _) = &mut keys[n];
                        let due = due.take();
                        prop_assert_eq!(queue.pop(*key).copied(), due.map(|_| n));
                        if let Some(due) = due {
                            model.remove(&(due, n));
                        }
                    }
                    Op::Remove(_) | Op::Requeue(..) | Op::PopOne(_) => {}
                }
                check_invariants(&queue);
                prop_assert_eq!(queue.queued(), model.len());
                prop_assert_eq!(queue.registered(), keys.iter().filter(|key| key.2).count());
                let first = model.keys().next().map(|(due, _)| at(*due));
                prop_assert_eq!(queue.next_deadline(), first);
            }
        }
    }
}
