//! Trees of tokens: T2, T3, T8 and T9.

#![allow(
    clippy::disallowed_methods,
    reason = "the tests are outside the library's doors"
)]

mod support;

use std::sync::Barrier;
use std::thread;

use cleanbreak::{CancelKind, CancelToken, Clock};
use support::{dither, in_time, rng, secs};

/// A tree of `nodes`, each below a random one before it: the tokens and who is whose parent.
fn random_tree(rng: &mut fastrand::Rng, nodes: usize) -> (Vec<CancelToken>, Vec<usize>) {
    let (mut tokens, mut parents) = (vec![CancelToken::new()], vec![0]);
    while tokens.len() < nodes {
        // Rather deep than bushy.
        let parent = rng.usize(tokens.len().saturating_sub(8)..tokens.len());
        tokens.push(tokens[parent].child());
        parents.push(parent);
    }
    (tokens, parents)
}

fn is_below(parents: &[usize], mut node: usize, top: usize) -> bool {
    while node != top && node != 0 {
        node = parents[node];
    }
    node == top
}

#[test]
fn a_cancel_reaches_all_below_and_nothing_else() {
    let mut rng = rng("reaches all below");
    for _ in 0..100 {
        let (tokens, parents) = random_tree(&mut rng, 60);
        let top = rng.usize(0..tokens.len());
        assert!(tokens[top].cancel());
        for (node, token) in tokens.iter().enumerate() {
            assert_eq!(
                token.is_cancelled(),
                is_below(&parents, node, top),
                "{node} of {top}"
            );
        }
    }
}

#[test]
fn a_child_carries_the_kind_and_cause_of_its_parent() {
    let root = CancelToken::new();
    let leaf = root.child().child();
    assert!(root.cancel_with("from above"));
    assert_eq!(
        leaf.check().unwrap_err().to_string(),
        "cancelled: from above"
    );
    assert!(!leaf.cancel_with("too late"));

    let clock = Clock::manual();
    let root = CancelToken::with_clock(&clock).child_timeout(secs(1));
    let leaf = root.child().child();
    clock.advance(secs(1));
    assert_eq!(leaf.kind(), Some(CancelKind::DeadlineExceeded));
}

#[test]
fn a_child_that_was_cancelled_before_keeps_its_own_cause_and_so_does_what_is_below_it() {
    let root = CancelToken::new();
    let middle = root.child();
    let leaf = middle.child();
    assert!(middle.cancel_with("its own"));
    assert!(!root.is_cancelled());
    assert!(root.cancel_with("the root's"));
    assert_eq!(middle.cause().unwrap().to_string(), "its own");
    assert_eq!(leaf.cause().unwrap().to_string(), "its own");
    assert_eq!(root.cause().unwrap().to_string(), "the root's");
}

/// Whichever sweep passes first, a token that nobody cancelled directly has its parent's cause.
#[test]
fn a_child_never_has_another_cause_than_its_parent_when_cancels_race() {
    let mut rng = rng("cause of the parent");
    for _ in 0..500 {
        let root = CancelToken::new();
        let middle = root.child();
        // Enough below for the sweeps to overlap.
        let leaves: Vec<_> = (0..100).map(|_| middle.child()).collect();
        let (start, mut seed) = (Barrier::new(2), rng.fork());
        thread::scope(|s| {
            s.spawn(|| {
                start.wait();
                dither(&mut seed, 50);
                root.cancel_with("root");
            });
            start.wait();
            dither(&mut rng, 50);
            middle.cancel_with("middle");
        });
        let of_middle = middle.cause().unwrap().to_string();
        for leaf in leaves {
            assert_eq!(leaf.cause().unwrap().to_string(), of_middle);
        }
    }
}

#[test]
fn a_cancel_of_a_child_touches_neither_parent_nor_siblings() {
    let root = CancelToken::new();
    let (middle, sibling) = (root.child(), root.child());
    let (leaf, cousin) = (middle.child(), sibling.child());
    middle.cancel();
    assert!(leaf.is_cancelled());
    assert!(
        ![root, sibling, cousin]
            .iter()
            .any(CancelToken::is_cancelled)
    );
}

#[test]
fn a_child_of_a_cancelled_token_is_born_cancelled_with_its_cause() {
    let root = CancelToken::new();
    root.cancel_with("gone");
    for child in [
        root.child(),
        root.child_timeout(secs(1)),
        root.child().child(),
    ] {
        assert_eq!(child.check().unwrap_err().to_string(), "cancelled: gone");
        assert!(!child.cancel());
    }
}

