//! What ends a poll(2) from another thread: an eventfd on Linux, a pipe elsewhere.
//!
//! # Invariants
//!
//! 1. A wake-up makes a wait *look* again, and decides nothing. So one that comes too late costs the
//!    next wait of the thread one turn of its loop, and ends no wait.
//! 2. Whoever may ring a bell holds an [`Arc`] of it: the descriptor is not closed, and its number
//!    not reused, while a ring can still come.
//! 3. `rung` is set after the descriptor is written, and reset before it is read. So while nobody is
//!    inside `ring`, a bell that is not `rung` is not readable.
//! 4. One wait at a time uses a thread's bell: no code of the user runs inside of a wait.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use crate::sync::{Arc, AtomicBool, Ordering};

thread_local! {
    static OWN: RefCell<Option<Arc<Bell>>> = const { RefCell::new(None) };
}

/// Readable from when it is rung until it is cleared.
#[derive(Debug)]
pub(super) struct Bell {
    ends: Ends,
    rung: AtomicBool,
}

impl Bell {
    fn new() -> io::Result<Self> {
        let ends = Ends::new()?;
        let rung = AtomicBool::new(false);
        Ok(Self { ends, rung })
    }

    pub(super) fn ring(&self) {
        self.ends.write();
        // Release, with the Acquire in `clear_if_rung`: the write above is done where this is seen.
        self.rung.store(true, Ordering::Release);
    }

    pub(super) fn clear(&self) {
        self.rung.store(false, Ordering::Relaxed);
        self.ends.drain();
    }

    /// One load when nobody rang. For the end of a wait, when nobody rings any more.
    pub(super) fn clear_if_rung(&self) {
        if self.rung.load(Ordering::Acquire) {
            self.clear();
        }
    }
}

impl AsFd for Bell {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.ends.reader.as_fd()
    }
}

#[derive(Debug)]
struct Ends {
    reader: OwnedFd,
    /// An eventfd is both ends.
    writer: Option<OwnedFd>,
}

#[cfg(all(target_os = "linux", not(cleanbreak_portable)))]
impl Ends {
    fn new() -> io::Result<Self> {
        use rustix::event::{EventfdFlags, eventfd};
        let reader = eventfd(0, EventfdFlags::NONBLOCK | EventfdFlags::CLOEXEC)?;
        let writer = None;
        Ok(Self { reader, writer })
    }
}

#[cfg(not(all(target_os = "linux", not(cleanbreak_portable))))]
impl Ends {
    fn new() -> io::Result<Self> {
        // Closed on exec by std, also where the system cannot do it in one step.
        let (reader, writer) = io::pipe()?;
        let (reader, writer) = (OwnedFd::from(reader), OwnedFd::from(writer));
        rustix::io::ioctl_fionbio(&reader, true)?;
        rustix::io::ioctl_fionbio(&writer, true)?;
        let writer = Some(writer);
        Ok(Self { reader, writer })
    }
}

impl Ends {
    /// Eight bytes, because an eventfd wants them. It fails only when it is full, and so readable.
    fn write(&self) {
        let writer = self.writer.as_ref().unwrap_or(&self.reader);
        let one = 1_u64.to_ne_bytes();
        while rustix::io::write(writer, &one) == Err(rustix::io::Errno::INTR) {}
    }

    fn drain(&self) {
        let mut sink = [0; 64];
        // An eventfd is empty after one read, a pipe after a short one.
        loop {
            match rustix::io::read(&self.reader, &mut sink) {
                Ok(length) if length == sink.len() => {}
                Err(rustix::io::Errno::INTR) => {}
                Ok(_) | Err(_) => return,
            }
        }
    }
}

/// The calling thread's bell, which it keeps until it ends.
pub(super) fn of_this_thread() -> io::Result<Arc<Bell>> {
    let own = OWN.try_with(|own| own.borrow().clone());
    if let Ok(Some(bell)) = own {
        return Ok(bell);
    }
    let bell = Arc::new(Bell::new()?);
    keep(bell.clone());
    Ok(bell)
}

/// In a destructor of a thread-local it is not kept, and serves one wait.
fn keep(bell: Arc<Bell>) {
    let before = OWN.try_with(|own| own.borrow_mut().replace(bell));
    drop(before);
}

/// The descriptor that wakes a thread out of its waits, made ahead.
///
/// A thread's first wait that has to block makes one, and keeps it until the thread ends. Without a
/// descriptor left, that wait fails. Who gives a thread its work may want to know before: make the
/// waker where the failure can be handled, and install it in the thread.
///
/// # Performance
///
/// One descriptor (an eventfd; where there are none, the two of a pipe), some microseconds.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, io::Waker, scope};
///
/// scope(&CancelToken::new(), |group| {
///     let waker = Waker::new()?; // out of descriptors: here, with the work still in our hands
///     group.spawn(move |token| {
///         waker.install();
///         # let _ = token;
///         Ok(()) // reads, writes, accepts
///     })?;
///     Ok(())
/// })
/// .unwrap();
/// ```
#[must_use = "it is for a thread to install"]
pub struct Waker {
    bell: Arc<Bell>,
}

impl Waker {
    /// Makes one.
    ///
    /// # Errors
    ///
    /// When the operating system has no descriptor left.
    pub fn new() -> io::Result<Self> {
        let bell = Arc::new(Bell::new()?);
        Ok(Self { bell })
    }

    /// Makes it the calling thread's, in place of one that it has.
    pub fn install(self) {
        keep(self.bell);
    }
}

impl fmt::Debug for Waker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waker").finish_non_exhaustive()
    }
}
