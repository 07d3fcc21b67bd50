//! The second look: threads of which there is no stack yet are asked for a copy by a signal.
//!
//! # Invariants
//!
//! 1. Right before a signal is sent, its thread was seen to run, or what it sleeps in could not be
//!    seen from outside. So one that a look can see through is left alone.
//! 2. A thread that blocks the signal, or has one in wait, gets none. So there is at most one in wait
//!    for each thread, however many dumps are taken.
//! 3. A thread that blocks a signal whose handler has a stack of its own may be in that handler. It
//!    gets none: such stacks are small, and for a second handler on top there may be no room.
//! 4. A copy counts if number, start and names of the thread are the same before and after it (a
//!    number may be used again, and a thread of a pool goes from one task to the next), and if the
//!    loader has loaded and unloaded nothing between the first signal and the walk.
//! 5. All are asked before anybody is waited for, and all are waited for together: the time is
//!    bounded by [`patience`](DumpBuilder::patience), whatever they do.

use std::time::Duration;

use super::dump::DumpBuilder;
use super::sample::Sample;
use super::signal::StackSignal;
use super::stack::{StackProblem, TakenBy, Walk};
use super::stacks::Stacks;
use super::stacks::handler;
use super::stacks::slots::{self, Copied, Ticket};
use super::task::Task;
use crate::clock::{Clock, Instant};

/// For how much of its own time a thread is seen to block the signal before that is believed, in ns.
/// It may do so for a moment only: the C library does while it starts a thread, and the handler of the
/// last dump may not have returned yet. On a busy machine, a moment is long.
const BLOCKED: u64 = 5_000_000;
/// How often it is looked at.
const LOOK: Duration = Duration::from_millis(1);
/// How often a thread may be found asleep, and awake again when its stack is looked at.
const NAPS: u32 = 3;
/// How often it is looked whether threads that have not answered are still there.
const CHECK: Duration = Duration::from_millis(10);

/// Adds the stacks that a signal brings. Takes out threads that have ended.
pub(super) fn fill(
    samples: &mut Vec<Sample>,
    signal: StackSignal,
    options: &DumpBuilder,
    stacks: &mut Stacks,
    problems: &mut Vec<String>,
) {
    if !signal.is_in_place() {
        let number = signal.number();
        problems.push(format!(
            "signal {number} has a handler of somebody else's: no thread was asked for its stack"
        ));
        return;
    }
    let begun = Clock::default().now();
    for _ in 0..options.attempts {
        stacks.refresh();
        let mut round = Round::new(samples, signal, options, begun);
        if round.targets.is_empty() {
            return;
        }
        round.ask(stacks);
        round.walk(stacks);
        samples.retain(|sample| sample.walk.end != Err(StackProblem::Ended));
    }
}

/// In a set of signals.
fn bit(signal: StackSignal) -> u64 {
    let number = signal.number().unsigned_abs();
    1_u64.checked_shl(number.wrapping_sub(1)).unwrap_or(0)
}

/// Whether a signal may bring more than is there.
fn lacks_stack(sample: &Sample) -> bool {
    let lacks = match sample.walk.end {
        Ok(()) => false,
        Err(problem) => matches!(
            problem,
            StackProblem::Running
                | StackProblem::KeptRunning
                | StackProblem::Denied
                | StackProblem::LostRegister
                | StackProblem::Garbled
        ),
    };
    lacks && !sample.is_current && !sample.signalled
}

struct Round<'a> {
    targets: Vec<Target<'a>>,
    signal: StackSignal,
    /// Signals that a thread which is asked must not block.
    open: u64,
    options: &'a DumpBuilder,
    /// Where to look for the next slot.
    slot: usize,
    /// When the first round began.
    begun: Instant,
}

/// One thread that is asked.
struct Target<'a> {
    sample: &'a mut Sample,
    task: Task,
    progress: Progress,
    /// How much time it had had when it was first seen to block the signal, in ns.
    held_since: Option<u64>,
    /// How often it slept when it was about to be asked.
    naps: u32,
}

