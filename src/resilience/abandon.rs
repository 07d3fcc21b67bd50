//! A bound on the time of a call that cannot be told to stop.

use std::collections::BTreeMap;
use std::fmt;
use std::io::Write;
use std::panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind};
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender, bounded, select_biased};

use super::timeout::{EndedBy, ended_by};
use crate::cancel::{CancelToken, Cancelled};
use crate::clock::{Clock, Instant};
use crate::contain::{contain, drop_contained};
use crate::group::PanicPayload;
use crate::pool::wait_until;
use crate::sync::{Arc, Condvar, Mutex};
use crate::threads::{self, Handle, Record, Spec, ThreadError, WaitInfo, current_record};

/// What became of an operation after it had been abandoned: its result, or the payload of its
/// panic.
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
/// use cleanbreak::CancelToken;
/// use cleanbreak::resilience::{AbandonError, Abandoner};
/// use crossbeam_channel::bounded;
///
/// let token = CancelToken::new();
/// let lookups = Abandoner::builder().name("lookup").max_threads(1).build();
/// let quick = lookups.abandon_after(&token, Duration::from_secs(5), |_| Ok::<_, ()>(7));
/// assert_eq!(quick.unwrap(), 7);
///
/// let (release, held) = bounded::<()>(0); // hangs until we let go
/// let hung = lookups.abandon_after(&token, Duration::from_millis(5), move |_| held.recv());
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
    report: Arc<dyn Fn(&[AbandonedCall]) + Send + Sync>,
}

struct Shared {
    name: Arc<str>,
    most: usize,
    stack_size: Option<usize>,
    clock: Clock,
    state: Mutex<State>,
    /// An abandoned thread has ended.
    ended: Condvar,
}

#[derive(Default)]
struct State {
    /// By number: each call that runs, and each that was abandoned and still runs.
    helpers: BTreeMap<u64, Helper>,
    next: u64,
    /// Abandoned threads that are past their operation, to be joined.
    ended: Vec<Handle>,
    closed: bool,
}

struct Helper {
    site: &'static Location<'static>,
    record: Option<Arc<Record>>,
    /// Since when, with the handle of the thread.
    abandoned: Option<(Instant, Handle)>,
}

/// The settings of an [`Abandoner`]; from [`Abandoner::builder`].
#[must_use = "a builder does nothing until it is built"]
pub struct AbandonerBuilder {
    name: Arc<str>,
    most: usize,
    stack_size: Option<usize>,
    clock: Clock,
    patience: Duration,
    report: Arc<dyn Fn(&[AbandonedCall]) + Send + Sync>,
}

impl AbandonerBuilder {
    /// Names the threads, for lists and reports.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// How many helper threads there may be, those of running calls and abandoned ones together; 16
    /// by default. Zero refuses every call.
    pub fn max_threads(mut self, threads: usize) -> Self {
        self.most = threads;
        self
    }

    /// Stack of each thread, in bytes.
    pub fn stack_size(mut self, bytes: usize) -> Self {
        self.stack_size = Some(bytes);
        self
    }

    /// The clock of the lists and of the drop's patience; the system's by default. Calls go by that
    /// of their token.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// How long the drop waits for abandoned threads; one second by default.
    pub fn drop_patience(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// Is told of threads that still run after that, instead of standard error. Runs on the thread
    /// that drops; a panic in it is contained.
    pub fn on_straggler(
        mut self,
        report: impl Fn(&[AbandonedCall]) + Send + Sync + 'static,
    ) -> Self {
        self.report = Arc::new(report);
        self
    }

    /// The abandoner. No thread is started yet.
    #[must_use]
    pub fn build(self) -> Abandoner {
        let shared = Arc::new(Shared {
            name: self.name,
            most: self.most,
            stack_size: self.stack_size,
            clock: self.clock,
            state: Mutex::default(),
            ended: Condvar::new(),
        });
        let owner = Arc::new(Owner {
            shared,
            patience: self.patience,
            report: self.report,
        });
        Abandoner { owner }
    }
}

impl fmt::Debug for AbandonerBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AbandonerBuilder")
            .field("name", &self.name)
            .field("max_threads", &self.most)
            .finish_non_exhaustive()
    }
}

