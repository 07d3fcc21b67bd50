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
            // All between two looks at the counter, also the name: a thread that has just begun
            // still has that of the one that started it.
            let counter = counter.as_ref().map_err(|problem| *problem);
            let before = counter.and_then(RunCounter::read);
            sample.read(&task, record).ok()?;
            let walk = match here {
                Some(here) if options.stacks => Ok(stacks.walk_here(here)),
                Some(_) => Err(StackProblem::NotAsked),
                None => sample.look(&task, counter, before, options, stacks),
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

    /// What is known without the stack. An error if the thread has ended.
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
        self.info = record.map(Record::info_without_token);
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
