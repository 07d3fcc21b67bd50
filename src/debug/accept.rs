//! The threads: one that accepts, and one for each request while it lasts.
//!
//! A thread for each request, and not a few that serve a queue: then a slow client holds up nobody.
//! How many there may be is bounded, so is what each may take, and the group joins them all.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::time::Duration;

use super::response::Response;
use super::server::Shared;
use super::{request, routes};
use crate::cancel::CancelToken;
use crate::fault::{self, At};
use crate::group::{Group, GroupBuilder};
use crate::io::{Interruptible, cancellation};
use crate::sync::Arc;

/// Requests at a time; one more is answered 503.
const REQUESTS: usize = 16;

/// What a client may take to send its head, and then to take its answer.
const HEAD_TIME: Duration = Duration::from_secs(5);
const ANSWER_TIME: Duration = Duration::from_secs(10);

/// How long, and how much, what a client still sends is read and thrown away.
const LINGER_TIME: Duration = Duration::from_secs(1);
const LINGER_BYTES: usize = 256 * 1024;

/// After an error of the system's, such as no descriptor left.
const PAUSE: Duration = Duration::from_millis(100);

/// Accepts until the server's token is cancelled, and returns when all requests have ended.
pub(super) fn accept(shared: &Shared, listener: TcpListener) {
    shared.enter();
    // A panic in one request (of a user's destructor, say) is not the end of the server.
    let group = GroupBuilder::new()
        .name("debug-request")
        .limit(REQUESTS)
        .backlog(0)
        .collect_panics();
    let done: anyhow::Result<()> = group.scope(&shared.token, |requests| {
        // By value: it is closed when the token is cancelled, before the requests have ended.
        let listener = Interruptible::new(listener, requests.token());
        'accepting: loop {
            match listener.accept() {
                Ok((stream, _)) => welcome(requests, shared, stream),
                Err(error) if cancellation(&error).is_some() => break 'accepting,
                Err(_) if requests.token().wait_timeout(PAUSE) => break 'accepting,
                Err(_) => {}
            }
        }
        Ok(())
    });
    // Its tasks return no error, and their panics were printed by the hook.
    drop(done);
}

/// Gives a connection a thread, or tells it that there is none.
fn welcome<'scope>(requests: &'scope Group<'scope, '_>, shared: &'scope Shared, stream: TcpStream) {
    let stream = Arc::new(stream);
    let theirs = stream.clone();
    let started = requests.try_spawn(move |token| {
        shared.enter();
        fault::pass(At::DebugRequest);
        serve(shared, theirs, token).ok();
        Ok(())
    });
    if started.is_err() {
        let full = Response::refusal("503 Service Unavailable", "too many requests at a time");
        // Into the empty buffer of a new socket, and never waited for.
        if stream.set_nonblocking(true).is_ok() {
            full.send(&mut &*stream, false).ok();
        }
    }
}

fn serve(shared: &Shared, stream: Arc<TcpStream>, token: &CancelToken) -> io::Result<()> {
    let mut link = Interruptible::new(stream, token);
    let by = |time| token.clock().deadline_after(time);
    link.set_deadline(by(HEAD_TIME));
    let request = request::read(&mut link);
    let Some((response, head_only)) = routes::answer(shared, token, &request) else {
        return Ok(());
    };
    link.set_deadline(by(ANSWER_TIME));
    response.send(&mut link, head_only)?;
    link.flush()?;
    link.get_ref().shutdown(Shutdown::Write)?;
    link.set_deadline(by(LINGER_TIME));
    linger(&mut link)
}

/// Reads what the client still sends: a socket that is closed with unread bytes in it resets the
/// connection, and the client may lose the answer.
fn linger(link: &mut impl Read) -> io::Result<()> {
    let (mut buffer, mut read) = ([0; 4096], 0);
    while read < LINGER_BYTES {
        match link.read(&mut buffer) {
            Ok(0) => break,
            Ok(length) => read += length,
            Err(error) if error.kind() == ErrorKind::TimedOut => break,
            Err(error) => return Err(error),
        }
    }
    Ok(())
}
