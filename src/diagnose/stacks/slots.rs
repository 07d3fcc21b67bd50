//! Where signal handlers leave what they copied: slots that are never freed.
//!
//! | phase | who may change it |
//! |---|---|
//! | idle | who asks: to armed, with a new generation |
//! | armed | the handler with that generation: to writing; who asked, and waits no more: to idle |
//! | writing | that handler: to done; who asked, and waits no more: to abandoned |
//! | done | who asked: to idle |
//! | abandoned | that handler: to idle |
//!
//! # Invariants
//!
//! 1. A generation is used once. It goes with the signal, so a handler that is late finds another
//!    one in the slot, or another phase, and touches nothing.
//! 2. Only the one handler that has moved a slot from armed to writing writes to it, and only until
//!    it moves it on. Nobody else reads or arms it meanwhile: a slot whose handler never gets to its
//!    end is lost, not used again.
//! 3. A slot has its memory before it is armed for the first time, and keeps it for ever.
//! 4. What the handler calls takes no lock, allocates nothing and does not panic.

use std::sync::atomic::{AtomicU32, AtomicUsize};

use rustix::io::Errno;
use rustix::thread::futex;
use rustix::time::Timespec;

use super::memory;
use super::tables::REGISTERS;
use crate::sync::{AtomicU64, Ordering};

/// The most that is copied of a stack.
pub(super) const CAPACITY: usize = 512 << 10;
/// How many threads can be asked at a time.
const SLOTS: usize = 1 << INDEX_BITS;
const INDEX_BITS: u32 = 10;
const PHASE_BITS: u32 = 3;

/// The number of the instruction, among the registers.
pub(super) const PC: usize = REGISTERS;

const IDLE: u64 = 0;
const ARMED: u64 = 1;
const WRITING: u64 = 2;
const DONE: u64 = 3;
const ABANDONED: u64 = 4;

static TABLE: [Slot; SLOTS] = [const { Slot::new() }; SLOTS];
/// Of the next request. 51 bits are enough for a thousand a second until the sun is out.
static GENERATION: AtomicU64 = AtomicU64::new(1);
/// How many handlers have come to their end: what who asked sleeps on.
static ANSWERS: AtomicU32 = AtomicU32::new(0);

#[derive(Debug)]
pub(super) struct Slot {
    /// The generation, and in the lowest three bits the phase.
    state: AtomicU64,
    /// Numbered as in the unwind tables; the last, [`PC`], is the instruction.
    registers: [AtomicU64; REGISTERS + 1],
    /// Where the copy was taken.
    base: AtomicU64,
    length: AtomicUsize,
    /// Of the memory that the copy is in; 0 before there is any.
    memory: AtomicUsize,
}

/// What a handler has left.
#[derive(Debug)]
pub(in crate::diagnose) struct Copied {
    pub(super) registers: [u64; REGISTERS],
    pub(super) pc: u64,
    pub(super) base: u64,
    /// Empty if the handler was not allowed to read its stack.
    pub(super) bytes: Vec<u8>,
}

/// A slot that was armed. Dropped, a handler that comes later does nothing.
#[derive(Debug)]
pub(in crate::diagnose) struct Ticket {
    index: usize,
    generation: u64,
}

const fn state(generation: u64, phase: u64) -> u64 {
    generation << PHASE_BITS | phase
}

impl Slot {
    const fn new() -> Self {
        Self {
            state: AtomicU64::new(IDLE),
            registers: [const { AtomicU64::new(0) }; REGISTERS + 1],
            base: AtomicU64::new(0),
            length: AtomicUsize::new(0),
            memory: AtomicUsize::new(0),
        }
    }

    fn step(&self, generation: u64, from: u64, to: u64) -> bool {
        let (from, to) = (state(generation, from), state(generation, to));
        // AcqRel: who arms hands the memory to the handler, the handler the copy to who asked, who
        // asked the slot to the next request.
        let stepped = self
            .state
            .compare_exchange(from, to, Ordering::AcqRel, Ordering::Acquire);
        stepped.is_ok()
    }

    /// `false` if there is no memory to be had.
    fn has_memory(&self) -> bool {
        if self.memory.load(Ordering::Acquire) != 0 {
            return true;
        }
        let mut memory = Vec::<u8>::new();
        if memory.try_reserve_exact(CAPACITY).is_err() {
            return false;
        }
        // Not touched: the system gives pages when they are first written.
        let address = memory.as_mut_ptr().expose_provenance();
        let none_yet =
            self.memory
                .compare_exchange(0, address, Ordering::AcqRel, Ordering::Acquire);
        if none_yet.is_ok() {
            std::mem::forget(memory); // invariant 3
        }
        true
    }

    /// By the handler: the slot that the signal's word names, if that still waits for it.
    pub(super) fn claim(word: u64) -> Option<Claimed> {
        let (index, generation) = (word % SLOTS as u64, word >> INDEX_BITS);
        let slot = TABLE.get(usize::try_from(index).ok()?)?;
        let claimed = slot.step(generation, ARMED, WRITING);
        claimed.then_some(Claimed { slot, generation })
    }
}

/// A slot that belongs to the handler which runs.
pub(super) struct Claimed {
    slot: &'static Slot,
    generation: u64,
}

impl Claimed {
    /// The address of [`CAPACITY`] bytes that are the handler's until it [ends](Self::end).
    pub(super) fn memory(&self) -> usize {
        self.slot.memory.load(Ordering::Acquire)
    }

    /// Sets the register of this number.
    pub(super) fn register(&self, number: usize, value: u64) {
        if let Some(register) = self.slot.registers.get(number) {
            register.store(value, Ordering::Relaxed);
        }
    }

