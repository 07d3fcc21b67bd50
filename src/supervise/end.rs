//! How a run ended.

use std::any::Any;
use std::fmt;
use std::ops::Deref;
use std::time::Duration;

use crate::cancel::Cancelled;
use crate::contain::{contain, discard, drop_contained};
use crate::group::PanicPayload;
use crate::sync::{Arc, Mutex};
use crate::threads::ThreadError;

/// How the last run of a child ended.
///
/// # Examples
///
/// ```
/// use std::collections::BTreeMap;
/// use cleanbreak::supervise::{ChildEnd, ChildSpec, Context, Event, Restart, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let (tell, told) = crossbeam_channel::unbounded();
/// let child = |name, body: fn(&Context) -> anyhow::Result<()>| {
///     ChildSpec::new(name, body).restart(Restart::Temporary).ready_at_start()
/// };
/// let supervisor = Supervisor::builder()
///     .on_event(move |event| if let Event::Ended { child, end } = event {
///         tell.send((child.clone(), end.clone())).ok();
///     })
///     .child(child("returns", |_| Ok(())))
///     .child(child("fails", |_| anyhow::bail!("no route")))
///     .child(child("panics", |_| panic!("a bug")))
///     .child(child("waits", |cx| Ok(cx.token().wait())))
///     .start(&CancelToken::new())
///     .unwrap();
/// let mut ends: BTreeMap<String, ChildEnd> = told.iter().take(3).collect();
/// supervisor.shutdown();
/// ends.extend(told.recv());
///
/// assert!(matches!(ends["returns"], ChildEnd::Returned) && !ends["returns"].is_failure());
/// assert!(ends["waits"].is_cancelled() && !ends["waits"].is_failure());
/// assert!(ends["fails"].is_failure() && ends["panics"].is_failure());
/// assert_eq!(ends["fails"].error().unwrap().to_string(), "no route");
/// assert_eq!(ends["panics"].panic().unwrap().message(), Some("a bug"));
/// ```
#[derive(Clone, Debug)]
#[non_exhaustive]
pub enum ChildEnd {
    /// It returned `Ok`, and had not been told to stop.
    Returned,
    /// Its token was cancelled, and it returned `Ok` or a [`Cancelled`] error.
    Cancelled(Cancelled),
    /// It returned an error; also one other than [`Cancelled`] after it was told to stop.
    Failed(Failure),
    /// It panicked.
    Panicked(Panic),
    /// It did not say in this time that it is ready, and was told to stop.
    NotReady(Duration),
    /// Its thread could not be started.
    NotStarted(Arc<ThreadError>),
    /// It never ran: its turn to start did not come.
    NeverRan,
}

impl ChildEnd {
    /// Whether it is a failure: anything but a return, a cancellation, or not having run.
    #[must_use]
    pub fn is_failure(&self) -> bool {
        !matches!(self, Self::Returned | Self::Cancelled(_) | Self::NeverRan)
    }

    /// Whether its token was cancelled, and that was all.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        matches!(self, Self::Cancelled(_))
    }

    /// The error, if it returned one.
    #[must_use]
    pub fn error(&self) -> Option<&anyhow::Error> {
        match self {
            Self::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// The panic, if it panicked.
    #[must_use]
    pub fn panic(&self) -> Option<&Panic> {
        match self {
            Self::Panicked(panic) => Some(panic),
            _ => None,
        }
    }

    /// From what the body returned, and whether its token was cancelled by then. Here, for words
    /// and numbers alone, the error is looked at; whether to restart is decided by the token.
    pub(super) fn new(
        outcome: Result<anyhow::Result<()>, Box<dyn Any + Send>>,
        cancelled: Option<Cancelled>,
    ) -> Self {
        match (outcome, cancelled) {
            (Err(payload), _) => Self::Panicked(Panic::new(payload)),
            (Ok(Ok(())), None) => Self::Returned,
            (Ok(Ok(())), Some(cancelled)) => Self::Cancelled(cancelled),
            (Ok(Err(error)), Some(cancelled)) if error.is::<Cancelled>() => {
                drop_contained(error);
                Self::Cancelled(cancelled)
            }
            (Ok(Err(error)), _) => Self::Failed(Failure::new(error)),
        }
    }

    /// As a label.
    pub(super) fn label(&self) -> &'static str {
        match self {
            Self::Returned => "returned",
            Self::Cancelled(_) => "cancelled",
            Self::Failed(_) => "failed",
            Self::Panicked(_) => "panicked",
            Self::NotReady(_) => "not_ready",
            Self::NotStarted(_) => "not_started",
            Self::NeverRan => "never_ran",
        }
    }

    /// In words. `Display` of an error is the user's code, and may panic.
    pub(super) fn words(&self) -> String {
        let words = contain(|| self.to_string());
        words.unwrap_or_else(|| {
            "failed, and its error panicked when it was asked for its message".to_owned()
        })
    }
}

