//! Loops in traces. A hot loop of a million passes would drown any trace, so it makes spans only at
//! breakpoints: each n-th pass, the last, one that is over its time, an end that nobody meant. The
//! traps: spans that lose their parent when work moves to another thread; and an exporter that says
//! "ok" at the end although the collector was down, or hangs when the collector does.
//!
//! `cargo run --example loop_tracing --features tracing` starts a collector of its own on the
//! loopback interface, prints the tree of spans that arrived there, and fails if it is not the one
//! that the loops must make. With `OTEL_EXPORTER_OTLP_ENDPOINT` (or
//! `OTEL_EXPORTER_OTLP_TRACES_ENDPOINT`) it sends to that collector instead, by HTTP without TLS,
//! and fails if that does not take every span. Options: `--passes N` in all (1000000), `--every N`
//! of each worker (50000), `--flush MILLIS` for the last export (2000), and `--unparented`, which
//! spawns outside of the span: then it must fail.

mod client;
mod export;
mod options;
mod receiver;
mod tally;
mod tree;
mod verdict;
mod work;

use std::net::SocketAddr;

use anyhow::{Context, ensure};
use cleanbreak::{CancelToken, threads};
use opentelemetry::trace::TracerProvider;
use tracing_subscriber::layer::SubscriberExt;

use export::Export;
use options::Options;
use tree::Tree;

fn main() -> anyhow::Result<()> {
    let options = Options::from_arguments(std::env::args().skip(1))?;
    match export::endpoint_of_environment() {
        Some((variable, endpoint)) => {
            println!("collector: {endpoint}, as {variable} says");
            to_a_collector(&options, &endpoint)?;
        }
        None => to_ourselves(&options)?,
    }
    let left = threads::live();
    ensure!(left.is_empty(), "threads are left: {left:?}");
    Ok(())
}

fn to_a_collector(options: &Options, endpoint: &str) -> anyhow::Result<()> {
    // Better a word at the start than every span lost at the end.
    ensure!(
        !endpoint.starts_with("https:"),
        "{endpoint}: this example has no TLS; send to a collector nearby, and let that one have it"
    );
    traced(options, Export::start(None)?)
}

fn to_ourselves(options: &Options) -> anyhow::Result<()> {
    let (sent, received) = receiver::serve(|address: SocketAddr| {
        println!("collector: our own, at {address}");
        traced(options, Export::start(Some(address))?)
    })?;
    // What arrived is worth seeing in any case.
    let tree = Tree::grow(&received.requests);
    if let Ok(tree) = &tree {
        print!("{tree}");
    }
    sent?;
    let refused = &received.refused;
    ensure!(refused.is_empty(), "the collector refused: {refused:?}");
    let tree = tree.context("what arrived is no tree")?;
    verdict::judge(&tree, options)?;
    println!("all {} spans are where they belong", tree.len());
    Ok(())
}

/// The work, then what became of its spans.
fn traced(options: &Options, export: Export) -> anyhow::Result<()> {
    let tracer = export.provider().tracer("loop_tracing");
    let layer = tracing_opentelemetry::layer()
        .with_tracer(tracer)
        .with_level(true)
        .with_location(false)
        .with_tracked_inactivity(false);
    let subscriber = tracing_subscriber::registry().with(layer);
    tracing::subscriber::set_global_default(subscriber)?;

    let worked = work::run(options, &CancelToken::new());
    // Also when the work has failed: its trace is what one then wants.
    let flushed = export.finish(options.flush)?;
    println!("{flushed}");
    worked?;
    ensure!(
        flushed.complete(),
        "{} of {} spans did not arrive",
        flushed.missing(),
        flushed.ended
    );
    Ok(())
}
