//! The walk over noise: tables, code, stack and registers that arbitrary bytes describe.
//!
//! Nothing panics, everything ends, and a walk that says that it succeeded has reached a thread's
//! first function (invariants 1, 2 and 3 of the [walk](super::unwind)).

use std::cell::RefCell;
use std::ops::Range;

use super::memory::Copy;
use super::tables::{Module, RBP, Tables};
use super::unwind::{self, DEEPEST, Registers};
use crate::diagnose::stack::StackProblem;
use crate::noise::Noise;

const FUNCTIONS: usize = 4;
/// The bytes of code of one function.
const LENGTH: usize = 48;
/// Where the stack is said to be: nothing is mapped there.
const STACK: u64 = 0x6000_0000_0000;

/// How many functions were found, and why no more.
type Walked = (usize, Result<(), StackProblem>);

/// Tables of four functions with arbitrary instructions, over arbitrary code.
pub(crate) fn walk_made_up_tables(bytes: &[u8]) -> Walked {
    let mut noise = Noise(bytes);
    let mut code: Vec<u8> = Vec::new();
    while code.len() < FUNCTIONS * LENGTH {
        let function_end = code.len() + LENGTH;
        if noise.one_in(2) {
            code.extend([0x55, 0x48, 0x89, 0xe5]); // push rbp; mov rbp, rsp
        }
        code.extend(noise.slice(LENGTH - 8));
        code.resize(function_end, 0xe8); // calls
    }
    let at = code.as_ptr().expose_provenance() as u64;
    let text = at..at + code.len() as u64;
    let frames_at = 0x1000;
    let (header, frames) = match noise.one_in(8) {
        true => (noise.slice(64).to_vec(), noise.slice(64).to_vec()),
        false => sections(&mut noise, at, frames_at),
    };
    let module = Module::made_up(text.clone(), header, frames, frames_at);
    let walked = walk_noise(&mut Tables::of(module), text.clone(), &mut noise);
    drop(code); // it was read by its address
    walked
}

/// The tables and the code of this program, over an arbitrary stack.
pub(crate) fn walk_made_up_stack(bytes: &[u8]) -> Walked {
    thread_local! {
        static OWN: RefCell<Tables> = RefCell::default();
    }
    OWN.with_borrow_mut(|tables| {
        tables.refresh();
        let text = tables.modules()[0].loaded.text.clone();
        walk_noise(tables, text, &mut Noise(bytes))
    })
}

fn walk_noise(tables: &mut Tables, text: Range<u64>, noise: &mut Noise<'_>) -> Walked {
    let word = |noise: &mut Noise<'_>| match noise.byte() % 8 {
        0..=2 => text.start + noise.number() % (text.end - text.start),
        3 => STACK + 8 * (noise.number() % 512),
        _ => noise.number(),
    };
    let (pc, sp) = (word(noise), STACK + 8 * u64::from(noise.byte() % 32));
    let rbp = noise.one_in(2).then(|| word(noise));
    let words = 8 + 2 * usize::from(noise.byte());
    let stack: Vec<u8> = (0..words).flat_map(|_| word(noise).to_le_bytes()).collect();
    let mut stack = Copy::made_up(STACK, stack);
    let walk = unwind::walk(tables, &mut stack, Registers::new(pc, sp, rbp));
    assert!(!walk.addresses.is_empty() && walk.addresses.len() <= DEEPEST);
    if walk.end.is_ok() {
        let last = walk.addresses.last().and_then(|last| tables.row(*last));
        assert!(last.is_some_and(|row| row.return_address.is_none()));
    }
    (walk.addresses.len(), walk.end)
}

