//! Waiting to be told: a receiver, a sleep, a hook.

use std::convert::Infallible;
use std::sync::LazyLock;
use std::time::Duration;

use crossbeam_channel::{Receiver, RecvTimeoutError};

use super::cause::Cancelled;
use super::registration::Registration;
use super::token::CancelToken;
use crate::clock::Instant;
use crate::fault::{self, At};
use crate::sync::{GateReceiver, gate};
use crate::threads;

/// The receiver of tokens that were cancelled before anybody asked.
static DISCONNECTED: LazyLock<GateReceiver> = LazyLock::new(|| gate().1);

impl CancelToken {
    /// A receiver that disconnects on cancellation and never carries a message: for `select!`,
    /// with any number of clones and waiters, for as long as you like.
    ///
    /// A clone of it does not keep the token: it also disconnects when the last handle of the token
    /// and of all below it is gone, since nothing could cancel it any more.
    ///
    /// # Performance
    ///
    /// The first call allocates a channel; later ones are one atomic load.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::CancelToken;
    /// use crossbeam_channel::{select, unbounded};
    ///
    /// let token = CancelToken::new();
    /// let (tx, rx) = unbounded();
    /// tx.send(1).unwrap();
    /// let mut seen = Vec::new();
    /// 'work: loop {
    ///     select! {
    ///         recv(token.done()) -> _ => break 'work,
    ///         recv(rx) -> message => {
    ///             seen.push(message.unwrap());
    ///             token.cancel();
    ///         }
    ///     }
    /// }
    /// assert_eq!(seen, [1]);
    /// ```
    #[must_use]
    pub fn done(&self) -> &Receiver<Infallible> {
        self.node.gate().unwrap_or(&DISCONNECTED)
    }

    /// Blocks until it is cancelled. On a token that nobody else can cancel that is for ever; see
    /// [`stop_possible`](Self::stop_possible).
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::CancelToken;
    ///
    /// let token = CancelToken::new();
    /// std::thread::scope(|s| {
    ///     let main = s.spawn(|| token.wait()); // such as a `main` that has started its services
    ///     token.cancel();
    ///     main.join().unwrap();
    /// });
    /// token.wait(); // cancelled: does not block
    /// ```
    #[track_caller]
    pub fn wait(&self) {
        self.wait_until(None);
    }

    /// Blocks until it is cancelled, for `timeout` at the longest, by the token's clock. `true` if
    /// it is cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock};
    ///
    /// let clock = Clock::manual();
    /// let token = CancelToken::with_clock(&clock);
    /// std::thread::scope(|s| {
    ///     let poller = s.spawn(|| {
    ///         let mut polls = 0;
    ///         while !token.wait_timeout(Duration::from_secs(60)) { // `false`: a minute is over
    ///             polls += 1;
    ///         }
    ///         polls
    ///     });
    ///     for _ in 0..2 {
    ///         clock.await_timers(1);
    ///         clock.advance(Duration::from_secs(60));
    ///     }
    ///     clock.await_timers(1);
    ///     token.cancel(); // in the middle of the third minute
    ///     assert_eq!(poller.join().unwrap(), 2);
    /// });
    /// ```
    #[track_caller]
    pub fn wait_timeout(&self, timeout: Duration) -> bool {
        self.wait_until(self.clock().deadline_after(timeout))
    }

    /// Blocks until it is cancelled, or until `deadline`. `true` if it is cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock};
    ///
    /// let clock = Clock::manual();
    /// let token = CancelToken::with_clock(&clock);
    /// let deadline = clock.deadline_after(Duration::from_secs(9)).unwrap();
    /// std::thread::scope(|s| {
    ///     let waiter = s.spawn(|| token.wait_deadline(deadline));
    ///     clock.await_timers(1);
    ///     clock.advance(Duration::from_secs(9));
    ///     assert!(!waiter.join().unwrap()); // the time is up, and it is not cancelled
    /// });
    /// token.cancel();
    /// assert!(token.wait_deadline(deadline)); // cancelled comes before late
    /// ```
    #[track_caller]
    pub fn wait_deadline(&self, deadline: Instant) -> bool {
        self.wait_until(Some(deadline))
    }

    #[track_caller]
    fn wait_until(&self, deadline: Option<Instant>) -> bool {
        fault::pass(At::CancelWait);
        if self.is_cancelled() {
            return true;
        }
        let done = self.done();
        let _wait = threads::waiting_on("be cancelled");
        match self.clock().recv_until(done, deadline) {
            Ok(never) => match never {},
            Err(RecvTimeoutError::Disconnected) => true,
            // The two may come together, and cancellation is what the caller must not miss.
            Err(RecvTimeoutError::Timeout) => self.is_cancelled(),
        }
    }

    /// Sleeps for `duration` by the token's clock, or until it is cancelled.
    ///
    /// # Errors
    ///
    /// [`Cancelled`] if the sleep was cut short, or the token was cancelled before.
    #[track_caller]
    pub fn sleep(&self, duration: Duration) -> Result<(), Cancelled> {
        match self.wait_timeout(duration) {
            true => self.check(),
            false => Ok(()),
        }
    }

    /// Runs `hook` once: when the token is cancelled, on the thread that cancels it, or at once, on
    /// this one, if it has been.
    ///
    /// Dropping the registration takes the hook back (see there). Hooks run outside every lock, in
    /// the order of registration, a parent's before its children's. A panic in one is reported by
    /// the panic hook and stops there. If the token goes away uncancelled, the closure is dropped.
    ///
    /// Keep it short: `cancel` waits for it, and a deadline's hooks delay the other timers. A
    /// detached hook that holds a handle of its own token keeps both until it is cancelled.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::CancelToken;
    /// use std::net::{Shutdown, TcpListener, TcpStream};
    /// use std::io::Read;
    ///
    /// let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    /// let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    /// let token = CancelToken::new();
    /// let wake = stream.try_clone().unwrap();
    /// let registration = token.on_cancel(move || drop(wake.shutdown(Shutdown::Both)));
    ///
    /// let reader = std::thread::spawn(move || stream.read(&mut [0; 16]));
    /// token.cancel(); // ends the blocked read
    /// assert_eq!(reader.join().unwrap().unwrap(), 0);
    /// assert!(!registration.try_unregister()); // too late: it has run
    /// ```
    pub fn on_cancel(&self, hook: impl FnOnce() + Send + 'static) -> Registration {
        self.hook(move || {
            fault::run(At::CancelHook);
            hook();
        })
    }

    /// A hook of the library's own, which does not panic.
    pub(crate) fn hook(&self, hook: impl FnOnce() + Send + 'static) -> Registration {
        let closure = Box::new(hook);
        match self.node.extra.never {
            true => Registration::never(closure),
            false => Registration::arm(&self.node, closure),
        }
    }
}
