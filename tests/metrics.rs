//! What the library tells the `metrics` facade, as Prometheus would read it.
//!
//! A binary of its own: there is one recorder for a process.

mod support;

use std::sync::LazyLock;

use cleanbreak::backoff::Backoff;
use cleanbreak::interrupt::{Interrupts, SIGUSR1};
use cleanbreak::observe::{self, METRICS, MetricType};
use cleanbreak::{
    Abandoner, AdaptiveLimit, Breaker, Bulkhead, CancelToken, ChildSpec, Clock, GroupBuilder,
    Hedge, MissedTicks, Policy, Pool, Quota, RateLimiter, Retry, SafeChannel, Shutdown, Supervisor,
    Ticker,
};
use crossbeam_channel::bounded;
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use parking_lot::{Mutex, MutexGuard};
use support::{in_time, secs, until_waiting};

static PROMETHEUS: LazyLock<PrometheusHandle> = LazyLock::new(|| {
    let handle = PrometheusBuilder::new().install_recorder().unwrap();
    observe::describe_metrics();
    handle
});

static ALONE: Mutex<()> = Mutex::new(());

/// The numbers are everybody's: one test at a time.
fn alone() -> MutexGuard<'static, ()> {
    LazyLock::force(&PROMETHEUS);
    ALONE.lock()
}

/// The value of a series, written as Prometheus does; zero if there is none.
fn value(series: &str) -> f64 {
    let text = PROMETHEUS.render();
    let line = text.lines().find_map(|line| {
        let (name, value) = line.rsplit_once(' ')?;
        (name == series).then(|| value.to_owned())
    });
    line.map_or(0.0, |value| value.parse().unwrap())
}

fn pool_tasks(pool: &str, outcome: &str) -> f64 {
    value(&format!(
        r#"cleanbreak_pool_tasks_total{{pool="{pool}",outcome="{outcome}"}}"#
    ))
}

