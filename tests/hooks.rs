//! Hooks: T7.

#![allow(
    clippy::disallowed_methods,
    reason = "the tests are outside the library's doors"
)]

mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Barrier, Mutex};
use std::thread;

use cleanbreak::{CancelToken, Clock, Registration};
use crossbeam_channel::bounded;
use support::{PATIENCE, dither, in_time, rng, secs};

/// Counts how often it was run and how often its closure was dropped.
#[derive(Clone, Default)]
struct Probe(Arc<(AtomicUsize, AtomicUsize)>);

struct OnDrop(Probe);

impl Drop for OnDrop {
    fn drop(&mut self) {
        self.0.0.1.fetch_add(1, SeqCst);
    }
}

impl Probe {
    fn hook(&self) -> impl FnOnce() + Send + 'static {
        let guard = OnDrop(self.clone());
        move || {
            guard.0.0.0.fetch_add(1, SeqCst);
        }
    }

    fn runs(&self) -> usize {
        self.0.0.load(SeqCst)
    }

    fn drops(&self) -> usize {
        self.0.1.load(SeqCst)
    }
}

#[test]
fn a_hook_runs_once_on_the_thread_that_cancels_before_the_cancel_returns() {
    let (token, probe) = (CancelToken::new(), Probe::default());
    let (sent, received) = bounded(1);
    let first = token.on_cancel(move || sent.send(thread::current().id()).unwrap());
    let second = token.on_cancel(probe.hook());
    assert_eq!(probe.runs(), 0);
    assert!(token.cancel());
    assert_eq!(received.try_recv().unwrap(), thread::current().id());
    assert_eq!((probe.runs(), probe.drops()), (1, 1));
    assert!(!token.cancel());
    drop((first, second));
    assert_eq!((probe.runs(), probe.drops()), (1, 1));
}

#[test]
fn a_hook_runs_at_once_on_a_cancelled_token() {
    let (token, probe) = (CancelToken::new(), Probe::default());
    token.cancel();
    let registration = token.on_cancel(probe.hook());
    assert_eq!((probe.runs(), probe.drops()), (1, 1));
    assert!(!registration.try_unregister());
    token.child().on_cancel(probe.hook()).detach();
    assert_eq!(probe.runs(), 2);
}

#[test]
fn a_hook_that_runs_at_once_and_panics_does_not_reach_the_caller() {
    let token = CancelToken::new();
    token.cancel();
    let registration = token.on_cancel(|| std::panic::resume_unwind(Box::new("contained")));
    assert!(!registration.try_unregister());
}

#[test]
fn hooks_run_in_the_order_of_registration_a_parents_before_its_childrens() {
    let (root, ran) = (CancelToken::new(), Arc::new(Mutex::new(Vec::new())));
    let middle = root.child();
    let leaf = middle.child();
    let note = |token: &CancelToken, what: &'static str| {
        let ran = ran.clone();
        token
            .on_cancel(move || ran.lock().unwrap().push(what))
            .detach();
    };
    note(&leaf, "leaf 1");
    note(&middle, "middle 1");
    note(&root, "root 1");
    note(&leaf, "leaf 2");
    note(&root, "root 2");
    drop(root.on_cancel(|| unreachable!("taken back")));
    note(&root, "root 3");
    root.cancel();
    let expected = ["root 1", "root 2", "root 3", "middle 1", "leaf 1", "leaf 2"];
    assert_eq!(*ran.lock().unwrap(), expected);
}

#[test]
fn when_a_hook_runs_everything_below_is_cancelled_already() {
    let root = CancelToken::new();
    let leaf = root.child().child();
    let (sent, received) = bounded(1);
    let seen = leaf.clone();
    root.on_cancel(move || sent.send(seen.is_cancelled()).unwrap())
        .detach();
    root.cancel();
    assert!(received.try_recv().unwrap());
}

