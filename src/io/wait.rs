//! The one place that blocks: poll(2) on what is waited for and on the thread's bell.
//!
//! # Invariants
//!
//! 1. A wait ends by what it sees for itself: an event on a descriptor, the token's state, the
//!    clock, a permit. Rings, signals and time that runs out only make it look.
//! 2. Whoever rings is in place before the first look: so what happens after the look rings.
//! 3. At the end, hook, alarm and notification are taken back before the bell is cleared: nobody
//!    rings any more, and the next wait finds it silent. (Where the hook of a token waits for the
//!    very thread that waits here, its ring may come later; see `waker.rs`, invariant 1.)
//!
//! Lock order: none is held while polling. A ring happens under a `Notify`'s lock, and takes none.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::panic::Location;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

use super::err::timed_out;
use super::notify::{Listening, Notify};
use super::waker::{self, Bell};
use crate::cancel::{CancelToken, Registration};
use crate::clock::{Instant, Timed, Timer};
use crate::fault::{self, At};
use crate::sync::Arc;
use crate::threads;

/// poll(2) takes no more milliseconds than an `int` holds on some systems.
const LONGEST: Duration = Duration::from_millis(i32::MAX as u64);

/// What a descriptor is waited on for.
///
/// # Examples
///
/// ```
/// use std::io::Write;
/// use std::os::unix::net::UnixStream;
/// use std::time::Duration;
/// use cleanbreak::CancelToken;
/// use cleanbreak::io::{Interest, wait_ready_timeout};
///
/// let (socket, mut peer) = UnixStream::pair().unwrap();
/// let look = || {
///     [Interest::Writable, Interest::Readable, Interest::HangUp].map(|interest| {
///         wait_ready_timeout(&socket, interest, &CancelToken::never(), Duration::ZERO).is_ok()
///     })
/// };
/// assert_eq!(look(), [true, false, false]);
/// peer.write_all(b"x").unwrap();
/// assert_eq!(look(), [true, true, false]); // bytes are no hang-up
/// drop(peer);
/// assert_eq!(look(), [true, true, true]);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Interest {
    /// A read would not block: there are bytes, a connection to accept, an end or an error.
    Readable,
    /// A write of some bytes would not block, or would fail.
    Writable,
    /// The other side has gone: it closed or reset the connection, on Linux also when it only ended
    /// its sending side. Bytes that come in do not end the wait.
    HangUp,
}

impl Interest {
    fn flags(self) -> PollFlags {
        match self {
            Self::Readable => PollFlags::IN,
            Self::Writable => PollFlags::OUT,
            #[cfg(target_os = "linux")]
            Self::HangUp => PollFlags::RDHUP,
            // HUP is told of in any case.
            #[cfg(not(target_os = "linux"))]
            Self::HangUp => PollFlags::empty(),
        }
    }
}

/// What ended a wait.
///
/// # Examples
///
/// ```
/// use std::io::{Write, pipe};
/// use cleanbreak::CancelToken;
/// use cleanbreak::io::{Interest, Notify, Woken};
///
/// let (reader, mut writer) = pipe().unwrap();
/// let (news, token) = (Notify::new(), CancelToken::new());
/// writer.write_all(b"x").unwrap();
/// news.notify();
/// news.notify(); // one permit all the same
/// let wait = || news.wait_or_ready(&reader, Interest::Readable, &token).unwrap();
/// assert_eq!(wait(), Woken::Notified); // which is looked at first
/// assert_eq!(wait(), Woken::Ready);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Woken {
    /// The descriptor has what was waited for, or an error, or a hang-up.
    Ready,
    /// The [`Notify`] was notified.
    Notified,
}

/// What bounds a wait: a token, and a point in time of the token's clock.
#[derive(Clone, Copy)]
pub(super) struct Limit<'a> {
    pub(super) token: &'a CancelToken,
    pub(super) deadline: Option<Instant>,
}

impl<'a> Limit<'a> {
    pub(super) fn token(token: &'a CancelToken) -> Self {
        let deadline = None;
        Self { token, deadline }
    }

    pub(super) fn timeout(token: &'a CancelToken, timeout: Duration) -> Self {
        let deadline = token.clock().deadline_after(timeout);
        Self { token, deadline }
    }