impl Abandoner {
    /// The settings of a new one.
    pub fn builder() -> AbandonerBuilder {
        AbandonerBuilder {
            name: "abandonable".into(),
            most: 16,
            stack_size: None,
            clock: Clock::system(),
            patience: Duration::from_secs(1),
            report: Arc::new(print),
        }
    }

    /// Runs `operation` on a helper thread and returns its result, or returns without it after
    /// `limit`, by the clock of `token`, or when `token` is cancelled. A late result, or a late panic, is
    /// dropped on the helper thread.
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
    /// use cleanbreak::CancelToken;
    /// use cleanbreak::resilience::{Abandoner, Late};
    /// use crossbeam_channel::bounded;
    ///
    /// let (release, held) = bounded::<()>(0);
    /// let (tell, told) = bounded(1);
    /// let slow = move |_: &CancelToken| { held.recv().ok(); Ok::<_, ()>("a connection") };
    /// let abandoner = Abandoner::builder().build();
    /// let late = move |late: Late<&'static str, ()>| tell.send(late.unwrap()).unwrap();
    /// let limit = Duration::from_millis(5);
    /// let call = abandoner.abandon_after_with(&CancelToken::new(), limit, slow, late);
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
            let task = operation;
            Err(AbandonError::Refused(RefusedCall { kind, task }))
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

/// An operation on its way.
struct Call<T, E, F, L> {
    phase: Mutex<Phase<T, E, F, L>>,
    ended: Sender<()>,
}

/// How the wait for an operation ended.
enum Wait<T, E, F> {
    Ended(Late<T, E>),
    Abandoned,
    /// It had not started, and never will.
    Unrun(F),
}

enum Phase<T, E, F, L> {
    Waiting(F),
    Running,
    Ended(Late<T, E>),
    Abandoned(L),
    Taken,
}

impl<T, E, F, L> Call<T, E, F, L> {
    fn new(operation: F) -> (Arc<Self>, Receiver<()>) {
        let (ended, has_ended) = bounded(1);
        let phase = Mutex::new(Phase::Waiting(operation));
        (Arc::new(Self { phase, ended }), has_ended)
    }

    /// Leaves `Waiting` for `Running`; otherwise changes nothing.
    fn take_task(&self) -> Option<F> {
        let mut phase = self.phase.lock();
        match std::mem::replace(&mut *phase, Phase::Running) {
            Phase::Waiting(operation) => Some(operation),
            other => {
                *phase = other;
                None
            }
        }
    }

    /// The end, if it has come.
    fn take_end(&self) -> Option<Late<T, E>> {
        let mut phase = self.phase.lock();
        match std::mem::replace(&mut *phase, Phase::Taken) {
            Phase::Ended(end) => Some(end),
            other => {
                *phase = other;
                None
            }
        }
    }

    /// Leaves the operation to itself, unless it has ended, or has not even started.
    fn abandon(&self, late: L) -> Wait<T, E, F> {
        let mut phase = self.phase.lock();
        match std::mem::replace(&mut *phase, Phase::Taken) {
            Phase::Ended(end) => Wait::Ended(end),
            Phase::Waiting(operation) => Wait::Unrun(operation),
            _ => {
                *phase = Phase::Abandoned(late);
                Wait::Abandoned
            }
        }
    }

