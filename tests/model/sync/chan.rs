//! A crossbeam channel under the model checker: a queue, a capacity and two reference counts.
//!
//! From its documented behaviour: a send succeeds only into a channel that has a receiver and
//! room, a receiver takes what is queued before it sees the end, and the end comes with the last
//! sender. A rendezvous is not modelled: its hand-over lies inside crossbeam, and for the closing
//! protocol a capacity of zero is a channel that is always full.

#[path = "../../../src/sync/unsent.rs"]
mod unsent;

pub(crate) use unsent::Unsent;

use crate::sync::{Arc, GateReceiver, Mutex, Waiter, Waiters};
use std::collections::VecDeque;
use std::time::Instant;

struct State<T> {
    queue: VecDeque<T>,
    capacity: usize,
    senders: usize,
    receivers: usize,
    /// Blocked ends of either kind; each looks again when woken.
    waiters: Waiters,
}

pub(crate) struct Sender<T>(Arc<Mutex<State<T>>>);
pub(crate) struct Receiver<T>(Arc<Mutex<State<T>>>);

#[derive(Debug)]
pub(crate) enum TrySendError<T> {
    Full(T),
    Disconnected(T),
}

#[derive(Debug)]
pub(crate) struct RecvError;

pub(crate) fn bounded<T>(capacity: usize) -> (Sender<T>, Receiver<T>) {
    let state = Arc::new(Mutex::new(State {
        queue: VecDeque::new(),
        capacity,
        senders: 1,
        receivers: 1,
        waiters: Waiters::default(),
    }));
    (Sender(state.clone()), Receiver(state))
}

pub(crate) fn send_or_stop<T>(
    tx: &Sender<T>,
    mut value: T,
    gate: &GateReceiver,
    stop: Option<&GateReceiver>,
    _time_does_not_exist: Option<Instant>,
) -> Result<(), Unsent<T>> {
    let waiter = Waiter::new();
    loop {
        if gate.poll(&waiter) {
            return Err(Unsent::Closed(value));
        }
        if stop.is_some_and(|stop| stop.poll(&waiter)) {
            return Err(Unsent::Stopped(value));
        }
        value = match tx.poll_send(value, &waiter) {
            Ok(()) => return Ok(()),
            Err(TrySendError::Disconnected(value)) => return Err(Unsent::Closed(value)),
            Err(TrySendError::Full(value)) => value,
        };
        waiter.wait();
    }
}

pub(crate) fn has_fired(stop: &GateReceiver) -> bool {
    stop.is_open()
}

impl<T> Sender<T> {
    pub(crate) fn try_send(&self, value: T) -> Result<(), TrySendError<T>> {
        self.0.lock().push(value)
    }

    /// `try_send` that has `waiter` woken when a full channel has changed.
    fn poll_send(&self, value: T, waiter: &Waiter) -> Result<(), TrySendError<T>> {
        let mut state = self.0.lock();
        let sent = state.push(value);
        if sent.is_err() {
            state.waiters.add(waiter);
        }
        sent
    }
}

impl<T> State<T> {
    fn push(&mut self, value: T) -> Result<(), TrySendError<T>> {
        if self.receivers == 0 {
            return Err(TrySendError::Disconnected(value));
        }
        if self.queue.len() >= self.capacity {
            return Err(TrySendError::Full(value));
        }
        self.queue.push_back(value);
        self.waiters.wake_all();
        Ok(())
    }
}

impl<T> Receiver<T> {
    pub(crate) fn recv(&self) -> Result<T, RecvError> {
        let waiter = Waiter::new();
        loop {
            let mut state = self.0.lock();
            if let Some(value) = state.queue.pop_front() {
                state.waiters.wake_all();
                return Ok(value);
            }
            if state.senders == 0 {
                return Err(RecvError);
            }
            state.waiters.add(&waiter);
            drop(state);
            waiter.wait();
        }
    }
}

impl<T> Clone for Sender<T> {
    fn clone(&self) -> Self {
        self.0.lock().senders += 1;
        Self(self.0.clone())
    }
}

impl<T> Clone for Receiver<T> {
    fn clone(&self) -> Self {
        self.0.lock().receivers += 1;
        Self(self.0.clone())
    }
}

impl<T> Drop for Sender<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.senders -= 1;
        if state.senders == 0 {
            state.waiters.wake_all();
        }
    }
}

impl<T> Drop for Receiver<T> {
    fn drop(&mut self) {
        let mut state = self.0.lock();
        state.receivers -= 1;
        if state.receivers == 0 {
            state.waiters.wake_all();
        }
    }
}
