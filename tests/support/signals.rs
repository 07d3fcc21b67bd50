//! Signals to threads, and what a thread does about them.
#![allow(dead_code, reason = "each test binary uses a part of it")]
#![allow(
    unsafe_code,
    reason = "signals of single threads have no safe interface"
)]

use std::mem::zeroed;
use std::ptr::{null, null_mut};

use libc::c_int;

pub(crate) fn own_tid() -> u32 {
    let tid = rustix::thread::gettid().as_raw_nonzero().get();
    tid.unsigned_abs()
}

/// Has the calling thread block the signal, or all of them, or no longer.
pub(crate) fn set_blocked(signal: Option<c_int>, blocked: bool) {
    let how = match blocked {
        true => libc::SIG_BLOCK,
        false => libc::SIG_UNBLOCK,
    };
    // SAFETY: all zeros is a set; each call gets one that lives through it, and the mask is the
    // calling thread's own.
    unsafe {
        let mut set: libc::sigset_t = zeroed();
        match signal {
            Some(signal) => libc::sigaddset(&raw mut set, signal),
            None => libc::sigfillset(&raw mut set),
        };
        assert_eq!(libc::pthread_sigmask(how, &raw const set, null_mut()), 0);
    }
}

/// Sends the signal to a thread of this process, with nothing that goes with it.
#[inline(never)]
pub(crate) fn send_plain(tid: u32, signal: c_int) {
    // SAFETY: three numbers, for a thread of this process.
    let sent = unsafe { libc::syscall(libc::SYS_tgkill, libc::getpid(), tid, signal) };
    std::hint::black_box(sent);
}

/// Puts a handler in place, on the thread's signal stack if that is asked for.
pub(crate) fn handle(signal: c_int, handler: extern "C" fn(c_int), on_own_stack: bool) {
    // SAFETY: all zeros is an action; the handlers of these tests only look at atomics.
    unsafe {
        let mut action: libc::sigaction = zeroed();
        action.sa_sigaction = handler as libc::sighandler_t;
        action.sa_flags = match on_own_stack {
            true => libc::SA_ONSTACK,
            false => 0,
        };
        assert_eq!(libc::sigaction(signal, &raw const action, null_mut()), 0);
        assert_eq!(libc::sigaction(signal, null(), &raw mut action), 0);
    }
}

/// Whether the signal waits for that thread.
pub(crate) fn in_wait(tid: u32, signal: c_int) -> bool {
    let status = std::fs::read_to_string(format!("/proc/self/task/{tid}/status")).unwrap();
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("SigPnd:\t"));
    let set = u64::from_str_radix(line.unwrap(), 16).unwrap();
    set & (1 << (signal - 1)) != 0
}
