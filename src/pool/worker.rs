//! How a worker runs a task: with which token, and contained.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use super::job::JobError;
use super::queue::{Label, Outcome};
use crate::cancel::CancelToken;
use crate::contain::drop_contained;
use crate::fault::{self, At};
use crate::group::PanicPayload;
use crate::observe::{PoolFacts, Stopwatch};
use crate::threads::{self, Inherited, Task as Named};

/// What a worker keeps from task to task.
pub(super) struct Worker {
    pool: CancelToken,
    /// A child of the pool's token that nobody has ever seen, or not so that it shows.
    spare: Option<CancelToken>,
    named: Named,
    facts: PoolFacts,
}

impl Worker {
    pub(super) fn new(pool: CancelToken, named: Named, facts: PoolFacts) -> Self {
        let spare = None;
        Self {
            pool,
            spare,
            named,
            facts,
        }
    }

    pub(super) fn token(&mut self, timeout: Option<Duration>) -> CancelToken {
        match timeout {
            Some(timeout) => self.pool.child_timeout(timeout),
            None => self.spare.take().unwrap_or_else(|| self.pool.child()),
        }
    }

    /// Most tasks only look at their token, so the next one can have it: making a child takes an
    /// allocation and the pool's lock.
    pub(super) fn give_back(&mut self, token: CancelToken, timeout: Option<Duration>) {
        if timeout.is_none() && token.is_untouched() {
            self.spare = Some(token);
        }
    }

    /// Runs a task that has been taken out, and tells who wants to know.
    pub(super) fn run<F, R, E>(
        &mut self,
        label: &Label,
        timeout: Option<Duration>,
        queued: Stopwatch,
        asked: Asked<F>,
        token: &CancelToken,
    ) -> (Outcome, Result<R, JobError<E>>)
    where
        F: FnOnce(&CancelToken) -> Result<R, E>,
    {
        self.announce(label);
        let starts = !self.pool.is_cancelled() && timeout != Some(Duration::ZERO);
        self.facts.waited(queued);
        let started = Stopwatch::start();
        let ran = run_contained(asked, starts, token);
        self.facts.ran(started);
        ran
    }

    /// For the lists of threads.
    fn announce(&mut self, label: &Label) {
        match &label.name {
            None => {
                self.named.site = label.site;
                threads::run_task(&self.named);
            }
            Some(name) => threads::run_task(&Named {
                name: name.clone(),
                site: label.site,
            }),
        }
    }
}

/// A closure, with what it inherits from where it was submitted, such as a span: not held for
/// longer than it runs, whoever keeps the handle.
pub(super) struct Asked<F> {
    task: F,
    inherited: Inherited,
}

impl<F> Asked<F> {
    pub(super) fn here(task: F) -> Self {
        let inherited = Inherited::here();
        Self { task, inherited }
    }

    /// Of what was refused.
    pub(super) fn into_task(self) -> F {
        self.inherited.give_back();
        self.task
    }
}

/// The pool's token decides whether a task starts, and not its own: a timeout that has just begun
/// to count is the running task's affair.
pub(super) fn run_contained<F, R, E>(
    Asked { task, inherited }: Asked<F>,
    starts: bool,
    token: &CancelToken,
) -> (Outcome, Result<R, JobError<E>>)
where
    F: FnOnce(&CancelToken) -> Result<R, E>,
{
    let _inside = inherited.enter();
    if !starts {
        drop_contained(task);
        return (Outcome::Cancelled, Err(JobError::Cancelled));
    }
    let run = || {
        fault::run(At::PoolTask);
        task(token)
    };
    match catch_unwind(AssertUnwindSafe(run)) {
        Ok(Ok(value)) => (Outcome::Completed, Ok(value)),
        Ok(Err(error)) => (Outcome::Failed, Err(JobError::Failed(error))),
        Err(payload) => {
            let payload = PanicPayload::new(payload);
            (Outcome::Panicked, Err(JobError::Panicked(payload)))
        }
    }
}
