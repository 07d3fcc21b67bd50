//! What became of every task, and who holds the end up.

use std::fmt;
use std::io::Write;
use std::panic::Location;
use std::time::Duration;

use super::job::JobError;
use super::packet::Run;
use super::queue::{Running, Snapshot};
use crate::cancel::CancelToken;
use crate::clock::Instant;
use crate::contain::contain;
use crate::sync::Arc;
use crate::threads::{Deadlock, DeadlockText, Deadlocks, StackText, WaitInfo};

/// What a shutdown does with the tasks that have not ended.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock, Pool, Shutdown};
/// use crossbeam_channel::bounded;
///
/// let clock = Clock::manual();
/// let busy = |release: bool| {
///     let pool = Pool::builder().workers(1).build(&CancelToken::with_clock(&clock)).unwrap();
///     let (started, is_started) = bounded(0);
///     pool.execute(move |token| {
///         started.send(())?;
///         if !release { token.wait() } // until it is told
///         Ok(())
///     }).unwrap();
///     pool.execute(|_| Ok(())).unwrap();
///     is_started.recv().unwrap();
///     pool
/// };
/// let report = busy(true).shutdown(Shutdown::Drain);
/// assert_eq!((report.completed, report.abandoned), (2, 0));
/// for now in [Shutdown::DrainFor(Duration::ZERO), Shutdown::DrainUntil(clock.now())] {
///     let report = busy(false).shutdown(now); // one was told, the other is handed back
///     assert_eq!((report.completed, report.backlog.len()), (1, 1));
/// }
///
/// let paused = Pool::builder().workers(0).build(&CancelToken::new()).unwrap();
/// paused.execute(|_| Ok(())).unwrap();
/// assert_eq!(paused.shutdown(Shutdown::Abandon).backlog.len(), 1);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Shutdown {
    /// Runs the whole backlog, and waits for as long as that takes.
    Drain,
    /// Hands the backlog back, and waits for the tasks that run. They are not cancelled.
    Abandon,
    /// Drains for so long; then hands back what is left, cancels the pool's token, and waits for
    /// the tasks that run, for [`straggler_after`](super::PoolBuilder::straggler_after) at most.
    /// Zero stops the pool now; too long to count is [`Drain`](Self::Drain).
    DrainFor(Duration),
    /// As [`DrainFor`](Self::DrainFor), until a point in time of the pool's clock.
    DrainUntil(Instant),
}

/// What became of every task that a pool took in; see [`Pool::shutdown`](super::Pool::shutdown).
///
/// The numbers are of one moment and of the pool's whole life. `completed`, `failed`, `panicked`,
/// `cancelled`, `abandoned`, `queued` and the length of `stuck` add up to
/// [`submitted`](Self::submitted): the number of submits that succeeded.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, Pool, Shutdown};
///
/// let pool = Pool::builder().workers(1).build(&CancelToken::new()).unwrap();
/// pool.execute(|_| Ok(())).unwrap();
/// pool.execute(|_| anyhow::bail!("no such file")).unwrap();
/// pool.execute(|_| panic!("a bug")).unwrap();
/// let report = pool.shutdown(Shutdown::Drain);
/// assert_eq!((report.completed, report.failed, report.panicked), (1, 1, 1));
/// assert_eq!((report.submitted(), report.all_completed()), (3, false));
/// assert!(report.backlog.is_empty() && report.stuck.is_empty());
/// assert_eq!(report.to_string(), "3 tasks: 1 completed, 1 failed, 1 panicked");
/// ```
#[non_exhaustive]
pub struct Report<E = anyhow::Error> {
    /// Returned `Ok`.
    pub completed: usize,
    /// Returned an error.
    pub failed: usize,
    /// Panicked.
    pub panicked: usize,
    /// Never ran, because they, or the pool, were cancelled before.
    pub cancelled: usize,
    /// Never ran, because a shutdown took them out of the queue.
    pub abandoned: usize,
    /// Those of the abandoned that this call hands back, in the order of their submission. Of
    /// several shutdowns, only one gets them.
    pub backlog: Vec<Abandoned<E>>,
    /// Those that still run. From inside a task, the calling task is one of them.
    pub stuck: Vec<Stuck>,
    /// Those that still wait to be run: none, unless this comes from inside a task.
    pub queued: usize,
}

