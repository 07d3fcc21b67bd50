//! The acceptor: the only one who touches the listener, and who closes it by leaving.

use std::io::{self, ErrorKind};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use cleanbreak::CancelToken;
use rustix::event::PollFlags;
use rustix::net::sockopt;

use super::connection::Connection;
use super::link::Link;
use super::ready::{Waker, ready};
use super::registry::Admission;
use super::service::{Service, count, log};

const FIRST_PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// How many connections may wait to be accepted. std asks for 128; one more client than fit waits a
/// second for its own retry, and a thousand that arrive together are what this service is for. (The
/// system's `somaxconn` caps it.)
const BACKLOG: i32 = 4096;

pub(crate) fn listen(port: u16) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(("127.0.0.1", port))?;
    // Listening once more only changes the length of the queue.
    rustix::net::listen(&listener, BACKLOG)?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

/// Accepts until `stop` is cancelled; `start` gives a connection its thread. The listener is closed
/// on return.
pub(crate) fn accept<'s>(
    listener: TcpListener,
    stop: &CancelToken,
    service: &'s Service,
    start: impl Fn(Connection<'s>) -> io::Result<()>,
) -> io::Result<()> {
    let waker = Arc::new(Waker::new()?);
    let mut pause = FIRST_PAUSE;
    // Asked before every accept: a flood of connections must not hide the stop.
    'accepting: while !stop.is_cancelled() {
        let accepted = listener
            .accept()
            .and_then(|(socket, _)| welcome(socket, service, &start));
        match accepted {
            Ok(()) => pause = FIRST_PAUSE,
            Err(error) => match error.kind() {
                ErrorKind::WouldBlock => {
                    if ready(&listener, PollFlags::IN, &waker, stop).is_err() {
                        break 'accepting;
                    }
                }
                // The client was gone before we looked; the next one waits.
                ErrorKind::Interrupted | ErrorKind::ConnectionAborted => continue 'accepting,
                // No descriptor, memory or thread left. The listener stays readable, so polling it
                // would spin.
                _ => {
                    count(&service.tally.accept_pauses);
                    log(format_args!("accepting pauses for {pause:?}: {error}"));
                    if stop.wait_timeout(pause) {
                        break 'accepting;
                    }
                    pause = (pause * 2).min(LONGEST_PAUSE);
                }
            },
        }
    }
    Ok(())
}

/// Registers a connection and starts it. When it cannot be served, dropping it closes it.
fn welcome<'s>(
    socket: TcpStream,
    service: &'s Service,
    start: &impl Fn(Connection<'s>) -> io::Result<()>,
) -> io::Result<()> {
    // A client that resets at once fails these; that is its own affair and no reason to pause.
    if prepare(&socket).is_err() {
        return Ok(());
    }
    let waker = Arc::new(Waker::new()?);
    let socket = Arc::new(socket);
    let (ticket, refused) = match service
        .registry
        .admit(&socket, service.live.current().max_connections)
    {
        Admission::Served(ticket) => (ticket, false),
        Admission::Refused(ticket) => (ticket, true),
        Admission::Dropped => return Ok(()),
    };
    start(Connection {
        service,
        link: Link::new(socket, waker),
        ticket,
        refused,
    })
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
    socket.set_nonblocking(true)?;
    // Answers are written whole: nothing is gained by holding their last piece back.
    socket.set_nodelay(true)?;
    // A peer that lost its power never says goodbye; the kernel asks for it, and its silence is a
    // hang-up.
    sockopt::set_socket_keepalive(socket, true)?;
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(30))?;
    sockopt::set_tcp_keepintvl(socket, Duration::from_secs(10))?;
    sockopt::set_tcp_keepcnt(socket, 3)?;
    Ok(())
}
