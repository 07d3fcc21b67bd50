//! What probed loops and inherited spans look like to a subscriber.
//!
//! A binary of its own: the subscriber is the process's. Each test finds its own by name.

mod support;

use std::collections::BTreeMap;
use std::fmt::Debug;
use std::sync::LazyLock;

use cleanbreak::flow::Exit;
use cleanbreak::{
    CancelToken, ChildSpec, Clock, Pool, Probe, Shutdown, Supervisor, ThreadCache, scope,
};
use parking_lot::Mutex;
use support::{payload_of, secs, until};
use tracing::field::{Field, Visit};
use tracing::span::{Attributes, Id};
use tracing::{Level, Subscriber, info_span};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt};
use tracing_subscriber::registry::LookupSpan;

type Fields = BTreeMap<&'static str, String>;

#[derive(Clone, Debug)]
struct Seen {
    name: &'static str,
    level: Level,
    fields: Fields,
    /// Names of the spans around it, the nearest first.
    parents: Vec<&'static str>,
}

static SEEN: LazyLock<Mutex<Vec<Seen>>> = LazyLock::new(|| {
    let subscriber = tracing_subscriber::registry().with(Recorder);
    tracing::subscriber::set_global_default(subscriber).unwrap();
    Mutex::default()
});

/// Names of spans that have been closed.
static CLOSED: Mutex<Vec<&'static str>> = Mutex::new(Vec::new());

struct Recorder;

struct Collect<'a>(&'a mut Fields);

impl Visit for Collect<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0.insert(field.name(), format!("{value:?}"));
    }

    fn record_u64(&mut self, field: &Field, _value: u64) {
        panic!("{field}: to OpenTelemetry this would be text");
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.0.insert(field.name(), value.to_owned());
    }
}

impl<S: Subscriber + for<'a> LookupSpan<'a>> Layer<S> for Recorder {
    fn on_new_span(&self, attributes: &Attributes<'_>, id: &Id, context: Context<'_, S>) {
        let mut fields = Fields::new();
        attributes.record(&mut Collect(&mut fields));
        let span = context.span(id).unwrap();
        let parents = span.scope().skip(1).map(|parent| parent.name()).collect();
        let metadata = attributes.metadata();
        SEEN.lock().push(Seen {
            name: metadata.name(),
            level: *metadata.level(),
            fields,
            parents,
        });
    }

    fn on_close(&self, id: Id, context: Context<'_, S>) {
        let span = context.span(&id).unwrap();
        CLOSED.lock().push(span.name());
    }

    fn on_event(&self, event: &tracing::Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::new();
        event.record(&mut Collect(&mut fields));
        let scope = context.event_scope(event);
        let parents = scope
            .into_iter()
            .flatten()
            .map(|span| span.name())
            .collect();
        SEEN.lock().push(Seen {
            name: "event",
            level: *event.metadata().level(),
            fields,
            parents,
        });
    }
}

fn of_loop(name: &str) -> Vec<Seen> {
    let seen = SEEN.lock();
    let mine = seen
        .iter()
        .filter(|seen| seen.fields.get("loop.name").is_some_and(|n| n == name));
    mine.cloned().collect()
}

/// An event that can be found again.
fn note(name: &str, what: &str) -> anyhow::Result<()> {
    tracing::info!({ "loop.name" = name, what = what }, "noted");
    Ok(())
}

