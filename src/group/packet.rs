//! One task: its closure, then its result, and the handle to it.

use std::any::Any;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::end::{End, First, Payload, why};
use super::erase::Run;
use crate::cancel::CancelToken;
use crate::fault::{self, At};
use crate::observe::{self, Ended};
use crate::sync::{Arc, Mutex};
use crate::threads::{self, Inherited, Task as Named};

/// What a task's failure does.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Policy {
    pub(super) collect_errors: bool,
    pub(super) collect_panics: bool,
}

/// A task of a group: waits for its end and takes its result.
///
/// Dropping it does nothing: the task runs on, and the group waits for it.
///
/// # Examples
///
/// ```
/// use std::sync::mpsc;
/// use cleanbreak::{CancelToken, scope};
///
/// let sum = scope(&CancelToken::new(), |group| {
///     let (go, wait) = mpsc::channel::<i32>();
///     let task = group.spawn(move |_| Ok(wait.recv()? + 2))?;
///     assert!(!task.is_finished());
///     go.send(1)?;
///     drop(group.spawn(|_| Ok(()))?); // runs on, and the group waits for it
///     Ok(task.join()?)
/// });
/// assert_eq!(sum.unwrap(), 3);
/// ```
pub struct Task<'scope, R, E> {
    slot: Arc<dyn Slot<R, E> + 'scope>,
}

/// Why a task has no result.
///
/// # Examples
///
/// ```
/// use anyhow::bail;
/// use cleanbreak::group::TaskError;
/// use cleanbreak::{CancelToken, GroupBuilder, scope};
///
/// // The error of the group is its own: it is not in the handle of the task that had it.
/// let result = scope(&CancelToken::new(), |group| {
///     let task = group.spawn(|_| -> anyhow::Result<()> { bail!("disk full") })?;
///     assert!(matches!(task.join(), Err(TaskError::EndedGroup)));
///     Ok(())
/// });
/// assert_eq!(result.unwrap_err().to_string(), "disk full");
///
/// let collecting = GroupBuilder::new().limit(1).collect_errors().collect_panics();
/// let result = collecting.scope(&CancelToken::new(), |group| {
///     let failed = group.spawn(|_| -> anyhow::Result<()> { bail!("disk full") })?;
///     let failed = failed.join().unwrap_err();
///     assert_eq!(failed.into_failure().unwrap().to_string(), "disk full");
///
///     let panicked = group.spawn(|_| -> anyhow::Result<()> { panic!("a bug") })?;
///     let panicked = panicked.join().unwrap_err();
///     assert!(panicked.is_panic() && !panicked.is_not_started());
///     assert_eq!(panicked.to_string(), "the task panicked: a bug");
///
///     group.spawn(|token| Ok(token.wait()))?; // has the one thread
///     let queued = group.spawn(|_| Ok(()))?;
///     group.token().cancel();
///     assert!(queued.join().unwrap_err().is_not_started());
///     Ok(())
/// });
/// assert!(result.is_ok());
/// ```
#[non_exhaustive]
pub enum TaskError<E> {
    /// It returned this error, after the first of the group or with
    /// [`collect_errors`](super::GroupBuilder::collect_errors).
    Failed(E),
    /// Its error or panic ended the group, whose result or panic it is.
    EndedGroup,
    /// It panicked with this payload, with
    /// [`collect_panics`](super::GroupBuilder::collect_panics).
    Panicked(PanicPayload),
    /// The group was cancelled before it started: it never ran.
    NotStarted,
}

/// The handle's side of a packet, which knows nothing of the closure.
trait Slot<R, E>: Send + Sync {
    #[track_caller]
    fn wait(&self) -> Result<R, TaskError<E>>;
    fn is_finished(&self) -> bool;
}

/// Closure and result share one allocation.
pub(super) struct Packet<'scope, F, R, E, B> {
    end: &'scope End<E, B>,
    policy: Policy,
    named: Named,
    state: Mutex<State<F, R, E>>,
}

enum State<F, R, E> {
    /// What is inherited, such as a span, is not held for longer than the task runs, whoever keeps
    /// the handle.
    Waiting(F, Inherited),
    Running,
    Ended(Result<R, TaskError<E>>),
    Taken,
}

impl<F, R, E, B> Packet<'_, F, R, E, B> {
    /// As the queue knows it, too.
    fn key(&self) -> usize {
        std::ptr::from_ref(self).addr()
    }
}

