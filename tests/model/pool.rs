//! The queue of a pool under the model checker: nothing that was taken in is lost or run twice,
//! no job waits beside a worker that sleeps, and the counts add up at every moment.
//!
//! The last part is the counter-proof: a queue with a planted fault, in which the checker must find
//! it.

#[path = "../../src/pool/queue.rs"]
mod queue;

use std::panic::Location;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use loom::thread::{self, JoinHandle};

use crate::sync::{Arc, Condvar, Mutex};
use queue::{Growth, Label, Labelled, Outcome, Queue, Refused};

/// A task that counts: what it would do is outside of the protocol.
struct Job(Arc<AtomicUsize>);

impl Labelled for Job {
    fn label(&self) -> Label {
        Label {
            name: None,
            site: Location::caller(),
        }
    }
}

struct Pool {
    queue: Arc<Queue<Job>>,
    ran: Arc<AtomicUsize>,
    workers: Vec<JoinHandle<()>>,
}

fn check(preemptions: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(scenario);
}

impl Pool {
    fn new(workers: usize, bound: usize) -> Self {
        let mut pool = Self {
            queue: Arc::new(Queue::new(bound)),
            ran: Arc::new(AtomicUsize::new(0)),
            workers: Vec::new(),
        };
        pool.resize(workers);
        pool
    }

    fn resize(&mut self, workers: usize) {
        while let Growth::Start = self.queue.grow_towards(workers) {
            let queue = self.queue.clone();
            let run = |job: Job| {
                job.0.fetch_add(1, SeqCst);
                Outcome::Completed
            };
            let worker = thread::spawn(move || queue.serve(None, run));
            self.workers.push(worker);
        }
    }

    fn job(&self) -> Job {
        Job(self.ran.clone())
    }

    /// Whether it was taken in; what is refused comes back.
    fn push(&self) -> Result<(), Refused> {
        push(&self.queue, self.job())
    }

    /// Drains: what ran by then. Then the workers leave, and nothing else runs.
    fn drain(self) -> usize {
        self.queue.close();
        assert!(self.queue.await_end(None, || false));
        let ran = self.ran.load(SeqCst);
        let all = self.queue.snapshot();
        assert_eq!((all.running.len(), all.queued), (0, 0));
        assert_eq!(all.counts.completed, ran);
        for worker in self.workers {
            worker.join().unwrap();
        }
        assert_eq!(self.ran.load(SeqCst), ran);
        ran
    }
}

fn push(queue: &Queue<Job>, job: Job) -> Result<(), Refused> {
    queue
        .try_push(job, false, false)
        .map_err(|(refused, _)| refused)
}

#[test]
fn no_task_is_lost_between_a_push_and_a_worker_that_falls_asleep() {
    check(3, || {
        let pool = Pool::new(1, 2);
        assert!(pool.push().is_ok());
        assert!(pool.push().is_ok());
        assert_eq!(pool.drain(), 2);
    });
}

#[test]
fn two_workers_share_what_comes_and_run_nothing_twice() {
    check(3, || {
        let pool = Pool::new(2, 2);
        assert!(pool.push().is_ok());
        assert!(pool.push().is_ok());
        assert_eq!(pool.drain(), 2);
    });
}

/// As a pool whose workers run on: nobody closes it before all has ended, so a job beside a
/// sleeping worker is a deadlock.
#[test]
fn a_worker_that_sleeps_is_called_also_when_nobody_closes_the_pool() {
    check(3, || {
        let pool = Pool::new(2, 2);
        assert!(pool.push().is_ok());
        assert!(pool.push().is_ok());
        assert!(pool.queue.await_end(None, || false));
        assert_eq!(pool.drain(), 2);
    });
}

#[test]
fn a_push_that_races_with_the_close_is_refused_or_runs() {
    check(3, || {
        let pool = Pool::new(1, 2);
        let (queue, job) = (pool.queue.clone(), pool.job());
        let other = thread::spawn(move || push(&queue, job));
        pool.queue.close();
        let taken_in = match other.join().unwrap() {
            Ok(()) => 1,
            Err(refused) => {
                assert_eq!(refused, Refused::Closed);
                0
            }
        };
        assert_eq!(pool.drain(), taken_in);
    });
}

