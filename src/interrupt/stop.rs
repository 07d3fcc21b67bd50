//! Cancelling on a signal, and leaving at once on the second.

use std::fmt;
use std::io;
use std::panic::Location;

use signal_hook::{SigId, flag, low_level};

use super::hub::{self, Subscription};
use super::set::SignalSet;
use super::{InterruptError, Interrupts, exit_status};
use crate::cancel::CancelToken;
use crate::sync::{Arc, AtomicBool};

/// What a signal does after a first one has asked for the stop.
///
/// A forced exit happens inside the signal handler, with [`exit_status`]: no thread, lock or full
/// pipe can be in its way, and so no destructor runs and no buffer is flushed either.
///
/// # Examples
///
/// ```
/// use cleanbreak::CancelToken;
/// use cleanbreak::interrupt::{Again, Interrupts, SIGINT, SIGTERM};
///
/// assert_eq!(Again::default(), Again::Same); // what `cancel_on` does
///
/// let token = CancelToken::new();
/// let signals = [SIGINT, SIGTERM];
/// let _patient = Interrupts::cancel_on_with(&token, &signals, Again::Never).unwrap();
/// # (0..2).for_each(|_| signal_hook::low_level::raise(SIGTERM).unwrap());
/// token.wait(); // a first SIGTERM; a second one does nothing
/// assert_eq!(token.cause().unwrap().as_signal(), Some(SIGTERM));
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Again<'a> {
    /// The same signal a second time exits at once. A different one does not: a terminal's Ctrl-C
    /// goes to the whole process group, and many a supervisor in it passes a `SIGTERM` on.
    #[default]
    Same,
    /// Each of these exits at once when any of the signals has come before.
    OneOf(&'a [i32]),
    /// Nothing is forced.
    Never,
}

/// Cancels a token on signals until it is dropped. See [`Interrupts::cancel_on`].
///
/// # Examples
///
/// ```
/// use cleanbreak::CancelToken;
/// use cleanbreak::interrupt::{Interrupts, SIGWINCH};
///
/// let (first, second) = (CancelToken::new(), CancelToken::new());
/// let stop = Interrupts::cancel_on(&first, &[SIGWINCH]).unwrap();
/// drop(stop); // undone
/// let _stop = Interrupts::cancel_on(&second, &[SIGWINCH]).unwrap();
/// # signal_hook::low_level::raise(SIGWINCH).unwrap();
/// second.wait(); // until the window changes its size
/// assert!(!first.is_cancelled());
/// ```
#[must_use = "it is undone when this is dropped"]
pub struct CancelOn {
    // The order matters: a forced exit must not outlive the cancellation it follows.
    _force: Force,
    _subscription: Subscription,
    signals: SignalSet,
}

/// Actions in the handler, taken out on drop.
#[derive(Default)]
struct Force(Vec<SigId>);

impl Interrupts {
    /// Cancels `token` with [`Cause::signal`](crate::Cause::signal) on the first of `signals`; the
    /// same one again exits the process at once. See [`cancel_on_with`](Self::cancel_on_with).
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::CancelToken;
    /// use cleanbreak::interrupt::{Interrupts, SIGINT, SIGTERM, cause_exit_status};
    ///
    /// let service = CancelToken::new();
    /// let _stop = Interrupts::cancel_on(&service, &[SIGINT, SIGTERM]).unwrap();
    /// # signal_hook::low_level::raise(SIGTERM).unwrap();
    /// service.wait(); // until somebody sends a SIGTERM
    /// let cause = service.cause().unwrap();
    /// assert_eq!(cause.as_signal(), Some(SIGTERM));
    /// assert_eq!(cause_exit_status(&cause), Some(143));
    /// ```
    #[track_caller]
    pub fn cancel_on(token: &CancelToken, signals: &[i32]) -> Result<CancelOn, InterruptError> {
        Self::cancel_on_with(token, signals, Again::Same)
    }

    /// Cancels `token` on the first of `signals`, and does what `again` says on those after it.
    ///
    /// The token is cancelled on the signal thread, so its hooks run there: while they do, nobody
    /// is told of another signal. The forced exit does not need that thread.
    ///
    /// Undone when the value that it returns is dropped; if that was the last subscriber, the drop
    /// waits for the hooks that are running. A signal that came just before may still cancel the
    /// token just after.
    ///
    /// # Errors
    ///
    /// As [`subscribe`](Self::subscribe), and [`InterruptError::NotAmong`] if `again` names a signal
    /// that is not in `signals`.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::CancelToken;
    /// use cleanbreak::interrupt::{Again, InterruptError, Interrupts, SIGHUP, SIGINT, SIGTERM};
    ///
    /// let token = CancelToken::new();
    /// let signals = [SIGINT, SIGTERM];
    /// // Ctrl-C after a polite SIGTERM does not wait, a second SIGTERM does.
    /// let stop = Interrupts::cancel_on_with(&token, &signals, Again::OneOf(&[SIGINT])).unwrap();
    /// # for _ in 0..2 { signal_hook::low_level::raise(SIGTERM).unwrap(); }
    /// # token.wait();
    /// drop(stop);
    ///
    /// let refused = Interrupts::cancel_on_with(&token, &signals, Again::OneOf(&[SIGHUP]));
    /// assert!(matches!(refused, Err(InterruptError::NotAmong(SIGHUP))));
    /// ```
    #[track_caller]
    pub fn cancel_on_with(
        token: &CancelToken,
        signals: &[i32],
        again: Again<'_>,
    ) -> Result<CancelOn, InterruptError> {
        let signals = SignalSet::checked(signals)?;
        again.check(signals)?;
        let mut force = Force::default();
        let arm = || force.arm(signals, again);
        let subscription = hub::subscribe_token(signals, token, Location::caller(), arm)?;
        Ok(CancelOn {
            _force: force,
            _subscription: subscription,
            signals,
        })
    }
}

impl Again<'_> {
    fn check(self, signals: SignalSet) -> Result<(), InterruptError> {
        let listed = match self {
            Self::OneOf(listed) => listed,
            Self::Same | Self::Never => &[],
        };
        match listed.iter().find(|signal| !signals.contains(**signal)) {
            Some(&stranger) => Err(InterruptError::NotAmong(stranger)),
            None => Ok(()),
        }
    }
}

impl Force {
    fn arm(&mut self, signals: SignalSet, again: Again<'_>) -> Result<(), InterruptError> {
        let any = Arc::new(AtomicBool::new(false));
        for signal in signals.iter() {
            let (asked, exits) = match again {
                Again::Same => (Arc::default(), true),
                Again::OneOf(listed) => (any.clone(), listed.contains(&signal)),
                Again::Never => return Ok(()),
            };
            let refused = |error| InterruptError::Handler(signal, error);
            self.arm_one(signal, &asked, exits).map_err(refused)?;
        }
        Ok(())
    }

    /// The order matters: the exit looks at the flag before this same signal sets it.
    fn arm_one(&mut self, signal: i32, asked: &Arc<AtomicBool>, exits: bool) -> io::Result<()> {
        if exits {
            let status = exit_status(signal).into();
            let exit = flag::register_conditional_shutdown(signal, status, asked.clone())?;
            self.0.push(exit);
        }
        self.0.push(flag::register(signal, asked.clone())?);
        Ok(())
    }
}

impl Drop for Force {
    fn drop(&mut self) {
        for action in self.0.drain(..) {
            low_level::unregister(action);
        }
    }
}

impl fmt::Debug for CancelOn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("CancelOn");
        debug
            .field("signals", &self.signals)
            .finish_non_exhaustive()
    }
}
