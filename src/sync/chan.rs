//! The crossbeam channel, as far as the protocols use it.

#[path = "unsent.rs"]
mod unsent;

pub(crate) use unsent::Unsent;

use crate::sync::GateReceiver;
use crossbeam_channel::{at, never, select_biased};
use std::convert::Infallible;
use std::time::Instant;

pub(crate) use crossbeam_channel::{Receiver, Sender, TrySendError};

/// Parks until `value` is sent, `gate` or `stop` disconnects, or `deadline` passes.
///
/// Biased: where several are ready, a reason not to send wins. Only `value` itself stands in
/// the send arm, and moving it cannot panic (a panic there would abort the process).
pub(crate) fn send_or_stop<T>(
    tx: &Sender<T>,
    value: T,
    gate: &GateReceiver,
    stop: Option<&GateReceiver>,
    deadline: Option<Instant>,
) -> Result<(), Unsent<T>> {
    let unstoppable = never::<Infallible>();
    let stop = stop.unwrap_or(&unstoppable);
    let timer = deadline.map_or_else(never, at);
    select_biased! {
        recv(gate) -> _ => Err(Unsent::Closed(value)),
        recv(stop) -> _ => Err(Unsent::Stopped(value)),
        send(tx, value) -> sent => sent.map_err(|refused| Unsent::Closed(refused.0)),
        recv(timer) -> _ => Err(Unsent::TimedOut(value)),
    }
}

/// Whether a `stop` has fired already.
#[inline]
pub(crate) fn has_fired(stop: &GateReceiver) -> bool {
    matches!(
        stop.try_recv(),
        Err(crossbeam_channel::TryRecvError::Disconnected)
    )
}