#[test]
fn a_child_with_a_deadline_in_the_past_is_born_cancelled() {
    let clock = Clock::manual();
    clock.advance(secs(10));
    let root = CancelToken::with_clock(&clock);
    let past = clock.now();
    clock.advance(secs(1));
    let children = [root.child_deadline(past), root.child_timeout(secs(0))];
    for child in children {
        assert_eq!(child.kind(), Some(CancelKind::DeadlineExceeded));
        assert!(!child.cancel());
    }
    assert!(!root.is_cancelled());
    assert_eq!(clock.timers(), 0);
}

/// When either of two cancels returns, `true` or not, all below is cancelled and woken.
#[test]
fn when_a_cancel_returns_all_below_is_cancelled_also_if_another_one_does_the_work() {
    let mut rng = rng("either returns");
    in_time(move || {
        for _ in 0..400 {
            let root = CancelToken::new();
            let mut middles = vec![root.child()];
            for _ in 0..rng.usize(0..6) {
                middles.push(middles[middles.len() - 1].child());
            }
            let middle = &middles[rng.usize(0..middles.len())];
            let below: Vec<_> = (0..rng.usize(1..200))
                .scan(middle.clone(), |at, _| {
                    let parent = if rng.u8(..) < 32 {
                        at.clone()
                    } else {
                        middle.clone()
                    };
                    *at = parent.child();
                    Some(at.clone())
                })
                .collect();
            let gates: Vec<_> = below.iter().map(|token| token.done().clone()).collect();
            let all_told = || {
                assert!(below.iter().all(CancelToken::is_cancelled), "not marked");
                let open = |gate: &crossbeam_channel::Receiver<_>| {
                    gate.try_recv() == Err(crossbeam_channel::TryRecvError::Disconnected)
                };
                assert!(gates.iter().all(open), "not woken");
            };
            let start = Barrier::new(3);
            let mut seeds = [rng.fork(), rng.fork()];
            thread::scope(|s| {
                for (token, rng) in [&root, middle].into_iter().zip(&mut seeds) {
                    let (start, all_told) = (&start, &all_told);
                    s.spawn(move || {
                        start.wait();
                        dither(rng, 200);
                        token.cancel();
                        all_told();
                    });
                }
                s.spawn(|| {
                    let last = &below[below.len() - 1];
                    start.wait();
                    last.wait();
                });
            });
        }
    });
}

/// A child that is made while its parent is being cancelled is swept or born cancelled.
#[test]
fn no_child_slips_past_a_cancel() {
    let mut rng = rng("no child slips past");
    for _ in 0..1000 {
        let root = CancelToken::new();
        let mut seed = rng.fork();
        let start = Barrier::new(2);
        let children = thread::scope(|s| {
            let maker = s.spawn(|| {
                start.wait();
                let mut at = root.clone();
                let grow = |n| {
                    at = if n % 2 == 0 { root.child() } else { at.child() };
                    at.clone()
                };
                (0..20).map(grow).collect::<Vec<_>>()
            });
            start.wait();
            dither(&mut seed, 200);
            root.cancel();
            maker.join().unwrap()
        });
        assert!(children.iter().all(CancelToken::is_cancelled));
    }
}

#[test]
fn children_that_are_dropped_while_their_parent_is_cancelled_do_no_harm() {
    let mut rng = rng("dropped while cancelled");
    for _ in 0..500 {
        let root = CancelToken::new();
        let kept = root.child();
        let dropped: Vec<_> = (0..50).map(|_| root.child().child()).collect();
        let mut seed = rng.fork();
        thread::scope(|s| {
            s.spawn(|| {
                dither(&mut seed, 200);
                drop(dropped);
            });
            root.cancel();
        });
        assert!(kept.is_cancelled());
    }
}

#[test]
fn a_million_children_are_cancelled_and_dropped() {
    let root = CancelToken::new();
    let children: Vec<_> = (0..1_000_000).map(|_| root.child()).collect();
    assert!(root.cancel_with("all"));
    assert!(children.iter().all(CancelToken::is_cancelled));
    drop(root);
    drop(children);
}

fn chain(levels: usize) -> (CancelToken, CancelToken) {
    let root = CancelToken::new();
    let leaf = (0..levels).fold(root.clone(), |at, _| at.child());
    (root, leaf)
}

