//! What needs the operating system and cannot be said in safe Rust: copies of the process's own
//! memory, the list of what the loader has loaded, the registers of the calling function.
#![allow(unsafe_code)]

use std::ffi::CStr;
use std::io;
use std::ops::Range;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Copies what is at `address` of this process. Fewer bytes than asked for when what follows is
/// not mapped. What is not mapped at all, or was unmapped meanwhile, is an error, not a crash: the
/// kernel copies.
pub(super) fn copy_memory(address: u64, into: &mut [u8]) -> io::Result<usize> {
    let local = libc::iovec {
        iov_base: into.as_mut_ptr().cast(),
        iov_len: into.len(),
    };
    let remote = libc::iovec {
        iov_base: std::ptr::with_exposed_provenance_mut(address as usize),
        iov_len: into.len(),
    };
    let own = libc::pid_t::try_from(std::process::id()).map_err(io::Error::other)?;
    // SAFETY: `local` is one descriptor of memory that is exclusively borrowed and as long as it
    // says; `remote` is one descriptor that the kernel only reads from, and checks as it does; the
    // flags are 0, as they have to be. The memory that is read may change meanwhile: no reference
    // to it is made, and any bytes are good bytes.
    let copied =
        unsafe { libc::process_vm_readv(own, &raw const local, 1, &raw const remote, 1, 0) };
    usize::try_from(copied).map_err(|_| io::Error::last_os_error())
}

/// A file that the loader has mapped: the program, a library, the kernel's own page.
#[derive(Clone, Debug)]
pub(super) struct Loaded {
    /// Empty for the program itself.
    pub(super) path: PathBuf,
    /// What is added to the addresses that the file gives.
    pub(super) base: u64,
    /// The part with code that is mapped, from its first to its last byte.
    pub(super) text: Range<u64>,
    /// From the start of `.eh_frame_hdr` to its end.
    pub(super) eh_frame_hdr: Range<u64>,
    /// All parts that are mapped.
    pub(super) segments: Vec<Range<u64>>,
    /// How many were ever loaded and unloaded: another value, another list.
    pub(super) changes: Changes,
}

/// How many files the loader has loaded and unloaded since the start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Changes {
    loaded: u64,
    unloaded: u64,
}

#[cfg(any(test, fuzzing))]
impl Loaded {
    /// Of which only the code is known.
    pub(super) fn made_up(text: Range<u64>) -> Self {
        Self {
            path: PathBuf::new(),
            base: 0,
            text,
            eh_frame_hdr: 0..0,
            segments: Vec::new(),
            changes: Changes {
                loaded: 0,
                unloaded: 0,
            },
        }
    }
}

/// Whether the loader has loaded or unloaded something since `known`.
pub(super) fn has_changed(known: Changes) -> bool {
    let mut now = None;
    each_loaded(&mut |info| {
        now = Some(changes(info));
        false
    });
    now != Some(known)
}

pub(super) fn loaded() -> Vec<Loaded> {
    let mut all = Vec::new();
    each_loaded(&mut |info| {
        all.extend(describe(info));
        true
    });
    all
}

fn changes(info: &libc::dl_phdr_info) -> Changes {
    Changes {
        loaded: info.dlpi_adds,
        unloaded: info.dlpi_subs,
    }
}

fn describe(info: &libc::dl_phdr_info) -> Option<Loaded> {
    if info.dlpi_phdr.is_null() {
        return None;
    }
    let count = usize::from(info.dlpi_phnum);
    // SAFETY: not null, and the loader says that so many headers are there; they are part of a
    // file that stays mapped while the loader's callback runs, and nobody writes to them.
    let headers = unsafe { std::slice::from_raw_parts(info.dlpi_phdr, count) };
    let range = |header: &libc::Elf64_Phdr| {
        let start = info.dlpi_addr.wrapping_add(header.p_vaddr);
        start..start.wrapping_add(header.p_memsz)
    };
    let of_type = |kind| headers.iter().filter(move |header| header.p_type == kind);
    let code = of_type(libc::PT_LOAD).filter(|header| header.p_flags & libc::PF_X != 0);
    let code: Vec<_> = code.map(range).collect();
    let text = code.iter().map(|part| part.start).min()?..code.iter().map(|part| part.end).max()?;
    let name = if info.dlpi_name.is_null() {
        c""
    } else {
        // SAFETY: not null, and the loader keeps a C string there while its callback runs.
        unsafe { CStr::from_ptr(info.dlpi_name) }
    };
    Some(Loaded {
        path: PathBuf::from(std::ffi::OsStr::from_bytes(name.to_bytes())),
        base: info.dlpi_addr,
        text,
        eh_frame_hdr: of_type(libc::PT_GNU_EH_FRAME).map(range).next()?,
        segments: of_type(libc::PT_LOAD).map(range).collect(),
        changes: changes(info),
    })
}

/// Calls `look` for each loaded file until it returns `false`.
fn each_loaded(look: &mut dyn FnMut(&libc::dl_phdr_info) -> bool) {
    type Look<'a> = &'a mut dyn FnMut(&libc::dl_phdr_info) -> bool;
    extern "C" fn callback(
        info: *mut libc::dl_phdr_info,
        size: libc::size_t,
        look: *mut libc::c_void,
    ) -> libc::c_int {
        if size < size_of::<libc::dl_phdr_info>() {
            return 1; // a loader without the counters: nothing can be said
        }
        // SAFETY: the loader passes a valid, initialised description of the size just checked,
        // which nobody writes to during the callback.
        let info = unsafe { &*info };
        // SAFETY: this is the pointer that `dl_iterate_phdr` was given below, to a `Look` that is
        // alive and borrowed for nothing else until that returns.
        let look = unsafe { &mut *look.cast::<Look<'_>>() };
        libc::c_int::from(!look(info))
    }
    let mut look: Look<'_> = look;
    // SAFETY: the callback has the type that is asked for and does not unwind (`extern "C"` aborts
    // instead); its argument outlives the call. The loader's lock is held meanwhile: `look` only
    // copies, and allocates.
    unsafe { libc::dl_iterate_phdr(Some(callback), (&raw mut look).cast()) };
}

/// Where a function is, for the way up from it.
#[derive(Clone, Copy, Debug)]
pub(in crate::diagnose) struct Here {
    pub(super) pc: u64,
    pub(super) sp: u64,
    pub(super) rbp: u64,
}

/// Of the calling function.
#[inline(always)]
pub(in crate::diagnose) fn here() -> Here {
    let (pc, sp, rbp);
    // SAFETY: copies three registers into three others; touches neither memory, nor the stack, nor
    // the flags.
    unsafe {
        std::arch::asm!(
            "lea {pc}, [rip]",
            "mov {sp}, rsp",
            "mov {rbp}, rbp",
            pc = out(reg) pc,
            sp = out(reg) sp,
            rbp = out(reg) rbp,
            options(nomem, nostack, preserves_flags)
        );
    }
    Here { pc, sp, rbp }
}
