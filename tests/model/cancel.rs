//! The cancellation protocol under the model checker.
//!
//! Every scenario is small, and run in every order of its steps with at most so many preemptions.
//! What is asserted is asserted on the main thread, after what could block has been joined: a
//! deadlock is found by the checker itself.
//!
//! The second half is the counter-proof: the same assertions on copies with a planted fault, in
//! which the checker must find it.

#[path = "../../src/cancel/cause.rs"]
mod cause;
#[path = "../../src/cancel/hook.rs"]
mod hook;
#[path = "../../src/cancel/node.rs"]
mod node;
#[path = "../../src/cancel/slab.rs"]
mod slab;

use std::sync::OnceLock;

use loom::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use loom::thread;

use crate::sync::{Arc, GateReceiver, GateSender, Mutex, gate};
use cause::{CancelKind, Cancelled, Cause};
use hook::{Hook, TakeBack};
use node::Extra;

type Node = node::Node<()>;

impl Extra for () {}

fn check(preemptions: usize, scenario: impl Fn() + Sync + Send + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = Some(preemptions);
    builder.check(scenario);
}

fn by(whom: &'static str) -> Cancelled {
    Cancelled::new(CancelKind::Cancelled, Some(Cause::message(whom)))
}

/// Who cancelled it: panics if it is not, or says so without a cause.
fn canceller(node: &Node) -> String {
    let outcome = node.outcome().expect("cancelled");
    outcome
        .cause()
        .expect("the cause comes with the kind")
        .to_string()
}

fn gate_of(node: &Node) -> GateReceiver {
    node.gate().expect("not cancelled yet").clone()
}

#[test]
fn one_of_two_cancels_wins_and_a_reader_sees_kind_and_cause_together() {
    check(5, || {
        let node = Node::root(());
        let (other, reader) = (node.clone(), node.clone());
        let other = thread::spawn(move || other.cancel(&by("a")));
        let reader = thread::spawn(move || !reader.is_cancelled() || canceller(&reader).len() == 1);
        let won = node.cancel(&by("b"));
        assert!(node.is_cancelled());
        assert!(reader.join().unwrap());
        assert_ne!(won, other.join().unwrap());
        assert_eq!(canceller(&node), if won { "b" } else { "a" });
    });
}

#[test]
fn whichever_cancel_of_root_and_middle_returns_all_below_is_marked_and_woken() {
    check(5, || {
        let root = Node::root(());
        let middle = Node::child(&root, ());
        let leaves = [Node::child(&middle, ()), Node::child(&middle, ())];
        let gates = leaves.each_ref().map(|leaf| gate_of(leaf));
        let told = |leaves: &[Arc<Node>; 2], gates: &[GateReceiver; 2]| {
            leaves.iter().all(|leaf| leaf.is_cancelled()) && gates.iter().all(GateReceiver::is_open)
        };
        let other = thread::spawn({
            let (leaves, gates) = (leaves.clone(), gates.clone());
            move || {
                root.cancel(&by("root"));
                told(&leaves, &gates)
            }
        });
        middle.cancel(&by("middle"));
        assert!(told(&leaves, &gates), "cancel of the middle has returned");
        assert!(other.join().unwrap(), "cancel of the root has returned");
        for leaf in &leaves {
            assert_eq!(
                canceller(leaf),
                canceller(&middle),
                "another cause than its parent's"
            );
        }
    });
}

#[test]
fn a_second_cancel_finds_all_that_the_first_has_not_done_yet() {
    check(5, || {
        let root = Node::root(());
        let top = Node::child(&root, ());
        let middle = Node::child(&top, ());
        let leaf = Node::child(&middle, ());
        let other = thread::spawn({
            let leaf = leaf.clone();
            move || {
                root.cancel(&by("root"));
                leaf.is_cancelled()
            }
        });
        top.cancel(&by("top"));
        assert!(leaf.is_cancelled() && middle.is_cancelled());
        assert!(other.join().unwrap());
        assert_eq!(canceller(&leaf), canceller(&top));
    });
}

