//! A supervisor's settings.

use std::collections::BTreeSet;
use std::fmt;
use std::panic::Location;
use std::time::Duration;

use crossbeam_channel::{Receiver, bounded, unbounded};

use super::err::{StartError, StartErrorKind};
use super::event::{Event, Listener};
use super::handle::Supervisor;
use super::manager::{Defaults, Manager};
use super::plan::{Plan, Rules};
use super::shared::{Message, Shared};
use super::spec::{ChildSpec, Phase, Strategy};
use crate::backoff::{Backoff, Jitter};
use crate::cancel::CancelToken;
use crate::sync::Arc;
use crate::threads::{self, Spec};

/// The settings of a [`Supervisor`]; from [`Supervisor::builder`]. Reusable: a start borrows it.
///
/// # Examples
///
/// ```
/// use std::time::Duration;
/// use cleanbreak::backoff::Backoff;
/// use cleanbreak::supervise::{ChildSpec, Event, Strategy, Supervisor};
/// use cleanbreak::CancelToken;
///
/// let (tx, restarts) = crossbeam_channel::unbounded();
/// let flaky = ChildSpec::new("flaky", |cx| {
///     cx.ready();
///     anyhow::ensure!(cx.restarts() == 2, "not yet");
///     cx.token().wait();
///     Ok(())
/// });
/// let supervisor = Supervisor::builder()
///     .name("gateway")
///     .strategy(Strategy::OneForOne)
///     .intensity(5, Duration::from_secs(30))
///     .backoff(Backoff::constant(Duration::from_millis(1)))
///     .on_event(move |event| if let Event::Restarting { end, .. } = event {
///         tx.send(end.to_string()).ok();
///     })
///     .child(flaky)
///     .start(&CancelToken::new())
///     .unwrap();
/// assert_eq!(restarts.recv().unwrap(), "failed: not yet");
/// assert_eq!(restarts.recv().unwrap(), "failed: not yet");
///
/// let report = supervisor.shutdown();
/// assert!(report.check().is_ok());
/// ```
#[derive(Clone)]
#[must_use = "a builder does nothing until the supervisor is started"]
pub struct SupervisorBuilder {
    name: Arc<str>,
    strategy: Strategy,
    restarts: usize,
    period: Duration,
    healthy_after: Duration,
    defaults: Defaults,
    listener: Listener,
    phases: Vec<Phase>,
}

impl SupervisorBuilder {
    /// One for one; 10 restarts in 60 seconds; delays from 0.1 to 10 seconds.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::supervise::SupervisorBuilder;
    /// use cleanbreak::CancelToken;
    ///
    /// // As `Supervisor::builder()`. Nothing to do yet, and that is no error.
    /// let supervisor = SupervisorBuilder::new().start(&CancelToken::new()).unwrap();
    /// assert!(supervisor.children().is_empty());
    /// assert_eq!(supervisor.shutdown().name, "supervisor");
    /// ```
    pub fn new() -> Self {
        let backoff = Backoff::exponential(Duration::from_millis(100));
        Self {
            name: "supervisor".into(),
            strategy: Strategy::default(),
            restarts: 10,
            period: Duration::from_secs(60),
            healthy_after: Duration::from_secs(60),
            defaults: Defaults {
                start_timeout: Duration::from_secs(30),
                stop_timeout: Duration::from_secs(5),
                backoff: backoff.max(Duration::from_secs(10)).jitter(Jitter::Equal),
            },
            listener: Listener::default(),
            phases: Vec::new(),
        }
    }

    /// Names the supervisor and its thread.
    pub fn name(mut self, name: &str) -> Self {
        self.name = name.into();
        self
    }

    /// Who is restarted when one fails; [`OneForOne`](Strategy::OneForOne) by default.
    pub fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// Gives up at the restart that would be more than `restarts` within `period`, a sliding window
    /// whose ends both count; 10 in 60 seconds by default. The restarts of all children count
    /// together; one that takes siblings along counts once. Zero gives up at the first failure;
    /// [`usize::MAX`] never does.
    ///
    /// A delay between restarts of more than `period / restarts` keeps a lone child from ever
    /// reaching it. With the defaults, a child that fails at once makes the supervisor give up
    /// after some 30 seconds.
    pub fn intensity(mut self, restarts: usize, period: Duration) -> Self {
        self.restarts = restarts;
        self.period = period;
        self
    }

