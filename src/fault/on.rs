//! With the feature: asks, decides and carries out.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use super::At;
use super::points::{Fault, points};
use super::scope::{Injected, KINDS, Odds, Scope, lock};

/// How many scopes there are, so that a process without any pays one load.
static SCOPES: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static HERE: RefCell<Line> = const { RefCell::new(Line(None)) };
    /// Invariant 4.
    static BUSY: Cell<bool> = const { Cell::new(false) };
}

/// On whose behalf a thread runs: nobody's, or that of a scope, by a way of its own.
#[derive(Clone, Debug, Default)]
pub(crate) struct Line(Option<Arc<Lineage>>);

#[derive(Debug)]
struct Lineage {
    scope: Arc<Scope>,
    id: u64,
    path: String,
    parent: Option<Arc<Self>>,
    /// Of the parent's tasks or threads.
    number: u64,
    threads: AtomicU64,
    tasks: AtomicU64,
    passes: Vec<AtomicU64>,
    own: Mutex<BTreeMap<&'static str, u64>>,
}

const THREAD: u64 = 0x7468_7265_6164;
const TASK: u64 = 0x7461_736b;

/// The finaliser of splitmix64, over two words.
const fn mix(a: u64, b: u64) -> u64 {
    let mut z = a.rotate_left(23) ^ b.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

/// FNV-1a.
fn hash(text: &str) -> u64 {
    let step = |hash: u64, byte: u8| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3);
    text.bytes().fold(0xcbf2_9ce4_8422_2325, step)
}

impl Lineage {
    fn new(
        scope: Arc<Scope>,
        id: u64,
        path: String,
        parent: Option<Arc<Self>>,
        number: u64,
    ) -> Arc<Self> {
        Arc::new(Self {
            scope,
            id,
            path,
            parent,
            number,
            threads: AtomicU64::new(0),
            tasks: AtomicU64::new(0),
            passes: points().iter().map(|_| AtomicU64::new(0)).collect(),
            own: Mutex::default(),
        })
    }

    fn fork(self: &Arc<Self>, kind: u64, letter: char, number: u64) -> Line {
        let path = format!("{}/{letter}{number}", self.path);
        let id = mix(mix(self.id, kind), number);
        Line(Some(Self::new(
            self.scope.clone(),
            id,
            path,
            Some(self.clone()),
            number,
        )))
    }

    /// Counts a pass through a place and decides which of `may` happens in it.
    fn decide(&self, at: At, may: &[Fault]) -> Option<Injected> {
        let number = at as usize;
        self.scope.count_pass(number);
        let pass = self.passes[number].fetch_add(1, Ordering::Relaxed) + 1;
        let odds = &self.scope.rates.library[number];
        self.draw(at.point().name, pass, odds, may)
    }

    fn decide_own(&self, name: &'static str, may: &[Fault]) -> Option<Injected> {
        let pass = {
            let mut own = lock(&self.own);
            let passes = own.entry(name).or_default();
            *passes += 1;
            *passes
        };
        let rates = &self.scope.rates;
        let odds = rates.own.get(name).unwrap_or(&rates.own_else);
        self.draw(name, pass, odds, may)
    }

    fn draw(&self, point: &'static str, pass: u64, odds: &Odds, may: &[Fault]) -> Option<Injected> {
        let drawn = match &self.scope.rates.exactly {
            Some(exactly) => {
                let key = (self.path.clone(), point.to_owned(), pass);
                exactly
                    .get(&key)
                    .copied()
                    .filter(|(fault, _)| may.contains(fault))
            }
            None => self.roll(point, pass, odds, may),
        };
        let (fault, amount) = drawn?;
        let lineage = self.path.clone();
        Some(Injected {
            lineage,
            point,
            pass,
            fault,
            amount,
        })
    }

    /// Invariant 3. Of several kinds that come together, the first in `may`. What a point is not
    /// listed with has no odds there.
    fn roll(
        &self,
        point: &str,
        pass: u64,
        odds: &Odds,
        may: &[Fault],
    ) -> Option<(Fault, Duration)> {
        let rates = &self.scope.rates;
        let here = mix(mix(mix(rates.seed, self.id), hash(point)), pass);
        for &fault in may {
            let one_in = u64::from(odds[fault as usize]);
            let draw = mix(here, fault as u64 + 1);
            if one_in > 0 && draw.is_multiple_of(one_in) {
                let amount = amount(mix(draw, KINDS as u64), rates.longest[fault as usize]);
                return Some((fault, amount));
            }
        }
        None
    }
}

