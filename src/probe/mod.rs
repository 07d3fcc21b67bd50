//! Floor 3: how a loop is doing.
//!
//! A [`Probe`] goes into a loop that you write yourself. It counts the passes, notices one that is
//! over its time while it still runs, and says why the loop ended: to [`live()`] always, and with
//! the features `metrics` and `tracing` to whoever listens there.
//!
//! # What is promised
//!
//! * A pass with nothing to report is an addition, a store and a load: no clock is read, nothing is
//!   allocated or locked.
//! * With `tracing`, there is a span named `loop.pass` only at *breakpoints*: around every
//!   [`every`](ProbeBuilder::every)-th pass, after a pass that was over its time, and at the end.
//!   A hot loop of a million passes does not drown its trace.
//! * An end without [`finish`](Probe::finish), by `?`, `return` or a panic, is reported too, as
//!   `abandoned` or `panicked`.
//! * A pass that is over its time is told once, while it runs, by the clock's timer thread. It is
//!   never told because the watching thread itself was late or the machine had been asleep: then
//!   the pass's time starts anew.
//!
//! # What is not
//!
//! * The time of a slow pass is what was seen of it: it is in truth longer, by an eighth of the limit
//!   at most. A pass shorter than the limit is never called slow; one that is longer by less than
//!   that eighth may be missed.
//! * The last pass is known only when it is over, so the span that is marked as the last is empty.
//!
//! # Attributes
//!
//! | attribute | |
//! |---|---|
//! | `loop.name` | the probe's name |
//! | `loop.iteration` | the number of the pass, from 1 |
//! | `loop.total_count` | of all passes: what [`total`](ProbeBuilder::total) said, or at the end how many there were |
//! | `loop.interval` | every so many passes is a breakpoint |
//! | `loop.is_breakpoint` | it is one of those |
//! | `loop.is_last` | the loop has ended |
//! | `loop.exit` | why: `broke`, `cancelled`, `deadline_exceeded`, `closed`, `panicked`, `abandoned`, or your own word |
//! | `loop.slow_ms` | how long the pass took, in milliseconds, if it was over its time |
//! | `otel.status_code` | `ERROR` after an end without `finish`: by it the tools of OpenTelemetry know a span that failed |
//!
//! # Sending them to OpenTelemetry
//!
//! The spans are [`tracing`](https://docs.rs/tracing)'s, so the layer of
//! [`tracing-opentelemetry`](https://docs.rs/tracing-opentelemetry) takes them, with the batch
//! processor and the OTLP exporter of the OpenTelemetry SDK behind it: no async runtime, if the
//! exporter's HTTP client blocks. The example `loop_tracing` is all of that, ready to be copied. What
//! it takes care of, and the SDK does not:
//!
//! * The SDK's shutdown says `Ok` when the collector was down and every span was lost. Count in an
//!   exporter around the exporter, and in a processor around the processor, which drops what it has
//!   no place for.
//! * A collector that accepts and never answers holds the shutdown up for five seconds, and the
//!   exporting thread for longer. Give the last flush a bound, and let a token close the sockets
//!   when it is over: then the thread can be joined.
//! * The SDK's retries sleep where nobody can wake them. Disable them, and retry in the HTTP client
//!   with [`CancelToken::sleep`] and [`Backoff`](crate::backoff::Backoff).
//!
//! An event about a slow pass that still runs belongs to the span in which the probe was started; the
//! layer drops it if there was none, or it has been closed.
//!
//! # Invariants
//!
//! 1. Only the loop's thread writes `at`; only the watch sets an alarm, and only the loop's thread
//!    takes it.
//! 2. The timer's registration belongs to the watch, which the timer thread holds while it fires:
//!    so who drops a probe never waits for a callback of the user's.
//!
//! Lock order: the alarm's lock and the list's are taken with no other lock held.

mod watch;

use std::fmt;
use std::marker::PhantomData;
use std::ops::ControlFlow;
use std::panic::Location;
use std::time::Duration;

use crate::cancel::{CancelKind, CancelToken};
use crate::clock::Clock;
use crate::fault::{self, At};
use crate::flow::{Exit, repeat};
use crate::observe::{self, Breakpoint, SpanGuard, Stopwatch};
use crate::sync::Arc;
use crate::threads::ThreadError;
use watch::{Entry, OnSlow, Shared, Watch};

pub use watch::{LoopInfo, SlowPass, live};

