//! Connecting that ends with a token.

use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::io::Errno;
use rustix::net::{AddressFamily, SocketType, sockopt};

use super::wait::{Interest, Limit, What, wait};
use crate::cancel::CancelToken;
use crate::clock::Instant;
use crate::fault::{self, At};

/// Connects to `address`, until `token` is cancelled: `TcpStream::connect`, with a way out.
///
/// It takes an address, not a name, because a name's look-up cannot be ended: it is a call into the
/// C library, which asks name servers by rules and timeouts of its own. If it must not hold a
/// thread that has to stop, look the name up on another.
///
/// On cancellation the attempt is given up and its socket closed.
///
/// # Errors
///
/// [`Cancelled`](crate::Cancelled), as an [`io::Error`], when `token` is or gets cancelled; otherwise
/// what the operating system says.
///
/// # Examples
///
/// ```
/// use std::io::ErrorKind;
/// use std::net::TcpListener;
/// use cleanbreak::{CancelToken, io::{cancellation, connect}};
///
/// let token = CancelToken::new();
/// let listener = TcpListener::bind("127.0.0.1:0").unwrap();
/// let address = listener.local_addr().unwrap();
/// assert_eq!(connect(&address, &token).unwrap().peer_addr().unwrap(), address);
///
/// drop(listener);
/// assert_eq!(connect(&address, &token).unwrap_err().kind(), ErrorKind::ConnectionRefused);
/// token.cancel();
/// assert!(cancellation(&connect(&address, &token).unwrap_err()).is_some());
/// ```
///
/// A name does not compile:
///
/// ```compile_fail,E0308
/// # let token = cleanbreak::CancelToken::new();
/// cleanbreak::io::connect("example.org:80", &token);
/// ```
#[track_caller]
pub fn connect(address: &SocketAddr, token: &CancelToken) -> io::Result<TcpStream> {
    connect_within(address, Limit::token(token), What::here(CONNECT))
}

/// Connects as [`connect`] does, within `timeout` by the token's clock.
///
/// # Errors
///
/// As [`connect`], and [`TimedOut`](io::ErrorKind::TimedOut).
///
/// # Examples
///
/// ```
/// use std::io::ErrorKind;
/// use std::net::TcpListener;
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock, io::{cancellation, connect_timeout}};
///
/// let clock = Clock::manual();
/// let token = CancelToken::with_clock(&clock);
/// let listener = TcpListener::bind("127.0.0.1:0").unwrap(); // accepts nobody
/// let address = listener.local_addr().unwrap();
/// # rustix::net::listen(&listener, 0).unwrap(); // one may wait
/// let _first = connect_timeout(&address, &token, Duration::MAX).unwrap(); // fills its queue
/// let late = std::thread::scope(|s| {
///     let second = s.spawn(|| connect_timeout(&address, &token, Duration::from_secs(5)));
///     clock.await_timers(1);
///     clock.advance(Duration::from_secs(5));
///     second.join().unwrap().unwrap_err()
/// });
/// assert_eq!(late.kind(), ErrorKind::TimedOut);
/// assert!(cancellation(&late).is_none()); // nobody cancelled anything
/// ```
#[track_caller]
pub fn connect_timeout(
    address: &SocketAddr,
    token: &CancelToken,
    timeout: Duration,
) -> io::Result<TcpStream> {
    connect_within(address, Limit::timeout(token, timeout), What::here(CONNECT))
}

/// Connects as [`connect`] does, until `deadline` at the latest, by the token's clock.
///
/// # Errors
///
/// As [`connect_timeout`].
///
/// # Examples
///
/// ```
/// use std::io::ErrorKind;
/// use std::net::TcpListener;
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock, io::connect_deadline};
///
/// let clock = Clock::manual();
/// let token = CancelToken::with_clock(&clock);
/// let deadline = clock.deadline_after(Duration::from_secs(5)).unwrap(); // for all attempts
/// let listener = TcpListener::bind("127.0.0.1:0").unwrap(); // accepts nobody
/// let address = listener.local_addr().unwrap();
/// # rustix::net::listen(&listener, 0).unwrap(); // one may wait
/// let _first = connect_deadline(&address, &token, deadline).unwrap(); // fills its queue
/// clock.advance(Duration::from_secs(5));
/// let late = connect_deadline(&address, &token, deadline).unwrap_err();
/// assert_eq!(late.kind(), ErrorKind::TimedOut);
/// ```
#[track_caller]
pub fn connect_deadline(
    address: &SocketAddr,
    token: &CancelToken,
    deadline: Instant,
) -> io::Result<TcpStream> {
    connect_within(
        address,
        Limit::deadline(token, deadline),
        What::here(CONNECT),
    )
}

const CONNECT: &str = "connect";

fn connect_within(address: &SocketAddr, limit: Limit<'_>, what: What) -> io::Result<TcpStream> {
    fault::pass(At::IoAttempt);
    limit.token.check()?;
    let stream = new_socket(address)?;
    // The descriptor is new, so nobody shares its mode.
    stream.set_nonblocking(true)?;
    match rustix::net::connect(&stream, address) {
        Ok(()) => {}
        // Interrupted by a signal, it goes on like one in progress.
        Err(Errno::INPROGRESS | Errno::INTR) => {
            wait(&[(stream.as_fd(), Interest::Writable)], limit, None, what)?;
            sockopt::socket_error(&stream)??;
        }
        Err(error) => return Err(error.into()),
    }
    stream.set_nonblocking(false)?;
    Ok(stream)
}

fn new_socket(address: &SocketAddr) -> io::Result<TcpStream> {
    let family = match address {
        SocketAddr::V4(_) => AddressFamily::INET,
        SocketAddr::V6(_) => AddressFamily::INET6,
    };
    #[cfg(not(target_vendor = "apple"))]
    let socket = {
        use rustix::net::{SocketFlags, socket_with};
        socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?
    };
    #[cfg(target_vendor = "apple")]
    let socket = {
        let socket = rustix::net::socket(family, SocketType::STREAM, None)?;
        rustix::io::fcntl_setfd(&socket, rustix::io::FdFlags::CLOEXEC)?;
        sockopt::set_socket_nosigpipe(&socket, true)?;
        socket
    };
    Ok(socket.into())
}
