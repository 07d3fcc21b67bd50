//! Stacks of threads that are not stopped for it: a copy, unwound and named afterwards. Who copies is
//! the kernel, for a thread that sleeps, or the thread itself in a signal handler.

mod frame_pointer;
pub(super) mod handler;
mod memory;
#[cfg(any(test, fuzzing))]
pub(crate) mod random;
pub(super) mod slots;
mod symbols;
mod sys;
mod tables;
mod unwind;

pub(super) use sys::{Here, here};

use memory::Copy;
use slots::Copied;
use symbols::Symboliser;
use tables::Tables;
use unwind::Registers;

use super::dump::Module;
use super::stack::{Frame, StackProblem, Walk};
use crate::contain::contain;
use crate::sync::Arc;

/// All that is kept from one dump to the next.
#[derive(Default)]
pub(super) struct Stacks {
    tables: Tables,
    symboliser: Symboliser,
    copy: Copy,
}

impl Stacks {
    /// Looks whether code was loaded or unloaded. If so, what was found since the last such look
    /// may be wrong.
    pub(super) fn refresh(&mut self) -> bool {
        let changed = self.tables.refresh();
        if changed {
            self.symboliser.forget_addresses();
        }
        changed
    }

    /// Of a thread of which only this is known. It must not run meanwhile; whether it has is for
    /// the caller to find out, and to throw the result away.
    pub(super) fn walk_blocked(&mut self, sp: u64, pc: u64) -> Walk {
        self.walk(Registers::new(pc, sp, None))
    }

    /// Of the calling thread, from a function that it is in.
    pub(super) fn walk_here(&mut self, here: Here) -> Walk {
        self.walk(Registers::new(here.pc, here.sp, Some(here.rbp)))
    }

    /// Of a thread as its signal handler has copied it.
    pub(super) fn walk_copied(&mut self, copied: Copied) -> Walk {
        if copied.bytes.is_empty() {
            return Walk::broken(StackProblem::Denied);
        }
        let cut = copied.bytes.len() >= slots::CAPACITY;
        self.copy.freeze(copied.base, copied.bytes);
        let mut walk = self.climb(Registers::all(copied.pc, copied.registers));
        if cut && walk.end == Err(StackProblem::Garbled) {
            walk.end = Err(StackProblem::TooDeep);
        }
        walk
    }

    fn walk(&mut self, start: Registers) -> Walk {
        if self.copy.start(start.sp()).is_err() {
            return Walk::broken(StackProblem::Denied);
        }
        self.climb(start)
    }

    fn climb(&mut self, start: Registers) -> Walk {
        let Self { tables, copy, .. } = self;
        // Of tables that nobody has checked: should their reader panic, one stack is missing.
        let walk = contain(|| unwind::walk(tables, copy, start));
        walk.unwrap_or_else(|| Walk::broken(StackProblem::Garbled))
    }

    /// The functions at one address, inlined ones first; at least one.
    pub(super) fn frames(&mut self, address: u64) -> Arc<[Frame]> {
        let Self {
            tables, symboliser, ..
        } = self;
        let frames = contain(|| symboliser.frames(tables, address));
        frames.unwrap_or_else(|| [symbols::bare(address, address, None)].into())
    }

    /// What code is loaded.
    pub(super) fn modules(&self) -> Vec<Module> {
        let modules = self.tables.modules().iter();
        let described = modules.map(|module| Module {
            path: symbols::shown(&symbols::file_of(&module.loaded)),
            text: module.loaded.text.clone(),
            base: module.loaded.base,
        });
        described.collect()
    }
}