/// Every so many passes, if nothing else is said.
const EVERY: u64 = 1000;

/// Watches one loop, from the thread that runs it; see the [module](self).
///
/// # Performance
///
/// A pass with nothing to report costs about a nanosecond. A breakpoint costs what the recorder and
/// the subscriber take, and two looks at the clock. With [`slow_after`](ProbeBuilder::slow_after),
/// the clock's timer thread looks at the loop eight times in that time.
///
/// # Examples
///
/// ```
/// use cleanbreak::flow::Exit;
/// use cleanbreak::probe::{self, Probe};
/// use cleanbreak::{CancelToken, SafeChannel};
/// use crossbeam_channel::select;
///
/// let (orders, inbox) = SafeChannel::bounded(16);
/// (1..=10).for_each(|order| orders.send(order).unwrap());
/// orders.close();
///
/// let token = CancelToken::new();
/// let mut probe = Probe::new("orders");
/// let mut total = 0;
/// let exit: Exit = 'work: loop {
///     probe.idle(); // what follows is a wait, not work
///     select! {
///         recv(token.done()) -> _ => break 'work token.check().unwrap_err().into(),
///         recv(inbox) -> order => {
///             let Ok(order) = order else { break 'work Exit::Closed };
///             probe.pass(); // a pass begins
///             total += order;
///         }
///     }
/// };
/// assert_eq!((total, probe.passes()), (55, 10));
/// assert!(probe::live().iter().any(|found| found.name == "orders"));
/// probe.finish(&exit); // "closed"
/// assert!(probe::live().iter().all(|found| found.name != "orders"));
/// ```
#[must_use = "a loop is watched for as long as its probe lives"]
pub struct Probe {
    shared: Arc<Shared>,
    /// `None` once the loop has ended.
    listed: Option<Entry>,
    passes: u64,
    /// The pass at which there is something to do.
    next: u64,
    /// Passes that metrics have been told of.
    told: u64,
    every: u64,
    total: Option<u64>,
    /// The breakpoint that the present pass is.
    open: Option<Open>,
    _watch: Option<Arc<Watch>>,
    /// The span is entered on one thread.
    here: PhantomData<*const ()>,
}

struct Open {
    _span: SpanGuard,
    since: Stopwatch,
}

/// How to start a [`Probe`].
///
/// # Examples
///
/// ```
/// use cleanbreak::Probe;
///
/// # #[cfg(feature = "metrics")]
/// let metrics = metrics_exporter_prometheus::PrometheusBuilder::new().install_recorder().unwrap();
/// let rows = ["a"; 250];
/// let mut probe = Probe::builder("import")
///     .every(100) // which makes the 100th and the 200th pass breakpoints
///     .total(rows.len() as u64) // so that a span of theirs says "100 of 250"
///     .start()
///     .unwrap();
/// for _row in rows {
///     probe.pass();
/// }
/// assert_eq!(probe.passes(), 250);
/// probe.finish_with("imported");
/// # #[cfg(feature = "metrics")] {
/// let text = metrics.render();
/// assert!(text.contains(r#"cleanbreak_loop_passes_total{loop="import"} 250"#));
/// assert!(text.contains(r#"cleanbreak_loop_pass_seconds_count{loop="import"} 2"#));
/// assert!(text.contains(r#"cleanbreak_loop_exits_total{loop="import",reason="imported"} 1"#));
/// # }
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until it is started"]
pub struct ProbeBuilder {
    name: Arc<str>,
    every: u64,
    total: Option<u64>,
    slow_after: Option<Duration>,
    clock: Clock,
    on_slow: Option<OnSlow>,
}

impl ProbeBuilder {
    /// Reports each `passes`-th pass; 1,000 by default, zero for none. Metrics are told how many
    /// passes there were at the same points.
    pub fn every(mut self, passes: u64) -> Self {
        self.every = passes;
        self
    }

    /// How many passes there will be, if that is known: for the attribute `loop.total_count`.
    pub fn total(mut self, passes: u64) -> Self {
        self.total = Some(passes);
        self
    }

    /// Reports a pass that takes longer, while it still runs. A millisecond at least; too long to
    /// count is never.
    pub fn slow_after(mut self, limit: Duration) -> Self {
        self.slow_after = Some(limit);
        self
    }

    /// The clock that slow passes are seen by; the system's by default.
    pub fn clock(mut self, clock: &Clock) -> Self {
        self.clock = clock.clone();
        self
    }

