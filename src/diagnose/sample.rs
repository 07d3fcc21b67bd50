//! One thread, looked at until what was seen is of one moment.

use super::dump::DumpBuilder;
use super::stack::{StackProblem, Walk};
use super::stacks::{Here, Stacks};
use super::task::{Place, RunCounter, Runs, Stat, Task};
use super::thread::{OsState, SystemCall};
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
    pub(super) walk: Walk,
}

impl Sample {
    /// `None` if the thread has ended.
    pub(super) fn take(
        tid: u32,
        here: Option<Here>,
        record: Option<&Record>,
        options: &DumpBuilder,
        stacks: &mut Stacks,
    ) -> Option<Self> {
        let task = Task::new(tid);
        let counter = task.runs();
        let mut sample = Self::new(tid, here.is_some());
        for attempt in 1.. {
            sample.read(&task, record).ok()?;
            let walk = match here {
                Some(here) => Ok(stacks.walk_here(here)),
                None => sample.look(&task, counter.as_ref(), options, stacks),
            };
            match walk {
                Ok(walk) => sample.walk = walk,
                Err(StackProblem::Ended) => return None,
                Err(problem) => sample.walk = Walk::broken(problem),
            }
            let ran = sample.walk.end == Err(StackProblem::Running)
                || sample.walk.end == Err(StackProblem::KeptRunning);
            if !ran || attempt >= options.attempts {
                break;
            }
            std::thread::yield_now();
        }
        Some(sample)
    }

    fn new(tid: u32, is_current: bool) -> Self {
        Self {
            tid,
            is_current,
            stat: None,
            state: None,
            call: None,
            runs: None,
            info: None,
            walk: Walk::broken(StackProblem::Denied),
        }
    }

    /// What is not proven to be of one moment with the stack, nor has to be.
    fn read(&mut self, task: &Task, record: Option<&Record>) -> Result<(), StackProblem> {
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
        self.info = record.map(Record::info);
        Ok(())
    }

    /// The stack of another thread, if that sleeps meanwhile.
    fn look(
        &mut self,
        task: &Task,
        counter: Result<&RunCounter, &StackProblem>,
        options: &DumpBuilder,
        stacks: &mut Stacks,
    ) -> Result<Walk, StackProblem> {
        (self.call, self.runs) = (None, None);
        let counter = counter.map_err(|problem| *problem)?;
        let before = counter.read()?;
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
