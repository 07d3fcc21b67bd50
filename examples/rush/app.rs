//! The wiring.

use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context as _, ensure};
#[cfg(unix)]
use cleanbreak::interrupt::{Interrupts, SIGINT, SIGTERM, cause_exit_status};
use cleanbreak::{CancelToken, threads};

use super::chart::draw;
use super::load::{Request, TIMES, USUAL, requests};
use super::options::{HELP, Options};
use super::service::{DEADLINE, Service, WORK, WORKERS};
use super::tally::{Served, Tally};

/// By what they do; the first sheds nothing.
pub(crate) const NAMES: [&str; 3] = ["takes all", "bulkhead", "shares + bulkhead"];

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
    let token = CancelToken::new();
    #[cfg(unix)]
    let stop = Interrupts::cancel_on(&token, &[SIGINT, SIGTERM])?;
    // The workers sleep for each request: without this, each would start and join a timer thread.
    let timer = token.clock().keep_timer()?;
    let part = options.part.as_secs();
    let most = WORKERS as u128 * 1000 / WORK.as_millis();
    print(format_args!(
        "{part} s with {} requests a second, {part} s with {USUAL}; a service does {most}, and a caller waits {} ms",
        USUAL * TIMES,
        DEADLINE.as_millis()
    ));
    let mut pace = 1;
    let checked = 'trying: loop {
        let run = rush(options, pace, &token)?;
        table(&run.served);
        let chart = draw(&run.served, options.part);
        fs::write(&options.chart, chart).with_context(|| options.chart.display().to_string())?;
        print(format_args!("the chart is in {}", options.chart.display()));
        let checked = check(&run.served, run.asked);
        let busy = run.lag > DEADLINE / 4 && pace < SLOWEST;
        if token.is_cancelled() || checked.is_ok() || !busy {
            break 'trying checked;
        }
        pace *= 2;
        print(format_args!(
            "the machine was {} ms late, so this shows nothing: again, {pace} times slower",
            run.lag.as_millis()
        ));
    };
    #[cfg(unix)]
    drop(stop);
    drop(timer);
    ensure!(threads::live().is_empty(), "left: {:?}", threads::live());
    #[cfg(unix)]
    if let Some(status) = token.cause().and_then(|cause| cause_exit_status(&cause)) {
        print("stopped by a signal: nothing is checked");
        return Ok(ExitCode::from(status));
    }
    checked?;
    print("all that must hold held");
    Ok(ExitCode::SUCCESS)
}

/// How many times slower than its numbers say it is tried, on a machine that is too busy for them.
const SLOWEST: u32 = 16;

struct Run {
    served: [Vec<Served>; 3],
    /// Requests.
    asked: usize,
    /// The latest that anything was, beyond its time.
    lag: Duration,
}

/// Asks every service for every request when its time has come.
fn rush(options: &Options, pace: u32, token: &CancelToken) -> anyhow::Result<Run> {
    let [all, bulkhead, shares] = NAMES.map(|name| Service::new(name, pace, token));
    let services = [
        all?,
        bulkhead?.with_bulkhead(),
        shares?.with_bulkhead().with_shares(),
    ];
    let clock = token.clock();
    let began = clock.now();
    let (mut asked, mut lag) = (0, Duration::ZERO);
    'asking: for request in requests(options.seed, options.part) {
        let Some(at) = began.checked_add(request.at * pace) else {
            break 'asking;
        };
        // It counts from when it was due: a generator that is late must not hide it.
        if token.wait_deadline(at) {
            break 'asking;
        }
        lag = lag.max(clock.now().duration_since(at) / pace);
        for service in &services {
            service.ask(request, at)?;
        }
        asked += 1;
    }
    let ended = services.map(Service::finish);
    let lag = ended.iter().map(|(_, lag)| *lag).fold(lag, Duration::max);
    let served = ended.map(|(served, _)| served);
    Ok(Run { served, asked, lag })
}

fn table(served: &[Vec<Served>; 3]) {
    print("");
    print(
        "                                 asked  in time         late   over quota  full   p99 of answers",
    );
    for (part, in_rush) in [("rush", true), ("after", false)] {
        for (name, served) in NAMES.iter().zip(served) {
            let tally = Tally::of(served, |request| request.in_rush == in_rush);
            row(&format!("{part}: {name}"), &tally);
        }
    }
    for (name, served) in NAMES.iter().zip(served) {
        let regular = Tally::of(served, |request| request.in_rush && !request.is_greedy());
        row(&format!("rush, regulars: {name}"), &regular);
    }
    print("");
}

fn row(name: &str, tally: &Tally) {
    print(format_args!(
        "{name:<32} {:>5}  {:>5} ({:>3.0}%)  {:>5}  {:>10}  {:>5}  {:>6} ms",
        tally.asked,
        tally.in_time,
        100.0 * tally.share(),
        tally.late,
        tally.over_quota,
        tally.full,
        tally.p99().as_millis()
    ));
}

/// What must hold, whatever the machine's load.
fn check(served: &[Vec<Served>; 3], asked: usize) -> anyhow::Result<()> {
    let of = |service: usize, filter: fn(&Request) -> bool| Tally::of(&served[service], filter);
    for (name, served) in NAMES.iter().zip(served) {
        let tally = Tally::of(served, |_| true);
        ensure!(
            tally.ended() == asked,
            "{name}: {} of {asked} requests had an end",
            tally.ended()
        );
    }
    let [all, bulkhead, shares] = [0, 1, 2].map(|service| of(service, |request| request.in_rush));
    ensure!(
        all.full + all.over_quota == 0,
        "the first one refuses nothing"
    );
    for shedding in [&bulkhead, &shares] {
        let (better, worse) = (shedding.in_time, all.in_time);
        ensure!(
            better * 2 > worse * 3,
            "goodput {better}, and {worse} without shedding"
        );
    }
    let regular: fn(&Request) -> bool = |request| request.in_rush && !request.is_greedy();
    let [all, bulkhead, shares] = [0, 1, 2].map(|service| of(service, regular));
    ensure!(
        shares.in_time > bulkhead.in_time && bulkhead.in_time > all.in_time,
        "of the regulars' {}: {} with shares, {} with the bulkhead alone, {} with neither",
        all.asked,
        shares.in_time,
        bulkhead.in_time,
        all.in_time
    );
    let [all, _, shares] = [0, 1, 2].map(|service| of(service, |request| !request.in_rush));
    ensure!(
        shares.in_time > all.in_time,
        "after the rush {} in time, and {} without shedding",
        shares.in_time,
        all.in_time
    );
    Ok(())
}

/// For the chart.
pub(crate) const SLICE: Duration = Duration::from_millis(100);

fn print(line: impl fmt::Display) {
    writeln!(io::stdout(), "{line}").ok();
}

fn complain(line: fmt::Arguments<'_>) {
    writeln!(io::stderr(), "rush: {line}").ok();
}