impl fmt::Display for ChildEnd {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Returned => f.write_str("returned"),
            Self::Cancelled(cancelled) => cancelled.fmt(f),
            Self::Failed(failure) => write!(f, "failed: {failure}"),
            Self::Panicked(panic) => panic.fmt(f),
            Self::NotReady(within) => {
                write!(f, "was not ready within {:.1} s", within.as_secs_f64())
            }
            Self::NotStarted(error) => write!(f, "{error}: {}", error.io_error()),
            Self::NeverRan => f.write_str("never ran"),
        }
    }
}

/// A value of the user's that may go away on the supervisor's thread, where its destructor must not
/// get a panic out.
pub(super) struct Contained<T>(Option<T>);

impl<T> Contained<T> {
    pub(super) fn new(value: T) -> Self {
        Self(Some(value))
    }
}

impl<T> Deref for Contained<T> {
    type Target = T;

    fn deref(&self) -> &T {
        self.0.as_ref().expect("taken by the drop alone")
    }
}

impl<T> Drop for Contained<T> {
    fn drop(&mut self) {
        drop_contained(self.0.take());
    }
}

/// The error of a child: shared by the events, lists and reports that tell of it.
///
/// It dereferences to the [`anyhow::Error`], to downcast or to walk its chain. `Display` has the
/// whole chain.
///
/// # Examples
///
/// ```
/// use std::io;
/// use cleanbreak::supervise::{ChildEnd, ChildSpec, StartErrorKind, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let feed = ChildSpec::new("feed", |_| -> anyhow::Result<()> {
///     Err(anyhow::Error::new(io::Error::from(io::ErrorKind::TimedOut)).context("connecting"))
/// });
/// let error = Supervisor::builder().child(feed).start(&CancelToken::new()).unwrap_err();
/// let StartErrorKind::Child { end: ChildEnd::Failed(failure), .. } = error.kind() else { panic!() };
/// assert_eq!(failure.to_string(), "connecting: timed out");
/// let cause = failure.downcast_ref::<io::Error>().unwrap();
/// assert_eq!(cause.kind(), io::ErrorKind::TimedOut);
/// ```
#[derive(Clone)]
pub struct Failure(Arc<Contained<anyhow::Error>>);

impl Failure {
    pub(super) fn new(error: anyhow::Error) -> Self {
        Self(Arc::new(Contained::new(error)))
    }
}

impl Deref for Failure {
    type Target = anyhow::Error;

    fn deref(&self) -> &anyhow::Error {
        &self.0
    }
}

impl fmt::Debug for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&**self, f)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:#}", **self)
    }
}

/// The panic of a child: its message, and its payload for the first who takes it.
///
/// # Examples
///
/// ```
/// use cleanbreak::supervise::{ChildEnd, ChildSpec, StartErrorKind, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let feed = ChildSpec::new("feed", |_| -> anyhow::Result<()> { std::panic::panic_any(404_u32) });
/// let error = Supervisor::builder().child(feed).start(&CancelToken::new()).unwrap_err();
/// let StartErrorKind::Child { end: ChildEnd::Panicked(panic), .. } = error.kind() else { panic!() };
/// assert_eq!(panic.message(), None); // a number is no text
/// let payload = panic.take_payload().unwrap();
/// assert_eq!(payload.downcast_ref(), Some(&404_u32));
/// assert!(panic.take_payload().is_none()); // there is only one
/// ```
#[derive(Clone)]
pub struct Panic(Arc<Payload>);

struct Payload {
    message: Option<String>,
    kept: Mutex<Option<PanicPayload>>,
}

impl Drop for Payload {
    fn drop(&mut self) {
        if let Some(payload) = self.kept.get_mut().take() {
            discard(payload.into_inner());
        }
    }
}

impl Panic {
    fn new(payload: Box<dyn Any + Send>) -> Self {
        let payload = PanicPayload::new(payload);
        Self(Arc::new(Payload {
            message: payload.message().map(str::to_owned),
            kept: Mutex::new(Some(payload)),
        }))
    }

    /// The message, if it is the text that `panic!` makes.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.0.message.as_deref()
    }

    /// The payload, to downcast or to hand to [`std::panic::resume_unwind`]; `None` if it has been
    /// taken before.
    #[must_use]
    pub fn take_payload(&self) -> Option<Box<dyn Any + Send>> {
        let payload = self.0.kept.lock().take();
        payload.map(PanicPayload::into_inner)
    }
}

impl fmt::Debug for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let message = self.message().unwrap_or("..");
        f.debug_tuple("Panic").field(&message).finish()
    }
}

impl fmt::Display for Panic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.message() {
            Some(message) => write!(f, "panicked: {message}"),
            None => f.write_str("panicked"),
        }
    }
}
