//! Which token a thread works under: a floor above this one, so here it is no more than a path.
//!
//! A record keeps no token alive: what a token waits for, who drops its last handle, and whether
//! somebody is left who could cancel it, is as it would be without.

use std::fmt;

use crate::sync::{Arc, Weak};

/// A token, as lists of threads see it.
pub(crate) trait Path: Send + Sync {
    fn path(&self) -> TokenPath;
}

/// The token that a thread works under, if it is still there.
#[derive(Clone)]
pub(crate) struct Scope(Weak<dyn Path>);

impl Scope {
    pub(crate) fn of<P: Path + 'static>(token: &Arc<P>) -> Self {
        let weak: Weak<P> = Arc::downgrade(token);
        Self(weak)
    }

    /// Whether it is the token with this number, which is alive.
    pub(super) fn is(&self, id: usize) -> bool {
        self.0.as_ptr().addr() == id
    }

    pub(super) fn path(&self) -> Option<TokenPath> {
        // Not held: if it was the last, the token goes with it, which runs no code of the user's but
        // contained.
        self.0.upgrade().map(|token| token.path())
    }
}

impl fmt::Debug for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Scope").field(&self.0.as_ptr()).finish()
    }
}

/// The way from the root of a tree of tokens to one of them, by
/// [numbers](crate::CancelToken::id), the root first.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, Pool, threads};
///
/// let service = CancelToken::new();
/// let pool = Pool::builder().name("under").workers(1).build(&service).unwrap();
/// let path = || {
///     let found = threads::live().into_iter().find(|thread| thread.name == "under");
///     found.unwrap().token.unwrap()
/// };
/// assert_eq!(path().ids, [service.id(), pool.token().id()]);
/// assert!(!path().cut && !path().cancelled);
/// assert_eq!(path().to_string(), format!("{:#x} > {:#x}", service.id(), pool.token().id()));
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TokenPath {
    /// Never empty; of a linked token, by the first of its parents.
    pub ids: Vec<usize>,
    /// Whether there is more above the first: the last 16 are shown.
    pub cut: bool,
    /// Whether the last one has been cancelled.
    pub cancelled: bool,
}

impl fmt::Display for TokenPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.cut {
            f.write_str("… > ")?;
        }
        for (at, id) in self.ids.iter().enumerate() {
            let arrow = if at > 0 { " > " } else { "" };
            write!(f, "{arrow}{id:#x}")?;
        }
        f.write_str(if self.cancelled { " (cancelled)" } else { "" })
    }
}
