//! What the handles and permits of one breaker share, and what is done after a transition.

use std::panic::Location;
use std::sync::OnceLock;
use std::time::Duration;

use super::cell::{Cell, Look, Passed};
use super::err::Rejected;
use super::machine::{Admission, Machine, Refill};
use super::permit::Outcome;
use super::state::{Snapshot, State, Transition};
use super::window::Sample;
use crate::backoff::Delays;
use crate::clock::{Clock, Instant, Timed, Timer};
use crate::contain::{contain, drop_contained};
use crate::observe::{self, BreakerFacts};
use crate::roll::Listed;
use crate::sync::{Arc, AtomicU64, Ordering, Weak};

pub(super) type Listener = Box<dyn Fn(&Transition) + Send + Sync>;

/// Every so many rejections one reads the clock, whatever the bell says: a timer thread that hangs
/// in somebody's hook must not keep a breaker open. A power of two.
const LOOK_EVERY: u64 = 64;

pub(super) struct Shared {
    pub(super) cell: Cell<Extra>,
    pub(super) clock: Clock,
    pub(super) name: Arc<str>,
    pub(super) site: &'static Location<'static>,
    /// Set once, when there is a reference to be weak.
    pub(super) listed: OnceLock<Listed<Self>>,
    /// From how long on a call is slow, if anybody cares.
    pub(super) slow_after: Option<Duration>,
    /// The window goes by time.
    pub(super) timed: bool,
    pub(super) listeners: Vec<Listener>,
    pub(super) facts: BreakerFacts,
    bell: Arc<Bell>,
    rejections: Rejections,
}

/// Kept under the cell's lock.
pub(super) struct Extra {
    /// Rings when the opening of this generation is over.
    timer: Option<(u32, Timer)>,
    /// Where the open times come from; away while one is computed.
    delays: Option<Delays>,
    /// Somebody tells the listeners, and goes on until all are told.
    telling: bool,
}

/// On a line of its own: it is written while others read the word.
#[repr(align(128))]
struct Rejections(AtomicU64);

/// The latest time that the timer thread has brought, in nanoseconds from the clock's zero.
struct Bell(AtomicU64);

impl Timed for Bell {
    /// `fetch_max`, so that a ring that comes late takes nothing back. Relaxed, as is the load: who
    /// sees it asks the machine, under its lock.
    fn fire(self: Arc<Self>, _due: Instant, now: Instant) -> Option<Instant> {
        self.0.fetch_max(now.as_nanos(), Ordering::Relaxed);
        None
    }
}

impl Extra {
    pub(super) fn new(delays: Delays) -> Self {
        Self {
            timer: None,
            delays: Some(delays),
            telling: false,
        }
    }
}

impl Shared {
    #[track_caller]
    pub(super) fn new(cell: Cell<Extra>, clock: Clock, name: Arc<str>) -> Self {
        Self {
            cell,
            clock,
            name,
            site: Location::caller(),
            listed: OnceLock::new(),
            slow_after: None,
            timed: false,
            listeners: Vec::new(),
            facts: BreakerFacts::new(None, &[]),
            bell: Arc::new(Bell(AtomicU64::new(0))),
            rejections: Rejections(AtomicU64::new(0)),
        }
    }

    /// The generation in which a call may go through.
    #[inline]
    pub(super) fn admit(&self) -> Result<u32, Rejected> {
        match self.cell.look() {
            Look::Granted(generation) => Ok(generation),
            Look::Open { until, armed } => self.admit_open(until, armed),
            Look::ForcedOpen => {
                self.count_rejection();
                Err(Rejected::new(State::ForcedOpen, None))
            }
            Look::HalfOpen => self.ask(self.clock.now()),
        }
    }

