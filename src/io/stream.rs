//! Reading and writing that ends with a token.

use std::fmt;
use std::io::{self, Read, Write};
use std::os::fd::AsFd;
use std::panic::Location;
use std::time::Duration;

use super::direct::Manner;
use super::err::Partial;
use super::wait::{Interest, Limit, What, block_on};
use crate::cancel::CancelToken;
use crate::clock::Instant;

/// Anything with a descriptor, bound to a token: its reads, writes and accepts end when that is
/// cancelled.
///
/// It is a [`Read`] and a [`Write`] (as is a reference to it), so `BufReader::read_line`, `io::copy`,
/// `write!` and TLS on top of it end with the token too. It wraps `TcpStream`, `UnixStream`,
/// listeners, pipes, a child's output, files, `Stdin`; also references and `Arc`s of them.
///
/// * A cancelled token is seen before each operation, ready or not: a flood of input hides no stop.
/// * Cancellation closes nothing and takes nothing: what was not read is still there, for a read
///   under another token ([`with_token`](Self::with_token)).
/// * `read_exact` and `write_all` say how far they came: [`transferred`](super::transferred).
/// * Nobody's mode is changed: in particular, `O_NONBLOCK` is set on nothing but a listener that is
///   accepted on. Blocking and non-blocking descriptors work alike.
///
/// # Not guaranteed
///
/// * Regular files do not wait for anybody, so there is nothing to end: a read from a disk or a
///   network file system that hangs goes on.
/// * Writing to a terminal that its user has stopped (Ctrl-S) may block. So may a read from a
///   terminal, a named pipe, or (before Linux 6.4, and elsewhere) any pipe, if another thread or
///   process reads from the same one and takes what was ready.
/// * A buffer of std's is not seen: bytes that `std::io::stdin()` has read ahead stay there.
///
/// # Errors
///
/// Every operation fails with a [`Cancelled`](crate::Cancelled) as an [`io::Error`] (kind
/// [`TimedOut`](io::ErrorKind::TimedOut) for the token's deadline, [`Other`](io::ErrorKind::Other)
/// otherwise; never `Interrupted`, which std's loops silently retry);
/// [`cancellation`](super::cancellation) gets it back. With a timeout of its own, with `TimedOut`. And
/// with what the operating system says; a wait needs a descriptor for the thread, once (see
/// [`Waker`](super::Waker)).
///
/// # Performance
///
/// An operation that is ready registers nothing anywhere. Of processor time it costs 20 to 40 ns over
/// std's on a socket, 120 ns on a pipe (whose call that does not block is dearer), and one more
/// system call on a terminal or a named pipe. One that has to wait costs, besides, the call that
/// finds nothing, a poll(2), and one registration with the token: its lock and three small
/// allocations, some hundred nanoseconds. A cancel makes a system call for each thread that waits,
/// about a microsecond, before it returns.
///
/// # Examples
///
/// ```
/// use std::io::{BufRead, BufReader, Write, pipe};
/// use cleanbreak::{CancelToken, io::{Interruptible, cancellation}};
///
/// let (reader, mut writer) = pipe().unwrap();
/// let token = CancelToken::new();
/// let reading = std::thread::spawn({
///     let token = token.clone();
///     move || {
///         let mut lines = BufReader::new(Interruptible::new(reader, &token));
///         let (mut whole, mut partial) = (String::new(), String::new());
///         lines.read_line(&mut whole).unwrap();
///         let told = lines.read_line(&mut partial).unwrap_err(); // waits, until it is told
///         assert_eq!(cancellation(&told).unwrap().to_string(), "cancelled: enough");
///         assert_eq!((whole.as_str(), partial.as_str()), ("a line\n", "and a h"));
///     }
/// });
/// writer.write_all(b"a line\nand a h").unwrap();
/// # while writer_is_not_read(&writer) { std::thread::yield_now(); }
/// # fn writer_is_not_read(writer: &std::io::PipeWriter) -> bool {
/// #     rustix::io::ioctl_fionread(writer).unwrap() > 0
/// # }
/// token.cancel_with("enough");
/// reading.join().unwrap();
/// ```
pub struct Interruptible<S> {
    inner: S,
    pub(super) token: CancelToken,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    manner: Manner,
    made_at: &'static Location<'static>,
}

