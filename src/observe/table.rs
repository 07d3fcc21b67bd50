//! Every metric there is: the one place that names them.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

pub(super) const THREADS_LIVE: &str = "cleanbreak_threads_live";
pub(super) const THREADS_STARTED: &str = "cleanbreak_threads_started_total";
pub(super) const SPAWN_FAILURES: &str = "cleanbreak_thread_spawn_failures_total";
pub(super) const WAIT: &str = "cleanbreak_wait_seconds";
pub(super) const CANCELLATIONS: &str = "cleanbreak_cancellations_total";
pub(super) const TIMER_LATENESS: &str = "cleanbreak_timer_lateness_seconds";
pub(super) const TICKS: &str = "cleanbreak_ticks_total";
pub(super) const TICKS_MISSED: &str = "cleanbreak_ticks_missed_total";
pub(super) const GROUP_TASKS: &str = "cleanbreak_group_tasks_total";
pub(super) const POOL_TASKS: &str = "cleanbreak_pool_tasks_total";
pub(super) const POOL_WORKERS: &str = "cleanbreak_pool_workers";
pub(super) const POOL_QUEUE_DEPTH: &str = "cleanbreak_pool_queue_depth";
pub(super) const POOL_WAIT: &str = "cleanbreak_pool_wait_seconds";
pub(super) const POOL_RUN: &str = "cleanbreak_pool_run_seconds";
pub(super) const LOOP_PASSES: &str = "cleanbreak_loop_passes_total";
pub(super) const LOOP_PASS: &str = "cleanbreak_loop_pass_seconds";
pub(super) const LOOP_EXITS: &str = "cleanbreak_loop_exits_total";
pub(super) const SUPERVISED_RUNS: &str = "cleanbreak_supervised_runs_total";
pub(super) const SUPERVISED_RESTARTS: &str = "cleanbreak_supervised_restarts_total";
pub(super) const SUPERVISOR_GIVE_UPS: &str = "cleanbreak_supervisor_give_ups_total";
pub(super) const RETRIES: &str = "cleanbreak_retries_total";
pub(super) const RETRY_GIVE_UPS: &str = "cleanbreak_retry_give_ups_total";
pub(super) const TIMEOUTS: &str = "cleanbreak_timeouts_total";
pub(super) const POLICY_CALLS: &str = "cleanbreak_policy_calls_total";
pub(super) const POLICY_FALLBACKS: &str = "cleanbreak_policy_fallbacks_total";
pub(super) const BREAKER_STATE: &str = "cleanbreak_breaker_state";
pub(super) const BREAKER_TRANSITIONS: &str = "cleanbreak_breaker_transitions_total";
pub(super) const BREAKER_REJECTIONS: &str = "cleanbreak_breaker_rejections_total";
pub(super) const BULKHEAD_IN_USE: &str = "cleanbreak_bulkhead_in_use";
pub(super) const BULKHEAD_REFUSED: &str = "cleanbreak_bulkhead_refused_total";
pub(super) const RATE_LIMITED: &str = "cleanbreak_rate_limited_total";
pub(super) const HEDGES: &str = "cleanbreak_hedges_total";
pub(super) const HEDGES_WON: &str = "cleanbreak_hedges_won_total";
pub(super) const ADAPTIVE_LIMIT: &str = "cleanbreak_adaptive_limit";
pub(super) const ABANDONED_CALLS: &str = "cleanbreak_abandoned_calls_total";
pub(super) const ABANDONED_THREADS: &str = "cleanbreak_abandoned_threads";
#[cfg(all(feature = "signal", unix))]
pub(super) const INTERRUPTS: &str = "app_interrupt_total";

/// What kind of number a metric is.
///
/// # Examples
///
/// ```
/// use cleanbreak::observe::{METRICS, MetricType};
///
/// // As Prometheus wants their names.
/// for metric in METRICS {
///     let counts = metric.name.ends_with("_total");
///     let times = metric.name.ends_with("_seconds");
///     match metric.kind {
///         MetricType::Counter => assert!(counts),
///         MetricType::Histogram => assert!(times),
///         _ => assert!(!counts && !times),
///     }
/// }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum MetricType {
    /// Only grows.
    Counter,
    /// Goes up and down.
    Gauge,
    /// Many values, in seconds.
    Histogram,
}

