//! The frame pointer of a function of which only the stack pointer is known.
//!
//! Of a thread that sleeps in the kernel, the kernel shows stack pointer and instruction, no other
//! register. Most functions are left by the stack pointer alone. One that keeps its frame in `rbp`
//! (those of Rust's standard library do) has set it from the stack pointer in its first
//! instructions: what these subtracted is added again.
//!
//! What comes out is believed only if the word above it is a return address behind a call
//! instruction, into a function that the tables know; of several, only one behind a call of this very
//! function.

use super::memory::{self, Copy};
use super::tables::{Cfa, RBP, Row, Rule, Tables};
use super::unwind::Registers;

/// How far a frame is looked for when its first instructions are not understood, in bytes.
const SEARCH: u64 = 16 << 10;

/// How sure it is that a word of the stack is the return address of a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Trust {
    /// A call of who knows what is before it.
    Call,
    /// A call of this function is before it.
    OfThis,
}

pub(super) fn recover(
    tables: &mut Tables,
    stack: &mut Copy,
    at: &Registers,
    row: &Row,
) -> Option<u64> {
    // Only the usual frame: the caller's `rbp` below the return address, below the frame address.
    let usual =
        matches!(row.cfa, Cfa::Offset(RBP, 16)) && matches!(row.return_address, Some(Rule::At(-8)));
    if !usual {
        return None;
    }
    let code = tables.code(row.function)?;
    let before = usize::try_from(at.pc.checked_sub(row.function)?).ok()?;
    let prologue = Prologue::read(&code[..before.min(code.len())]);
    let mut found = None;
    for rbp in prologue
        .iter()
        .flat_map(|prologue| prologue.candidates(at.sp()))
    {
        let trust = trust(tables, stack, rbp, row.function);
        if trust == Some(Trust::OfThis) {
            return Some(rbp);
        }
        if trust.is_some() {
            // Two that look alike: neither.
            found = match found {
                None => Some(Some(rbp)),
                Some(_) => Some(None),
            };
        }
    }
    found
        .flatten()
        .or_else(|| search(tables, stack, at.sp(), row.function))
}

/// The nearest frame above that a call of this function has made.
fn search(tables: &mut Tables, stack: &mut Copy, sp: u64, function: u64) -> Option<u64> {
    let from = sp.checked_add(15)? & !15;
    let mut candidates = (from..from.checked_add(SEARCH)?).step_by(16);
    candidates.find(|&rbp| trust(tables, stack, rbp, function) == Some(Trust::OfThis))
}

fn trust(tables: &mut Tables, stack: &mut Copy, rbp: u64, function: u64) -> Option<Trust> {
    let returns_to = stack.word(rbp.checked_add(8)?)?;
    let call = returns_to.checked_sub(7)?;
    tables.module(returns_to)?;
    let code: [u8; 7] = memory::copy_exact(call, 7)?.try_into().ok()?;
    let target = match code {
        // call rel32
        [_, _, 0xe8, a, b, c, d] => Some(relative(returns_to, [a, b, c, d])),
        // call [rip + rel32]: through the table of addresses
        [_, 0xff, 0x15, a, b, c, d] => {
            let entry = memory::copy_exact(relative(returns_to, [a, b, c, d]), 8)?;
            Some(u64::from_le_bytes(entry.try_into().ok()?))
        }
        // call of a register, or of memory at a register
        [_, _, _, _, _, 0xff, modrm] if modrm & 0x38 == 0x10 => None,
        [_, _, _, _, 0xff, modrm, _] if modrm & 0xf8 == 0x50 => None,
        [_, _, _, 0xff, 0x54, _, _] => None,
        [_, 0xff, modrm, ..] if modrm & 0xf8 == 0x90 => None,
        [0xff, 0x94, ..] => None,
        _ => return None,
    };
    tables.row(returns_to - 1)?;
    Some(if target == Some(function) {
        Trust::OfThis
    } else {
        Trust::Call
    })
}

fn relative(from: u64, offset: [u8; 4]) -> u64 {
    from.wrapping_add_signed(i64::from(i32::from_le_bytes(offset)))
}

/// What the first instructions of a function have done to the stack pointer since it was copied to
/// `rbp`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Prologue {
    /// Subtracted before an alignment, if there is one.
    above: u64,
    /// Aligned to this; 1 if not.
    alignment: u64,
    /// Subtracted after that.
    below: u64,
}

