//! Reads and writes that do not block, without touching the descriptor's mode.
//!
//! `O_NONBLOCK` belongs to the open file description, which duplicates share, those in other
//! processes too: set on a terminal or an inherited pipe, it makes the *shell's* reads fail. So it
//! is set on nothing here. A socket takes the wish with each call, as `MSG_DONTWAIT`; so does a pipe
//! on Linux since 6.4, as `RWF_NOWAIT`. For the rest (terminals, named pipes, older kernels) the
//! descriptor is asked first: a read of what is ready does not block, unless somebody else takes it
//! in between, and a pipe that is ready takes [`PIPE_BUF`] bytes.

use std::io;
use std::os::fd::BorrowedFd;

use rustix::fs::FileType;
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::PIPE_BUF;

use super::wait::{Interest, is_ready};
use crate::sync::{AtomicBool, Ordering};

/// Which call does not block on a descriptor.
#[derive(Debug)]
pub(super) struct Manner {
    kind: Kind,
    /// The kernel would not take the wish with the call. Relaxed: each call finds out for itself.
    asks_first: AtomicBool,
}

#[derive(Clone, Copy, Debug)]
enum Kind {
    Socket,
    /// Pipes, terminals, devices.
    Stream,
    /// Always ready, and no call waits for anybody but the disk.
    File,
}

impl Manner {
    pub(super) fn of(fd: BorrowedFd<'_>) -> Self {
        // It fails where the descriptor is closed, and then the call will say so.
        let mode = rustix::fs::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode as _));
        let kind = match mode {
            Ok(FileType::Socket) => Kind::Socket,
            Ok(FileType::RegularFile | FileType::Directory | FileType::BlockDevice) => Kind::File,
            _ => Kind::Stream,
        };
        Self::new(kind, NOT_WITH_THE_CALL)
    }

    fn new(kind: Kind, asks_first: bool) -> Self {
        let asks_first = AtomicBool::new(asks_first);
        Self { kind, asks_first }
    }

    pub(super) fn read(&self, fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        match self.kind {
            Kind::Socket => {
                let (length, _) = rustix::net::recv(fd, buffer, RecvFlags::DONTWAIT)?;
                return Ok(length);
            }
            Kind::File => return Ok(rustix::io::read(fd, buffer)?),
            Kind::Stream => {}
        }
        if !self.asks_first() {
            match read_nowait(fd, buffer) {
                Err(error) if is_refusal(&error) => self.ask_first(),
                done => return done,
            }
        }
        if !is_ready(fd, Interest::Readable)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(rustix::io::read(fd, buffer)?)
    }

    pub(super) fn write(&self, fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
        match self.kind {
            Kind::Socket => return Ok(rustix::net::send(fd, bytes, SEND)?),
            Kind::File => return Ok(rustix::io::write(fd, bytes)?),
            Kind::Stream => {}
        }
        if !self.asks_first() {
            match write_nowait(fd, bytes) {
                Err(error) if is_refusal(&error) => self.ask_first(),
                done => return done,
            }
        }
        if !is_ready(fd, Interest::Writable)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let room = bytes.len().min(PIPE_BUF);
        Ok(rustix::io::write(fd, &bytes[..room])?)
    }

    fn asks_first(&self) -> bool {
        self.asks_first.load(Ordering::Relaxed)
    }

    fn ask_first(&self) {
        self.asks_first.store(true, Ordering::Relaxed);
    }
}

impl Clone for Manner {
    fn clone(&self) -> Self {
        Self::new(self.kind, self.asks_first())
    }
}

/// A peer that has gone is an error, not a `SIGPIPE`, where the call can say so; elsewhere std has
/// set it on the socket.
#[cfg(not(target_vendor = "apple"))]
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
#[cfg(target_vendor = "apple")]
const SEND: SendFlags = SendFlags::DONTWAIT;

/// Whether the kernel cannot do it this way, so that nothing was done.
fn is_refusal(error: &io::Error) -> bool {
    use rustix::io::Errno;
    let refusals = [Errno::OPNOTSUPP, Errno::NOSYS, Errno::INVAL, Errno::SPIPE];
    Errno::from_io_error(error).is_some_and(|error| refusals.contains(&error))
}

#[cfg(all(target_os = "linux", not(cleanbreak_portable)))]
use with_the_call::{NOT_WITH_THE_CALL, read_nowait, write_nowait};

#[cfg(all(target_os = "linux", not(cleanbreak_portable)))]
mod with_the_call {
    use std::io::{self, IoSlice, IoSliceMut};
    use std::os::fd::BorrowedFd;

    use rustix::io::{ReadWriteFlags, preadv2, pwritev2};

    pub(super) const NOT_WITH_THE_CALL: bool = false;

    /// Where the descriptor stands.
    const HERE: u64 = u64::MAX;

    pub(super) fn read_nowait(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        let buffer = &mut [IoSliceMut::new(buffer)];
        Ok(preadv2(fd, buffer, HERE, ReadWriteFlags::NOWAIT)?)
    }

    pub(super) fn write_nowait(fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
        Ok(pwritev2(
            fd,
            &[IoSlice::new(bytes)],
            HERE,
            ReadWriteFlags::NOWAIT,
        )?)
    }
}

#[cfg(not(all(target_os = "linux", not(cleanbreak_portable))))]
use not_with_the_call::{NOT_WITH_THE_CALL, read_nowait, write_nowait};

#[cfg(not(all(target_os = "linux", not(cleanbreak_portable))))]
mod not_with_the_call {
    use std::io;
    use std::os::fd::BorrowedFd;

    pub(super) const NOT_WITH_THE_CALL: bool = true;

    pub(super) fn read_nowait(_: BorrowedFd<'_>, _: &mut [u8]) -> io::Result<usize> {
        Err(rustix::io::Errno::NOSYS.into())
    }

    pub(super) fn write_nowait(_: BorrowedFd<'_>, _: &[u8]) -> io::Result<usize> {
        Err(rustix::io::Errno::NOSYS.into())
    }
}
