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
use std::sync::OnceLock;

use rustix::fs::FileType;
use rustix::io::Errno;
use rustix::net::{RecvFlags, SendFlags};
use rustix::pipe::PIPE_BUF;

use super::wait::{Interest, is_ready};
use crate::sync::{AtomicBool, Ordering};

/// Which call does not block on a descriptor; found out by the first.
#[derive(Clone, Debug, Default)]
pub(super) struct Manner(OnceLock<Kind>);

#[derive(Clone, Debug)]
enum Kind {
    Socket,
    /// Pipes, terminals, devices.
    Stream(Stream),
    /// Always ready, and no call waits for anybody but the disk.
    File,
}

/// Set when the kernel would not take the wish with the call. Relaxed: each call finds out for
/// itself.
#[derive(Debug)]
struct Stream {
    asks_first: AtomicBool,
}

impl Manner {
    pub(super) fn read(&self, fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        match self.unless_socket(fd, || recv(fd, buffer)) {
            Ok(done) => done,
            Err(Kind::Stream(stream)) => stream.read(fd, buffer),
            Err(_) => Ok(rustix::io::read(fd, buffer)?),
        }
    }

    pub(super) fn write(&self, fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
        match self.unless_socket(fd, || rustix::net::send(fd, bytes, SEND)) {
            Ok(done) => done,
            Err(Kind::Stream(stream)) => stream.write(fd, bytes),
            Err(_) => Ok(rustix::io::write(fd, bytes)?),
        }
    }

    /// Tries `call`, which only a socket takes, unless this is known to be something else.
    fn unless_socket(
        &self,
        fd: BorrowedFd<'_>,
        call: impl FnOnce() -> Result<usize, Errno>,
    ) -> Result<io::Result<usize>, &Kind> {
        match self.0.get() {
            Some(Kind::Socket) => return Ok(call().map_err(io::Error::from)),
            Some(other) => return Err(other),
            None => {}
        }
        // Asking it costs another system call, which the usual case can do without.
        match call() {
            Err(Errno::NOTSOCK) => Err(self.0.get_or_init(|| Kind::of(fd))),
            done => {
                self.0.get_or_init(|| Kind::Socket);
                Ok(done.map_err(io::Error::from))
            }
        }
    }
}

impl Kind {
    /// Of what is no socket.
    fn of(fd: BorrowedFd<'_>) -> Self {
        // It fails where the descriptor is closed, and then the call will say so.
        let mode = rustix::fs::fstat(fd).map(|stat| FileType::from_raw_mode(stat.st_mode as _));
        match mode {
            Ok(FileType::RegularFile | FileType::Directory | FileType::BlockDevice) => Self::File,
            _ => Self::Stream(Stream::new(NOT_WITH_THE_CALL)),
        }
    }
}

impl Stream {
    fn new(asks_first: bool) -> Self {
        let asks_first = AtomicBool::new(asks_first);
        Self { asks_first }
    }

    fn read(&self, fd: BorrowedFd<'_>, buffer: &mut [u8]) -> io::Result<usize> {
        if let Some(done) = self.with_the_call(|| read_nowait(fd, buffer)) {
            return done;
        }
        if !is_ready(fd, Interest::Readable)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(rustix::io::read(fd, buffer)?)
    }

    fn write(&self, fd: BorrowedFd<'_>, bytes: &[u8]) -> io::Result<usize> {
        if let Some(done) = self.with_the_call(|| write_nowait(fd, bytes)) {
            return done;
        }
        if !is_ready(fd, Interest::Writable)? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let room = bytes.len().min(PIPE_BUF);
        Ok(rustix::io::write(fd, &bytes[..room])?)
    }

    /// `None` if the kernel does not take the wish, so that nothing was done.
    fn with_the_call(
        &self,
        call: impl FnOnce() -> Result<usize, Errno>,
    ) -> Option<io::Result<usize>> {
        if self.asks_first.load(Ordering::Relaxed) {
            return None;
        }
        match call() {
            Err(Errno::OPNOTSUPP | Errno::NOSYS | Errno::INVAL | Errno::SPIPE) => {
                self.asks_first.store(true, Ordering::Relaxed);
                None
            }
            done => Some(done.map_err(io::Error::from)),
        }
    }
}

impl Clone for Stream {
    fn clone(&self) -> Self {
        Self::new(self.asks_first.load(Ordering::Relaxed))
    }
}

fn recv(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
    rustix::net::recv(fd, buffer, RecvFlags::DONTWAIT).map(|(length, _)| length)
}

/// A peer that has gone is an error, not a `SIGPIPE`, where the call can say so; elsewhere std has
/// set it on the socket.
#[cfg(not(target_vendor = "apple"))]
const SEND: SendFlags = SendFlags::DONTWAIT.union(SendFlags::NOSIGNAL);
#[cfg(target_vendor = "apple")]
const SEND: SendFlags = SendFlags::DONTWAIT;

#[cfg(all(target_os = "linux", not(cleanbreak_portable)))]
use with_the_call::{NOT_WITH_THE_CALL, read_nowait, write_nowait};

#[cfg(all(target_os = "linux", not(cleanbreak_portable)))]
mod with_the_call {
    use std::io::{IoSlice, IoSliceMut};
    use std::os::fd::BorrowedFd;

    use rustix::io::{Errno, ReadWriteFlags, preadv2, pwritev2};

    pub(super) const NOT_WITH_THE_CALL: bool = false;

    /// Where the descriptor stands.
    const HERE: u64 = u64::MAX;

    pub(super) fn read_nowait(fd: BorrowedFd<'_>, buffer: &mut [u8]) -> Result<usize, Errno> {
        let buffer = &mut [IoSliceMut::new(buffer)];
        preadv2(fd, buffer, HERE, ReadWriteFlags::NOWAIT)
    }

    pub(super) fn write_nowait(fd: BorrowedFd<'_>, bytes: &[u8]) -> Result<usize, Errno> {
        pwritev2(fd, &[IoSlice::new(bytes)], HERE, ReadWriteFlags::NOWAIT)
    }
}

#[cfg(not(all(target_os = "linux", not(cleanbreak_portable))))]
use not_with_the_call::{NOT_WITH_THE_CALL, read_nowait, write_nowait};

#[cfg(not(all(target_os = "linux", not(cleanbreak_portable))))]
mod not_with_the_call {
    use std::os::fd::BorrowedFd;

    use rustix::io::Errno;

    pub(super) const NOT_WITH_THE_CALL: bool = true;

    pub(super) fn read_nowait(_: BorrowedFd<'_>, _: &mut [u8]) -> Result<usize, Errno> {
        Err(Errno::NOSYS)
    }

    pub(super) fn write_nowait(_: BorrowedFd<'_>, _: &[u8]) -> Result<usize, Errno> {
        Err(Errno::NOSYS)
    }
}
