//! The output of a child process, whole.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::process::{Child, Output};

use super::child::wait_within;
use super::direct::Manner;
use super::err::OutputError;
use super::wait::{Interest, Limit, What, wait};
use crate::cancel::CancelToken;

const CHUNK: usize = 64 * 1024;

/// Reads what `child` writes to its piped outputs, both at once, to their ends, and waits for it:
/// `Child::wait_with_output`, with a way out.
///
/// On cancellation the child runs on with its pipes open, and is still yours; the error has what was
/// read. Call it again under another token for the rest, or [`terminate`](super::terminate) it. For
/// a limit in time, give it a [`child_timeout`](CancelToken::child_timeout).
///
/// As std's, it closes the child's standard input first, and ends when all have closed their ends
/// of the pipes: a grandchild that inherited one keeps it waiting, until `token` is cancelled. An
/// output that is not piped is empty.
///
/// # Errors
///
/// [`OutputError`]: cancelled, or what the operating system says.
///
/// # Examples
///
/// ```
/// use std::process::{Command, Stdio};
/// use cleanbreak::{CancelToken, io::output};
///
/// let start = |script: &str| {
///     let mut command = Command::new("sh");
///     command.args(["-c", script]).stdout(Stdio::piped()).stderr(Stdio::piped());
///     command.stdin(Stdio::piped()).spawn().unwrap()
/// };
/// let token = CancelToken::new();
/// let done = output(&mut start("echo out; echo err >&2"), &token).unwrap();
/// assert!(done.status.success());
/// assert_eq!((done.stdout, done.stderr), (b"out\n".to_vec(), b"err\n".to_vec()));
///
/// let mut asked = start("echo question; read answer");
/// token.cancel();
/// let told = output(&mut asked, &token).unwrap_err();
/// assert!(told.cancellation().is_some());
/// let rest = output(&mut asked, &CancelToken::new()).unwrap(); // with no answer, it ends
/// assert_eq!(rest.stdout, b"question\n");
/// ```
#[track_caller]
pub fn output(child: &mut Child, token: &CancelToken) -> Result<Output, OutputError> {
    let (limit, what) = (
        Limit::token(token),
        What::here("read the output of a child process"),
    );
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    drop(child.stdin.take());
    let captured = capture(child, [&mut stdout, &mut stderr], limit, what);
    match captured.and_then(|()| wait_within(child, limit, what)) {
        Ok(status) => Ok(Output {
            status,
            stdout,
            stderr,
        }),
        Err(error) => Err(OutputError::new(error, stdout, stderr)),
    }
}

fn capture(child: &Child, into: [&mut Vec<u8>; 2], limit: Limit<'_>, what: What) -> io::Result<()> {
    let stdout = child.stdout.as_ref().map(AsFd::as_fd);
    let stderr = child.stderr.as_ref().map(AsFd::as_fd);
    let both = [stdout, stderr].into_iter().zip(into);
    let open = both.filter_map(|(fd, into)| Some(Capture::new(fd?, into)));
    let mut open: Vec<_> = open.collect();
    let mut chunk = vec![0; CHUNK];
    while !open.is_empty() {
        limit.token.check()?;
        let mut idle = true;
        let mut after = Vec::new();
        for mut capture in open {
            match capture.read(&mut chunk)? {
                Step::End => continue,
                Step::Some => idle = false,
                Step::NotYet => {}
            }
            after.push(capture);
        }
        open = after;
        if idle && !open.is_empty() {
            let fds = open.iter().map(|capture| (capture.fd, Interest::Readable));
            wait(&fds.collect::<Vec<_>>(), limit, None, what)?;
        }
    }
    Ok(())
}

/// One pipe on its way into a buffer.
struct Capture<'a> {
    fd: BorrowedFd<'a>,
    manner: Manner,
    into: &'a mut Vec<u8>,
}

enum Step {
    Some,
    NotYet,
    End,
}

impl<'a> Capture<'a> {
    fn new(fd: BorrowedFd<'a>, into: &'a mut Vec<u8>) -> Self {
        let manner = Manner::default();
        Self { fd, manner, into }
    }

    fn read(&mut self, chunk: &mut [u8]) -> io::Result<Step> {
        match self.manner.read(self.fd, chunk) {
            Ok(0) => Ok(Step::End),
            Ok(length) => {
                self.into.extend_from_slice(&chunk[..length]);
                Ok(Step::Some)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Ok(Step::NotYet),
                io::ErrorKind::Interrupted => Ok(Step::Some),
                _ => Err(error),
            },
        }
    }
}
