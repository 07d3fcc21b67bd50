//! What runs inside the signal handler, and the one look at what was there before it.
//!
//! # Invariants
//!
//! 1. A slot's action is registered once and stays: signal-hook never takes its handler out again,
//!    so what the kernel would have done has to be done by somebody.
//! 2. While a slot is heard, its action counts, and does nothing else. While it is not, the action
//!    counts nothing and does what the kernel would have done before.
//! 3. Only who holds the hub's lock changes `heard` or takes a count.
//!
//! The action only touches atomics of statics, and calls what signal-hook documents as safe in a
//! handler.
#![allow(unsafe_code)]

use std::io;
use std::ptr;
use std::sync::atomic::AtomicUsize;

use signal_hook::low_level;

use super::set::MAX_SIGNAL;
use crate::sync::{AtomicBool, Ordering};

static SLOTS: [Slot; MAX_SIGNAL + 1] = [const { Slot::new() }; MAX_SIGNAL + 1];

/// All that the action knows of one signal.
struct Slot {
    installed: AtomicBool,
    heard: AtomicBool,
    /// The kernel's default was in force before.
    was_default: AtomicBool,
    count: AtomicUsize,
}

impl Slot {
    const fn new() -> Self {
        Self {
            installed: AtomicBool::new(false),
            heard: AtomicBool::new(false),
            was_default: AtomicBool::new(false),
            count: AtomicUsize::new(0),
        }
    }

    /// In the handler. SeqCst throughout: signals are rare, and the order of two slots or flags is
    /// then never a question.
    fn arrived(&self, signal: i32) {
        if self.heard.load(Ordering::SeqCst) {
            self.count.fetch_add(1, Ordering::SeqCst);
        } else if self.was_default.load(Ordering::SeqCst)
            && low_level::emulate_default_handler(signal).is_err()
        {
            // Not in signal-hook's table, such as the real-time ones: their default is to end.
            low_level::exit(128 + signal);
        }
    }
}

fn slot(signal: i32) -> &'static Slot {
    &SLOTS[signal.unsigned_abs() as usize]
}

/// Puts the action in place, not heard yet. Under the hub's lock.
pub(super) fn install(signal: i32) -> io::Result<()> {
    let slot = slot(signal);
    if slot.installed.load(Ordering::SeqCst) {
        return Ok(());
    }
    slot.was_default
        .store(is_default(signal)?, Ordering::SeqCst);
    let action = move || slot.arrived(signal);
    // SAFETY: the action is async-signal-safe and does not panic: it loads and adds to atomics of
    // a static, and calls `emulate_default_handler` and `exit`, which signal-hook documents as
    // async-signal-safe. It takes no lock, allocates nothing, and drops nothing.
    unsafe { low_level::register(signal, action) }?;
    slot.installed.store(true, Ordering::SeqCst);
    Ok(())
}

/// From now on arrivals are counted, from zero. Under the hub's lock.
pub(super) fn hear(signal: i32) {
    let slot = slot(signal);
    if !slot.heard.load(Ordering::SeqCst) {
        slot.count.store(0, Ordering::SeqCst);
        slot.heard.store(true, Ordering::SeqCst);
    }
}

/// From now on arrivals do what they did before the first [`hear`]. Under the hub's lock.
pub(super) fn unhear(signal: i32) {
    slot(signal).heard.store(false, Ordering::SeqCst);
}

/// How many arrived since this was last asked. Under the hub's lock.
pub(super) fn take(signal: i32) -> u64 {
    let slot = slot(signal);
    match slot.heard.load(Ordering::SeqCst) {
        true => slot.count.swap(0, Ordering::SeqCst) as u64,
        false => 0,
    }
}

/// Whether the kernel's default is in force for `signal`.
fn is_default(signal: i32) -> io::Result<bool> {
    // SAFETY: `sigaction` is a C structure of integers, pointers and function pointers that may be
    // null: all zeros is a value of it.
    let mut now: libc::sigaction = unsafe { std::mem::zeroed() };
    // SAFETY: a null pointer for the new action makes it a query; `now` lives through the call and
    // is of the type that is written. An unknown number is an error, not undefined.
    let answer = unsafe { libc::sigaction(signal, ptr::null(), &raw mut now) };
    match answer {
        0 => Ok(now.sa_sigaction == libc::SIG_DFL),
        _ => Err(io::Error::last_os_error()),
    }
}
