//! What a pool, its workers and the hook on its token share: the workers' life, and the end.

use std::cell::Cell;
use std::panic::Location;
use std::time::Duration;

use super::packet::Run;
use super::queue::{Growth, Outcome, Queue};
use super::report::{Report, Shutdown, Watch};
use super::worker::Worker;
use crate::backoff::{SHORTEST_PATIENCE, more_patience};
use crate::cancel::CancelToken;
use crate::clock::{Instant, wait_until};
use crate::contain::drop_contained;
use crate::group::Roster;
use crate::observe::{Ended, PoolFacts};
use crate::sync::{Arc, Mutex};
use crate::threads::{self, Part, Place, Spec, Task as Named, ThreadError, current_record};

pub(super) struct Shared<E> {
    pub(super) name: Arc<str>,
    pub(super) site: &'static Location<'static>,
    pub(super) stack_size: Option<usize>,
    pub(super) watch: Watch,
    pub(super) facts: PoolFacts,
    pub(super) token: CancelToken,
    pub(super) queue: Queue<Arc<dyn Run<E>>>,
    pub(super) roster: Roster,
    /// Held while the threads are joined, so that of two shutdowns neither returns before.
    pub(super) joining: Mutex<()>,
    /// Among the things that threads wait for.
    pub(super) place: Place,
}

impl From<Outcome> for Ended {
    fn from(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Completed => Self::Completed,
            Outcome::Failed => Self::Failed,
            Outcome::Panicked => Self::Panicked,
            Outcome::Cancelled => Self::Cancelled,
        }
    }
}

thread_local! {
    /// Address of the pool that this thread is a worker of; zero for none. Never reset: its
    /// thread-local destructors are the worker's too, and must not wait for it.
    static SERVES: Cell<usize> = const { Cell::new(0) };
}

