//! The permits of bulkheads and adaptive limits under the model checker: no more are out than there
//! are, no wake-up is lost, nobody overtakes, and who gives up leaves nothing behind.
//!
//! The last part is the counter-proof: a semaphore with a planted fault, in which the checker must
//! find it.

#[path = "../../src/resilience/permits.rs"]
mod protocol;

use loom::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use loom::thread;

use crate::sync::{Arc, Condvar, Mutex};
use protocol::{Entry, Permits, Refused, Waited, Waiter};

fn check(preemptions: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(scenario);
}

/// Takes a permit as the bulkhead does, or says why there is none.
fn acquire(permits: &Permits, give_up: impl Fn() -> bool) -> Result<(), Option<Refused>> {
    if permits.try_acquire().is_ok() {
        return Ok(());
    }
    let waiter = match permits.enter() {
        Ok(Entry::Admitted) => return Ok(()),
        Ok(Entry::Waiting(waiter)) => waiter,
        Err(refused) => return Err(Some(refused)),
    };
    match permits.await_grant(&waiter, None, give_up) {
        Waited::Granted => Ok(()),
        Waited::Closed => Err(Some(Refused::Closed)),
        Waited::GaveUp => match permits.leave(&waiter) {
            true => Ok(()),
            false => Err(None),
        },
    }
}

/// At the end: nothing in use, nobody waits, and the way is free again.
fn at_rest(permits: &Permits, capacity: usize) {
    let counts = permits.counts();
    assert_eq!((counts.in_use, counts.capacity), (0, capacity));
    assert_eq!(permits.waiting(), 0);
    if !counts.closed && capacity > 0 {
        permits.try_acquire().unwrap();
        permits.release();
    }
}

/// Counts who is inside, and fails if they are too many.
struct Inside(AtomicUsize);

impl Inside {
    fn visit(&self, most: usize) {
        assert!(self.0.fetch_add(1, SeqCst) < most, "too many at a time");
        self.0.fetch_sub(1, SeqCst);
    }
}

#[test]
fn three_threads_share_one_permit_and_each_gets_it() {
    check(3, || {
        let permits = Arc::new(Permits::new(1, 8));
        let inside = Arc::new(Inside(AtomicUsize::new(0)));
        let visit = |permits: &Permits, inside: &Inside| {
            acquire(permits, || false).unwrap();
            inside.visit(1);
            permits.release();
        };
        let threads: Vec<_> = (0..2)
            .map(|_| {
                let (permits, inside) = (permits.clone(), inside.clone());
                thread::spawn(move || visit(&permits, &inside))
            })
            .collect();
        visit(&permits, &inside);
        for thread in threads {
            thread.join().unwrap();
        }
        at_rest(&permits, 1);
    });
}

#[test]
#[allow(
    clippy::arc_with_non_send_sync,
    reason = "whether the access is ordered is what loom is to find out"
)]
fn what_was_done_with_a_permit_is_seen_by_the_next_one() {
    check(3, || {
        let permits = Arc::new(Permits::new(1, 8));
        let data = Arc::new(loom::cell::UnsafeCell::new(0));
        let add = |permits: &Permits, data: &loom::cell::UnsafeCell<i32>| {
            acquire(permits, || false).unwrap();
            // Only loom looks: it fails on an access that is not ordered.
            data.with_mut(|_| ());
            permits.release();
        };
        let other = {
            let (permits, data) = (permits.clone(), data.clone());
            thread::spawn(move || add(&permits, &data))
        };
        add(&permits, &data);
        other.join().unwrap();
    });
}

#[test]
fn who_gives_up_passes_nothing_by_and_keeps_nothing() {
    check(3, || {
        let permits = Arc::new(Permits::new(1, 8));
        permits.try_acquire().unwrap();
        let cancelled = Arc::new(AtomicBool::new(false));
        // The first may give up at any moment; the second must get the permit.
        let first = {
            let (permits, cancelled) = (permits.clone(), cancelled.clone());
            thread::spawn(move || {
                let Ok(Entry::Waiting(waiter)) = permits.enter() else {
                    return permits.release();
                };
                let waited = permits.await_grant(&waiter, None, || cancelled.load(SeqCst));
                if waited == Waited::Granted || permits.leave(&waiter) {
                    permits.release();
                }
            })
        };
        let second = {
            let permits = permits.clone();
            thread::spawn(move || {
                acquire(&permits, || false).unwrap();
                permits.release();
            })
        };
        // It looks before it sleeps, so it need not be woken if it finds this first.
        cancelled.store(true, SeqCst);
        permits.release();
        first.join().unwrap();
        second.join().unwrap();
        at_rest(&permits, 1);
    });
}