#[test]
fn a_hook_that_panics_stops_neither_the_others_nor_the_cancel() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("a payload that panics when it is dropped"));
        }
    }
    let (root, probe) = (CancelToken::new(), Probe::default());
    let child = root.child();
    root.on_cancel(probe.hook()).detach();
    root.on_cancel(|| std::panic::resume_unwind(Box::new(Bomb)))
        .detach();
    root.on_cancel(probe.hook()).detach();
    child.on_cancel(probe.hook()).detach();
    assert!(root.cancel());
    assert_eq!(probe.runs(), 3);
}

#[test]
fn a_hook_that_panics_on_the_timer_thread_stops_no_other_deadline() {
    let clock = Clock::isolated();
    let root = CancelToken::with_clock(&clock);
    let first = root.child_timeout(support::millis(1));
    first
        .on_cancel(|| std::panic::resume_unwind(Box::new("contained")))
        .detach();
    assert!(first.wait_timeout(PATIENCE));
    let second = root.child_timeout(support::millis(1));
    assert!(second.wait_timeout(PATIENCE));
}

#[test]
fn a_registration_that_is_dropped_takes_its_hook_back() {
    let (token, probe) = (CancelToken::new(), Probe::default());
    drop(token.on_cancel(probe.hook()));
    assert_eq!(probe.drops(), 1, "the closure goes with the registration");
    token.cancel();
    assert_eq!(probe.runs(), 0);
}

#[test]
fn a_hook_that_was_unregistered_in_time_never_runs() {
    let (token, probe) = (CancelToken::new(), Probe::default());
    let (first, second) = (token.on_cancel(probe.hook()), token.on_cancel(probe.hook()));
    assert!(first.try_unregister());
    assert_eq!(probe.drops(), 1);
    token.cancel();
    assert_eq!(probe.runs(), 1);
    assert!(!second.try_unregister(), "it has run");
}

#[test]
fn a_detached_hook_stays_until_the_token_is_cancelled_or_gone() {
    let (token, probe) = (CancelToken::new(), Probe::default());
    token.on_cancel(probe.hook()).detach();
    assert_eq!(probe.drops(), 0);
    token.cancel();
    assert_eq!(probe.runs(), 1);

    let (token, probe) = (CancelToken::new(), Probe::default());
    token.on_cancel(probe.hook()).detach();
    drop(token);
    assert_eq!((probe.runs(), probe.drops()), (0, 1));
}

#[test]
fn a_token_that_goes_uncancelled_drops_its_hooks_without_running_them() {
    let (token, probe) = (CancelToken::new(), Probe::default());
    let registration = token.on_cancel(probe.hook());
    drop(token);
    registration.try_unregister();
    assert_eq!((probe.runs(), probe.drops()), (0, 1));

    let never = Probe::default();
    CancelToken::never().on_cancel(never.hook()).detach();
    assert_eq!((never.runs(), never.drops()), (0, 1));
}

/// A token whose hook is running on another thread, and what lets the hook go on.
struct Running {
    registration: Registration,
    leave: crossbeam_channel::Sender<()>,
    left: Arc<AtomicBool>,
    canceller: thread::JoinHandle<bool>,
}

fn running_hook() -> Running {
    let token = CancelToken::new();
    let (entered, has_entered) = bounded(1);
    let (leave, may_leave) = bounded::<()>(1);
    let left = Arc::new(AtomicBool::new(false));
    let has_left = left.clone();
    let registration = token.on_cancel(move || {
        entered.send(()).unwrap();
        may_leave.recv_timeout(PATIENCE).unwrap();
        has_left.store(true, SeqCst);
    });
    let canceller = thread::spawn(move || token.cancel());
    has_entered.recv_timeout(PATIENCE).unwrap();
    Running {
        registration,
        leave,
        left,
        canceller,
    }
}

#[test]
fn a_drop_waits_for_a_hook_that_runs_on_another_thread() {
    for _ in 0..100 {
        in_time(|| {
            let Running {
                registration,
                leave,
                left,
                canceller,
            } = running_hook();
            let go = thread::spawn(move || leave.send(()).unwrap());
            drop(registration);
            assert!(
                left.load(SeqCst),
                "the drop came back while the hook was running"
            );
            go.join().unwrap();
            assert!(canceller.join().unwrap());
        });
    }
}

