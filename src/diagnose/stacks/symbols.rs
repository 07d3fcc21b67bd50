//! Names and lines for addresses.
//!
//! From the debug information of a module, and from its symbol table: that has the full names of
//! functions where debug information has short ones (`line-tables-only`), or none.
//!
//! What is read is kept for the life of the process, once for each file: a library that is unloaded
//! and loaded again is not read again.

use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use addr2line::Context;
use addr2line::gimli::{DwLang, Dwarf, EndianSlice, LittleEndian, SectionId};
use object::read::elf::ElfFile64;
use object::{CompressionFormat, Object, ObjectSection, ObjectSymbol, ReadCache, SymbolKind};

use super::sys::Loaded;
use super::tables::{Module, Tables};
use crate::diagnose::stack::Frame;
use crate::sync::Arc;

type Bytes = EndianSlice<'static, LittleEndian>;
type Elf<'a> = ElfFile64<'a, object::Endianness, &'a ReadCache<File>>;

/// The most addresses whose frames are kept.
const KEPT: usize = 1 << 17;

/// Names one file and no other.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Identity {
    path: PathBuf,
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
}

/// What is known of one file.
struct Symbols {
    context: Option<Context<Bytes>>,
    /// By address.
    table: Vec<Symbol>,
    names: Names,
}

/// Each text once.
#[derive(Default)]
struct Names(HashMap<String, Arc<str>>);

struct Symbol {
    address: u64,
    size: u64,
    name: Box<str>,
}

#[derive(Default)]
pub(super) struct Symboliser {
    /// `None` for one that cannot be read.
    files: HashMap<Identity, Option<Symbols>>,
    by_address: HashMap<u64, Arc<[Frame]>>,
}

impl Symboliser {
    /// To be called when the loader has loaded or unloaded anything.
    pub(super) fn forget_addresses(&mut self) {
        self.by_address.clear();
    }

    /// The functions at one address, inlined ones first; at least one.
    pub(super) fn frames(&mut self, tables: &Tables, address: u64) -> Arc<[Frame]> {
        if let Some(known) = self.by_address.get(&address) {
            return known.clone();
        }
        let frames: Arc<[Frame]> = match tables.module(address) {
            Some(module) => self.look_up(module, address).into(),
            None => [bare(address, address, None)].into(),
        };
        if self.by_address.len() >= KEPT {
            self.by_address.clear();
        }
        self.by_address.insert(address, frames.clone());
        frames
    }

    fn look_up(&mut self, module: &Module, address: u64) -> Vec<Frame> {
        let offset = address.wrapping_sub(module.loaded.base);
        let path = file_of(&module.loaded);
        let frame = bare(address, offset, Some(shown(&path)));
        let Some(file) = Identity::of(&path) else {
            return vec![frame];
        };
        let symbols = self
            .files
            .entry(file)
            .or_insert_with(|| Symbols::read(&path));
        match symbols {
            Some(symbols) => symbols.look_up(&frame),
            None => vec![frame],
        }
    }
}

/// The loader has no name for the program.
pub(super) fn file_of(loaded: &Loaded) -> PathBuf {
    if loaded.path.as_os_str().is_empty() {
        PathBuf::from("/proc/self/exe")
    } else {
        loaded.path.clone()
    }
}

/// The file behind the kernel's link to the program.
pub(super) fn shown(path: &Path) -> Arc<str> {
    let target = std::fs::read_link(path).ok();
    let target = target.filter(|_| path.starts_with("/proc"));
    target.as_deref().unwrap_or(path).to_string_lossy().into()
}

pub(super) fn bare(address: u64, offset: u64, module: Option<Arc<str>>) -> Frame {
    Frame {
        address,
        offset,
        module,
        function: None,
        symbol: None,
        file: None,
        line: None,
        column: None,
        inlined: false,
    }
}

impl Identity {
    fn of(path: &Path) -> Option<Self> {
        let about = std::fs::metadata(path).ok()?;
        Some(Self {
            path: path.to_owned(),
            device: about.dev(),
            inode: about.ino(),
            size: about.size(),
            modified: (about.mtime(), about.mtime_nsec()),
        })
    }
}

impl Symbols {
    fn read(path: &Path) -> Option<Self> {
        let cache = ReadCache::new(File::open(path).ok()?);
        let elf = Elf::parse(&cache).ok()?;
        let apart = separate(&elf).map(ReadCache::new);
        let apart = apart.as_ref().and_then(|cache| Elf::parse(cache).ok());
        let context = context(&elf).or_else(|| context(apart.as_ref()?));
        let mut table = symbols(&elf);
        table.extend(apart.iter().flat_map(symbols));
        table.sort_by_key(|symbol| symbol.address);
        Some(Self {
            context,
            table,
            names: Names::default(),
        })
    }