enum Progress {
    /// It blocks the signal, slept for a moment, or has not been looked at.
    Unasked,
    Asked(Ticket),
    Answered(Copied),
    /// It needs no signal any more, or there is nothing to be had of it.
    Settled,
}

impl<'a> Round<'a> {
    fn new(
        samples: &'a mut [Sample],
        signal: StackSignal,
        options: &'a DumpBuilder,
        begun: Instant,
    ) -> Self {
        let lacking = samples.iter_mut().filter(|sample| lacks_stack(sample));
        let targets = lacking.map(|sample| Target {
            task: Task::new(sample.tid),
            sample,
            progress: Progress::Unasked,
            held_since: None,
            naps: 0,
        });
        Self {
            targets: targets.collect(),
            signal,
            open: bit(signal) | handler::on_own_stacks(),
            options,
            slot: 0,
            begun,
        }
    }

    /// Sends the signals, and waits.
    fn ask(&mut self, stacks: &mut Stacks) {
        let clock = Clock::default();
        let mut checked = clock.now();
        loop {
            let seen = slots::answers();
            let now = clock.now();
            let check = now.duration_since(checked) >= CHECK;
            if check {
                checked = now;
            }
            self.advance(check, stacks);
            let Some(left) = self.left(clock.now()) else {
                break;
            };
            slots::await_answer(seen, left);
        }
        for target in &mut self.targets {
            target.give_up(self.open, self.signal);
        }
    }

    fn advance(&mut self, check: bool, stacks: &mut Stacks) {
        for target in &mut self.targets {
            match &target.progress {
                Progress::Unasked => {
                    if target.may_be_asked(self.open, self.signal, self.options, stacks) {
                        target.send(self.signal, &mut self.slot);
                    }
                }
                Progress::Asked(_) => target.collect(check),
                Progress::Answered(_) | Progress::Settled => {}
            }
        }
    }

    /// How long to sleep before the next look; `None` when there is nothing to wait for.
    fn left(&self, now: Instant) -> Option<Duration> {
        let (mut asked, mut unasked) = (false, false);
        for target in &self.targets {
            match target.progress {
                Progress::Asked(_) => asked = true,
                Progress::Unasked => unasked = true,
                Progress::Answered(_) | Progress::Settled => {}
            }
        }
        if !asked && !unasked {
            return None;
        }
        let pause = if unasked { LOOK } else { CHECK };
        let waited = now.duration_since(self.begun);
        let left = self.options.patience.checked_sub(waited)?;
        (!left.is_zero()).then(|| left.min(pause))
    }

    /// Unwinds what was copied.
    fn walk(self, stacks: &mut Stacks) {
        let mut changed = stacks.refresh();
        for target in self.targets {
            let Progress::Answered(copied) = target.progress else {
                continue;
            };
            let walk = stacks.walk_copied(copied);
            changed |= stacks.refresh();
            target.sample.take_copy(walk, changed);
        }
    }
}