impl<'scope, F, R, E, B> Packet<'scope, F, R, E, B>
where
    F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'scope,
    R: Send + 'scope,
    E: fmt::Display + Send + 'scope,
    B: Send + 'scope,
{
    pub(super) fn new(end: &'scope End<E, B>, policy: Policy, named: Named, task: F) -> Arc<Self> {
        Arc::new(Self {
            end,
            policy,
            named,
            state: Mutex::new(State::Waiting(task, Inherited::here())),
        })
    }

    pub(super) fn handle(self: &Arc<Self>) -> Task<'scope, R, E> {
        let slot = self.clone();
        Task { slot }
    }

    pub(super) fn named(&self) -> &Named {
        &self.named
    }

    /// Takes the closure out, if it has not been.
    pub(super) fn take_task(&self) -> Option<F> {
        self.take().map(|(task, inherited)| {
            inherited.give_back();
            task
        })
    }

    fn take(&self) -> Option<(F, Inherited)> {
        let mut state = self.state.lock();
        match std::mem::replace(&mut *state, State::Running) {
            State::Waiting(task, inherited) => Some((task, inherited)),
            other => {
                *state = other;
                None
            }
        }
    }

    fn outcome(&self, task: F) -> Result<R, TaskError<E>> {
        let token = self.end.token();
        if token.is_cancelled() {
            // Its captured values may panic on their way out as well as anything else may.
            return match catch_unwind(AssertUnwindSafe(|| drop(task))) {
                Ok(()) => {
                    self.tell(Ended::Cancelled);
                    Err(TaskError::NotStarted)
                }
                Err(payload) => Err(self.panicked(payload)),
            };
        }
        let run = || {
            fault::run(At::GroupTask);
            task(token)
        };
        match catch_unwind(AssertUnwindSafe(run)) {
            Ok(Ok(value)) => {
                self.tell(Ended::Completed);
                Ok(value)
            }
            Ok(Err(error)) => Err(self.failed(error)),
            Err(payload) => Err(self.panicked(payload)),
        }
    }

    fn tell(&self, ended: Ended) {
        observe::group_task(self.end.name(), ended);
    }

    fn failed(&self, error: E) -> TaskError<E> {
        self.tell(Ended::Failed);
        if self.policy.collect_errors {
            return TaskError::Failed(error);
        }
        let why = why(&self.named, &error);
        fault::pass(At::GroupBreak);
        match self.end.first(First::Error(error), why) {
            Ok(()) => TaskError::EndedGroup,
            Err(First::Error(error)) => TaskError::Failed(error),
            Err(First::Break(_)) => unreachable!("an error comes back as an error"),
        }
    }

    fn panicked(&self, payload: Payload) -> TaskError<E> {
        self.tell(Ended::Panicked);
        if self.policy.collect_panics {
            return TaskError::Panicked(PanicPayload::new(payload));
        }
        self.end.panicked(payload, &self.named.to_string());
        TaskError::EndedGroup
    }
}

impl<'scope, F, R, E, B> Run for Packet<'scope, F, R, E, B>
where
    F: FnOnce(&CancelToken) -> Result<R, E> + Send + 'scope,
    R: Send + 'scope,
    E: fmt::Display + Send + 'scope,
    B: Send + 'scope,
{
    fn run(&self) {
        let Some((task, inherited)) = self.take() else {
            return;
        };
        // One that is skipped may be on a thread that has another name, and that waits.
        let _joinable = (!self.end.token().is_cancelled()).then(|| {
            let token = self.end.token();
            threads::run_task_under(&self.named, token.id(), || token.scope());
            threads::running(self.key())
        });
        let outcome = {
            let _inside = inherited.enter();
            self.outcome(task)
        };
        // Who waits is told by the queue, which sees the end next.
        *self.state.lock() = State::Ended(outcome);
    }
}

impl<F: Send, R: Send, E: Send, B: Send> Slot<R, E> for Packet<'_, F, R, E, B> {
    fn wait(&self) -> Result<R, TaskError<E>> {
        fault::pass(At::GroupJoin);
        self.end.await_task(self.key(), &|| self.is_finished());
        match std::mem::replace(&mut *self.state.lock(), State::Taken) {
            State::Ended(outcome) => outcome,
            _ => unreachable!("only the one handle takes the result"),
        }
    }

    fn is_finished(&self) -> bool {
        !matches!(*self.state.lock(), State::Waiting(..) | State::Running)
    }
}

