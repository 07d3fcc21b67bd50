//! What runs in the signal handler, and what puts it in place and calls it.
//!
//! # Invariants
//!
//! 1. The handler copies registers and bytes of the stack, and does nothing else. It takes no lock,
//!    allocates nothing, does not unwind, does not panic, and leaves `errno` as it was.
//! 2. It follows no pointer but those that the kernel hands it: what the signal carries is the
//!    number of a slot and a generation, which are checked, so that a signal from a stranger does
//!    nothing.
//! 3. It stays for ever. The kernel's default for such signals is to end the process, and a signal
//!    may be late by any time.
#![allow(unsafe_code)]

use std::ffi::{c_int, c_long, c_void};
use std::io;
use std::ops::RangeInclusive;
use std::ptr;
use std::sync::atomic::AtomicU32;

use super::slots::{CAPACITY, PC, Slot, Ticket};

/// Below the stack pointer: the unwind tables may refer to what was just popped.
const RED_ZONE: u64 = 128;

/// Where the kernel has put the registers, in the order of the unwind tables; last the instruction.
static ORDER: [c_int; PC + 1] = [
    libc::REG_RAX,
    libc::REG_RDX,
    libc::REG_RCX,
    libc::REG_RBX,
    libc::REG_RSI,
    libc::REG_RDI,
    libc::REG_RBP,
    libc::REG_RSP,
    libc::REG_R8,
    libc::REG_R9,
    libc::REG_R10,
    libc::REG_R11,
    libc::REG_R12,
    libc::REG_R13,
    libc::REG_R14,
    libc::REG_R15,
    libc::REG_RIP,
];

/// The handler.
extern "C" fn on_signal(_: c_int, info: *mut libc::siginfo_t, context: *mut c_void) {
    // SAFETY: the address of the calling thread's own `errno`, which lives as long as the thread.
    let errno = unsafe { libc::__errno_location() };
    // SAFETY: as above; an integer.
    let before = unsafe { *errno };
    // SAFETY: installed with SA_SIGINFO, so the kernel passes both, of these types, for as long as
    // the handler runs, and nobody else writes to them.
    let (info, context) = unsafe { (&*info, &*context.cast::<libc::ucontext_t>()) };
    if info.si_code == libc::SI_QUEUE {
        // SAFETY: a signal with this code carries a value; any bits are one.
        let word = unsafe { info.si_value() }.sival_ptr.addr() as u64;
        answer(word, &context.uc_mcontext.gregs);
    }
    // SAFETY: as above.
    unsafe { *errno = before };
}

/// Copies what was interrupted, if somebody still waits for it.
fn answer(word: u64, saved: &[libc::greg_t; 23]) {
    let Some(slot) = Slot::claim(word) else {
        return;
    };
    // In few words, so that it needs little stack, also unoptimised.
    let mut number = 0;
    while let Some(&at) = ORDER.get(number) {
        slot.register(number, saved_at(saved, at));
        number += 1;
    }
    let sp = saved_at(saved, libc::REG_RSP);
    let (base, length) = copy_stack(sp.saturating_sub(RED_ZONE) & !7, slot.memory())
        // What is below may not be mapped.
        .or_else(|| copy_stack(sp & !7, slot.memory()))
        .unwrap_or((sp, 0));
    slot.copied(base, length);
    wake(slot.end());
}

fn saved_at(saved: &[libc::greg_t; 23], at: c_int) -> u64 {
    match saved.get(at as usize) {
        Some(value) => value.cast_unsigned(),
        None => 0,
    }
}

/// Copies from `base` up to where the thread's own block begins, above its stack; or, if it is on
/// another stack, as much as there is memory for. The kernel copies: what is not mapped is left out.
fn copy_stack(base: u64, memory: usize) -> Option<(u64, usize)> {
    let above = thread_block().checked_sub(base).map(usize::try_from);
    let length = match above {
        Some(Ok(above)) if above < CAPACITY => above,
        _ => CAPACITY,
    };
    let local = libc::iovec {
        iov_base: ptr::with_exposed_provenance_mut(memory),
        iov_len: length,
    };
    let remote = libc::iovec {
        iov_base: ptr::with_exposed_provenance_mut(base as usize),
        iov_len: length,
    };
    // SAFETY: async-signal-safe. `local` is memory of `CAPACITY` bytes that is leaked, was exposed,
    // and belongs to this handler alone until it ends the slot; `remote` is only read from, by the
    // kernel, which checks it as it does. To this memory no reference is made.
    let copied = unsafe {
        libc::process_vm_readv(libc::getpid(), &raw const local, 1, &raw const remote, 1, 0)
    };
    usize::try_from(copied).ok().map(|copied| (base, copied))
}