impl Target<'_> {
    /// Whether there is a need for the signal, and it would be taken now.
    fn may_be_asked(
        &mut self,
        open: u64,
        signal: StackSignal,
        options: &DumpBuilder,
        stacks: &mut Stacks,
    ) -> bool {
        let status = match self.task.status() {
            Ok(status) => status,
            Err(problem) => {
                self.settle(problem);
                return false;
            }
        };
        if !status.runs && self.sample.ran() {
            // It has gone to sleep, and need not be disturbed.
            self.naps += 1;
            match self.sample.retake(None, options, stacks) {
                Err(problem) => self.settle(problem),
                Ok(()) if self.sample.ran() && self.naps < NAPS => {}
                Ok(()) => self.progress = Progress::Settled,
            }
            return false;
        }
        let blocks = status.blocked & open != 0;
        match status.runs {
            _ if !blocks && status.pending & bit(signal) == 0 => return true,
            true => self.held_off(),
            false => self.settle(StackProblem::SignalBlocked), // and it sleeps so
        }
        false
    }

    /// It blocks the signal: if it has had the time not to, it will go on so.
    fn held_off(&mut self) {
        let runs = self.task.runs().and_then(|counter| counter.read());
        match (runs, self.held_since) {
            (Ok([run, ..]), None) => self.held_since = Some(run),
            (Ok([run, ..]), Some(since)) if run.saturating_sub(since) < BLOCKED => {}
            (Err(StackProblem::Running), _) => {} // it has not begun
            (Err(StackProblem::Ended), _) => self.settle(StackProblem::Ended),
            _ => self.settle(StackProblem::SignalBlocked),
        }
    }

    fn send(&mut self, signal: StackSignal, slot: &mut usize) {
        if let Err(problem) = self.sample.read(&self.task) {
            return self.settle(problem);
        }
        let Some(ticket) = Ticket::arm(slot) else {
            return self.settle(StackProblem::SignalRefused);
        };
        match handler::send(self.sample.tid, signal.number(), &ticket) {
            Ok(()) => self.progress = Progress::Asked(ticket),
            Err(error) if error.raw_os_error() == Some(libc::ESRCH) => {
                self.settle(StackProblem::Ended);
            }
            Err(_) => self.settle(StackProblem::SignalRefused),
        }
    }

    /// Takes the copy if it is there. With `check`, also looks whether the thread is.
    fn collect(&mut self, check: bool) {
        let Progress::Asked(ticket) = &self.progress else {
            return;
        };
        match ticket.take() {
            Some(copied) => self.answered(copied),
            None if !check => {}
            None => {
                if let Err(StackProblem::Ended) = self.task.stat() {
                    self.settle(StackProblem::Ended);
                }
            }
        }
    }

    /// By the thread that was meant, doing what it did (invariant 4).
    fn answered(&mut self, copied: Copied) {
        let before = self.sample.identity();
        match self.sample.read(&self.task) {
            Err(problem) => self.settle(problem),
            Ok(()) if self.sample.identity() != before => {
                self.sample.walk = Walk::broken(StackProblem::KeptRunning);
                self.progress = Progress::Settled;
            }
            Ok(()) => self.progress = Progress::Answered(copied),
        }
    }

    /// There is no stack by signal, and will be none.
    fn settle(&mut self, problem: StackProblem) {
        self.progress = Progress::Settled;
        self.sample.fail_copy(problem);
    }

    fn give_up(&mut self, open: u64, signal: StackSignal) {
        self.collect(false);
        let asked = match self.progress {
            Progress::Answered(_) | Progress::Settled => return,
            Progress::Unasked => false,
            Progress::Asked(_) => true,
        };
        let status = match self.task.status() {
            Ok(status) => status,
            Err(problem) => return self.settle(problem),
        };
        let blocks = status.blocked & open != 0;
        let waits = status.pending & bit(signal) != 0;
        if blocks && (waits || !asked) {
            // Not so while it is in the handler: then it blocks all, and none waits for it.
            self.settle(StackProblem::SignalBlocked);
        } else if asked || waits {
            self.settle(StackProblem::SignalLate);
        } else {
            self.progress = Progress::Settled;
        }
    }
}

impl Sample {
    /// When the thread began, and its names.
    fn identity(&self) -> (Option<u64>, Option<String>, Option<String>) {
        let stat = self.stat.as_ref();
        let info = self.info.as_ref();
        (
            stat.map(|stat| stat.start),
            stat.map(|stat| stat.name.clone()),
            info.map(|info| info.name.clone()),
        )
    }

    fn take_copy(&mut self, walk: Walk, changed: bool) {
        if changed {
            // May be wrong: the next round asks again.
            self.walk = Walk::broken(StackProblem::KeptRunning);
            return;
        }
        self.signalled = true;
        if walk.end.is_ok() || self.walk.addresses.is_empty() {
            self.walk = walk;
            self.taken = TakenBy::Signal;
        }
    }

    fn fail_copy(&mut self, problem: StackProblem) {
        self.signalled = true;
        if self.walk.addresses.is_empty() || problem == StackProblem::Ended {
            self.walk = Walk::broken(problem);
        }
    }
}