    /// The delays before the restarts of a child; exponential from 0.1 to 10 seconds with
    /// [`Jitter::Equal`] by default. Each child has its own. A panic in a custom one is contained,
    /// and makes the delay one second.
    pub fn backoff(mut self, backoff: Backoff) -> Self {
        self.defaults.backoff = backoff;
        self
    }

    /// The delays of a child start over when it fails after it has been ready for so long; 60
    /// seconds by default.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::backoff::Backoff;
    /// use cleanbreak::supervise::{ChildSpec, Event, Supervisor};
    /// use cleanbreak::{CancelToken, Clock};
    ///
    /// let minute = Duration::from_secs(60);
    /// let clock = Clock::manual();
    /// let (ready, is_ready) = crossbeam_channel::unbounded();
    /// let (tell, delays_so_far) = crossbeam_channel::unbounded();
    /// let time = clock.clone();
    /// let feed = ChildSpec::new("feed", move |cx| {
    ///     cx.ready();
    ///     if cx.restarts() == 3 { return Ok(cx.token().wait()) }
    ///     is_ready.recv()?;
    ///     if cx.restarts() == 2 { time.advance(minute) } // well for a minute
    ///     anyhow::bail!("no route")
    /// });
    /// let supervisor = Supervisor::builder()
    ///     .healthy_after(minute)
    ///     .backoff(Backoff::custom(move |n| { tell.send(n).ok(); Duration::ZERO }))
    ///     .on_event(move |event| if let Event::Ready { .. } = event { ready.send(()).ok(); })
    ///     .child(feed)
    ///     .start(&CancelToken::with_clock(&clock))
    ///     .unwrap();
    /// let delays: Vec<_> = delays_so_far.iter().take(3).collect();
    /// assert_eq!(delays, [0, 1, 0]); // the third failure is a first one again
    /// ```
    pub fn healthy_after(mut self, time: Duration) -> Self {
        self.healthy_after = time;
        self
    }