/// The address of the calling thread's control block: in the C libraries of Linux it is above the
/// thread's stack. No more than a bound.
fn thread_block() -> u64 {
    let block;
    // SAFETY: the ABI of x86-64 has the block's own address in its first word, and `fs` point to it.
    // Reads that word, and touches neither stack nor flags.
    unsafe {
        std::arch::asm!(
            "mov {block}, fs:[0]",
            block = out(reg) block,
            options(nostack, readonly, preserves_flags)
        );
    }
    block
}

/// Wakes who sleeps on the word.
fn wake(word: &'static AtomicU32) {
    let wake = libc::FUTEX_WAKE | libc::FUTEX_PRIVATE_FLAG;
    // SAFETY: async-signal-safe: a system call, of which the kernel only looks at the word's
    // address, and the word is a static.
    unsafe { libc::syscall(libc::SYS_futex, word.as_ptr(), wake, c_int::MAX) };
}

/// The signals that may be used.
pub(in crate::diagnose) fn real_time() -> Option<RangeInclusive<c_int>> {
    Some(libc::SIGRTMIN()..=libc::SIGRTMAX())
}

fn none() -> libc::sigaction {
    // SAFETY: `sigaction` is a C structure of integers, pointers and function pointers that may be
    // null: all zeros is a value of it.
    unsafe { std::mem::zeroed() }
}

/// The action of a signal.
fn action_of(signal: c_int) -> io::Result<libc::sigaction> {
    let mut now = none();
    // SAFETY: a null pointer for the new action makes it a query; `now` lives through the call and
    // is of the type that is written. An unknown number is an error, not undefined.
    let answer = unsafe { libc::sigaction(signal, ptr::null(), &raw mut now) };
    match answer {
        0 => Ok(now),
        _ => Err(io::Error::last_os_error()),
    }
}

/// Whether the kernel's default is in force.
pub(in crate::diagnose) fn is_default(signal: c_int) -> io::Result<bool> {
    action_of(signal).map(|action| action.sa_sigaction == libc::SIG_DFL)
}

/// Whether the handler is in place.
pub(in crate::diagnose) fn is_ours(signal: c_int) -> bool {
    action_of(signal).is_ok_and(|action| action.sa_sigaction == handler())
}

fn handler() -> libc::sighandler_t {
    (on_signal as extern "C" fn(c_int, *mut libc::siginfo_t, *mut c_void)) as libc::sighandler_t
}

/// The signals whose handlers run on a stack of their own. While one does, it is blocked.
pub(in crate::diagnose) fn on_own_stacks() -> u64 {
    let own_stack = |signal: &c_int| {
        action_of(*signal).is_ok_and(|action| action.sa_flags & libc::SA_ONSTACK != 0)
    };
    let signals = (1..=libc::SIGRTMAX()).filter(own_stack);
    signals.fold(0, |set, signal| set | 1 << (signal - 1))
}

/// Puts the handler in place, for ever. `false` if there is another, which stays.
pub(in crate::diagnose) fn install(signal: c_int) -> io::Result<bool> {
    if !is_default(signal)? {
        return Ok(false);
    }
    let mut action = none();
    action.sa_sigaction = handler();
    // On the thread's signal stack if it has one: its own may be at its end. System calls are begun
    // again where the kernel does that.
    action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK | libc::SA_RESTART;
    // SAFETY: fills in the set that it is given. All: no handler runs on top of this one.
    unsafe { libc::sigfillset(&raw mut action.sa_mask) };
    let before = exchange(signal, &action)?;
    if before.sa_sigaction == libc::SIG_DFL {
        return Ok(true);
    }
    // Somebody was quicker.
    exchange(signal, &before)?;
    Ok(false)
}

/// Puts `action` in place; the answer is the one before.
fn exchange(signal: c_int, action: &libc::sigaction) -> io::Result<libc::sigaction> {
    let mut before = none();
    // SAFETY: `action` is either `on_signal`, which is of the type that SA_SIGINFO asks for, is
    // async-signal-safe and does not unwind, or one that the system has given out; both live through
    // the call.
    let answer = unsafe { libc::sigaction(signal, ptr::from_ref(action), &raw mut before) };
    match answer {
        0 => Ok(before),
        _ => Err(io::Error::last_os_error()),
    }
}

