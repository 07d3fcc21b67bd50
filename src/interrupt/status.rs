//! How a process says that it ended because of a signal.

use std::io;

use signal_hook::low_level;

use crate::cancel::Cause;

/// The name of a signal, such as `"SIGTERM"`; `None` for real-time signals and unknown numbers.
///
/// # Examples
///
/// ```
/// use cleanbreak::interrupt::{SIGUSR1, signal_name};
///
/// assert_eq!(signal_name(SIGUSR1), Some("SIGUSR1"));
/// assert_eq!(signal_name(0), None);
/// ```
#[must_use]
pub fn signal_name(signal: i32) -> Option<&'static str> {
    low_level::signal_name(signal)
}

/// The exit status by which a shell would report a process that died of `signal`: 128 + number.
///
/// For a program that was *interrupted*. One that was asked to stop and did what it was asked has
/// succeeded, and should exit with 0: service managers read anything else as a failure. To be seen
/// to have died of the signal, [`reraise`] it instead.
///
/// A number that no signal has is brought into the range 0 to 127 first.
///
/// # Examples
///
/// ```
/// use cleanbreak::interrupt::{SIGINT, SIGTERM, exit_status};
/// use std::process::ExitCode;
///
/// assert_eq!(exit_status(SIGINT), 130);
/// assert_eq!(exit_status(SIGTERM), 143);
/// let _from_main = ExitCode::from(exit_status(SIGINT));
/// assert_eq!((exit_status(-1), exit_status(1000)), (128, 255));
/// ```
#[must_use]
pub fn exit_status(signal: i32) -> u8 {
    let number = signal.clamp(0, 127).unsigned_abs();
    // At most 255.
    u8::try_from(128 + number).unwrap_or(u8::MAX)
}

/// The [`exit_status`] of a cancellation's cause, if that is a signal.
///
/// # Examples
///
/// ```
/// use cleanbreak::Cause;
/// use cleanbreak::interrupt::{SIGINT, cause_exit_status};
///
/// assert_eq!(cause_exit_status(&Cause::signal(SIGINT)), Some(130));
/// assert_eq!(cause_exit_status(&Cause::from("no more work")), None);
/// ```
#[must_use]
pub fn cause_exit_status(cause: &Cause) -> Option<u8> {
    cause.as_signal().map(exit_status)
}

/// Puts the default of `signal` back and raises it, so that the parent sees a process that died of
/// the signal, not one that exited. Call it last in `main`, when all has been cleaned up: no
/// destructor runs after it.
///
/// A shell that runs a script, for one, stops the script on Ctrl-C only if the program died of the
/// `SIGINT`.
///
/// It returns if the default of the signal does not end the process: `Ok` when it is to ignore it,
/// or to stop, and the process was continued. Where ending was not possible otherwise, it aborts.
///
/// # Errors
///
/// If signal-hook does not know the default of the signal: a real-time signal, or no signal at all.
///
/// # Examples
///
/// ```no_run
/// use cleanbreak::CancelToken;
/// use cleanbreak::interrupt::{Interrupts, SIGINT, reraise};
///
/// fn main() -> anyhow::Result<()> {
///     let service = CancelToken::new();
///     let _stop = Interrupts::cancel_on(&service, &[SIGINT])?;
///     service.wait(); // ... and clean up
///     if let Some(signal) = service.cause().and_then(|cause| cause.as_signal()) {
///         reraise(signal)?;
///     }
///     Ok(())
/// }
/// ```
///
/// What does not end the process comes back:
///
/// ```
/// use cleanbreak::interrupt::{SIGWINCH, reraise};
///
/// assert!(reraise(SIGWINCH).is_ok());
/// assert!(reraise(0).is_err());
/// ```
pub fn reraise(signal: i32) -> io::Result<()> {
    low_level::emulate_default_handler(signal)
}
