//! The second look: threads of which there is no stack yet are asked for a copy by a signal.
//!
//! # Invariants
//!
//! 1. Right before a signal is sent, its thread was seen to run, or what it sleeps in could not be
//!    seen from outside. So one that a look can see through is left alone.
//! 2. A thread that blocks the signal, or has one in wait, gets none. So there is at most one in wait
//!    for each thread, however many dumps are taken.
//! 3. A copy counts if number, start and names of the thread are the same before and after it (a
//!    number may be used again, and a thread of a pool goes from one task to the next), and if the
//!    loader has loaded and unloaded nothing between the first signal and the walk.
//! 4. All are asked before anybody is waited for, and all are waited for together: the time is
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

/// How long a thread that blocks the signal is looked at, which it may do for a moment only: the C
/// library does while it starts a thread.
const BLOCKED: Duration = Duration::from_millis(20);
/// How often it is.
const LOOK: Duration = Duration::from_millis(1);
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
    for _ in 0..options.attempts {
        stacks.refresh();
        let mut round = Round::new(samples, signal, options);
        if round.targets.is_empty() {
            return;
        }
        round.ask(stacks);
        round.walk(stacks);
        samples.retain(|sample| sample.walk.end != Err(StackProblem::Ended));
    }
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
    options: &'a DumpBuilder,
    /// Where to look for the next slot.
    slot: usize,
}

/// One thread that is asked.
struct Target<'a> {
    sample: &'a mut Sample,
    task: Task,
    progress: Progress,
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
    fn new(samples: &'a mut [Sample], signal: StackSignal, options: &'a DumpBuilder) -> Self {
        let lacking = samples.iter_mut().filter(|sample| lacks_stack(sample));
        let targets = lacking.map(|sample| Target {
            task: Task::new(sample.tid),
            sample,
            progress: Progress::Unasked,
        });
        Self {
            targets: targets.collect(),
            signal,
            options,
            slot: 0,
        }
    }

    /// Sends the signals, and waits.
    fn ask(&mut self, stacks: &mut Stacks) {
        let clock = Clock::default();
        let begun = clock.now();
        let mut checked = begun;
        loop {
            let seen = slots::answers();
            let now = clock.now();
            let check = now.duration_since(checked) >= CHECK;
            if check {
                checked = now;
            }
            self.advance(check, stacks);
            let left = self.left(begun, clock.now());
            let Some(left) = left else { break };
            slots::await_answer(seen, left);
        }
        for target in &mut self.targets {
            target.give_up(self.signal);
        }
    }

    fn advance(&mut self, check: bool, stacks: &mut Stacks) {
        for target in &mut self.targets {
            match &target.progress {
                Progress::Unasked => {
                    target.approach(self.signal, &mut self.slot, self.options, stacks);
                }
                Progress::Asked(_) => target.collect(check),
                Progress::Answered(_) | Progress::Settled => {}
            }
        }
    }

    /// How long to sleep before the next look; `None` when there is nothing to wait for.
    fn left(&self, begun: Instant, now: Instant) -> Option<Duration> {
        let mut progress = self.targets.iter().map(|target| &target.progress);
        let asked = |progress: &Progress| matches!(progress, Progress::Asked(_));
        let unasked = |progress: &Progress| matches!(progress, Progress::Unasked);
        let anybody = self.targets.iter().any(|target| unasked(&target.progress));
        let (patience, pause) = match (progress.any(asked), anybody) {
            (false, false) => return None,
            (false, true) => (BLOCKED.min(self.options.patience), LOOK),
            (true, false) => (self.options.patience, CHECK),
            (true, true) => (self.options.patience, LOOK),
        };
        let left = patience.checked_sub(now.duration_since(begun))?;
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
    /// Sends the signal, if there is a need and it would be taken.
    fn approach(
        &mut self,
        signal: StackSignal,
        slot: &mut usize,
        options: &DumpBuilder,
        stacks: &mut Stacks,
    ) {
        let number = signal.number().unsigned_abs();
        match self.task.status(number) {
            Err(problem) => return self.settle(problem),
            Ok(status) if !status.runs && self.sample.ran() => {
                // It has gone to sleep: it may be left alone.
                match self.sample.retake(None, options, stacks) {
                    Err(problem) => return self.settle(problem),
                    Ok(()) if !self.sample.ran() => {
                        self.progress = Progress::Settled;
                        return;
                    }
                    Ok(()) => {}
                }
            }
            Ok(_) => {}
        }
        // Once more: to look again has taken its time.
        match self.task.status(number) {
            Err(problem) => self.settle(problem),
            Ok(status) if status.blocks || status.pending => {}
            Ok(status) if !status.runs && self.sample.ran() => {}
            Ok(_) => self.send(signal, slot),
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

    /// By the thread that was meant, doing what it did (invariant 3).
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

    fn give_up(&mut self, signal: StackSignal) {
        self.collect(false);
        let asked = match self.progress {
            Progress::Answered(_) | Progress::Settled => return,
            Progress::Unasked => false,
            Progress::Asked(_) => true,
        };
        match self.task.status(signal.number().unsigned_abs()) {
            Err(problem) => self.settle(problem),
            Ok(status) if status.blocks => self.settle(StackProblem::SignalBlocked),
            Ok(status) if asked || status.pending => self.settle(StackProblem::SignalLate),
            // It slept whenever a signal was about to be sent, and never for long.
            Ok(_) => self.progress = Progress::Settled,
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