/// Up to `longest`, and as often a short one as a long one.
fn amount(draw: u64, longest: Duration) -> Duration {
    let longest = u64::try_from(longest.as_nanos()).unwrap_or(u64::MAX);
    if longest == 0 {
        return Duration::ZERO;
    }
    let halvings = draw % 8;
    let most = (longest >> halvings).max(1);
    Duration::from_nanos(most / 2 + mix(draw, 1) % (most / 2 + 1))
}

impl Line {
    pub(crate) const fn nobody() -> Self {
        Self(None)
    }

    /// That of the calling thread.
    pub(crate) fn here() -> Self {
        let here = HERE.try_with(|here| here.borrow().clone());
        here.unwrap_or_default()
    }

    /// The beginning of a scope.
    pub(crate) fn root(scope: Arc<Scope>) -> Self {
        SCOPES.fetch_add(1, Ordering::Relaxed);
        Self(Some(Lineage::new(scope, 1, "0".to_owned(), None, 0)))
    }

    /// Said once for each root.
    pub(crate) fn root_ends() {
        SCOPES.fetch_sub(1, Ordering::Relaxed);
    }

    /// Of a thread that the calling one starts.
    pub(crate) fn of_new_thread() -> Self {
        let Self(Some(here)) = Self::here() else {
            return Self(None);
        };
        let number = here.threads.fetch_add(1, Ordering::Relaxed);
        here.fork(THREAD, 't', number)
    }

    /// Of a task that the calling thread submits.
    pub(crate) fn of_new_task() -> Self {
        let Self(Some(here)) = Self::here() else {
            return Self(None);
        };
        let number = here.tasks.fetch_add(1, Ordering::Relaxed);
        here.fork(TASK, 'k', number)
    }

    /// The task was refused: the next one has its number. Otherwise how often a full queue is tried,
    /// which is an affair of the scheduler's, would decide the numbers of those that come after.
    pub(crate) fn give_back(&self) {
        let parent = self
            .0
            .as_ref()
            .and_then(|line| Some((line.parent.as_ref()?, line.number)));
        if let Some((parent, number)) = parent {
            let (last, next) = (number + 1, number);
            parent
                .tasks
                .compare_exchange(last, next, Ordering::Relaxed, Ordering::Relaxed)
                .ok();
        }
    }

    pub(crate) fn is_nobody(&self) -> bool {
        self.0.is_none()
    }

    /// Makes it that of the calling thread, until the guard is dropped.
    pub(crate) fn enter(&self) -> LineGuard {
        let enter = |here: &RefCell<Self>| here.replace(self.clone());
        LineGuard(HERE.try_with(enter).unwrap_or_default())
    }

    fn living(&self) -> Option<&Arc<Lineage>> {
        self.0.as_ref().filter(|line| line.scope.is_live())
    }
}

/// Puts back what was before.
#[derive(Debug)]
pub(crate) struct LineGuard(Line);

impl Drop for LineGuard {
    fn drop(&mut self) {
        let before = std::mem::take(&mut self.0);
        drop(HERE.try_with(|here| here.replace(before)));
    }
}

#[inline]
fn with_line<T>(decide: impl FnOnce(&Lineage) -> Option<T>) -> Option<(Arc<Lineage>, T)> {
    if SCOPES.load(Ordering::Relaxed) == 0 || BUSY.try_with(Cell::get).unwrap_or(true) {
        return None;
    }
    let line = Line::here();
    let line = line.living()?;
    Some((line.clone(), decide(line)?))
}

/// A place where a thread may stand still, or cancel.
#[inline]
pub(crate) fn pass(at: At) {
    let may = &[Fault::Cancel, Fault::Delay];
    if let Some((line, injected)) = with_line(|line| line.decide(at, may)) {
        carry_out(&line, injected);
    }
}

/// A place where a closure of the user's is about to run, within what contains or hands on its
/// panics.
#[inline]
pub(crate) fn run(at: At) {
    let may = &[Fault::Panic, Fault::Cancel, Fault::Delay];
    if let Some((line, injected)) = with_line(|line| line.decide(at, may)) {
        carry_out(&line, injected);
    }
}

