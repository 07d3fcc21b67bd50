//! A look at a tree of tokens, for people.

use std::time::Duration;

use super::cause::Cancelled;
use super::data::TokenNode;
use super::node::Node;
use super::token::CancelToken;
use crate::sync::{Arc, Weak};

/// A token that is looked at and not kept: who waits on it still learns that nobody is left who
/// could cancel it.
#[derive(Clone)]
pub(crate) struct WeakToken(Weak<TokenNode>);

/// How much of a tree is shown.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounds {
    /// Tokens in all.
    pub(crate) tokens: usize,
    /// Children of each token.
    pub(crate) children: usize,
}

/// One token, as a look found it.
#[derive(Clone, Debug)]
pub(crate) struct TokenLook {
    /// How far below the root of the look.
    pub(crate) depth: usize,
    /// Tells tokens apart that are alive at the same time.
    pub(crate) address: usize,
    pub(crate) cancelled: Option<Cancelled>,
    pub(crate) remaining: Option<Duration>,
    /// All that there are, shown or not.
    pub(crate) children: usize,
    pub(crate) hooks: usize,
}

impl WeakToken {
    pub(crate) fn of(token: &CancelToken) -> Self {
        Self(Arc::downgrade(token.node()))
    }

    /// Whether a handle of it, or of what is below it, is left.
    pub(crate) fn is_alive(&self) -> bool {
        self.0.strong_count() > 0
    }

    /// Where it is, if a handle of it is left.
    pub(crate) fn address(&self) -> Option<usize> {
        self.0.upgrade().map(|node| Arc::as_ptr(&node).addr())
    }

    /// The token and what is below it, each before its children; `None` if it is gone. Takes one
    /// node's lock at a time, for as long as it takes to count its children up to the bound.
    pub(crate) fn tree(&self, bounds: Bounds) -> Option<Vec<TokenLook>> {
        let mut found = Vec::new();
        // Not by recursion: no tree is too deep.
        let mut ahead = vec![(0, self.0.upgrade()?)];
        while let Some((depth, node)) = ahead.pop() {
            if found.len() == bounds.tokens {
                break;
            }
            let glance = Node::glance(&node, bounds.children);
            let token = CancelToken::from_node(node);
            found.push(TokenLook {
                depth,
                address: Arc::as_ptr(token.node()).addr(),
                cancelled: token.cancelled(),
                remaining: token.remaining(),
                children: glance.count,
                hooks: glance.hooks,
            });
            let below = glance.children.into_iter().rev();
            ahead.extend(below.map(|child| (depth + 1, child)));
        }
        Some(found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: Bounds = Bounds {
        tokens: 100,
        children: 100,
    };

    fn shape(token: &CancelToken, bounds: Bounds) -> Vec<(usize, usize)> {
        let found = WeakToken::of(token).tree(bounds).unwrap();
        found.iter().map(|it| (it.depth, it.children)).collect()
    }

    #[test]
    fn a_tree_is_shown_each_token_before_its_children_and_within_bounds() {
        let root = CancelToken::new();
        let (a, b) = (root.child(), root.child());
        let below = a.child();
        assert_eq!(shape(&root, ALL), [(0, 2), (1, 1), (2, 0), (1, 0)]);
        let one = Bounds { children: 1, ..ALL };
        assert_eq!(shape(&root, one), [(0, 2), (1, 1), (2, 0)]);
        let two = Bounds { tokens: 2, ..ALL };
        assert_eq!(shape(&root, two), [(0, 2), (1, 1)]);
        drop((b, below));
        a.cancel_with("over");
        let hook = root.on_cancel(|| ());
        let found = WeakToken::of(&root).tree(ALL).unwrap();
        assert_eq!((found.len(), found[0].hooks), (2, 1));
        assert!(found[0].cancelled.is_none());
        let told = found[1].cancelled.as_ref().unwrap();
        assert_eq!(told.to_string(), "cancelled: over");
        drop(hook);
    }

    #[test]
    fn a_token_that_is_looked_at_is_not_kept() {
        let token = CancelToken::new();
        let weak = WeakToken::of(&token);
        assert!(weak.tree(ALL).is_some() && weak.is_alive());
        let done = token.done().clone();
        drop(token);
        assert!(weak.tree(ALL).is_none() && !weak.is_alive());
        assert!(done.recv().is_err(), "nobody could cancel it any more");
    }

    #[test]
    fn no_tree_is_too_deep() {
        let root = CancelToken::new();
        let mut deepest = root.clone();
        for _ in 0..200_000 {
            deepest = deepest.child();
        }
        let bounds = Bounds {
            tokens: usize::MAX,
            children: 1,
        };
        assert_eq!(shape(&root, bounds).len(), 200_001);
    }
}