fn of_pool(metric: &str, pool: &str) -> f64 {
    value(&format!(r#"cleanbreak_{metric}{{pool="{pool}"}}"#))
}

#[test]
fn a_pool_counts_its_tasks_by_outcome_as_its_report_does() {
    let _alone = alone();
    let pool = Pool::builder().name("outcomes").workers(2);
    let pool = pool.build(&CancelToken::new()).unwrap();
    for n in 0..30 {
        let task = move |_: &CancelToken| match n % 3 {
            0 => Ok(()),
            1 => anyhow::bail!("planted"),
            _ => std::panic::resume_unwind(Box::new("planted")),
        };
        drop(pool.submit(task).unwrap());
    }
    let report = pool.shutdown(Shutdown::Drain);
    assert_eq!(
        report.to_string(),
        "30 tasks: 10 completed, 10 failed, 10 panicked"
    );
    for outcome in ["completed", "failed", "panicked"] {
        assert_eq!(pool_tasks("outcomes", outcome), 10.0, "{outcome}");
    }
    assert_eq!(of_pool("pool_queue_depth", "outcomes"), 0.0);
    assert_eq!(of_pool("pool_workers", "outcomes"), 0.0);
    assert_eq!(of_pool("pool_wait_seconds_count", "outcomes"), 30.0);
    assert_eq!(of_pool("pool_run_seconds_count", "outcomes"), 30.0);
}

#[test]
fn the_depth_of_a_queue_is_what_waits_and_falls_when_it_is_cancelled_or_handed_back() {
    let _alone = alone();
    let token = CancelToken::new();
    let pool = Pool::builder().name("depth").workers(0).queue(3);
    let pool = pool.build(&token).unwrap();
    for _ in 0..3 {
        drop(pool.submit(|_| Ok(())).unwrap());
    }
    assert!(pool.try_submit(|_| Ok(())).unwrap_err().is_full());
    assert_eq!(of_pool("pool_queue_depth", "depth"), 3.0);
    token.cancel();
    assert_eq!(of_pool("pool_queue_depth", "depth"), 0.0);
    assert_eq!(pool_tasks("depth", "cancelled"), 3.0);

    let pool = Pool::builder().name("handed back").workers(0);
    let pool = pool.build(&CancelToken::new()).unwrap();
    drop(pool.submit(|_| Ok(())).unwrap());
    pool.shutdown(Shutdown::Abandon);
    assert_eq!(of_pool("pool_queue_depth", "handed back"), 0.0);
    assert_eq!(pool_tasks("handed back", "abandoned"), 1.0);
}

#[test]
fn a_group_counts_its_tasks_by_outcome() {
    let _alone = alone();
    let count = |outcome| {
        value(&format!(
            r#"cleanbreak_group_tasks_total{{group="batch",outcome="{outcome}"}}"#
        ))
    };
    let batch = GroupBuilder::new().name("batch").limit(1);
    let collecting = batch.clone().collect_errors().collect_panics();
    let ran =
        collecting.scope(&CancelToken::new(), |group| {
            drop(group.spawn(|_| Ok(()))?);
            drop(group.spawn(|_| -> anyhow::Result<()> { anyhow::bail!("planted") })?);
            drop(group.spawn(|_| -> anyhow::Result<()> {
                std::panic::resume_unwind(Box::new("planted"))
            })?);
            Ok(())
        });
    assert!(ran.is_ok());
    let failed = batch.scope(&CancelToken::new(), |group| {
        let (go, wait) = bounded::<()>(0);
        let first = group.spawn(move |_| -> anyhow::Result<()> {
            wait.recv().ok();
            anyhow::bail!("planted")
        })?;
        drop(group.spawn(|_| Ok(()))?); // behind it, with one thread
        drop((go, first));
        Ok(())
    });
    assert!(failed.is_err());
    assert_eq!(
        ["completed", "failed", "panicked", "cancelled"].map(count),
        [1.0, 2.0, 1.0, 1.0]
    );
}

#[test]
fn supervised_runs_are_counted_by_outcome_and_restarts_and_giving_up_are() {
    let _alone = alone();
    let runs = |outcome: &str| {
        value(&format!(
            r#"cleanbreak_supervised_runs_total{{supervisor="watch",child="flaky",outcome="{outcome}"}}"#
        ))
    };
    let flaky = ChildSpec::new("flaky", |cx| {
        cx.ready();
        match cx.restarts() {
            0 => anyhow::bail!("planted"),
            1 => std::panic::resume_unwind(Box::new("planted")),
            _ => Ok(()),
        }
    });
    let builder = Supervisor::builder().name("watch").intensity(2, secs(60));
    let builder = builder.backoff(Backoff::constant(secs(0))).on_event(|_| {});
    // It may give up before the start is seen to be one.
    if let Ok(supervisor) = builder.child(flaky).start(&CancelToken::new()) {
        assert!(supervisor.wait().check().is_err());
    }
    let outcomes = ["returned", "failed", "panicked", "cancelled"];
    assert_eq!(outcomes.map(runs), [1.0, 1.0, 1.0, 0.0]);
    let restarts = r#"cleanbreak_supervised_restarts_total{supervisor="watch",child="flaky"}"#;
    let give_ups = r#"cleanbreak_supervisor_give_ups_total{supervisor="watch"}"#;
    assert_eq!((value(restarts), value(give_ups)), (2.0, 1.0));
}

#[test]
fn cancellations_are_counted_once_each_by_kind_and_not_for_what_is_below_or_ends() {
    let _alone = alone();
    let kinds = || {
        ["cancelled", "deadline_exceeded"].map(|kind| {
            value(&format!(
                r#"cleanbreak_cancellations_total{{kind="{kind}"}}"#
            ))
        })
    };
    let before = kinds();
    let clock = Clock::manual();
    let root = CancelToken::with_clock(&clock);
    let children: Vec<_> = (0..10).map(|_| root.child()).collect();
    let timed = root.child_timeout(secs(1));
    clock.advance(secs(1));
    assert!(timed.is_cancelled());
    assert!(root.cancel());
    assert!(!root.cancel() && !children[0].cancel());
    // The routine end of a group is no cancellation.
    cleanbreak::scope(&CancelToken::new(), |_| Ok(())).unwrap();
    let after = kinds();
    assert_eq!([after[0] - before[0], after[1] - before[1]], [1.0, 1.0]);
}

#[test]
fn ticks_that_nobody_took_are_counted_as_missed_and_none_twice() {
    let _alone = alone();
    let counts =
        || ["ticks_total", "ticks_missed_total"].map(|m| value(&format!("cleanbreak_{m}")));
    for (policy, sent, missed, waiting) in [
        (MissedTicks::Skip, 13.0, 12.0, 1), // each replaces the one before
        (MissedTicks::Burst, 13.0, 0.0, 13),
        (MissedTicks::Delay, 1.0, 12.0, 1), // the first was never taken
    ] {
        let before = counts();
        let clock = Clock::manual();
        let ticker = Ticker::builder(secs(1)).clock(&clock).missed_ticks(policy);
        let ticker = ticker.start().unwrap();
        clock.advance(secs(10));
        clock.advance(secs(3));
        let after = counts();
        let told = [after[0] - before[0], after[1] - before[1]];
        assert_eq!(told, [sent, missed], "{policy:?}");
        assert_eq!(ticker.try_iter().count(), waiting, "{policy:?}");
    }
}

#[test]
fn live_threads_and_waits_are_those_of_the_library() {
    let _alone = alone();
    in_time(|| {
        let live = || value("cleanbreak_threads_live");
        let waits = || value(r#"cleanbreak_wait_seconds_count{on="receive from a channel"}"#);
        let (before, waited) = (live(), waits());
        let (tx, rx) = SafeChannel::bounded::<u8>(1);
        cleanbreak::scope(&CancelToken::new(), |group| {
            group.spawn_named("metered", move |_| Ok(rx.recv().is_ok()))?;
            until_waiting("metered");
            assert!(live() >= before + 1.0);
            tx.send(1)?;
            Ok(())
        })
        .unwrap();
        assert_eq!(waits(), waited + 1.0);
    });
}

/// Of a metric of the library with these labels.
fn labelled(metric: &str, label: &str) -> f64 {
    value(&format!("cleanbreak_{metric}{{{label}}}"))
}

#[test]
fn a_breakers_state_is_one_of_six_series_and_its_transitions_and_rejections_are_counted() {
    let _alone = alone();
    let clock = Clock::manual();
    let breaker = Breaker::builder().name("metered").consecutive_failures(1);
    let breaker = breaker.open_for(secs(1)).clock(&clock).build().unwrap();
    let states = || {
        let all = [
            "closed",
            "open",
            "half_open",
            "forced_open",
            "disabled",
            "metrics_only",
        ];
        all.map(|state| {
            labelled(
                "breaker_state",
                &format!(r#"breaker="metered",state="{state}""#),
            )
        })
    };
    let changes = |to: &str, reason: &str| {
        let labels = format!(r#"breaker="metered",to="{to}",reason="{reason}""#);
        labelled("breaker_transitions_total", &labels)
    };
    assert_eq!(states(), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    breaker.acquire().unwrap().failure();
    assert_eq!(states(), [0.0, 1.0, 0.0, 0.0, 0.0, 0.0]);
    (0..100).for_each(|_| assert!(breaker.acquire().is_err()));
    clock.advance(secs(1));
    breaker.acquire().unwrap().success();
    assert_eq!(states(), [1.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(
        labelled("breaker_rejections_total", r#"breaker="metered""#),
        100.0
    );
    assert_eq!(changes("open", "consecutive_failures"), 1.0);
    assert_eq!(changes("half_open", "open_time_over"), 1.0);
    assert_eq!(changes("closed", "probes_succeeded"), 1.0);
    // Without a name it is in none.
    Breaker::builder().build().unwrap().trip();
    assert!(!PROMETHEUS.render().contains(r#"breaker="breaker""#));
}

#[test]
fn calls_under_a_policy_are_counted_by_outcome_with_retries_give_ups_timeouts_and_fallbacks() {
    let _alone = alone();
    let outcomes = |outcome: &str| {
        let labels = format!(r#"policy="stock",outcome="{outcome}""#);
        labelled("policy_calls_total", &labels)
    };
    let timeouts = value("cleanbreak_timeouts_total");
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    let bulkhead = Bulkhead::new(1).named("stock").with_queue(0);
    let limiter = RateLimiter::with_clock(Quota::per_second(1).burst(8), &clock).named("stock");
    let retry = Retry::builder()
        .attempts(2)
        .backoff(Backoff::constant(secs(0)));
    let policy = Policy::<&str>::builder().name("stock").retry(retry);
    let policy = policy
        .bulkhead(&bulkhead)
        .rate_limit(&limiter)
        .max_wait(secs(0));
    let policy = policy.attempt_timeout(secs(1)).build().unwrap();
    let in_use = || labelled("bulkhead_in_use", r#"bulkhead="stock""#);
    let during = policy.call(&token, |_| Ok(in_use())).unwrap();
    assert_eq!((during, in_use()), (1.0, 0.0));
    let fallback = policy.call_or(&token, |_| Err(()).map_err(|()| "down"), |_| Ok(7));
    assert_eq!(fallback.unwrap(), 7);
    let late = policy.call(&token, |attempt| {
        clock.advance(attempt.remaining().unwrap());
        Err::<(), _>("late")
    });
    assert!(late.unwrap_err().is_timeout());
    let busy = bulkhead.try_acquire().unwrap();
    assert!(policy.call(&token, |_| Ok(())).unwrap_err().is_refused());
    drop(busy);
    while limiter.try_acquire().is_ok() {}
    assert!(policy.call(&token, |_| Ok(())).unwrap_err().is_refused());
    token.cancel();
    assert!(policy.call(&token, |_| Ok(())).unwrap_err().is_cancelled());
    let all = [
        "succeeded",
        "failed",
        "timed_out",
        "full",
        "rate_limited",
        "cancelled",
    ];
    assert_eq!(all.map(outcomes), [1.0; 6]);
    assert_eq!(labelled("policy_fallbacks_total", r#"policy="stock""#), 1.0);
    assert_eq!(labelled("retries_total", r#"retry="stock""#), 2.0);
    let give_ups = |reason: &str| {
        labelled(
            "retry_give_ups_total",
            &format!(r#"retry="stock",reason="{reason}""#),
        )
    };
    assert_eq!(
        ["attempts", "not_retryable", "cancelled"].map(give_ups),
        [2.0, 2.0, 1.0]
    );
    assert_eq!(
        labelled("bulkhead_refused_total", r#"bulkhead="stock""#),
        1.0
    );
    assert_eq!(labelled("rate_limited_total", r#"limiter="stock""#), 2.0);
    assert_eq!(value("cleanbreak_timeouts_total") - timeouts, 2.0);
}

#[test]
fn hedges_an_adaptive_limit_and_abandoned_threads_are_told() {
    let _alone = alone();
    in_time(|| {
        let token = CancelToken::new();
        let hedge = Hedge::after(secs(0)).name("replicas").build();
        let started = std::sync::atomic::AtomicU32::new(0);
        let won = hedge.call(&token, |attempt| {
            match started.fetch_add(1, std::sync::atomic::Ordering::Relaxed) {
                0 => attempt.sleep(secs(3600)).map(|()| 1),
                _ => Ok(2),
            }
        });
        assert_eq!(won.unwrap(), 2);
        assert_eq!(labelled("hedges_total", r#"hedge="replicas""#), 1.0);
        let stats = hedge.stats().won as f64;
        assert_eq!(labelled("hedges_won_total", r#"hedge="replicas""#), stats);

        let limit = AdaptiveLimit::aimd().name("disk").initial(8).build();
        let told = || labelled("adaptive_limit", r#"limit="disk""#);
        assert_eq!(told(), 8.0);
        limit.try_acquire().unwrap().overloaded();
        assert_eq!((told(), limit.limit()), (4.0, 4));

        let (hang, hangs) = bounded::<()>(0);
        let abandoner = Abandoner::builder().name("lookups").build();
        let threads = || labelled("abandoned_threads", r#"abandoner="lookups""#);
        // Its time is up when it has begun, and not before, on however busy a machine.
        let (clock, (begins, has_begun)) = (Clock::manual(), bounded(1));
        let timed = CancelToken::with_clock(&clock);
        let late = std::thread::scope(|s| {
            s.spawn(|| has_begun.recv().map(|()| clock.advance(secs(1))));
            abandoner.abandon_after(&timed, secs(1), move |_| {
                begins.send(()).ok();
                hangs.recv().ok();
                Ok::<_, ()>(())
            })
        });
        assert!(late.is_err());
        assert_eq!(threads(), 1.0);
        drop(hang);
        support::until(|| threads() == 0.0);
        assert_eq!(
            labelled("abandoned_calls_total", r#"abandoner="lookups""#),
            1.0
        );
    });
}

#[test]
fn a_signal_is_counted_by_its_name() {
    let _alone = alone();
    let series = r#"app_interrupt_total{signal="SIGUSR1"}"#;
    let before = value(series);
    in_time(move || {
        let signals = Interrupts::subscribe(&[SIGUSR1]).unwrap();
        for _ in 0..3 {
            signal_hook::low_level::raise(SIGUSR1).unwrap();
            signals.recv().unwrap();
        }
        drop(signals); // joins the thread that counts
        assert_eq!(value(series), before + 3.0);
    });
}

/// A call under a policy that every part of it has refused once.
fn tell_of_calls(token: &CancelToken) {
    let breaker = Breaker::builder().name("told").build().unwrap();
    let bulkhead = Bulkhead::new(0).named("told").with_queue(0);
    let limiter = RateLimiter::new(Quota::new(1, secs(3600))).named("told");
    let retry = Retry::builder()
        .attempts(2)
        .backoff(Backoff::constant(secs(0)));
    let policy = Policy::builder()
        .name("told")
        .retry(retry)
        .max_wait(secs(0));
    let policy = policy
        .breaker(&breaker)
        .bulkhead(&bulkhead)
        .rate_limit(&limiter);
    let policy = policy.build().unwrap();
    let call = || {
        policy
            .call_or(token, |_| Err::<(), _>("down"), Err)
            .unwrap_err()
    };
    assert!(call().is_refused());
    limiter.try_acquire().ok();
    assert!(call().is_refused());
    bulkhead.resize(1);
    breaker.force_open();
    assert!(call().is_refused());
    breaker.reset();
    let retry = Retry::builder()
        .name("told")
        .attempts(2)
        .backoff(Backoff::constant(secs(0)));
    assert!(
        retry
            .build()
            .unwrap()
            .call(token, |_| Err::<(), _>("down"))
            .is_err()
    );
    drop(AdaptiveLimit::aimd().name("told").build());
}

#[test]
fn every_series_is_of_a_metric_that_is_described_and_of_its_type() {
    let _alone = alone();
    let clock = Clock::isolated();
    let token = CancelToken::with_clock(&clock);
    assert!(
        token
            .child_timeout(support::millis(1))
            .wait_timeout(secs(60))
    );
    tell_of_calls(&token);
    let text = PROMETHEUS.render();
    let named = |name: &str| METRICS.iter().find(|metric| metric.name == name);
    let mut types = 0;
    for line in text.lines().filter_map(|line| line.strip_prefix("# TYPE ")) {
        let (name, kind) = line.split_once(' ').unwrap();
        let metric = named(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        let expected = match metric.kind {
            MetricType::Counter => "counter",
            MetricType::Gauge => "gauge",
            _ => "summary", // what the exporter makes of a histogram without buckets
        };
        assert_eq!(kind, expected, "{name}");
        assert!(text.contains(&format!("# HELP {name} ")), "{name}");
        types += 1;
    }
    assert!(types >= 12, "{text}");
    for line in text.lines().filter(|line| line.starts_with("cleanbreak_")) {
        let (name, labels) = line.split_once('{').unwrap_or((line, ""));
        let name = name.split(' ').next().unwrap();
        let name = name.trim_end_matches("_count").trim_end_matches("_sum");
        let metric = named(name).unwrap_or_else(|| panic!("{name} is not in the table"));
        for label in metric.labels {
            assert!(labels.contains(&format!("{label}=\"")), "{line}");
        }
        let summary = metric.kind == MetricType::Histogram && labels.contains("quantile=");
        let count = labels.matches("=\"").count() - usize::from(summary);
        assert_eq!(count, metric.labels.len(), "{line}");
    }
    let names: std::collections::BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
    assert_eq!(names.len(), METRICS.len());
    for metric in METRICS {
        let total = metric.name.ends_with("_total");
        assert_eq!(total, metric.kind == MetricType::Counter, "{}", metric.name);
        let seconds = metric.name.ends_with("_seconds");
        assert_eq!(
            seconds,
            metric.kind == MetricType::Histogram,
            "{}",
            metric.name
        );
    }
}
