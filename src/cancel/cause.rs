//! Kind and cause of a cancellation, and the error that carries both.

use std::borrow::Cow;
use std::error::Error;
use std::fmt;
use std::io;
use std::sync::Arc;

/// Which of the two things happened: the part to match on.
///
/// What led to it is the [`Cause`]; attaching one never changes the kind.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{CancelKind, CancelToken};
///
/// let service = CancelToken::new();
/// let request = service.child_timeout(Duration::ZERO); // its time is over already
/// service.cancel_with("deadline exceeded, says the operator"); // a cause is only words
/// assert_eq!(request.kind(), Some(CancelKind::DeadlineExceeded));
/// assert_eq!(service.kind(), Some(CancelKind::Cancelled));
/// assert_eq!(CancelKind::DeadlineExceeded.to_string(), "deadline exceeded");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CancelKind {
    /// Somebody called `cancel`.
    Cancelled,
    /// The token's deadline, or that of an ancestor, passed first.
    DeadlineExceeded,
}

impl fmt::Display for CancelKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Cancelled => "cancelled",
            Self::DeadlineExceeded => "deadline exceeded",
        })
    }
}

/// What led to a cancellation: a message, a signal or any error. Cheap to clone.
///
/// # Examples
///
/// ```
/// use cleanbreak::Cause;
///
/// assert_eq!(Cause::from("disk full").to_string(), "disk full");
/// assert_eq!(Cause::signal(15).to_string(), "signal 15");
/// assert_eq!(Cause::signal(15).as_signal(), Some(15));
/// let cause = Cause::error(std::io::Error::other("no route"));
/// assert!(cause.downcast_ref::<std::io::Error>().is_some());
/// assert!(cause.as_signal().is_none());
///
/// let cause = Cause::message(format!("disk {} full", 3)); // what `from` of a `String` does
/// assert_eq!(cause.as_error().to_string(), "disk 3 full"); // for those who walk `source()`
/// let cause = Cause::from(anyhow::anyhow!("inner").context("outer"));
/// assert_eq!(cause.as_error().source().unwrap().to_string(), "inner");
/// ```
#[derive(Clone)]
pub struct Cause(Arc<Inner>);

/// Behind one pointer, because every node of a cancelled tree holds it.
enum Inner {
    Message(Message),
    Signal(Signal),
    Error(Box<dyn Error + Send + Sync>),
    /// As it is: once it is a box, it no longer tells its type.
    Anyhow(anyhow::Error),
}

/// A message as an error, so that every cause has a `source()`.
#[derive(Debug)]
struct Message(Cow<'static, str>);

#[derive(Debug)]
struct Signal(i32);

impl fmt::Display for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "signal {}", self.0)
    }
}

impl Error for Message {}
impl Error for Signal {}

impl Cause {
    /// A cause in words.
    #[must_use]
    pub fn message(message: impl Into<Cow<'static, str>>) -> Self {
        Self::of(Inner::Message(Message(message.into())))
    }

    /// An operating system signal, by number.
    #[must_use]
    pub fn signal(number: i32) -> Self {
        Self::of(Inner::Signal(Signal(number)))
    }

    /// Any error.
    #[must_use]
    pub fn error(error: impl Error + Send + Sync + 'static) -> Self {
        Self::of(Inner::Error(Box::new(error)))
    }

    fn of(inner: Inner) -> Self {
        Self(Arc::new(inner))
    }

    /// The number of the signal, if the cause is one.
    #[must_use]
    pub fn as_signal(&self) -> Option<i32> {
        match &*self.0 {
            Inner::Signal(signal) => Some(signal.0),
            _ => None,
        }
    }

    /// The error as a type, if it is one of that type.
    #[must_use]
    pub fn downcast_ref<E: Error + Send + Sync + 'static>(&self) -> Option<&E> {
        match &*self.0 {
            Inner::Error(error) => error.downcast_ref(),
            Inner::Anyhow(error) => error.downcast_ref(),
            _ => None,
        }
    }

    /// The cause as an error, for its chain of sources.
    #[must_use]
    pub fn as_error(&self) -> &(dyn Error + 'static) {
        match &*self.0 {
            Inner::Message(message) => message,
            Inner::Signal(signal) => signal,
            Inner::Error(error) => &**error,
            Inner::Anyhow(error) => &**error,
        }
    }
}

