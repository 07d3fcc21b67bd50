//! Waiting for a child process, and ending one.

use std::io;
use std::process::{Child, ExitStatus};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use super::exit::Exit;
use super::wait::{Limit, What};
use crate::cancel::CancelToken;
use crate::clock::Instant;
use crate::fault::{self, At};
use crate::threads;

const WAIT: &str = "see a child process end";

/// Waits for `child` to end, until `token` is cancelled: `Child::wait`, with a way out.
///
/// On cancellation the child runs on and is still yours: wait again, or [`terminate`] it. Nothing
/// is done about `SIGCHLD`, and nobody else's children are touched.
///
/// As std's `wait`, it closes the child's standard input first, so that a child that reads to the
/// end can end. A child that fills a pipe that nobody reads does not end: see
/// [`output`](super::output).
///
/// # Errors
///
/// [`Cancelled`](crate::Cancelled), as an [`io::Error`], when `token` is or gets cancelled; see
/// [`cancellation`](super::cancellation). What the operating system says, for example when somebody
/// else in the process has waited for the child.
///
/// # Performance
///
/// On Linux a descriptor for the child for the time of the wait (a pidfd), and poll(2). Where there
/// is none (other systems, Linux before 5.3, a sandbox that forbids it) a thread, `cleanbreak child
/// watch`, that waits for the child: it is listed, and ends when the child does, not when this
/// returns; further waits for the same child share it.
///
/// # Examples
///
/// ```
/// use std::process::Command;
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, io::{cancellation, terminate, wait_child}};
///
/// let token = CancelToken::new();
/// let mut quick = Command::new("true").spawn().unwrap();
/// assert!(wait_child(&mut quick, &token).unwrap().success());
///
/// let mut slow = Command::new("sleep").arg("3600").spawn().unwrap();
/// token.cancel();
/// let told = wait_child(&mut slow, &token).unwrap_err();
/// assert!(cancellation(&told).is_some());
/// assert!(slow.try_wait().unwrap().is_none()); // it runs on
/// let status = terminate(&mut slow, Duration::from_secs(5)).unwrap();
/// # use std::os::unix::process::ExitStatusExt;
/// assert_eq!(status.signal(), Some(15));
/// ```
#[track_caller]
pub fn wait_child(child: &mut Child, token: &CancelToken) -> io::Result<ExitStatus> {
    wait_within(child, Limit::token(token), What::here(WAIT))
}

/// Waits as [`wait_child`] does, for `timeout` at the longest, by the token's clock.
///
/// # Errors
///
/// As [`wait_child`], and [`TimedOut`](io::ErrorKind::TimedOut).
///
/// # Examples
///
/// ```
/// use std::io::ErrorKind;
/// use std::process::Command;
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock, io::{cancellation, wait_child_timeout}};
///
/// let clock = Clock::manual();
/// let token = CancelToken::with_clock(&clock);
/// let mut child = Command::new("sleep").arg("3600").spawn().unwrap();
/// let late = std::thread::scope(|s| {
///     let wait = s.spawn(|| wait_child_timeout(&mut child, &token, Duration::from_secs(5)));
///     clock.await_timers(1);
///     clock.advance(Duration::from_secs(5));
///     wait.join().unwrap().unwrap_err()
/// });
/// assert_eq!(late.kind(), ErrorKind::TimedOut);
/// assert!(cancellation(&late).is_none()); // nobody cancelled anything
/// child.kill().unwrap(); // it ran on
/// assert!(!wait_child_timeout(&mut child, &token, Duration::MAX).unwrap().success());
/// ```
#[track_caller]
pub fn wait_child_timeout(
    child: &mut Child,
    token: &CancelToken,
    timeout: Duration,
) -> io::Result<ExitStatus> {
    wait_within(child, Limit::timeout(token, timeout), What::here(WAIT))
}

/// Waits as [`wait_child`] does, until `deadline` at the latest, by the token's clock.
///
/// # Errors
///
/// As [`wait_child_timeout`].
///
/// # Examples
///
/// ```
/// use std::io::ErrorKind;
/// use std::process::Command;
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock, io::wait_child_deadline};
///
/// let clock = Clock::manual();
/// let token = CancelToken::with_clock(&clock);
/// let deadline = clock.deadline_after(Duration::from_secs(5)).unwrap(); // for both
/// let mut quick = Command::new("true").spawn().unwrap();
/// let mut slow = Command::new("sleep").arg("3600").spawn().unwrap();
/// assert!(wait_child_deadline(&mut quick, &token, deadline).unwrap().success());
/// clock.advance(Duration::from_secs(5));
/// let late = wait_child_deadline(&mut slow, &token, deadline).unwrap_err();
/// assert_eq!(late.kind(), ErrorKind::TimedOut);
/// # slow.kill().and_then(|()| slow.wait()).unwrap();
/// ```
#[track_caller]
pub fn wait_child_deadline(
    child: &mut Child,
    token: &CancelToken,
    deadline: Instant,
) -> io::Result<ExitStatus> {
    wait_within(child, Limit::deadline(token, deadline), What::here(WAIT))
}