    fn look_up(&mut self, frame: &Frame) -> Vec<Frame> {
        let symbol = symbol_at(&self.table, frame.offset);
        let mut frames = Vec::new();
        if let Some(context) = &self.context {
            frames = by_lines(context, &mut self.names, frame);
        }
        if frames.is_empty() {
            frames.push(frame.clone());
        }
        // The outermost is the one with a symbol: its name is the full one.
        if let (Some(last), Some(symbol)) = (frames.last_mut(), symbol) {
            last.symbol = Some(self.names.get(symbol));
            last.function = Some(self.names.demangled(symbol));
        }
        frames
    }
}

impl Names {
    fn get(&mut self, name: &str) -> Arc<str> {
        if let Some(known) = self.0.get(name) {
            return known.clone();
        }
        let text: Arc<str> = name.into();
        self.0.insert(name.to_owned(), text.clone());
        text
    }

    fn demangled(&mut self, name: &str) -> Arc<str> {
        match addr2line::demangle(name, DwLang(RUST)) {
            Some(readable) => self.get(&readable),
            None => self.get(name),
        }
    }
}

/// How debug information names the language.
const RUST: u16 = addr2line::gimli::DW_LANG_Rust.0;

fn by_lines(context: &Context<Bytes>, names: &mut Names, at: &Frame) -> Vec<Frame> {
    let mut found = Vec::new();
    let Ok(mut frames) = context.find_frames(at.offset).skip_all_loads() else {
        return found;
    };
    while let Ok(Some(inner)) = frames.next() {
        let mut frame = at.clone();
        if let Some(name) = inner
            .function
            .as_ref()
            .and_then(|name| name.raw_name().ok())
        {
            frame.symbol = Some(names.get(&name));
            frame.function = Some(names.demangled(&name));
        }
        if let Some(place) = inner.location {
            frame.file = place.file.map(|file| names.get(file));
            frame.line = place.line;
            frame.column = place.column;
        }
        frame.inlined = true;
        found.push(frame);
    }
    if let Some(last) = found.last_mut() {
        last.inlined = false;
    }
    found
}

/// The name of the function that covers `offset`.
fn symbol_at(table: &[Symbol], offset: u64) -> Option<&str> {
    let after = table.partition_point(|symbol| symbol.address <= offset);
    let near = &table[after.saturating_sub(8)..after];
    let covers = |symbol: &&Symbol| offset - symbol.address < symbol.size;
    near.iter().rev().find(covers).map(|symbol| &*symbol.name)
}

fn symbols(elf: &Elf<'_>) -> Vec<Symbol> {
    let all = elf.symbols().chain(elf.dynamic_symbols());
    let functions = all.filter(|symbol| symbol.kind() == SymbolKind::Text && symbol.size() > 0);
    let functions = functions.filter_map(|symbol| {
        Some(Symbol {
            address: symbol.address(),
            size: symbol.size(),
            name: symbol.name().ok()?.into(),
        })
    });
    functions.collect()
}

/// The debug information that a distribution has put into a file of its own.
fn separate(elf: &Elf<'_>) -> Option<File> {
    let id = elf.build_id().ok()??;
    let hex: String = id.iter().map(|byte| format!("{byte:02x}")).collect();
    let (first, rest) = hex.split_at_checked(2)?;
    File::open(format!("/usr/lib/debug/.build-id/{first}/{rest}.debug")).ok()
}

fn context(elf: &Elf<'_>) -> Option<Context<Bytes>> {
    let info = elf.section_by_name(".debug_info")?;
    if info.size() == 0 {
        return None;
    }
    let load = |id: SectionId| Ok::<_, addr2line::gimli::Error>(section(elf, id.name()));
    Context::from_dwarf(Dwarf::load(load).ok()?).ok()
}

/// A section for ever: see the top of this file.
fn section(elf: &Elf<'_>, name: &str) -> Bytes {
    let bytes = section_bytes(elf, name).unwrap_or_default();
    EndianSlice::new(Vec::leak(bytes), LittleEndian)
}

fn section_bytes(elf: &Elf<'_>, name: &str) -> Option<Vec<u8>> {
    let section = elf.section_by_name(name)?;
    let compressed = section.compressed_data().ok()?;
    match compressed.format {
        CompressionFormat::None => Some(compressed.data.to_vec()),
        CompressionFormat::Zlib => {
            let most = usize::try_from(compressed.uncompressed_size).ok()?;
            miniz_oxide::inflate::decompress_to_vec_zlib_with_limit(compressed.data, most).ok()
        }
        _ => None,
    }
}
