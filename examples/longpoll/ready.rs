//! The one way to block in this service: poll(2) on a socket and on an eventfd, for as long as a
//! token allows.
//!
//! The token's hook writes the eventfd, so a cancellation and a deadline wake the thread through
//! the same door as news from another thread does. There is no timeout in the call and no slice to
//! wait out.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

use cleanbreak::{CancelToken, Cancelled};
use rustix::event::{EventfdFlags, PollFd, PollFlags, eventfd, poll};

use super::topics::Alarm;

/// An eventfd that any thread may ring; it stays readable until its owner clears it.
pub(crate) struct Waker {
    fd: OwnedFd,
}

impl Waker {
    pub(crate) fn new() -> io::Result<Self> {
        let fd = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        Ok(Self { fd })
    }

    fn clear(&self) {
        // It fails when nobody rang: nothing to clear.
        let _ = rustix::io::read(&self.fd, &mut [0; 8]);
    }
}

impl Alarm for Waker {
    fn ring(&self) {
        // It fails only when 2^64 - 2 rings are pending: the owner will wake anyway.
        let _ = rustix::io::write(&self.fd, &1_u64.to_ne_bytes());
    }
}

/// Why a wait ended, other than by its token.
pub(crate) enum Ready {
    /// The socket has one of the wanted events, or an error or a hang-up, which nobody can leave
    /// out.
    Socket,
    /// The waker was rung: by news, or without a reason that still holds.
    Rung,
}

/// Waits for `wanted` on `socket`, for a ring of `waker`, or for the end of `token`.
pub(crate) fn ready(
    socket: impl AsFd,
    wanted: PollFlags,
    waker: &Arc<Waker>,
    token: &CancelToken,
) -> Result<Ready, Cancelled> {
    let bell = Arc::clone(waker);
    let _hook = token.on_cancel(move || bell.ring());
    'interrupted: loop {
        token.check()?;
        let mut fds = [
            PollFd::new(&socket, wanted),
            PollFd::new(&waker.fd, PollFlags::IN),
        ];
        match poll(&mut fds, None) {
            Err(rustix::io::Errno::INTR) => continue 'interrupted,
            // Out of memory in the kernel, or a descriptor that is not open: reading the socket
            // will tell.
            Err(_) => return Ok(Ready::Socket),
            Ok(_) => {}
        }
        if !fds[0].revents().is_empty() {
            return Ok(Ready::Socket);
        }
        waker.clear();
        token.check()?;
        return Ok(Ready::Rung);
    }
}