impl<E: Send + 'static> Shared<E> {
    /// Whether the calling thread is a worker of this pool. Such a thread must not wait for a place
    /// or for the end: it may be what the wait is for.
    pub(super) fn serves_here(&self) -> bool {
        SERVES.get() == self.address()
    }

    fn address(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }

    /// Starts workers, or lets some go, until there are so many.
    pub(super) fn resize(self: &Arc<Self>, workers: usize) -> Result<(), ThreadError> {
        loop {
            match self.queue.grow_towards(workers) {
                Growth::Done => return Ok(()),
                Growth::Closed => {
                    let why = "the pool has been shut down";
                    return Err(ThreadError::refused(&self.name, why));
                }
                Growth::Start => self.start_worker()?,
            }
        }
    }

    fn start_worker(self: &Arc<Self>) -> Result<(), ThreadError> {
        let named = Named {
            name: self.name.clone(),
            site: self.site,
        };
        let spec = Spec {
            task: named.clone(),
            stack_size: self.stack_size,
            scope: Some(self.token.scope()),
        };
        let shared = self.clone();
        let started = self.roster.start(spec, move || {
            SERVES.set(shared.address());
            shared.facts.worker_started();
            let mut worker = Worker::new(shared.token.clone(), named, shared.facts.clone());
            shared.queue.serve(current_record(), |job| {
                shared.facts.dequeued(1);
                let outcome = job.run(&mut worker);
                // Of a result that nobody took, the destructor may panic.
                drop_contained(job);
                shared.facts.ended(1, outcome.into());
                outcome
            });
            shared.facts.worker_ended();
        });
        if started.is_err() && self.queue.not_started() {
            self.hand_back();
        }
        started
    }

    /// Ends what waits as cancelled; the pool's token has been.
    pub(super) fn cancel_backlog(&self) {
        self.queue.cancel();
        let mut cancelled = 0;
        for job in self.queue.take_backlog() {
            job.cancel_unrun();
            drop_contained(job);
            cancelled += 1;
        }
        self.settle(cancelled, Vec::new());
    }

    /// Takes what waits out of the queue, for the next report.
    fn hand_back(&self) {
        let backlog = self.queue.take_backlog();
        let (left, ended): (Vec<_>, Vec<_>) = backlog.into_iter().partition(|job| job.abandon());
        let cancelled = ended.len();
        ended.into_iter().for_each(drop_contained);
        self.settle(cancelled, left);
    }

    fn settle(&self, cancelled: usize, left: Vec<Arc<dyn Run<E>>>) {
        self.facts.dequeued(cancelled + left.len());
        self.facts.ended(cancelled, Ended::Cancelled);
        self.facts.ended(left.len(), Ended::Abandoned);
        self.queue.settle(cancelled, left);
    }

    /// Shuts the pool down. When it does not return early (stuck tasks, or a call from inside a
    /// task), the threads have been joined.
    #[track_caller]
    pub(super) fn shutdown(self: &Arc<Self>, policy: Shutdown) -> Report<E> {
        let nobody_serves = self.queue.close();
        if nobody_serves || policy == Shutdown::Abandon {
            self.hand_back();
        }
        let deadline = match policy {
            Shutdown::Drain | Shutdown::Abandon => None,
            Shutdown::DrainFor(time) => self.token.clock().deadline_after(time),
            Shutdown::DrainUntil(at) => Some(at),
        };
        let (ended, waited) = match deadline {
            _ if self.serves_here() => self.end_from_inside(deadline),
            None => (true, self.await_end()),
            Some(deadline) => self.end_by(deadline),
        };
        if ended {
            self.join();
        }
        Report::new(self.queue.snapshot(), &self.name, waited)
    }

    /// Stops the pool and waits for its end, with reports. For the drop.
    pub(super) fn stop(self: &Arc<Self>) {
        self.queue.close();
        self.cut_short();
        // They are dropped here, where a panic may be on its way already.
        self.queue
            .snapshot()
            .left
            .into_iter()
            .for_each(drop_contained);
        if !self.serves_here() {
            self.await_end();
            self.join();
        }
    }

    fn cut_short(&self) {
        // Before the cancellation, which would end them as cancelled.
        self.hand_back();
        self.token
            .cancel_with(format!("pool \"{}\" shut down", self.name));
    }

    /// Without waiting, as the wait would be for the caller itself.
    fn end_from_inside(&self, deadline: Option<Instant>) -> (bool, Duration) {
        if deadline.is_some_and(|at| at <= self.token.clock().now()) {
            self.cut_short();
        }
        (false, Duration::ZERO)
    }

    /// Drains until `deadline`, then stops. Whether all has ended, and how long it waited for that.
    fn end_by(self: &Arc<Self>, deadline: Instant) -> (bool, Duration) {
        if self.await_end_until(Some(deadline)) {
            return (true, Duration::ZERO);
        }
        self.cut_short();
        let clock = self.token.clock();
        let start = clock.now();
        let ended = self.await_end_until(start.checked_add(self.watch.after));
        (ended, clock.now().duration_since(start))
    }

    /// Waits until every task has ended. When none has for a while, it reports those that run:
    /// after `watch.after`, then twice that, and so on. Returns how long nothing moved at the end.
    #[track_caller]
    fn await_end(self: &Arc<Self>) -> Duration {
        let all = self.place.of(self, Part::All);
        let _wait = threads::awaiting("see the tasks of a pool end", all);
        let clock = self.token.clock();
        let (mut start, mut patience) = (clock.now(), self.watch.after);
        let mut ended = self.queue.ended();
        while !self.await_end_until(start.checked_add(patience)) {
            let (before, now) = (ended, clock.now());
            ended = self.queue.ended();
            if ended > before {
                (start, patience) = (now, self.watch.after.max(SHORTEST_PATIENCE));
                continue;
            }
            let overdue = now.duration_since(start);
            self.watch.report(self.queue.running(), &self.name, overdue);
            patience = more_patience(patience, overdue);
        }
        clock.now().duration_since(start)
    }

    fn await_end_until(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        if self.queue.await_end(None, || true) {
            return true;
        }
        self.wait_until(deadline, |at, give_up| self.queue.await_end(at, give_up))
    }

    pub(super) fn await_place(self: &Arc<Self>, deadline: Option<Instant>) -> bool {
        self.wait_until(deadline, |at, give_up| self.queue.await_place(at, give_up))
    }

    fn wait_until(
        self: &Arc<Self>,
        deadline: Option<Instant>,
        wait: impl FnOnce(Option<std::time::Instant>, &dyn Fn() -> bool) -> bool,
    ) -> bool {
        let shared = self.clone();
        let nudge = move || shared.queue.nudge();
        wait_until(self.token.clock(), deadline, nudge, wait)
    }

    fn join(&self) {
        let _one_at_a_time = self.joining.lock();
        self.roster.join_all();
    }
}
