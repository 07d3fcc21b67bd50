//! The acceptor: the only one who touches the listener, and who closes it by leaving.

use std::io;
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use cleanbreak::CancelToken;
use cleanbreak::io::{Interruptible, Waker, cancellation};
use rustix::net::sockopt;

use super::connection::Connection;
use super::link::Link;
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
    Ok(listener)
}

/// Accepts until `stop` is cancelled; `start` gives a connection its thread. The listener is closed
/// on return.
pub(crate) fn accept<'s>(
    listener: TcpListener,
    stop: &CancelToken,
    service: &'s Service,
    start: impl Fn(Waker, Connection<'s>) -> io::Result<()>,
) -> io::Result<()> {
    // Its own, which it will need when there are no descriptors left.
    Waker::new()?.install();
    let listener = Interruptible::new(listener, stop);
    let mut pause = FIRST_PAUSE;
    'accepting: loop {
        let accepted = listener
            .accept()
            .and_then(|(socket, _)| welcome(socket, service, &start));
        match accepted {
            Ok(()) => pause = FIRST_PAUSE,
            Err(error) if cancellation(&error).is_some() => break 'accepting,
            // No descriptor, memory or thread left. The connection that waits does not go away, so
            // accepting it again at once would spin.
            Err(error) => {
                count(&service.tally.accept_pauses);
                log(format_args!("accepting pauses for {pause:?}: {error}"));
                if stop.wait_timeout(pause) {
                    break 'accepting;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    Ok(())
}

/// Registers a connection and starts it. When it cannot be served, dropping it closes it.
fn welcome<'s>(
    socket: TcpStream,
    service: &'s Service,
    start: &impl Fn(Waker, Connection<'s>) -> io::Result<()>,
) -> io::Result<()> {
    // A client that resets at once fails these; that is its own affair and no reason to pause.
    if prepare(&socket).is_err() {
        return Ok(());
    }
    // The connection's second descriptor: better missed here than by its thread.
    let waker = Waker::new()?;
    let socket = Arc::new(socket);
    let (ticket, refused) = match service
        .registry
        .admit(&socket, service.live.current().max_connections)
    {
        Admission::Served(ticket) => (ticket, false),
        Admission::Refused(ticket) => (ticket, true),
        Admission::Dropped => return Ok(()),
    };
    let connection = Connection {
        service,
        link: Link::new(socket),
        ticket,
        refused,
    };
    start(waker, connection)
}

fn prepare(socket: &TcpStream) -> io::Result<()> {
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