#[cold]
fn carry_out(line: &Lineage, injected: Injected) {
    let Injected { fault, amount, .. } = injected;
    if fault == Fault::Panic && std::thread::panicking() {
        return; // a second one would end the process
    }
    line.scope.enter(injected.clone());
    BUSY.set(true);
    match fault {
        Fault::Delay => stand_still(amount),
        Fault::Cancel => {
            let pick = mix(mix(line.scope.rates.seed, line.id), injected.pass);
            line.scope.cancel(pick, format!("chaos: {injected}"));
        }
        _ => {}
    }
    BUSY.set(false);
    if fault == Fault::Panic {
        std::panic::resume_unwind(Box::new(format!("chaos: {injected}")));
    }
}

/// A wait on what nobody signals: it touches neither the thread's token for parking, which is the
/// user's, nor any clock.
fn stand_still(amount: Duration) {
    if amount < Duration::from_micros(20) {
        std::thread::yield_now();
        return;
    }
    let (nothing, never) = (Mutex::new(()), Condvar::new());
    drop(never.wait_timeout(lock(&nothing), amount));
}

fn answers(at: At, fault: Fault) -> bool {
    let decided = with_line(|line| line.decide(at, &[fault]));
    let injected = decided.is_some();
    if let Some((line, injected)) = decided {
        line.scope.enter(injected);
    }
    injected
}

/// Whether the operating system is to refuse.
#[inline]
pub(crate) fn refuses(at: At) -> bool {
    answers(at, Fault::Refuse)
}

/// Whether a wait is to end at once.
#[inline]
pub(crate) fn wakes_early(at: At) -> bool {
    answers(at, Fault::Early)
}

/// A place of the user's own.
#[inline]
pub(crate) fn own_pass(name: &'static str) {
    let may = &[Fault::Panic, Fault::Cancel, Fault::Delay];
    if let Some((line, injected)) = with_line(|line| line.decide_own(name, may)) {
        carry_out(&line, injected);
    }
}

/// Whether an operation of the user's own is to fail.
#[inline]
pub(crate) fn own_refuses(name: &'static str) -> bool {
    let decided = with_line(|line| line.decide_own(name, &[Fault::Refuse]));
    let refused = decided.is_some();
    if let Some((line, injected)) = decided {
        line.scope.enter(injected);
    }
    refused
}

/// Whether what a timer is to tell comes late: decided for who registered it, as the timer thread
/// is shared. It is put off by itself, so that it holds up nobody else's.
#[derive(Debug)]
pub(crate) struct Late {
    line: Line,
    /// When it was due, and 1; 0 while it has not been put off.
    since: AtomicU64,
}

impl Late {
    pub(crate) fn here() -> Self {
        let (line, since) = (Line::here(), AtomicU64::new(0));
        Self { line, since }
    }

    /// How long what is due is to be put off. Once for each deadline.
    pub(crate) fn put_off(&self, due: u64) -> Option<Duration> {
        // Under the clock's lock, which is what orders these.
        if self.since.load(Ordering::Relaxed) != 0 {
            return None;
        }
        let line = self.line.living()?;
        let injected = line.decide(At::ClockTimer, &[Fault::Late])?;
        let amount = injected.amount;
        line.scope.enter(injected);
        self.since.store(due.saturating_add(1), Ordering::Relaxed);
        Some(amount)
    }

    /// When what is told now was due, and the end of its delay.
    pub(crate) fn since(&self, due: u64) -> u64 {
        match self.since.swap(0, Ordering::Relaxed) {
            0 => due,
            since => since - 1,
        }
    }
}

/// How far a clock is ahead of the system's, in nanoseconds. It only grows.
#[derive(Debug)]
pub(crate) struct Leap(AtomicU64);

impl Leap {
    pub(crate) const fn new() -> Self {
        Self(AtomicU64::new(0))
    }

    #[inline]
    pub(crate) fn ahead(&self) -> Duration {
        // Relaxed: a number that stands for itself; a thread never sees it shrink.
        Duration::from_nanos(self.0.load(Ordering::Relaxed))
    }

    /// By the clock's own timer thread.
    pub(crate) fn pass(&self) {
        let decided = with_line(|line| line.decide(At::ClockJump, &[Fault::Jump]));
        if let Some((line, injected)) = decided {
            let nanos = u64::try_from(injected.amount.as_nanos()).unwrap_or(0);
            line.scope.enter(injected);
            self.0.fetch_add(nanos, Ordering::Relaxed);
        }
    }
}
