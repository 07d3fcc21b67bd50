//! What a wait is for, and who could end it.

use std::fmt;
use std::sync::OnceLock;

use crate::roll::{Listed, Roll};
use crate::sync::{Arc, Weak};

static AWAITED: Roll<dyn Awaited> = Roll::new();

/// What a wait is for: a part of a thing that has a number. The default is for nothing that can be
/// asked.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Awaits {
    pub(super) thing: u64,
    pub(super) part: u64,
}

/// The part of a thing that is waited for. A task is told by its key, an address; the others are odd
/// numbers, which no such address is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Part {
    /// The end of one task.
    Task(usize),
    /// The end of all tasks.
    All,
    /// A place for a task.
    Place,
    /// A value from a channel.
    Value,
    /// Room in a channel.
    Room,
}

/// Set in the number of a part: a cancel ends the wait.
const CANCELLABLE: u64 = 1 << 63;

impl Awaits {
    #[inline]
    pub(super) const fn is_something(self) -> bool {
        self.thing != 0
    }

    /// That a cancel ends the wait too.
    pub(crate) const fn or_a_cancel(mut self) -> Self {
        self.part |= CANCELLABLE;
        self
    }

    pub(super) const fn is_cancellable(self) -> bool {
        self.part & CANCELLABLE != 0
    }

    pub(super) const fn part(self) -> Part {
        match self.part & !CANCELLABLE {
            1 => Part::All,
            3 => Part::Place,
            5 => Part::Value,
            7 => Part::Room,
            key => Part::Task(key as usize),
        }
    }
}

/// Something that threads wait for.
pub(crate) trait Awaited: Send + Sync {
    /// Who would have to go on for a wait for `part` to end. Called with no lock held; may be told
    /// about something that has changed since.
    fn needs(&self, part: Part) -> Needs;
}

/// What a wait needs to end.
#[derive(Clone, Debug, Default)]
pub(crate) struct Needs {
    pub(crate) who: Who,
    /// What else would end it, from outside.
    pub(crate) or: Option<String>,
}

/// Threads by their numbers.
#[derive(Clone, Debug, Default)]
pub(crate) enum Who {
    /// It may end by itself, or nobody knows.
    #[default]
    Anybody,
    /// Whoever runs the task of this key.
    RunnerOf(usize),
    /// Every one of these.
    All(Vec<u64>),
    /// One of these.
    AnyOf(Vec<u64>),
    /// One of those that have used the other end so far, or have been started since then by one of
    /// those that have.
    #[cfg_attr(
        not(all(feature = "diagnose", target_os = "linux", not(cleanbreak_portable))),
        allow(dead_code, reason = "nobody records who uses an end there")
    )]
    AnyUser(Vec<User>),
}

/// A thread that has used something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct User {
    pub(crate) thread: u64,
    /// Threads with this number or a greater one were started after its last use.
    pub(crate) before: u64,
}

/// A thing's place in the list of those that are waited for, which it takes with the first wait.
#[derive(Default)]
pub(crate) struct Place(OnceLock<Listed<dyn Awaited>>);

impl Place {
    /// The wait for a part of `thing`, whose place this is.
    #[inline]
    pub(crate) fn of<A: Awaited + 'static>(&self, thing: &Arc<A>, part: Part) -> Awaits {
        let listed = self.0.get_or_init(|| {
            let weak: Weak<A> = Arc::downgrade(thing);
            AWAITED.enlist(weak)
        });
        let part = match part {
            Part::All => 1,
            Part::Place => 3,
            Part::Value => 5,
            Part::Room => 7,
            Part::Task(key) => key as u64,
        };
        let thing = listed.id();
        Awaits { thing, part }
    }
}

impl fmt::Debug for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Place").field(&self.0.get()).finish()
    }
}

/// The things that are waited for, by number.
pub(super) fn things() -> Vec<(u64, Arc<dyn Awaited>)> {
    AWAITED.live()
}
