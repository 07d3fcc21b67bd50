//! From spans to the collector: the SDK's batch processor on its own thread, an exporter that
//! counts, and a last flush that has a bound.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use cleanbreak::{CancelToken, Clock, scope};
use opentelemetry::Key;
use opentelemetry_otlp::{RetryPolicy, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::error::OTelSdkResult;
use opentelemetry_sdk::trace::{BatchSpanProcessor, SdkTracerProvider};

use super::client::{CONNECT, Client};
use super::tally::{Ended, Exported, Tally};

const ENDPOINTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT",
    "OTEL_EXPORTER_OTLP_ENDPOINT",
];

const TIMEOUTS: [&str; 2] = [
    "OTEL_EXPORTER_OTLP_TRACES_TIMEOUT",
    "OTEL_EXPORTER_OTLP_TIMEOUT",
];

/// If the environment names none.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How long the exporting thread may take to notice that it has been stopped: as long as what
/// nothing interrupts, and a little.
const GRACE: Duration = CONNECT.saturating_add(Duration::from_millis(500));

/// The first of these variables that says something.
fn environment(names: &[&'static str]) -> Option<(&'static str, String)> {
    names.iter().find_map(|name| {
        let value = std::env::var(name).ok()?;
        (!value.trim().is_empty()).then_some((*name, value))
    })
}

pub(crate) fn endpoint_of_environment() -> Option<(&'static str, String)> {
    environment(&ENDPOINTS)
}

/// What becomes of the spans.
pub(crate) struct Export {
    provider: SdkTracerProvider,
    tally: Arc<Tally>,
    stop: CancelToken,
}

impl Export {
    /// To this address; without one, to where the environment says.
    pub(crate) fn start(address: Option<SocketAddr>) -> anyhow::Result<Self> {
        let tally = Arc::new(Tally::default());
        let stop = CancelToken::new();
        let mut exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Client::new(timeout()?, &stop, &tally))
            .with_retry_policy(RetryPolicy::disabled()); // ours can be told to stop
        if let Some(address) = address {
            exporter = exporter.with_endpoint(format!("http://{address}/v1/traces"));
        }
        let exporter = Exported {
            next: exporter.build()?,
            tally: tally.clone(),
        };
        let processor = Ended {
            next: BatchSpanProcessor::builder(exporter).build(),
            tally: tally.clone(),
        };
        let provider = SdkTracerProvider::builder()
            .with_resource(resource())
            .with_span_processor(processor)
            .build();
        Ok(Self {
            provider,
            tally,
            stop,
        })
    }

    pub(crate) fn provider(&self) -> &SdkTracerProvider {
        &self.provider
    }

    /// Sends what is left, for as long as `bound`; then stops the exporting thread, and joins it.
    pub(crate) fn finish(self, bound: Duration) -> anyhow::Result<Flushed> {
        let clock = Clock::system();
        let begun = clock.now();
        let ended = CancelToken::new();
        let (shutdown, in_time) = scope(&CancelToken::new(), |group| {
            let guard = ended.clone().drop_guard();
            let shutdown = group.spawn_named("flush", move |_| {
                let _ended = guard; // also by a panic
                Ok(self
                    .provider
                    .shutdown_with_timeout(bound.saturating_add(GRACE)))
            })?;
            let in_time = ended.wait_timeout(bound);
            if !in_time {
                let why = format!("the last flush took longer than {} ms", bound.as_millis());
                self.stop.cancel_with(why);
            }
            Ok((shutdown.join()?, in_time))
        })?;
        let took = clock.now().duration_since(begun);
        Ok(Flushed::of(&self.tally, shutdown, in_time, took))
    }
}

/// For one export, in milliseconds.
fn timeout() -> anyhow::Result<Duration> {
    let Some((name, millis)) = environment(&TIMEOUTS) else {
        return Ok(TIMEOUT);
    };
    let millis = millis.trim().parse();
    let millis = millis.with_context(|| format!("{name} is not a number of milliseconds"))?;
    Ok(Duration::from_millis(millis))
}

/// Who we are, as the environment says, or by the name of the example.
fn resource() -> Resource {
    let told = Resource::builder().build();
    let name = told.get(&Key::from_static_str("service.name"));
    let unknown = name.is_none_or(|name| name.as_str().starts_with("unknown_service"));
    match unknown {
        true => Resource::builder()
            .with_service_name("loop_tracing")
            .build(),
        false => told,
    }
}

/// The exit report: what became of every span.
pub(crate) struct Flushed {
    pub(crate) ended: u64,
    delivered: u64,
    rejected: u64,
    failed: u64,
    in_time: bool,
    took: Duration,
    shutdown: OTelSdkResult,
    why: Option<String>,
}

impl Flushed {
    fn of(tally: &Tally, shutdown: OTelSdkResult, in_time: bool, took: Duration) -> Self {
        Self {
            ended: tally.ended(),
            delivered: tally.delivered(),
            rejected: tally.rejected(),
            failed: tally.failed(),
            in_time,
            took,
            shutdown,
            why: tally.why(),
        }
    }

    pub(crate) fn missing(&self) -> u64 {
        self.ended.saturating_sub(self.delivered)
    }

    pub(crate) fn complete(&self) -> bool {
        self.missing() == 0 && self.shutdown.is_ok()
    }
}

impl fmt::Display for Flushed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            ended,
            delivered,
            rejected,
            failed,
            ..
        } = self;
        // Dropped at a full queue, or never handed to the exporter.
        let unsent = self.missing().saturating_sub(rejected + failed);
        write!(
            f,
            "spans: {ended} ended, {delivered} delivered, {rejected} rejected, "
        )?;
        writeln!(f, "{failed} lost on the way, {unsent} never sent")?;
        if let Some(why) = &self.why {
            writeln!(f, "last trouble: {why}")?;
        }
        let how = if self.in_time { "ended" } else { "stopped" };
        write!(f, "flush: {how} after {} ms, ", self.took.as_millis())?;
        match &self.shutdown {
            Ok(()) => write!(f, "the exporting thread is joined"),
            Err(error) => write!(f, "the exporting thread is still alive: {error}"),
        }
    }
}
