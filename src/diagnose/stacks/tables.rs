//! What the compilers wrote about each function for unwinding: the call frame information in
//! `.eh_frame`, copied from what is loaded.
//!
//! Copied, because a library can be unloaded while it is read. The copies are dropped when the
//! loader has loaded or unloaded anything.

use std::collections::HashMap;

use gimli::{
    BaseAddresses, CfaRule, EhFrame, EhFrameHdr, Encoding, EndianSlice, Format, LittleEndian,
    Pointer, Register, RegisterRule, UnwindContext, UnwindSection, UnwindTableRow,
};

use super::memory;
use super::sys::{self, Loaded};
use crate::sync::Arc;

/// What the tables call the registers of x86-64.
pub(super) const RBP: usize = 6;
pub(super) const RSP: usize = 7;
pub(super) const REGISTERS: usize = 16;
const RETURN_ADDRESS: usize = 16;
/// Those that a function hands back as it found them.
pub(super) const PRESERVED: [usize; 6] = [3, RBP, 12, 13, 14, 15];

pub(super) const ENCODING: Encoding = Encoding {
    format: Format::Dwarf32,
    version: 4,
    address_size: 8,
};

/// The most rows that are kept.
const KEPT: usize = 1 << 17;

type Bytes<'a> = EndianSlice<'a, LittleEndian>;

/// How to get from one instruction to the caller.
#[derive(Debug)]
pub(super) struct Row {
    /// Where the function begins.
    pub(super) function: u64,
    pub(super) cfa: Cfa,
    /// For the registers that the function has saved.
    pub(super) saved: Vec<(usize, Rule)>,
    /// `None` for the first function of a thread.
    pub(super) return_address: Option<Rule>,
    /// The kernel called it, in the middle of another function.
    pub(super) signal_frame: bool,
}

/// The canonical frame address: the stack pointer as the caller had it.
#[derive(Debug)]
pub(super) enum Cfa {
    Offset(usize, i64),
    Expression(Vec<u8>),
}

/// Where a register of the caller is.
#[derive(Debug)]
pub(super) enum Rule {
    Lost,
    /// In memory, so far from the frame address.
    At(i64),
    /// So far from the frame address, itself.
    Is(i64),
    /// In another register.
    In(usize),
    /// In memory, where the expression says.
    AtExpression(Vec<u8>),
    IsExpression(Vec<u8>),
}

/// A loaded file, with a copy of its tables.
#[derive(Debug)]
pub(super) struct Module {
    pub(super) loaded: Loaded,
    header: Vec<u8>,
    frames: Vec<u8>,
    frames_at: u64,
}

#[derive(Debug, Default)]
pub(super) struct Tables {
    modules: Vec<Module>,
    rows: HashMap<u64, Option<Arc<Row>>>,
    /// The first bytes of functions, by address.
    code: HashMap<u64, Arc<[u8]>>,
}

impl Tables {
    #[cfg(any(test, fuzzing))]
    pub(super) fn of(module: Module) -> Self {
        Self {
            modules: vec![module],
            ..Self::default()
        }
    }

    /// Looks again at what is loaded if that has changed; says whether it has.
    pub(super) fn refresh(&mut self) -> bool {
        let known = self.modules.first().map(|module| module.loaded.changes);
        if known.is_some_and(|known| !sys::has_changed(known)) {
            return false;
        }
        self.rows.clear();
        self.code.clear();
        self.modules = sys::loaded().into_iter().filter_map(Module::copy).collect();
        true
    }

    pub(super) fn modules(&self) -> &[Module] {
        &self.modules
    }

    /// The module whose code is at `address`.
    pub(super) fn module(&self, address: u64) -> Option<&Module> {
        let with_it = |module: &&Module| module.loaded.text.contains(&address);
        self.modules.iter().find(with_it)
    }

    pub(super) fn row(&mut self, address: u64) -> Option<Arc<Row>> {
        if let Some(known) = self.rows.get(&address) {
            return known.clone();
        }
        let row = self.module(address).and_then(|module| module.row(address));
        let row = row.map(Arc::new);
        if self.rows.len() >= KEPT {
            self.rows.clear();
        }
        self.rows.insert(address, row.clone());
        row
    }

    /// The first bytes of the function that begins at `address`.
    pub(super) fn code(&mut self, address: u64) -> Option<Arc<[u8]>> {
        if let Some(known) = self.code.get(&address) {
            return Some(known.clone());
        }
        let mut bytes = vec![0; 96];
        let copied = memory::copy(address, &mut bytes).ok()?;
        bytes.truncate(copied);
        let code: Arc<[u8]> = bytes.into();
        self.code.insert(address, code.clone());
        Some(code)
    }
}

