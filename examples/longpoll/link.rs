//! One client's socket with its input buffer. Reading and writing try the socket first and block in
//! `ready` only, so that every wait ends with its token.

use std::io::{ErrorKind, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use cleanbreak::{CancelToken, Cancelled, threads};
use rustix::event::PollFlags;

use super::ready::{Ready, Waker, ready};

/// Bytes of a rejected message that are read and thrown away, so that the answer is not lost in a
/// reset.
const MAX_DISCARDED: usize = 1024 * 1024;

pub(crate) struct Link {
    socket: Arc<TcpStream>,
    pub(crate) waker: Arc<Waker>,
    /// What was read and not used yet: the request that is coming in, and any that was sent behind
    /// it.
    pub(crate) input: Vec<u8>,
}

/// Why a step on the link did not get done.
#[derive(Debug)]
pub(crate) enum Broken {
    /// The client hung up, or the connection failed.
    Gone,
    /// The step's token ended: its deadline, or the shutdown.
    Told(Cancelled),
}

impl From<Cancelled> for Broken {
    fn from(cancelled: Cancelled) -> Self {
        Self::Told(cancelled)
    }
}

/// What ended a wait for news.
pub(crate) enum Stirred {
    Rung,
    HungUp,
}

impl Link {
    pub(crate) fn new(socket: Arc<TcpStream>, waker: Arc<Waker>) -> Self {
        Self {
            socket,
            waker,
            input: Vec::new(),
        }
    }

    /// Reads more input, at least one byte.
    pub(crate) fn fill(&mut self, token: &CancelToken) -> Result<(), Broken> {
        let mut chunk = [0; 4096];
        'reading: loop {
            match (&*self.socket).read(&mut chunk) {
                Ok(0) => return Err(Broken::Gone),
                Ok(length) => {
                    self.input.extend_from_slice(&chunk[..length]);
                    return Ok(());
                }
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue 'reading,
                    ErrorKind::WouldBlock => {
                        let _wait = threads::waiting_on("read from a client");
                        ready(&self.socket, PollFlags::IN, &self.waker, token)?;
                    }
                    _ => return Err(Broken::Gone),
                },
            }
        }
    }

    /// Writes all of `bytes`.
    pub(crate) fn send(&self, bytes: &[u8], token: &CancelToken) -> Result<(), Broken> {
        let mut rest = bytes;
        'writing: while !rest.is_empty() {
            match (&*self.socket).write(rest) {
                Ok(length) => rest = &rest[length..],
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => continue 'writing,
                    ErrorKind::WouldBlock => {
                        let _wait = threads::waiting_on("write to a client");
                        ready(&self.socket, PollFlags::OUT, &self.waker, token)?;
                    }
                    _ => return Err(Broken::Gone),
                },
            }
        }
        Ok(())
    }

    /// Waits for a ring of the waker while watching for the client to hang up.
    ///
    /// Readable input does not end the wait: a request that was sent behind the poll waits its
    /// turn. A client that closes only its sending side cannot be told from one that has gone, and
    /// counts as gone.
    pub(crate) fn wait_for_ring(&self, token: &CancelToken) -> Result<Stirred, Cancelled> {
        let _wait = threads::waiting_on("get news for a client");
        match ready(&self.socket, PollFlags::RDHUP, &self.waker, token)? {
            Ready::Rung => Ok(Stirred::Rung),
            Ready::Socket => Ok(Stirred::HungUp),
        }
    }

    /// Ends the sending side, then reads past what the client is still sending, until it closes or
    /// `token` ends.
    pub(crate) fn linger(&mut self, token: &CancelToken) {
        if self.socket.shutdown(std::net::Shutdown::Write).is_err() {
            return;
        }
        let mut discarded = self.input.len();
        'discarding: while discarded < MAX_DISCARDED {
            self.input.clear();
            if self.fill(token).is_err() {
                break 'discarding;
            }
            discarded += self.input.len();
        }
    }
}
