//! What the program has put on the page by name: tokens, and values of its own.

use std::collections::BTreeSet;

use crate::cancel::{Bounds, CancelToken, TokenLook, WeakToken};
use crate::contain::{contain, drop_contained};
use crate::sync::{Arc, Mutex};

/// How much of each tree is shown.
const BOUNDS: Bounds = Bounds {
    tokens: 200,
    children: 20,
};

/// How many names there may be of each kind.
pub(super) const NAMES: usize = 256;

/// A longer value is cut.
const LONGEST_VALUE: usize = 4096;

type Render = Arc<dyn Fn() -> String + Send + Sync>;

#[derive(Default)]
pub(super) struct Watched {
    tokens: Mutex<Vec<(Arc<str>, WeakToken)>>,
    values: Mutex<Vec<(Arc<str>, Render)>>,
}

/// A tree under a name.
pub(super) struct Tree {
    pub(super) name: Arc<str>,
    pub(super) tokens: Vec<Named>,
    /// Not all that there are were looked at.
    pub(super) cut: bool,
}

/// A token, and the name that it is on the page under, if it is.
pub(super) struct Named {
    pub(super) name: Option<Arc<str>>,
    pub(super) look: TokenLook,
}

impl Tree {
    fn below(&self) -> impl Iterator<Item = usize> + '_ {
        self.tokens[1..].iter().map(|token| token.look.address)
    }
}

impl Watched {
    /// In the place of one of the same name. Those that are gone make room; `false` if there is none.
    pub(super) fn watch_token(&self, name: &str, token: &CancelToken) -> bool {
        let mut tokens = self.tokens.lock();
        tokens.retain(|(known, weak)| &**known != name && weak.is_alive());
        let room = tokens.len() < NAMES;
        if room {
            tokens.push((name.into(), WeakToken::of(token)));
        }
        room
    }

    /// In the place of one of the same name. `false` if there is no room.
    pub(super) fn watch_value(&self, name: &str, render: Render) -> bool {
        let mut values = self.values.lock();
        let at = values.iter().position(|(known, _)| &**known == name);
        let (kept, before) = match at {
            Some(at) => (true, Some(std::mem::replace(&mut values[at].1, render))),
            None if values.len() < NAMES => {
                values.push((name.into(), render));
                (true, None)
            }
            None => (false, Some(render)),
        };
        drop(values);
        drop_contained(before);
        kept
    }

    /// The trees of those that are alive. One that is part of another is shown there.
    pub(super) fn trees(&self) -> Vec<Tree> {
        let tokens = self.tokens.lock().clone();
        let names: Vec<_> = tokens
            .iter()
            .filter_map(|(name, weak)| Some((weak.address()?, name.clone())))
            .collect();
        let name_of = |look: &TokenLook| {
            let mut names = names.iter();
            let found = names.find(|(address, _)| *address == look.address);
            found.map(|(_, name)| name.clone())
        };
        let tree = |(name, weak): &(Arc<str>, WeakToken)| {
            let looks = weak.tree(BOUNDS)?;
            let cut = looks.len() == BOUNDS.tokens
                || looks.iter().any(|look| look.children > BOUNDS.children);
            let named = looks.into_iter().map(|look| Named {
                name: name_of(&look),
                look,
            });
            Some(Tree {
                name: name.clone(),
                tokens: named.collect(),
                cut,
            })
        };
        let mut trees: Vec<_> = tokens.iter().filter_map(tree).collect();
        let below: BTreeSet<_> = trees.iter().flat_map(Tree::below).collect();
        trees.retain(|tree| !below.contains(&tree.tokens[0].look.address));
        trees
    }

    /// Names and values; a closure that panics has none.
    pub(super) fn values(&self) -> Vec<(Arc<str>, Option<String>)> {
        let values = self.values.lock().clone();
        let rendered = values.into_iter().map(|(name, render)| {
            let value = contain(|| render()).map(cut);
            drop_contained(render);
            (name, value)
        });
        rendered.collect()
    }
}

fn cut(mut value: String) -> String {
    if value.len() > LONGEST_VALUE {
        let end = (0..=LONGEST_VALUE).rev();
        let end = end.into_iter().find(|at| value.is_char_boundary(*at));
        value.truncate(end.unwrap_or(0));
        value.push('…');
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_long_value_is_cut_between_characters() {
        assert_eq!(cut("short".to_owned()), "short");
        let long = "é".repeat(LONGEST_VALUE);
        let cut = cut("x".to_owned() + &long);
        assert!(cut.ends_with("é…") && cut.len() <= LONGEST_VALUE + 3);
    }

    #[test]
    fn a_name_has_one_token_and_names_of_gone_ones_make_room() {
        let watched = Watched::default();
        let tokens: Vec<_> = (0..NAMES).map(|_| CancelToken::new()).collect();
        for (n, token) in tokens.iter().enumerate() {
            assert!(watched.watch_token(&n.to_string(), token));
        }
        let late = CancelToken::new();
        assert!(!watched.watch_token("late", &late), "full");
        assert!(watched.watch_token("7", &late), "in the place of another");
        drop(tokens);
        assert_eq!(watched.trees().len(), 1);
        assert!(watched.watch_token("late", &late));
        let names: Vec<_> = watched.trees().into_iter().map(|tree| tree.name).collect();
        assert_eq!(names, ["7".into(), "late".into()]);
    }
}
