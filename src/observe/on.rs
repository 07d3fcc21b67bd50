//! With the feature: one function for each fact, each a line of the facade.

use std::time::{Duration, Instant};

use metrics::{Counter, Gauge, Histogram, counter, gauge, histogram};

use super::{Ended, table as names};
use crate::sync::Arc;

/// Takes the time of something, for people.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[allow(
        clippy::disallowed_methods,
        reason = "below the clock; these times are for people"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }
}

impl Ended {
    const fn label(self) -> &'static str {
        match self {
            Self::Completed => "completed",
            Self::Failed => "failed",
            Self::Panicked => "panicked",
            Self::Cancelled => "cancelled",
            Self::Abandoned => "abandoned",
        }
    }
}

/// A thread of the library, from its first line to its last.
#[derive(Debug)]
pub(crate) struct Alive;

impl Alive {
    pub(crate) fn begin() -> Self {
        counter!(names::THREADS_STARTED).increment(1);
        gauge!(names::THREADS_LIVE).increment(1);
        Self
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        gauge!(names::THREADS_LIVE).decrement(1);
    }
}

/// A wait, until it is dropped.
#[derive(Debug)]
pub(crate) struct Wait {
    on: &'static str,
    since: Stopwatch,
}

impl Wait {
    pub(crate) fn begin(on: &'static str) -> Self {
        let since = Stopwatch::start();
        Self { on, since }
    }
}

impl Drop for Wait {
    fn drop(&mut self) {
        histogram!(names::WAIT, "on" => self.on).record(self.since.0.elapsed());
    }
}

pub(crate) fn spawn_failure() {
    counter!(names::SPAWN_FAILURES).increment(1);
}

pub(crate) fn cancellation(deadline: bool) {
    let kind = if deadline {
        "deadline_exceeded"
    } else {
        "cancelled"
    };
    counter!(names::CANCELLATIONS, "kind" => kind).increment(1);
}

pub(crate) fn timer_late(late: impl FnOnce() -> Duration) {
    histogram!(names::TIMER_LATENESS).record(late());
}

pub(crate) fn ticks(sent: u64, missed: u64) {
    counter!(names::TICKS).increment(sent);
    counter!(names::TICKS_MISSED).increment(missed);
}

pub(crate) fn group_task(group: &Arc<str>, ended: Ended) {
    let group = group.clone();
    counter!(names::GROUP_TASKS, "group" => group, "outcome" => ended.label()).increment(1);
}

pub(crate) fn loop_passes(name: &Arc<str>, passes: u64) {
    counter!(names::LOOP_PASSES, "loop" => name.clone()).increment(passes);
}

pub(crate) fn loop_sample(name: &Arc<str>, since: Stopwatch) {
    histogram!(names::LOOP_PASS, "loop" => name.clone()).record(since.0.elapsed());
}

pub(crate) fn loop_exit(name: &Arc<str>, reason: &'static str) {
    counter!(names::LOOP_EXITS, "loop" => name.clone(), "reason" => reason).increment(1);
}

pub(crate) fn supervised_run(
    supervisor: &Arc<str>,
    child: &Arc<str>,
    outcome: impl FnOnce() -> &'static str,
) {
    let (supervisor, child, outcome) = (supervisor.clone(), child.clone(), outcome());
    let run = counter!(
        names::SUPERVISED_RUNS,
        "supervisor" => supervisor, "child" => child, "outcome" => outcome
    );
    run.increment(1);
}

pub(crate) fn supervised_restart(supervisor: &Arc<str>, child: &Arc<str>) {
    let (supervisor, child) = (supervisor.clone(), child.clone());
    counter!(names::SUPERVISED_RESTARTS, "supervisor" => supervisor, "child" => child).increment(1);
}

pub(crate) fn supervisor_gave_up(supervisor: &Arc<str>) {
    counter!(names::SUPERVISOR_GIVE_UPS, "supervisor" => supervisor.clone()).increment(1);
}

#[cfg(all(feature = "signal", unix))]
pub(crate) fn interrupts(signal: i32, name: Option<&'static str>, count: u64) {
    let name: Arc<str> = name.map_or_else(|| signal.to_string().into(), Arc::from);
    counter!(names::INTERRUPTS, "signal" => name).increment(count);
}

/// The handles of one pool.
#[derive(Clone)]
pub(crate) struct PoolFacts {
    workers: Gauge,
    depth: Gauge,
    wait: Histogram,
    run: Histogram,
    ended: [Counter; 5],
}

impl PoolFacts {
    pub(crate) fn new(pool: &Arc<str>) -> Self {
        let ended = [
            Ended::Completed,
            Ended::Failed,
            Ended::Panicked,
            Ended::Cancelled,
            Ended::Abandoned,
        ];
        Self {
            workers: gauge!(names::POOL_WORKERS, "pool" => pool.clone()),
            depth: gauge!(names::POOL_QUEUE_DEPTH, "pool" => pool.clone()),
            wait: histogram!(names::POOL_WAIT, "pool" => pool.clone()),
            run: histogram!(names::POOL_RUN, "pool" => pool.clone()),
            ended: ended.map(|ended| {
                let pool = pool.clone();
                counter!(names::POOL_TASKS, "pool" => pool, "outcome" => ended.label())
            }),
        }
    }

    pub(crate) fn worker_started(&self) {
        self.workers.increment(1);
    }

    pub(crate) fn worker_ended(&self) {
        self.workers.decrement(1);
    }

    pub(crate) fn queued(&self) {
        self.depth.increment(1);
    }

    pub(crate) fn dequeued(&self, tasks: usize) {
        self.depth.decrement(tasks as f64);
    }

    pub(crate) fn ended(&self, tasks: usize, ended: Ended) {
        self.ended[ended as usize].increment(tasks as u64);
    }

    pub(crate) fn waited(&self, since: Stopwatch) {
        self.wait.record(since.0.elapsed());
    }

    pub(crate) fn ran(&self, since: Stopwatch) {
        self.run.record(since.0.elapsed());
    }
}
