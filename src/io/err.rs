//! What an error of these operations tells besides its kind.

use std::error::Error;
use std::fmt;
use std::io;

use crate::cancel::Cancelled;

/// The cancellation that ended an operation, if that is what the error is: with kind and cause.
///
/// `None` for errors of the operating system, and for a timeout of the operation's own.
///
/// # Examples
///
/// ```
/// use std::io::{ErrorKind, Read, pipe};
/// use cleanbreak::{CancelToken, io::{Interruptible, cancellation}};
///
/// let token = CancelToken::new();
/// let (reader, _writer) = pipe().unwrap();
/// let mut reader = Interruptible::new(reader, &token);
/// token.cancel_with("closing time");
/// let error = reader.read(&mut [0; 8]).unwrap_err();
/// assert_ne!(error.kind(), ErrorKind::Interrupted); // which std's loops would retry
/// assert_eq!(cancellation(&error).unwrap().to_string(), "cancelled: closing time");
/// assert!(cancellation(&ErrorKind::BrokenPipe.into()).is_none());
/// ```
#[must_use]
pub fn cancellation(error: &io::Error) -> Option<&Cancelled> {
    let inner = error.get_ref()?;
    match inner.downcast_ref::<Partial>() {
        Some(partial) => cancellation(&partial.error),
        None => inner.downcast_ref(),
    }
}

/// How many bytes a `read_exact` or `write_all` on an [`Interruptible`](super::Interruptible) had
/// transferred when it failed with this error; zero for any other error.
///
/// # Examples
///
/// ```
/// use std::io::{Read, Write, pipe};
/// use cleanbreak::{CancelToken, io::{Interruptible, transferred}};
///
/// let token = CancelToken::new();
/// let (reader, mut writer) = pipe().unwrap();
/// let mut reader = Interruptible::new(reader, &token);
/// writer.write_all(b"half").unwrap();
/// drop(writer);
/// let mut buffer = [0; 8];
/// let error = reader.read_exact(&mut buffer).unwrap_err();
/// assert_eq!(transferred(&error), 4);
/// assert_eq!(&buffer[..4], b"half");
/// ```
#[must_use]
pub fn transferred(error: &io::Error) -> usize {
    let partial = error.get_ref().and_then(|inner| inner.downcast_ref());
    partial.map_or(0, |partial: &Partial| partial.done)
}

/// An operation on many bytes that did some of them.
#[derive(Debug)]
pub(super) struct Partial {
    done: usize,
    error: io::Error,
}

impl Partial {
    /// Wraps the error of an operation that had done `done` bytes. The kind stays.
    pub(super) fn wrap(done: usize, error: io::Error) -> io::Error {
        match done {
            0 => error,
            _ => io::Error::new(error.kind(), Self { done, error }),
        }
    }
}

impl fmt::Display for Partial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} (after {} bytes)", self.error, self.done)
    }
}

impl Error for Partial {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.error)
    }
}

/// A timeout of the operation, not of the token.
pub(super) fn timed_out() -> io::Error {
    io::Error::new(io::ErrorKind::TimedOut, "the operation timed out")
}

/// Why the output of a child is not complete, and what there was of it. See
/// [`output`](super::output).
///
/// The child is as it was: running, its pipes open.
///
/// # Examples
///
/// ```
/// use std::io::{BufRead, BufReader, ErrorKind, pipe};
/// use std::process::{Command, Stdio};
/// use cleanbreak::{CancelToken, io::output};
///
/// // It writes more than a pipe holds: when it tells, we have read some of it.
/// let script = "head -c 100000 /dev/zero; echo told >&2; exec sleep 3600";
/// let (told, tell) = pipe().unwrap();
/// let mut command = Command::new("sh");
/// command.args(["-c", script]).stdout(Stdio::piped()).stderr(tell);
/// let mut child = command.spawn().unwrap();
/// let token = CancelToken::new();
/// let error = std::thread::scope(|s| {
///     let reading = s.spawn(|| output(&mut child, &token).unwrap_err());
///     BufReader::new(told).read_line(&mut String::new()).unwrap();
///     token.cancel_with("enough");
///     reading.join().unwrap()
/// });
/// assert_eq!(error.cancellation().unwrap().to_string(), "cancelled: enough");
/// assert_eq!(error.io_error().kind(), ErrorKind::Other);
/// assert!(!error.stdout().is_empty());
/// assert!(error.stderr().is_empty()); // not piped to us
///
/// let (_, begun, _) = error.into_parts();
/// child.kill().unwrap();
/// let rest = output(&mut child, &CancelToken::new()).unwrap();
/// assert_eq!(begun.len() + rest.stdout.len(), 100_000); // nothing is lost
/// ```
pub struct OutputError {
    error: io::Error,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl OutputError {
    pub(super) fn new(error: io::Error, stdout: Vec<u8>, stderr: Vec<u8>) -> Self {
        Self {
            error,
            stdout,
            stderr,
        }
    }

    /// What happened; [`cancellation`] tells whether it was that.
    #[must_use]
    pub fn io_error(&self) -> &io::Error {
        &self.error
    }

    /// The cancellation that ended the wait, if it was one.
    #[must_use]
    pub fn cancellation(&self) -> Option<&Cancelled> {
        cancellation(&self.error)
    }

    /// What had been read of the child's standard output.
    #[must_use]
    pub fn stdout(&self) -> &[u8] {
        &self.stdout
    }

    /// What had been read of the child's standard error.
    #[must_use]
    pub fn stderr(&self) -> &[u8] {
        &self.stderr
    }

    /// The error, and what had been read of standard output and standard error.
    #[must_use]
    pub fn into_parts(self) -> (io::Error, Vec<u8>, Vec<u8>) {
        (self.error, self.stdout, self.stderr)
    }
}

/// Lengths instead of bytes, which may be many, and secret.
impl fmt::Debug for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutputError")
            .field("error", &self.error)
            .field("stdout", &self.stdout.len())
            .field("stderr", &self.stderr.len())
            .finish()
    }
}

impl fmt::Display for OutputError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the output of the child is not complete: {}", self.error)
    }
}

impl Error for OutputError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.error.source()
    }
}

/// The error alone.
impl From<OutputError> for io::Error {
    fn from(error: OutputError) -> Self {
        error.error
    }
}
