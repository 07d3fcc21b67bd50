//! Floor 6: signals of the operating system as a channel. Feature `signal`; Unix only, elsewhere
//! the feature adds nothing.
//!
//! [`Interrupts::subscribe`] gives a crossbeam `Receiver` for `select!`, [`Interrupts::cancel_on`]
//! cancels a token. Nothing of yours runs in a signal handler.
//!
//! # What is promised
//!
//! * The handler counts and wakes: it never blocks, whatever the subscribers do.
//! * Any number of subscribers; each is told of each signal that it wants.
//! * An item says how many of the signal arrived since the one before: of those that reached the
//!   process, none is lost while a subscriber is busy. A channel holds one item for each signal at
//!   most, whatever comes.
//! * A second Ctrl-C ends the process at once, from inside the handler, also when every thread is
//!   stuck.
//! * One thread, `cleanbreak signals`, starts with the first subscriber, and is joined when the last
//!   is dropped.
//! * When nobody is subscribed to a signal any more, it does what it did before: its default, what
//!   the handler does that was there, or nothing if it was ignored.
//!
//! # What is not
//!
//! * The kernel merges standard signals: of those sent while one is pending, the process sees one.
//!   So a count is at most what was sent, and at least one; only real-time signals queue.
//! * Signals come in no order, and one that came just before a subscription may be told to it. When
//!   a subscription is dropped, what it did not receive is gone; and a signal that was sent before,
//!   but that no thread of the process has taken yet, does its default.
//! * In the moment in which an arrival is added to an item that nobody took yet, a `try_recv` may
//!   find the channel empty. A blocked receive, or a `select!`, does not mind.
//! * The handler itself stays: signal-hook never takes it out, because nobody could do that safely
//!   beside other libraries. It *does* what was done before. One can tell the difference: a program
//!   that you `exec` gets the default where it would have inherited "ignored"; a real-time signal
//!   that nobody is subscribed to any more ends the process with an exit status of 128 + number; and
//!   `SIGIO` is ignored. Handlers that others install through signal-hook after
//!   ours do not keep the default from being done.
//! * A signal that is blocked in every thread does not arrive. Masks are not touched.
//! * Tokens are cancelled, and so hooks run, on the signal thread: a slow hook delays the next
//!   signal for everybody, but not the forced exit.
//! * In a process that was forked without `exec`, there is no signal thread.
//!
//! # Why signal-hook's iterator
//!
//! Its `Signals` is a self-pipe with a blocking read, and its handle ends that read: a thread that
//! can be told to stop and joined, which the crate ctrlc does not offer. What it lacks is counts
//! (it has a flag for each signal) and putting defaults back: those two are one action of ours that
//! runs in the handler before its, in `handler.rs`, the only unsafe file here. A pipe of our own
//! would have been more code for the same thread; `signalfd` wants the signal blocked in every
//! thread, and so in every child that is started.
//!
//! Invariants and lock order are in `handler.rs` and `hub.rs`.

mod err;
mod handler;
mod hub;
mod set;
mod status;
mod stop;

use std::fmt;
use std::ops::Deref;
use std::panic::Location;

use crossbeam_channel::Receiver;

use hub::Subscription;
use set::SignalSet;

pub use err::InterruptError;
#[doc(no_inline)]
pub use libc::{SIGALRM, SIGCHLD, SIGCONT, SIGHUP, SIGINT, SIGQUIT, SIGTERM};
#[doc(no_inline)]
pub use libc::{SIGTSTP, SIGUSR1, SIGUSR2, SIGWINCH};
pub use status::{cause_exit_status, exit_status, reraise, signal_name};
pub use stop::{Again, CancelOn};

/// A signal that arrived, once or more.
///
/// # Examples
///
/// ```
/// use cleanbreak::interrupt::{Interrupts, SIGUSR1};
///
/// let signals = Interrupts::subscribe(&[SIGUSR1]).unwrap();
/// # (0..2).for_each(|_| signal_hook::low_level::raise(SIGUSR1).unwrap());
/// // `kill -USR1`, twice: one item for both, or two, by when they came and who looked.
/// let mut count = 0;
/// while count < 2 {
///     let got = signals.recv().unwrap();
///     assert_eq!((got.signal, got.name()), (SIGUSR1, Some("SIGUSR1")));
///     assert_eq!(got.to_string(), if got.count == 2 { "SIGUSR1 (2 times)" } else { "SIGUSR1" });
///     count += got.count;
/// }
/// assert_eq!(count, 2);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Interrupt {
    /// The number of the signal.
    pub signal: i32,
    /// How many arrived since this subscriber received the last item for the signal; at least 1.
    pub count: u64,
}

impl Interrupt {
    /// The name of the signal; see [`signal_name`].
    #[must_use]
    pub fn name(&self) -> Option<&'static str> {
        signal_name(self.signal)
    }
}

