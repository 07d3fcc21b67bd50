//! Which threads have used an end of a channel: for the look for deadlocks, and for nothing else.
//!
//! Each handle remembers the first few threads that used it. As many handles can be given away
//! unseen, this is no more than a hint; see [`threads::deadlocks`](crate::threads::deadlocks()).

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::sync::{Arc, Mutex, Weak};
use crate::threads::{self, Awaited, Awaits, Needs, Part, Place, User, Who};

/// How many threads a handle remembers.
const USERS: usize = 4;

/// A thread that the library did not start.
const STRANGER: u64 = u64::MAX;

/// What all handles of a channel share.
struct Ends {
    senders: Mutex<Handles>,
    receivers: Mutex<Handles>,
    place: Place,
}

/// The handles of one end.
#[derive(Default)]
struct Handles {
    users: Vec<Weak<Users>>,
    /// When there are so many, those that are gone are taken out.
    sweep_at: usize,
}

/// Who has used one handle. All Relaxed: these are hints, and a look is taken twice.
#[derive(Default)]
struct Users {
    /// In the order in which they came; 0 for none yet.
    threads: [AtomicU64; USERS],
    /// There were more.
    many: AtomicBool,
    /// Threads with this number or a greater one were started after the last use.
    before: AtomicU64,
}

#[derive(Clone, Copy)]
enum Side {
    Sender,
    Receiver,
}

/// One handle's share.
pub(super) struct End {
    ends: Arc<Ends>,
    side: Side,
    own: Arc<Users>,
}

impl End {
    /// Of a new channel: its first sender and its first receiver.
    pub(super) fn pair() -> (Self, Self) {
        let ends = Arc::new(Ends {
            senders: Mutex::default(),
            receivers: Mutex::default(),
            place: Place::default(),
        });
        (
            Self::new(ends.clone(), Side::Sender),
            Self::new(ends, Side::Receiver),
        )
    }

    fn new(ends: Arc<Ends>, side: Side) -> Self {
        let own = Arc::<Users>::default();
        ends.handles(side).lock().add(&own);
        Self { ends, side, own }
    }

    /// The calling thread uses the handle.
    #[inline]
    pub(super) fn is_used(&self) {
        let me = threads::current_id();
        if me == 0 || self.own.threads[0].load(Ordering::Relaxed) != me {
            self.own.note(me);
        }
        let before = threads::records_so_far();
        // Not written at each use: the line may be in another processor's cache.
        if self.own.before.load(Ordering::Relaxed) != before {
            self.own.before.store(before, Ordering::Relaxed);
        }
    }

    /// The wait of the calling thread, on this handle, for the other end.
    pub(super) fn waits(&self) -> Awaits {
        let part = match self.side {
            Side::Sender => Part::Room,
            Side::Receiver => Part::Value,
        };
        self.ends.place.of(&self.ends, part)
    }
}

impl Clone for End {
    fn clone(&self) -> Self {
        Self::new(self.ends.clone(), self.side)
    }
}

impl Users {
    /// Only one thread at a time takes a free seat; two may take two for the same thread, which is
    /// only a waste.
    #[cold]
    fn note(&self, me: u64) {
        let me = if me == 0 { STRANGER } else { me };
        for seat in &self.threads {
            let taken = seat.compare_exchange(0, me, Ordering::Relaxed, Ordering::Relaxed);
            if taken.is_ok() || taken == Err(me) {
                return;
            }
        }
        self.many.store(true, Ordering::Relaxed);
    }

    /// `None` if there may be others.
    fn known(&self) -> Option<Vec<User>> {
        let before = self.before.load(Ordering::Relaxed);
        let seats = self.threads.iter().map(|seat| seat.load(Ordering::Relaxed));
        let threads: Vec<_> = seats.filter(|&thread| thread != 0).collect();
        let others = self.many.load(Ordering::Relaxed) || threads.contains(&STRANGER);
        let users = threads.iter().map(|&thread| User { thread, before });
        (!others && !threads.is_empty()).then(|| users.collect())
    }
}

impl Handles {
    fn add(&mut self, users: &Arc<Users>) {
        if self.users.len() >= self.sweep_at {
            self.users.retain(|users| users.strong_count() > 0);
            self.sweep_at = (2 * self.users.len()).max(8);
        }
        self.users.push(Arc::downgrade(users));
    }

    /// Of all handles; `None` if somebody unknown may have one of them.
    fn known(&self) -> Option<Vec<User>> {
        let alive = self.users.iter().filter_map(Weak::upgrade);
        let known: Option<Vec<_>> = alive.map(|users| users.known()).collect();
        known.map(|known| known.concat())
    }
}

impl Ends {
    fn handles(&self, side: Side) -> &Mutex<Handles> {
        match side {
            Side::Sender => &self.senders,
            Side::Receiver => &self.receivers,
        }
    }
}

impl Awaited for Ends {
    fn needs(&self, part: Part) -> Needs {
        let side = match part {
            Part::Value => Side::Sender,
            Part::Room => Side::Receiver,
            _ => return Needs::default(),
        };
        let known = self.handles(side).lock().known();
        Needs {
            who: known.map_or(Who::Anybody, Who::AnyUser),
            or: None,
        }
    }
}