    /// Whether a call would go through now, without letting it. What is refused is counted.
    #[inline]
    pub(super) fn look(&self) -> Result<(), Rejected> {
        match self.cell.look() {
            Look::Granted(_) => Ok(()),
            Look::Open { until, armed } => self.time_after(until, armed).map(drop),
            Look::ForcedOpen => {
                self.count_rejection();
                Err(Rejected::new(State::ForcedOpen, None))
            }
            Look::HalfOpen => self.look_for_a_place(),
        }
    }

    #[cold]
    fn look_for_a_place(&self) -> Result<(), Rejected> {
        let now = self.clock.now();
        match self.cell.with(|machine, _| machine.would_refuse(now)) {
            None => Ok(()),
            Some((state, until)) => {
                self.count_rejection();
                Err(Rejected::new(state, until))
            }
        }
    }

    #[inline]
    fn admit_open(&self, until: u64, armed: bool) -> Result<u32, Rejected> {
        self.ask(self.time_after(until, armed)?)
    }

    /// What time it is, if the opening is over. Reads no clock, as a rule: the bell says when it is
    /// time to look.
    #[inline]
    fn time_after(&self, until: u64, armed: bool) -> Result<Instant, Rejected> {
        let quiet = armed && self.bell.0.load(Ordering::Relaxed) < until;
        if quiet && !self.count_rejection().is_multiple_of(LOOK_EVERY) {
            return Err(Rejected::until_nanos(State::Open, until));
        }
        self.look_closer(until, quiet)
    }

    #[cold]
    #[inline(never)]
    fn look_closer(&self, until: u64, counted: bool) -> Result<Instant, Rejected> {
        let now = self.clock.now();
        if now.as_nanos() >= until {
            return Ok(now);
        }
        if !counted {
            self.count_rejection();
        }
        Err(Rejected::until_nanos(State::Open, until))
    }

    #[cold]
    #[inline(never)]
    fn ask(&self, now: Instant) -> Result<u32, Rejected> {
        let (admission, changed) = self.cell.admit(now);
        if changed {
            self.after_transition();
        }
        match admission {
            Admission::Granted(generation) => Ok(generation),
            Admission::Refused(state, until) => {
                self.count_rejection();
                Err(Rejected::new(state, until))
            }
        }
    }

