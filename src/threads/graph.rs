//! Who can never go on: pure, on nodes that are numbers.
//!
//! A node *can go on* if it is open, if it needs all of some nodes and each can go on, or if it needs
//! any of some and one can. These are the least of such sets, so what is left holds itself up: the
//! knots of Holt, *Some deadlock properties of computer systems* (1972), of which a circle of joins is
//! the simplest. Found in time linear in the number of needs.

/// What a node needs to go on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// Nothing that is known.
    Open,
    All(Vec<usize>),
    Any(Vec<usize>),
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) need: Need,
    /// The need is a guess.
    pub(super) guess: bool,
    /// Something from outside would end it.
    pub(super) outside: bool,
}

/// A circle of nodes that can never go on, and the others that can not because of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Knot {
    /// Each needs the next, and the last the first.
    pub(super) circle: Vec<usize>,
    pub(super) behind: Vec<usize>,
    /// It is one also if no guess is right.
    pub(super) certain: bool,
    /// It can be ended from outside.
    pub(super) outside: bool,
}

impl Need {
    fn of(&self) -> &[usize] {
        match self {
            Self::Open => &[],
            Self::All(of) | Self::Any(of) => of,
        }
    }

    /// How many of those that it needs must go on first.
    fn threshold(&self) -> usize {
        match self {
            Self::Open => 0,
            Self::All(of) => of.len(),
            Self::Any(_) => 1,
        }
    }
}

/// For each node, whether it can never go on. Needs are numbers of nodes; those for which `open` says
/// so count as open.
fn stuck(nodes: &[Node], open: impl Fn(&Node) -> bool) -> Vec<bool> {
    let mut missing: Vec<usize> = Vec::with_capacity(nodes.len());
    let mut needed_by = vec![Vec::new(); nodes.len()];
    for (at, node) in nodes.iter().enumerate() {
        missing.push(if open(node) { 0 } else { node.need.threshold() });
        for &needed in node.need.of() {
            needed_by[needed].push(at);
        }
    }
    let mut stuck: Vec<bool> = missing.iter().map(|&missing| missing > 0).collect();
    let mut goes_on: Vec<usize> = (0..nodes.len()).filter(|&at| !stuck[at]).collect();
    while let Some(at) = goes_on.pop() {
        for &other in &needed_by[at] {
            missing[other] = missing[other].saturating_sub(1);
            if missing[other] == 0 && std::mem::replace(&mut stuck[other], false) {
                goes_on.push(other);
            }
        }
    }
    stuck
}

