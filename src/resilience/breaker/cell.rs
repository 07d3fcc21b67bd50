//! One breaker's state as many threads see it: a word for who comes and goes, and the machine behind
//! a lock for whatever may lead to a transition.
//!
//! # Invariants
//!
//! 1. The machine changes only under the lock. Whenever the lock is free, the word says what it says:
//!    state, generation, ease.
//! 2. A good call goes past the lock only where the machine said that it can do nothing but be
//!    counted. It is counted in the word itself, in one step with the look at generation and ease.
//! 3. Who takes the lock takes the count out of the word and folds it in before anything else, and
//!    sets the ease to EXACT in the same step. So until the word is published again nothing goes past
//!    the lock, and the order is that of the steps on the word: what was counted came before, what
//!    was not finds the lock taken.
//! 4. What comes back with another generation than the word's has no effect.
//! 5. In HALF_OPEN all comes to the lock; so exactly as many probes are admitted as the machine says.
//!
//! Lock order: this lock is taken with no other held, and none is taken under it.

use super::machine::{Admission, Ease, Machine};
use super::state::State;
use super::window::Sample;
use crate::clock::Instant;
use crate::sync::{AtomicU64, Mutex, Ordering};

/// The parts of the word.
///
/// | bits | |
/// |---|---|
/// | 0–2 | state |
/// | 3 | armed: OPEN, and something rings when it is over |
/// | 4–5 | ease: what a good call can do |
/// | 8–31 | good calls that have not been folded in |
/// | 32–63 | generation; after 2³² transitions a ticket that old would be taken for a new one |
#[derive(Clone, Copy)]
struct Word(u64);

const STATE: u64 = 0b111;
const CLOSED: u64 = 0;
const OPEN: u64 = 1;
const HALF_OPEN: u64 = 2;
const FORCED_OPEN: u64 = 3;
const DISABLED: u64 = 4;
const METRICS_ONLY: u64 = 5;

const ARMED: u64 = 1 << 3;

const EASE: u64 = 0b11 << 4;
/// Zero, so that taking it out of the word is enough.
const EXACT: u64 = 0;
const COUNTED: u64 = 1 << 4;
const CLEAN: u64 = 2 << 4;

const GOOD_SHIFT: u32 = 8;
const ONE_GOOD: u64 = 1 << GOOD_SHIFT;
const GOOD: u64 = 0xff_ffff << GOOD_SHIFT;
/// How many good calls may wait in the word at the most: it cannot run over into the generation.
const MOST_GOOD: u64 = 1 << 20;

const GENERATION_SHIFT: u32 = 32;

impl Word {
    fn of(machine: &Machine, armed: bool) -> Self {
        let state = match machine.state() {
            State::Closed => CLOSED,
            State::Open => OPEN,
            State::HalfOpen => HALF_OPEN,
            State::ForcedOpen => FORCED_OPEN,
            State::Disabled => DISABLED,
            State::MetricsOnly => METRICS_ONLY,
        };
        let ease = match machine.ease() {
            Ease::Exact => EXACT,
            Ease::Counted => COUNTED,
            Ease::Clean => CLEAN,
        };
        let armed = if armed { ARMED } else { 0 };
        Self(state | ease | armed | u64::from(machine.generation()) << GENERATION_SHIFT)
    }

    fn generation(self) -> u32 {
        (self.0 >> GENERATION_SHIFT) as u32
    }

    fn good(self) -> u64 {
        (self.0 & GOOD) >> GOOD_SHIFT
    }
}

/// What a caller sees without the lock.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// It may go through, in this generation.
    Granted(u32),
    /// Open until then: nanoseconds from the clock's zero. If armed, the bell says when that is over.
    Open { until: u64, armed: bool },
    /// Not before somebody says otherwise.
    ForcedOpen,
    /// The machine must be asked.
    HalfOpen,
}

/// Whether a report is done with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Passed {
    Done,
    /// It must go to the machine.
    Ask,
}

/// `X` is what the handle keeps under the same lock.
pub(super) struct Cell<X> {
    word: AtomicU64,
    /// Until when a good call may be counted in the word: where the window's slice ends.
    slice_end: AtomicU64,
    /// When OPEN ends, or the last one ended. Never, if that is `u64::MAX`.
    until: AtomicU64,
    /// How many good calls may wait in the word: after as many as the window is long, it may be
    /// CLEAN.
    limit: u64,
    inner: Mutex<Inner<X>>,
}

struct Inner<X> {
    machine: Machine,
    /// The generation in which something rings when OPEN ends.
    armed: Option<u32>,
    extra: X,
}

impl<X> Cell<X> {
    pub(super) fn new(machine: Machine, extra: X) -> Self {
        let inner = Inner {
            machine,
            armed: None,
            extra,
        };
        Self {
            word: AtomicU64::new(inner.word()),
            slice_end: AtomicU64::new(inner.machine.window().slice_end()),
            until: AtomicU64::new(inner.until()),
            limit: inner.machine.window().length().min(MOST_GOOD),
            inner: Mutex::new(inner),
        }
    }

