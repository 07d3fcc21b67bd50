//! One thread, looked at until what was seen is of one moment.

use super::dump::DumpBuilder;
use super::stack::{StackProblem, TakenBy, Walk};
use super::stacks::{Here, Stacks};
use super::task::{Place, RunCounter, Runs, Stat, Task};
use super::thread::{OsState, SystemCall};
use crate::sync::Arc;
use crate::threads::{Record, ThreadInfo};

/// A thread, before its frames have names.
pub(super) struct Sample {
    pub(super) tid: u32,
    pub(super) is_current: bool,
    pub(super) stat: Option<Stat>,
    pub(super) state: Option<OsState>,
    pub(super) call: Option<SystemCall>,
    /// If it is blocked: as they were before and after.
    pub(super) runs: Option<Runs>,
    pub(super) info: Option<ThreadInfo>,
    record: Option<Arc<Record>>,
    pub(super) walk: Walk,
    pub(super) taken: TakenBy,
    /// A signal has brought what it can, or nothing.
    pub(super) signalled: bool,
}

impl Sample {
    /// `None` if the thread has ended.
    pub(super) fn take(
        tid: u32,
        here: Option<Here>,
        record: Option<Arc<Record>>,
        options: &DumpBuilder,
        stacks: &mut Stacks,
    ) -> Option<Self> {
        let mut sample = Self::new(tid, here.is_some(), record);
        sample.retake(here, options, stacks).ok()?;
        Some(sample)
    }

    /// Looks until the thread does not run. An error if it has ended.
    pub(super) fn retake(
        &mut self,
        here: Option<Here>,
        options: &DumpBuilder,
        stacks: &mut Stacks,
    ) -> Result<(), StackProblem> {
        let task = Task::new(self.tid);
        let counter = task.runs();
        // Who runs is asked, instead of looked at again and again.
        let attempts = match options.signal {
            Some(_) => 1,
            None => options.attempts,
        };
        for attempt in 1.. {
            // All between two looks at the counter, also the name: a thread that has just begun
            // still has that of the one that started it.
            let counter = counter.as_ref().map_err(|problem| *problem);
            let before = counter.and_then(RunCounter::read);
            self.read(&task)?;
            let walk = match here {
                Some(here) if options.stacks => Ok(stacks.walk_here(here)),
                Some(_) => Err(StackProblem::NotAsked),
                None => self.look(&task, counter, before, options, stacks),
            };
            match walk {
                Ok(walk) => self.walk = walk,
                Err(StackProblem::Ended) => return Err(StackProblem::Ended),
                Err(problem) => self.walk = Walk::broken(problem),
            }
            if !self.ran() || attempt >= attempts {
                break;
            }
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Whether it ran each time it was looked at.
    pub(super) fn ran(&self) -> bool {
        matches!(
            self.walk.end,
            Err(StackProblem::Running | StackProblem::KeptRunning)
        )
    }

    fn new(tid: u32, is_current: bool, record: Option<Arc<Record>>) -> Self {
        let taken = match is_current {
            true => TakenBy::Own,
            false => TakenBy::Look,
        };
        Self {
            tid,
            is_current,
            stat: None,
            state: None,
            call: None,
            runs: None,
            info: None,
            record,
            walk: Walk::broken(StackProblem::Denied),
            taken,
            signalled: false,
        }
    }

    /// What is known without the stack. An error if the thread has ended.
    pub(super) fn read(&mut self, task: &Task) -> Result<(), StackProblem> {
        match task.stat() {
            Ok(stat) => {
                self.state = Some(stat.state);
                self.stat = Some(stat);
            }
            Err(StackProblem::Ended) => return Err(StackProblem::Ended),
            Err(_) => {}
        }
        if self.is_current {
            self.state = Some(OsState::Running);
        }
        self.info = self.record.as_deref().map(Record::info_without_token);
        Ok(())
    }

    /// The stack of another thread, if that sleeps meanwhile.
    fn look(
        &mut self,
        task: &Task,
        counter: Result<&RunCounter, StackProblem>,
        before: Result<Runs, StackProblem>,
        options: &DumpBuilder,
        stacks: &mut Stacks,
    ) -> Result<Walk, StackProblem> {
        (self.call, self.runs) = (None, None);
        let (counter, before) = (counter?, before?);
        let Place::Blocked { call, sp, pc } = task.place()? else {
            self.state = Some(OsState::Running);
            return Err(StackProblem::Running);
        };
        let walk = if options.stacks {
            stacks.walk_blocked(sp, pc)
        } else {
            Walk::broken(StackProblem::NotAsked)
        };
        if counter.read()? != before || stacks.refresh() {
            return Err(StackProblem::KeptRunning);
        }
        (self.call, self.runs) = (call, Some(before));
        Ok(walk)
    }
}