/// `.eh_frame_hdr` and `.eh_frame`, sound but for the instructions and some bytes.
fn sections(noise: &mut Noise<'_>, code: u64, frames_at: u64) -> (Vec<u8>, Vec<u8>) {
    let (mut frames, mut table) = (Vec::new(), Vec::new());
    for function in 0..FUNCTIONS as u64 {
        let cie_at = frames.len();
        let augmentation: &[u8] = match noise.one_in(8) {
            true => b"zRS\0", // of a signal frame
            false => b"zR\0",
        };
        let mut cie = vec![0, 0, 0, 0, 1];
        cie.extend(augmentation);
        // Alignments 1 and -8, the return address in 16, addresses of eight bytes.
        cie.extend([1, 0x78, 16, 1, 0]);
        // The frame address is rsp+8, the return address is just below it.
        cie.extend([0x0c, 7, 8, 0x90, 1]);
        entry(&mut frames, &cie);
        let fde_at = frames.len();
        let start = code + function * LENGTH as u64;
        let mut fde = ((fde_at + 4 - cie_at) as u32).to_le_bytes().to_vec();
        fde.extend(start.to_le_bytes());
        fde.extend((LENGTH as u64).to_le_bytes());
        fde.push(0);
        instructions(noise, &mut fde);
        entry(&mut frames, &fde);
        table.extend(start.to_le_bytes());
        table.extend((frames_at + fde_at as u64).to_le_bytes());
    }
    frames.extend([0; 4]);
    // Version 1; all in eight bytes, but the count in four.
    let mut header = vec![1, 4, 3, 4];
    header.extend(frames_at.to_le_bytes());
    header.extend((FUNCTIONS as u32).to_le_bytes());
    header.extend(table);
    for section in [&mut header, &mut frames] {
        for _ in 0..noise.byte().saturating_sub(250) {
            let at = noise.number() as usize % section.len();
            section[at] = noise.byte();
        }
    }
    (header, frames)
}

fn entry(section: &mut Vec<u8>, content: &[u8]) {
    let length = content.len().next_multiple_of(8);
    section.extend((length as u32).to_le_bytes());
    section.extend(content);
    section.resize(section.len() + length - content.len(), 0); // DW_CFA_nop
}

fn instructions(noise: &mut Noise<'_>, out: &mut Vec<u8>) {
    for _ in 0..noise.byte() % 8 {
        let register = noise.byte() % 18;
        match noise.byte() % 8 {
            0 => out.extend([0x0c, RBP as u8, 16]), // DW_CFA_def_cfa rbp, 16
            1 => out.extend([0x07, 16]),            // DW_CFA_undefined: a first function
            2 => out.extend([0x0c, register, noise.byte() & 0x7f]), // DW_CFA_def_cfa
            3 => out.extend([0x80 | register, noise.byte() & 0x7f]), // DW_CFA_offset
            // DW_CFA_expression, DW_CFA_val_expression, DW_CFA_def_cfa_expression
            kind @ (4 | 5) => {
                let opcode = [0x10, 0x16][usize::from(kind - 4)];
                expression(noise, &[opcode, register], out);
            }
            6 => expression(noise, &[0x0f], out),
            _ => out.extend(noise.slice(16)),
        }
    }
}

fn expression(noise: &mut Noise<'_>, before: &[u8], out: &mut Vec<u8>) {
    let code = noise.slice(32);
    out.extend(before);
    out.push(code.len() as u8);
    out.extend(code);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::cases;
    use proptest::prelude::*;
    use std::collections::HashSet;

    proptest! {
        #![proptest_config(cases(500))]

        #[test]
        fn no_tables_make_a_walk_panic_or_go_on_for_ever(bytes in prop::collection::vec(any::<u8>(), 0..1_000)) {
            let _walked = walk_made_up_tables(&bytes);
        }

        #[test]
        fn no_stack_makes_a_walk_panic_or_go_on_for_ever(bytes in prop::collection::vec(any::<u8>(), 0..1_000)) {
            let _walked = walk_made_up_stack(&bytes);
        }
    }

    /// The noise is not so wild that no walk gets anywhere.
    #[test]
    fn walks_over_noise_end_in_every_way() {
        let mut rng = fastrand::Rng::with_seed(7);
        for walk in [walk_made_up_tables, walk_made_up_stack] {
            let (mut deepest, mut ends) = (0, HashSet::new());
            for _ in 0..5_000 {
                let mut bytes = vec![0; rng.usize(0..1_000)];
                rng.fill(&mut bytes);
                let (depth, end) = walk(&bytes);
                deepest = deepest.max(depth);
                ends.insert(end);
            }
            assert!(deepest > 3 && ends.len() > 3, "{deepest}: {ends:?}");
            assert!(ends.contains(&Ok(())), "{ends:?}");
        }
    }
}