impl<E> Report<E> {
    pub(super) fn new(
        snapshot: Snapshot<Arc<dyn Run<E>>>,
        name: &Arc<str>,
        waited: Duration,
    ) -> Self {
        let Snapshot {
            counts,
            running,
            queued,
            left,
        } = snapshot;
        let backlog = left.into_iter().map(|job| {
            let name = name.clone();
            Abandoned { job, name }
        });
        Self {
            completed: counts.completed,
            failed: counts.failed,
            panicked: counts.panicked,
            cancelled: counts.cancelled,
            abandoned: counts.abandoned,
            backlog: backlog.collect(),
            stuck: stuck(running, name, waited),
            queued,
        }
    }

    /// How many tasks the pool took in: the sum of all the others.
    #[must_use]
    pub fn submitted(&self) -> usize {
        let ran = self.completed + self.failed + self.panicked;
        ran + self.cancelled + self.abandoned + self.queued + self.stuck.len()
    }

    /// Whether every task that was taken in ran and returned `Ok`.
    #[must_use]
    pub fn all_completed(&self) -> bool {
        self.completed == self.submitted()
    }
}

impl<E> fmt::Debug for Report<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Report")
            .field("completed", &self.completed)
            .field("failed", &self.failed)
            .field("panicked", &self.panicked)
            .field("cancelled", &self.cancelled)
            .field("abandoned", &self.abandoned)
            .field("backlog", &self.backlog.len())
            .field("stuck", &self.stuck)
            .field("queued", &self.queued)
            .finish()
    }
}

impl<E> fmt::Display for Report<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let submitted = self.submitted();
        write!(f, "{submitted} tasks: {} completed", self.completed)?;
        let others = [
            (self.failed, "failed"),
            (self.panicked, "panicked"),
            (self.cancelled, "cancelled"),
            (self.abandoned, "abandoned"),
            (self.queued, "queued"),
            (self.stuck.len(), "still running"),
        ];
        for (count, what) in others.iter().filter(|(count, _)| *count > 0) {
            write!(f, ", {count} {what}")?;
        }
        self.stuck
            .iter()
            .try_for_each(|stuck| write!(f, "; {stuck}"))
    }
}

/// A task that a shutdown handed back, unrun. Its [`Job`](super::Job) has been told that.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, Pool, Shutdown};
///
/// let pool = Pool::builder().name("mails").workers(0).errors::<&str>();
/// let pool = pool.build(&CancelToken::new()).unwrap();
/// for (name, result) in [("welcome", Ok(())), ("bill", Err("bounced")), ("news", Ok(()))] {
///     pool.task().name(name).execute(move |_| result).unwrap();
/// }
/// let mut left = pool.shutdown(Shutdown::Abandon).backlog.into_iter();
/// let (welcome, bill, news) = (left.next().unwrap(), left.next().unwrap(), left.next().unwrap());
/// assert_eq!((welcome.name(), welcome.submitted_at().file()), ("welcome".to_owned(), file!()));
///
/// let token = CancelToken::new();
/// assert!(welcome.run(&token).is_ok());
/// assert_eq!(bill.run(&token).unwrap_err().into_failure(), Some("bounced"));
/// token.cancel();
/// assert!(news.run(&token).unwrap_err().is_cancelled()); // dropped, unrun
/// ```
pub struct Abandoned<E = anyhow::Error> {
    job: Arc<dyn Run<E>>,
    name: Arc<str>,
}

impl<E> Abandoned<E> {
    /// Name of the task, or of its pool.
    #[must_use]
    pub fn name(&self) -> String {
        self.job
            .label()
            .name
            .unwrap_or_else(|| self.name.clone())
            .to_string()
    }

    /// The line that submitted it.
    #[must_use]
    pub fn submitted_at(&self) -> &'static Location<'static> {
        self.job.label().site
    }

    /// Runs the task here, on the calling thread, with `token` and without the timeout it may have
    /// had. Its value, which nobody waits for any more, is dropped.
    ///
    /// # Errors
    ///
    /// Those of the task: [`JobError::Failed`], [`JobError::Panicked`], and
    /// [`JobError::Cancelled`], with the task dropped, if `token` is cancelled already.
    pub fn run(self, token: &CancelToken) -> Result<(), JobError<E>> {
        self.job.run_abandoned(token)
    }
}