#[test]
fn what_is_abandoned_does_not_run_and_the_sum_holds_at_every_moment() {
    check(3, || {
        let pool = Pool::new(1, 2);
        assert!(pool.push().is_ok());
        assert!(pool.push().is_ok());
        pool.queue.close();
        let backlog: Vec<Job> = pool.queue.take_backlog().into();
        let all = pool.queue.snapshot();
        // What is in our hands counts as queued until it is settled.
        let sum = all.counts.completed + all.running.len() + all.queued;
        assert_eq!(sum, 2);
        let abandoned = backlog.len();
        pool.queue.settle(0, backlog);
        let left = pool.queue.snapshot();
        assert_eq!(
            (left.left.len(), left.counts.abandoned),
            (abandoned, abandoned)
        );
        assert_eq!(pool.drain(), 2 - abandoned);
    });
}

#[test]
fn who_waits_for_a_place_wakes_when_there_is_one() {
    check(3, || {
        let pool = Pool::new(1, 0);
        assert!(pool.push().is_ok());
        while pool.push().is_err() {
            assert!(pool.queue.await_place(None, || false));
        }
        assert_eq!(pool.drain(), 2);
    });
}

#[test]
fn two_that_wait_for_a_place_both_get_one() {
    check(2, || {
        let pool = Pool::new(1, 0);
        let (queue, job) = (pool.queue.clone(), pool.job());
        let other = thread::spawn(move || {
            let mut job = Some(job);
            while let Some(this) = job.take() {
                if let Err((_, back)) = queue.try_push(this, false, false) {
                    assert!(queue.await_place(None, || false));
                    job = Some(back);
                }
            }
        });
        while pool.push().is_err() {
            assert!(pool.queue.await_place(None, || false));
        }
        other.join().unwrap();
        assert_eq!(pool.drain(), 2);
    });
}

#[test]
fn who_waits_for_a_place_wakes_when_the_pool_is_closed_or_cancelled() {
    for closes in [true, false] {
        check(3, move || {
            let pool = Pool::new(0, 0);
            let queue = pool.queue.clone();
            let other = thread::spawn(move || match closes {
                true => drop(queue.close()),
                false => queue.cancel(),
            });
            assert!(pool.queue.await_place(None, || false));
            let expected = match closes {
                true => Refused::Closed,
                false => Refused::Cancelled,
            };
            assert_eq!(pool.push(), Err(expected));
            other.join().unwrap();
        });
    }
}

#[test]
fn who_gives_up_is_heard_when_nudged() {
    check(3, || {
        let pool = Pool::new(0, 1);
        assert!(pool.push().is_ok());
        let (queue, told) = (pool.queue.clone(), Arc::new(AtomicBool::new(false)));
        let flag = told.clone();
        let other = thread::spawn(move || {
            flag.store(true, SeqCst);
            queue.nudge();
        });
        assert!(!pool.queue.await_end(None, || told.load(SeqCst)));
        other.join().unwrap();
    });
}

#[test]
fn a_pool_that_shrinks_while_tasks_come_leaves_none_behind() {
    check(3, || {
        let mut pool = Pool::new(2, 2);
        assert!(pool.push().is_ok());
        pool.resize(1);
        assert!(pool.push().is_ok());
        assert!(pool.queue.await_end(None, || false));
        assert_eq!(pool.drain(), 2);
    });
}

#[test]
fn a_paused_pool_keeps_what_waits_for_the_next_worker() {
    check(3, || {
        let mut pool = Pool::new(1, 2);
        assert!(pool.push().is_ok());
        pool.resize(0);
        pool.resize(1);
        assert!(pool.queue.await_end(None, || false));
        assert_eq!(pool.drain(), 1);
    });
}

/// A worker that looks for work, and a push that calls only a worker that sleeps: with `looks_again`
/// the worker looks under the lock before it sleeps.
fn falls_asleep(looks_again: bool) {
    check(3, move || {
        let queue = Arc::new((Mutex::new((0_usize, false)), Condvar::new()));
        let theirs = queue.clone();
        let worker = thread::spawn(move || {
            if theirs.0.lock().0 > 0 {
                return;
            }
            let mut state = theirs.0.lock();
            if looks_again && state.0 > 0 {
                return;
            }
            state.1 = true;
            theirs.1.wait(&mut state);
        });
        let mut state = queue.0.lock();
        state.0 += 1;
        let sleeps = state.1;
        drop(state);
        if sleeps {
            queue.1.notify_one();
        }
        worker.join().unwrap();
    });
}

#[test]
fn the_checker_passes_a_worker_that_looks_before_it_sleeps() {
    falls_asleep(true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn the_checker_finds_a_worker_that_sleeps_beside_a_job() {
    falls_asleep(false);
}