#[test]
fn a_child_made_during_a_cancel_is_swept_or_born_cancelled() {
    check(5, || {
        let root = Node::root(());
        let maker = root.clone();
        let maker = thread::spawn(move || {
            let child = Node::child(&maker, ());
            let grandchild = Node::child(&child, ());
            (child, grandchild)
        });
        root.cancel(&by("root"));
        let (child, grandchild) = maker.join().unwrap();
        assert_eq!(canceller(&child), "root");
        assert_eq!(canceller(&grandchild), "root");
    });
}

#[test]
fn no_wait_misses_a_cancel() {
    check(5, || {
        let root = Node::root(());
        let child = Node::child(&root, ());
        let waiters = [root.clone(), child].map(|node| {
            thread::spawn(move || {
                if let Some(gate) = node.gate() {
                    gate.recv(); // a lost wake-up would be a deadlock
                }
                node.is_cancelled()
            })
        });
        root.cancel(&by("root"));
        assert!(waiters.into_iter().all(|waiter| waiter.join().unwrap()));
    });
}

#[test]
fn two_first_waits_share_one_gate() {
    check(5, || {
        let node = Node::root(());
        let other = node.clone();
        let other = thread::spawn(move || gate_of(&other));
        let gate = gate_of(&node);
        let other = other.join().unwrap();
        node.cancel(&by("root"));
        assert!(gate.is_open() && other.is_open());
    });
}

#[test]
fn a_subtree_dropped_during_a_cancel_harms_nobody_and_leaves_no_residue() {
    check(5, || {
        let root = Node::root(());
        let kept = Node::child(&root, ());
        let dropped = Node::child(&Node::child(&root, ()), ());
        let dropper = thread::spawn(move || drop(dropped));
        root.cancel(&by("root"));
        assert!(kept.is_cancelled());
        dropper.join().unwrap();
        drop(kept);
        assert_eq!(root.handles(), 1);
        assert_eq!(Arc::strong_count(&root), 1);
    });
}

#[test]
fn racing_cancels_of_two_sources_reach_a_linked_subtree_and_give_it_one_cause() {
    check(5, || {
        let (a, b) = (Node::root(()), Node::root(()));
        let linked = Node::child_of_all(&[&a, &b], ());
        let leaf = Node::child(&linked, ());
        let other = thread::spawn({
            let leaf = leaf.clone();
            move || {
                a.cancel(&by("a"));
                leaf.is_cancelled()
            }
        });
        b.cancel(&by("b"));
        assert!(leaf.is_cancelled());
        assert!(other.join().unwrap());
        assert_eq!(canceller(&leaf), canceller(&linked));
    });
}

#[test]
fn a_link_made_during_a_cancel_of_a_source_is_swept_or_born_cancelled() {
    check(5, || {
        let (a, b) = (Node::root(()), Node::root(()));
        let sources = [a.clone(), b.clone()];
        let maker = thread::spawn(move || {
            let [a, b] = &sources;
            Node::child_of_all(&[a, b], ())
        });
        b.cancel(&by("b"));
        let linked = maker.join().unwrap();
        assert_eq!(canceller(&linked), "b");
        a.cancel(&by("a"));
        assert_eq!(canceller(&linked), "b");
    });
}

/// A hook that counts its runs.
fn counting() -> (Arc<Hook>, Arc<AtomicUsize>) {
    let runs = Arc::new(AtomicUsize::new(0));
    let count = runs.clone();
    let hook = Hook::new(Box::new(move || {
        count.fetch_add(1, SeqCst);
    }));
    (Arc::new(hook), runs)
}

#[test]
fn a_hook_registered_during_a_cancel_runs_exactly_once() {
    check(5, || {
        let root = Node::root(());
        let child = Node::child(&root, ());
        let (hook, runs) = counting();
        let registrar = thread::spawn(move || {
            if child.add_hook(&hook).is_none() {
                hook.run();
            }
            child
        });
        root.cancel(&by("root"));
        drop(registrar.join().unwrap());
        assert_eq!(runs.load(SeqCst), 1);
    });
}