/// On a stack on which a recursion of a few thousand levels would overflow.
fn on_a_small_stack(body: impl FnOnce() + Send + 'static) {
    let thread = thread::Builder::new().stack_size(256 * 1024);
    thread.spawn(body).unwrap().join().unwrap();
}

#[test]
fn a_chain_of_a_million_levels_is_cancelled_and_dropped_without_recursion() {
    on_a_small_stack(|| {
        let (root, leaf) = chain(1_000_000);
        assert!(leaf.stop_possible());
        assert!(root.cancel_with("from the top"));
        assert_eq!(leaf.cause().unwrap().to_string(), "from the top");
        drop(root);
        drop(leaf);
    });
}

#[test]
fn a_chain_of_a_million_levels_is_dropped_uncancelled_without_recursion() {
    on_a_small_stack(|| {
        let (root, leaf) = chain(1_000_000);
        drop(root);
        assert!(!leaf.stop_possible());
        drop(leaf);
    });
}

/// The counter-proof: a chain that drops by recursion does not survive on this stack. It is told
/// by the stack it uses, since an overflow would end the process.
#[test]
fn a_recursive_drop_of_far_fewer_levels_would_need_more_than_the_small_stack() {
    struct Nested(Option<Box<Nested>>);
    impl Drop for Nested {
        fn drop(&mut self) {
            let here = std::ptr::from_ref(&self).addr();
            // The innermost level is dropped last and has the lowest address.
            if self.0.is_none() {
                LOWEST.with(|lowest| lowest.set(here));
            }
        }
    }
    thread_local!(static LOWEST: std::cell::Cell<usize> = const { std::cell::Cell::new(0) });
    let levels = 2000;
    let nested = (0..levels).fold(None, |inner, _| Some(Box::new(Nested(inner))));
    let here = std::ptr::from_ref(&nested).addr();
    drop(nested);
    let per_level = (here - LOWEST.with(std::cell::Cell::get)) / levels;
    assert!(
        per_level * 1_000_000 > 100 * 256 * 1024,
        "{per_level} bytes for each level"
    );
}

#[test]
fn a_shield_is_not_cancelled_with_its_token_and_has_none_of_its_deadlines() {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock).child_timeout(secs(1));
    let before = token.shield();
    token.cancel();
    let after = token.shield();
    clock.advance(secs(2));
    for shield in [&before, &after] {
        assert!(shield.check().is_ok());
        assert_eq!(shield.deadline(), None);
    }
    let bounded = after.child_timeout(secs(3));
    clock.advance(secs(3));
    assert!(
        bounded.check().unwrap_err().is_deadline(),
        "it is on the same clock"
    );
    assert!(before.cancel() && !after.is_cancelled());
}

#[test]
fn a_linked_token_is_cancelled_with_the_first_of_its_sources() {
    for winner in 0..3 {
        let sources = [CancelToken::new(), CancelToken::new(), CancelToken::new()];
        let linked = CancelToken::linked(&sources.each_ref());
        let below = linked.child();
        assert!(!linked.is_cancelled());
        sources[winner].cancel_with(format!("source {winner}"));
        sources[(winner + 1) % 3].cancel_with("a later one");
        for token in [&linked, &below] {
            assert_eq!(
                token.cause().unwrap().to_string(),
                format!("source {winner}")
            );
        }
        assert!(!sources[(winner + 2) % 3].is_cancelled());
    }
}

#[test]
fn a_cancel_of_a_linked_token_touches_none_of_its_sources() {
    let (a, b) = (CancelToken::new(), CancelToken::new());
    let linked = CancelToken::linked(&[&a, &b]);
    assert!(linked.cancel());
    assert!(!a.is_cancelled() && !b.is_cancelled());
}

#[test]
fn a_token_linked_to_a_cancelled_one_is_born_cancelled_with_its_cause() {
    for at in 0..3 {
        let sources = [CancelToken::new(), CancelToken::new(), CancelToken::new()];
        sources[at].cancel_with("before");
        let linked = CancelToken::linked(&sources.each_ref());
        assert_eq!(linked.check().unwrap_err().to_string(), "cancelled: before");
    }
}