#[test]
fn a_nudge_is_heard_by_who_waits() {
    check(3, || {
        let permits = Arc::new(Permits::new(0, 8));
        let Ok(Entry::Waiting(waiter)) = permits.enter() else {
            panic!("there is no permit");
        };
        let cancelled = Arc::new(AtomicBool::new(false));
        let other = {
            let (permits, cancelled, waiter) = (permits.clone(), cancelled.clone(), waiter.clone());
            thread::spawn(move || {
                cancelled.store(true, SeqCst);
                permits.nudge(&waiter);
            })
        };
        let waited = permits.await_grant(&waiter, None, || cancelled.load(SeqCst));
        assert_eq!(waited, Waited::GaveUp);
        assert!(!permits.leave(&waiter));
        other.join().unwrap();
        at_rest(&permits, 0);
    });
}

/// Waits in the queue as `name`, and writes it down when it has its turn.
fn in_turn(
    permits: &Arc<Permits>,
    waiter: Arc<Waiter>,
    order: &Arc<Mutex<Vec<usize>>>,
    name: usize,
) -> thread::JoinHandle<()> {
    let (permits, order) = (permits.clone(), order.clone());
    thread::spawn(move || {
        assert_eq!(
            permits.await_grant(&waiter, None, || false),
            Waited::Granted
        );
        order.lock().push(name);
        permits.release();
    })
}

#[test]
fn those_who_wait_are_served_in_the_order_in_which_they_came() {
    check(3, || {
        let permits = Arc::new(Permits::new(1, 8));
        permits.try_acquire().unwrap();
        let order = Arc::new(Mutex::new(Vec::new()));
        let threads: Vec<_> = (0..2)
            .map(|name| match permits.enter() {
                Ok(Entry::Waiting(waiter)) => in_turn(&permits, waiter, &order, name),
                _ => panic!("the permit is in use"),
            })
            .collect();
        permits.release();
        // A newcomer overtakes nobody.
        if permits.try_acquire().is_ok() {
            assert_eq!(order.lock().len(), 2);
            permits.release();
        }
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*order.lock(), [0, 1]);
        at_rest(&permits, 1);
    });
}

#[test]
fn a_resize_wakes_who_waits() {
    check(3, || {
        let permits = Arc::new(Permits::new(0, 8));
        let other = {
            let permits = permits.clone();
            thread::spawn(move || {
                acquire(&permits, || false).unwrap();
                permits.release();
            })
        };
        permits.resize(2);
        acquire(&permits, || false).unwrap();
        permits.resize(1);
        permits.release();
        other.join().unwrap();
        at_rest(&permits, 1);
    });
}

#[test]
fn a_close_wakes_who_waits_and_lets_go_who_has() {
    check(3, || {
        let permits = Arc::new(Permits::new(1, 8));
        permits.try_acquire().unwrap();
        let other = {
            let permits = permits.clone();
            thread::spawn(move || match acquire(&permits, || false) {
                // The release came first.
                Ok(()) => permits.release(),
                Err(refused) => assert_eq!(refused, Some(Refused::Closed)),
            })
        };
        let closer = {
            let permits = permits.clone();
            thread::spawn(move || assert!(permits.close()))
        };
        permits.release();
        other.join().unwrap();
        closer.join().unwrap();
        assert!(!permits.close());
        at_rest(&permits, 1);
    });
}

#[test]
fn a_queue_of_one_refuses_the_second_and_never_loses_the_first() {
    check(3, || {
        let permits = Arc::new(Permits::new(1, 1));
        let visit = |permits: &Permits| match acquire(permits, || false) {
            Ok(()) => {
                permits.release();
                1
            }
            Err(refused) => {
                assert_eq!(refused, Some(Refused::Full));
                0
            }
        };
        let others: Vec<_> = (0..2)
            .map(|_| {
                let permits = permits.clone();
                thread::spawn(move || visit(&permits))
            })
            .collect();
        let mut served = visit(&permits);
        for other in others {
            served += other.join().unwrap();
        }
        assert!(served >= 2, "one has the permit, one waits: two at least");
        at_rest(&permits, 1);
    });
}

/// A semaphore that looks, and then queues up: with `looks_again` it looks once more under the
/// lock that a release takes.
fn queues_up(looks_again: bool) {
    check(3, move || {
        let shared = Arc::new((AtomicUsize::new(0), Mutex::new(false), Condvar::new()));
        let theirs = shared.clone();
        let releaser = thread::spawn(move || {
            let mut waits = theirs.1.lock();
            theirs.0.fetch_add(1, SeqCst);
            if std::mem::take(&mut *waits) {
                theirs.2.notify_one();
            }
        });
        if shared.0.load(SeqCst) == 0 {
            let mut waits = shared.1.lock();
            if !looks_again || shared.0.load(SeqCst) == 0 {
                *waits = true;
                shared.2.wait(&mut waits);
            }
        }
        releaser.join().unwrap();
    });
}

#[test]
fn the_checker_passes_a_semaphore_that_looks_again() {
    queues_up(true);
}

#[test]
#[should_panic(expected = "deadlock")]
fn the_checker_finds_a_lost_wake_up_of_a_semaphore() {
    queues_up(false);
}