    /// Relaxed: nothing is decided by it but when to read the clock.
    #[inline]
    fn count_rejection(&self) -> u64 {
        self.facts.rejected();
        self.rejections.0.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// When a call began, if anybody cares.
    #[inline]
    pub(super) fn begin(&self) -> Option<Instant> {
        self.slow_after.map(|_| self.clock.now())
    }

    /// A call of `generation` has ended.
    #[inline]
    pub(super) fn end(&self, generation: u32, began: Option<Instant>, outcome: Outcome) {
        let timed = self.timed && outcome != Outcome::Ignored;
        let now = (timed || began.is_some()).then(|| self.clock.now());
        let took = began.zip(now).map(|(began, now)| now.duration_since(began));
        let slow = took
            .zip(self.slow_after)
            .is_some_and(|(took, from)| took >= from);
        let good = outcome == Outcome::Success && !slow;
        if good && self.cell.pass(generation, now) == Passed::Done {
            return;
        }
        self.report(generation, outcome, slow, now);
    }

    #[cold]
    #[inline(never)]
    fn report(&self, generation: u32, outcome: Outcome, slow: bool, now: Option<Instant>) {
        if !self.cell.is_current(generation) {
            return;
        }
        let sample = match outcome {
            Outcome::Ignored => None,
            Outcome::Success | Outcome::Failure => Some(Sample {
                failed: outcome == Outcome::Failure,
                slow,
            }),
        };
        let now = now.unwrap_or_else(|| self.clock.now());
        if self.cell.report(generation, sample, now) {
            self.after_transition();
        }
    }

    /// By hand.
    pub(super) fn set(&self, state: State) {
        let now = self.clock.now();
        self.cell.with(|machine, _| machine.set(state, now));
        self.after_transition();
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        let now = self.clock.now();
        let rejected = self.rejections.0.load(Ordering::Relaxed);
        self.cell.with(|machine, _| machine.snapshot(now, rejected))
    }

    /// Nothing here is done under the lock, and all of it holds if others do the same at the same
    /// time.
    fn after_transition(&self) {
        self.arm();
        self.refill();
        self.tell();
    }

    /// Sees to it that a timer rings at the end of this opening, and none otherwise.
    fn arm(&self) {
        let (opening, stale) = self.cell.with(|machine, extra| {
            let opening = (machine.state() == State::Open)
                .then(|| (machine.generation(), machine.open_until()));
            let generation = opening.map(|(generation, _)| generation);
            let is_stale = |timer: &mut (u32, Timer)| Some(timer.0) != generation;
            (opening, extra.timer.take_if(is_stale))
        });
        // The last timer of its clock: this joins a thread.
        drop(stale);
        match opening {
            None => {}
            Some((generation, None)) => self.cell.arm(generation, |_| {}),
            Some((generation, Some(until))) => self.register(generation, until),
        }
    }

    /// Without a thread for the timer, rejections read the clock.
    fn register(&self, generation: u32, until: Instant) {
        let bell: Arc<dyn Timed> = self.bell.clone();
        let bell: Weak<dyn Timed> = Arc::downgrade(&bell);
        if let Ok(timer) = self.clock.register(until, bell) {
            let mut timer = Some((generation, timer));
            self.cell.arm(generation, |extra| {
                if extra.timer.is_none() {
                    extra.timer = timer.take();
                }
            });
            // It was over meanwhile, or somebody else was here.
            drop(timer);
        }
    }

    /// Computes the next open time, which may call a closure of the user's. If that panics, or
    /// another transition comes meanwhile, the one before serves again.
    fn refill(&self) {
        loop {
            let (refill, delays) = self.cell.with(|machine, extra| match extra.delays.take() {
                Some(delays) => (machine.take_refill(), Some(delays)),
                None => (Refill::None, None),
            });
            let Some(mut delays) = delays else { return };
            let next = match refill {
                Refill::None => None,
                Refill::Next => contain(|| delays.next_delay()),
                Refill::Rewind => {
                    delays.reset();
                    contain(|| delays.next_delay())
                }
            };
            self.cell.with(|machine, extra| {
                extra.delays = Some(delays);
                if let Some(open_for) = next {
                    machine.set_upcoming(open_for);
                }
            });
            if refill == Refill::None {
                return;
            }
        }
    }

    /// Tells the listeners, unless somebody is at it: then that one goes on until all are told. So
    /// they hear of one transition after the other, and one that uses the breaker does not nest.
    fn tell(&self) {
        let busy = |extra: &mut Extra| std::mem::replace(&mut extra.telling, true);
        if self.cell.with(|_, extra| busy(extra)) {
            return;
        }
        while let Some(transition) = self.next_untold() {
            self.report_transition(&transition);
            for listener in &self.listeners {
                contain(|| listener(&transition));
            }
        }
    }

    fn report_transition(&self, transition: &Transition) {
        let (from, to) = (transition.from.label(), transition.to.label());
        let reason = transition.reason.label();
        self.facts.changed(from, to, reason);
        observe::breaker_event(&self.name, from, to, reason);
    }

    /// In one step with putting the telling down, so that nothing is left in between.
    fn next_untold(&self) -> Option<Transition> {
        self.cell.with(|machine, extra| {
            let next = machine.next_untold();
            extra.telling = next.is_some();
            next
        })
    }
}

/// Destructors of what the listeners captured are the user's.
impl Drop for Shared {
    fn drop(&mut self) {
        self.listeners.drain(..).for_each(drop_contained);
    }
}

pub(super) type Core = Cell<Extra>;

/// A cell at its beginning.
pub(super) fn cell(machine: Machine, delays: Delays) -> Core {
    Cell::new(machine, Extra::new(delays))
}