/// One metric that the library writes.
///
/// # Examples
///
/// ```
/// use cleanbreak::observe::{METRICS, MetricType};
///
/// let name = "cleanbreak_pool_queue_depth";
/// let depth = METRICS.iter().find(|metric| metric.name == name).unwrap();
/// assert_eq!((depth.kind, depth.labels), (MetricType::Gauge, &["pool"][..]));
/// assert_eq!(depth.help, "Tasks that wait for a worker of the pool.");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Metric {
    /// As the recorder is told.
    pub name: &'static str,
    /// Counter, gauge or histogram.
    pub kind: MetricType,
    /// The names of its labels.
    pub labels: &'static [&'static str],
    /// What it says.
    pub help: &'static str,
}

const fn metric(
    name: &'static str,
    kind: MetricType,
    labels: &'static [&'static str],
    help: &'static str,
) -> Metric {
    Metric {
        name,
        kind,
        labels,
        help,
    }
}

/// Every metric of the library.
///
/// | name | type | labels | |
/// |---|---|---|---|
/// | `cleanbreak_threads_live` | gauge | | threads of the library that run now |
/// | `cleanbreak_threads_started_total` | counter | | threads started so far |
/// | `cleanbreak_thread_spawn_failures_total` | counter | | threads that the system refused |
/// | `cleanbreak_wait_seconds` | histogram | `on` | how long each wait of the library, or of a [`waiting_on`](crate::threads::waiting_on), took |
/// | `cleanbreak_cancellations_total` | counter | `kind`: `cancelled`, `deadline_exceeded` | cancellations that took effect: one for each call or deadline, however many tokens are below; not the routine end of a group |
/// | `cleanbreak_timer_lateness_seconds` | histogram | | how long after its time a timer fired |
/// | `cleanbreak_ticks_total` | counter | | ticks that tickers sent, also those that a later one replaced |
/// | `cleanbreak_ticks_missed_total` | counter | | ticks that nobody took in time |
/// | `cleanbreak_group_tasks_total` | counter | `group`, `outcome`: `completed`, `failed`, `panicked`, `cancelled` | tasks of groups that ended; `cancelled` never ran |
/// | `cleanbreak_pool_tasks_total` | counter | `pool`, `outcome`: as before, and `abandoned` | tasks of pools that ended |
/// | `cleanbreak_pool_workers` | gauge | `pool` | threads that serve |
/// | `cleanbreak_pool_queue_depth` | gauge | `pool` | tasks that wait for a worker |
/// | `cleanbreak_pool_wait_seconds` | histogram | `pool` | from the submission to the start |
/// | `cleanbreak_pool_run_seconds` | histogram | `pool` | from the start to the end |
/// | `cleanbreak_loop_passes_total` | counter | `loop` | passes of the loops with a [`Probe`](crate::probe::Probe), told at breakpoints and at the end |
/// | `cleanbreak_loop_pass_seconds` | histogram | `loop` | how long the passes at breakpoints took |
/// | `cleanbreak_loop_exits_total` | counter | `loop`, `reason`: `broke`, `cancelled`, `deadline_exceeded`, `closed`, `panicked`, `abandoned`, or your own | loops that ended |
/// | `cleanbreak_supervised_runs_total` | counter | `supervisor`, `child`, `outcome`: `returned`, `cancelled`, `failed`, `panicked`, `not_ready`, `not_started` | runs of supervised loops that ended |
/// | `cleanbreak_supervised_restarts_total` | counter | `supervisor`, `child` | restarts after a child of its own ended, not those by hand or with a sibling |
/// | `cleanbreak_supervisor_give_ups_total` | counter | `supervisor` | supervisors that had more failures than their intensity allows |
/// | `cleanbreak_retries_total` | counter | `retry` | attempts after the first, of retries and policies that have a name |
/// | `cleanbreak_retry_give_ups_total` | counter | `retry`, `reason` | calls of which no attempt succeeded, by the reason why there was no other |
/// | `cleanbreak_timeouts_total` | counter |  | calls and attempts that failed when their time was up |
/// | `cleanbreak_policy_calls_total` | counter | `policy`, `outcome` | calls under a policy that has a name, by outcome, before a fallback |
/// | `cleanbreak_policy_fallbacks_total` | counter | `policy` | calls that were handed to their fallback |
/// | `cleanbreak_breaker_state` | gauge | `breaker`, `state` | 1 for the state that the breaker is in, 0 for the others |
/// | `cleanbreak_breaker_transitions_total` | counter | `breaker`, `to`, `reason` | changes of a breaker's state, by the new one and by reason |
/// | `cleanbreak_breaker_rejections_total` | counter | `breaker` | calls that a breaker rejected |
/// | `cleanbreak_bulkhead_in_use` | gauge | `bulkhead` | permits of a bulkhead that are in use |
/// | `cleanbreak_bulkhead_refused_total` | counter | `bulkhead` | calls that got no permit of a bulkhead |
/// | `cleanbreak_rate_limited_total` | counter | `limiter` | calls that a rate limiter refused |
/// | `cleanbreak_hedges_total` | counter | `hedge` | attempts beyond the first of a hedged call |
/// | `cleanbreak_hedges_won_total` | counter | `hedge` | hedged calls that an attempt beyond the first has won |
/// | `cleanbreak_adaptive_limit` | gauge | `limit` | how many calls an adaptive limit lets through at a time |
/// | `cleanbreak_abandoned_calls_total` | counter | `abandoner` | calls that were left to their threads when they were late |
/// | `cleanbreak_abandoned_threads` | gauge | `abandoner` | threads of such calls that still run |
/// | `app_interrupt_total` | counter | `signal`, such as `SIGUSR1` | signals that were delivered to subscribers (feature `signal`) |
///
/// # Examples
///
/// ```
/// use cleanbreak::observe::METRICS;
///
/// /// For a test that a dashboard asks for what there is.
/// fn unknown<'a>(panels: &[&'a str]) -> Vec<&'a str> {
///     let known = |name: &&str| METRICS.iter().any(|metric| metric.name == *name);
///     panels.iter().copied().filter(|name| !known(name)).collect()
/// }
///
/// let panels = ["cleanbreak_pool_workers", "cleanbreak_pool_idlers"];
/// assert_eq!(unknown(&panels), ["cleanbreak_pool_idlers"]);
/// ```
pub const METRICS: &[Metric] = &[
    metric(
        THREADS_LIVE,
        MetricType::Gauge,
        &[],
        "Threads of the library that run now.",
    ),
    metric(
        THREADS_STARTED,
        MetricType::Counter,
        &[],
        "Threads of the library started so far.",
    ),
    metric(
        SPAWN_FAILURES,
        MetricType::Counter,
        &[],
        "Threads that the operating system refused.",
    ),
    metric(
        WAIT,
        MetricType::Histogram,
        &["on"],
        "How long a wait took, by what was waited for.",
    ),
    metric(
        CANCELLATIONS,
        MetricType::Counter,
        &["kind"],
        "Cancellations that took effect, by kind.",
    ),
    metric(
        TIMER_LATENESS,
        MetricType::Histogram,
        &[],
        "How long after its time a timer fired.",
    ),
    metric(TICKS, MetricType::Counter, &[], "Ticks that tickers sent."),
    metric(
        TICKS_MISSED,
        MetricType::Counter,
        &[],
        "Ticks that nobody took in time.",
    ),
    metric(
        GROUP_TASKS,
        MetricType::Counter,
        &["group", "outcome"],
        "Tasks of groups that ended, by outcome.",
    ),
    metric(
        POOL_TASKS,
        MetricType::Counter,
        &["pool", "outcome"],
        "Tasks of pools that ended, by outcome.",
    ),
    metric(
        POOL_WORKERS,
        MetricType::Gauge,
        &["pool"],
        "Threads that serve the pool.",
    ),
    metric(
        POOL_QUEUE_DEPTH,
        MetricType::Gauge,
        &["pool"],
        "Tasks that wait for a worker of the pool.",
    ),
    metric(
        POOL_WAIT,
        MetricType::Histogram,
        &["pool"],
        "Time from a task's submission to its start.",
    ),
    metric(
        POOL_RUN,
        MetricType::Histogram,
        &["pool"],
        "Time from a task's start to its end.",
    ),
    metric(
        LOOP_PASSES,
        MetricType::Counter,
        &["loop"],
        "Passes of probed loops, told at breakpoints and at the end.",
    ),
    metric(
        LOOP_PASS,
        MetricType::Histogram,
        &["loop"],
        "How long the passes at breakpoints took.",
    ),
    metric(
        LOOP_EXITS,
        MetricType::Counter,
        &["loop", "reason"],
        "Probed loops that ended, by reason.",
    ),
    metric(
        SUPERVISED_RUNS,
        MetricType::Counter,
        &["supervisor", "child", "outcome"],
        "Runs of supervised loops that ended, by outcome.",
    ),
    metric(
        SUPERVISED_RESTARTS,
        MetricType::Counter,
        &["supervisor", "child"],
        "Restarts of supervised loops that ended.",
    ),
    metric(
        SUPERVISOR_GIVE_UPS,
        MetricType::Counter,
        &["supervisor"],
        "Supervisors that gave up.",
    ),
    metric(
        RETRIES,
        MetricType::Counter,
        &["retry"],
        "Attempts after the first, of retries and policies that have a name.",
    ),
    metric(
        RETRY_GIVE_UPS,
        MetricType::Counter,
        &["retry", "reason"],
        "Calls of which no attempt succeeded, by the reason why there was no other.",
    ),
    metric(
        TIMEOUTS,
        MetricType::Counter,
        &[],
        "Calls and attempts that failed when their time was up.",
    ),
    metric(
        POLICY_CALLS,
        MetricType::Counter,
        &["policy", "outcome"],
        "Calls under a policy that has a name, by outcome, before a fallback.",
    ),
    metric(
        POLICY_FALLBACKS,
        MetricType::Counter,
        &["policy"],
        "Calls that were handed to their fallback.",
    ),
    metric(
        BREAKER_STATE,
        MetricType::Gauge,
        &["breaker", "state"],
        "1 for the state that the breaker is in, 0 for the others.",
    ),
    metric(
        BREAKER_TRANSITIONS,
        MetricType::Counter,
        &["breaker", "to", "reason"],
        "Changes of a breaker's state, by the new one and by reason.",
    ),
    metric(
        BREAKER_REJECTIONS,
        MetricType::Counter,
        &["breaker"],
        "Calls that a breaker rejected.",
    ),
    metric(
        BULKHEAD_IN_USE,
        MetricType::Gauge,
        &["bulkhead"],
        "Permits of a bulkhead that are in use.",
    ),
    metric(
        BULKHEAD_REFUSED,
        MetricType::Counter,
        &["bulkhead"],
        "Calls that got no permit of a bulkhead.",
    ),
    metric(
        RATE_LIMITED,
        MetricType::Counter,
        &["limiter"],
        "Calls that a rate limiter refused.",
    ),
    metric(
        HEDGES,
        MetricType::Counter,
        &["hedge"],
        "Attempts beyond the first of a hedged call.",
    ),
    metric(
        HEDGES_WON,
        MetricType::Counter,
        &["hedge"],
        "Hedged calls that an attempt beyond the first has won.",
    ),
    metric(
        ADAPTIVE_LIMIT,
        MetricType::Gauge,
        &["limit"],
        "How many calls an adaptive limit lets through at a time.",
    ),
    metric(
        ABANDONED_CALLS,
        MetricType::Counter,
        &["abandoner"],
        "Calls that were left to their threads when they were late.",
    ),
    metric(
        ABANDONED_THREADS,
        MetricType::Gauge,
        &["abandoner"],
        "Threads of such calls that still run.",
    ),
    #[cfg(all(feature = "signal", unix))]
    metric(
        INTERRUPTS,
        MetricType::Counter,
        &["signal"],
        "Signals that were delivered to subscribers, by name.",
    ),
];