impl fmt::Debug for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &*self.0 {
            Inner::Message(message) => write!(f, "Cause({:?})", message.0),
            Inner::Signal(signal) => write!(f, "Cause(signal {})", signal.0),
            Inner::Error(error) => write!(f, "Cause({error:?})"),
            Inner::Anyhow(error) => write!(f, "Cause({error:?})"),
        }
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self.as_error(), f)
    }
}

impl From<&'static str> for Cause {
    fn from(message: &'static str) -> Self {
        Self::message(message)
    }
}

impl From<String> for Cause {
    fn from(message: String) -> Self {
        Self::message(message)
    }
}

impl From<Box<dyn Error + Send + Sync>> for Cause {
    fn from(error: Box<dyn Error + Send + Sync>) -> Self {
        Self::of(Inner::Error(error))
    }
}

impl From<anyhow::Error> for Cause {
    fn from(error: anyhow::Error) -> Self {
        Self::of(Inner::Anyhow(error))
    }
}

/// The error of a wait or a check on a cancelled token: kind and cause, as they were published
/// together.
///
/// `Display` names the kind and then the cause, so [`source()`](Error::source) is the cause's own
/// source: a chain says each thing once. Cheap to clone.
///
/// It converts into [`io::Error`], as [`TimedOut`](io::ErrorKind::TimedOut) for a deadline and
/// [`Other`](io::ErrorKind::Other) otherwise: never as `Interrupted`, which `read_line` and its
/// kind silently retry.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelKind, CancelToken};
///
/// let token = CancelToken::new();
/// assert!(token.check().is_ok());
/// token.cancel_with("no more work");
/// let error = token.check().unwrap_err();
/// assert_eq!(error.kind(), CancelKind::Cancelled);
/// assert!(!error.is_deadline());
/// assert_eq!(error.cause().unwrap().to_string(), "no more work");
/// assert_eq!(error.to_string(), "cancelled: no more work");
/// assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::Other);
///
/// let late = CancelToken::new().child_timeout(std::time::Duration::ZERO);
/// let error = late.check().unwrap_err();
/// assert!(error.is_deadline() && error.cause().is_none());
/// assert_eq!(std::io::Error::from(error).kind(), std::io::ErrorKind::TimedOut);
/// ```
#[derive(Clone)]
pub struct Cancelled {
    kind: CancelKind,
    cause: Option<Cause>,
}

impl Cancelled {
    pub(crate) const fn new(kind: CancelKind, cause: Option<Cause>) -> Self {
        Self { kind, cause }
    }

    /// Cancelled, or past a deadline.
    #[must_use]
    pub fn kind(&self) -> CancelKind {
        self.kind
    }

    /// What led to it, if the one who cancelled said so.
    #[must_use]
    pub fn cause(&self) -> Option<&Cause> {
        self.cause.as_ref()
    }

    /// Whether a deadline passed.
    #[must_use]
    pub fn is_deadline(&self) -> bool {
        self.kind == CancelKind::DeadlineExceeded
    }
}

impl fmt::Debug for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Cancelled");
        debug.field("kind", &self.kind);
        debug.field("cause", &self.cause).finish()
    }
}

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.cause {
            None => self.kind.fmt(f),
            Some(cause) => write!(f, "{}: {cause}", self.kind),
        }
    }
}

impl Error for Cancelled {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        self.cause.as_ref()?.as_error().source()
    }
}

impl From<Cancelled> for io::Error {
    fn from(error: Cancelled) -> Self {
        let kind = match error.kind {
            CancelKind::DeadlineExceeded => io::ErrorKind::TimedOut,
            CancelKind::Cancelled => io::ErrorKind::Other,
        };
        Self::new(kind, error)
    }
}