#[test]
fn try_unregister_does_not_wait_for_a_hook_that_runs() {
    in_time(|| {
        let Running {
            registration,
            leave,
            left,
            canceller,
        } = running_hook();
        assert!(!registration.try_unregister());
        assert!(!left.load(SeqCst), "it still runs");
        leave.send(()).unwrap();
        assert!(canceller.join().unwrap());
    });
}

#[test]
fn detach_does_not_wait_for_a_hook_that_runs() {
    in_time(|| {
        let Running {
            registration,
            leave,
            left,
            canceller,
        } = running_hook();
        registration.detach();
        assert!(!left.load(SeqCst), "it still runs");
        leave.send(()).unwrap();
        assert!(canceller.join().unwrap());
    });
}

#[test]
fn a_second_cancel_does_not_wait_for_the_hooks_of_the_first() {
    in_time(|| {
        let token = CancelToken::new();
        let (entered, has_entered) = bounded(1);
        let (leave, may_leave) = bounded::<()>(1);
        let hook = move || {
            entered.send(()).unwrap();
            may_leave.recv_timeout(PATIENCE).unwrap();
        };
        token.on_cancel(hook).detach();
        thread::scope(|s| {
            s.spawn(|| assert!(token.cancel()));
            has_entered.recv_timeout(PATIENCE).unwrap();
            assert!(!token.cancel());
            leave.send(()).unwrap();
        });
    });
}

#[test]
fn a_registration_may_be_dropped_inside_its_own_hook() {
    in_time(|| {
        let token = CancelToken::new();
        let own = Arc::new(Mutex::new(None::<Registration>));
        let (ran, has_run) = bounded(1);
        let hook = {
            let own = own.clone();
            move || {
                let registration = own.lock().unwrap().take();
                drop(registration);
                ran.send(()).unwrap();
            }
        };
        *own.lock().unwrap() = Some(token.on_cancel(hook));
        token.cancel();
        has_run.try_recv().unwrap();
    });
}

/// Each hook drops the registration of the next in the circle, all at once (dotnet/runtime#43438).
fn circle_of(hooks: usize) {
    in_time(move || {
        let tokens: Vec<_> = (0..hooks).map(|_| CancelToken::new()).collect();
        let slots: Vec<_> = (0..hooks).map(|_| Arc::new(Mutex::new(None))).collect();
        let all_running = Arc::new(Barrier::new(hooks));
        let ran = Arc::new(AtomicUsize::new(0));
        for (n, token) in tokens.iter().enumerate() {
            let (next, barrier) = (slots[(n + 1) % hooks].clone(), all_running.clone());
            let ran = ran.clone();
            let registration = token.on_cancel(move || {
                barrier.wait();
                let registration: Option<Registration> = next.lock().unwrap().take();
                drop(registration);
                ran.fetch_add(1, SeqCst);
            });
            *slots[n].lock().unwrap() = Some(registration);
        }
        thread::scope(|s| {
            for token in &tokens {
                s.spawn(|| token.cancel());
            }
        });
        assert_eq!(ran.load(SeqCst), hooks);
    });
}

#[test]
fn two_hooks_that_drop_each_others_registrations_do_not_deadlock() {
    (0..300).for_each(|_| circle_of(2));
}

#[test]
fn a_circle_of_four_hooks_that_drop_each_others_registrations_does_not_deadlock() {
    (0..100).for_each(|_| circle_of(4));
}