    /// How long a child may take to be ready; 30 seconds by default. [`Duration::MAX`] is for ever.
    /// One that takes longer is told to stop, which counts as a failure.
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::supervise::{ChildEnd, ChildSpec, StartErrorKind, Supervisor};
    /// use cleanbreak::{CancelToken, Clock};
    ///
    /// let clock = Clock::manual();
    /// let time = clock.clone();
    /// let slow = ChildSpec::new("slow", move |cx| {
    ///     time.await_timers(1);
    ///     time.advance(Duration::from_secs(3)); // and it has not said that it is ready
    ///     Ok(cx.token().wait())
    /// });
    /// let supervisor = Supervisor::builder().start_timeout(Duration::from_secs(3)).child(slow);
    /// let error = supervisor.start(&CancelToken::with_clock(&clock)).unwrap_err();
    /// let StartErrorKind::Child { end, .. } = error.kind() else { panic!("{error}") };
    /// assert!(matches!(end, ChildEnd::NotReady(within) if *within == Duration::from_secs(3)));
    /// ```
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.defaults.start_timeout = timeout;
        self
    }

    /// How long the children of a phase have to stop before they are reported; 5 seconds by
    /// default. See [`Phase::stop_timeout`].
    ///
    /// # Examples
    ///
    /// ```
    /// use std::time::Duration;
    /// use cleanbreak::supervise::{ChildSpec, Supervisor};
    /// use cleanbreak::{CancelToken, Clock};
    ///
    /// let (release, held) = crossbeam_channel::bounded::<()>(0);
    /// let deaf = ChildSpec::new("deaf", move |cx| { cx.ready(); held.recv().ok(); Ok(()) });
    /// let token = CancelToken::with_clock(&Clock::manual());
    /// let supervisor = Supervisor::builder().stop_timeout(Duration::ZERO).on_event(|_| ());
    /// let supervisor = supervisor.child(deaf).start(&token).unwrap();
    /// let report = supervisor.shutdown(); // told, and not waited for
    /// assert_eq!(report.phases[0].late, ["deaf"]);
    /// drop(release); // else the drop of the supervisor would wait for it
    /// ```
    pub fn stop_timeout(mut self, timeout: Duration) -> Self {
        self.defaults.stop_timeout = timeout;
        self
    }

    /// Is told what happens, instead of standard error, which gets a line for each restart, each
    /// report of a stuck child, and the giving up.
    ///
    /// Called on the supervisor's thread, in the order of what happened, with no lock held; a panic
    /// in it is contained. While it runs, nothing is restarted or stopped.
    pub fn on_event(mut self, listener: impl Fn(&Event) + Send + Sync + 'static) -> Self {
        self.listener = Listener::new(listener);
        self
    }

    /// Adds a child that is stopped in a phase of its own.
    pub fn child(self, child: ChildSpec) -> Self {
        self.phase(Phase::of(child))
    }

    /// Adds children that are stopped together.
    ///
    /// # Examples
    ///
    /// ```
    /// use cleanbreak::supervise::{ChildSpec, Phase, Supervisor};
    /// use cleanbreak::CancelToken;
    ///
    /// let wait = |name| ChildSpec::new(name, |cx| { cx.ready(); cx.token().wait(); Ok(()) });
    /// let workers = Phase::new("workers").child(wait("a")).child(wait("b"));
    /// let supervisor = Supervisor::builder().phase(workers).start(&CancelToken::new()).unwrap();
    /// let report = supervisor.shutdown();
    /// assert!(report.children.iter().all(|child| child.phase == "workers"));
    /// assert_eq!(report.phases.len(), 1); // both were told at once
    /// ```
    pub fn phase(mut self, phase: Phase) -> Self {
        self.phases.push(phase);
        self
    }

    /// Starts the children, one after the other, and returns when the last is ready. Without
    /// children it supervises nothing until one is [added](Supervisor::add).
    ///
    /// The supervisor's token is a child of `token`, whose clock it goes by: for delays, the
    /// intensity, deadlines and reports.
    ///
    /// A child that is not [`Permanent`](super::Restart::Permanent), and returns `Ok` before it
    /// said that it is ready, had one thing to do: the next one starts. A child that fails after it
    /// was ready is restarted as ever, also while others are still starting.
    ///
    /// # Errors
    ///
    /// [`StartError`]: two children have one name, a child was not ready in time, failed, or ended
    /// before it was, `token` is cancelled, or a thread cannot be started. What had been started
    /// has then been stopped and joined, in reverse order.
    #[track_caller]
    pub fn start(&self, token: &CancelToken) -> Result<Supervisor, StartError> {
        self.check_names()?;
        let (inbox, messages) = unbounded();
        let (started, is_started) = bounded(1);
        let shared = Shared::new(
            self.name.clone(),
            Location::caller(),
            token.child(),
            inbox,
            self.listener.clone(),
        );
        let shared = Arc::new(shared);
        // Before the thread, so that it finds the message of a token that is cancelled already.
        let supervisor = Supervisor::new(shared.clone());
        let manager = self.manager(shared.clone(), messages, started);
        let spec = Spec::new(self.name.clone(), Location::caller()).under(shared.token.scope());
        let thread = threads::spawn(spec, move || manager.serve())
            .map_err(|error| StartError::new(StartErrorKind::Thread(Arc::new(error))))?;
        *shared.thread.lock() = Some(thread);
        let _wait = threads::waiting_on("see the children of a supervisor start");
        match is_started.recv() {
            Ok(true) => Ok(supervisor),
            _ => Err(supervisor.not_started()),
        }
    }

    fn check_names(&self) -> Result<(), StartError> {
        let mut names = BTreeSet::new();
        let children = self.phases.iter().flat_map(|phase| &phase.children);
        match children
            .map(ChildSpec::name)
            .find(|name| !names.insert(*name))
        {
            None => Ok(()),
            Some(name) => Err(StartError::new(StartErrorKind::DuplicateName(name.into()))),
        }
    }

    fn manager(
        &self,
        shared: Arc<Shared>,
        messages: Receiver<Message>,
        started: crossbeam_channel::Sender<bool>,
    ) -> Manager {
        let plan = Plan::new(Rules {
            name: self.name.clone(),
            strategy: self.strategy,
            restarts: self.restarts,
            period: self.period,
            healthy_after: self.healthy_after,
        });
        let mut manager = Manager::new(shared, messages, plan, self.defaults.clone(), started);
        for phase in &self.phases {
            manager.add_phase(phase.clone());
        }
        manager
    }
}

impl Default for SupervisorBuilder {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for SupervisorBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SupervisorBuilder")
            .field("name", &self.name)
            .field("strategy", &self.strategy)
            .field("phases", &self.phases)
            .finish_non_exhaustive()
    }
}