#[test]
fn a_hook_runs_or_is_taken_back_and_who_awaits_it_finds_it_done() {
    check(5, || {
        let (hook, runs) = counting();
        let (a, b) = (hook.clone(), hook.clone());
        let runners = [a, b].map(|hook| thread::spawn(move || hook.run()));
        let taken = hook.take_back();
        if taken == TakeBack::Running {
            hook.await_done();
        }
        let seen = runs.load(SeqCst);
        runners
            .into_iter()
            .for_each(|runner| runner.join().unwrap());
        assert_eq!(
            runs.load(SeqCst),
            seen,
            "it ran after it was taken back or awaited"
        );
        assert_eq!(seen, usize::from(taken != TakeBack::TakenBack));
    });
}

#[test]
fn two_who_await_one_hook_are_both_woken() {
    check(5, || {
        let (hook, runs) = counting();
        let other = hook.clone();
        let runner = thread::spawn({
            let hook = hook.clone();
            move || hook.run()
        });
        let awaiter = thread::spawn(move || other.await_done());
        hook.await_done();
        awaiter.join().unwrap();
        runner.join().unwrap();
        assert_eq!(runs.load(SeqCst), 1);
    });
}

/// Each hook waits for the next in the circle, as dropping its registration does.
fn circle(hooks: usize) {
    let slots: Arc<Vec<OnceLock<Arc<Hook>>>> =
        Arc::new((0..hooks).map(|_| OnceLock::new()).collect());
    for (n, slot) in slots.iter().enumerate() {
        let slots = slots.clone();
        let hook = Hook::new(Box::new(move || {
            let next = slots[(n + 1) % slots.len()]
                .get()
                .expect("set before any runs");
            if next.take_back() == TakeBack::Running {
                next.await_done();
            }
        }));
        slot.set(Arc::new(hook)).ok().expect("set once");
    }
    let run = |n: usize| {
        let hook = slots[n].get().expect("set above").clone();
        thread::spawn(move || hook.run())
    };
    let runners: Vec<_> = (1..hooks).map(run).collect();
    slots[0].get().expect("set above").run();
    runners
        .into_iter()
        .for_each(|runner| runner.join().unwrap());
}

#[test]
fn two_hooks_that_await_each_other_do_not_deadlock() {
    check(5, || circle(2));
}

#[test]
fn three_hooks_that_await_each_other_in_a_circle_do_not_deadlock() {
    check(5, || circle(3));
}

// The counter-proof.

#[derive(Clone, Copy, PartialEq, Eq)]
enum Fault {
    None,
    /// Children are unlinked before their subtrees have been marked (invariant 4 of the node).
    UnlinksFirst,
    /// A sweep hands down the outcome it came with (invariant 7).
    HandsDownItsOwn,
    /// The mark is stored before the outcome and the wake, without the lock (invariants 1 and 3).
    MarksWithoutLock,
    /// The look at the state and the step away from it are two critical sections (invariant 1 of
    /// the hook).
    LooksThenSteps,
}

/// The node in small.
struct Small {
    cancelled: crate::sync::AtomicBool,
    inner: Mutex<SmallInner>,
}

struct SmallInner {
    outcome: Option<u8>,
    children: Vec<Arc<Small>>,
    gate: Option<GateSender>,
}

impl Small {
    fn above(children: Vec<Arc<Self>>) -> Arc<Self> {
        let inner = SmallInner {
            outcome: None,
            children,
            gate: None,
        };
        let cancelled = crate::sync::AtomicBool::new(false);
        Arc::new(Self {
            cancelled,
            inner: Mutex::new(inner),
        })
    }

    fn gate(&self, fault: Fault) -> Option<GateReceiver> {
        if fault == Fault::MarksWithoutLock && self.cancelled.load(SeqCst) {
            return None;
        }
        let mut inner = self.inner.lock();
        if fault != Fault::MarksWithoutLock && inner.outcome.is_some() {
            return None;
        }
        let (sender, receiver) = gate();
        inner.gate = Some(sender);
        Some(receiver)
    }

