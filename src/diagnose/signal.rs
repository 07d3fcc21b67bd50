//! The signal by which threads that run are asked for their stacks.

use std::fmt;
use std::io;

use super::stacks::handler;
use crate::sync::plain::Mutex;

/// The signal of this process, once there is one.
static INSTALLED: Mutex<Option<i32>> = Mutex::new(None);

/// A real-time signal whose handler copies the stack of the thread that it comes to. Given to
/// [`DumpBuilder::signal`](super::DumpBuilder::signal), a dump also has the stacks of threads that
/// run. Linux on x86-64.
///
/// The handler copies registers and stack to memory that was there before, and does nothing else: no
/// unwinding, no allocation, no lock. What it copied is unwound afterwards, by who takes the dump. A
/// signal that comes late, after the dump that sent it, does nothing.
///
/// # What it costs the threads that get it
///
/// * Some microseconds each, more for a deep stack: see the [module](super).
/// * A thread that goes to sleep in the moment between the look and the signal is interrupted in what
///   it does. System calls that the kernel begins again are not affected. Others fail with `EINTR`: raw
///   `nanosleep`, `poll`, `select`, `epoll_wait` (also under mio), a futex with a time limit, and reads
///   from sockets with a timeout, as [`ErrorKind::Interrupted`](std::io::ErrorKind::Interrupted).
///   Std's sleeps and locks, and the waits of this library, go on by themselves.
/// * A thread that sleeps, with a stack that a look from outside brings, gets no signal. Where the
///   system denies such looks, all do.
///
/// # The handler stays
///
/// Once installed it is there until the process ends: what the kernel does with such a signal
/// without a handler is to end the process, and nobody can say that none is still on its way. If
/// somebody else's handler takes its place, dumps send no more and
/// [say so](super::ThreadDump::problems). Programs started by [`Command`](std::process::Command) do
/// not inherit it. A thread that blocks the signal, gets one in the moment before, and then becomes
/// another program by a raw `exec`, hands the signal on to that.
///
/// # What is not seen
///
/// A thread that runs with the signal blocked, or is stopped, is listed without a stack and with the
/// [reason](super::StackProblem). So is one that blocks a signal whose handler has a stack of its own
/// (`SA_ONSTACK`): it may be in that handler, and the stack may have no room for another one. Of a
/// stack that is larger than 512 KiB there is the innermost part.
///
/// # Examples
///
/// ```
/// # if cfg!(any(not(target_os = "linux"), not(target_arch = "x86_64"), cleanbreak_portable)) { return }
/// use std::sync::atomic::{AtomicBool, Ordering};
/// use cleanbreak::diagnose::{StackSignal, TakenBy, ThreadDump};
/// use cleanbreak::{CancelToken, scope};
///
/// let signal = StackSignal::install().unwrap();
/// let stop = AtomicBool::new(false);
/// # let begun = AtomicBool::new(false);
/// scope(&CancelToken::new(), |group| {
///     group.spawn_named("busy", |_| {
///         while !stop.load(Ordering::Relaxed) {
///             std::hint::spin_loop();
/// #           begun.store(true, Ordering::Relaxed);
///         }
///         Ok(())
///     })?;
///     # while !begun.load(Ordering::Relaxed) { std::thread::yield_now() }
///     let dump = ThreadDump::builder().signal(signal).capture();
///     stop.store(true, Ordering::Relaxed);
///     let busy = dump.threads().iter().find(|thread| thread.name == "busy").unwrap();
///     assert!(busy.stack.is_complete());
///     assert_eq!(busy.stack.taken_by(), TakenBy::Signal);
///     Ok(())
/// })
/// .unwrap();
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct StackSignal(i32);

impl StackSignal {
    /// Installs the handler at a real-time signal that has none: `SIGRTMIN + 8`, or the next that is
    /// free. Call it early in `main`. Later calls give the same signal.
    ///
    /// # Errors
    ///
    /// See [`StackSignalError`].
    pub fn install() -> Result<Self, StackSignalError> {
        install(None)
    }

