//! The tree behind the tokens.
//!
//! A node knows its parents (strongly, so that a cancel on the way down never meets a gap) and its
//! children (weakly, so that a dropped child is gone). `X` is what the token keeps here; all that
//! the protocol asks of it is whether it had come to an end by itself.
//!
//! # Invariants
//!
//! 1. `outcome` is set once, under the node's lock, before `cancelled` is stored. Who sees
//!    `cancelled` and takes the lock finds kind and cause, together and final.
//! 2. A node with an outcome gets no new children, hooks or gate: what would be added is told at
//!    once instead. A child is made under its parent's lock, so it is linked before the parent's
//!    mark, and then swept, or it is born cancelled after it.
//! 3. The mark and the wake of one node are one critical section: whoever finds a node marked also
//!    finds its waiters woken. Waking under the lock is harmless here, because a gate wakes by a
//!    disconnect, which runs no code of ours and none of the user's.
//! 4. `swept` is set, under the lock, when the whole subtree has been marked, and not before. A
//!    second cancel that comes by while a first is still on its way passes over nothing but swept
//!    subtrees, so neither returns before every descendant is marked and woken.
//! 5. Hooks run when no lock is held, after all marks of their sweep. A parent's come before its
//!    children's; those of one node in the order of registration.
//! 6. No recursion: neither a sweep nor a drop uses stack in proportion to the tree.
//! 7. A sweep hands down what each node has, not what it brought along: a child that is cancelled
//!    through its parent has its parent's outcome, whosever sweep comes by first.
//!
//! # Lock order
//!
//! One node's lock at a time; never two, and no lock of a hook under it. Wakes inside crossbeam
//! take locks of their own below.

use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::sync::atomic::AtomicUsize;

use super::cause::Cancelled;
use super::hook::Hook;
use super::slab::Slab;
use crate::sync::{Arc, AtomicBool, GateReceiver, GateSender, Mutex, Ordering, Weak, gate};

/// How many children a sweep takes up per visit to their parent's lock.
const BATCH: usize = 32;

/// In this order, so that a sweep over many leaves touches one cache line of each: the reference
/// counts, the flag and what the lock guards.
#[repr(C)]
pub(crate) struct Node<X> {
    cancelled: AtomicBool,
    inner: Mutex<Inner<X>>,
    parents: Parents<X>,
    /// Made with the first wait. Set only under the lock.
    gate: OnceLock<GateReceiver>,
    pub(crate) extra: X,
}

enum Parents<X> {
    None,
    One(Link<X>),
    Many(Vec<Link<X>>),
}

struct Link<X> {
    parent: Arc<Node<X>>,
    /// Place among the parent's children; `UNLINKED` until it has one. Relaxed: stored before the
    /// node is handed out, read when it is dropped.
    slot: AtomicUsize,
}

const UNLINKED: usize = usize::MAX;

struct Inner<X> {
    outcome: Option<Cancelled>,
    swept: bool,
    /// What a leaf does not have: a sweep over many leaves should touch few cache lines.
    children: Option<Box<Slab<Weak<Node<X>>>>>,
    /// What most nodes never have.
    rare: Option<Box<Rare>>,
}

#[derive(Default)]
struct Rare {
    gate: Option<GateSender>,
    hooks: BTreeMap<u64, Arc<Hook>>,
    next_hook: u64,
}

/// What a mark found.
struct Marked {
    first: bool,
    /// The node's outcome, for what is below it; `None` if that has been swept.
    unswept: Option<Cancelled>,
}

/// What a look at a node finds below it.
#[cfg(all(feature = "debug-http", unix))]
pub(crate) struct Glance<X> {
    /// The first of them.
    pub(crate) children: Vec<Arc<Node<X>>>,
    pub(crate) count: usize,
    pub(crate) hooks: usize,
}

/// What a node keeps for the token.
pub(crate) trait Extra {
    /// How the node has ended already, if it has and nobody has told it yet: a deadline of its own
    /// that has passed. Called with no lock held.
    fn overdue(&self) -> Option<Cancelled> {
        None
    }
}

impl<X: Extra> Node<X> {
    pub(crate) fn root(extra: X) -> Arc<Self> {
        Self::unlinked(Parents::None, extra)
    }

    /// A child of `parent`, cancelled if that is.
    #[inline]
    pub(crate) fn child(parent: &Arc<Self>, extra: X) -> Arc<Self> {
        Self::linked(Parents::One(Link::to(parent)), extra)
    }

    /// A child of all of `parents`, cancelled with the first of them.
    pub(crate) fn child_of_all(parents: &[&Arc<Self>], extra: X) -> Arc<Self> {
        let links = parents.iter().map(|parent| Link::to(parent)).collect();
        Self::linked(Parents::Many(links), extra)
    }

    /// Complete before it is linked: a sweep that finds it must be able to upgrade to it.
    #[inline]
    fn linked(parents: Parents<X>, extra: X) -> Arc<Self> {
        let node = Self::unlinked(parents, extra);
        for link in node.parents.links() {
            let mut inner = link.parent.inner.lock();
            if let Some(outcome) = inner.outcome.clone() {
                // Invariant 2. It has no children yet, so this marks and nothing more.
                drop(inner);
                node.cancel(&outcome);
                break;
            }
            let slot = inner.children().insert(Arc::downgrade(&node));
            link.slot.store(slot, Ordering::Relaxed);
        }
        node
    }