#[test]
fn a_link_to_nothing_or_to_never_is_a_root() {
    let (never, source) = (CancelToken::never(), CancelToken::new());
    for linked in [
        CancelToken::linked(&[]),
        CancelToken::linked(&[&never, &never]),
    ] {
        assert!(!linked.is_cancelled() && !linked.stop_possible());
        assert!(linked.cancel());
    }
    let linked = CancelToken::linked(&[&never, &source, &never]);
    source.cancel();
    assert!(linked.is_cancelled() && !never.is_cancelled());
}

#[test]
fn diamonds_and_double_links_are_cancelled_once_and_dropped() {
    let root = CancelToken::new();
    let (left, right) = (root.child(), root.child());
    let bottom = CancelToken::linked(&[&left, &right, &left, &root]);
    let below = bottom.child();
    let runs = std::sync::Arc::new(std::sync::atomic::AtomicUsize::new(0));
    let count = runs.clone();
    let ordering = std::sync::atomic::Ordering::SeqCst;
    let _registration = below.on_cancel(move || {
        count.fetch_add(1, ordering);
    });
    root.cancel();
    assert!(
        [left, right, bottom, below]
            .iter()
            .all(CancelToken::is_cancelled)
    );
    assert_eq!(runs.load(ordering), 1);
}

#[test]
fn a_linked_token_has_the_earliest_deadline_of_the_sources_on_its_clock() {
    let (clock, other) = (Clock::manual(), Clock::manual());
    let root = CancelToken::with_clock(&clock);
    let (a, b) = (root.child_timeout(secs(7)), root.child_timeout(secs(3)));
    let c = CancelToken::with_clock(&other).child_timeout(secs(1));
    let linked = CancelToken::linked(&[&a, &b, &c]);
    assert_eq!(linked.remaining(), Some(secs(3)));
    other.advance(secs(1));
    assert!(
        linked.check().unwrap_err().is_deadline(),
        "that of another clock cancels it too"
    );
    assert!(!a.is_cancelled() && !b.is_cancelled());
}

#[test]
fn racing_cancels_of_two_sources_give_a_linked_subtree_one_cause() {
    let mut rng = rng("two sources");
    for _ in 0..300 {
        let (a, b) = (CancelToken::new(), CancelToken::new());
        let linked = CancelToken::linked(&[&a, &b]);
        let below: Vec<_> = (0..50).map(|_| linked.child()).collect();
        let (start, mut seed) = (Barrier::new(2), rng.fork());
        thread::scope(|s| {
            s.spawn(|| {
                start.wait();
                dither(&mut seed, 50);
                a.cancel_with("a");
                assert!(below.iter().all(CancelToken::is_cancelled));
            });
            start.wait();
            dither(&mut rng, 50);
            b.cancel_with("b");
            assert!(below.iter().all(CancelToken::is_cancelled));
        });
        let cause = linked.cause().unwrap().to_string();
        assert!(
            below
                .iter()
                .all(|token| token.cause().unwrap().to_string() == cause)
        );
    }
}

#[test]
fn stop_possible_tells_who_else_could_cancel() {
    let clock = Clock::manual();
    let alone = CancelToken::new();
    assert!(!alone.stop_possible(), "nobody else has it");
    let clone = alone.clone();
    assert!(alone.stop_possible(), "another handle");
    drop(clone);
    let child = alone.child();
    assert!(!alone.stop_possible(), "a child cannot cancel its parent");
    assert!(child.stop_possible(), "the parent can");
    let grandchild = child.child();
    drop(alone);
    assert!(!child.stop_possible(), "the parent's handle is gone");
    assert!(grandchild.stop_possible(), "the child's is not");
    drop(child);
    assert!(!grandchild.stop_possible());
    grandchild.cancel();
    assert!(grandchild.stop_possible(), "it has happened");

    let root = CancelToken::with_clock(&clock);
    assert!(
        root.child_timeout(secs(1)).child().stop_possible(),
        "a deadline above"
    );
    assert!(!CancelToken::never().clone().stop_possible());
    assert!(!CancelToken::never().child().stop_possible());

    let (a, b) = (CancelToken::new(), CancelToken::new());
    let linked = CancelToken::linked(&[&a, &b]);
    drop(a);
    assert!(linked.stop_possible(), "one source has a handle");
    drop(b);
    assert!(!linked.stop_possible());
    let elsewhere = CancelToken::with_clock(&clock).child_timeout(secs(1));
    let linked = CancelToken::linked(&[&CancelToken::new(), &elsewhere]);
    drop(elsewhere);
    assert!(
        linked.stop_possible(),
        "a source on another clock has a deadline"
    );
}