/// As the kernel takes it of who sends a signal with a value.
#[repr(C)]
struct Info {
    signal: c_int,
    errno: c_int,
    code: c_int,
    _padding: c_int,
    pid: libc::pid_t,
    uid: libc::uid_t,
    value: u64,
    _rest: [u64; 12],
}

const _: () = assert!(size_of::<Info>() == size_of::<libc::siginfo_t>());

/// Has the thread run the handler for `ticket`, now or when it no longer blocks the signal. An error
/// if there is no such thread, or the system has too many signals in wait.
pub(in crate::diagnose) fn send(tid: u32, signal: c_int, ticket: &Ticket) -> io::Result<()> {
    send_word(tid, signal, ticket.word())
}

fn send_word(tid: u32, signal: c_int, word: u64) -> io::Result<()> {
    // SAFETY: these two cannot fail and touch no memory.
    let (pid, uid) = unsafe { (libc::getpid(), libc::getuid()) };
    let info = Info {
        signal,
        errno: 0,
        code: libc::SI_QUEUE,
        _padding: 0,
        pid,
        uid,
        value: word,
        _rest: [0; 12],
    };
    let (pid, tid) = (c_long::from(pid), c_long::from(tid));
    // SAFETY: the kernel reads `info`, which is as large as it expects, and lives through the call.
    // The signal goes to a thread of this process (the first number says so), which has the handler.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_rt_tgsigqueueinfo,
            pid,
            tid,
            c_long::from(signal),
            &raw const info,
        )
    };
    match sent {
        0 => Ok(()),
        _ => Err(io::Error::last_os_error()),
    }
}

#[cfg(test)]
#[allow(
    clippy::disallowed_methods,
    reason = "threads whose signals are blocked, that the library does not know"
)]
mod tests {
    use std::sync::mpsc;
    use std::thread;

    use super::super::slots::Copied;
    use super::*;
    use crate::diagnose::StackSignal;

    fn set_blocked(signal: c_int, blocked: bool) {
        let how = match blocked {
            true => libc::SIG_BLOCK,
            false => libc::SIG_UNBLOCK,
        };
        // SAFETY: all zeros is a set; both calls get one that lives through them, and change the
        // calling thread alone.
        unsafe {
            let mut set: libc::sigset_t = std::mem::zeroed();
            libc::sigaddset(&raw mut set, signal);
            assert_eq!(
                libc::pthread_sigmask(how, &raw const set, ptr::null_mut()),
                0
            );
        }
    }

    /// Has a thread block the signal, gives it one with the word that `word` makes of the ticket of a
    /// request that was given up, and of the next request for the same slot; and lets it come. The
    /// answer is what the next request has then.
    fn late(word: impl FnOnce(u64, &Ticket) -> u64) -> Option<Copied> {
        let signal = StackSignal::install().unwrap().number();
        let (tell, told) = mpsc::channel();
        let (let_go, go) = mpsc::channel::<()>();
        let thread = thread::spawn(move || {
            set_blocked(signal, true);
            let tid = rustix::thread::gettid().as_raw_nonzero().get();
            tell.send(tid.unsigned_abs()).unwrap();
            go.recv().unwrap();
            set_blocked(signal, false); // what was in wait comes now, before this returns
        });
        let tid = told.recv().unwrap();
        let (next, old) = loop {
            let old = Ticket::arm(&mut 0).unwrap();
            let word = old.word();
            drop(old); // given up
            let next = Ticket::arm(&mut 0).unwrap();
            if next.is_of_slot(word) {
                break (next, word); // else another test was quicker
            }
        };
        send_word(tid, signal, word(old, &next)).unwrap();
        assert!(next.take().is_none(), "it is blocked");
        let_go.send(()).unwrap();
        thread.join().unwrap();
        let copied = next.take();
        assert_eq!(copied.is_none(), next.still_waits());
        copied
    }

    #[test]
    fn a_late_signal_leaves_the_slot_of_the_next_request_alone() {
        assert!(late(|old, _| old).is_none());
    }

    /// The negative control: with the right generation, the same signal is answered.
    #[test]
    fn a_signal_for_the_request_is_answered() {
        let copied = late(|_, next| next.word()).unwrap();
        assert!(!copied.bytes.is_empty());
        assert!(copied.base <= copied.registers[7]);
        assert!(copied.registers[7] < copied.base + copied.bytes.len() as u64);
    }

    #[test]
    fn a_signal_from_a_stranger_does_nothing() {
        for word in [0, u64::MAX, 1 << 63, 12_345] {
            assert!(late(|_, _| word).is_none());
        }
    }
}