    /// Inlined, to be built in place rather than copied there.
    #[inline(always)]
    fn unlinked(parents: Parents<X>, extra: X) -> Arc<Self> {
        Arc::new(Self {
            cancelled: AtomicBool::new(false),
            inner: Mutex::new(Inner {
                outcome: None,
                swept: false,
                children: None,
                rare: None,
            }),
            parents,
            gate: OnceLock::new(),
            extra,
        })
    }

    /// Acquire, with the Release store in `mark`: what the canceller did before is visible. No
    /// wait relies on this load; waits register under the lock that the mark takes.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    pub(crate) fn outcome(&self) -> Option<Cancelled> {
        if !self.is_cancelled() {
            return None;
        }
        self.inner.lock().outcome.clone()
    }

    /// The receiver that disconnects on cancellation; `None` if that has happened and nobody had
    /// asked before.
    pub(crate) fn gate(&self) -> Option<&GateReceiver> {
        if let Some(receiver) = self.gate.get() {
            return Some(receiver);
        }
        let mut inner = self.inner.lock();
        if inner.outcome.is_none() && self.gate.get().is_none() {
            let (sender, receiver) = gate();
            inner.rare().gate = Some(sender);
            // Under the lock, so nobody else sets it.
            self.gate.set(receiver).ok();
        }
        drop(inner);
        self.gate.get()
    }

    /// Registers a hook. `None` if the node is cancelled: then it is the caller who runs it.
    pub(crate) fn add_hook(&self, hook: &Arc<Hook>) -> Option<u64> {
        let mut inner = self.inner.lock();
        if inner.outcome.is_some() {
            return None;
        }
        let rare = inner.rare();
        let id = rare.next_hook;
        rare.next_hook += 1;
        rare.hooks.insert(id, hook.clone());
        Some(id)
    }

    pub(crate) fn remove_hook(&self, id: u64) {
        let mut inner = self.inner.lock();
        let hook = inner.rare.as_mut().and_then(|rare| rare.hooks.remove(&id));
        drop(inner);
        drop(hook);
    }

    /// Cancels this node and all below. `true` for the one call, of all there ever are, that
    /// cancelled this node; but every call returns with the whole subtree marked and woken.
    pub(crate) fn cancel(self: &Arc<Self>, outcome: &Cancelled) -> bool {
        let mut hooks = Vec::new();
        let marked = self.mark(outcome, &mut hooks);
        if let Some(outcome) = marked.unswept {
            Self::sweep(self, outcome, &mut hooks);
        }
        for hook in hooks {
            hook.run();
        }
        marked.first
    }

    /// Invariants 1 and 3.
    fn mark(&self, outcome: &Cancelled, hooks: &mut Vec<Arc<Hook>>) -> Marked {
        let mut inner = self.inner.lock();
        let first = inner.outcome.is_none();
        let mut rare = None;
        if first {
            inner.swept = inner.count_children() == 0;
            inner.outcome = Some(outcome.clone());
            // Release: see `is_cancelled`.
            self.cancelled.store(true, Ordering::Release);
            rare = inner.rare.take();
            if let Some(rare) = &mut rare {
                drop(rare.gate.take());
            }
        }
        let unswept = match inner.swept {
            true => None,
            false => inner.outcome.clone(),
        };
        drop(inner);
        if let Some(rare) = rare {
            hooks.extend(rare.hooks.into_values());
        }
        Marked { first, unswept }
    }

    /// Invariant 4: marks everything below `top`, depth first. The frames stand for the path from
    /// `top` down to where the sweep is.
    fn sweep(top: &Arc<Self>, outcome: Cancelled, hooks: &mut Vec<Arc<Hook>>) {
        let mut path = vec![Frame::new(top.clone(), outcome)];
        while let Some(frame) = path.last_mut() {
            if let Some((child, outcome)) = frame.next_unswept(hooks) {
                path.push(Frame::new(child, outcome));
            } else {
                frame.node.inner.lock().swept = true;
                path.pop();
            }
        }
    }

    /// Whether nobody has asked anything of this node that could outlast its one handle: it is not
    /// cancelled, and no other handle, child, hook or waiter of it exists or has existed.
    pub(crate) fn is_untouched(self: &Arc<Self>) -> bool {
        // A child holds its parent; a receiver that was handed out leaves the gate behind.
        Arc::strong_count(self) == 1 && !self.is_cancelled() && self.inner.lock().rare.is_none()
    }

    /// How many handles there are, beside the links from children: a momentary count.
    pub(crate) fn handles(self: &Arc<Self>) -> usize {
        let inner = self.inner.lock();
        Arc::strong_count(self).saturating_sub(inner.count_children())
    }

    /// For people to look at; `most` children at most.
    #[cfg(all(feature = "debug-http", unix))]
    pub(crate) fn glance(&self, most: usize) -> Glance<X> {
        let inner = self.inner.lock();
        let slab = inner.children.iter();
        let children = slab.flat_map(|children| children.iter_from(0));
        let alive = children.filter_map(|(_, child)| child.upgrade());
        Glance {
            children: alive.take(most).collect(),
            count: inner.count_children(),
            hooks: inner.rare.as_ref().map_or(0, |rare| rare.hooks.len()),
        }
    }

    pub(crate) fn parents(&self) -> impl Iterator<Item = &Arc<Self>> {
        self.parents.links().iter().map(|link| &link.parent)
    }
}

