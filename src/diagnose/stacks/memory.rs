//! A stack as it was copied: bytes from the stack pointer up.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use super::sys;

/// What is copied first: most stacks of waiting threads are shorter.
const FIRST: usize = 8 << 10;
const LATER: usize = 128 << 10;
/// The most that is copied of one stack.
const MOST: usize = 64 << 20;
/// Below the stack pointer: the unwind tables may refer to what was just popped.
const RED_ZONE: u64 = 128;

/// Copies memory of this process: by the system call made for it, or where that is denied through
/// the file that shows the same.
pub(super) fn copy(address: u64, into: &mut [u8]) -> io::Result<usize> {
    let error = match sys::copy_memory(address, into) {
        Ok(copied) => return Ok(copied),
        Err(error) => error,
    };
    let refused = matches!(
        error.raw_os_error(),
        Some(libc::EPERM | libc::ENOSYS | libc::EACCES)
    );
    if !refused {
        return Err(error);
    }
    // Opened each time: kept, it would show a forked child the memory of its parent.
    let memory = File::open("/proc/self/mem").map_err(|_| error)?;
    memory.read_at(into, address)
}

/// So many bytes at `address`, or none.
pub(super) fn copy_exact(address: u64, length: usize) -> Option<Vec<u8>> {
    let mut bytes = vec![0; length];
    (copy(address, &mut bytes).ok()? == length).then_some(bytes)
}

/// The copy grows as it is read: what is mapped above one stack is nobody's business.
#[derive(Debug, Default)]
pub(super) struct Copy {
    base: u64,
    bytes: Vec<u8>,
    ended: bool,
}

impl Copy {
    /// Starts over with the stack at `sp`; the buffer is used again.
    pub(super) fn start(&mut self, sp: u64) -> io::Result<()> {
        self.base = sp.saturating_sub(RED_ZONE) & !7;
        self.bytes.clear();
        self.ended = false;
        self.grow(FIRST)
    }

    fn grow(&mut self, by: usize) -> io::Result<()> {
        let old = self.bytes.len();
        self.bytes.resize(old + by, 0);
        let copied = copy(self.base.saturating_add(old as u64), &mut self.bytes[old..]);
        let got = *copied.as_ref().unwrap_or(&0);
        self.bytes.truncate(old + got);
        self.ended = got < by || self.bytes.len() >= MOST;
        match copied {
            Err(error) if old == 0 => Err(error),
            _ => Ok(()),
        }
    }

    /// The word at `address`, if that is on the stack.
    pub(super) fn word(&mut self, address: u64) -> Option<u64> {
        let at = usize::try_from(address.checked_sub(self.base)?).ok()?;
        let end = at.checked_add(8)?;
        while end > self.bytes.len() {
            if self.ended || end > MOST {
                return None;
            }
            self.grow(LATER).ok()?;
        }
        let word = self.bytes[at..end].try_into().ok()?;
        Some(u64::from_le_bytes(word))
    }
}