/// The knots, in the order of their lowest nodes. Each node that is stuck is in one, unless it needs
/// any of none.
pub(super) fn knots(nodes: &[Node]) -> Vec<Knot> {
    let stuck_at_all = stuck(nodes, |_| false);
    if !stuck_at_all.contains(&true) {
        return Vec::new();
    }
    let certain = stuck(nodes, |node| node.guess);
    let for_good = stuck(nodes, |node| node.outside);
    // What is stuck needs somebody who is; what is so for sure, somebody who is so for sure. Another
    // one than itself where there is a choice: that says more.
    let next = |at: usize| {
        let sure = |it: &usize| certain[at] && certain[*it];
        let of = nodes[at].need.of().iter().filter(|it| stuck_at_all[**it]);
        let by_choice = |it: &&usize| (sure(it), **it != at);
        // The first of the best.
        of.rev().max_by_key(by_choice).copied()
    };
    let mut knot_of: Vec<Option<usize>> = vec![None; nodes.len()];
    let mut knots: Vec<Knot> = Vec::new();
    for start in (0..nodes.len()).filter(|&at| stuck_at_all[at]) {
        let (mut path, mut at) = (Vec::new(), Some(start));
        let known = loop {
            let Some(here) = at else { break None };
            if let Some(knot) = knot_of[here] {
                break Some(knot);
            }
            if let Some(from) = path.iter().position(|&seen| seen == here) {
                let circle = path.split_off(from);
                circle
                    .iter()
                    .for_each(|&it| knot_of[it] = Some(knots.len()));
                knots.push(Knot {
                    certain: circle.iter().all(|&it| certain[it]),
                    outside: !circle.iter().all(|&it| for_good[it]),
                    circle,
                    behind: Vec::new(),
                });
                break Some(knots.len() - 1);
            }
            path.push(here);
            at = next(here);
        };
        if let Some(knot) = known {
            path.iter().for_each(|&it| knot_of[it] = Some(knot));
            knots[knot].behind.extend(path);
        }
    }
    knots
        .iter_mut()
        .for_each(|knot| knot.behind.sort_unstable());
    knots
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;

    fn node(need: Need) -> Node {
        Node {
            need,
            guess: false,
            outside: false,
        }
    }

    fn sure(needs: &[Need]) -> Vec<Node> {
        needs.iter().cloned().map(node).collect()
    }

    fn names(needs: &[Need]) -> Vec<(Vec<usize>, Vec<usize>)> {
        let knots = knots(&sure(needs)).into_iter();
        knots.map(|knot| (knot.circle, knot.behind)).collect()
    }

    use Need::{All, Any, Open};

    #[test]
    fn two_that_join_each_other_are_a_knot_and_who_joins_one_of_them_is_behind() {
        let needs = [All(vec![1]), All(vec![0]), All(vec![1, 3]), Open, Open];
        assert_eq!(names(&needs), [(vec![0, 1], vec![2])]);
        assert_eq!(names(&[All(vec![0])]), [(vec![0], vec![])], "by itself");
        let chain = [All(vec![1]), All(vec![2]), Open];
        assert!(names(&chain).is_empty());
    }

    #[test]
    fn who_waits_for_any_of_all_is_in_a_circle_with_the_others() {
        let workers = [Any(vec![0, 1, 2]), Any(vec![0, 1, 2]), Any(vec![0, 1, 2])];
        assert_eq!(names(&workers), [(vec![0, 1], vec![2])]);
    }

    #[test]
    fn one_of_many_is_enough_for_who_needs_any() {
        let none = [Any(vec![1, 2]), Any(vec![0]), Any(vec![1])];
        assert_eq!(names(&none), [(vec![0, 1], vec![2])]);
        let one = [Any(vec![1, 2]), Any(vec![0]), Open];
        assert!(names(&one).is_empty());
        // Nobody is left, but there is no circle to name.
        assert!(names(&[Any(vec![])]).is_empty());
        assert!(names(&[All(vec![])]).is_empty());
    }

    #[test]
    fn a_knot_is_certain_without_the_guesses_and_for_good_without_the_outside() {
        let mut nodes = sure(&[All(vec![1]), Any(vec![0]), All(vec![3]), All(vec![2, 0])]);
        nodes[1].guess = true;
        nodes[2].outside = true;
        let knots = knots(&nodes);
        let facts: Vec<_> = knots
            .iter()
            .map(|knot| (&knot.circle[..], knot.certain, knot.outside))
            .collect();
        assert_eq!(facts, [(&[0, 1][..], false, false), (&[2, 3], true, true)]);
    }

    /// By the words of the definition: again and again, until nothing changes.
    fn by_hand(nodes: &[Node]) -> Vec<bool> {
        let mut goes_on = vec![false; nodes.len()];
        loop {
            let next: Vec<bool> = nodes
                .iter()
                .map(|node| match &node.need {
                    Open => true,
                    All(of) => of.iter().all(|&it| goes_on[it]),
                    Any(of) => of.iter().any(|&it| goes_on[it]),
                })
                .collect();
            if next == goes_on {
                return goes_on.iter().map(|it| !it).collect();
            }
            goes_on = next;
        }
    }

    fn graphs() -> impl Strategy<Value = Vec<Node>> {
        (1..12_usize).prop_flat_map(|size| {
            let of = vec(0..size, 1..4);
            let need = prop_oneof![
                1 => Just(Open),
                3 => of.clone().prop_map(All),
                3 => of.prop_map(Any),
            ];
            let node = (need, any::<bool>(), any::<bool>());
            let node = node.prop_map(|(need, guess, outside)| Node {
                need,
                guess,
                outside,
            });
            vec(node, size)
        })
    }

    proptest! {
        #[test]
        fn who_is_stuck_is_who_the_definition_says(nodes in graphs()) {
            prop_assert_eq!(stuck(&nodes, |_| false), by_hand(&nodes));
        }

        /// However the system moves, nobody who is named ever goes on.
        #[test]
        fn whatever_runs_first_nobody_who_is_named_ever_goes_on(
            nodes in graphs(),
            order in vec(any::<prop::sample::Index>(), 200),
        ) {
            let named = stuck(&nodes, |_| false);
            let mut done = vec![false; nodes.len()];
            for index in order {
                let at = index.index(nodes.len());
                done[at] |= match &nodes[at].need {
                    Open => true,
                    All(of) => of.iter().all(|&it| done[it]),
                    Any(of) => of.iter().any(|&it| done[it]),
                };
                prop_assert!(!(done[at] && named[at]));
            }
        }

        #[test]
        fn every_node_that_is_stuck_is_in_one_knot_whose_circle_is_closed(nodes in graphs()) {
            let named = stuck(&nodes, |_| false);
            let mut seen = vec![0; nodes.len()];
            for knot in knots(&nodes) {
                prop_assert!(!knot.circle.is_empty());
                for (at, &here) in knot.circle.iter().enumerate() {
                    let next = knot.circle[(at + 1) % knot.circle.len()];
                    prop_assert!(nodes[here].need.of().contains(&next));
                }
                knot.circle.iter().chain(&knot.behind).for_each(|&it| seen[it] += 1);
            }
            for (seen, named) in seen.iter().zip(named) {
                prop_assert_eq!(*seen, usize::from(named));
            }
        }

        /// Opening what is a guess, or what the outside could end, leaves what is named so.
        #[test]
        fn what_is_certain_stays_when_every_guess_is_wrong(nodes in graphs()) {
            let all = knots(&nodes);
            let without = |open: fn(&Node) -> bool| {
                let mut left = nodes.clone();
                left.iter_mut().filter(|node| open(node)).for_each(|node| node.need = Open);
                by_hand(&left)
            };
            let (sure, for_good) = (without(|node| node.guess), without(|node| node.outside));
            for knot in &all {
                prop_assert_eq!(knot.certain, knot.circle.iter().all(|&it| sure[it]));
                prop_assert_eq!(knot.outside, !knot.circle.iter().all(|&it| for_good[it]));
            }
            // Whoever is stuck for sure is in a knot that is.
            for at in (0..nodes.len()).filter(|&at| sure[at]) {
                let own = all.iter().find(|knot| knot.circle.contains(&at) || knot.behind.contains(&at));
                prop_assert!(own.is_some_and(|knot| knot.certain));
            }
        }
    }
}
