//! The wiring.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use anyhow::{Context as _, ensure};
use cleanbreak::interrupt::{Interrupts, SIGINT, SIGTERM, cause_exit_status};
use cleanbreak::{CancelToken, Clock, scope, threads};

use super::chart::draw;
use super::check::check;
use super::client::Client;
use super::options::{HELP, Options};
use super::record::{Answer, Pace, Record};
use super::script::{END, PHASES};
use super::upstream::Upstream;

/// Loops that share the policy.
const LOOPS: usize = 4;

pub(crate) fn main() -> ExitCode {
    let ran = match Options::parse(std::env::args().skip(1)) {
        Ok(Some(options)) => run(&options),
        Ok(None) => {
            print(HELP);
            return ExitCode::SUCCESS;
        }
        Err(problem) => {
            complain(format_args!("{problem:#} (see --help)"));
            return ExitCode::from(2);
        }
    };
    ran.unwrap_or_else(|error| {
        complain(format_args!("{error:#}"));
        ExitCode::FAILURE
    })
}

fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let service = CancelToken::new();
    let stop = Interrupts::cancel_on(&service, &[SIGINT, SIGTERM])?;
    let listener = TcpListener::bind("127.0.0.1:0")?;
    let address = listener.local_addr()?;
    print(format_args!(
        "{END} seconds of script in {:.1}; Ctrl-C ends it with what it has",
        END / f64::from(options.speed)
    ));
    for phase in &PHASES {
        print(format_args!(
            "{:6.2} s  (upstream: {})",
            phase.from, phase.name
        ));
    }
    let pace = Pace::new(&Clock::system(), options.speed);
    let record = Arc::new(Record::default());
    let upstream = Upstream {
        pace: pace.clone(),
        seed: options.seed,
        requests: AtomicU64::new(0),
    };
    let client = Client::new(address, options, &pace, &record)?;
    let ran = scope(&service, |group| {
        let serving = CancelToken::new(); // longer than the clients, as a server does
        let closing = serving.clone().drop_guard();
        let upstream = &upstream;
        group.spawn_named("upstream", move |_| upstream.serve(listener, &serving))?;
        let loops = scope(group.token(), |group| {
            for number in 0..LOOPS {
                let client = &client;
                group.spawn_named(&format!("client {number}"), |token| client.run(token))?;
            }
            Ok(())
        });
        drop(closing);
        loops
    });
    let ended = pace.now();
    drop((client, stop));
    let told = service.cause().and_then(|cause| cause_exit_status(&cause));
    if told.is_none() {
        ran?;
    }
    report(&record, upstream.requests.load(Ordering::Relaxed));
    let chart = draw(&record, ended.min(END));
    fs::write(&options.chart, chart).with_context(|| options.chart.display().to_string())?;
    print(format_args!("the chart is in {}", options.chart.display()));
    ensure!(threads::live().is_empty(), "left: {:?}", threads::live());
    if let Some(status) = told {
        print("stopped by a signal: nothing is checked");
        return Ok(ExitCode::from(status));
    }
    check(&record, upstream.requests.load(Ordering::Relaxed))?;
    print("all that must hold held");
    Ok(ExitCode::SUCCESS)
}

fn report(record: &Record, requests: u64) {
    let (calls, tries) = (record.calls.lock(), record.tries.lock());
    let by_upstream = calls
        .iter()
        .filter(|call| call.answer == Answer::FromUpstream);
    let (good, all) = (by_upstream.count(), calls.len());
    let failed = tries.iter().filter(|attempt| attempt.failed).count();
    let late = tries.iter().filter(|attempt| attempt.timed_out).count();
    print(format_args!(
        "{all} calls: {good} answered by the upstream, {} by the fallback",
        all - good
    ));
    print(format_args!(
        "{} attempts, {failed} failed, {late} of them timed out; {requests} requests reached the upstream",
        tries.len()
    ));
}

fn print(line: impl fmt::Display) {
    writeln!(io::stdout(), "{line}").ok();
}

fn complain(line: fmt::Arguments<'_>) {
    writeln!(io::stderr(), "flaky_client: {line}").ok();
}
