//! A wake-up from another thread, as one more thing that a wait on a descriptor sees.

use std::fmt;
use std::io;
use std::os::fd::AsFd;

use super::wait::{Interest, Limit, What, Woken, wait};
use super::waker::Bell;
use crate::cancel::CancelToken;
use crate::sync::{Arc, Mutex};

/// Tells a thread that waits on a descriptor that there is something else to look at: a message in
/// a channel, a job that is done.
///
/// A `select!` cannot wait on a descriptor; this is how a wait on a descriptor can see a channel.
/// Send first, then [`notify`](Self::notify); the waiting thread looks at the channel when it gets
/// [`Woken::Notified`]. It holds one permit at most, as `tokio::sync::Notify` and
/// `std::thread::park` do: a notification before the wait ends the wait at once, and several before
/// it end one. Of several threads that wait, one gets the permit.
///
/// # Performance
///
/// It has no descriptor of its own: it rings that of the thread that waits. A notification costs a
/// lock, and when somebody waits a system call, about a microsecond.
///
/// # Examples
///
/// ```
/// use cleanbreak::io::{Interest, Notify, Woken};
/// use cleanbreak::CancelToken;
/// use std::net::{TcpListener, TcpStream};
/// use std::sync::Arc;
///
/// let listener = TcpListener::bind("127.0.0.1:0").unwrap();
/// let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
/// let (socket, _) = listener.accept().unwrap();
/// let (token, news) = (CancelToken::new(), Arc::new(Notify::new()));
/// let (tx, rx) = crossbeam_channel::unbounded();
///
/// let publisher = std::thread::spawn({
///     let news = news.clone();
///     move || {
///         tx.send("hello").unwrap();
///         news.notify();
///     }
/// });
/// let woken = news.wait_or_ready(&socket, Interest::HangUp, &token).unwrap();
/// assert_eq!((woken, rx.try_recv()), (Woken::Notified, Ok("hello")));
///
/// drop(client); // hangs up
/// let woken = news.wait_or_ready(&socket, Interest::HangUp, &token).unwrap();
/// assert_eq!(woken, Woken::Ready);
/// publisher.join().unwrap();
/// ```
#[derive(Default)]
pub struct Notify {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    permit: bool,
    waiting: Vec<Arc<Bell>>,
}

/// A bell among those that are rung, taken out on drop.
pub(super) struct Listening<'a> {
    notify: &'a Notify,
    bell: Arc<Bell>,
}

impl Notify {
    /// Without a permit.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Leaves a permit, and wakes who waits for one.
    pub fn notify(&self) {
        let mut state = self.state.lock();
        state.permit = true;
        // Under the lock: who has taken its bell out hears nothing more.
        state.waiting.iter().for_each(|bell| bell.ring());
    }

    /// Blocks until there is a permit, which this takes, `fd` has what `interest` says, or `token`
    /// is cancelled. If there is both, the permit is taken.
    ///
    /// # Errors
    ///
    /// As [`wait_ready`](super::wait_ready). A permit stays for the next wait.
    #[track_caller]
    pub fn wait_or_ready(
        &self,
        fd: impl AsFd,
        interest: Interest,
        token: &CancelToken,
    ) -> io::Result<Woken> {
        let what = What::here("be notified or ready for I/O");
        let fds = [(fd.as_fd(), interest)];
        wait(&fds, Limit::token(token), Some(self), what)
    }

    pub(super) fn listen(&self, bell: &Arc<Bell>) -> Listening<'_> {
        let bell = bell.clone();
        self.state.lock().waiting.push(bell.clone());
        Listening { notify: self, bell }
    }

    pub(super) fn take(&self) -> bool {
        std::mem::take(&mut self.state.lock().permit)
    }
}

impl Drop for Listening<'_> {
    fn drop(&mut self) {
        let mut state = self.notify.state.lock();
        let own = |bell: &Arc<Bell>| Arc::ptr_eq(bell, &self.bell);
        if let Some(place) = state.waiting.iter().position(own) {
            state.waiting.swap_remove(place);
        }
    }
}

// A panic never leaves one half changed: no code of the user runs under a lock of ours.
impl std::panic::UnwindSafe for Notify {}
impl std::panic::RefUnwindSafe for Notify {}

impl fmt::Debug for Notify {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let permit = self.state.lock().permit;
        f.debug_struct("Notify")
            .field("permit", &permit)
            .finish_non_exhaustive()
    }
}
