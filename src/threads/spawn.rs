//! The one place that calls `std::thread`.

use std::fmt;
use std::io;
use std::panic::Location;
use std::thread::{self, JoinHandle};

use super::registry::{Record, Task};
use super::scope::Scope;
use crate::fault::{self, At};
use crate::observe;
use crate::sync::Arc;

/// What to start: name, source line, stack.
pub(crate) struct Spec {
    pub(crate) task: Task,
    /// Bytes; `None` for the platform's default.
    pub(crate) stack_size: Option<usize>,
    /// The token that the thread works under, for lists.
    pub(crate) scope: Option<Scope>,
}

impl Spec {
    pub(crate) fn new(name: impl Into<Arc<str>>, site: &'static Location<'static>) -> Self {
        Self {
            task: Task {
                name: name.into(),
                site,
            },
            stack_size: None,
            scope: None,
        }
    }

    /// For a thread that works under a token.
    pub(crate) fn under(mut self, scope: Scope) -> Self {
        self.scope = Some(scope);
        self
    }
}

/// A started thread. Whoever has it joins it; dropping it unjoined is a leak that the caller has
/// to argue.
#[derive(Debug)]
pub(crate) struct Handle {
    thread: JoinHandle<()>,
}

/// Takes a record out of the registry when its thread is done, also by a panic.
struct Retire(Arc<Record>);

impl Drop for Retire {
    fn drop(&mut self) {
        self.0.retire();
    }
}

/// Starts a thread that runs `body`.
///
/// # Errors
///
/// When the operating system refuses (limits, memory, a name with a NUL byte); `body` is dropped.
#[allow(clippy::disallowed_methods, reason = "this is the one door")]
pub(crate) fn spawn(
    spec: Spec,
    body: impl FnOnce() + Send + 'static,
) -> Result<Handle, ThreadError> {
    let Spec {
        task,
        stack_size,
        scope,
    } = spec;
    let mut builder = thread::Builder::new().name(task.name.to_string());
    if let Some(bytes) = stack_size {
        builder = builder.stack_size(bytes);
    }
    let error = |source| ThreadError {
        name: task.name.clone(),
        source,
    };
    // std panics on a NUL in the name; here it is an error like any other.
    if task.name.contains('\0') {
        return Err(error(io::Error::new(
            io::ErrorKind::InvalidInput,
            "the name of a thread must not contain a NUL byte",
        )));
    }
    if fault::refuses(At::ThreadsSpawn) {
        observe::spawn_failure();
        return Err(error(io::Error::new(io::ErrorKind::WouldBlock, "chaos")));
    }
    // Dropped, and so retired, with the closure when the spawn fails.
    let retire = Retire(Record::enlist(task.clone(), scope));
    let started = builder.spawn(move || {
        let retire = retire;
        let _origin = retire.0.adopt();
        let _alive = observe::Alive::begin();
        fault::pass(At::ThreadsStart);
        body();
        fault::pass(At::ThreadsEnd);
    });
    started.map(|thread| Handle { thread }).map_err(|source| {
        observe::spawn_failure();
        error(source)
    })
}

impl Handle {
    /// Waits until the thread is gone, its thread-local destructors included.
    ///
    /// The bodies that the library starts catch the panics of user code themselves, so there is
    /// no payload to hand on here.
    pub(crate) fn join(self) {
        let ended = self.thread.join();
        debug_assert!(
            ended.is_ok(),
            "a thread body of the library let a panic out"
        );
    }

    pub(crate) fn is_current(&self) -> bool {
        self.thread.thread().id() == thread::current().id()
    }
}

/// The operating system would not start a thread.
///
/// # Examples
///
/// ```
/// use std::error::Error;
/// use std::io::ErrorKind;
/// use cleanbreak::group::SpawnError;
/// use cleanbreak::{CancelToken, scope};
///
/// let refused = scope(&CancelToken::new(), |group| {
///     Ok(group.spawn_named("no\0name", |_| Ok(())).map(drop)) // no system takes a NUL
/// });
/// let SpawnError::Thread(error) = refused.unwrap().unwrap_err() else { unreachable!() };
/// assert_eq!(error.thread_name(), "no\0name");
/// assert_eq!(error.io_error().kind(), ErrorKind::InvalidInput);
/// assert!(error.source().unwrap().is::<std::io::Error>()); // what the system said comes second
/// ```
#[derive(Debug)]
pub struct ThreadError {
    name: Arc<str>,
    source: io::Error,
}

impl ThreadError {
    /// A refusal of the library's own.
    pub(crate) fn refused(name: &str, why: &'static str) -> Self {
        Self {
            name: name.into(),
            source: io::Error::other(why),
        }
    }

    /// Name of the thread that could not be started.
    #[must_use]
    pub fn thread_name(&self) -> &str {
        &self.name
    }

    /// What the operating system said.
    #[must_use]
    pub fn io_error(&self) -> &io::Error {
        &self.source
    }
}

impl fmt::Display for ThreadError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "could not start thread \"{}\"", self.name)
    }
}

impl std::error::Error for ThreadError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        Some(&self.source)
    }
}