impl<S: AsFd> Interruptible<S> {
    /// Binds `inner` to `token`.
    ///
    /// # Performance
    ///
    /// Some 50 ns, and with the first operation on what is no socket two system calls that find that
    /// out; [`with_token`](Self::with_token) takes over what was found.
    #[track_caller]
    pub fn new(inner: S, token: &CancelToken) -> Self {
        Self {
            inner,
            token: token.clone(),
            timeout: None,
            deadline: None,
            manner: Manner::default(),
            made_at: Location::caller(),
        }
    }

    /// The same descriptor under another token: for a part of the conversation that has its own
    /// deadline, or for the goodbye after a cancellation. The timeout is taken over, the deadline is
    /// not.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::os::unix::net::UnixStream;
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, io::Interruptible};
    ///
    /// let (client, server) = UnixStream::pair().unwrap();
    /// let service = CancelToken::new();
    /// let server = Interruptible::new(server, &service);
    ///
    /// let request = service.child_timeout(Duration::from_millis(1));
    /// let late = server.with_token(&request).read(&mut [0; 8]).unwrap_err();
    /// assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
    ///
    /// service.cancel();
    /// let goodbye = service.shield().child_timeout(Duration::from_secs(2));
    /// server.with_token(&goodbye).write_all(b"closing").unwrap();
    /// drop(server);
    /// assert_eq!(std::io::read_to_string(client).unwrap(), "closing");
    /// ```
    #[track_caller]
    pub fn with_token(&self, token: &CancelToken) -> Interruptible<&S> {
        Interruptible {
            inner: &self.inner,
            token: token.clone(),
            timeout: self.timeout,
            deadline: None,
            manner: self.manner.clone(),
            made_at: Location::caller(),
        }
    }

    /// Gives every operation this long, by the token's clock, as std's `set_read_timeout` does; zero
    /// tries once. `None`, as at the start, is as long as the token allows.
    ///
    /// A timeout bounds each `read`, so a peer that sends a byte at a time can make many of them take
    /// as long as it likes: bound the whole by a [deadline](Self::set_deadline), or a token's.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{ErrorKind, Read, Write, pipe};
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, io::{Interruptible, cancellation}};
    ///
    /// let clock = Clock::manual();
    /// let (reader, mut writer) = pipe().unwrap();
    /// let mut reader = Interruptible::new(reader, &CancelToken::with_clock(&clock));
    /// reader.set_timeout(Some(Duration::from_secs(5)));
    /// let late = std::thread::scope(|s| {
    ///     let reading = s.spawn(|| reader.read(&mut [0; 8]));
    ///     clock.await_timers(1);
    ///     clock.advance(Duration::from_secs(5));
    ///     reading.join().unwrap().unwrap_err()
    /// });
    /// assert_eq!(late.kind(), ErrorKind::TimedOut);
    /// assert!(cancellation(&late).is_none()); // nobody cancelled anything
    /// writer.write_all(b"late").unwrap();
    /// reader.set_timeout(Some(Duration::ZERO));
    /// assert_eq!(reader.read(&mut [0; 8]).unwrap(), 4); // what is there
    /// assert_eq!(reader.read(&mut [0; 8]).unwrap_err().kind(), ErrorKind::TimedOut);
    /// ```
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Lets no operation wait beyond this point in time of the token's clock, as Go's `SetDeadline`
    /// does; what is ready is still done.
    ///
    /// Cheaper than a token with a deadline, because no timer is needed; but only waits see it.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{ErrorKind, Read, Write, pipe};
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock, io::Interruptible};
    ///
    /// let clock = Clock::manual();
    /// let (reader, mut writer) = pipe().unwrap();
    /// let mut reader = Interruptible::new(reader, &CancelToken::with_clock(&clock));
    /// reader.set_deadline(clock.deadline_after(Duration::from_secs(5)));
    /// writer.write_all(b"in time").unwrap();
    /// assert_eq!(reader.read(&mut [0; 16]).unwrap(), 7);
    /// clock.advance(Duration::from_secs(5));
    /// assert_eq!(reader.read(&mut [0; 16]).unwrap_err().kind(), ErrorKind::TimedOut);
    /// ```
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// What is bound.
    #[must_use]
    pub fn get_ref(&self) -> &S {
        &self.inner
    }

    /// The token.
    #[must_use]
    pub fn token(&self) -> &CancelToken {
        &self.token
    }

    /// Unbinds it. Nothing is buffered here, so nothing gets lost.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{Read, Write};
    /// use std::os::unix::net::UnixStream;
    /// use cleanbreak::{CancelToken, io::Interruptible};
    ///
    /// let (mut client, server) = UnixStream::pair().unwrap();
    /// client.write_all(b"a head, a body").unwrap();
    /// drop(client);
    /// let mut server = Interruptible::new(server, &CancelToken::new());
    /// server.read_exact(&mut [0; 8]).unwrap();
    /// assert!(server.get_ref().peer_addr().unwrap().is_unnamed()); // what only std's has
    /// let plain: UnixStream = server.into_inner();
    /// assert_eq!(std::io::read_to_string(plain).unwrap(), "a body");
    /// ```
    #[must_use]
    pub fn into_inner(self) -> S {
        self.inner
    }

    pub(super) fn limit(&self) -> Limit<'_> {
        let timed = |timeout| self.token.clock().deadline_after(timeout);
        let (token, own) = (&self.token, self.timeout.and_then(timed));
        let deadline = match (own, self.deadline) {
            (Some(own), Some(all)) => Some(own.min(all)),
            (own, all) => own.or(all),
        };
        Limit { token, deadline }
    }

    /// What to show while an operation waits: the line that called it or, if that is one of std's,
    /// such as a `BufReader`'s, the one that made this.
    #[track_caller]
    pub(super) fn what(&self, on: &'static str) -> What {
        let mut what = What::here(on);
        if what.at.file().starts_with("/rustc/") || what.at.file().contains("/library/std/") {
            what.at = self.made_at;
        }
        what
    }

    #[track_caller]
    fn read_some(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let (fd, what) = (self.inner.as_fd(), self.what("read"));
        let attempt = || self.manner.read(fd, buffer);
        block_on(fd, Interest::Readable, self.limit(), what, attempt)
    }

    #[track_caller]
    fn write_some(&self, bytes: &[u8]) -> io::Result<usize> {
        if bytes.is_empty() {
            return Ok(0);
        }
        let (fd, what) = (self.inner.as_fd(), self.what("write"));
        let attempt = || self.manner.write(fd, bytes);
        block_on(fd, Interest::Writable, self.limit(), what, attempt)
    }

    #[track_caller]
    fn read_all(&self, buffer: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        while done < buffer.len() {
            match self.read_some(&mut buffer[done..]) {
                Ok(0) => return Err(Partial::wrap(done, io::ErrorKind::UnexpectedEof.into())),
                Ok(length) => done += length,
                Err(error) => return Err(Partial::wrap(done, error)),
            }
        }
        Ok(())
    }

    #[track_caller]
    fn write_every(&self, bytes: &[u8]) -> io::Result<()> {
        let mut done = 0;
        while done < bytes.len() {
            match self.write_some(&bytes[done..]) {
                Ok(0) => return Err(Partial::wrap(done, io::ErrorKind::WriteZero.into())),
                Ok(length) => done += length,
                Err(error) => return Err(Partial::wrap(done, error)),
            }
        }
        Ok(())
    }
}

impl<S: AsFd> Read for &Interruptible<S> {
    #[track_caller]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_some(buffer)
    }

    #[track_caller]
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.read_all(buffer)
    }
}

impl<S: AsFd> Write for &Interruptible<S> {
    #[track_caller]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_some(bytes)
    }

    #[track_caller]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_every(bytes)
    }

    /// Nothing is buffered here.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: AsFd> Read for Interruptible<S> {
    #[track_caller]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_some(buffer)
    }

    #[track_caller]
    fn read_exact(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        self.read_all(buffer)
    }
}

impl<S: AsFd> Write for Interruptible<S> {
    #[track_caller]
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_some(bytes)
    }

    #[track_caller]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.write_every(bytes)
    }

    /// Nothing is buffered here.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<S: fmt::Debug> fmt::Debug for Interruptible<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interruptible")
            .field("inner", &self.inner)
            .field("token", &self.token)
            .finish_non_exhaustive()
    }
}