/// Tells the recorder what each of [`METRICS`] means, for the `# HELP` lines of Prometheus. Call it
/// once, after the recorder has been installed.
///
/// # Examples
///
/// ```
/// use cleanbreak::{CancelToken, Pool, Shutdown, observe};
/// use metrics_exporter_prometheus::PrometheusBuilder;
///
/// let prometheus = PrometheusBuilder::new().install_recorder().unwrap(); // first of all
/// observe::describe_metrics();
///
/// let pool = Pool::builder().name("thumbs").workers(1).build(&CancelToken::new()).unwrap();
/// pool.submit(|_| Ok(())).unwrap().join().unwrap();
/// pool.shutdown(Shutdown::Drain);
///
/// let text = prometheus.render();
/// assert!(text.contains("# HELP cleanbreak_pool_tasks_total Tasks of pools that ended"));
/// let completed = r#"cleanbreak_pool_tasks_total{pool="thumbs",outcome="completed"} 1"#;
/// assert!(text.contains(completed), "{text}");
/// ```
pub fn describe_metrics() {
    for metric in METRICS {
        let (name, help) = (metric.name, metric.help);
        match metric.kind {
            MetricType::Counter => describe_counter!(name, help),
            MetricType::Gauge => describe_gauge!(name, help),
            MetricType::Histogram => describe_histogram!(name, Unit::Seconds, help),
        }
    }
}
