//! Accepting that ends with a token.

use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::{SocketAddr as UnixAddr, UnixListener, UnixStream};

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use super::Interruptible;
use super::wait::{Interest, block_on};
use crate::sync::Arc;

mod sealed {
    pub trait Sealed {}
}

/// A listener of std's, by value, by reference or in an `Arc`.
///
/// # Examples
///
/// ```
/// use std::io;
/// use std::net::{TcpListener, TcpStream};
/// use std::sync::Arc;
/// use cleanbreak::CancelToken;
/// use cleanbreak::io::{Interruptible, Listen, cancellation};
///
/// /// The connections of any listener, until `token` is cancelled.
/// fn connections<L: Listen>(
///     listener: L,
///     token: &CancelToken,
/// ) -> impl Iterator<Item = io::Result<L::Stream>> {
///     let listener = Interruptible::new(listener, token);
///     std::iter::from_fn(move || match listener.accept() {
///         Err(error) if cancellation(&error).is_some() => None,
///         done => Some(done.map(|(stream, _peer)| stream)),
///     })
/// }
///
/// let token = CancelToken::new();
/// let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
/// let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
/// let mut connections = connections(listener, &token);
/// let accepted = connections.next().unwrap().unwrap();
/// assert_eq!(accepted.peer_addr().unwrap(), client.local_addr().unwrap());
/// token.cancel();
/// assert!(connections.next().is_none());
/// ```
pub trait Listen: AsFd + sealed::Sealed {
    /// A connection.
    type Stream: AsFd;
    /// Who connected.
    type Address;
    /// std's own `accept`.
    #[doc(hidden)]
    fn accept_plainly(&self) -> io::Result<(Self::Stream, Self::Address)>;
}

impl sealed::Sealed for TcpListener {}
impl Listen for TcpListener {
    type Stream = TcpStream;
    type Address = SocketAddr;
    fn accept_plainly(&self) -> io::Result<(TcpStream, SocketAddr)> {
        self.accept()
    }
}

impl sealed::Sealed for UnixListener {}
impl Listen for UnixListener {
    type Stream = UnixStream;
    type Address = UnixAddr;
    fn accept_plainly(&self) -> io::Result<(UnixStream, UnixAddr)> {
        self.accept()
    }
}

impl<L: Listen + ?Sized> sealed::Sealed for &L {}
impl<L: Listen + ?Sized> Listen for &L {
    type Stream = L::Stream;
    type Address = L::Address;
    fn accept_plainly(&self) -> io::Result<(L::Stream, L::Address)> {
        (**self).accept_plainly()
    }
}

impl<L: Listen> sealed::Sealed for Arc<L> {}
impl<L: Listen> Listen for Arc<L> {
    type Stream = L::Stream;
    type Address = L::Address;
    fn accept_plainly(&self) -> io::Result<(L::Stream, L::Address)> {
        (**self).accept_plainly()
    }
}

impl<L: Listen> Interruptible<L> {
    /// Accepts the next connection; the stream is std's, in blocking mode, for a token of its own.
    ///
    /// A client that was gone before it was accepted is passed over.
    ///
    /// This puts the listener into non-blocking mode and leaves it so: accept(2) takes the wish not
    /// to block in no other way, and "ready" is no promise where somebody else may take the
    /// connection first. Duplicates share the mode: who accepts on one of them without this gets
    /// [`WouldBlock`](io::ErrorKind::WouldBlock).
    ///
    /// # Errors
    ///
    /// See [`Interruptible`]. When there are no descriptors left, the connection stays in the queue
    /// and the next call fails at once again: pause before it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::net::{TcpListener, TcpStream};
    /// use cleanbreak::{CancelToken, scope, io::{Interruptible, cancellation}};
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    /// let address = listener.local_addr().unwrap();
    /// let served = scope(&CancelToken::new(), |group| {
    ///     let acceptor = group.spawn_named("acceptor", move |token| {
    ///         let (listener, mut served) = (Interruptible::new(listener, token), 0);
    ///         'accepting: loop {
    ///             match listener.accept() {
    ///                 Ok((_stream, _peer)) => served += 1,
    ///                 Err(error) if cancellation(&error).is_some() => break 'accepting,
    ///                 Err(error) => return Err(error.into()),
    ///             }
    ///         }
    ///         Ok(served)
    ///     })?;
    ///     let client = TcpStream::connect(address)?;
    ///     # std::io::Read::read(&mut &client, &mut [0])?; // the acceptor hangs up
    ///     group.token().cancel();
    ///     Ok(acceptor.join()?)
    /// });
    /// assert_eq!(served.unwrap(), 1);
    /// assert!(TcpStream::connect(address).is_err()); // the listener went with its thread
    /// ```
    #[track_caller]
    pub fn accept(&self) -> io::Result<(L::Stream, L::Address)> {
        let (listener, fd) = (self.get_ref(), self.get_ref().as_fd());
        let mode = fcntl_getfl(fd)?;
        if !mode.contains(OFlags::NONBLOCK) {
            fcntl_setfl(fd, mode | OFlags::NONBLOCK)?;
        }
        let what = self.what("accept a connection");
        let attempt = || accept_living(listener);
        let (stream, address) = block_on(fd, Interest::Readable, self.limit(), what, attempt)?;
        // Linux gives a new connection a mode of its own, others that of the listener.
        #[cfg(not(target_os = "linux"))]
        rustix::io::ioctl_fionbio(&stream, false)?;
        Ok((stream, address))
    }
}

fn accept_living<L: Listen>(listener: &L) -> io::Result<(L::Stream, L::Address)> {
    match listener.accept_plainly() {
        // Try again, after a look at the token.
        Err(error) if error.kind() == io::ErrorKind::ConnectionAborted => {
            Err(io::ErrorKind::Interrupted.into())
        }
        done => done,
    }
}