    /// Waits for the end, or until the child is told.
    #[track_caller]
    fn outcome(
        &self,
        shared: &Shared,
        number: u64,
        handle: Handle,
        ended: &Receiver<()>,
        child: &CancelToken,
        late: L,
    ) -> Wait<T, E, F> {
        {
            let _wait = threads::waiting_on("see an operation end, or abandon it");
            // The end first, where both have come.
            select_biased! {
                recv(ended) -> _ => {}
                recv(child.done()) -> _ => {}
            }
        }
        let (end, handle) = match self.take_end() {
            Some(end) => (end, handle),
            None => {
                // Listed first, so that the thread finds its place when it ends.
                shared.list(number, handle);
                match self.abandon(late) {
                    Wait::Ended(end) => (end, shared.unlist(number)),
                    left => return left,
                }
            }
        };
        handle.join();
        shared.leave_place(number);
        Wait::Ended(end)
    }
}

impl<T, E, F, L> Call<T, E, F, L>
where
    F: FnOnce(&CancelToken) -> Result<T, E>,
    L: FnOnce(Late<T, E>),
{
    /// On the helper thread. Whether the call had been abandoned.
    fn run(&self, token: &CancelToken) -> bool {
        let Some(operation) = self.take_task() else {
            return true;
        };
        let end = catch_unwind(AssertUnwindSafe(|| operation(token))).map_err(PanicPayload::new);
        let mut phase = self.phase.lock();
        match std::mem::replace(&mut *phase, Phase::Taken) {
            Phase::Abandoned(late) => {
                drop(phase);
                contain(|| late(end));
                true
            }
            _ => {
                *phase = Phase::Ended(end);
                drop(phase);
                self.ended.send(()).ok();
                false
            }
        }
    }
}

impl Shared {
    /// Counts one helper more.
    fn take_place(&self, site: &'static Location<'static>) -> Result<u64, RefusedKind> {
        let mut state = self.state.lock();
        let gone = std::mem::take(&mut state.ended);
        let place = if state.closed {
            Err(RefusedKind::Closed)
        } else if state.helpers.len() >= self.most {
            Err(RefusedKind::Full)
        } else {
            let number = state.next;
            state.next += 1;
            let helper = Helper {
                site,
                record: None,
                abandoned: None,
            };
            state.helpers.insert(number, helper);
            Ok(number)
        };
        drop(state);
        join_others(gone);
        place
    }

    fn leave_place(&self, number: u64) {
        let helper = self.state.lock().helpers.remove(&number);
        drop(helper);
    }

    fn start<T, E, F, L>(
        self: &Arc<Self>,
        number: u64,
        site: &'static Location<'static>,
        call: &Arc<Call<T, E, F, L>>,
        token: CancelToken,
    ) -> Result<Handle, ThreadError>
    where
        F: FnOnce(&CancelToken) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: Send + 'static,
        L: FnOnce(Late<T, E>) + Send + 'static,
    {
        let mut spec = Spec::new(self.name.clone(), site);
        spec.stack_size = self.stack_size;
        let (shared, call) = (self.clone(), call.clone());
        threads::spawn(spec, move || {
            if let Some(helper) = shared.state.lock().helpers.get_mut(&number) {
                helper.record = current_record();
            }
            let abandoned = call.run(&token);
            drop(token);
            // Of a result that nobody took, the destructor may panic.
            drop_contained(call);
            if abandoned {
                shared.end(number);
            }
        })
    }

    fn list(&self, number: u64, handle: Handle) {
        let now = self.clock.now();
        if let Some(helper) = self.state.lock().helpers.get_mut(&number) {
            helper.abandoned = Some((now, handle));
        }
    }

    fn unlist(&self, number: u64) -> Handle {
        let mut state = self.state.lock();
        let helper = state.helpers.get_mut(&number);
        let listed = helper.and_then(|helper| helper.abandoned.take());
        listed.expect("it was listed, and did not end abandoned").1
    }

    /// An abandoned thread is about to end.
    fn end(&self, number: u64) {
        let mut state = self.state.lock();
        let helper = state.helpers.remove(&number);
        let (record, abandoned) = helper.map_or((None, None), |h| (h.record, h.abandoned));
        state.ended.extend(abandoned.map(|(_, handle)| handle));
        self.ended.notify_all();
        drop(state);
        drop(record);
    }

