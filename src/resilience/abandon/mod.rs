//! A bound on the time of a call that cannot be told to stop.

mod builder;
mod call;
mod err;
mod shared;

use std::fmt;
use std::panic::{Location, resume_unwind};
use std::time::Duration;

use super::timeout::{EndedBy, ended_by};
use crate::cancel::CancelToken;
use crate::contain::contain;
use crate::group::PanicPayload;
use crate::sync::Arc;
use call::{Call, Wait};
use shared::{Report, Shared};

pub use builder::AbandonerBuilder;
pub use err::{AbandonError, RefusedCall, RefusedKind};
pub use shared::AbandonedCall;

/// What became of an operation after it had been abandoned: its result, or the payload of its
/// panic.
///
/// # Examples
///
/// ```
/// use cleanbreak::group::PanicPayload;
/// use cleanbreak::resilience::Late;
///
/// fn log(late: Late<u32, &str>) -> String {
///     match late {
///         Ok(Ok(value)) => format!("{value}, too late"),
///         Ok(Err(error)) => format!("failed, too late: {error}"),
///         Err(panic) => format!("panicked: {}", panic.message().unwrap_or("..")),
///     }
/// }
/// assert_eq!(log(Ok(Ok(7))), "7, too late");
/// assert_eq!(log(Ok(Err("reset"))), "failed, too late: reset");
/// assert_eq!(log(Err(PanicPayload::new(Box::new("a bug")))), "panicked: a bug");
/// ```
pub type Late<T, E> = Result<Result<T, E>, PanicPayload>;
/// Bounds the time of calls that cannot be told to stop: a name lookup, a library that knows no
/// timeout, a file on a dead network. The operation runs on a helper thread; when it is late, the
/// caller returns on time and leaves the thread behind.
///
/// That is a last resort, and the thread stays a thread: it holds its stack and whatever the
/// operation holds. So there is a cap on how many there are, and all of them are listed until they
/// end. An operation that can be told is better served by a [`Timeout`](super::Timeout).
///
/// Clones are the same abandoner.
///
/// # What is promised
///
/// * [`abandon_after`](Self::abandon_after) returns when the operation ends, its time is up or the
///   caller's token is cancelled. In the first case its thread has been joined.
/// * The operation is given a token that is cancelled when it is abandoned: if it looks after all,
///   it ends sooner.
/// * There are never more than [`max_threads`](AbandonerBuilder::max_threads) helper threads,
///   abandoned ones included: each call could end abandoned, so each takes its place when it
///   starts. A call that finds none is refused and gives the closure back.
/// * [`abandoned`](Self::abandoned) lists them with name, line of the call and time, and so does
///   [`threads::live`](crate::threads::live), until they end.
///
/// # Drop
///
/// When the last clone goes, the drop waits for abandoned threads, for
/// [`drop_patience`](AbandonerBuilder::drop_patience) at most, one second by default; then it
/// reports those that still run, and lets them be. The rest of this library waits for as long as it
/// takes, because its tasks were told and their delay is a defect. Here the operation *cannot* be
/// told, that is why it is here; a drop that waited for it would bring back, at the exit of the
/// program, the very hang that the call was saved from. So these threads may outlive their owner,
/// but never in secret: they are reported when that happens, and stay in `threads::live()`. For a
/// strict exit, [`close`](Self::close) says who is left, and a patience of
/// [`Duration::MAX`] waits for ever.
///
/// # What is not guaranteed
///
/// The thread-locals of an operation that has ended are destroyed before the call returns: a
/// destructor that hangs there holds the caller up. At the end of the process, threads that are left
/// are killed where they stand.
///
/// # Performance
///
/// Each call starts a thread and joins it, some 50–100 µs, and arms a timer: see
/// [`Clock::keep_timer`](crate::Clock::keep_timer).
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{CancelToken, Clock};
/// use cleanbreak::resilience::{AbandonError, Abandoner};
/// use crossbeam_channel::bounded;
///
/// let clock = Clock::manual();
/// let token = CancelToken::with_clock(&clock);
/// let lookups = Abandoner::builder().name("lookup").max_threads(1).build();
/// let quick = lookups.abandon_after(&token, Duration::from_secs(5), |_| Ok::<_, ()>(7));
/// assert_eq!(quick.unwrap(), 7);
///
/// let (release, held) = bounded::<()>(0);
/// let time = clock.clone();
/// let hung = lookups.abandon_after(&token, Duration::from_secs(5), move |_| {
///     time.advance(Duration::from_secs(5)); // five seconds later
///     held.recv() // it still hangs, until we let go
/// });
/// assert!(hung.unwrap_err().is_timeout());
/// assert_eq!(lookups.abandoned()[0].name, "lookup");
///
/// // The cap is reached: the closure comes back.
/// let refused = lookups.abandon_after(&token, Duration::from_secs(5), |_| Ok::<_, ()>(8));
/// let Err(AbandonError::Refused(refused)) = refused else { panic!() };
/// assert!(refused.is_full());
/// assert_eq!(refused.into_inner()(&token), Ok(8)); // run it here, if you must
///
/// drop(release);
/// assert!(lookups.close(Duration::MAX).is_empty()); // all have ended, and been joined
/// ```
#[derive(Clone)]
pub struct Abandoner {
    owner: Arc<Owner>,
}
/// What all clones share, and their threads do not.
struct Owner {
    shared: Arc<Shared>,
    patience: Duration,
    report: Report,
}
impl Abandoner {
    /// The settings of a new one.
    pub fn builder() -> AbandonerBuilder {
        AbandonerBuilder::new()
    }

