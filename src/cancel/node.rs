//! The tree behind the tokens.
//!
//! A node knows its parents (strongly, so that a cancel on the way down never meets a gap) and its
//! children (weakly, so that a dropped child is gone). `X` is what the token keeps here; the
//! protocol never looks at it.
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
//! 4. A cancelled node keeps a child linked until that child's whole subtree has been marked. So a
//!    second cancel that comes by while a first is still on its way finds all that is left to do,
//!    does it too, and neither returns before every descendant is marked and woken.
//! 5. Hooks run when no lock is held, after all marks of their sweep. A parent's come before its
//!    children's; those of one node in the order of registration.
//! 6. No recursion: neither a sweep nor a drop uses stack in proportion to the tree.
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

pub(crate) struct Node<X> {
    cancelled: AtomicBool,
    parents: Parents<X>,
    /// Made with the first wait. Set only under the lock.
    gate: OnceLock<GateReceiver>,
    inner: Mutex<Inner<X>>,
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
    children: Slab<Weak<Node<X>>>,
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
    leaf: bool,
}

impl<X> Node<X> {
    pub(crate) fn root(extra: X) -> Arc<Self> {
        Arc::new(Self::unlinked(extra))
    }

    /// A child of `parent`, cancelled if that is.
    pub(crate) fn child(parent: &Arc<Self>, extra: X) -> Arc<Self> {
        Self::linked(Parents::One(Link::to(parent)), extra)
    }

    /// A child of all of `parents`, cancelled with the first of them.
    pub(crate) fn child_of_all(parents: &[&Arc<Self>], extra: X) -> Arc<Self> {
        let links = parents.iter().map(|parent| Link::to(parent)).collect();
        Self::linked(Parents::Many(links), extra)
    }

    /// Complete before it is linked: a sweep that finds it must be able to upgrade to it.
    fn linked(parents: Parents<X>, extra: X) -> Arc<Self> {
        let mut node = Self::unlinked(extra);
        node.parents = parents;
        let node = Arc::new(node);
        for link in node.parents.links() {
            let mut inner = link.parent.inner.lock();
            if let Some(outcome) = inner.outcome.clone() {
                // Invariant 2. It has no children yet, so this marks and nothing more.
                drop(inner);
                node.cancel(&outcome);
                break;
            }
            let slot = inner.children.insert(Arc::downgrade(&node));
            link.slot.store(slot, Ordering::Relaxed);
        }
        node
    }

    fn unlinked(extra: X) -> Self {
        Self {
            cancelled: AtomicBool::new(false),
            parents: Parents::None,
            gate: OnceLock::new(),
            inner: Mutex::new(Inner {
                outcome: None,
                children: Slab::new(),
                rare: None,
            }),
            extra,
        }
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
        if !marked.leaf {
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
            inner.outcome = Some(outcome.clone());
            // Release: see `is_cancelled`.
            self.cancelled.store(true, Ordering::Release);
            rare = inner.rare.take();
            if let Some(rare) = &mut rare {
                drop(rare.gate.take());
            }
        }
        let leaf = inner.children.is_empty();
        drop(inner);
        if let Some(rare) = rare {
            hooks.extend(rare.hooks.into_values());
        }
        Marked { first, leaf }
    }

    /// Invariant 4: marks everything below `top`, depth first, each node unlinked only when its
    /// subtree is done. The frames stand for the path from `top` down to where the sweep is.
    fn sweep(top: &Arc<Self>, outcome: &Cancelled, hooks: &mut Vec<Arc<Hook>>) {
        let mut path = vec![Frame::new(top.clone())];
        while let Some(frame) = path.last_mut() {
            if let Some((slot, child)) = frame.next_inner_child(outcome, hooks) {
                frame.below = slot;
                path.push(Frame::new(child));
                continue;
            }
            path.pop();
            if let Some(parent) = path.last_mut() {
                parent.swept.push(parent.below);
            }
        }
    }

    /// How many handles there are, beside the links from children: a momentary count.
    pub(crate) fn handles(self: &Arc<Self>) -> usize {
        let inner = self.inner.lock();
        Arc::strong_count(self).saturating_sub(inner.children.len())
    }

    pub(crate) fn parents(&self) -> impl Iterator<Item = &Arc<Self>> {
        self.parents.links().iter().map(|link| &link.parent)
    }
}

/// One node on the path of a sweep.
struct Frame<X> {
    node: Arc<Node<X>>,
    /// Children from here on have not been looked at.
    cursor: usize,
    /// Children that have children: marked, to be descended into.
    inner_children: Vec<(usize, Arc<Node<X>>)>,
    /// Slot of the child that the sweep is below of.
    below: usize,
    /// Slots of children whose subtrees are done, to be unlinked on the next visit.
    swept: Vec<usize>,
}

impl<X> Frame<X> {
    fn new(node: Arc<Node<X>>) -> Self {
        Self {
            node,
            cursor: 0,
            inner_children: Vec::new(),
            below: 0,
            swept: Vec::new(),
        }
    }

    /// Marks children until one turns up that has children itself, and returns that one with its
    /// slot; `None` when all are done and unlinked.
    fn next_inner_child(
        &mut self,
        outcome: &Cancelled,
        hooks: &mut Vec<Arc<Hook>>,
    ) -> Option<(usize, Arc<Node<X>>)> {
        loop {
            if let Some(child) = self.inner_children.pop() {
                if self.inner_children.is_empty() {
                    // A chain of a million nodes keeps a million frames: keep them small.
                    self.inner_children = Vec::new();
                }
                return Some(child);
            }
            let batch = self.next_batch();
            if batch.is_empty() && self.swept.is_empty() {
                return None;
            }
            for (slot, child) in batch {
                if child.mark(outcome, hooks).leaf {
                    self.swept.push(slot);
                } else {
                    self.inner_children.push((slot, child));
                }
            }
        }
    }

    /// Unlinks what is done and takes up the next children. Those that cannot be upgraded are
    /// being dropped, and unlink themselves.
    fn next_batch(&mut self) -> Vec<(usize, Arc<Node<X>>)> {
        let mut batch = Vec::new();
        let mut gone = Vec::new();
        let mut inner = self.node.inner.lock();
        for slot in self.swept.drain(..) {
            gone.extend(inner.children.remove(slot));
        }
        for (slot, child) in inner.children.iter_from(self.cursor).take(BATCH) {
            self.cursor = slot + 1;
            batch.extend(child.upgrade().map(|child| (slot, child)));
        }
        drop(inner);
        batch
    }
}

impl<X> Inner<X> {
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
        let weak = self.parent.inner.lock().children.remove(slot);
        drop(weak);
        match Arc::into_inner(self.parent) {
            Some(mut parent) => parent.parents.take(),
            None => Parents::None,
        }
    }
}
