//! Bugs on purpose, each one that people write, and a channel that may have one of them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use cleanbreak::channel::{RecvCancelError, SendCancelError};
use cleanbreak::{CancelToken, SafeChannel, SafeReceiver, SafeSender, chaos};
use crossbeam_channel::{Receiver, Sender, select};

use crate::ledger::Message;

/// What is wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Plant {
    /// An `AtomicBool` in front of a channel, for a close.
    Close,
    /// A pool that nobody shuts down, nor drops.
    Thread,
    /// The siblings are told before the error is kept.
    Error,
    /// Ticks pass through a second channel, which is not emptied on stop.
    Tick,
    /// A permit is given back only where nothing goes wrong.
    Permit,
    /// A task that was refused is counted as accepted.
    Task,
    /// A wait that does not look at the token.
    Wait,
}

impl Plant {
    pub(crate) const ALL: [(&'static str, Self); 7] = [
        ("close", Self::Close),
        ("thread", Self::Thread),
        ("error", Self::Error),
        ("tick", Self::Tick),
        ("permit", Self::Permit),
        ("task", Self::Task),
        ("wait", Self::Wait),
    ];
}

/// The sending end.
#[derive(Clone)]
pub(crate) enum Outbox {
    Safe(SafeSender<Message>),
    Flagged(Arc<AtomicBool>, Sender<Message>),
}

/// The receiving end.
#[derive(Clone)]
pub(crate) enum Inbox {
    Safe(SafeReceiver<Message>),
    Flagged(Arc<AtomicBool>, Receiver<Message>),
}

pub(crate) fn lane(capacity: Option<usize>, plant: Option<Plant>) -> (Outbox, Inbox) {
    if plant == Some(Plant::Close) {
        let (tx, rx) = crossbeam_channel::unbounded();
        let closed = Arc::new(AtomicBool::new(false));
        return (
            Outbox::Flagged(closed.clone(), tx),
            Inbox::Flagged(closed, rx),
        );
    }
    let (tx, rx) = match capacity {
        Some(capacity) => SafeChannel::bounded(capacity),
        None => SafeChannel::unbounded(),
    };
    (Outbox::Safe(tx), Inbox::Safe(rx))
}

impl Outbox {
    /// In one of the ways that there are.
    pub(crate) fn send(
        &self,
        message: Message,
        way: u8,
        token: &CancelToken,
    ) -> Result<(), Message> {
        match self {
            Self::Safe(tx) => match way % 4 {
                0 => tx.send(message).map_err(|error| error.into_inner()),
                1 => tx.try_send(message).map_err(|error| error.into_inner()),
                2 => {
                    let timeout = std::time::Duration::from_micros(300);
                    let sent = tx.send_timeout(message, timeout);
                    sent.map_err(|error| error.into_inner())
                }
                _ => tx
                    .send_or_cancel(message, token)
                    .map_err(|error| match error {
                        SendCancelError::Closed(back) | SendCancelError::Cancelled(back, _) => back,
                    }),
            },
            Self::Flagged(closed, tx) => {
                if closed.load(Ordering::SeqCst) {
                    return Err(message);
                }
                chaos::point("plant.window");
                tx.send(message).map_err(|error| error.0)
            }
        }
    }

    pub(crate) fn close(&self) {
        match self {
            Self::Safe(tx) => drop(tx.close()),
            Self::Flagged(closed, _) => closed.store(true, Ordering::SeqCst),
        }
    }
}

impl Inbox {
    pub(crate) fn receive(&self, token: &CancelToken) -> Result<Message, RecvCancelError> {
        match self {
            Self::Safe(rx) => rx.recv_or_cancel(token),
            Self::Flagged(closed, rx) => {
                let look = crossbeam_channel::tick(std::time::Duration::from_micros(200));
                loop {
                    select! {
                        recv(rx) -> message => return message.map_err(|_| RecvCancelError::Closed),
                        recv(token.done()) -> _ => {
                            token.check().map_err(RecvCancelError::Cancelled)?;
                        }
                        recv(look) -> _ => {
                            if closed.load(Ordering::SeqCst) {
                                return Err(RecvCancelError::Closed);
                            }
                        }
                    }
                }
            }
        }
    }

    pub(crate) fn close(&self) {
        match self {
            Self::Safe(rx) => drop(rx.close()),
            Self::Flagged(closed, _) => closed.store(true, Ordering::SeqCst),
        }
    }

    pub(crate) fn close_and_drain(&self) -> Vec<Message> {
        match self {
            Self::Safe(rx) => rx.close_and_drain(),
            Self::Flagged(closed, rx) => match closed.swap(true, Ordering::SeqCst) {
                false => rx.try_iter().collect(),
                true => Vec::new(),
            },
        }
    }
}
