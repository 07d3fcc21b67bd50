//! An abandoner's settings.

use std::fmt;
use std::io::Write;
use std::time::Duration;

use super::shared::{AbandonedCall, Report, Shared};
use super::{Abandoner, Owner};
use crate::clock::Clock;
use crate::sync::Arc;

/// The settings of an [`Abandoner`]; from [`Abandoner::builder`].
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
/// let (tell, told) = bounded(1);
/// let lookups = Abandoner::builder()
///     .name("lookup")
///     .max_threads(1)
///     .stack_size(16 << 20)
///     .clock(&clock)
///     .drop_patience(Duration::ZERO)
///     .on_straggler(move |left| tell.send(left[0].name.clone()).unwrap())
///     .build();
/// let deep = |_: &CancelToken| Ok::<_, ()>(std::hint::black_box([1_u8; 4 << 20]).len());
/// assert_eq!(lookups.abandon_after(&token, second, deep).unwrap(), 4 << 20);
///
/// let (release, held) = bounded::<()>(0);
/// let time = clock.clone();
/// let hung = move |_: &CancelToken| { time.advance(second); held.recv() };
/// assert!(lookups.abandon_after(&token, second, hung).unwrap_err().is_timeout());
/// drop(lookups); // does not wait, but says who is left
/// assert_eq!(told.recv().unwrap(), "lookup");
/// # drop(release);
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until it is built"]
pub struct AbandonerBuilder {
    name: Arc<str>,
    most: usize,
    stack_size: Option<usize>,
    clock: Clock,
    patience: Duration,
    report: Report,
}

impl AbandonerBuilder {
    pub(super) fn new() -> Self {
        Self {
            name: "abandonable".into(),
            most: 16,
            stack_size: None,
            clock: Clock::system(),
            patience: Duration::from_secs(1),
            report: Arc::new(print),
        }
    }

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
        let shared = Shared::new(self.name, self.most, self.stack_size, self.clock);
        let owner = Arc::new(Owner {
            shared: Arc::new(shared),
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
fn print(left: &[AbandonedCall]) {
    let mut stderr = std::io::stderr().lock();
    for call in left {
        // Not `eprintln!`, which panics where there is no standard error.
        writeln!(stderr, "cleanbreak: {call}").ok();
    }
}
