//! A stack as it was copied: bytes from the stack pointer up.

use std::fs::File;
use std::io::{self, ErrorKind};
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
    copy_by_file(address, into).map_err(|_| error)
}

fn copy_by_file(address: u64, into: &mut [u8]) -> io::Result<usize> {
    // Opened each time: kept, it would show a forked child the memory of its parent.
    File::open("/proc/self/mem")?.read_at(into, address)
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
    /// Of a thread that runs: what is not in the copy is lost.
    frozen: bool,
}

impl Copy {
    /// A copy that somebody else has taken, from `base` up. It does not grow.
    pub(super) fn freeze(&mut self, base: u64, bytes: Vec<u8>) {
        *self = Self {
            base,
            bytes,
            ended: true,
            frozen: true,
        };
    }

    /// Goes on with another stack of the same thread.
    pub(super) fn change(&mut self, sp: u64) -> io::Result<()> {
        match self.frozen {
            true => Err(ErrorKind::NotFound.into()),
            false => self.start(sp),
        }
    }

    #[cfg(any(test, fuzzing))]
    pub(super) fn made_up(base: u64, bytes: Vec<u8>) -> Self {
        let mut copy = Self::default();
        copy.freeze(base, bytes);
        copy
    }

    /// Starts over with the stack at `sp`; the buffer is used again.
    pub(super) fn start(&mut self, sp: u64) -> io::Result<()> {
        self.frozen = false;
        // What is below may not be mapped: the main thread's stack grows as it is used.
        self.start_at(sp.saturating_sub(RED_ZONE) & !7)
            .or_else(|_| self.start_at(sp & !7))
    }

    fn start_at(&mut self, base: u64) -> io::Result<()> {
        self.base = base;
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ways_copy_the_same() {
        let words: Vec<u64> = (0..5_000).collect();
        let at = words.as_ptr().expose_provenance() as u64;
        let bytes: Vec<u8> = words.iter().flat_map(|word| word.to_le_bytes()).collect();
        let (mut by_call, mut by_file) = (vec![0; bytes.len()], vec![0; bytes.len()]);
        assert_eq!(copy(at, &mut by_call).unwrap(), bytes.len());
        assert_eq!(copy_by_file(at, &mut by_file).unwrap(), bytes.len());
        assert!(by_call == bytes && by_file == bytes);
    }

    #[test]
    fn what_is_not_mapped_is_an_error_and_no_crash() {
        for address in [0, 8, u64::MAX - 7] {
            copy(address, &mut [0; 8]).unwrap_err();
            copy_by_file(address, &mut [0; 8]).unwrap_err();
            Copy::default().start(address).unwrap_err();
        }
    }

    #[test]
    fn a_copy_has_words_of_its_stack_and_none_beside() {
        let words: Vec<u64> = (0..200_000).collect();
        let at = words.as_ptr().expose_provenance() as u64;
        let mut copy = Copy::default();
        copy.start(at).unwrap();
        assert_eq!(copy.word(at), Some(0));
        assert_eq!(copy.word(at + 8 * 199_999), Some(199_999)); // grows
        assert_eq!(copy.word(at - 4096), None);
        assert_eq!(copy.word(u64::MAX - 3), None);
    }

    #[test]
    fn a_frozen_copy_has_what_it_was_given_and_no_more() {
        let words: Vec<u64> = (0..2_000).collect();
        let at = words.as_ptr().expose_provenance() as u64;
        let mut copy = Copy::default();
        copy.freeze(at, 77_u64.to_le_bytes().to_vec());
        assert_eq!(copy.word(at), Some(77));
        assert_eq!(copy.word(at + 8), None);
        copy.change(at).unwrap_err();
        copy.start(at).unwrap();
        assert_eq!(copy.word(at + 8), Some(1));
        copy.change(at + 80).unwrap();
        assert_eq!(copy.word(at + 80), Some(10));
    }
}
