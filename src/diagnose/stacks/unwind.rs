//! From the innermost function of a thread to its first one, over a copy of its stack.
//!
//! # Invariants
//!
//! 1. Nothing is read but through [`Copy`] and [`memory`](super::memory): garbage leads to a wrong
//!    word or to none, never to a crash.
//! 2. Each step goes strictly up the stack, except out of a signal handler that had a stack of its
//!    own, of which there are few; and there is a limit. So it ends.
//! 3. It has succeeded only if it has reached a function that the tables call a thread's first
//!    one. A wrong turn leads anywhere but there.
//! 4. A register that nothing says the value of is unknown, not guessed. The one exception is the
//!    frame pointer of a thread of which only stack pointer and instruction are known: see
//!    `frame_pointer.rs`.

use gimli::{EndianSlice, EvaluationResult, Expression, LittleEndian, Value};

use super::frame_pointer;
use super::memory::Copy;
use super::tables::{Cfa, ENCODING, PRESERVED, RBP, REGISTERS, RSP, Row, Rule, Tables};
use crate::diagnose::stack::{StackProblem, Walk};

/// Stacks deeper than this are not followed to their end.
pub(super) const DEEPEST: usize = 200_000;

/// More signal handlers with stacks of their own, one in the other, are not believed.
const MOST_JUMPS: usize = 64;

/// What the walk knows of the processor.
#[derive(Clone, Debug)]
pub(super) struct Registers {
    pub(super) pc: u64,
    values: [Option<u64>; REGISTERS],
}

impl Registers {
    pub(super) fn new(pc: u64, sp: u64, rbp: Option<u64>) -> Self {
        let mut values = [None; REGISTERS];
        values[RSP] = Some(sp);
        values[RBP] = rbp;
        Self { pc, values }
    }

    /// Of a thread that was interrupted: all are known.
    pub(super) fn all(pc: u64, values: [u64; REGISTERS]) -> Self {
        let values = values.map(Some);
        Self { pc, values }
    }

    pub(super) fn sp(&self) -> u64 {
        self.values[RSP].unwrap_or(0)
    }

    fn get(&self, register: usize) -> Option<u64> {
        *self.values.get(register)?
    }
}

pub(super) fn walk(tables: &mut Tables, stack: &mut Copy, start: Registers) -> Walk {
    let mut addresses = Vec::new();
    let end = climb(tables, stack, start, &mut addresses);
    Walk { addresses, end }
}

fn climb(
    tables: &mut Tables,
    stack: &mut Copy,
    mut at: Registers,
    addresses: &mut Vec<u64>,
) -> Result<(), StackProblem> {
    let mut exact = true;
    let mut jumps = 0;
    loop {
        // After a call that never returns may come another function already.
        let address = if exact { at.pc } else { at.pc.wrapping_sub(1) };
        addresses.push(address);
        let row = tables.row(address).ok_or(StackProblem::NoUnwindInfo)?;
        let Some(return_address) = &row.return_address else {
            return Ok(());
        };
        if addresses.len() >= DEEPEST {
            return Err(StackProblem::TooDeep);
        }
        let cfa = frame_address(tables, stack, &at, &row)?;
        if cfa <= at.sp() {
            jumps += 1;
            if !row.signal_frame || jumps > MOST_JUMPS {
                return Err(StackProblem::Garbled);
            }
        }
        at = up(stack, &at, &row, return_address, cfa)?;
        exact = row.signal_frame;
        if exact {
            leave_signal_stack(stack, at.sp())?;
        }
    }
}

fn frame_address(
    tables: &mut Tables,
    stack: &mut Copy,
    at: &Registers,
    row: &Row,
) -> Result<u64, StackProblem> {
    let (register, offset) = match &row.cfa {
        Cfa::Expression(code) => {
            return evaluate(stack, at, code, None).ok_or(StackProblem::Garbled);
        }
        Cfa::Offset(register, offset) => (*register, *offset),
    };
    let value = match at.get(register) {
        Some(value) => value,
        None if register == RBP => {
            frame_pointer::recover(tables, stack, at, row).ok_or(StackProblem::LostRegister)?
        }
        None => return Err(StackProblem::LostRegister),
    };
    Ok(value.wrapping_add_signed(offset))
}

/// The registers as the caller had them.
fn up(
    stack: &mut Copy,
    at: &Registers,
    row: &Row,
    return_address: &Rule,
    cfa: u64,
) -> Result<Registers, StackProblem> {
    let pc = apply(stack, at, return_address, cfa).ok_or(StackProblem::Garbled)?;
    let mut values = [None; REGISTERS];
    if row.signal_frame {
        // The interrupted function is not one that called: all its registers count.
        values = at.values;
    } else {
        for register in PRESERVED {
            values[register] = at.values[register];
        }
    }
    values[RSP] = Some(cfa);
    for (register, rule) in &row.saved {
        values[*register] = apply(stack, at, rule, cfa);
    }
    Ok(Registers { pc, values })
}

fn apply(stack: &mut Copy, at: &Registers, rule: &Rule, cfa: u64) -> Option<u64> {
    match rule {
        Rule::Lost => None,
        Rule::At(offset) => stack.word(cfa.wrapping_add_signed(*offset)),
        Rule::Is(offset) => Some(cfa.wrapping_add_signed(*offset)),
        Rule::In(register) => at.get(*register),
        Rule::IsExpression(code) => evaluate(stack, at, code, Some(cfa)),
        Rule::AtExpression(code) => {
            let address = evaluate(stack, at, code, Some(cfa))?;
            stack.word(address)
        }
    }
}

/// A handler may have run on a stack of its own: then the copy begins anew with the other one.
fn leave_signal_stack(stack: &mut Copy, sp: u64) -> Result<(), StackProblem> {
    if stack.word(sp).is_some() {
        return Ok(());
    }
    stack.change(sp).map_err(|_| StackProblem::Garbled)
}

/// Runs an expression of the tables. Such are at a library's calls through its table of addresses,
/// and where the kernel calls a signal handler.
fn evaluate(stack: &mut Copy, at: &Registers, code: &[u8], initial: Option<u64>) -> Option<u64> {
    let expression = Expression(EndianSlice::new(code, LittleEndian));
    let mut evaluation = expression.evaluation(ENCODING);
    evaluation.set_max_iterations(1_000);
    if let Some(value) = initial {
        evaluation.set_initial_value(value);
    }
    let mut result = evaluation.evaluate().ok()?;
    loop {
        result = match result {
            EvaluationResult::Complete => break,
            EvaluationResult::RequiresMemory { address, size, .. } => {
                let word = stack.word(address)?;
                let bits = 8 * u32::from(size.min(8));
                let mask = u64::MAX.checked_shr(64 - bits).unwrap_or(0);
                let value = Value::Generic(word & mask);
                evaluation.resume_with_memory(value).ok()?
            }
            EvaluationResult::RequiresRegister { register, .. } => {
                let value = Value::Generic(at.get(usize::from(register.0))?);
                evaluation.resume_with_register(value).ok()?
            }
            _ => return None,
        };
    }
    evaluation.value_result()?.to_u64(u64::MAX).ok()
}
