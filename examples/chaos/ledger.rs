//! What became of every message, and of every promise.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use parking_lot::Mutex;

/// One message: it counts while it is alive.
pub(crate) struct Message {
    pub(crate) id: u64,
    ledger: Arc<Ledger>,
}

/// Where a message has been seen last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Seen {
    Received,
    Drained,
    Refused,
}

#[derive(Default)]
pub(crate) struct Ledger {
    next: AtomicU64,
    alive: AtomicU64,
    /// Sends that returned `Ok`.
    sent: Mutex<Vec<u64>>,
    seen: Mutex<BTreeMap<u64, Seen>>,
    /// Some `close` has returned.
    closed: AtomicBool,
    failures: Mutex<Vec<u64>>,
    broken: Mutex<Vec<String>>,
    counts: Mutex<BTreeMap<&'static str, u64>>,
}

/// The error of a task that fails on purpose.
#[derive(Debug)]
pub(crate) struct Failure(pub(crate) u64);

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "failure {}", self.0)
    }
}

impl std::error::Error for Failure {}

impl Ledger {
    pub(crate) fn message(self: &Arc<Self>) -> Message {
        self.alive.fetch_add(1, Ordering::Relaxed);
        let (id, ledger) = (self.next.fetch_add(1, Ordering::Relaxed), self.clone());
        Message { id, ledger }
    }

    pub(crate) fn sent(&self, id: u64, began_closed: bool) {
        self.sent.lock().push(id);
        if began_closed {
            self.broken(format!(
                "message {id} was sent after the channel was closed"
            ));
        }
    }

    pub(crate) fn received(&self, message: Message) {
        self.see(message, Seen::Received);
    }

    pub(crate) fn drained(&self, message: Message) {
        self.see(message, Seen::Drained);
    }

    pub(crate) fn refused(&self, id: u64, back: Message) {
        if back.id != id {
            self.broken(format!("message {} came back for {id}", back.id));
        }
        self.see(back, Seen::Refused);
    }

    fn see(&self, message: Message, seen: Seen) {
        if let Some(before) = self.seen.lock().insert(message.id, seen) {
            let id = message.id;
            self.broken(format!("message {id} was {before:?}, and then {seen:?}"));
        }
    }

    pub(crate) fn close_returned(&self) {
        self.closed.store(true, Ordering::SeqCst);
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.closed.load(Ordering::SeqCst)
    }

    /// A new error, which counts from now on.
    pub(crate) fn failure(&self) -> Failure {
        let mut failures = self.failures.lock();
        let number = u64::try_from(failures.len()).unwrap_or(0);
        failures.push(number);
        Failure(number)
    }

    pub(crate) fn failures(&self) -> Vec<u64> {
        self.failures.lock().clone()
    }

    /// An invariant does not hold.
    pub(crate) fn broken(&self, what: impl Into<String>) {
        self.broken.lock().push(what.into());
    }

    pub(crate) fn check(&self, holds: bool, what: impl FnOnce() -> String) {
        if !holds {
            self.broken(what());
        }
    }

    /// Something happened that the summary shows.
    pub(crate) fn count(&self, what: &'static str, times: u64) {
        *self.counts.lock().entry(what).or_default() += times;
    }

    /// At the end: every message is accounted for. Returns what was broken, and what was counted.
    pub(crate) fn close(&self) -> (Vec<String>, BTreeMap<&'static str, u64>) {
        let (sent, seen) = (self.sent.lock().clone(), self.seen.lock().clone());
        for id in &sent {
            match seen.get(id) {
                Some(Seen::Received | Seen::Drained) => {}
                Some(Seen::Refused) => self.broken(format!("message {id} was sent and refused")),
                None => self.broken(format!("message {id} is lost: its send returned Ok")),
            }
        }
        let of = |kind: Seen| seen.values().filter(|seen| **seen == kind).count();
        let arrived = of(Seen::Received) + of(Seen::Drained);
        self.check(arrived == sent.len(), || {
            format!(
                "{arrived} messages arrived of {} that were sent",
                sent.len()
            )
        });
        let alive = self.alive.load(Ordering::Relaxed);
        self.check(alive == 0, || {
            format!("{alive} messages are still somewhere")
        });
        self.count("messages sent", sent.len() as u64);
        self.count("messages drained", of(Seen::Drained) as u64);
        self.count("messages refused", of(Seen::Refused) as u64);
        (self.broken.lock().clone(), self.counts.lock().clone())
    }
}

impl Drop for Message {
    fn drop(&mut self) {
        self.ledger.alive.fetch_sub(1, Ordering::Relaxed);
    }
}