pub(super) fn wait_within(
    child: &mut Child,
    limit: Limit<'_>,
    what: What,
) -> io::Result<ExitStatus> {
    fault::pass(At::IoChild);
    limit.token.check()?;
    drop(child.stdin.take());
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        match Exit::of(child)? {
            Some(exit) => exit.wait(limit, what)?,
            // It has ended meanwhile, so this does not block.
            None => return child.wait(),
        }
    }
}

/// Ends `child`: asks it with `SIGTERM`, gives it `grace` to end by itself, then kills it with
/// `SIGKILL`. It is reaped in any case: no zombie is left.
///
/// The status tells how it ended. Grace is by the system's clock; zero kills at once, after the
/// `SIGTERM`. To end the grace by something else, see [`terminate_until`].
///
/// # Not guaranteed
///
/// * Children of the child are not told. Give it a process group of its own
///   (`CommandExt::process_group`) and signal that, if they should be.
/// * The kernel kills no process in the middle of some waits of its own (a network file system that
///   does not answer): this waits for it to let go, and shows it in the list of threads.
///
/// # Errors
///
/// What the operating system says, for example when the child runs with other rights; it runs on
/// then.
///
/// # Examples
///
/// ```
/// use std::os::unix::process::ExitStatusExt;
/// use std::process::{Command, Stdio};
/// use std::time::Duration;
/// use cleanbreak::io::terminate;
///
/// let mut stubborn = Command::new("sh");
/// stubborn.args(["-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"]);
/// let mut stubborn = stubborn.stdout(Stdio::piped()).spawn().unwrap();
/// # std::io::Read::read_exact(stubborn.stdout.as_mut().unwrap(), &mut [0; 5]).unwrap();
/// let status = terminate(&mut stubborn, Duration::from_millis(50)).unwrap();
/// assert_eq!(status.signal(), Some(9)); // it was asked, and then killed
/// ```
#[track_caller]
pub fn terminate(child: &mut Child, grace: Duration) -> io::Result<ExitStatus> {
    let never = CancelToken::never();
    terminate_within(child, Limit::timeout(&never, grace), What::here(WAIT))
}

/// Ends `child` as [`terminate`] does; it has until `patience` is cancelled to end by itself.
///
/// `patience` is not the token whose cancellation led here, which would leave no grace at all, but
/// one for what comes after: `token.shield().child_timeout(..)`, or one that a second Ctrl-C
/// cancels.
///
/// # Errors
///
/// As [`terminate`].
///
/// # Examples
///
/// ```
/// use std::os::unix::process::ExitStatusExt;
/// use std::process::{Command, Stdio};
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, io::terminate_until};
///
/// let service = CancelToken::new();
/// service.cancel(); // which is why the children must go
/// let patience = service.shield().child_timeout(Duration::from_secs(60));
/// let mut polite = Command::new("sleep").arg("3600").spawn().unwrap();
/// assert_eq!(terminate_until(&mut polite, &patience).unwrap().signal(), Some(15));
///
/// let mut stubborn = Command::new("sh");
/// stubborn.args(["-c", "trap '' TERM; echo deaf; while :; do sleep 0.1; done"]);
/// let mut stubborn = stubborn.stdout(Stdio::piped()).spawn().unwrap();
/// # std::io::Read::read_exact(stubborn.stdout.as_mut().unwrap(), &mut [0; 5]).unwrap();
/// patience.cancel(); // such as by a second Ctrl-C
/// assert_eq!(terminate_until(&mut stubborn, &patience).unwrap().signal(), Some(9));
/// ```
#[track_caller]
pub fn terminate_until(child: &mut Child, patience: &CancelToken) -> io::Result<ExitStatus> {
    terminate_within(child, Limit::token(patience), What::here(WAIT))
}

fn terminate_within(child: &mut Child, limit: Limit<'_>, what: What) -> io::Result<ExitStatus> {
    // From here until it is reaped, the number is the child's own.
    if let Some(status) = child.try_wait()? {
        return Ok(status);
    }
    kill_process(pid(child)?, Signal::TERM)?;
    if let Ok(status) = wait_within(child, limit, what) {
        return Ok(status);
    }
    // Also where the wait failed for another reason: the end of this is the end of the child.
    child.kill()?;
    let _wait = threads::waiting_at("reap a child process that was killed", what.at);
    child.wait()
}

pub(super) fn pid(child: &Child) -> io::Result<Pid> {
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    pid.ok_or_else(|| io::ErrorKind::InvalidInput.into())
}
