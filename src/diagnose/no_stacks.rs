//! In place of `stacks/` where there are none: the same shape.
#![cfg_attr(
    any(not(target_os = "linux"), cleanbreak_portable),
    allow(dead_code, reason = "nor is there anything to take them of")
)]

use super::dump::Module;
use super::stack::{Frame, StackProblem, Walk};
use crate::sync::Arc;

#[derive(Clone, Copy, Debug)]
pub(super) struct Here;

#[inline(always)]
pub(super) fn here() -> Here {
    Here
}

#[derive(Default)]
pub(super) struct Stacks;

impl Stacks {
    pub(super) fn refresh(&mut self) -> bool {
        false
    }

    pub(super) fn walk_blocked(&mut self, _sp: u64, _pc: u64) -> Walk {
        Walk::broken(StackProblem::Unsupported)
    }

    pub(super) fn walk_here(&mut self, _here: Here) -> Walk {
        self.walk_blocked(0, 0)
    }

    pub(super) fn frames(&mut self, _address: u64) -> Arc<[Frame]> {
        Arc::new([])
    }

    pub(super) fn modules(&self) -> Vec<Module> {
        Vec::new()
    }
}

pub(super) mod handler {
    use std::io::{self, ErrorKind};
    use std::ops::RangeInclusive;

    pub(in crate::diagnose) fn real_time() -> Option<RangeInclusive<i32>> {
        None
    }

    pub(in crate::diagnose) fn is_default(_signal: i32) -> io::Result<bool> {
        Err(ErrorKind::Unsupported.into())
    }

    pub(in crate::diagnose) fn is_ours(_signal: i32) -> bool {
        false
    }

    pub(in crate::diagnose) fn install(_signal: i32) -> io::Result<bool> {
        Err(ErrorKind::Unsupported.into())
    }
}