impl fmt::Display for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name)?,
            None => write!(f, "signal {}", self.signal)?,
        }
        match self.count {
            1 => Ok(()),
            count => write!(f, " ({count} times)"),
        }
    }
}

/// A subscription to signals, until it is dropped.
///
/// It dereferences to the crossbeam `Receiver` of its [`Interrupt`]s, so it goes straight into
/// `select!`. Unlike signal-hook's `Signals`, which one thread reads, there can be many, and an item
/// says how many signals it stands for.
///
/// Clones of the receiver share the items: each goes to one of them. They disconnect when the
/// subscription is dropped.
///
/// # Performance
///
/// An arrival costs the handler two atomic operations and a `send` to a pipe, and the signal thread
/// some microseconds. Subscribing and dropping take microseconds, and the first and the last
/// subscriber start and join a thread.
///
/// # Examples
///
/// ```
/// use cleanbreak::CancelToken;
/// use cleanbreak::interrupt::{Interrupts, SIGINT, SIGUSR1, SIGUSR2};
/// use crossbeam_channel::select;
///
/// let service = CancelToken::new();
/// let _stop = Interrupts::cancel_on(&service, &[SIGINT]).unwrap();
/// let signals = Interrupts::subscribe(&[SIGUSR1, SIGUSR2]).unwrap();
/// # signal_hook::low_level::raise(SIGUSR1).unwrap();
/// let (mut checks, mut reloads) = (0, 0);
/// 'serve: loop {
///     select! {
///         recv(service.done()) -> _ => break 'serve,
///         recv(signals) -> signal => match signal {
///             Ok(got) if got.signal == SIGUSR1 => checks += got.count,
///             Ok(got) => reloads += got.count,
///             Err(_) => break 'serve,
///         }
///     }
///     # signal_hook::low_level::raise(SIGINT).unwrap();
///     # service.wait();
/// }
/// assert_eq!((checks, reloads), (1, 0));
/// ```
#[must_use = "dropping it ends the subscription"]
pub struct Interrupts {
    _subscription: Subscription,
    receiver: Receiver<Interrupt>,
    signals: SignalSet,
}

impl Interrupts {
    /// Subscribes to `signals`. From then on they do not do what they do by default: a `SIGTERM`
    /// no longer ends the process by itself.
    ///
    /// # Errors
    ///
    /// [`Forbidden`](InterruptError::Forbidden) for signals that cannot be handled this way,
    /// [`Unknown`](InterruptError::Unknown) for numbers that none can have,
    /// [`NoSignals`](InterruptError::NoSignals) for an empty list, and what the operating system
    /// refuses: a handler (for the numbers that its C library keeps for itself), a pipe, a thread.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::interrupt::{InterruptError, Interrupts, SIGUSR1};
    ///
    /// let signals = Interrupts::subscribe(&[SIGUSR1]).unwrap();
    /// # signal_hook::low_level::raise(SIGUSR1).unwrap();
    /// let first = signals.recv().unwrap(); // `kill -USR1`, once
    /// assert_eq!((first.signal, first.count), (SIGUSR1, 1));
    /// assert_eq!(first.to_string(), "SIGUSR1");
    ///
    /// let refused = Interrupts::subscribe(&[9]).unwrap_err();
    /// assert!(matches!(refused, InterruptError::Forbidden(9)));
    /// assert_eq!(refused.to_string(), "SIGKILL cannot be received on a channel");
    /// assert!(matches!(Interrupts::subscribe(&[0]), Err(InterruptError::Unknown(0))));
    /// assert!(matches!(Interrupts::subscribe(&[]), Err(InterruptError::NoSignals)));
    /// ```
    #[track_caller]
    pub fn subscribe(signals: &[i32]) -> Result<Self, InterruptError> {
        let signals = SignalSet::checked(signals)?;
        let (subscription, receiver) = hub::subscribe_channel(signals, Location::caller())?;
        Ok(Self {
            _subscription: subscription,
            receiver,
            signals,
        })
    }
}

impl Deref for Interrupts {
    type Target = Receiver<Interrupt>;

    fn deref(&self) -> &Receiver<Interrupt> {
        &self.receiver
    }
}

impl<'a> IntoIterator for &'a Interrupts {
    type Item = Interrupt;
    type IntoIter = crossbeam_channel::Iter<'a, Interrupt>;

    fn into_iter(self) -> Self::IntoIter {
        self.receiver.iter()
    }
}

// A panic never leaves one half changed: no code of the user runs under a lock of ours.
impl std::panic::UnwindSafe for Interrupts {}
impl std::panic::RefUnwindSafe for Interrupts {}

impl fmt::Debug for Interrupts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Interrupts");
        debug
            .field("signals", &self.signals)
            .finish_non_exhaustive()
    }
}