    pub(super) fn deadline(token: &'a CancelToken, deadline: Instant) -> Self {
        let deadline = Some(deadline);
        Self { token, deadline }
    }

    fn remaining(self) -> Option<Duration> {
        let now = self.token.clock().now();
        self.deadline.map(|at| at.duration_since(now))
    }

    /// For the call into the kernel. It cannot wait on a manual clock, whose alarm rings instead.
    fn patience(self) -> Option<Timespec> {
        let remaining = self.remaining()?;
        let manual = self.token.clock().to_std(self.deadline?).is_none();
        if manual && !remaining.is_zero() {
            return None;
        }
        Timespec::try_from(remaining.min(LONGEST)).ok()
    }
}

/// What a thread waits on and where, for the list of threads.
#[derive(Clone, Copy)]
pub(super) struct What {
    pub(super) on: &'static str,
    pub(super) at: &'static Location<'static>,
}

impl What {
    #[track_caller]
    pub(super) fn here(on: &'static str) -> Self {
        let at = Location::caller();
        Self { on, at }
    }
}

/// What a wait has put in place. The order of the fields is invariant 3.
struct Armed<'a> {
    _hook: Registration,
    _alarm: Option<Alarm>,
    _listening: Option<Listening<'a>>,
    bell: Silenced,
}

struct Silenced(Arc<Bell>);

impl Drop for Silenced {
    fn drop(&mut self) {
        self.0.clear_if_rung();
    }
}

/// Rings when a manual clock comes to the deadline. The timer goes before what it fires.
struct Alarm {
    _timer: Timer,
    _ringer: Arc<Ringer>,
}

struct Ringer(Arc<Bell>);

impl Timed for Ringer {
    fn fire(self: Arc<Self>, _due: Instant, _now: Instant) -> Option<Instant> {
        self.0.ring();
        None
    }
}

impl<'a> Armed<'a> {
    fn new(limit: Limit<'_>, notify: Option<&'a Notify>) -> io::Result<Self> {
        let bell = Silenced(waker::of_this_thread()?);
        let ringer = bell.0.clone();
        Ok(Self {
            _alarm: Alarm::new(limit, &bell.0)?,
            _listening: notify.map(|notify| notify.listen(&bell.0)),
            _hook: limit.token.hook(move || ringer.ring()),
            bell,
        })
    }
}

impl Alarm {
    fn new(limit: Limit<'_>, bell: &Arc<Bell>) -> io::Result<Option<Self>> {
        let clock = limit.token.clock();
        let Some(at) = limit.deadline.filter(|at| clock.to_std(*at).is_none()) else {
            return Ok(None);
        };
        let ringer = Arc::new(Ringer(bell.clone()));
        let timed: Arc<dyn Timed> = ringer.clone();
        let timer = clock.register(at, Arc::downgrade(&timed));
        Ok(Some(Self {
            _timer: timer.map_err(io::Error::other)?,
            _ringer: ringer,
        }))
    }
}

