//! The stop, in four phases. Each has a deadline and never waits beyond it: what is late is
//! reported, and left to the next phase, which is ruder.
//!
//! 1. Stop accepting: the door of the connection map is closed, and the listener with it.
//! 2. Release the polls: one cancellation wakes every wait at once, and each is answered 503.
//! 3. Drain: the connections close by themselves, leave the map and free their buffers; at the
//!    deadline the sockets of those that are left are shut down, which ends any wait on a client
//!    that is slow or stuck.
//! 4. Join: every thread has ended. A thread cannot be ended from outside, so the last resort
//!    behind this phase is a watchdog that lists the stragglers and ends the process.

use std::fmt;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use cleanbreak::clock::Instant;
use cleanbreak::interrupt::signal_name;
use cleanbreak::{CancelToken, Cause, Clock, threads};

use super::service::Service;
use super::settings::Settings;

/// How long the drain waits for the threads whose sockets it has just shut down.
pub(crate) const AFTER_CUT: Duration = Duration::from_millis(200);

struct Phase {
    name: &'static str,
    took: Duration,
    limit: Duration,
    outcome: String,
}

/// A stop under way, and its report.
pub(crate) struct Shutdown {
    clock: Clock,
    cause: String,
    told: Instant,
    phase_began: Instant,
    connections: usize,
    left_to_join: usize,
    join_limit: Duration,
    phases: Vec<Phase>,
}

impl Shutdown {
    /// Waits until `stop` is cancelled. The time of the report counts from there, not from when
    /// this thread woke.
    pub(crate) fn when_told(stop: &CancelToken) -> Self {
        let clock = stop.clock().clone();
        let (stamp, hook_clock) = (Arc::new(OnceLock::new()), clock.clone());
        let told = Arc::clone(&stamp);
        let _hook = stop.on_cancel(move || {
            let _ = stamp.set(hook_clock.now());
        });
        stop.wait();
        // The hook may not have come yet: then it is now.
        let told = told.get().copied().unwrap_or_else(|| clock.now());
        let cause = stop
            .cause()
            .map_or_else(|| "a failure".to_owned(), |cause| name_of(&cause));
        Self {
            clock,
            cause,
            told,
            phase_began: told,
            connections: 0,
            left_to_join: 0,
            join_limit: Duration::ZERO,
            phases: Vec::new(),
        }
    }

    /// Phase 1. `closed` is cancelled by the acceptor when it has dropped the listener.
    pub(crate) fn stop_accepting(
        &mut self,
        service: &Service,
        closed: &CancelToken,
        settings: &Settings,
    ) {
        self.connections = service.registry.close();
        let done = closed.wait_timeout(settings.stop_deadline);
        let listener = if done {
            "listener closed"
        } else {
            "listener NOT closed yet"
        };
        self.end_phase(
            "stop accepting",
            settings.stop_deadline,
            format!("{listener}, {} connections open", self.connections),
        );
    }

    /// Phase 2. `serving` is the token that every wait on a client is below.
    pub(crate) fn release_polls(
        &mut self,
        service: &Service,
        serving: &CancelToken,
        settings: &Settings,
    ) {
        let waiting = service.registry.polls();
        serving.cancel_with("the service is shutting down");
        service.registry.polls_answered(settings.release_deadline);
        let left = service.registry.polls();
        self.end_phase(
            "release polls",
            settings.release_deadline,
            format!("{waiting} waiting, {left} not answered yet"),
        );
    }

    /// Phase 3.
    pub(crate) fn drain(&mut self, service: &Service, settings: &Settings) {
        let mut cut = 0;
        if !service.registry.emptied(settings.drain_deadline) {
            cut = service.registry.cut();
            service.registry.emptied(AFTER_CUT);
        }
        let left = service.registry.connections();
        let outcome = format!(
            "{} closed, {cut} cut, {left} left",
            self.connections.saturating_sub(cut)
        );
        self.end_phase("drain", settings.drain_deadline + AFTER_CUT, outcome);
        self.left_to_join = threads::live().len();
        self.join_limit = settings.join_deadline;
    }

    /// Phase 4, after the groups have joined their threads.
    pub(crate) fn joined(&mut self) {
        let outcome = format!(
            "{} threads were still ending, {} left",
            self.left_to_join,
            threads::live().len()
        );
        self.end_phase("join", self.join_limit, outcome);
    }

    fn end_phase(&mut self, name: &'static str, limit: Duration, outcome: String) {
        let now = self.clock.now();
        let took = now.duration_since(self.phase_began);
        self.phase_began = now;
        self.phases.push(Phase {
            name,
            took,
            limit,
            outcome,
        });
    }
}

fn name_of(cause: &Cause) -> String {
    let name = cause.as_signal().and_then(signal_name);
    name.map_or_else(|| cause.to_string(), str::to_owned)
}

impl fmt::Display for Shutdown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let millis = |duration: Duration| duration.as_secs_f64() * 1000.0;
        writeln!(f, "stopped by {}", self.cause)?;
        for (number, phase) in (1..).zip(&self.phases) {
            let Phase {
                name,
                took,
                limit,
                outcome,
            } = phase;
            let late = if took > limit { "  LATE" } else { "" };
            let (took, limit) = (millis(*took), limit.as_millis());
            writeln!(
                f,
                "  {number} {name:<15}{took:>8.1} ms of {limit:>5} ms  {outcome}{late}"
            )?;
        }
        let total = self.phase_began.duration_since(self.told);
        write!(f, "  in all          {:>9.1} ms", millis(total))
    }
}