    /// Acquire, with the Release store in `locked`: `until` is that of the word, or of a later opening
    /// that has begun meanwhile. Both are good answers.
    #[inline]
    pub(super) fn look(&self) -> Look {
        let word = Word(self.word.load(Ordering::Acquire));
        match word.0 & STATE {
            CLOSED | DISABLED | METRICS_ONLY => Look::Granted(word.generation()),
            OPEN => Look::Open {
                until: self.until.load(Ordering::Relaxed),
                armed: word.0 & ARMED != 0,
            },
            HALF_OPEN => Look::HalfOpen,
            _ => Look::ForcedOpen,
        }
    }

    /// Counts a good call of `generation`, if that needs no lock. `now` is given if the window goes
    /// by time.
    ///
    /// The load is Acquire, with the Release store in `locked`, for `slice_end`: it is that of the
    /// word or of a later one. If the slice moves on before the exchange, and back to the same word,
    /// the call is counted in the slice after the one in which it ended: as if it had come to the
    /// lock that much later. The exchange is Relaxed: the count is in the word, all changes of one
    /// word have one order, and nothing else is handed over with it.
    #[inline]
    pub(super) fn pass(&self, generation: u32, now: Option<Instant>) -> Passed {
        let mut word = Word(self.word.load(Ordering::Acquire));
        loop {
            if word.generation() != generation || word.0 & EASE == CLEAN {
                return Passed::Done;
            }
            let slice_over = || {
                let end = self.slice_end.load(Ordering::Relaxed);
                now.is_some_and(|now| now.as_nanos() >= end)
            };
            if word.0 & EASE == EXACT || word.good() + 1 >= self.limit || slice_over() {
                return Passed::Ask;
            }
            let counted = word.0 + ONE_GOOD;
            let exchanged = self.word.compare_exchange_weak(
                word.0,
                counted,
                Ordering::Relaxed,
                Ordering::Acquire,
            );
            match exchanged {
                Ok(_) => return Passed::Done,
                Err(current) => word = Word(current),
            }
        }
    }

    /// Whether what comes back with this generation can have an effect. Acquire, as in `pass`; by
    /// itself it decides only what is too late already.
    #[inline]
    pub(super) fn is_current(&self, generation: u32) -> bool {
        Word(self.word.load(Ordering::Acquire)).generation() == generation
    }

    pub(super) fn admit(&self, now: Instant) -> (Admission, bool) {
        self.locked(|inner| {
            let admission = inner.machine.admit(now);
            (admission, inner.machine.has_untold())
        })
    }

    /// The answer is whether somebody is to be told of a transition.
    pub(super) fn report(&self, generation: u32, sample: Option<Sample>, now: Instant) -> bool {
        self.locked(|inner| {
            inner.machine.report(generation, sample, now);
            inner.machine.has_untold()
        })
    }

    /// Whatever else is to be done with the machine and what is kept beside it.
    pub(super) fn with<R>(&self, act: impl FnOnce(&mut Machine, &mut X) -> R) -> R {
        self.locked(|inner| act(&mut inner.machine, &mut inner.extra))
    }

    /// Something rings when the opening of `generation` is over, and `keep` keeps it; if it is over
    /// already, `keep` is not called.
    pub(super) fn arm(&self, generation: u32, keep: impl FnOnce(&mut X)) {
        self.locked(|inner| {
            let machine = &inner.machine;
            if machine.state() == State::Open && machine.generation() == generation {
                inner.armed = Some(generation);
                keep(&mut inner.extra);
            }
        });
    }

    /// Invariant 3. `fetch_and` is AcqRel only by habit: the lock orders its holders, and the count
    /// is in the word (see `pass`). The store is Release for `look` and `pass`. Between the two
    /// nobody else changes the word, since the ease is EXACT.
    fn locked<R>(&self, act: impl FnOnce(&mut Inner<X>) -> R) -> R {
        let mut inner = self.inner.lock();
        let word = Word(self.word.fetch_and(!(EASE | GOOD), Ordering::AcqRel));
        inner.machine.count_good(word.good());
        let result = act(&mut inner);
        let slice_end = inner.machine.window().slice_end();
        self.slice_end.store(slice_end, Ordering::Relaxed);
        // Left as it is when OPEN ends: who has seen that word still must find its time over.
        if inner.machine.state() == State::Open {
            self.until.store(inner.until(), Ordering::Relaxed);
        }
        self.word.store(inner.word(), Ordering::Release);
        result
    }
}

impl<X> Inner<X> {
    fn word(&self) -> u64 {
        let armed = self.armed == Some(self.machine.generation());
        Word::of(&self.machine, armed).0
    }

    fn until(&self) -> u64 {
        let until = self.machine.open_until();
        until.map_or(u64::MAX, Instant::as_nanos)
    }
}