impl Module {
    #[cfg(any(test, fuzzing))]
    pub(super) fn made_up(
        text: std::ops::Range<u64>,
        header: Vec<u8>,
        frames: Vec<u8>,
        frames_at: u64,
    ) -> Self {
        Self {
            loaded: Loaded::made_up(text),
            header,
            frames,
            frames_at,
        }
    }

    fn copy(loaded: Loaded) -> Option<Self> {
        let span = &loaded.eh_frame_hdr;
        let length = usize::try_from(span.end.checked_sub(span.start)?).ok()?;
        let header = memory::copy_exact(span.start, length)?;
        let bases = BaseAddresses::default().set_eh_frame_hdr(span.start);
        let parsed = EhFrameHdr::new(&header, LittleEndian)
            .parse(&bases, 8)
            .ok()?;
        let Pointer::Direct(frames_at) = parsed.eh_frame_ptr() else {
            return None;
        };
        // How long the section is, nothing says: it ends within its segment.
        let segments = &mut loaded.segments.iter();
        let end = segments.find(|segment| segment.contains(&frames_at))?.end;
        let length = usize::try_from(end - frames_at).ok()?;
        let frames = memory::copy_exact(frames_at, length)?;
        Some(Self {
            loaded,
            header,
            frames,
            frames_at,
        })
    }

    fn row(&self, address: u64) -> Option<Row> {
        let bases = BaseAddresses::default()
            .set_eh_frame_hdr(self.loaded.eh_frame_hdr.start)
            .set_eh_frame(self.frames_at)
            .set_text(self.loaded.text.start);
        let header = EhFrameHdr::new(&self.header, LittleEndian);
        let header = header.parse(&bases, 8).ok()?;
        let frames = EhFrame::new(&self.frames, LittleEndian);
        let table = header.table()?;
        // Both are subtracted or multiplied further in, unchecked.
        let (_, functions) = table.iter(&bases).size_hint();
        functions.filter(|functions| *functions <= self.header.len())?;
        let Pointer::Direct(fde_at) = table.lookup(address, &bases).ok()? else {
            return None;
        };
        let offset = usize::try_from(fde_at.checked_sub(self.frames_at)?).ok()?;
        let fde = frames.fde_from_offset(&bases, offset.into(), EhFrame::cie_from_offset);
        let fde = fde.ok().filter(|fde| fde.contains(address))?;
        let mut context = UnwindContext::new();
        let row = fde.unwind_info_for_address(&frames, &bases, &mut context, address);
        Row::new(
            row.ok()?,
            &frames,
            fde.initial_address(),
            fde.is_signal_trampoline(),
        )
    }
}

impl Row {
    fn new(
        row: &UnwindTableRow<usize>,
        frames: &EhFrame<Bytes<'_>>,
        function: u64,
        signal_frame: bool,
    ) -> Option<Self> {
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => {
                Cfa::Offset(usize::from(register.0), *offset)
            }
            CfaRule::Expression(expression) => {
                Cfa::Expression(expression.get(frames).ok()?.0.to_vec())
            }
        };
        let mut saved = Vec::new();
        for (register, rule) in row.registers() {
            let register = usize::from(register.0);
            if register < REGISTERS {
                saved.extend(Rule::new(rule, frames)?.map(|rule| (register, rule)));
            }
        }
        let return_address = row.register(Register(RETURN_ADDRESS as u16))?;
        let return_address = match Rule::new(&return_address, frames)?? {
            Rule::Lost => None,
            rule => Some(rule),
        };
        Some(Self {
            function,
            cfa,
            saved,
            return_address,
            signal_frame,
        })
    }
}

impl Rule {
    /// `None` for one that is not understood, `Some(None)` for a register left as it was.
    fn new(rule: &RegisterRule<usize>, frames: &EhFrame<Bytes<'_>>) -> Option<Option<Self>> {
        let rule = match rule {
            RegisterRule::SameValue => return Some(None),
            RegisterRule::Undefined => Self::Lost,
            RegisterRule::Offset(offset) => Self::At(*offset),
            RegisterRule::ValOffset(offset) => Self::Is(*offset),
            RegisterRule::Register(other) => Self::In(usize::from(other.0)),
            RegisterRule::Expression(at) => Self::AtExpression(at.get(frames).ok()?.0.to_vec()),
            RegisterRule::ValExpression(is) => Self::IsExpression(is.get(frames).ok()?.0.to_vec()),
            _ => return None,
        };
        Some(Some(rule))
    }
}
