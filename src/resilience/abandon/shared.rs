//! Which helper threads there are: those of calls that run, and those that were left behind.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use super::call::Call;
use super::{Late, RefusedKind};
use crate::cancel::CancelToken;
use crate::clock::{Clock, Instant, wait_until};
use crate::contain::drop_contained;
use crate::observe::{self, AbandonedThread};
use crate::sync::{Arc, Condvar, Mutex};
use crate::threads::{self, Handle, Record, Spec, ThreadError, WaitInfo, current_record};

/// What is done about those who are left.
pub(super) type Report = Arc<dyn Fn(&[AbandonedCall]) + Send + Sync>;

pub(super) struct Shared {
    pub(super) name: Arc<str>,
    pub(super) most: usize,
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
    abandoned: Option<(Instant, Handle, AbandonedThread)>,
}
impl Shared {
    pub(super) fn new(
        name: Arc<str>,
        most: usize,
        stack_size: Option<usize>,
        clock: Clock,
    ) -> Self {
        Self {
            name,
            most,
            stack_size,
            clock,
            state: Mutex::default(),
            ended: Condvar::new(),
        }
    }

    /// How many threads there are.
    pub(super) fn threads(&self) -> usize {
        self.state.lock().helpers.len()
    }

    /// Counts one helper more.
    pub(super) fn take_place(&self, site: &'static Location<'static>) -> Result<u64, RefusedKind> {
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

    pub(super) fn leave_place(&self, number: u64) {
        let helper = self.state.lock().helpers.remove(&number);
        drop(helper);
    }

    pub(super) fn start<T, E, F, L>(
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

    pub(super) fn list(&self, number: u64, handle: Handle) {
        let now = self.clock.now();
        if let Some(helper) = self.state.lock().helpers.get_mut(&number) {
            helper.abandoned = Some((now, handle, AbandonedThread::begin(&self.name)));
        }
    }

    pub(super) fn count_abandoned(&self) {
        observe::timed_out();
        observe::abandoned_call(&self.name);
    }

    pub(super) fn unlist(&self, number: u64) -> Handle {
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
        state.ended.extend(abandoned.map(|(_, handle, _)| handle));
        self.ended.notify_all();
        drop(state);
        drop(record);
    }

    pub(super) fn abandoned(&self) -> Vec<AbandonedCall> {
        let now = self.clock.now();
        let state = self.state.lock();
        let describe = |helper: &Helper| {
            let (since, ..) = helper.abandoned.as_ref()?;
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
    pub(super) fn close(self: &Arc<Self>, patience: Duration) -> Vec<AbandonedCall> {
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
        abandoned.any(|(_, handle, _)| !handle.is_current())
    }
}

/// Joins threads that are past their operation. The calling one may be among them, if the last
/// clone was dropped by an operation: it ends by itself.
fn join_others(gone: Vec<Handle>) {
    let others = gone.into_iter().filter(|handle| !handle.is_current());
    others.for_each(Handle::join);
}
/// A call that was abandoned and still runs.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::{Abandoner, CancelToken, Clock};
/// use crossbeam_channel::bounded;
///
/// let (clock, second) = (Clock::manual(), Duration::from_secs(1));
/// let token = CancelToken::with_clock(&clock);
/// let lookups = Abandoner::builder().name("lookup").clock(&clock).build();
/// let (release, held) = bounded::<()>(0);
/// let time = clock.clone();
/// let hung = move |_: &CancelToken| { time.advance(second); held.recv() };
/// lookups.abandon_after(&token, second, hung).unwrap_err();
/// clock.advance(Duration::from_secs(60));
/// let call = &lookups.abandoned()[0];
/// assert_eq!((call.name.as_str(), call.called_at.file()), ("lookup", file!()));
/// assert_eq!(call.abandoned_for, Duration::from_secs(60));
/// assert!(call.waiting.is_none()); // the library does not see a bare channel
/// drop(release);
/// assert!(lookups.close(Duration::MAX).is_empty());
/// ```
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
