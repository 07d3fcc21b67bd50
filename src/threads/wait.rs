//! What a thread says that it waits on, for others to read.
//!
//! A wait is said where a thread is about to block, but also where it turns out not to have to. So
//! it costs a few plain stores: a sequence lock with one writer, the thread itself.
//!
//! # Invariants
//!
//! 1. Only the thread of the record writes ([`WaitGuard`](super::WaitGuard) is not `Send`).
//! 2. `version` is odd while it writes. Who reads the same even version before and after reading
//!    the fields has read what was written together.
//! 3. `at` is null: no wait; or it is a `&'static Location<'static>`, and `on` and `on_len` are the
//!    parts of one `&'static str`. The highest bit of `on_len`, which the length of nothing has, says
//!    that `thing` and `part` are of this wait too.
#![allow(unsafe_code)]

use std::panic::Location;
use std::ptr;
use std::slice;
use std::str;
use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize, Ordering, fence};

use super::awaited::Awaits;
use super::moment::Moment;

/// A wait: on what, at which line, since when.
#[derive(Clone, Copy, Debug)]
pub(super) struct Wait {
    pub(super) on: &'static str,
    pub(super) at: &'static Location<'static>,
    pub(super) since: Moment,
    pub(super) awaits: Awaits,
}

/// In `on_len`: the wait is for something that has a number.
const NUMBERED: usize = 1 << (usize::BITS - 1);

#[derive(Debug)]
pub(super) struct WaitCell {
    version: AtomicU64,
    on: AtomicPtr<u8>,
    on_len: AtomicUsize,
    at: AtomicPtr<Location<'static>>,
    since: AtomicU64,
    thing: AtomicU64,
    part: AtomicU64,
}

impl WaitCell {
    pub(super) const fn new() -> Self {
        Self {
            version: AtomicU64::new(0),
            on: AtomicPtr::new(ptr::null_mut()),
            on_len: AtomicUsize::new(0),
            at: AtomicPtr::new(ptr::null_mut()),
            since: AtomicU64::new(0),
            thing: AtomicU64::new(0),
            part: AtomicU64::new(0),
        }
    }

    /// By the thread of the record alone.
    #[inline]
    pub(super) fn set(&self, wait: Option<Wait>) {
        // Relaxed: no one else writes it.
        let version = self.version.load(Ordering::Relaxed);
        self.version
            .store(version.wrapping_add(1), Ordering::Relaxed);
        // Partner: the fence in `get`. Who sees a field of below sees the odd version too.
        fence(Ordering::Release);
        if let Some(wait) = wait {
            let Wait {
                on,
                at,
                since,
                awaits,
            } = wait;
            let mut length = on.len();
            if awaits.is_something() {
                length |= NUMBERED;
                self.thing.store(awaits.thing, Ordering::Relaxed);
                self.part.store(awaits.part, Ordering::Relaxed);
            }
            self.on.store(on.as_ptr().cast_mut(), Ordering::Relaxed);
            self.on_len.store(length, Ordering::Relaxed);
            let at = ptr::from_ref(at).cast_mut();
            self.at.store(at, Ordering::Relaxed);
            self.since.store(since.to_bits(), Ordering::Relaxed);
        } else {
            self.at.store(ptr::null_mut(), Ordering::Relaxed);
        }
        // Partner: the first load in `get`. Who sees this version sees all of the above.
        self.version
            .store(version.wrapping_add(2), Ordering::Release);
    }

    /// Whether there is a wait; by the thread of the record, a cheap way to ask.
    #[inline]
    pub(super) fn is_set(&self) -> bool {
        !self.at.load(Ordering::Relaxed).is_null()
    }

    /// By anyone. `None` if there is no wait, and while the thread changes it: it runs then.
    pub(super) fn get(&self) -> Option<Wait> {
        self.look().map(|(_, wait)| wait)
    }

    /// As [`get`](Self::get), with the number of the wait: it is the same one as long as that is.
    pub(super) fn look(&self) -> Option<(u64, Wait)> {
        let version = self.version.load(Ordering::Acquire);
        let on = self.on.load(Ordering::Relaxed);
        let on_len = self.on_len.load(Ordering::Relaxed);
        let at = self.at.load(Ordering::Relaxed);
        let since = self.since.load(Ordering::Relaxed);
        let thing = self.thing.load(Ordering::Relaxed);
        let part = self.part.load(Ordering::Relaxed);
        fence(Ordering::Acquire);
        let unchanged = self.version.load(Ordering::Relaxed) == version;
        if version % 2 == 1 || !unchanged || at.is_null() {
            return None;
        }
        // SAFETY: by invariants 2 and 3 these are the pointer and the length of one `&'static
        // str`: so the bytes are valid for reads of that length, initialised, never written, and
        // UTF-8, for the rest of the program.
        let on = unsafe { str::from_utf8_unchecked(slice::from_raw_parts(on, on_len & !NUMBERED)) };
        // SAFETY: it is not null, so by the same invariants it came from a `&'static Location`,
        // which is aligned, initialised and never written, for the rest of the program.
        let at = unsafe { &*at };
        let since = Moment::from_bits(since);
        let awaits = match on_len & NUMBERED {
            0 => Awaits::default(),
            _ => Awaits { thing, part },
        };
        let wait = Wait {
            on,
            at,
            since,
            awaits,
        };
        Some((version, wait))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;

    fn here(on: &'static str, at: &'static Location<'static>) -> Wait {
        let length = u64::try_from(on.len()).unwrap();
        let since = Moment::from_bits(length);
        // The first waits for nothing that has a number.
        let awaits = Awaits {
            thing: length - 1,
            part: 2 * (length - 1),
        };
        Wait {
            on,
            at,
            since,
            awaits,
        }
    }

    #[test]
    fn a_reader_never_sees_parts_of_two_waits() {
        let (a, b) = (Location::caller(), Location::caller());
        let waits = [here("a", a), here("another one", b)];
        let (cell, stop) = (WaitCell::new(), AtomicBool::new(false));
        let seen = std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = [0_u64; 2];
                while !stop.load(Ordering::Relaxed) || seen.contains(&0) {
                    let Some(wait) = cell.get() else { continue };
                    let which = usize::from(wait.on.len() != 1);
                    assert_eq!(wait.on, waits[which].on);
                    assert!(ptr::eq(wait.at, waits[which].at));
                    assert_eq!(wait.since.to_bits(), waits[which].since.to_bits());
                    assert_eq!(wait.awaits, waits[which].awaits);
                    seen[which] += 1;
                }
                seen
            });
            let mut pass = 0;
            while pass < 200_000 || !reader.is_finished() {
                cell.set(Some(waits[pass % 2]));
                if pass % 3 == 0 {
                    cell.set(None);
                }
                pass += 1;
                stop.store(pass > 200_000, Ordering::Relaxed);
            }
            reader.join().unwrap()
        });
        assert!(seen.iter().all(|&times| times > 0), "{seen:?}");
        cell.set(None);
        assert!(cell.get().is_none());
    }
}