/// Blocks until one of `fds` has what it is wanted for, or `notify` has a permit, which this takes.
///
/// The token is asked first. A wait whose time is up looks at the descriptors once.
pub(super) fn wait(
    fds: &[(BorrowedFd<'_>, Interest)],
    limit: Limit<'_>,
    notify: Option<&Notify>,
    what: What,
) -> io::Result<Woken> {
    fault::pass(At::IoWait);
    limit.token.check()?;
    if limit.remaining() == Some(Duration::ZERO) {
        return look(fds, notify);
    }
    let armed = Armed::new(limit, notify)?;
    let bell = &armed.bell.0;
    let _wait = threads::waiting_at(what.on, what.at);
    let wanted = fds.iter();
    let wanted = wanted.map(|(fd, interest)| PollFd::from_borrowed_fd(*fd, interest.flags()));
    let mut polled: Vec<_> = wanted.collect();
    polled.push(PollFd::from_borrowed_fd(bell.as_fd(), PollFlags::IN));
    loop {
        limit.token.check()?;
        if notify.is_some_and(Notify::take) {
            return Ok(Woken::Notified);
        }
        let patience = match fault::wakes_early(At::IoPoll) {
            true => Some(Timespec::default()),
            false => limit.patience(),
        };
        match poll(&mut polled, patience.as_ref()) {
            Ok(0) if limit.remaining() == Some(Duration::ZERO) => return Err(timed_out()),
            // A signal handler of the application ran; it ends no wait, and prolongs none.
            Ok(0) | Err(Errno::INTR) => continue,
            Err(error) => return Err(error.into()),
            Ok(_) => {}
        }
        if polled[..fds.len()]
            .iter()
            .any(|fd| !fd.revents().is_empty())
        {
            return Ok(Woken::Ready);
        }
        bell.clear();
    }
}

/// A wait without time: it needs no bell.
fn look(fds: &[(BorrowedFd<'_>, Interest)], notify: Option<&Notify>) -> io::Result<Woken> {
    if notify.is_some_and(Notify::take) {
        return Ok(Woken::Notified);
    }
    for (fd, interest) in fds {
        if is_ready(*fd, *interest)? {
            return Ok(Woken::Ready);
        }
    }
    Err(timed_out())
}

/// Tries until `attempt`, which never blocks, says something else than "would block"; waits for
/// `interest` in between. The token is asked before each try.
pub(super) fn block_on<T>(
    fd: BorrowedFd<'_>,
    interest: Interest,
    limit: Limit<'_>,
    what: What,
    mut attempt: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    fault::pass(At::IoAttempt);
    loop {
        limit.token.check()?;
        match attempt() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                wait(&[(fd, interest)], limit, None, what)?;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            done => return done,
        }
    }
}

/// Whether `fd` has it now.
pub(super) fn is_ready(fd: BorrowedFd<'_>, interest: Interest) -> io::Result<bool> {
    let mut polled = [PollFd::from_borrowed_fd(fd, interest.flags())];
    let look = || poll(&mut polled, Some(&Timespec::default()));
    Ok(rustix::io::retry_on_intr(look)? > 0)
}

/// Blocks until `fd` has what `interest` says, or `token` is cancelled.
///
/// It is for descriptors that you read and write yourself: in non-blocking mode, because "ready" is
/// a hint; between the wait and the call another thread or process may take what there was.
///
/// Regular files are always ready. A descriptor that is in error or at its end is ready for
/// everything, and the call that follows says what it is.
///
/// # Errors
///
/// [`Cancelled`](crate::Cancelled), as an [`io::Error`], if the token is or gets cancelled, ready or
/// not; see [`cancellation`](super::cancellation). An error of the operating system when there is no
/// descriptor or memory for the wait.
///
/// # Examples
///
/// ```
/// use std::io::{Write, pipe};
/// use cleanbreak::CancelToken;
/// use cleanbreak::io::{Interest, cancellation, wait_ready};
///
/// let token = CancelToken::new();
/// let (reader, mut writer) = pipe().unwrap();
/// wait_ready(&writer, Interest::Writable, &token).unwrap();
/// writer.write_all(b"x").unwrap();
/// wait_ready(&reader, Interest::Readable, &token).unwrap();
/// token.cancel();
/// let told = wait_ready(&reader, Interest::Readable, &token).unwrap_err();
/// assert!(cancellation(&told).is_some());
/// ```
#[track_caller]
pub fn wait_ready(fd: impl AsFd, interest: Interest, token: &CancelToken) -> io::Result<()> {
    let what = What::here("be ready for I/O");
    wait(&[(fd.as_fd(), interest)], Limit::token(token), None, what).map(drop)
}

/// Waits as [`wait_ready`] does, for `timeout` at the longest, by the token's clock. A timeout of
/// zero looks once.
///
/// # Errors
///
/// As [`wait_ready`], and [`TimedOut`](io::ErrorKind::TimedOut).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::CancelToken;
/// use cleanbreak::io::{Interest, cancellation, wait_ready_timeout};
///
/// let (reader, writer) = std::io::pipe().unwrap();
/// let look = |interest| {
///     wait_ready_timeout(&reader, interest, &CancelToken::never(), Duration::ZERO)
/// };
/// let late = look(Interest::Readable).unwrap_err();
/// assert_eq!(late.kind(), std::io::ErrorKind::TimedOut);
/// assert!(cancellation(&late).is_none()); // nobody cancelled anything
/// drop(writer);
/// assert!(look(Interest::Readable).is_ok()); // to read the end
/// ```
#[track_caller]
pub fn wait_ready_timeout(
    fd: impl AsFd,
    interest: Interest,
    token: &CancelToken,
    timeout: Duration,
) -> io::Result<()> {
    let (what, limit) = (
        What::here("be ready for I/O"),
        Limit::timeout(token, timeout),
    );
    wait(&[(fd.as_fd(), interest)], limit, None, what).map(drop)
}

/// Waits as [`wait_ready`] does, until `deadline` at the latest, by the token's clock.
///
/// # Errors
///
/// As [`wait_ready_timeout`].
///
/// # Examples
///
/// ```
/// use std::io::{ErrorKind, pipe};
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock};
/// use cleanbreak::io::{Interest, wait_ready_deadline};
///
/// let clock = Clock::manual();
/// let token = CancelToken::with_clock(&clock);
/// let deadline = clock.deadline_after(Duration::from_secs(5)).unwrap();
/// let (reader, writer) = pipe().unwrap();
/// wait_ready_deadline(&writer, Interest::Writable, &token, deadline).unwrap();
/// let late = std::thread::scope(|s| {
///     let wait = s.spawn(|| wait_ready_deadline(&reader, Interest::Readable, &token, deadline));
///     clock.await_timers(1);
///     clock.advance_to(deadline);
///     wait.join().unwrap().unwrap_err()
/// });
/// assert_eq!(late.kind(), ErrorKind::TimedOut);
/// ```
#[track_caller]
pub fn wait_ready_deadline(
    fd: impl AsFd,
    interest: Interest,
    token: &CancelToken,
    deadline: Instant,
) -> io::Result<()> {
    let (what, limit) = (
        What::here("be ready for I/O"),
        Limit::deadline(token, deadline),
    );
    wait(&[(fd.as_fd(), interest)], limit, None, what).map(drop)
}

#[cfg(test)]
mod tests {
    use std::io::{Write, pipe};

    use super::*;

    /// A cancellation that races with the data that ends the wait finds the bell silent after it.
    #[test]
    fn a_wait_leaves_no_wake_up_for_the_next() {
        let mut rng = fastrand::Rng::new();
        let (tx, tokens) = crossbeam_channel::bounded::<(CancelToken, u32)>(0);
        let spec = threads::Spec::new("canceller", Location::caller());
        let canceller = threads::spawn(spec, move || {
            for (token, delay) in tokens {
                (0..delay).for_each(|_| std::hint::spin_loop());
                token.cancel();
            }
        });
        let (reader, mut writer) = pipe().unwrap();
        let bell = waker::of_this_thread().unwrap();
        let rung = |bell: &Bell| is_ready(bell.as_fd(), Interest::Readable).unwrap();
        let mut cancelled = 0;
        for round in 0..1000 {
            let token = CancelToken::new();
            tx.send((token.clone(), rng.u32(..2000))).unwrap();
            if round % 2 == 0 {
                writer.write_all(b"x").unwrap();
            }
            let fds = [(reader.as_fd(), Interest::Readable)];
            let woken = wait(&fds, Limit::token(&token), None, What::here("test"));
            cancelled += u32::from(woken.is_err());
            assert!(!rung(&bell), "round {round}");
            if round % 2 == 0 {
                rustix::io::read(&reader, &mut [0; 1]).unwrap();
            }
        }
        assert!(cancelled >= 500);
        drop(tx);
        canceller.unwrap().join();
    }

    /// As a hook does that runs when the data is there.
    #[test]
    fn a_ring_that_comes_with_the_data_is_silenced() {
        let (reader, mut writer) = pipe().unwrap();
        writer.write_all(b"x").unwrap();
        let bell = waker::of_this_thread().unwrap();
        let rung = || is_ready(bell.as_fd(), Interest::Readable).unwrap();
        bell.ring();
        assert!(rung());
        let (fds, token) = ([(reader.as_fd(), Interest::Readable)], CancelToken::new());
        let woken = wait(&fds, Limit::token(&token), None, What::here("test"));
        assert_eq!(woken.unwrap(), Woken::Ready);
        assert!(!rung());
    }
}
