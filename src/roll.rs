//! Floor 0: what is alive of one kind, for people to look at.
//!
//! An entry costs its owner one lock and some 50 bytes when it is made, and the lock again when it
//! goes; nothing in between. The roll keeps nothing alive.

use std::collections::BTreeMap;
use std::fmt;

use crate::sync::{Arc, Mutex, Weak};

/// A list of weak references, in the order in which they came.
pub(crate) struct Roll<T: ?Sized> {
    entries: Mutex<Entries<T>>,
}

struct Entries<T: ?Sized> {
    next_id: u64,
    live: BTreeMap<u64, Weak<T>>,
}

/// On the roll until it is dropped.
pub(crate) struct Listed<T: ?Sized + 'static> {
    roll: &'static Roll<T>,
    id: u64,
}

impl<T: ?Sized> Roll<T> {
    pub(crate) const fn new() -> Self {
        let entries = Mutex::new(Entries {
            next_id: 1,
            live: BTreeMap::new(),
        });
        Self { entries }
    }

    pub(crate) fn enlist(&'static self, entry: Weak<T>) -> Listed<T> {
        let mut entries = self.entries.lock();
        let id = entries.next_id;
        entries.next_id += 1;
        entries.live.insert(id, entry);
        Listed { roll: self, id }
    }

    /// With their numbers, which are never used twice. Whoever looks may hold the last reference.
    pub(crate) fn live(&self) -> Vec<(u64, Arc<T>)> {
        let entries = self.entries.lock();
        let entries = entries.live.iter();
        let live = entries.filter_map(|(id, entry)| Some((*id, entry.upgrade()?)));
        live.collect()
    }
}

impl<T: ?Sized> Listed<T> {
    /// Its number, which is never zero.
    #[inline]
    pub(crate) const fn id(&self) -> u64 {
        self.id
    }
}

impl<T: ?Sized> Drop for Listed<T> {
    fn drop(&mut self) {
        let gone = self.roll.entries.lock().live.remove(&self.id);
        drop(gone);
    }
}

impl<T: ?Sized> fmt::Debug for Listed<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Listed").field(&self.id).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_is_on_the_roll_is_found_and_nobody_else() {
        static ROLL: Roll<&str> = Roll::new();
        let (a, b) = (Arc::new("a"), Arc::new("b"));
        let first = ROLL.enlist(Arc::downgrade(&a));
        let second = ROLL.enlist(Arc::downgrade(&b));
        let names = || -> Vec<_> { ROLL.live().into_iter().map(|(_, name)| *name).collect() };
        assert_eq!(names(), ["a", "b"]);
        drop(first);
        assert_eq!(names(), ["b"]);
        drop(b);
        assert!(names().is_empty(), "it keeps nothing alive");
        let third = ROLL.enlist(Arc::downgrade(&a));
        assert_eq!(ROLL.live()[0].0, 3, "numbers are not used again");
        drop((second, third));
    }
}