    /// Installs the handler at this signal, of those from `SIGRTMIN` to `SIGRTMAX`. There is one for
    /// the process.
    ///
    /// # Errors
    ///
    /// See [`StackSignalError`]. A handler that is there already, or that the signal is to be ignored,
    /// is an error and stays as it is.
    ///
    /// # Examples
    ///
    /// ```
    /// # if cfg!(any(not(target_os = "linux"), not(target_arch = "x86_64"), cleanbreak_portable)) { return }
    /// use cleanbreak::diagnose::StackSignal;
    ///
    /// let signal = StackSignal::install_at(50).unwrap();
    /// assert_eq!(signal.number(), 50);
    /// assert_eq!(StackSignal::install_at(50).unwrap(), signal);
    /// ```
    pub fn install_at(number: i32) -> Result<Self, StackSignalError> {
        install(Some(number))
    }

    /// As the system numbers it.
    #[must_use]
    pub fn number(self) -> i32 {
        self.0
    }

    /// Whether the handler is in place.
    #[cfg_attr(
        any(not(target_os = "linux"), cleanbreak_portable),
        allow(dead_code, reason = "there is none")
    )]
    pub(super) fn is_in_place(self) -> bool {
        handler::is_ours(self.0)
    }
}

fn install(wanted: Option<i32>) -> Result<StackSignal, StackSignalError> {
    let range = handler::real_time().ok_or(StackSignalError::Unsupported)?;
    let mut installed = INSTALLED.lock();
    if let Some(number) = *installed {
        return match wanted.is_none_or(|wanted| wanted == number) {
            _ if !handler::is_ours(number) => Err(StackSignalError::Taken(number)),
            true => Ok(StackSignal(number)),
            false => Err(StackSignalError::InstalledAt(number)),
        };
    }
    let number = match wanted {
        None => free(*range.start() + 8..=*range.end()).ok_or(StackSignalError::NoneFree)?,
        Some(number) if !range.contains(&number) => {
            return Err(StackSignalError::NotRealTime(number));
        }
        Some(number) => number,
    };
    if !handler::install(number).map_err(StackSignalError::System)? {
        return Err(StackSignalError::Taken(number));
    }
    *installed = Some(number);
    Ok(StackSignal(number))
}

fn free(mut range: std::ops::RangeInclusive<i32>) -> Option<i32> {
    range.find(|&number| handler::is_default(number).unwrap_or(false))
}

/// Why there is no [`StackSignal`].
///
/// # Examples
///
/// ```
/// # if cfg!(any(not(target_os = "linux"), not(target_arch = "x86_64"), cleanbreak_portable)) { return }
/// use cleanbreak::diagnose::{StackSignal, StackSignalError};
///
/// let sigusr1 = StackSignal::install_at(10); // others use it
/// assert!(matches!(sigusr1, Err(StackSignalError::NotRealTime(10))));
/// let signal = StackSignal::install_at(45).unwrap();
/// assert_eq!((signal.number(), StackSignal::install().unwrap()), (45, signal)); // one for the process
/// assert!(matches!(StackSignal::install_at(46), Err(StackSignalError::InstalledAt(45))));
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum StackSignalError {
    /// Not on this system or processor: there are no stacks either.
    Unsupported,
    /// The number is not one of a real-time signal.
    NotRealTime(i32),
    /// Somebody else has a handler for this signal, or has it ignored.
    Taken(i32),
    /// The handler is there already, at this signal.
    InstalledAt(i32),
    /// All real-time signals have handlers.
    NoneFree,
    /// The system refuses.
    System(io::Error),
}

impl fmt::Display for StackSignalError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported => f.write_str("stacks by signal are not supported here"),
            Self::NotRealTime(number) => write!(f, "signal {number} is not a real-time signal"),
            Self::Taken(number) => write!(f, "signal {number} is in use by somebody else"),
            Self::InstalledAt(number) => {
                write!(f, "the handler for stacks is installed at signal {number}")
            }
            Self::NoneFree => f.write_str("every real-time signal is in use"),
            Self::System(_) => f.write_str("the handler for stacks cannot be installed"),
        }
    }
}

impl std::error::Error for StackSignalError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::System(error) => Some(error),
            _ => None,
        }
    }
}