    /// Runs `operation` on a helper thread and returns its result, or returns without it after
    /// `limit`, by the clock of `token`, or when `token` is cancelled. A late result, or a late
    /// panic, is dropped on the helper thread.
    ///
    /// # Panics
    ///
    /// With the payload of the operation, if it panics in time.
    ///
    /// # Errors
    ///
    /// [`AbandonError`]: its own error in time, that it was abandoned, or that it was refused and
    /// did not run.
    #[track_caller]
    pub fn abandon_after<T, E, F>(
        &self,
        token: &CancelToken,
        limit: Duration,
        operation: F,
    ) -> Result<T, AbandonError<F, E>>
    where
        F: FnOnce(&CancelToken) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
    {
        self.abandon_after_with(token, limit, operation, drop)
    }

    /// As [`abandon_after`](Self::abandon_after), and gives what comes late to `late`, on the
    /// helper thread. A panic in `late` is contained. It is dropped uncalled if the operation ends
    /// in time.
    ///
    /// # Panics
    ///
    /// As `abandon_after` does.
    ///
    /// # Errors
    ///
    /// Those of `abandon_after`.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::{CancelToken, Clock};
    /// use cleanbreak::resilience::{Abandoner, Late};
    /// use crossbeam_channel::bounded;
    ///
    /// let (release, held) = bounded::<()>(0);
    /// let (tell, told) = bounded(1);
    /// let clock = Clock::manual();
    /// let token = CancelToken::with_clock(&clock);
    /// let limit = Duration::from_secs(5);
    /// let slow = move |_: &CancelToken| {
    ///     clock.advance(limit);
    ///     held.recv().ok();
    ///     Ok::<_, ()>("a connection")
    /// };
    /// let abandoner = Abandoner::builder().build();
    /// let late = move |late: Late<&'static str, ()>| tell.send(late.unwrap()).unwrap();
    /// let call = abandoner.abandon_after_with(&token, limit, slow, late);
    /// assert!(call.unwrap_err().is_timeout());
    /// drop(release);
    /// assert_eq!(told.recv().unwrap(), Ok("a connection")); // to be used, or closed
    /// ```
    #[track_caller]
    pub fn abandon_after_with<T, E, F, L>(
        &self,
        token: &CancelToken,
        limit: Duration,
        operation: F,
        late: L,
    ) -> Result<T, AbandonError<F, E>>
    where
        F: FnOnce(&CancelToken) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        L: FnOnce(Late<T, E>) + Send + 'static,
    {
        let site = Location::caller();
        let refused = |kind, operation| {
            let call = RefusedCall::new(kind, operation);
            Err(AbandonError::Refused(call))
        };
        let child = token.child_timeout(limit);
        if child.is_cancelled() {
            return refused(unrun(token, &child), operation);
        }
        let shared = &self.owner.shared;
        let number = match shared.take_place(site) {
            Ok(number) => number,
            Err(kind) => return refused(kind, operation),
        };
        let (call, ended) = Call::new(operation);
        let handle = match shared.start(number, site, &call, child.clone()) {
            Ok(handle) => handle,
            Err(error) => {
                shared.leave_place(number);
                let task = call.take_task().expect("it was not started");
                return refused(RefusedKind::Thread(error), task);
            }
        };
        match call.outcome(shared, number, handle, &ended, &child, late) {
            Wait::Ended(Ok(result)) => result.map_err(AbandonError::Failed),
            Wait::Ended(Err(payload)) => resume_unwind(payload.into_inner()),
            Wait::Abandoned => Err(abandoned(token, &child, limit)),
            Wait::Unrun(operation) => refused(unrun(token, &child), operation),
        }
    }

    /// The calls that were abandoned and still run, oldest first.
    #[must_use]
    pub fn abandoned(&self) -> Vec<AbandonedCall> {
        self.owner.shared.abandoned()
    }

    /// Refuses calls from now on, waits for `patience` at most until the abandoned threads have
    /// ended, joins those that have, and returns those that have not. Calls that run go on. Called
    /// by an operation of its own, it does not wait for that one.
    #[track_caller]
    pub fn close(&self, patience: Duration) -> Vec<AbandonedCall> {
        self.owner.shared.close(patience)
    }
}
/// Why a call whose child was told has been abandoned.
fn abandoned<F, E>(
    token: &CancelToken,
    child: &CancelToken,
    limit: Duration,
) -> AbandonError<F, E> {
    match unrun(token, child) {
        RefusedKind::Cancelled(cancelled) => AbandonError::Cancelled(cancelled),
        _ => AbandonError::TimedOut { limit },
    }
}

/// Why a call whose child was told has not been run.
fn unrun(token: &CancelToken, child: &CancelToken) -> RefusedKind {
    match (ended_by(token, child), child.cancelled()) {
        (Some(EndedBy::Caller(cancelled)), _) => RefusedKind::Cancelled(cancelled),
        // By the operation, which has its token; or there is no timer.
        (None, Some(cancelled)) => RefusedKind::Cancelled(cancelled),
        _ => RefusedKind::Timeout,
    }
}
impl Drop for Owner {
    fn drop(&mut self) {
        let left = self.shared.close(self.patience);
        if !left.is_empty() {
            contain(|| (self.report)(&left));
        }
    }
}

// A panic never leaves one half changed: no code of the user runs under a lock of ours.
impl std::panic::UnwindSafe for Abandoner {}
impl std::panic::RefUnwindSafe for Abandoner {}

impl fmt::Debug for Abandoner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.owner.shared;
        f.debug_struct("Abandoner")
            .field("name", &shared.name)
            .field("threads", &shared.threads())
            .field("max_threads", &shared.most)
            .finish_non_exhaustive()
    }
}