impl Prologue {
    fn read(mut code: &[u8]) -> Option<Self> {
        if let [0xf3, 0x0f, 0x1e, 0xfa, rest @ ..] = code {
            code = rest; // endbr64
        }
        // push rbp; mov rbp, rsp
        let ([0x55, 0x48, 0x89, 0xe5, rest @ ..] | [0x55, 0x48, 0x8b, 0xec, rest @ ..]) = code
        else {
            return None;
        };
        let mut prologue = Self {
            above: 0,
            alignment: 1,
            below: 0,
        };
        let mut code = rest;
        while let Some((rest, step)) = Step::read(code) {
            code = rest;
            match step {
                Step::Nothing => {}
                Step::Down(bytes) => prologue.below = prologue.below.checked_add(bytes)?,
                Step::Align(to) if prologue.alignment == 1 => {
                    prologue.above = std::mem::take(&mut prologue.below);
                    prologue.alignment = to;
                }
                Step::Align(_) => return None,
            }
        }
        Some(prologue)
    }

    /// Where `rbp` may be, with the stack pointer at `sp`: one place, or, with an alignment, one
    /// for each multiple of 16 that it may have skipped. (`rbp` itself is at such a multiple.)
    fn candidates(self, sp: u64) -> impl Iterator<Item = u64> {
        let lowest = sp.wrapping_add(self.below).wrapping_add(self.above);
        let skipped = (0..self.alignment.max(1)).step_by(8);
        skipped
            .map(move |skipped| lowest.wrapping_add(skipped))
            .filter(|rbp| rbp % 16 == 0)
    }
}

enum Step {
    /// Moves something between registers.
    Nothing,
    Down(u64),
    Align(u64),
}

impl Step {
    /// The instructions that set a frame up; `None` for any other, after which no more follow.
    fn read(code: &[u8]) -> Option<(&[u8], Self)> {
        let (length, step) = match code {
            [0x50..=0x57, ..] => (1, Self::Down(8)),       // push
            [0x41, 0x50..=0x57, ..] => (2, Self::Down(8)), // push r8..r15
            [0x48, 0x83, 0xec, by, ..] => (4, Self::Down(u64::from(*by))), // sub rsp, imm8
            [0x48, 0x81, 0xec, a, b, c, d, ..] => {
                let by = u32::from_le_bytes([*a, *b, *c, *d]);
                (7, Self::Down(u64::from(by))) // sub rsp, imm32
            }
            [0x48, 0x83, 0xe4, mask, ..] if *mask >= 0x80 => {
                (4, Self::Align(u64::from(mask.wrapping_neg()))) // and rsp, imm8
            }
            [0x48, 0x81, 0xe4, a, b, c, d, ..] => {
                let mask = u32::from_le_bytes([*a, *b, *c, *d]);
                (7, Self::Align(u64::from(mask.wrapping_neg()))) // and rsp, imm32
            }
            // A look whether the stack reaches so far: mov qword ptr [rsp], 0
            [0x48, 0xc7, 0x04, 0x24, 0, 0, 0, 0, ..] => (8, Self::Nothing),
            // mov between two registers, neither of them rsp
            [0x48..=0x4f, 0x89, modrm, ..] if *modrm >= 0xc0 && modrm & 7 != 4 => {
                (3, Self::Nothing)
            }
            [0x89, modrm, ..] if *modrm >= 0xc0 && modrm & 7 != 4 => (2, Self::Nothing),
            [0x31, modrm, ..] if *modrm >= 0xc0 && modrm & 7 != 4 => (2, Self::Nothing),
            _ => return None,
        };
        Some((&code[length..], step))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(code: &[u8]) -> Option<(u64, u64, u64)> {
        let prologue = Prologue::read(code)?;
        Some((prologue.above, prologue.alignment, prologue.below))
    }

    #[test]
    fn what_a_prologue_subtracts_is_added_again() {
        // push rbp; mov rbp, rsp; push r15; push r14; push rbx; sub rsp, 0x18; call
        let code = [
            0x55, 0x48, 0x89, 0xe5, 0x41, 0x57, 0x41, 0x56, 0x53, 0x48, 0x83, 0xec, 0x18, 0xe8,
        ];
        assert_eq!(read(&code), Some((0, 1, 0x30)));
        let candidates: Vec<_> = Prologue::read(&code).unwrap().candidates(0x1000).collect();
        assert_eq!(candidates, [0x1030]);
    }

    #[test]
    fn an_alignment_leaves_several_places() {
        // push rbp; mov rbp, rsp; push rbx; and rsp, -64; sub rsp, 0x140
        let code = [
            0x55, 0x48, 0x89, 0xe5, 0x53, 0x48, 0x83, 0xe4, 0xc0, 0x48, 0x81, 0xec, 0x40, 1, 0, 0,
        ];
        assert_eq!(read(&code), Some((8, 64, 0x140)));
        let candidates: Vec<_> = Prologue::read(&code).unwrap().candidates(0x1000).collect();
        assert_eq!(candidates, [0x1150, 0x1160, 0x1170, 0x1180]);
    }

    #[test]
    fn a_function_without_a_frame_has_no_frame_pointer() {
        assert_eq!(read(&[0x53, 0x48, 0x83, 0xec, 0x18]), None);
        assert_eq!(read(&[]), None);
    }
}
