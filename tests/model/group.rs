//! The queue of a group under the model checker: when all has ended, and that no task is left
//! behind, also if a thread is refused.
//!
//! The second half is the counter-proof: a queue with a planted fault, in which the checker must
//! find it.

#[path = "../../src/group/queue.rs"]
mod queue;

pub(crate) use queue::look_a_while;

/// A task that counts: what it would do in a group is outside of the protocol.
mod erase {
    use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};

    use crate::sync::Arc;

    /// What became of the tasks.
    #[derive(Default)]
    pub(super) struct Counts {
        pub(super) ran: AtomicUsize,
        pub(super) dropped: AtomicUsize,
    }

    pub(crate) struct ErasedRun(pub(super) Arc<Counts>);

    impl ErasedRun {
        pub(super) fn key(&self) -> usize {
            0
        }

        pub(super) fn run_and_drop(self) {
            self.0.ran.fetch_add(1, SeqCst);
        }
    }

    impl Drop for ErasedRun {
        fn drop(&mut self) {
            self.0.dropped.fetch_add(1, SeqCst);
        }
    }
}

use std::num::NonZeroUsize;

use loom::sync::atomic::{AtomicBool, Ordering::SeqCst};
use loom::thread::{self, JoinHandle};

use crate::sync::{Arc, Condvar, Mutex};
use crate::threads::{Task, ThreadError};
use erase::{Counts, ErasedRun};
use queue::{Lender, Queue, Refused};

fn check(preemptions: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(scenario);
}

/// Starts the model's threads, but refuses the first so many.
struct Threads {
    refusals: Mutex<usize>,
    started: Mutex<Vec<JoinHandle<()>>>,
}

impl Lender for Threads {
    fn lend(&self, _: &Task, server: Server) -> Result<(), ThreadError> {
        let mut refusals = self.refusals.lock();
        if *refusals > 0 {
            *refusals -= 1;
            drop(refusals);
            drop(server);
            return Err(ThreadError);
        }
        drop(refusals);
        self.started.lock().push(thread::spawn(server));
        Ok(())
    }

    fn join_all(&self) {
        let started = std::mem::take(&mut *self.started.lock());
        for thread in started {
            thread.join().unwrap();
        }
    }
}

fn queue(limit: Option<usize>, backlog: usize, refusals: usize) -> (Arc<Queue>, Arc<Counts>) {
    let threads = Threads {
        refusals: Mutex::new(refusals),
        started: Mutex::new(Vec::new()),
    };
    let limit = limit.and_then(NonZeroUsize::new);
    let queue = Queue::new(Box::new(threads), limit, backlog);
    (queue, Arc::new(Counts::default()))
}

fn push(queue: &Arc<Queue>, counts: &Arc<Counts>) -> Result<(), Refused> {
    queue.try_push(ErasedRun(counts.clone()), &Task, false)
}

/// Waits for the end as a scope does. What ran, and was dropped by then: what tasks borrow from
/// may go now.
fn end(queue: &Queue, counts: &Counts) -> (usize, usize) {
    assert!(queue.await_end(None, || false));
    let seen = (counts.ran.load(SeqCst), counts.dropped.load(SeqCst));
    queue.close();
    seen
}

#[test]
fn the_end_comes_after_the_last_task_has_been_dropped() {
    check(3, || {
        let (queue, counts) = queue(None, 0, 0);
        assert!(push(&queue, &counts).is_ok());
        assert!(push(&queue, &counts).is_ok());
        assert_eq!(end(&queue, &counts), (2, 2));
    });
}

#[test]
fn no_task_is_lost_between_a_push_and_a_server_that_goes_idle() {
    check(3, || {
        let (queue, counts) = queue(Some(1), 8, 0);
        for _ in 0..3 {
            assert!(push(&queue, &counts).is_ok());
        }
        assert_eq!(end(&queue, &counts), (3, 3));
    });
}

#[test]
fn two_that_push_at_once_into_a_limited_group_lose_nothing() {
    check(2, || {
        let (queue, counts) = queue(Some(1), 8, 0);
        let (other, theirs) = (queue.clone(), counts.clone());
        let other = thread::spawn(move || usize::from(push(&other, &theirs).is_ok()));
        let mine = usize::from(push(&queue, &counts).is_ok());
        // A place in the backlog counts only once a thread is certain: one may be told "full".
        let taken_in = mine + other.join().unwrap();
        assert!(taken_in >= 1);
        assert_eq!(end(&queue, &counts), (taken_in, 2));
    });
}