    fn abandoned(&self) -> Vec<AbandonedCall> {
        let now = self.clock.now();
        let state = self.state.lock();
        let describe = |helper: &Helper| {
            let (since, _) = helper.abandoned.as_ref()?;
            Some(AbandonedCall {
                name: self.name.to_string(),
                called_at: helper.site,
                abandoned_for: now.duration_since(*since),
                waiting: helper.record.as_ref().and_then(|record| record.waiting()),
            })
        };
        state.helpers.values().filter_map(describe).collect()
    }

    #[track_caller]
    fn close(self: &Arc<Self>, patience: Duration) -> Vec<AbandonedCall> {
        self.state.lock().closed = true;
        let deadline = self.clock.deadline_after(patience);
        let nudged = self.clone();
        let nudge = move || {
            let _state = nudged.state.lock();
            nudged.ended.notify_all();
        };
        wait_until(&self.clock, deadline, nudge, |at, give_up| {
            self.await_ends(at, give_up)
        });
        let gone = std::mem::take(&mut self.state.lock().ended);
        join_others(gone);
        self.abandoned()
    }

    #[track_caller]
    fn await_ends(&self, deadline: Option<std::time::Instant>, give_up: &dyn Fn() -> bool) -> bool {
        let mut state = self.state.lock();
        if state.others_run() {
            let _wait = threads::waiting_on("see abandoned operations end");
            while state.others_run() && !give_up() {
                match deadline {
                    None => self.ended.wait(&mut state),
                    Some(at) => {
                        if self.ended.wait_until(&mut state, at).timed_out() {
                            break;
                        }
                    }
                }
            }
        }
        !state.others_run()
    }
}

impl State {
    /// Whether abandoned threads run, beside the calling one.
    fn others_run(&self) -> bool {
        let mut abandoned = self.helpers.values().filter_map(|h| h.abandoned.as_ref());
        abandoned.any(|(_, handle)| !handle.is_current())
    }
}

/// Joins threads that are past their operation. The calling one may be among them, if the last
/// clone was dropped by an operation: it ends by itself.
fn join_others(gone: Vec<Handle>) {
    let others = gone.into_iter().filter(|handle| !handle.is_current());
    others.for_each(Handle::join);
}

impl Drop for Owner {
    fn drop(&mut self) {
        let left = self.shared.close(self.patience);
        if !left.is_empty() {
            contain(|| (self.report)(&left));
        }
    }
}

fn print(left: &[AbandonedCall]) {
    let mut stderr = std::io::stderr().lock();
    for call in left {
        // Not `eprintln!`, which panics where there is no standard error.
        writeln!(stderr, "cleanbreak: {call}").ok();
    }
}

impl fmt::Debug for Abandoner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shared = &self.owner.shared;
        let threads = shared.state.lock().helpers.len();
        f.debug_struct("Abandoner")
            .field("name", &shared.name)
            .field("threads", &threads)
            .field("max_threads", &shared.most)
            .finish_non_exhaustive()
    }
}

/// A call that was abandoned and still runs.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct AbandonedCall {
    /// Name of the abandoner and its threads.
    pub name: String,
    /// The line that made the call.
    pub called_at: &'static Location<'static>,
    /// How long ago it was abandoned.
    pub abandoned_for: Duration,
    /// What it waits on, if the library can see it; see
    /// [`threads::waiting_on`](crate::threads::waiting_on).
    pub waiting: Option<WaitInfo>,
}

impl fmt::Display for AbandonedCall {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secs = self.abandoned_for.as_secs_f64();
        write!(
            f,
            "operation \"{}\" still runs {secs:.1} s after it was abandoned",
            self.name
        )?;
        write!(f, "; called at {}; ", self.called_at)?;
        match &self.waiting {
            Some(wait) => write!(f, "{wait}"),
            None => write!(f, "running, or in a wait that the library does not see"),
        }
    }
}

/// Why a call that may be abandoned has no value.
#[non_exhaustive]
pub enum AbandonError<F, E> {
    /// The operation failed in time, with its own error.
    Failed(E),
    /// The time was up: it was abandoned.
    #[non_exhaustive]
    TimedOut {
        /// The limit.
        limit: Duration,
    },
    /// The caller's token was cancelled, or its own deadline passed: it was abandoned.
    Cancelled(Cancelled),
    /// It did not run.
    Refused(RefusedCall<F>),
}

