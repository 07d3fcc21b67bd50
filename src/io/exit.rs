//! The end of a child process as something that a wait can see: a pidfd, or a thread that waits for
//! it.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::process::Child;

use rustix::io::Errno;
use rustix::process::Pid;

use super::child::pid;
use super::wait::{Interest, Limit, What, wait};
use super::watch::{self, Watched};

/// Something that tells when a child has ended.
pub(super) enum Exit {
    Descriptor(OwnedFd),
    Watched(Watched),
}

impl Exit {
    /// Of a child that was not reaped; `None` if somebody else has reaped it.
    pub(super) fn of(child: &Child) -> io::Result<Option<Self>> {
        let pid = pid(child)?;
        match descriptor(pid) {
            Ok(Some(descriptor)) => Ok(Some(Self::Descriptor(descriptor))),
            Ok(None) => Ok(Some(Self::Watched(watch::watch(pid)?))),
            Err(Errno::SRCH) => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    pub(super) fn wait(&self, limit: Limit<'_>, what: What) -> io::Result<()> {
        let woken = match self {
            Self::Descriptor(descriptor) => {
                let fds = [(descriptor.as_fd(), Interest::Readable)];
                wait(&fds, limit, None, what)
            }
            Self::Watched(watched) => wait(&[], limit, Some(watched.ended()), what),
        };
        woken.map(drop)
    }
}

/// `None` where there is no such thing: an old kernel, or a sandbox that forbids it.
#[cfg(all(target_os = "linux", not(cleanbreak_portable)))]
fn descriptor(pid: Pid) -> Result<Option<OwnedFd>, Errno> {
    use rustix::process::{PidfdFlags, pidfd_open};
    match pidfd_open(pid, PidfdFlags::empty()) {
        Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS | Errno::INVAL) => Ok(None),
        opened => opened.map(Some),
    }
}

#[cfg(not(all(target_os = "linux", not(cleanbreak_portable))))]
fn descriptor(_: Pid) -> Result<Option<OwnedFd>, Errno> {
    Ok(None)
}
