//! The pool and the supervised loops.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::bail;
use cleanbreak::backoff::Backoff;
use cleanbreak::pool::JobError;
use cleanbreak::supervise::{ChildSpec, ChildState};
use cleanbreak::{CancelToken, Job, Pool, Shutdown, Supervisor, chaos};
use fastrand::Rng;
use parking_lot::Mutex;

use crate::ledger::Ledger;
use crate::plant::Plant;

pub(crate) struct Work {
    ledger: Arc<Ledger>,
    plant: Option<Plant>,
    /// None where there was no thread for it.
    pool: Option<Pool>,
    jobs: Mutex<Vec<Job<()>>>,
    executed: AtomicUsize,
}

/// Shut down before the round looks.
pub(crate) struct Supervised<'a> {
    supervisor: Option<Supervisor>,
    ledger: &'a Ledger,
}

impl Work {
    pub(crate) fn new(
        rng: &mut Rng,
        root: &CancelToken,
        ledger: &Arc<Ledger>,
        plant: Option<Plant>,
    ) -> Self {
        let pool = Pool::builder()
            .name("work")
            .workers(rng.usize(1..3))
            .queue(rng.usize(..6));
        if plant == Some(Plant::Thread) {
            let forgotten: Result<Pool, _> =
                Pool::builder().name("forgotten").workers(1).build(root);
            std::mem::forget(forgotten);
        }
        let pool = pool.build(root).ok();
        ledger.count("pools without a thread", u64::from(pool.is_none()));
        Self {
            ledger: ledger.clone(),
            plant,
            pool,
            jobs: Mutex::default(),
            executed: AtomicUsize::new(0),
        }
    }

    pub(crate) fn resize(&self, workers: usize) {
        let resized = self.pool.as_ref().map(|pool| pool.resize(workers));
        if let Some(Err(_)) = resized {
            self.ledger.count("workers without a thread", 1);
        }
    }

    pub(crate) fn submit(&self, rng: &mut Rng) {
        let Some(pool) = &self.pool else { return };
        let nap = Duration::from_micros(rng.u64(..400));
        let task = move |token: &CancelToken| {
            token.sleep(nap)?;
            match chaos::fails("service.task") {
                true => bail!("the task fails"),
                false => Ok(()),
            }
        };
        let job = match rng.u8(..3) {
            0 => pool.submit(task),
            1 => pool.try_submit(task),
            _ => {
                let accepted = pool.try_execute(task).is_ok();
                if accepted || self.plant == Some(Plant::Task) {
                    self.executed.fetch_add(1, Ordering::SeqCst);
                }
                return;
            }
        };
        match job {
            Ok(job) => self.jobs.lock().push(job),
            Err(_) => self.ledger.count("tasks refused", 1),
        }
    }

    /// Every task that was accepted is in the report, and each handle says the same (P2).
    pub(crate) fn end(&self, rng: &mut Rng) {
        let Some(pool) = &self.pool else { return };
        let report = pool.shutdown(match rng.u8(..3) {
            0 => Shutdown::Drain,
            1 => Shutdown::Abandon,
            _ => Shutdown::DrainFor(Duration::from_micros(rng.u64(..2000))),
        });
        let jobs = std::mem::take(&mut *self.jobs.lock());
        let accepted = jobs.len() + self.executed.load(Ordering::SeqCst);
        self.ledger.check(report.submitted() == accepted, || {
            format!(
                "{accepted} tasks were accepted, the report is of {}: {report}",
                report.submitted()
            )
        });
        self.ledger
            .check(report.stuck.is_empty() && report.queued == 0, || {
                format!("tasks are left after a shutdown: {report}")
            });
        let mut ends = [0; 5];
        for job in jobs {
            ends[match job.join() {
                Ok(()) => 0,
                Err(JobError::Failed(_)) => 1,
                Err(JobError::Panicked(_)) => 2,
                Err(JobError::Cancelled) => 3,
                _ => 4,
            }] += 1;
        }
        let told = [
            report.completed,
            report.failed,
            report.panicked,
            report.cancelled,
            report.abandoned,
        ];
        self.ledger.check(
            ends.iter().zip(told).all(|(end, told)| *end <= told),
            || format!("the handles say {ends:?}, the report {told:?}"),
        );
        self.ledger
            .check(report.backlog.len() == report.abandoned, || {
                format!(
                    "{} tasks handed back of {}",
                    report.backlog.len(),
                    report.abandoned
                )
            });
        self.ledger.count("tasks of the pool", accepted as u64);
        self.ledger
            .count("tasks handed back", report.abandoned as u64);
    }

    /// Two loops that fail now and then.
    pub(crate) fn supervise(&self, rng: &mut Rng, root: &CancelToken) -> Supervised<'_> {
        let child = |name: &str| {
            ChildSpec::new(name, |cx| {
                cx.ready();
                while cx.token().sleep(Duration::from_millis(1)).is_ok() {
                    if chaos::fails("service.child") {
                        bail!("the loop fails");
                    }
                }
                Ok(())
            })
        };
        let supervisor = Supervisor::builder()
            .name("loops")
            .intensity(rng.usize(4..16), Duration::from_secs(1))
            .backoff(Backoff::constant(Duration::from_micros(200)))
            .on_event(|_| {})
            .child(child("feed"))
            .child(child("index"))
            .start(root);
        self.ledger.count(
            "supervisors that did not start",
            u64::from(supervisor.is_err()),
        );
        Supervised {
            supervisor: supervisor.ok(),
            ledger: &self.ledger,
        }
    }
}

impl Drop for Supervised<'_> {
    fn drop(&mut self) {
        let Some(supervisor) = &self.supervisor else {
            return;
        };
        let report = supervisor.shutdown();
        for child in &report.children {
            let ended = matches!(child.state, ChildState::Ended(_));
            self.ledger
                .check(ended, || format!("after a shutdown, {child}"));
            self.ledger.count("restarts of loops", child.restarts);
        }
    }
}
