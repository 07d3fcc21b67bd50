//! The end of a child process as something that a wait can see.
//!
//! # Invariants, of the fallback
//!
//! 1. A child has an entry in `WATCHED` exactly while a thread waits for its end. The thread takes
//!    the entry out, and then notifies.
//! 2. The thread leaves the child to be reaped by its owner (`WNOWAIT`).
//! 3. An entry may be that of an earlier process with the same number, whose thread has not taken it
//!    out yet. Then the notification comes early, and the caller, who looks at the child, waits
//!    again.

use std::io;
use std::process::Child;

use rustix::process::Pid;

use super::child::pid;
use super::notify::Notify;
use super::wait::{Interest, Limit, What, wait};
use crate::sync::Arc;

/// Something that tells when a child has ended.
pub(super) enum Exit {
    #[cfg(all(target_os = "linux", not(cleanbreak_portable)))]
    Descriptor(std::os::fd::OwnedFd),
    Watched(Watched),
}

impl Exit {
    /// Of a child that was not reaped. `None` if it has ended.
    pub(super) fn of(child: &Child) -> io::Result<Option<Self>> {
        let pid = pid(child)?;
        #[cfg(all(target_os = "linux", not(cleanbreak_portable)))]
        {
            use rustix::io::Errno;
            use rustix::process::{PidfdFlags, pidfd_open};
            match pidfd_open(pid, PidfdFlags::empty()) {
                Ok(descriptor) => return Ok(Some(Self::Descriptor(descriptor))),
                Err(Errno::SRCH) => return Ok(None),
                // An old kernel, or a sandbox.
                Err(Errno::NOSYS | Errno::PERM | Errno::ACCESS | Errno::INVAL) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(Some(Self::Watched(watch::watch(pid)?)))
    }

    pub(super) fn wait(&self, limit: Limit<'_>, what: What) -> io::Result<()> {
        match self {
            #[cfg(all(target_os = "linux", not(cleanbreak_portable)))]
            Self::Descriptor(descriptor) => {
                use std::os::fd::AsFd;
                wait(
                    &[(descriptor.as_fd(), Interest::Readable)],
                    limit,
                    None,
                    what,
                )?;
            }
            Self::Watched(watched) => {
                wait(&[], limit, Some(&watched.ended), what)?;
            }
        }
        Ok(())
    }
}

/// A child that a thread waits for.
pub(super) struct Watched {
    pid: Pid,
    ended: Arc<Notify>,
}

impl Drop for Watched {
    fn drop(&mut self) {
        watch::forget(self);
    }
}

mod watch {
    use std::io;
    use std::panic::Location;

    use rustix::io::retry_on_intr;
    use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

    use super::Watched;
    use crate::io::Notify;
    use crate::sync::Arc;
    use crate::sync::plain::Mutex;
    use crate::threads::{self, Spec};

    const NAME: &str = "cleanbreak child watch";

    static WATCHED: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

    struct Entry {
        pid: Pid,
        waiting: Vec<Arc<Notify>>,
    }

    pub(super) fn watch(pid: Pid) -> io::Result<Watched> {
        let ended = Arc::new(Notify::new());
        let mut watched = WATCHED.lock();
        match watched.iter_mut().find(|entry| entry.pid == pid) {
            Some(entry) => entry.waiting.push(ended.clone()),
            None => {
                let spec = Spec::new(NAME, Location::caller());
                // Not joined: it ends with the child, which may outlive everybody here.
                let thread = threads::spawn(spec, move || await_end(pid));
                thread.map_err(io::Error::other)?;
                let waiting = vec![ended.clone()];
                watched.push(Entry { pid, waiting });
            }
        }
        Ok(Watched { pid, ended })
    }

    fn await_end(pid: Pid) {
        let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
        let shown = threads::waiting_on("see a child process end");
        // It fails when the child was reaped, which is an end too.
        let _ = retry_on_intr(|| waitid(WaitId::Pid(pid), options));
        drop(shown);
        let mut watched = WATCHED.lock();
        let place = watched.iter().position(|entry| entry.pid == pid);
        let entry = place.map(|place| watched.swap_remove(place));
        drop(watched);
        for waiting in entry.into_iter().flat_map(|entry| entry.waiting) {
            waiting.notify();
        }
    }

    /// A wait was given up; the thread stays for as long as the child.
    pub(super) fn forget(gone: &Watched) {
        let mut watched = WATCHED.lock();
        if let Some(entry) = watched.iter_mut().find(|entry| entry.pid == gone.pid) {
            entry
                .waiting
                .retain(|ended| !Arc::ptr_eq(ended, &gone.ended));
        }
    }
}