    pub(super) fn copied(&self, base: u64, length: usize) {
        self.slot.base.store(base, Ordering::Relaxed);
        self.slot.length.store(length, Ordering::Relaxed);
    }

    /// Hands the slot over. The answer is the word to wake sleepers at.
    pub(super) fn end(self) -> &'static AtomicU32 {
        if !self.slot.step(self.generation, WRITING, DONE) {
            self.slot.step(self.generation, ABANDONED, IDLE);
        }
        ANSWERS.fetch_add(1, Ordering::Release); // after the step: who sees it sees that
        &ANSWERS
    }
}

impl Ticket {
    /// Takes a slot that is idle, from the number `from` on, which is moved on. `None` if there is
    /// none, or no memory.
    pub(in crate::diagnose) fn arm(from: &mut usize) -> Option<Self> {
        while let Some(slot) = TABLE.get(*from) {
            let index = *from;
            *from += 1;
            let known = slot.state.load(Ordering::Acquire);
            let idle = known & ((1 << PHASE_BITS) - 1) == IDLE;
            if !idle || !slot.has_memory() {
                continue;
            }
            let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
            let armed = state(generation, ARMED);
            let taken =
                slot.state
                    .compare_exchange(known, armed, Ordering::AcqRel, Ordering::Acquire);
            if taken.is_ok() {
                return Some(Self { index, generation });
            }
        }
        None
    }

    /// What goes with the signal.
    pub(super) fn word(&self) -> u64 {
        self.generation << INDEX_BITS | self.index as u64
    }

    /// What the handler has left, once it has.
    pub(in crate::diagnose) fn take(&self) -> Option<Copied> {
        let slot = &TABLE[self.index];
        if slot.state.load(Ordering::Acquire) != state(self.generation, DONE) {
            return None;
        }
        let mut registers = [0; REGISTERS];
        for (value, register) in registers.iter_mut().zip(&slot.registers) {
            *value = register.load(Ordering::Relaxed);
        }
        let length = slot.length.load(Ordering::Relaxed).min(CAPACITY);
        let memory = slot.memory.load(Ordering::Acquire) as u64;
        Some(Copied {
            registers,
            pc: slot.registers[PC].load(Ordering::Relaxed),
            base: slot.base.load(Ordering::Relaxed),
            bytes: memory::copy_exact(memory, length).unwrap_or_default(),
        })
    }
}

#[cfg(test)]
impl Ticket {
    pub(super) fn is_of_slot(&self, word: u64) -> bool {
        word % SLOTS as u64 == self.index as u64
    }

    /// No handler has touched the slot since it was armed.
    pub(super) fn still_waits(&self) -> bool {
        TABLE[self.index].state.load(Ordering::Acquire) == state(self.generation, ARMED)
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let slot = &TABLE[self.index];
        // The handler may move it between two of these, always forwards, so one of them holds.
        let _stepped = slot.step(self.generation, ARMED, IDLE)
            || slot.step(self.generation, WRITING, ABANDONED)
            || slot.step(self.generation, DONE, IDLE);
    }
}

/// To be read before looking whether a handler is done.
pub(in crate::diagnose) fn answers() -> u32 {
    ANSWERS.load(Ordering::Acquire)
}

/// Sleeps until a handler has come to its end since [`answers`] was `seen`, or for so long. `true`
/// if it was so long.
pub(in crate::diagnose) fn await_answer(seen: u32, patience: std::time::Duration) -> bool {
    let timeout = Timespec {
        tv_sec: patience.as_secs().try_into().unwrap_or(i64::MAX),
        tv_nsec: patience.subsec_nanos().into(),
    };
    let waited = futex::wait(&ANSWERS, futex::Flags::PRIVATE, seen, Some(&timeout));
    waited == Err(Errno::TIMEDOUT)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slot_is_claimed_once_and_by_its_generation_alone() {
        let ticket = Ticket::arm(&mut 0).unwrap();
        assert!(Slot::claim(ticket.word() + (1 << INDEX_BITS)).is_none());
        assert!(Slot::claim(ticket.word() - (1 << INDEX_BITS)).is_none());
        let claimed = Slot::claim(ticket.word()).unwrap();
        assert!(Slot::claim(ticket.word()).is_none());
        (0..REGISTERS).for_each(|number| claimed.register(number, 7));
        claimed.register(PC, 8);
        claimed.copied(9, 0);
        assert!(ticket.take().is_none());
        let before = answers();
        claimed.end();
        assert_ne!(answers(), before);
        let copied = ticket.take().unwrap();
        assert_eq!((copied.registers, copied.pc), ([7; REGISTERS], 8));
        assert_eq!((copied.base, copied.bytes), (9, Vec::new()));
    }

    #[test]
    fn a_ticket_that_is_dropped_is_worth_nothing() {
        let ticket = Ticket::arm(&mut 0).unwrap();
        let word = ticket.word();
        drop(ticket);
        assert!(Slot::claim(word).is_none());
    }

    #[test]
    fn a_slot_that_is_written_to_is_not_armed_before_the_writer_has_ended() {
        let ticket = Ticket::arm(&mut 0).unwrap();
        let (index, generation) = (ticket.index, ticket.generation);
        let claimed = Slot::claim(ticket.word()).unwrap();
        drop(ticket);
        let mut all = Vec::new();
        let mut from = 0;
        while let Some(ticket) = Ticket::arm(&mut from) {
            assert_ne!(ticket.index, index);
            all.push(ticket);
            if from > index + 16 {
                break; // enough, and their memory stays
            }
        }
        assert!(!all.is_empty());
        claimed.end();
        let state = TABLE[index].state.load(Ordering::Acquire);
        assert!(state == super::state(generation, IDLE) || state >> PHASE_BITS > generation);
    }
}
