//! What the loop's thread and those who look at it share.

use std::fmt;
use std::panic::Location;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use crate::clock::{Clock, Instant, Timed, Timer};
use crate::contain::contain;
use crate::observe::{self, Breakpoint, SpanOrigin};
use crate::roll::{Listed, Roll};
use crate::sync::{Arc, Mutex, Weak};
use crate::threads::ThreadError;

static LOOPS: Roll<Shared> = Roll::new();

/// Its place in the list.
pub(super) type Entry = Listed<Shared>;

/// In the lowest bit of `Shared::at`: a pass is under way. The number of the pass is above it.
const BUSY: u64 = 1;

/// The least time that can be watched, and between two looks.
const SHORTEST: Duration = Duration::from_millis(1);

/// How often a pass is looked at in the time that it may take.
const LOOKS: u32 = 8;

/// On a cache line of its own, as the loop writes it at every pass. Every order is relaxed: these
/// are facts for people, and nothing else is read because of them.
#[repr(align(128))]
pub(super) struct Shared {
    at: AtomicU64,
    /// There is something in `alarm`.
    alarmed: AtomicBool,
    alarm: Mutex<Option<Alarm>>,
    name: Arc<str>,
    site: &'static Location<'static>,
    clock: Clock,
    since: Instant,
}

/// A pass that is over its time.
struct Alarm {
    iteration: u64,
    /// Since when it has been seen.
    since: Instant,
}

impl Shared {
    pub(super) fn enlist(
        name: Arc<str>,
        site: &'static Location<'static>,
        clock: Clock,
    ) -> (Arc<Self>, Entry) {
        let shared = Arc::new(Self {
            at: AtomicU64::new(0),
            alarmed: AtomicBool::new(false),
            alarm: Mutex::new(None),
            name,
            site,
            since: clock.now(),
            clock,
        });
        let entry = LOOPS.enlist(Arc::downgrade(&shared));
        (shared, entry)
    }

    pub(super) fn name(&self) -> &Arc<str> {
        &self.name
    }

    /// Pass number `pass` begins; whether there is an alarm about an earlier one.
    #[inline]
    pub(super) fn begin(&self, pass: u64) -> bool {
        self.at.store(pass << 1 | BUSY, Ordering::Relaxed);
        self.alarmed.load(Ordering::Relaxed)
    }

    /// Pass number `pass` has ended; whether there is an alarm about it.
    #[inline]
    pub(super) fn rest(&self, pass: u64) -> bool {
        self.at.store(pass << 1, Ordering::Relaxed);
        self.alarmed.load(Ordering::Relaxed)
    }

    /// For how long pass `ended` has been seen running, if there is an alarm about it.
    pub(super) fn take_alarm(&self, ended: u64) -> Option<Duration> {
        if !self.alarmed.load(Ordering::Relaxed) {
            return None;
        }
        let mut alarm = self.alarm.lock();
        // It may be about the pass that has begun just now: that one is told when it ends.
        let due = alarm.take_if(|alarm| alarm.iteration <= ended)?;
        self.alarmed.store(false, Ordering::Relaxed);
        drop(alarm);
        Some(self.clock.now().duration_since(due.since))
    }

    fn info(&self, id: u64) -> LoopInfo {
        let at = self.at.load(Ordering::Relaxed);
        LoopInfo {
            id,
            name: self.name.to_string(),
            probed_at: self.site,
            passes: at >> 1,
            busy: at & BUSY == BUSY,
            age: self.clock.now().duration_since(self.since),
        }
    }
}

/// A loop with a probe, as [`live()`] found it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{Clock, Probe, probe};
///
/// let clock = Clock::manual();
/// let line = line!() + 1;
/// let mut probe = Probe::builder("poll").clock(&clock).start().unwrap();
/// let look = || probe::live().into_iter().find(|found| found.name == "poll").unwrap();
/// assert_eq!((look().probed_at.line(), look().passes, look().busy), (line, 0, false));
/// probe.pass();
/// assert_eq!((look().passes, look().busy), (1, true));
/// probe.idle();
/// clock.advance(Duration::from_secs(60));
/// assert_eq!((look().passes, look().busy, look().age), (1, false, Duration::from_secs(60)));
/// assert!(look().to_string().ends_with("age 60.0 s, idle after 1"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct LoopInfo {
    /// Number of the probe in this process, never used twice.
    pub id: u64,
    /// The probe's name.
    pub name: String,
    /// The source line that started the probe.
    pub probed_at: &'static Location<'static>,
    /// How many passes have begun.
    pub passes: u64,
    /// Whether a pass is under way; `false` before the first, and while the loop is idle.
    pub busy: bool,
    /// For how long the probe has been there, by its clock.
    pub age: Duration,
}

impl fmt::Display for LoopInfo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let busy = if self.busy { "in pass" } else { "idle after" };
        write!(f, "loop \"{}\" at {}, ", self.name, self.probed_at)?;
        write!(
            f,
            "age {:.1} s, {busy} {}",
            self.age.as_secs_f64(),
            self.passes
        )
    }
}

