//! What the supervisor's handle, its thread and its children share.
//!
//! # Lock order
//!
//! The locks here are leaves: under them nothing else is locked, no code of the user runs, and no
//! value of the user's is dropped.

use std::cell::Cell;
use std::collections::BTreeMap;
use std::panic::Location;
use std::sync::OnceLock;

use crossbeam_channel::Sender;

use super::end::ChildEnd;
use super::err::ChildErrorKind;
use super::event::{Event, Listener};
use super::plan::ChildId;
use super::report::{ChildInfo, ChildState, PhaseReport, Report, StopReason};
use super::spec::ChildSpec;
use crate::cancel::CancelToken;
use crate::clock::Instant;
use crate::observe::SpanContext;
use crate::sync::{Arc, GateReceiver, GateSender, Mutex, gate};
use crate::threads::{Deadlocks, Handle, Record};

/// What the supervisor's thread is told.
pub(super) enum Message {
    Ready {
        id: ChildId,
        run: u64,
        at: Instant,
    },
    Ended {
        id: ChildId,
        run: u64,
        end: ChildEnd,
        cancelled: bool,
        at: Instant,
    },
    /// The supervisor's token has been.
    Cancelled,
    Add(ChildSpec, Reply),
    Ask(Ask, Arc<str>, Reply),
}

#[derive(Clone, Copy)]
pub(super) enum Ask {
    Restart,
    Stop,
    Remove,
}

/// How a child ended that was to; nothing for one that was to start. Dropped unanswered by a
/// supervisor that stops.
pub(super) type Reply = Sender<Result<Option<ChildEnd>, ChildErrorKind>>;

/// The thread of a run, as soon as it has one.
pub(super) type Slot = Arc<OnceLock<Arc<Record>>>;

pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) site: &'static Location<'static>,
    pub(super) token: CancelToken,
    pub(super) inbox: Sender<Message>,
    /// In which it was started.
    pub(super) span: SpanContext,
    listener: Listener,
    board: Mutex<Board>,
    /// Dropped when all phases have been stopped.
    gate: Mutex<Option<GateSender>>,
    pub(super) ended: GateReceiver,
    /// The supervisor's own.
    pub(super) thread: Mutex<Option<Handle>>,
}

/// What there is to see; written by the supervisor's thread alone.
#[derive(Default)]
struct Board {
    children: BTreeMap<ChildId, Entry>,
    reason: Option<StopReason>,
    phases: Vec<PhaseReport>,
}

#[derive(Clone)]
pub(super) struct Entry {
    pub(super) name: Arc<str>,
    pub(super) site: &'static Location<'static>,
    pub(super) phase: Arc<str>,
    pub(super) state: ChildState,
    pub(super) told_at: Option<Instant>,
    pub(super) restarts: u64,
    pub(super) last_end: Option<ChildEnd>,
    pub(super) thread: Option<Slot>,
}

/// Which thread of a supervisor this is.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Role {
    Manager,
    Child(ChildId),
}

thread_local! {
    /// Address of the supervisor that this thread belongs to, and as what. Never reset, as the
    /// thread's destructors belong to it too.
    static SERVES: Cell<Option<(usize, Role)>> = const { Cell::new(None) };
}

impl Shared {
    pub(super) fn new(
        name: Arc<str>,
        site: &'static Location<'static>,
        token: CancelToken,
        inbox: Sender<Message>,
        listener: Listener,
    ) -> Self {
        let (open, ended) = gate();
        Self {
            name,
            site,
            token,
            inbox,
            span: SpanContext::here(),
            listener,
            board: Mutex::default(),
            gate: Mutex::new(Some(open)),
            ended,
            thread: Mutex::new(None),
        }
    }

    /// Makes the calling thread one of this supervisor.
    pub(super) fn enter(&self, role: Role) {
        SERVES.set(Some((std::ptr::from_ref(self).addr(), role)));
    }

    /// What the calling thread is to this supervisor, if anything.
    pub(super) fn role(&self) -> Option<Role> {
        let (address, role) = SERVES.get()?;
        (address == std::ptr::from_ref(self).addr()).then_some(role)
    }

    pub(super) fn now(&self) -> Instant {
        self.token.clock().now()
    }

    pub(super) fn tell(&self, event: &Event) {
        self.listener.tell(event);
    }

    /// Whoever waits for the end goes on.
    pub(super) fn open_gate(&self) {
        let gate = self.gate.lock().take();
        drop(gate);
    }

    /// Shows children as they are now.
    pub(super) fn show(&self, entries: Vec<(ChildId, Entry)>) {
        let mut before = Vec::with_capacity(entries.len());
        let mut board = self.board.lock();
        for (id, entry) in entries {
            before.push(board.children.insert(id, entry));
        }
        // What is replaced may hold the last of an error, so it goes outside the lock.
        drop(board);
    }

    pub(super) fn hide(&self, id: ChildId) {
        let entry = self.board.lock().children.remove(&id);
        drop(entry);
    }

    pub(super) fn show_stop(&self, reason: Option<&StopReason>, phases: &[PhaseReport]) {
        let mut board = self.board.lock();
        if board.reason.is_none() {
            board.reason = reason.cloned();
        }
        let shown = board.phases.len();
        board.phases.extend_from_slice(&phases[shown..]);
    }

    pub(super) fn info(&self, id: ChildId) -> Option<ChildInfo> {
        let entry = self.board.lock().children.get(&id).cloned();
        entry.map(|entry| entry.info(self.now()))
    }

    pub(super) fn children(&self) -> Vec<ChildInfo> {
        let entries: Vec<_> = self.board.lock().children.values().cloned().collect();
        let now = self.now();
        entries.into_iter().map(|entry| entry.info(now)).collect()
    }

    pub(super) fn report(&self) -> Report {
        let children = self.children();
        let board = self.board.lock();
        Report {
            name: self.name.to_string(),
            reason: board.reason.clone(),
            children,
            phases: board.phases.clone(),
        }
    }
}

impl Entry {
    fn info(self, now: Instant) -> ChildInfo {
        let state = match (self.state, self.told_at) {
            (ChildState::Stuck { .. }, Some(told_at)) => ChildState::Stuck {
                overdue: now.duration_since(told_at),
            },
            (state, _) => state,
        };
        let record = self.thread.as_ref().and_then(|slot| slot.get());
        // These take a while, so only where something is wrong.
        let stuck = record.filter(|_| state.is_stuck());
        ChildInfo {
            name: self.name.to_string(),
            spawned_at: self.site,
            phase: self.phase.to_string(),
            state,
            restarts: self.restarts,
            last_end: self.last_end,
            waiting: record.and_then(|record| record.waiting()),
            stack: stuck.and_then(|record| record.stack()),
            deadlock: stuck.and_then(|record| Deadlocks::look().of(record)),
        }
    }
}