/// The named attributes of a span, those that it has.
fn attributes(seen: &Seen, names: &[&'static str]) -> Vec<String> {
    names
        .iter()
        .filter_map(|name| seen.fields.get(name).cloned())
        .collect()
}

#[test]
fn a_million_passes_make_a_span_at_breakpoints_and_one_at_the_end() {
    LazyLock::force(&SEEN);
    let probe = Probe::builder("million").every(250_000).total(1_000_000);
    let mut probe = probe.start().unwrap();
    for _ in 0..1_000_000 {
        probe.pass();
    }
    probe.finish::<()>(&Exit::Closed);
    let seen = of_loop("million");
    let names = [
        "loop.iteration",
        "loop.is_breakpoint",
        "loop.is_last",
        "loop.exit",
    ];
    let told: Vec<_> = seen.iter().map(|seen| attributes(seen, &names)).collect();
    assert_eq!(
        told,
        [
            vec!["250000", "true", "false"],
            vec!["500000", "true", "false"],
            vec!["750000", "true", "false"],
            vec!["1000000", "true", "false"],
            vec!["1000000", "false", "true", "closed"],
        ]
    );
    for seen in &seen {
        assert_eq!((seen.name, seen.level), ("loop.pass", Level::INFO));
        let names = ["loop.total_count", "loop.interval"];
        assert_eq!(attributes(seen, &names), ["1000000", "250000"]);
    }
}

#[test]
fn what_happens_in_a_breakpoints_pass_is_inside_its_span_and_what_follows_is_not() {
    LazyLock::force(&SEEN);
    let mut probe = Probe::builder("inside").every(2).start().unwrap();
    for n in 1..=4 {
        probe.pass();
        note("work inside", &n.to_string()).unwrap();
    }
    probe.idle();
    note("work inside", "idle").unwrap();
    probe.finish_with("done");
    let around: Vec<_> = of_loop("work inside")
        .into_iter()
        .map(|seen| seen.parents)
        .collect();
    let pass = vec!["loop.pass"];
    assert_eq!(around, [vec![], pass.clone(), vec![], pass, vec![]]);
}

#[test]
fn abnormal_ends_are_warnings_with_their_reason() {
    LazyLock::force(&SEEN);
    let probe = Probe::new("abandoned");
    drop(probe);
    payload_of(|| {
        let mut probe = Probe::new("panicked");
        probe.pass();
        std::panic::resume_unwind(Box::new("planted"));
    });
    let token = CancelToken::new();
    token.cancel();
    Probe::new("cancelled").finish::<()>(&token.check().unwrap_err().into());
    for (name, level) in [
        ("abandoned", Level::WARN),
        ("panicked", Level::WARN),
        ("cancelled", Level::INFO),
    ] {
        let seen = of_loop(name);
        assert_eq!(seen.len(), 1, "{name}");
        assert_eq!(seen[0].level, level, "{name}");
        assert_eq!(
            attributes(&seen[0], &["loop.exit", "loop.is_last"]),
            [name, "true"]
        );
        let status = attributes(&seen[0], &["otel.status_code"]);
        assert_eq!(status.is_empty(), level == Level::INFO, "{status:?}");
    }
}

#[test]
fn a_slow_pass_is_an_event_while_it_runs_and_a_span_when_it_has_ended() {
    LazyLock::force(&SEEN);
    let clock = Clock::manual();
    let mut probe = Probe::builder("slow")
        .clock(&clock)
        .slow_after(secs(8))
        .start()
        .unwrap();
    probe.pass();
    clock.advance(secs(20));
    let event = of_loop("slow").pop().unwrap();
    assert_eq!((event.name, event.level), ("event", Level::WARN));
    assert_eq!(
        attributes(&event, &["loop.iteration", "loop.slow_ms"]),
        ["1", "8000.0"]
    );
    probe.pass();
    let span = of_loop("slow").pop().unwrap();
    assert_eq!((span.name, span.level), ("loop.pass", Level::WARN));
    assert_eq!(
        attributes(&span, &["loop.iteration", "loop.slow_ms"]),
        ["1", "19000.0"]
    );
    probe.finish_with("done");
    assert_eq!(of_loop("slow").len(), 3);
}

#[test]
fn a_slow_pass_is_told_in_the_span_that_its_probe_was_started_in_if_that_is_open() {
    LazyLock::force(&SEEN);
    let clock = Clock::manual();
    let start = |name: &str| {
        let probe = Probe::builder(name).clock(&clock).slow_after(secs(8));
        probe.start().unwrap()
    };
    let span = info_span!("slow inside").entered();
    let (mut inside, mut outlives) = (start("told inside"), start("told outside"));
    inside.pass();
    clock.advance(secs(20));
    drop(span);
    // A probe that lives on does not hold it open.
    assert!(CLOSED.lock().contains(&"slow inside"));
    outlives.pass();
    clock.advance(secs(20));
    let parents = |name| of_loop(name).remove(0).parents;
    assert_eq!(parents("told inside"), ["slow inside"]);
    assert!(parents("told outside").is_empty());
    inside.finish_with("done");
    outlives.finish_with("done");
}

#[test]
fn a_handle_that_is_kept_does_not_hold_the_span_open() {
    LazyLock::force(&SEEN);
    let pool = Pool::builder().workers(1);
    let pool = pool.build(&CancelToken::new()).unwrap();
    let span = info_span!("of a job").entered();
    let job = pool.submit(|_| Ok(1)).unwrap();
    until(|| job.is_finished());
    drop(span);
    assert!(CLOSED.lock().contains(&"of a job"));
    assert_eq!(job.join().unwrap(), 1);
    scope(&CancelToken::new(), |group| {
        let span = info_span!("of a task").entered();
        let task = group.spawn(|_| Ok(2))?;
        until(|| task.is_finished());
        drop(span);
        assert!(CLOSED.lock().contains(&"of a task"));
        assert_eq!(task.join()?, 2);
        Ok(())
    })
    .unwrap();
}

#[test]
fn tasks_run_inside_the_span_that_spawned_or_submitted_them_and_threads_keep_none() {
    LazyLock::force(&SEEN);
    let cache = ThreadCache::new();
    let pool = Pool::builder()
        .workers(1)
        .build(&CancelToken::new())
        .unwrap();
    let builder = cleanbreak::GroupBuilder::new().cache(&cache);
    {
        let _request = info_span!("request").entered();
        scope(&CancelToken::new(), |group| {
            group.spawn(move |_| note("inherits", "own thread"))?;
            Ok(())
        })
        .unwrap();
        let warm = builder.scope(&CancelToken::new(), |group| {
            group.spawn(move |_| note("inherits", "warm thread"))?;
            Ok(())
        });
        warm.unwrap();
        pool.submit(move |_| note("inherits", "pool"))
            .unwrap()
            .join()
            .unwrap();
    }
    let loops = {
        let _service = info_span!("service").entered();
        let child = ChildSpec::new("child", |cx| {
            note("inherits", &format!("run {}", cx.restarts()))?;
            cx.ready();
            cx.token().wait();
            Ok(())
        });
        Supervisor::builder()
            .child(child)
            .start(&CancelToken::new())
            .unwrap()
    };
    loops.restart_child("child").unwrap();
    loops.shutdown();
    // The same threads, now without a span.
    let warm = builder.scope(&CancelToken::new(), |group| {
        group.spawn(move |_| note("inherits", "warm thread again"))?;
        Ok(())
    });
    warm.unwrap();
    pool.submit(move |_| note("inherits", "pool again"))
        .unwrap()
        .join()
        .unwrap();
    pool.shutdown(Shutdown::Drain);
    let seen: BTreeMap<_, _> = of_loop("inherits")
        .into_iter()
        .map(|seen| (seen.fields["what"].clone(), seen.parents))
        .collect();
    for what in ["own thread", "warm thread", "pool"] {
        assert_eq!(seen[what], ["request"], "{what}");
    }
    for what in ["run 0", "run 1"] {
        assert_eq!(seen[what], ["service"], "{what}");
    }
    for what in ["warm thread again", "pool again"] {
        assert!(seen[what].is_empty(), "{what}");
    }
}
