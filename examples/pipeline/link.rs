//! What is between two stages: a sender never waits for the receiver.
//!
//! Invariants
//! 1. While anything is held in the spill, what comes goes behind it: nothing overtakes.
//! 2. A bell is rung after each append and after `finish`, outside the lock; the pump looks after
//!    each ring, so it sees both.
//! 3. The channel is closed by the pump, when nothing more can come.

use std::io;
use std::path::PathBuf;

use cleanbreak::channel::TrySendError;
use cleanbreak::{CancelToken, SafeChannel, SafeReceiver, SafeSender};
use crossbeam_channel::{Receiver, Sender, bounded, select};
use parking_lot::Mutex;

use super::order::Order;
use super::spill::Spill;

/// Orders in memory between two stages.
const ROOM: usize = 64;

pub(crate) struct Link {
    sender: SafeSender<Order>,
    state: Mutex<State>,
    bell: Sender<()>,
    rung: Receiver<()>,
}

struct State {
    spill: Spill,
    finished: bool,
}

impl Link {
    pub(crate) fn create(path: PathBuf) -> io::Result<(Self, SafeReceiver<Order>)> {
        let (sender, receiver) = SafeChannel::bounded(ROOM);
        let (bell, rung) = bounded(1);
        let spill = Spill::create(path)?;
        let finished = false;
        let state = Mutex::new(State { spill, finished });
        let link = Self {
            sender,
            state,
            bell,
            rung,
        };
        Ok((link, receiver))
    }

    /// Sends an order on. Waits only if neither the channel nor the disk has room; an order that
    /// finds none until the token is cancelled comes back.
    pub(crate) fn push(&self, order: Order, token: &CancelToken) -> Result<(), Order> {
        match self.push_now(order) {
            Ok(()) => Ok(()),
            Err(order) => {
                let sent = self.sender.send_or_cancel(order, token);
                sent.map_err(|refused| refused.into_inner())
            }
        }
    }

    fn push_now(&self, order: Order) -> Result<(), Order> {
        let mut state = self.state.lock();
        let order = match state.spill.is_empty() {
            false => order,
            true => match self.sender.try_send(order) {
                Ok(()) => return Ok(()),
                Err(TrySendError::Full(order) | TrySendError::Closed(order)) => order,
            },
        };
        let spilled = state.spill.append(&order);
        drop(state);
        self.bell.try_send(()).ok();
        spilled.map_err(|_| order)
    }

    /// Nothing more will be pushed.
    pub(crate) fn finish(&self) {
        self.state.lock().finished = true;
        self.bell.try_send(()).ok();
    }

    /// Moves what was spilled into the channel, until all is done or the token is cancelled.
    pub(crate) fn pump(&self, token: &CancelToken) -> io::Result<()> {
        'pump: loop {
            let mut state = self.state.lock();
            let Some(order) = state.spill.take()? else {
                if state.finished {
                    break 'pump;
                }
                drop(state);
                select! {
                    recv(token.done()) -> _ => break 'pump,
                    recv(self.rung) -> _ => continue 'pump,
                }
            };
            drop(state);
            match self.sender.send_or_cancel(order, token) {
                Ok(()) => self.state.lock().spill.moved()?,
                Err(refused) => {
                    self.state.lock().spill.put_back(refused.into_inner());
                    break 'pump;
                }
            }
        }
        // Cancelled or done: invariant 3. What is in the channel stays there to be received.
        self.sender.close();
        Ok(())
    }

    /// Hands back what never arrived, the oldest first; how many orders were spilled in all.
    pub(crate) fn hand_back(
        self,
        receiver: &SafeReceiver<Order>,
        mut take: impl FnMut(Order),
    ) -> io::Result<u64> {
        receiver.close_and_drain().into_iter().for_each(&mut take);
        let mut spill = self.state.into_inner().spill;
        while let Some(order) = spill.take()? {
            take(order);
            spill.moved()?;
        }
        let total = spill.total;
        spill.remove()?;
        Ok(total)
    }
}