/// The loops that have a probe now, oldest first. A look, not a lock: they go on meanwhile.
///
/// # Examples
///
/// ```
/// use cleanbreak::probe::{self, Probe};
///
/// let mut probe = Probe::new("poll");
/// probe.pass();
/// let all = probe::live();
/// let poll = all.iter().find(|found| found.name == "poll").unwrap();
/// assert_eq!((poll.passes, poll.busy), (1, true));
/// drop(probe);
/// assert!(probe::live().iter().all(|found| found.id != poll.id));
/// ```
#[must_use]
pub fn live() -> Vec<LoopInfo> {
    let live = LOOPS.live();
    live.iter().map(|(id, shared)| shared.info(*id)).collect()
}

/// A pass that is over its time, and still runs.
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
/// use std::time::Duration;
/// use cleanbreak::{Clock, Probe};
///
/// let clock = Clock::manual();
/// let (tell, told) = mpsc::channel();
/// let mut probe = Probe::builder("uploads")
///     .slow_after(Duration::from_secs(8))
///     .on_slow(move |slow| tell.send(slow.clone()).unwrap())
///     .clock(&clock)
///     .start()
///     .unwrap();
/// probe.pass();
/// clock.advance(Duration::from_secs(60)); // stuck
/// let slow = told.try_recv().unwrap();
/// assert_eq!((slow.name.as_str(), slow.iteration), ("uploads", 1));
/// assert_eq!(slow.took, Duration::from_secs(8)); // when it was told, at once
/// assert_eq!(slow.probed_at.file(), file!());
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct SlowPass {
    /// The probe's name.
    pub name: String,
    /// The source line that started the probe.
    pub probed_at: &'static Location<'static>,
    /// The number of the pass, from 1.
    pub iteration: u64,
    /// How long it has been seen running.
    pub took: Duration,
}

pub(super) type OnSlow = Arc<dyn Fn(&SlowPass) + Send + Sync>;

/// Looks at one loop, from the timer thread.
pub(super) struct Watch {
    shared: Arc<Shared>,
    limit: Duration,
    period: Duration,
    on_slow: Option<OnSlow>,
    origin: SpanOrigin,
    seen: Mutex<Seen>,
    /// Set once, before the watch is handed out (invariant 2).
    timer: OnceLock<Timer>,
}

/// What the loop did at the last look.
struct Seen {
    at: u64,
    since: Instant,
    told: bool,
}

impl Watch {
    /// `None` for a time that never passes.
    pub(super) fn start(
        shared: &Arc<Shared>,
        limit: Duration,
        on_slow: Option<OnSlow>,
    ) -> Result<Option<Arc<Self>>, ThreadError> {
        let limit = limit.max(SHORTEST);
        let period = (limit / LOOKS).max(SHORTEST);
        let now = shared.clock.now();
        let Some(first) = now.checked_add(period) else {
            return Ok(None);
        };
        let watch = Arc::new(Self {
            shared: shared.clone(),
            limit,
            period,
            on_slow,
            origin: SpanOrigin::here(),
            seen: Mutex::new(Seen {
                at: 0,
                since: now,
                told: false,
            }),
            timer: OnceLock::new(),
        });
        let timed: Weak<Self> = Arc::downgrade(&watch);
        let timer = shared.clock.register(first, timed);
        watch.timer.set(timer?).ok();
        Ok(Some(watch))
    }

    /// For how long the present pass has been seen, if that is news and too long.
    fn look(&self, late: Duration, now: Instant) -> Option<(u64, Duration)> {
        let at = self.shared.at.load(Ordering::Relaxed);
        let mut seen = self.seen.lock();
        // Who looks too late cannot tell who was asleep.
        if seen.at != at || late > self.period {
            let told = seen.told && seen.at == at;
            let since = now;
            *seen = Seen { at, since, told };
            return None;
        }
        let took = now.duration_since(seen.since);
        if at & BUSY != BUSY || seen.told || took < self.limit {
            return None;
        }
        seen.told = true;
        let iteration = at >> 1;
        let since = seen.since;
        drop(seen);
        *self.shared.alarm.lock() = Some(Alarm { iteration, since });
        self.shared.alarmed.store(true, Ordering::Relaxed);
        Some((iteration, took))
    }

    fn tell(&self, iteration: u64, took: Duration) {
        let pass = Breakpoint {
            name: &self.shared.name,
            iteration,
            total: None,
            interval: 0,
            regular: false,
            exit: None,
            slow: Some(took),
            alarming: true,
            failed: false,
        };
        observe::overdue_pass(&pass, &self.origin);
        if let Some(on_slow) = &self.on_slow {
            let pass = SlowPass {
                name: self.shared.name.to_string(),
                probed_at: self.shared.site,
                iteration,
                took,
            };
            contain(|| on_slow(&pass));
        }
    }
}

impl Timed for Watch {
    fn fire(self: Arc<Self>, due: Instant, now: Instant) -> Option<Instant> {
        if let Some((iteration, took)) = self.look(now.duration_since(due), now) {
            self.tell(iteration, took);
        }
        now.checked_add(self.period)
    }
}
