//! Lines that end with a token, and lose nothing.

use std::fmt;
use std::io::{self, Read};

use super::{Interruptible, cancellation};
use crate::cancel::CancelToken;
use crate::sync::plain::Mutex;

const CHUNK: usize = 8 * 1024;

/// What was read ahead from standard input by one that is gone, for the next.
static READ_AHEAD: Mutex<Vec<u8>> = Mutex::new(Vec::new());

/// The lines of a reader, without their ends (`\n` or `\r\n`).
///
/// Unlike `BufRead::lines`, it loses nothing when it fails: after an error the bytes of the line that
/// is not complete are still in [`rest`](Self::rest), and a line that is not UTF-8 comes in the error
/// (kind [`InvalidData`](io::ErrorKind::InvalidData), with a
/// [`FromUtf8Error`](std::string::FromUtf8Error) in it); the next line comes next.
///
/// A last line without an end is a line. After the end, and after the error of a cancellation, there
/// is nothing more; after other errors, the next call reads again.
///
/// A line is as long as the other side makes it, in memory.
///
/// # Examples
///
/// ```
/// use std::io::ErrorKind;
/// use std::string::FromUtf8Error;
/// use cleanbreak::io::Lines;
///
/// let mut lines = Lines::new(&b"one\r\nbad \xFF\n\nlast"[..]);
/// assert_eq!(lines.next().unwrap().unwrap(), "one");
/// let bad = lines.next().unwrap().unwrap_err();
/// assert_eq!(bad.kind(), ErrorKind::InvalidData);
/// let bytes = bad.into_inner().unwrap().downcast::<FromUtf8Error>().unwrap().into_bytes();
/// assert_eq!(bytes, b"bad \xFF");
/// assert_eq!(lines.next().unwrap().unwrap(), "");
/// assert_eq!(lines.next().unwrap().unwrap(), "last");
/// assert!(lines.next().is_none());
/// ```
#[must_use = "iterators read nothing until they are used"]
pub struct Lines<R> {
    reader: R,
    buffer: Vec<u8>,
    /// Up to here it was handed out.
    start: usize,
    /// From there to here is no line end.
    scanned: usize,
    ended: bool,
}

impl<R: Read> Lines<R> {
    /// The lines of `reader`, which needs no buffer of its own.
    pub fn new(reader: R) -> Self {
        Self::after(Vec::new(), reader)
    }

    /// The lines of `read_ahead`, and then of `reader`.
    fn after(read_ahead: Vec<u8>, reader: R) -> Self {
        Self {
            reader,
            buffer: read_ahead,
            start: 0,
            scanned: 0,
            ended: false,
        }
    }

    /// What was read and is not handed out yet: the beginning of the next line, maybe further ones.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::{Write, pipe};
    /// use cleanbreak::{CancelToken, io::{Interruptible, Lines, cancellation}};
    ///
    /// let token = CancelToken::new();
    /// let (reader, mut writer) = pipe().unwrap();
    /// let mut lines = Lines::new(Interruptible::new(reader, &token));
    /// writer.write_all(b"whole\npart").unwrap();
    /// assert_eq!(lines.next().unwrap().unwrap(), "whole");
    /// token.cancel();
    /// assert!(cancellation(&lines.next().unwrap().unwrap_err()).is_some());
    /// assert_eq!(lines.rest(), b"part");
    /// assert!(lines.next().is_none());
    /// ```
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        &self.buffer[self.start..]
    }

    /// The reader, and what was read from it and not handed out.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::io::Read;
    /// use cleanbreak::io::Lines;
    ///
    /// let mut lines = Lines::new(&b"a head\n\na body"[..]);
    /// assert_eq!(lines.next().unwrap().unwrap(), "a head");
    /// assert_eq!(lines.next().unwrap().unwrap(), "");
    /// let (reader, read_ahead) = lines.into_parts(); // the body is not in lines
    /// let mut body = String::new();
    /// read_ahead.chain(reader).read_to_string(&mut body).unwrap();
    /// assert_eq!(body, "a body");
    /// ```
    #[must_use]
    pub fn into_parts(mut self) -> (R, Vec<u8>) {
        self.forget_handed_out();
        (self.reader, self.buffer)
    }

    fn forget_handed_out(&mut self) {
        self.buffer.drain(..self.start);
        self.scanned -= self.start;
        self.start = 0;
    }

    /// A whole line that was read, with its end.
    fn take_line(&mut self) -> Option<Vec<u8>> {
        let mut unscanned = self.buffer[self.scanned..].iter();
        let Some(place) = unscanned.position(|byte| *byte == b'\n') else {
            self.scanned = self.buffer.len();
            return None;
        };
        let end = self.scanned + place + 1;
        let line = self.buffer[self.start..end].to_vec();
        (self.start, self.scanned) = (end, end);
        Some(line)
    }

    /// What is there after the last line end.
    fn take_last(&mut self) -> Option<Vec<u8>> {
        let last = self.rest().to_vec();
        self.start = self.buffer.len();
        self.scanned = self.start;
        (!last.is_empty()).then_some(last)
    }

    /// Reads more; `false` at the end.
    #[track_caller]
    fn fill(&mut self) -> io::Result<bool> {
        self.forget_handed_out();
        let before = self.buffer.len();
        self.buffer.resize(before + CHUNK, 0);
        let read = loop {
            match self.reader.read(&mut self.buffer[before..]) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                read => break read,
            }
        };
        let more = read.as_ref().map_or(0, |length| *length);
        self.buffer.truncate(before + more);
        read.map(|length| length > 0)
    }
}