impl<F, E> AbandonError<F, E> {
    /// Whether the time was up: the operation was abandoned, or had not started.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        match self {
            Self::TimedOut { .. } => true,
            Self::Refused(refused) => matches!(refused.kind, RefusedKind::Timeout),
            _ => false,
        }
    }

    /// Whether the caller was cancelled: the operation was abandoned, or had not started.
    #[must_use]
    pub fn is_cancelled(&self) -> bool {
        match self {
            Self::Cancelled(_) => true,
            Self::Refused(refused) => matches!(refused.kind, RefusedKind::Cancelled(_)),
            _ => false,
        }
    }

    /// The operation's own error, if it failed in time.
    #[must_use]
    pub fn into_failure(self) -> Option<E> {
        match self {
            Self::Failed(error) => Some(error),
            _ => None,
        }
    }

    /// The refusal, with the closure, if it did not run.
    #[must_use]
    pub fn into_refused(self) -> Option<RefusedCall<F>> {
        match self {
            Self::Refused(refused) => Some(refused),
            _ => None,
        }
    }
}

impl<F, E: fmt::Debug> fmt::Debug for AbandonError<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => f.debug_tuple("Failed").field(error).finish(),
            Self::TimedOut { limit } => f.debug_tuple("TimedOut").field(limit).finish(),
            Self::Cancelled(cancelled) => f.debug_tuple("Cancelled").field(cancelled).finish(),
            Self::Refused(refused) => refused.fmt(f),
        }
    }
}

impl<F, E: fmt::Display> fmt::Display for AbandonError<F, E> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Failed(error) => error.fmt(f),
            Self::TimedOut { limit } => write!(f, "abandoned after {limit:?}"),
            Self::Cancelled(cancelled) => write!(f, "abandoned: {cancelled}"),
            Self::Refused(refused) => refused.fmt(f),
        }
    }
}

// The source is in the text already, and the closure in the error need not be 'static.
impl<F, E: fmt::Debug + fmt::Display> std::error::Error for AbandonError<F, E> {}

/// An operation that was not run, and why.
pub struct RefusedCall<F> {
    kind: RefusedKind,
    task: F,
}

/// Why an operation was not run.
#[derive(Debug)]
#[non_exhaustive]
pub enum RefusedKind {
    /// There are as many threads as there may be, abandoned ones included.
    Full,
    /// The abandoner has been closed.
    Closed,
    /// The time was up before it started: there was none at all, or the thread did not get going.
    Timeout,
    /// The caller's token was cancelled before it started.
    Cancelled(Cancelled),
    /// The operating system did not give a thread.
    Thread(ThreadError),
}

impl<F> RefusedCall<F> {
    /// The reason.
    #[must_use]
    pub fn kind(&self) -> &RefusedKind {
        &self.kind
    }

    /// The operation, unrun.
    #[must_use]
    pub fn into_inner(self) -> F {
        self.task
    }

    /// Whether there were as many threads as there may be.
    #[must_use]
    pub fn is_full(&self) -> bool {
        matches!(self.kind, RefusedKind::Full)
    }
}

impl<F> fmt::Debug for RefusedCall<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RefusedCall")
            .field("kind", &self.kind)
            .finish_non_exhaustive()
    }
}

impl<F> fmt::Display for RefusedCall<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.kind {
            RefusedKind::Full => f.write_str("as many operations run, or hang, as there may be"),
            RefusedKind::Closed => f.write_str("no more operations are run: closed"),
            RefusedKind::Timeout => f.write_str("the time was up before the operation started"),
            RefusedKind::Cancelled(cancelled) => cancelled.fmt(f),
            RefusedKind::Thread(error) => error.fmt(f),
        }
    }
}

impl<F> std::error::Error for RefusedCall<F> {}
