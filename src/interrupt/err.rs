//! Why signals could not be subscribed to.

use std::fmt;
use std::io;

use super::signal_name;
use crate::threads::ThreadError;

/// Why signals could not be subscribed to. Nothing was subscribed to then.
///
/// # Examples
///
/// ```
/// use cleanbreak::CancelToken;
/// use cleanbreak::interrupt::{Again, InterruptError, Interrupts, SIGHUP, SIGTERM};
///
/// let why = |signals: &[i32]| Interrupts::subscribe(signals).unwrap_err();
/// assert!(matches!(why(&[SIGTERM, 9]), InterruptError::Forbidden(9)));
/// assert_eq!(why(&[9]).to_string(), "SIGKILL cannot be received on a channel");
/// assert_eq!(why(&[0]).to_string(), "there is no signal 0");
/// assert_eq!(why(&[]).to_string(), "no signals to subscribe to");
///
/// let exit_on = Again::OneOf(&[SIGHUP]);
/// let why = Interrupts::cancel_on_with(&CancelToken::new(), &[SIGTERM], exit_on).unwrap_err();
/// assert_eq!(why.to_string(), "SIGHUP is not among the signals");
/// ```
#[derive(Debug)]
#[non_exhaustive]
pub enum InterruptError {
    /// The signal cannot be handled, or not by a thread: `SIGKILL` and `SIGSTOP`, which the kernel
    /// keeps for itself, and those that report a fault of the running instruction, such as
    /// `SIGSEGV`.
    Forbidden(i32),
    /// There is no signal of this number.
    Unknown(i32),
    /// The list of signals was empty: nothing would ever come.
    NoSignals,
    /// [`Again::OneOf`](super::Again::OneOf) names a signal that is not subscribed to.
    NotAmong(i32),
    /// The operating system refused the handler for this signal.
    Handler(i32, io::Error),
    /// The operating system refused the pipe that wakes the signal thread.
    Pipe(io::Error),
    /// The signal thread could not be started.
    Spawn(ThreadError),
}

/// A signal by name where it has one.
struct Named(i32);

impl fmt::Display for Named {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match signal_name(self.0) {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

impl fmt::Display for InterruptError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Forbidden(signal) => {
                write!(f, "{} cannot be received on a channel", Named(*signal))
            }
            Self::Unknown(number) => write!(f, "there is no signal {number}"),
            Self::NoSignals => f.write_str("no signals to subscribe to"),
            Self::NotAmong(signal) => {
                write!(f, "{} is not among the signals", Named(*signal))
            }
            Self::Handler(signal, _) => {
                write!(f, "could not install a handler for {}", Named(*signal))
            }
            Self::Pipe(_) => f.write_str("could not make the signal thread's pipe"),
            Self::Spawn(_) => f.write_str("could not start the signal thread"),
        }
    }
}

impl std::error::Error for InterruptError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Handler(_, error) | Self::Pipe(error) => Some(error),
            Self::Spawn(error) => Some(error),
            Self::Forbidden(_) | Self::Unknown(_) | Self::NoSignals | Self::NotAmong(_) => None,
        }
    }
}

impl From<ThreadError> for InterruptError {
    fn from(error: ThreadError) -> Self {
        Self::Spawn(error)
    }
}