impl<R: Read> Iterator for Lines<R> {
    type Item = io::Result<String>;

    #[track_caller]
    fn next(&mut self) -> Option<io::Result<String>> {
        loop {
            if let Some(line) = self.take_line() {
                return Some(text(line));
            }
            if self.ended {
                return None;
            }
            match self.fill() {
                Ok(true) => {}
                Ok(false) => {
                    self.ended = true;
                    return self.take_last().map(text);
                }
                Err(error) => {
                    self.ended = cancellation(&error).is_some();
                    return Some(Err(error));
                }
            }
        }
    }
}

fn text(mut line: Vec<u8>) -> io::Result<String> {
    if line.ends_with(b"\n") {
        line.pop();
        if line.ends_with(b"\r") {
            line.pop();
        }
    }
    let invalid = |error| io::Error::new(io::ErrorKind::InvalidData, error);
    String::from_utf8(line).map_err(invalid)
}

impl<R: Read + fmt::Debug> fmt::Debug for Lines<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Lines")
            .field("reader", &self.reader)
            .field("rest", &self.rest().len())
            .field("ended", &self.ended)
            .finish()
    }
}

/// The lines of standard input, until `token` is cancelled: `std::io::stdin().lines()`, with a way
/// out.
///
/// Terminal, pipe, file, socket or `/dev/null`; if it is closed it is at its end, as for std. It is
/// left in the mode that it is in: other processes, such as the shell, share it.
///
/// What this has read ahead when it is dropped is there for the next call, but neither
/// `std::io::stdin()` nor a child process sees it, and bytes in std's own buffer are not seen here.
/// Use one of them, and one thread at a time: two that read at once each get lines that the other
/// does not.
///
/// See [`Lines`] for what a line is, and how it fails.
///
/// # Examples
///
/// ```no_run
/// use cleanbreak::{CancelToken, io::{cancellation, stdin_lines}};
///
/// fn serve(token: &CancelToken) -> std::io::Result<()> {
///     for line in stdin_lines(token) {
///         match line {
///             Ok(line) => println!("you said {line}"),
///             Err(error) if cancellation(&error).is_some() => break,
///             Err(error) => return Err(error),
///         }
///     }
///     Ok(()) // told to stop, or the end of the input
/// }
/// ```
#[track_caller]
pub fn stdin_lines(token: &CancelToken) -> StdinLines {
    let read_ahead = std::mem::take(&mut *READ_AHEAD.lock());
    let reader = Stdin(Interruptible::new(io::stdin(), token));
    StdinLines {
        lines: Lines::after(read_ahead, reader),
    }
}

/// The lines of standard input; see [`stdin_lines`].
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, io::{cancellation, stdin_lines}};
///
/// let token = CancelToken::new();
/// let mut lines = stdin_lines(&token);
/// token.cancel_with("closing time");
/// let told = lines.next().unwrap().unwrap_err(); // whether there is input or not
/// assert_eq!(cancellation(&told).unwrap().to_string(), "cancelled: closing time");
/// assert!(lines.rest().is_empty()); // no line was begun
/// assert!(lines.next().is_none());
/// ```
#[derive(Debug)]
#[must_use = "iterators read nothing until they are used"]
pub struct StdinLines {
    lines: Lines<Stdin>,
}

impl StdinLines {
    /// What was read and is not handed out yet: the beginning of the next line, maybe further ones.
    #[must_use]
    pub fn rest(&self) -> &[u8] {
        self.lines.rest()
    }
}

impl Iterator for StdinLines {
    type Item = io::Result<String>;

    #[track_caller]
    fn next(&mut self) -> Option<io::Result<String>> {
        self.lines.next()
    }
}

impl Drop for StdinLines {
    fn drop(&mut self) {
        // Before what another one has left meanwhile, as it was read before.
        self.lines.forget_handed_out();
        let mut rest = std::mem::take(&mut self.lines.buffer);
        let mut read_ahead = READ_AHEAD.lock();
        rest.append(&mut read_ahead);
        *read_ahead = rest;
    }
}

#[derive(Debug)]
struct Stdin(Interruptible<io::Stdin>);

impl Read for Stdin {
    #[track_caller]
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self.0.read(buffer) {
            // A process without a standard input has read all of it.
            Err(error)
                if rustix::io::Errno::from_io_error(&error) == Some(rustix::io::Errno::BADF) =>
            {
                Ok(0)
            }
            done => done,
        }
    }
}