#[test]
fn who_waits_for_a_place_wakes_when_there_is_one() {
    check(2, || {
        let (queue, counts) = queue(Some(1), 0, 0);
        assert!(push(&queue, &counts).is_ok());
        queue.await_place(|| false);
        assert!(push(&queue, &counts).is_ok());
        assert_eq!(end(&queue, &counts), (2, 2));
    });
}

type Server = Box<dyn FnOnce() + Send>;

/// Starts nothing before it is asked to.
#[derive(Clone, Default)]
struct Held(Arc<Mutex<Vec<Server>>>);

impl Lender for Held {
    fn lend(&self, _: &Task, server: Server) -> Result<(), ThreadError> {
        self.0.lock().push(server);
        Ok(())
    }

    fn join_all(&self) {}
}

/// A task that does not end before the one who waits has given up.
fn gives_up(waits_for_place: bool) {
    check(3, move || {
        let held = Held::default();
        let queue = Queue::new(Box::new(held.clone()), NonZeroUsize::new(1), 0);
        let counts = Arc::new(Counts::default());
        assert!(push(&queue, &counts).is_ok());
        let (cancelled, canceller) = (Arc::new(AtomicBool::new(false)), queue.clone());
        let flag = cancelled.clone();
        let canceller = thread::spawn(move || {
            flag.store(true, SeqCst);
            canceller.nudge();
        });
        let told = || cancelled.load(SeqCst);
        match waits_for_place {
            true => queue.await_place(told),
            false => assert!(!queue.await_end(None, told)),
        }
        canceller.join().unwrap();
        let server = held.0.lock().pop().expect("one server");
        let server = thread::spawn(server);
        assert_eq!(end(&queue, &counts), (1, 1));
        server.join().unwrap();
    });
}

#[test]
fn who_waits_for_a_place_gives_up_when_it_is_nudged() {
    gives_up(true);
}

#[test]
fn who_waits_for_the_end_looks_up_when_it_is_nudged() {
    gives_up(false);
}

#[test]
fn a_refused_thread_leaves_no_task_behind() {
    for (limit, refusals) in [(Some(1), 1), (Some(2), 1), (None, 1), (None, 2)] {
        check(2, move || {
            let (queue, counts) = queue(limit, 8, refusals);
            let (other, theirs) = (queue.clone(), counts.clone());
            let other = thread::spawn(move || usize::from(push(&other, &theirs).is_ok()));
            let mine = usize::from(push(&queue, &counts).is_ok());
            let taken_in = mine + other.join().unwrap();
            let (ran, dropped) = end(&queue, &counts);
            assert_eq!((ran, dropped), (taken_in, 2));
        });
    }
}

#[test]
fn who_waits_for_a_place_wakes_when_a_thread_is_refused() {
    check(2, || {
        let (queue, counts) = queue(Some(1), 0, 1);
        let (other, theirs) = (queue.clone(), counts.clone());
        let other = thread::spawn(move || push(&other, &theirs).is_ok());
        while push(&queue, &counts).is_err() {
            queue.await_place(|| false);
        }
        let theirs = usize::from(other.join().unwrap());
        assert_eq!(end(&queue, &counts).0, 1 + theirs);
    });
}

/// The end of a task as `Queue` counts it, with the order of the last two steps for the asking.
fn ends(drops_first: bool) {
    check(2, move || {
        let counts = Arc::new(Counts::default());
        let queue = Arc::new((Mutex::new(1_usize), Condvar::new()));
        let (server, job) = (queue.clone(), ErasedRun(counts.clone()));
        let server = thread::spawn(move || {
            let mut job = Some(job);
            if drops_first {
                drop(job.take());
            }
            *server.0.lock() -= 1;
            server.1.notify_all();
            drop(job);
        });
        let mut pending = queue.0.lock();
        while *pending > 0 {
            queue.1.wait(&mut pending);
        }
        drop(pending);
        let dropped = counts.dropped.load(SeqCst);
        server.join().unwrap();
        assert_eq!(dropped, 1);
    });
}

#[test]
fn the_checker_passes_a_task_that_is_dropped_before_it_is_counted() {
    ends(true);
}

#[test]
#[should_panic(expected = "assertion `left == right` failed")]
fn the_checker_finds_a_task_that_is_counted_before_it_is_dropped() {
    ends(false);
}
