//! The other side: answers, errs and hangs as the script says.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicU64, Ordering};

use cleanbreak::io::{Interruptible, cancellation};
use cleanbreak::{CancelToken, GroupBuilder};

use super::record::Pace;
use super::script::{Fate, fate};

const CONNECTIONS: usize = 64;

pub(crate) struct Upstream {
    pub(crate) pace: Pace,
    pub(crate) seed: u64,
    /// Requests that came.
    pub(crate) requests: AtomicU64,
}

impl Upstream {
    /// Serves until `token` is cancelled; every connection has a thread, and all are joined.
    pub(crate) fn serve(&self, listener: TcpListener, token: &CancelToken) -> anyhow::Result<()> {
        let listener = Interruptible::new(listener, token);
        let connections = GroupBuilder::new().name("connection").limit(CONNECTIONS);
        connections.scope(token, |group| {
            'accepting: loop {
                match listener.accept() {
                    Ok((stream, _)) => {
                        group.spawn(move |token| {
                            // What goes wrong on a connection is its client's affair.
                            self.converse(stream, token).ok();
                            Ok(())
                        })?;
                    }
                    Err(error) if cancellation(&error).is_some() => break 'accepting,
                    Err(error) => return Err(error.into()),
                }
            }
            Ok(())
        })
    }

    fn converse(&self, stream: TcpStream, token: &CancelToken) -> anyhow::Result<()> {
        let mut stream = Interruptible::new(stream, token);
        let (mut text, mut part) = (Vec::new(), [0; 512]);
        while !text.ends_with(b"\r\n\r\n") {
            let count = stream.read(&mut part)?;
            anyhow::ensure!(count > 0 && text.len() < 8192, "no request");
            text.extend_from_slice(&part[..count]);
        }
        let number = self.requests.fetch_add(1, Ordering::Relaxed);
        match fate(self.seed, number, self.pace.now()) {
            // Until the client has had enough, and closes.
            Fate::Hang => drop(stream.read(&mut part)?),
            Fate::Answer { status, after } => {
                token.sleep(self.pace.real(after))?;
                let price = 100 + number % 10;
                write!(
                    stream,
                    "HTTP/1.1 {status} -\r\ncontent-length: 3\r\n\r\n{price}"
                )?;
            }
        }
        Ok(())
    }
}
