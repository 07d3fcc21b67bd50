//! Signals: a thread that passes them on and never blocks, and a handler for the one that must not
//! wait for a thread.
//!
//! The second SIGINT or SIGTERM ends the process from inside the signal handler, so nothing can be
//! in its way: no stuck thread, no lock, no full pipe. The first one only sets the flag that arms
//! this, and is read by the thread.
//!
//! Exit status: a graceful stop is a success and exits 0, because the service did what it was told
//! and service managers and scripts read anything else as a failure. The impatient exit did not
//! finish its work: 128 + signal, as a shell would report it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use cleanbreak::{CancelToken, Cause, SafeSender};
use signal_hook::consts::{SIGHUP, SIGINT, SIGTERM};
use signal_hook::flag;
use signal_hook::iterator::Signals;

use super::workers::Reload;

pub(crate) fn install() -> io::Result<Signals> {
    let stopping = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        // The order matters: the exit looks at the flag before this same signal sets it.
        flag::register_conditional_shutdown(signal, 128 + signal, Arc::clone(&stopping))?;
        flag::register(signal, Arc::clone(&stopping))?;
    }
    Signals::new([SIGHUP, SIGINT, SIGTERM])
}

/// Runs until the signals' handle is closed.
pub(crate) fn watch(mut signals: Signals, stop: &CancelToken, reloads: &SafeSender<Reload>) {
    'signals: for signal in &mut signals {
        match signal {
            // A full channel holds a request that was not begun yet: it will do for this one too.
            SIGHUP => drop(reloads.try_send(Reload)),
            SIGINT | SIGTERM => drop(stop.cancel_with(Cause::signal(signal))),
            _ => continue 'signals,
        }
    }
}
