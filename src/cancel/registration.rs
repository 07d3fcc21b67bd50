//! What a token hands out to be dropped.

use std::fmt;

use super::data::TokenNode;
use super::hook::{Closure, Hook, TakeBack};
use super::token::CancelToken;
use crate::contain::drop_contained;
use crate::sync::{Arc, Weak};

/// A hook that waits for cancellation; see [`CancelToken::on_cancel`].
///
/// Dropping it takes the hook back, and if the hook is running on another thread, waits until it
/// has ended: after the drop, nothing that the hook borrowed a share of is in use any more. It does
/// not wait where that could never end: inside the hook itself, or inside another hook for which
/// this one waits in turn.
///
/// [`try_unregister`](Self::try_unregister) takes it back without waiting;
/// [`detach`](Self::detach) leaves it armed for good.
///
/// # Examples
///
/// ```
/// use std::sync::mpsc::channel;
/// use cleanbreak::CancelToken;
///
/// let token = CancelToken::new();
/// let (tx, ran) = channel();
/// let say = |what: &'static str| {
///     let tx = tx.clone();
///     move || tx.send(what).unwrap()
/// };
/// drop(token.on_cancel(say("dropped"))); // taken back
/// assert!(token.on_cancel(say("unregistered")).try_unregister()); // as well, without waiting
/// token.on_cancel(say("detached")).detach(); // stays
/// let kept = token.on_cancel(say("kept"));
///
/// token.cancel();
/// assert_eq!(ran.try_iter().collect::<Vec<_>>(), ["detached", "kept"]);
/// assert!(!kept.try_unregister()); // it has run
///
/// token.on_cancel(say("late")).detach(); // on a cancelled token: at once
/// assert_eq!(ran.try_recv(), Ok("late"));
/// ```
#[must_use = "dropping the registration takes the hook back"]
pub struct Registration {
    /// `None` when nothing is armed any more.
    hook: Option<Arc<Hook>>,
    node: Weak<TokenNode>,
    id: u64,
}

impl Registration {
    /// Arms `closure` on a node, or runs it now if that is cancelled.
    pub(super) fn arm(node: &Arc<TokenNode>, closure: Closure) -> Self {
        let hook = Arc::new(Hook::new(closure));
        match node.add_hook(&hook) {
            Some(id) => Self {
                hook: Some(hook),
                node: Arc::downgrade(node),
                id,
            },
            None => {
                hook.run();
                Self::spent()
            }
        }
    }

    /// On a token that is never cancelled, the closure is dropped at once.
    pub(super) fn never(closure: Closure) -> Self {
        drop_contained(closure);
        Self::spent()
    }

    fn spent() -> Self {
        Self {
            hook: None,
            node: Weak::new(),
            id: 0,
        }
    }

    /// Takes the hook back without waiting: `true` if it has not started and never will, `false` if
    /// it has run or is running.
    pub fn try_unregister(mut self) -> bool {
        let taken = self.take_back();
        // Or the drop would wait for a hook that is running.
        self.hook = None;
        taken == TakeBack::TakenBack
    }

    /// Leaves the hook armed for as long as the token lives.
    pub fn detach(mut self) {
        self.hook = None;
    }

    /// Leaves the hook in place if it is running.
    fn take_back(&mut self) -> TakeBack {
        let Some(hook) = &self.hook else {
            return TakeBack::Done;
        };
        let taken = hook.take_back();
        if taken != TakeBack::Running {
            self.hook = None;
        }
        if taken == TakeBack::TakenBack
            && let Some(node) = self.node.upgrade()
        {
            node.remove_hook(self.id);
        }
        taken
    }
}

// A panic never leaves one half changed: no code of the user runs under a lock of ours.
impl std::panic::UnwindSafe for Registration {}
impl std::panic::RefUnwindSafe for Registration {}

impl Drop for Registration {
    fn drop(&mut self) {
        if self.take_back() == TakeBack::Running
            && let Some(hook) = &self.hook
        {
            hook.await_done();
        }
    }
}

impl fmt::Debug for Registration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let armed = self.hook.is_some() && self.node.strong_count() > 0;
        f.debug_struct("Registration")
            .field("armed", &armed)
            .finish_non_exhaustive()
    }
}

/// Cancels its token when it is dropped, by whatever way the scope is left: break, return, `?` or
/// panic. See [`CancelToken::drop_guard`].
///
/// # Examples
///
/// ```
/// use cleanbreak::CancelToken;
///
/// /// The helpers of a job stop with it, unless it hands them on.
/// fn job(helpers: &CancelToken, succeed: bool) -> Result<CancelToken, &'static str> {
///     let guard = helpers.child().drop_guard();
///     if !succeed {
///         return Err("no luck"); // the guard cancels the child
///     }
///     Ok(guard.disarm())
/// }
///
/// let service = CancelToken::new();
/// let (hook_ran, told) = std::sync::mpsc::channel();
/// let child = service.child();
/// child.on_cancel(move || hook_ran.send(()).unwrap()).detach();
/// drop(child.drop_guard());
/// assert_eq!(told.try_recv(), Ok(()));
///
/// assert!(!job(&service, true).unwrap().is_cancelled());
/// assert_eq!(job(&service, false).unwrap_err(), "no luck");
/// assert!(!service.is_cancelled()); // a guard on a child leaves the parent alone
/// ```
#[must_use = "the token is cancelled when the guard is dropped"]
#[derive(Debug)]
pub struct DropGuard {
    token: Option<CancelToken>,
}

impl DropGuard {
    pub(super) fn new(token: CancelToken) -> Self {
        Self { token: Some(token) }
    }

    /// Gives the token back without cancelling it.
    #[must_use]
    pub fn disarm(mut self) -> CancelToken {
        self.token.take().expect("only disarm and drop take it")
    }
}

impl Drop for DropGuard {
    fn drop(&mut self) {
        if let Some(token) = self.token.take() {
            token.cancel();
        }
    }
}