/// A registration, a drop and a cancel at once: the hook ran once or was dropped unrun, and it does
/// not run after the drop.
#[test]
fn a_hook_runs_once_or_is_taken_back_when_cancel_and_drop_race() {
    let mut rng = rng("cancel and drop");
    let (mut ran, mut taken) = (0, 0);
    for round in 0..2000 {
        let (token, probe) = (CancelToken::new(), Probe::default());
        let start = Barrier::new(2);
        let mut seed = rng.fork();
        thread::scope(|s| {
            s.spawn(|| {
                start.wait();
                dither(&mut seed, 60);
                token.cancel();
            });
            start.wait();
            dither(&mut rng, 60);
            let registration = token.on_cancel(probe.hook());
            dither(&mut rng, 60);
            if round % 2 == 0 {
                drop(registration);
                let after_the_drop = (probe.runs(), probe.drops());
                assert_eq!(after_the_drop.1, 1, "it may still run");
            } else {
                let was_taken = registration.try_unregister();
                assert!(!was_taken || (probe.runs(), probe.drops()) == (0, 1));
            }
        });
        assert_eq!(probe.drops(), 1);
        assert!(probe.runs() <= 1);
        ran += probe.runs();
        taken += 1 - probe.runs();
    }
    eprintln!("{ran} ran, {taken} taken back");
}

#[test]
fn hooks_may_do_anything_with_the_tree_that_is_being_cancelled() {
    in_time(|| {
        let root = CancelToken::new();
        let (other, probe) = (CancelToken::new(), Probe::default());
        let sibling_registration = Arc::new(Mutex::new(None));
        let last_handle = Arc::new(Mutex::new(None));
        let hook = {
            let (root, other, probe) = (root.clone(), other.clone(), probe.clone());
            let (sibling, last) = (sibling_registration.clone(), last_handle.clone());
            move || {
                let child = root.child();
                assert!(child.is_cancelled() && root.child_timeout(secs(1)).is_cancelled());
                root.on_cancel(probe.hook()).detach(); // on the same token: at once
                child.on_cancel(probe.hook()).detach();
                assert!(other.cancel_with("by the hook"));
                assert!(!root.cancel());
                root.wait();
                drop(sibling.lock().unwrap().take()); // not run yet: taken back
                drop(last.lock().unwrap().take());
                (probe.hook())();
            }
        };
        root.on_cancel(hook).detach();
        let taken_back = root.on_cancel(|| unreachable!("the hook before took it back"));
        *sibling_registration.lock().unwrap() = Some(taken_back);
        root.child().on_cancel(probe.hook()).detach();
        other.on_cancel(probe.hook()).detach();
        let leaf = root.child();
        leaf.on_cancel(probe.hook()).detach();
        *last_handle.lock().unwrap() = Some(leaf);
        assert!(root.cancel());
        assert!(other.is_cancelled());
        // Two at once, the other's, its own, the leaf's; the dropped child's went with it.
        assert_eq!(probe.runs(), 5);
        assert_eq!(probe.drops(), 6);
    });
}

#[test]
fn the_last_handle_may_be_dropped_inside_the_hook() {
    in_time(|| {
        let (token, probe) = (CancelToken::new(), Probe::default());
        let own = Arc::new(Mutex::new(Some(token.child())));
        let child = own.lock().unwrap().clone().unwrap();
        let hook = {
            let (own, run) = (own.clone(), probe.hook());
            move || {
                let last = own.lock().unwrap().take();
                drop(last);
                run();
            }
        };
        child.on_cancel(hook).detach();
        drop(child);
        token.cancel();
        assert_eq!(probe.runs(), 1);
    });
}

#[test]
fn a_closure_that_panics_when_it_is_dropped_harms_nobody_else() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            std::panic::resume_unwind(Box::new("dropped"));
        }
    }
    let bomb = || {
        let bomb = Bomb;
        move || drop(bomb)
    };
    let probe = Probe::default();
    // Taken back, gone with its token, run, and never armed.
    let token = CancelToken::new();
    let outcome = catch_unwind(AssertUnwindSafe(|| drop(token.on_cancel(bomb()))));
    assert!(outcome.is_ok(), "on a take-back");
    token.on_cancel(probe.hook()).detach();
    token.on_cancel(bomb()).detach();
    token.on_cancel(probe.hook()).detach();
    let outcome = catch_unwind(AssertUnwindSafe(|| drop(token)));
    assert!(outcome.is_ok(), "with its token");
    assert_eq!(probe.drops(), 2);
    let outcome = catch_unwind(|| CancelToken::never().on_cancel(bomb()).detach());
    assert!(outcome.is_ok(), "on a token that is never cancelled");
}
