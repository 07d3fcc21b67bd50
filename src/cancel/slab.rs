//! The children of a node: insert and remove by slot in O(1), no memory kept after a crowd.

/// Room that an empty slab may keep.
const KEPT: usize = 64;

#[derive(Debug)]
pub(crate) struct Slab<T> {
    slots: Vec<Slot<T>>,
    /// First vacant slot, `slots.len()` if there is none.
    vacant: usize,
    len: usize,
}

#[derive(Debug)]
enum Slot<T> {
    Used(T),
    /// The next vacant one.
    Vacant(usize),
}

impl<T> Slab<T> {
    pub(crate) const fn new() -> Self {
        Self {
            slots: Vec::new(),
            vacant: 0,
            len: 0,
        }
    }

    pub(crate) fn len(&self) -> usize {
        self.len
    }

    pub(crate) fn insert(&mut self, value: T) -> usize {
        let at = self.vacant;
        match self.slots.get_mut(at) {
            Some(slot) => match std::mem::replace(slot, Slot::Used(value)) {
                Slot::Vacant(next) => self.vacant = next,
                Slot::Used(_) => unreachable!("`vacant` names a vacant slot"),
            },
            None => {
                self.slots.push(Slot::Used(value));
                self.vacant = self.slots.len();
            }
        }
        self.len += 1;
        at
    }

    /// Takes `at` out; `None` if it has been taken.
    pub(crate) fn remove(&mut self, at: usize) -> Option<T> {
        let slot = self.slots.get_mut(at)?;
        if matches!(slot, Slot::Vacant(_)) {
            return None;
        }
        let taken = std::mem::replace(slot, Slot::Vacant(self.vacant));
        self.vacant = at;
        self.len -= 1;
        if self.len == 0 && self.slots.capacity() > KEPT {
            *self = Self::new();
        }
        match taken {
            Slot::Used(value) => Some(value),
            Slot::Vacant(_) => None,
        }
    }

    /// The used slots from `from` on.
    pub(crate) fn iter_from(&self, from: usize) -> impl Iterator<Item = (usize, &T)> {
        let slots = self.slots.iter().enumerate().skip(from);
        slots.filter_map(|(at, slot)| match slot {
            Slot::Used(value) => Some((at, value)),
            Slot::Vacant(_) => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_used_again_after_it_was_taken_and_only_then() {
        let mut slab = Slab::new();
        let (a, b) = (slab.insert('a'), slab.insert('b'));
        assert_eq!(slab.remove(a), Some('a'));
        assert_eq!(slab.remove(a), None);
        assert_eq!(slab.remove(99), None);
        assert_eq!(slab.insert('c'), a);
        let all: Vec<_> = slab.iter_from(0).collect();
        assert_eq!(all, [(a, &'c'), (b, &'b')]);
        assert_eq!(slab.iter_from(b).count(), 1);
        assert_eq!(slab.len(), 2);
    }

    #[test]
    fn a_crowd_leaves_no_memory_behind() {
        let mut slab = Slab::new();
        for n in 0..10_000 {
            slab.insert(n);
        }
        for n in 0..10_000 {
            assert_eq!(slab.remove(n), Some(n));
        }
        assert_eq!(slab.len(), 0);
        assert!(slab.slots.capacity() <= KEPT);
        // What is no crowd keeps its room.
        for n in 0..KEPT {
            assert_eq!(slab.insert(n), n);
        }
        (0..KEPT).for_each(|n| assert_eq!(slab.remove(n), Some(n)));
        assert_eq!(slab.slots.capacity(), KEPT);
    }
}