impl<R, E> Task<'_, R, E> {
    /// Waits until the task has ended and returns its result.
    ///
    /// # Errors
    ///
    /// [`TaskError`] says why there is none. The error that ended the group is not here: it is the
    /// group's result.
    #[track_caller]
    pub fn join(self) -> Result<R, TaskError<E>> {
        self.slot.wait()
    }

    /// Whether the task has ended, so that [`join`](Self::join) would not wait.
    #[must_use]
    pub fn is_finished(&self) -> bool {
        self.slot.is_finished()
    }
}

impl<R, E> fmt::Debug for Task<'_, R, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Task")
            .field("finished", &self.is_finished())
            .finish_non_exhaustive()
    }
}

impl<E> TaskError<E> {
    /// The error, if the task returned one that is here.
    #[must_use]
    pub fn into_failure(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// Whether the task never ran.
    #[must_use]
    pub fn is_not_started(&self) -> bool {
        matches!(self, Self::NotStarted)
    }

    /// Whether the task panicked, and its payload is here.
    #[must_use]
    pub fn is_panic(&self) -> bool {
        matches!(self, Self::Panicked(_))
    }
}

impl<E: fmt::Display> fmt::Display for TaskError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::EndedGroup => f.write_str("the task ended its group"),
            Self::Panicked(payload) => match payload.message() {
                Some(message) => write!(f, "the task panicked: {message}"),
                None => f.write_str("the task panicked"),
            },
            Self::NotStarted => f.write_str("the group was cancelled before the task started"),
        }
    }
}

impl<E: fmt::Debug> fmt::Debug for TaskError<E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::EndedGroup => f.write_str("EndedGroup"),
            Self::Panicked(payload) => {
                let message = payload.message().unwrap_or("..");
                f.debug_tuple("Panicked").field(&message).finish()
            }
            Self::NotStarted => f.write_str("NotStarted"),
        }
    }
}

impl<E: fmt::Debug + fmt::Display> std::error::Error for TaskError<E> {}

/// What a task panicked with, kept for whoever joins it.
///
/// A wrapper because a bare payload cannot be shared between threads, so that an error with one
/// would not convert into [`anyhow::Error`].
///
/// # Examples
///
/// ```
/// use std::panic::{catch_unwind, panic_any};
/// use cleanbreak::group::{PanicPayload, TaskError};
/// use cleanbreak::{CancelToken, GroupBuilder};
///
/// let joined = GroupBuilder::new().collect_panics().scope(&CancelToken::new(), |group| {
///     Ok(group.spawn(|_| -> anyhow::Result<()> { panic!("no row") })?.join())
/// });
/// let Err(TaskError::Panicked(payload)) = joined.unwrap() else { unreachable!() };
/// assert_eq!(payload.message(), Some("no row"));
/// assert_eq!(*payload.into_inner().downcast::<&str>().unwrap(), "no row");
///
/// let payload = PanicPayload::new(catch_unwind(|| panic_any(7)).unwrap_err());
/// assert_eq!(payload.message(), None); // not a text
/// assert!(payload.into_inner().is::<i32>()); // or hand it to `resume_unwind`
/// ```
pub struct PanicPayload {
    /// Never locked: it only lends the payload its `Sync`.
    payload: Mutex<Payload>,
    message: Option<String>,
}

impl PanicPayload {
    /// Wraps what [`std::panic::catch_unwind`] returned.
    #[must_use]
    pub fn new(payload: Box<dyn Any + Send>) -> Self {
        let text = payload.downcast_ref::<&'static str>().copied();
        let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
        Self {
            message: text.map(str::to_owned),
            payload: Mutex::new(payload),
        }
    }

    /// The message, if it is the text that `panic!` makes.
    #[must_use]
    pub fn message(&self) -> Option<&str> {
        self.message.as_deref()
    }

    /// The payload, to downcast or to hand to [`std::panic::resume_unwind`].
    #[must_use]
    pub fn into_inner(self) -> Box<dyn Any + Send> {
        self.payload.into_inner()
    }
}

impl fmt::Debug for PanicPayload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("PanicPayload")
            .field(&self.message().unwrap_or(".."))
            .finish()
    }
}