    /// Is told of a pass that is over its time and still runs, on the clock's timer thread: keep it
    /// short. A panic in it is contained.
    pub fn on_slow(mut self, report: impl Fn(&SlowPass) + Send + Sync + 'static) -> Self {
        self.on_slow = Some(Arc::new(report));
        self
    }

    /// Starts the probe, for a loop on this thread.
    ///
    /// # Errors
    ///
    /// If there is a time limit, and the clock's timer thread cannot be started.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::sync::mpsc;
    /// use std::time::Duration;
    /// use cleanbreak::{Clock, Probe};
    ///
    /// let clock = Clock::manual();
    /// let (told, slow) = mpsc::channel();
    /// let mut probe = Probe::builder("uploads")
    ///     .slow_after(Duration::from_secs(8))
    ///     .on_slow(move |pass| told.send((pass.iteration, pass.took)).unwrap())
    ///     .clock(&clock)
    ///     .start()
    ///     .unwrap();
    /// probe.pass();
    /// clock.advance(Duration::from_secs(7)); // some work
    /// probe.pass();
    /// assert!(slow.try_recv().is_err());
    /// clock.advance(Duration::from_secs(60)); // stuck
    /// let (iteration, took) = slow.recv().unwrap();
    /// assert_eq!((iteration, took), (2, Duration::from_secs(8)));
    /// assert!(slow.try_recv().is_err()); // once
    /// probe.finish_with("failed");
    /// ```
    #[track_caller]
    pub fn start(self) -> Result<Probe, ThreadError> {
        let (shared, entry) = Shared::enlist(self.name, Location::caller(), self.clock);
        let watch = match self.slow_after {
            Some(limit) => Watch::start(&shared, limit, self.on_slow)?,
            None => None,
        };
        Ok(Probe {
            shared,
            listed: Some(entry),
            passes: 0,
            next: first_after(0, self.every),
            told: 0,
            every: self.every,
            total: self.total,
            open: None,
            _watch: watch,
            here: PhantomData,
        })
    }
}

/// The first breakpoint after pass `passes`.
fn first_after(passes: u64, every: u64) -> u64 {
    match passes.checked_div(every) {
        Some(whole) => (whole + 1).saturating_mul(every),
        None => u64::MAX,
    }
}

impl Probe {
    /// A probe without a time limit, that reports each 1,000th pass.
    #[track_caller]
    pub fn new(name: &str) -> Self {
        let started = Self::builder(name).start();
        started.expect("without a time limit no thread is needed")
    }

    /// For a probe with other settings. The name stands in lists, metrics and spans: one for each
    /// loop in the source, not one for each time that it runs.
    pub fn builder(name: &str) -> ProbeBuilder {
        ProbeBuilder {
            name: name.into(),
            every: EVERY,
            total: None,
            slow_after: None,
            clock: Clock::system(),
            on_slow: None,
        }
    }

    /// A pass begins; the one before it, if any, has ended. Make it the first thing in the loop, or
    /// the first after the wait if the loop says when it is [`idle`](Self::idle).
    #[inline]
    pub fn pass(&mut self) {
        fault::pass(At::ProbePass);
        self.passes += 1;
        let alarmed = self.shared.begin(self.passes);
        if self.passes >= self.next || alarmed {
            self.attend(true);
        }
    }

    /// The present pass has ended, and none has begun: the loop is about to wait, and may do so for
    /// as long as it likes.
    #[inline]
    pub fn idle(&mut self) {
        let alarmed = self.shared.rest(self.passes);
        if self.open.is_some() || alarmed {
            self.attend(false);
        }
    }

    /// How many passes have begun.
    #[must_use]
    pub fn passes(&self) -> u64 {
        self.passes
    }

    /// The loop has ended, as `exit` says.
    pub fn finish<B>(self, exit: &Exit<B>) {
        self.finish_with(reason(exit));
    }

    /// The loop has ended, for a reason of your own: a word, as it becomes a label.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::{Probe, probe};
    ///
    /// let mut probe = Probe::builder("import").total(3).start().unwrap();
    /// let outcome = 'rows: loop {
    ///     probe.pass();
    ///     if probe.passes() == 3 {
    ///         break 'rows "imported";
    ///     }
    /// };
    /// assert!(probe::live().iter().any(|found| found.name == "import" && found.passes == 3));
    /// probe.finish_with(outcome); // the label `reason`, and the attribute `loop.exit`
    /// assert!(probe::live().iter().all(|found| found.name != "import"));
    /// ```
    pub fn finish_with(mut self, reason: &'static str) {
        self.end(reason, false);
    }

