//! Tasks that did not stop when they were told.

use std::fmt;
use std::io::Write;
use std::panic::Location;
use std::time::Duration;

use super::list::Shown;
use super::queue::Queue;
use crate::backoff::more_patience;
use crate::cancel::CancelToken;
use crate::clock::wait_until;
use crate::contain::contain;
use crate::sync::Arc;
use crate::threads::{self, Deadlock, Part, Record, WaitInfo};

/// A task that still runs, a good while after its group was cancelled.
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock, GroupBuilder, threads};
///
/// let clock = Clock::manual();
/// let (tell, reports) = mpsc::channel();
/// GroupBuilder::new()
///     .straggler_after(Duration::from_secs(5))
///     .on_straggler(move |late| tell.send(late.to_vec()).unwrap())
///     .scope(&CancelToken::with_clock(&clock), |group| {
///         let (clock, line) = (clock.clone(), line!() + 1);
///         group.spawn_named("deaf", move |token| {
///             token.cancel();
///             clock.await_timers(1); // the group waits for it
///             let _wait = threads::waiting_on("hear a pin drop");
///             clock.advance(Duration::from_secs(5));
///             let late = &reports.recv()?[0];
///             assert_eq!((late.name.as_str(), late.spawned_at.line()), ("deaf", line));
///             assert_eq!(late.overdue, Duration::from_secs(5));
///             assert_eq!(late.waiting.unwrap().on, "hear a pin drop");
///             let text = "task \"deaf\" still runs 5.0 s after its group was cancelled";
///             Ok(assert!(late.to_string().starts_with(text)))
///         })?;
///         Ok(())
///     })
///     .unwrap();
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Straggler {
    /// Name of the task.
    pub name: String,
    /// The line that spawned it.
    pub spawned_at: &'static Location<'static>,
    /// What it waits on, if the library can see it; see
    /// [`threads::waiting_on`](crate::threads::waiting_on).
    pub waiting: Option<WaitInfo>,
    /// Its stack, if reports show them; see the module `diagnose`.
    pub stack: Option<String>,
    /// The deadlock that it is in, or held up by; see
    /// [`threads::deadlocks`](crate::threads::deadlocks()).
    pub deadlock: Option<Deadlock>,
    /// For how long the group has been waiting for it since the cancellation.
    pub overdue: Duration,
}

impl fmt::Display for Straggler {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.overdue.as_secs_f64();
        write!(
            f,
            "task \"{}\" still runs {secs:.1} s after its group was cancelled",
            self.name
        )?;
        write!(f, "; spawned at {}; ", self.spawned_at)?;
        match &self.waiting {
            Some(wait) => write!(f, "{wait}"),
            None => write!(f, "running, or in a wait that the library does not see"),
        }?;
        threads::StackText(self.stack.as_ref()).fmt(f)?;
        threads::DeadlockText(self.deadlock.as_ref()).fmt(f)
    }
}

type Report = Arc<dyn Fn(&[Straggler]) + Send + Sync>;

/// What to do about stragglers.
#[derive(Clone)]
pub(super) struct Watch {
    pub(super) after: Duration,
    pub(super) report: Report,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(5),
            report: Arc::new(print),
        }
    }
}

fn print(stragglers: &[Straggler]) {
    let mut stderr = std::io::stderr().lock();
    for straggler in stragglers {
        // Not `eprintln!`, which panics where there is no standard error.
        writeln!(stderr, "cleanbreak: {straggler}").ok();
    }
}

/// What is waited for.
#[derive(Clone, Copy)]
enum Awaited<'a> {
    /// Every task of the group.
    All,
    /// One task: whether it has ended.
    Task(&'a dyn Fn() -> bool),
}

impl Awaited<'_> {
    fn wait(
        self,
        queue: &Queue,
        deadline: Option<std::time::Instant>,
        interrupted: impl Fn() -> bool,
    ) -> bool {
        match self {
            Self::All => queue.await_end(deadline, interrupted),
            Self::Task(ended) => queue.await_task(deadline, ended, interrupted),
        }
    }
}

impl Watch {
    /// Waits until every task has ended. Reports those that run on after the cancellation, after
    /// `self.after`, then twice that, and so on.
    #[track_caller]
    pub(super) fn await_end(&self, group: &Arc<Shown>) {
        if !group.queue.await_end(None, || true) {
            let all = group.wait_for(Part::All);
            let _wait = threads::awaiting("see the tasks of a group end", all);
            self.watch(&group.queue, &group.token, Awaited::All);
        }
    }

    /// Waits until the task of this key has `ended`, and reports stragglers meanwhile.
    #[track_caller]
    pub(super) fn await_task(&self, group: &Arc<Shown>, key: usize, ended: &dyn Fn() -> bool) {
        if !ended() {
            let task = group.wait_for(Part::Task(key));
            let _wait = threads::awaiting("join a task", task);
            self.watch(&group.queue, &group.token, Awaited::Task(ended));
        }
    }

    fn watch(&self, queue: &Arc<Queue>, token: &CancelToken, awaited: Awaited<'_>) {
        let nudged = queue.clone();
        let nudge = token.hook(move || nudged.nudge());
        let ended = awaited.wait(queue, None, || token.is_cancelled());
        drop(nudge);
        if ended {
            return;
        }
        queue.skip_waiting();
        let clock = token.clock();
        let (start, mut patience) = (clock.now(), self.after);
        let wait_for = |patience| {
            let nudged = queue.clone();
            let wait = |at, give_up: &dyn Fn() -> bool| awaited.wait(queue, at, give_up);
            wait_until(
                clock,
                start.checked_add(patience),
                move || nudged.nudge(),
                wait,
            )
        };
        while !wait_for(patience) {
            let overdue = clock.now().duration_since(start);
            self.report(&queue.threads(), overdue);
            patience = more_patience(patience, overdue);
        }
    }

    fn report(&self, threads: &[Arc<Record>], overdue: Duration) {
        let deadlocks = threads::Deadlocks::look();
        let describe = |thread: &Arc<Record>| {
            let task = thread.task()?;
            Some(Straggler {
                name: task.name.to_string(),
                spawned_at: task.site,
                waiting: thread.waiting(),
                stack: thread.stack(),
                deadlock: deadlocks.of(thread),
                overdue,
            })
        };
        let stragglers: Vec<_> = threads.iter().filter_map(describe).collect();
        if stragglers.is_empty() {
            return;
        }
        // The tasks still borrow from frames above this one: nothing may unwind through here.
        contain(|| (self.report)(&stragglers));
    }
}
