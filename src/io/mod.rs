//! Floor 3: blocking I/O that ends with a token. Feature `io`; Unix only, elsewhere the feature adds
//! nothing.
//!
//! [`Interruptible`] binds a socket, a listener, a pipe or a terminal to a token: its reads, writes
//! and accepts end when that is cancelled. [`connect`], [`wait_child`], [`output`] and
//! [`stdin_lines`] do the same for what is not a read or a write; [`wait_ready`] is for descriptors
//! that you read yourself, and [`Notify`] lets such a wait see a channel.
//!
//! # What is promised
//!
//! * A wait ends at once when its token is cancelled or its deadline passes: the thread sleeps in
//!   poll(2) on the descriptor and on one of its own, which the token's hook writes. Nothing is
//!   polled in slices.
//! * The error is a [`Cancelled`](crate::Cancelled) in an [`io::Error`](std::io::Error), of kind
//!   `TimedOut` or `Other`: never `Interrupted`, which `read_line` and its kind silently retry.
//!   [`cancellation`] gets it back.
//! * Nothing is lost: what was read before is returned, or still in the kernel; what `write_all` and
//!   `read_exact` did is told ([`transferred`]); a connection stays open, a child runs on and stays
//!   yours.
//! * A token that is cancelled is seen before each operation, also one that is ready.
//! * A signal handler of the application ends no wait, and prolongs none.
//! * A wake-up that comes too late ends no later wait, and is written into no descriptor that has
//!   taken the number of a closed one.
//! * No descriptor's mode is changed, but for a listener's that is accepted on: `O_NONBLOCK` is
//!   shared by duplicates, also those that other processes have.
//! * Every wait is shown in [`threads::live`](crate::threads::live).
//!
//! # What is not
//!
//! * What is not a wait on a descriptor cannot be ended: see the table below.
//! * Between "ready" and the read, somebody else may take what was ready. Sockets do not block then,
//!   nor do pipes on Linux 6.4 and later; terminals, named pipes and other pipes do. Give each of
//!   those one reader. A terminal that was stopped with Ctrl-S may block a writer.
//! * A thread that has waited once keeps a descriptor (an eventfd; outside of Linux, the two of a
//!   pipe) until it ends. A process that forks without `exec` shares it with its child, where no wait
//!   may be made then.
//! * Linux is where it is tested; the ways that other systems take (a pipe for the eventfd, asking
//!   before reading, a thread for the pidfd) are tested there too, but no other system was tried.
//!
//! # How do I stop a thread that is blocked in …
//!
//! | blocked in | so that it ends with a token | else |
//! |---|---|---|
//! | `TcpStream` / `UnixStream` read, write | [`Interruptible`] | `token.on_cancel(..)` that shuts the socket down: then the connection is over |
//! | `TcpListener` / `UnixListener` accept | [`Interruptible::accept`] | |
//! | `TcpStream::connect` | [`connect`] | |
//! | `UnixStream::connect` | it blocks only while the listener's queue is full, and poll(2) cannot see that | a thread that may be left behind |
//! | a pipe, a terminal, a device that can be polled | [`Interruptible`] | |
//! | `stdin().lines()` | [`stdin_lines`] | |
//! | `Child::wait`, `wait_with_output` | [`wait_child`], [`output`]; [`terminate`] | |
//! | a child's pipes | [`Interruptible`] on `child.stdout` | kill the child |
//! | poll, epoll, an event loop of another library | [`wait_ready`] on its descriptor, if it has one | its own wake-up, from `token.on_cancel` |
//! | a channel, a ticker, a sleep | `select!` with `token.done()`, [`CancelToken::sleep`](crate::CancelToken::sleep) | |
//! | a mutex, a condition variable | nothing: hold locks for a short time; wait on a channel instead | |
//! | a name's look-up (`ToSocketAddrs`) | nothing: it is a call into the C library | look up on another thread, and leave it behind |
//! | a regular file, a directory, a network file system | nothing: they are always "ready" | the same; keep what must stop off hung mounts |
//! | opening a named pipe | nothing | open it with `O_NONBLOCK`, or for reading *and* writing |
//! | `flock`, `fcntl` locks | nothing | try, and sleep on the token in between |
//! | a library's own socket (a database client) | its cancel call, or a shutdown of its socket, from `token.on_cancel` | its timeouts, set to what you can wait |
//!
//! # Design
//!
//! *One descriptor for each thread*, not for each wait: an eventfd made and closed costs some
//! microseconds, the token's hook a tenth of one. It is made by the first wait of the thread that has to
//! block ([`Waker`] makes it ahead). A hook that is still running when its wait ends is waited for,
//! so the descriptor is silent for the next one.
//!
//! *A wrapper, not functions or a trait*: a `read` that takes a token is forgotten where `read_line`
//! or `io::copy` calls it; a stream that is bound cannot be read without its token being seen.
//!
//! Invariants are in `waker.rs`, `wait.rs` and `watch.rs`; why nothing blocks after "ready" is in
//! `direct.rs`.

mod child;
mod connect;
mod direct;
mod err;
mod exit;
mod lines;
mod listen;
mod notify;
mod output;
#[cfg(any(test, fuzzing))]
pub(crate) mod random;
mod stream;
mod wait;
mod waker;
mod watch;

pub use child::{terminate, terminate_until, wait_child, wait_child_deadline, wait_child_timeout};
pub use connect::{connect, connect_deadline, connect_timeout};
pub use err::{OutputError, cancellation, transferred};
pub use lines::{Lines, StdinLines, stdin_lines};
pub use listen::Listen;
pub use notify::Notify;
pub use output::output;
pub use stream::Interruptible;
pub use wait::{Interest, Woken, wait_ready, wait_ready_deadline, wait_ready_timeout};
pub use waker::Waker;
