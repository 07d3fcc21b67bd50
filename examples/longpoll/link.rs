//! One client's socket with its input buffer. Every wait on it ends with its step's token.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::sync::Arc;

use cleanbreak::io::{Interest, Interruptible, Notify, Woken, cancellation};
use cleanbreak::{CancelToken, Cancelled};

use super::topics::Alarm;

/// Bytes of a rejected message that are read and thrown away, so that the answer is not lost in a
/// reset.
const MAX_DISCARDED: usize = 1024 * 1024;

pub(crate) struct Link {
    socket: Arc<TcpStream>,
    /// Tells that there is news.
    pub(crate) news: Arc<Notify>,
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

impl From<io::Error> for Broken {
    fn from(error: io::Error) -> Self {
        match cancellation(&error) {
            Some(cancelled) => Self::Told(cancelled.clone()),
            None => Self::Gone,
        }
    }
}

impl Alarm for Notify {
    fn ring(&self) {
        self.notify();
    }
}

impl Link {
    pub(crate) fn new(socket: Arc<TcpStream>) -> Self {
        Self {
            socket,
            news: Arc::default(),
            input: Vec::new(),
        }
    }

    /// The socket, bound to the token of a step.
    fn bound(&self, token: &CancelToken) -> Interruptible<&TcpStream> {
        Interruptible::new(&*self.socket, token)
    }

    /// Reads more input, at least one byte.
    pub(crate) fn fill(&mut self, token: &CancelToken) -> Result<(), Broken> {
        let mut chunk = [0; 4096];
        let length = self.bound(token).read(&mut chunk)?;
        self.input.extend_from_slice(&chunk[..length]);
        match length {
            0 => Err(Broken::Gone),
            _ => Ok(()),
        }
    }

    /// Writes all of `bytes`.
    pub(crate) fn send(&self, bytes: &[u8], token: &CancelToken) -> Result<(), Broken> {
        Ok(self.bound(token).write_all(bytes)?)
    }

    /// Waits for news while watching for the client to hang up.
    ///
    /// Readable input does not end the wait: a request that was sent behind the poll waits its
    /// turn. A client that closes only its sending side cannot be told from one that has gone, and
    /// counts as gone.
    pub(crate) fn wait_for_news(&self, token: &CancelToken) -> Result<(), Broken> {
        match self
            .news
            .wait_or_ready(&self.socket, Interest::HangUp, token)?
        {
            Woken::Notified => Ok(()),
            _ => Err(Broken::Gone),
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