    /// [`flow::repeat`](crate::flow::repeat) with a probe: begins a pass before each call of `pass`,
    /// and finishes with its exit.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::ops::ControlFlow::{Break, Continue};
    /// use cleanbreak::flow::Exit;
    /// use cleanbreak::{CancelToken, Probe};
    ///
    /// let mut left = 3;
    /// let exit = Probe::new("countdown").repeat(&CancelToken::new(), || {
    ///     left -= 1;
    ///     if left == 0 { Break(Exit::Broke("lift-off")) } else { Continue(()) }
    /// });
    /// assert_eq!(exit.broke(), Some("lift-off"));
    /// ```
    pub fn repeat<B>(
        mut self,
        token: &CancelToken,
        mut pass: impl FnMut() -> ControlFlow<Exit<B>>,
    ) -> Exit<B> {
        let exit = repeat(token, || {
            self.pass();
            pass()
        });
        self.finish(&exit);
        exit
    }

    /// A pass has ended that was reported, or is to be; and maybe another has begun.
    #[cold]
    fn attend(&mut self, begun: bool) {
        let ended = self.passes - u64::from(begun);
        self.close();
        if let Some(slow) = self.shared.take_alarm(ended) {
            observe::marker(&Breakpoint {
                slow: Some(slow),
                alarming: true,
                ..self.breakpoint(ended)
            });
        }
        if self.passes < self.next {
            return;
        }
        self.tell_passes();
        let breakpoint = self.passes.is_multiple_of(self.every);
        if begun && breakpoint {
            let span = observe::breakpoint(&Breakpoint {
                regular: true,
                ..self.breakpoint(self.passes)
            });
            let since = Stopwatch::start();
            self.open = Some(Open { _span: span, since });
            // To close it.
            self.next = self.passes + 1;
        } else {
            self.next = first_after(self.passes, self.every);
        }
    }

    fn close(&mut self) {
        if let Some(open) = self.open.take() {
            observe::loop_sample(self.shared.name(), open.since);
            self.next = first_after(self.passes, self.every).min(self.next);
        }
    }

    fn tell_passes(&mut self) {
        observe::loop_passes(self.shared.name(), self.passes - self.told);
        self.told = self.passes;
    }

    fn breakpoint(&self, iteration: u64) -> Breakpoint<'_> {
        Breakpoint {
            name: self.shared.name(),
            iteration,
            total: self.total,
            interval: self.every,
            regular: false,
            exit: None,
            slow: None,
            alarming: false,
            failed: false,
        }
    }

    fn end(&mut self, reason: &'static str, failed: bool) {
        let Some(listed) = self.listed.take() else {
            return;
        };
        self.shared.rest(self.passes);
        drop(listed);
        self.close();
        let slow = self.shared.take_alarm(self.passes);
        self.tell_passes();
        observe::loop_exit(self.shared.name(), reason);
        observe::marker(&Breakpoint {
            total: self.total.or(Some(self.passes)),
            exit: Some(reason),
            slow,
            alarming: failed || slow.is_some(),
            failed,
            ..self.breakpoint(self.passes)
        });
    }
}

fn reason<B>(exit: &Exit<B>) -> &'static str {
    match exit {
        Exit::Broke(_) => "broke",
        Exit::Closed => "closed",
        Exit::Cancelled(cancelled) => match cancelled.kind() {
            CancelKind::Cancelled => "cancelled",
            CancelKind::DeadlineExceeded => "deadline_exceeded",
        },
    }
}

/// Without a [`finish`](Probe::finish), says so.
impl Drop for Probe {
    fn drop(&mut self) {
        let reason = match std::thread::panicking() {
            true => "panicked",
            false => "abandoned",
        };
        self.end(reason, true);
    }
}

impl fmt::Debug for Probe {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Probe")
            .field("name", self.shared.name())
            .field("passes", &self.passes)
            .finish_non_exhaustive()
    }
}

impl fmt::Debug for ProbeBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProbeBuilder")
            .field("name", &self.name)
            .field("every", &self.every)
            .field("total", &self.total)
            .field("slow_after", &self.slow_after)
            .finish_non_exhaustive()
    }
}