impl<E> fmt::Debug for Abandoned<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Abandoned")
            .field("name", &self.name())
            .field("submitted_at", &format_args!("{}", self.submitted_at()))
            .finish_non_exhaustive()
    }
}

/// A task that still runs, and holds the shutdown of its pool up.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock, Pool, Shutdown};
/// use crossbeam_channel::bounded;
///
/// let ((started, is_started), (release, held)) = (bounded(0), bounded::<()>(0));
/// let pool = Pool::builder().workers(1).straggler_after(Duration::ZERO);
/// let pool = pool.build(&CancelToken::with_clock(&Clock::manual())).unwrap();
/// let import = pool.task().name("import");
/// import.execute(move |_| { started.send(())?; held.recv().ok(); Ok(()) }).unwrap();
/// is_started.recv().unwrap();
///
/// let report = pool.shutdown(Shutdown::DrainFor(Duration::ZERO)); // it does not look at its token
/// let stuck = &report.stuck[0];
/// assert_eq!((stuck.name.as_str(), stuck.submitted_at.file()), ("import", file!()));
/// assert!(stuck.waiting.is_none()); // the library does not see a bare channel
/// drop(release);
/// assert!(pool.shutdown(Shutdown::Drain).stuck.is_empty()); // it has ended, and been joined
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Stuck {
    /// Name of the task, or of its pool.
    pub name: String,
    /// The line that submitted it.
    pub submitted_at: &'static Location<'static>,
    /// What it waits on, if the library can see it; see
    /// [`threads::waiting_on`](crate::threads::waiting_on).
    pub waiting: Option<WaitInfo>,
    /// Its stack, if reports show them; see the module `diagnose`.
    pub stack: Option<String>,
    /// The deadlock that it is in, or held up by; see
    /// [`threads::deadlocks`](crate::threads::deadlocks()).
    pub deadlock: Option<Deadlock>,
    /// For how long the shutdown has been waiting without seeing any task end; zero in a report
    /// from inside a task, which does not wait.
    pub overdue: Duration,
}

impl fmt::Display for Stuck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.overdue.as_secs_f64();
        write!(
            f,
            "task \"{}\" has held up the shutdown of its pool",
            self.name
        )?;
        write!(f, " for {secs:.1} s; submitted at {}; ", self.submitted_at)?;
        match &self.waiting {
            Some(wait) => write!(f, "{wait}"),
            None => write!(f, "running, or in a wait that the library does not see"),
        }?;
        StackText(self.stack.as_ref()).fmt(f)?;
        DeadlockText(self.deadlock.as_ref()).fmt(f)
    }
}

fn stuck(running: Vec<Running>, pool: &Arc<str>, overdue: Duration) -> Vec<Stuck> {
    if running.is_empty() {
        return Vec::new();
    }
    let deadlocks = Deadlocks::look();
    let deadlock = |running: &Running| deadlocks.of(running.record.as_deref()?);
    let describe = |running: Running| Stuck {
        deadlock: deadlock(&running),
        name: running.label.name.as_ref().unwrap_or(pool).to_string(),
        submitted_at: running.label.site,
        waiting: running.record.as_ref().and_then(|record| record.waiting()),
        stack: running.record.and_then(|record| record.stack()),
        overdue,
    };
    running.into_iter().map(describe).collect()
}

type Handler = Arc<dyn Fn(&[Stuck]) + Send + Sync>;

/// What to do about tasks that do not end.
#[derive(Clone)]
pub(super) struct Watch {
    pub(super) after: Duration,
    pub(super) report: Handler,
}

impl Default for Watch {
    fn default() -> Self {
        Self {
            after: Duration::from_secs(5),
            report: Arc::new(print),
        }
    }
}

fn print(stuck: &[Stuck]) {
    let mut stderr = std::io::stderr().lock();
    for stuck in stuck {
        // Not `eprintln!`, which panics where there is no standard error.
        writeln!(stderr, "cleanbreak: {stuck}").ok();
    }
}

impl Watch {
    pub(super) fn report(&self, running: Vec<Running>, pool: &Arc<str>, overdue: Duration) {
        let stuck = stuck(running, pool, overdue);
        if stuck.is_empty() {
            return;
        }
        // The shutdown, maybe a drop, has threads to join yet: nothing may unwind through it.
        contain(|| (self.report)(&stuck));
    }
}