    fn cancel(&self, outcome: u8, fault: Fault) {
        if fault == Fault::MarksWithoutLock {
            self.cancelled.store(true, SeqCst);
        }
        let mut inner = self.inner.lock();
        let own = *inner.outcome.get_or_insert(outcome);
        self.cancelled.store(true, SeqCst);
        drop(inner.gate.take());
        let children = match fault {
            Fault::UnlinksFirst => std::mem::take(&mut inner.children),
            _ => inner.children.clone(),
        };
        drop(inner);
        let below = if fault == Fault::HandsDownItsOwn {
            outcome
        } else {
            own
        };
        children.iter().for_each(|child| child.cancel(below, fault));
        let swept = std::mem::take(&mut self.inner.lock().children);
        drop(swept);
    }

    fn outcome(&self) -> Option<u8> {
        self.inner.lock().outcome
    }
}

fn small_root_and_middle(fault: Fault) {
    check(5, move || {
        let leaf = Small::above(Vec::new());
        let middle = Small::above(vec![leaf.clone()]);
        let root = Small::above(vec![middle.clone()]);
        let other = thread::spawn(move || root.cancel(1, fault));
        middle.cancel(2, fault);
        let on_return = leaf.cancelled.load(SeqCst);
        other.join().unwrap();
        assert!(on_return, "not all below was marked");
        assert_eq!(
            leaf.outcome(),
            middle.outcome(),
            "another cause than its parent's"
        );
    });
}

fn small_read(fault: Fault) {
    check(5, move || {
        let node = Small::above(Vec::new());
        let other = node.clone();
        let torn = move || other.cancelled.load(SeqCst) && other.outcome().is_none();
        let reader = thread::spawn(torn);
        node.cancel(1, fault);
        assert!(!reader.join().unwrap(), "a mark without an outcome");
    });
}

fn small_wait(fault: Fault) {
    check(5, move || {
        let node = Small::above(Vec::new());
        let other = node.clone();
        let waiter = thread::spawn(move || other.gate(fault));
        node.cancel(1, fault);
        let gate = waiter.join().unwrap();
        assert!(gate.is_none_or(|gate| gate.is_open()), "a lost wake-up");
    });
}

#[test]
fn the_small_node_without_a_fault_passes() {
    small_root_and_middle(Fault::None);
    small_read(Fault::None);
    small_wait(Fault::None);
}

#[test]
#[should_panic(expected = "not all below was marked")]
fn unlinking_before_the_subtree_is_marked_is_caught() {
    small_root_and_middle(Fault::UnlinksFirst);
}

#[test]
#[should_panic(expected = "another cause than its parent's")]
fn handing_down_an_outcome_of_ones_own_is_caught() {
    small_root_and_middle(Fault::HandsDownItsOwn);
}

#[test]
#[should_panic(expected = "a mark without an outcome")]
fn marking_before_the_outcome_is_set_is_caught() {
    small_read(Fault::MarksWithoutLock);
}

#[test]
#[should_panic(expected = "a lost wake-up")]
fn checking_for_the_mark_without_the_lock_is_caught() {
    small_wait(Fault::MarksWithoutLock);
}

/// The hook in small: armed or not.
fn small_hook(fault: Fault) {
    fn run(armed: &Mutex<bool>, runs: &AtomicUsize, fault: Fault) {
        let mut state = armed.lock();
        let found = *state;
        if fault == Fault::LooksThenSteps {
            drop(state);
            state = armed.lock();
        }
        *state = false;
        drop(state);
        if found {
            runs.fetch_add(1, SeqCst);
        }
    }
    check(5, move || {
        let (armed, runs) = (Arc::new(Mutex::new(true)), Arc::new(AtomicUsize::new(0)));
        let other = thread::spawn({
            let (armed, runs) = (armed.clone(), runs.clone());
            move || run(&armed, &runs, fault)
        });
        run(&armed, &runs, fault);
        other.join().unwrap();
        assert_eq!(runs.load(SeqCst), 1, "it ran twice");
    });
}

#[test]
fn the_small_hook_without_a_fault_passes() {
    small_hook(Fault::None);
}

#[test]
#[should_panic(expected = "it ran twice")]
fn looking_and_stepping_in_two_critical_sections_is_caught() {
    small_hook(Fault::LooksThenSteps);
}