/// One node on the path of a sweep.
struct Frame<X> {
    node: Arc<Node<X>>,
    /// The node's, which its children get (invariant 7).
    outcome: Cancelled,
    /// Children from here on have not been looked at.
    cursor: usize,
    /// Children that have children in turn: marked, to be descended into.
    unswept: Vec<(Arc<Node<X>>, Cancelled)>,
}

impl<X: Extra> Frame<X> {
    fn new(node: Arc<Node<X>>, outcome: Cancelled) -> Self {
        Self {
            node,
            outcome,
            cursor: 0,
            unswept: Vec::new(),
        }
    }

    /// Marks children until one turns up whose own children are not swept, and returns it; `None`
    /// when there is none left.
    fn next_unswept(&mut self, hooks: &mut Vec<Arc<Hook>>) -> Option<(Arc<Node<X>>, Cancelled)> {
        while self.unswept.is_empty() {
            for child in self.next_batch()? {
                let overdue = child.extra.overdue();
                let outcome = overdue.as_ref().unwrap_or(&self.outcome);
                if let Some(outcome) = child.mark(outcome, hooks).unswept {
                    self.unswept.push((child, outcome));
                }
            }
        }
        let child = self.unswept.pop();
        if self.unswept.is_empty() {
            // A chain of a million nodes is a path of a million frames: keep them small.
            self.unswept = Vec::new();
        }
        child
    }

    /// The next children; `None` after the last. Those that cannot be upgraded are being dropped,
    /// and have no waiters or children.
    fn next_batch(&mut self) -> Option<Vec<Arc<Node<X>>>> {
        let inner = self.node.inner.lock();
        let children = inner.children.as_ref()?;
        let mut next = children.iter_from(self.cursor).take(BATCH).peekable();
        next.peek()?;
        let mut batch = Vec::with_capacity(BATCH);
        for (slot, child) in next {
            self.cursor = slot + 1;
            batch.extend(child.upgrade());
        }
        Some(batch)
    }
}

impl<X> Inner<X> {
    fn children(&mut self) -> &mut Slab<Weak<Node<X>>> {
        self.children.get_or_insert_with(|| Box::new(Slab::new()))
    }

    fn count_children(&self) -> usize {
        self.children.as_ref().map_or(0, |children| children.len())
    }

    fn remove_child(&mut self, slot: usize) -> Option<Weak<Node<X>>> {
        self.children.as_mut()?.remove(slot)
    }

    fn rare(&mut self) -> &mut Rare {
        self.rare.get_or_insert_default()
    }
}

impl<X> Parents<X> {
    fn links(&self) -> &[Link<X>] {
        match self {
            Self::None => &[],
            Self::One(link) => std::slice::from_ref(link),
            Self::Many(links) => links,
        }
    }

    fn take(&mut self) -> Self {
        std::mem::replace(self, Self::None)
    }
}

/// Invariant 6: a parent whose last reference was this link is taken apart here, in a loop, before
/// its own drop could recurse.
impl<X> Drop for Node<X> {
    fn drop(&mut self) {
        let mut more = Vec::new();
        let mut next = self.parents.take();
        loop {
            match next {
                Parents::None => {}
                Parents::One(link) => {
                    next = link.unlink();
                    continue;
                }
                Parents::Many(links) => more.extend(links),
            }
            match more.pop() {
                Some(link) => next = Parents::One(link),
                None => return,
            }
        }
    }
}

impl<X> Link<X> {
    fn to(parent: &Arc<Node<X>>) -> Self {
        Self {
            parent: parent.clone(),
            slot: AtomicUsize::new(UNLINKED),
        }
    }

    /// Takes the child out of its parent, and returns the parent's own links if this was the last
    /// reference to it.
    fn unlink(self) -> Parents<X> {
        let slot = self.slot.into_inner();
        let weak = self.parent.inner.lock().remove_child(slot);
        drop(weak);
        match Arc::into_inner(self.parent) {
            Some(mut parent) => parent.parents.take(),
            None => Parents::None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Nothing;

    impl Extra for Nothing {}

    #[test]
    fn a_look_and_a_clone_take_no_lock() {
        if env!("CARGO_CRATE_NAME") == "model" {
            return; // whose locks work only inside a modelled run
        }
        let node = Node::root(Nothing);
        let locked = node.inner.lock();
        assert!(!node.is_cancelled());
        assert!(node.outcome().is_none(), "not cancelled: no need to look");
        drop(node.clone());
        assert!(node.inner.try_lock().is_none(), "it was locked throughout");
        drop(locked);
    }
}
