//! The loop: signals, ticks and the stop, each an arm of one `select!`.
//!
//! ```text
//! main thread   the loop
//! └ acceptor    ends with the service's token
//!   └ pool      answers requests; drained, for a time, when the acceptor has ended
//! ```

use std::fmt;
use std::io::{self, Write};
use std::net::TcpListener;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::{Context as _, ensure};
use cleanbreak::group::SpawnError;
use cleanbreak::interrupt::{
    Interrupt, Interrupts, SIGHUP, SIGINT, SIGTERM, SIGUSR1, SIGUSR2, cause_exit_status,
    signal_name,
};
use cleanbreak::{CancelToken, Clock, Ticker, observe, scope, threads};
use crossbeam_channel::select;
use metrics::{counter, describe_counter};
use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};

use super::config::{Arguments, Command, Config, help};
use super::log::Log;
use super::server::{Answered, Server};
use super::watch::Watch;

const RELOADS: &str = "daemon_reloads_total";

pub(crate) fn main() -> ExitCode {
    let arguments = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            print(help());
            return ExitCode::SUCCESS;
        }
        Ok(Command::Serve(arguments)) => arguments,
        Err(problem) => {
            complain(format_args!("{problem:#} (see --help)"));
            return ExitCode::from(2);
        }
    };
    serve(&arguments).unwrap_or_else(|error| {
        complain(format_args!("{error:#}"));
        ExitCode::FAILURE
    })
}

fn serve(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    // First of all: what is told before there is a recorder is lost.
    let prometheus = PrometheusBuilder::new().install_recorder()?;
    observe::describe_metrics();
    describe_counter!(
        RELOADS,
        "Times that the configuration was read, by outcome."
    );

    let config = Config::load(&arguments.config)?;
    let log = Log::open(arguments.log.clone())?;
    let port = arguments.port;
    let listener = TcpListener::bind(("127.0.0.1", port));
    let listener = listener.with_context(|| format!("cannot listen on 127.0.0.1:{port}"))?;
    let address = listener.local_addr()?;

    let service = CancelToken::new();
    // Before anybody is told that the daemon is there: no signal meets its default action.
    let stop = Interrupts::cancel_on(&service, &[SIGINT, SIGTERM])?;
    let signals = Interrupts::subscribe(&[SIGUSR1, SIGUSR2, SIGHUP])?;
    // Every request has deadlines: without this, each would start and join a timer thread.
    let timer = Clock::system().keep_timer()?;

    let watch = Arc::new(Watch::new(config));
    let daemon = Daemon {
        arguments,
        log: &log,
        watch: &watch,
        prometheus: &prometheus,
    };
    let answered = scope(&service, |group| {
        let server = Server {
            log: &log,
            watch: &watch,
            prometheus: &prometheus,
            drain: arguments.drain,
            each_way: arguments.timeout,
        };
        let acceptor = group.spawn_named("acceptor", move |token| server.run(listener, token))?;
        print(format_args!("listening on http://{address}"));
        print(format_args!("pid {}", std::process::id()));
        daemon.run(&signals, group.token())?;
        match acceptor.join() {
            Err(error) if error.is_not_started() => Ok(Answered::default()),
            ended => Ok(ended?),
        }
    });
    let answered = match answered {
        // Told to stop before anything was started.
        Err(error) if error.is::<SpawnError>() && service.is_cancelled() => Answered::default(),
        ended => ended?,
    };

    drop((stop, signals, timer));
    // The timer thread may be on its way out: it ends by itself when it drops the last deadline.
    let mut left = threads::live();
    left.retain(|thread| thread.name != "cleanbreak timer");
    ensure!(left.is_empty(), "left: {left:?}");
    let by = service.cause().and_then(|cause| cause.as_signal());
    let name = by.and_then(signal_name).unwrap_or("request");
    print(format_args!("stopped by {name}: {answered}"));
    // Who was asked to stop, and did, has succeeded; Ctrl-C is an interruption.
    let interrupted = service.cause().filter(|_| by != Some(SIGTERM));
    let status = interrupted.and_then(|cause| cause_exit_status(&cause));
    Ok(status.map_or(ExitCode::SUCCESS, ExitCode::from))
}

struct Daemon<'a> {
    arguments: &'a Arguments,
    log: &'a Log,
    watch: &'a Watch,
    prometheus: &'a PrometheusHandle,
}

impl Daemon<'_> {
    /// Works until it is told to stop.
    fn run(&self, signals: &Interrupts, token: &CancelToken) -> anyhow::Result<()> {
        let ticker = Ticker::builder(self.watch.config().check_every);
        let ticker = ticker.clock(token.clock()).immediate().start()?;
        'work: loop {
            select! {
                recv(token.done()) -> _ => break 'work,
                recv(signals) -> signal => match signal {
                    Ok(signal) => self.obey(signal, token, &ticker)?,
                    Err(_) => break 'work,
                },
                recv(ticker) -> tick => {
                    if tick.is_err() {
                        break 'work;
                    }
                    self.watch.check(token);
                    // Histograms keep every value until somebody looks: so look, also when no
                    // Prometheus comes.
                    self.prometheus.run_upkeep();
                }
            }
        }
        Ok(())
    }

    /// Does what a signal asks for: once, however often it came while this was busy.
    fn obey(&self, signal: Interrupt, token: &CancelToken, ticker: &Ticker) -> anyhow::Result<()> {
        match signal.signal {
            SIGUSR1 => {
                let health = self.watch.check(token);
                self.log.line(format_args!("{signal}: {health}"));
            }
            SIGHUP => {
                let reopened = self.log.reopen();
                self.log.line(format_args!("{signal}: {reopened}"));
                self.reload(signal, ticker)?;
            }
            _ => self.reload(signal, ticker)?,
        }
        Ok(())
    }

    /// Reads the configuration again. This is not on the signals' thread because it reads a file,
    /// and that may hang: a second Ctrl-C must not wait behind it.
    fn reload(&self, signal: Interrupt, ticker: &Ticker) -> anyhow::Result<()> {
        match Config::load(&self.arguments.config) {
            Ok(config) => {
                if config.check_every != ticker.period() {
                    ticker.reset(config.check_every)?;
                }
                self.log.line(format_args!("{signal}: {config}"));
                self.watch.reconfigure(config);
                counter!(RELOADS, "outcome" => "loaded").increment(1);
            }
            Err(error) => {
                self.log.line(format_args!(
                    "{signal}: the configuration stays as it was: {error:#}"
                ));
                counter!(RELOADS, "outcome" => "failed").increment(1);
            }
        }
        Ok(())
    }
}

/// To standard output, which nobody may be reading any more.
fn print(line: impl fmt::Display) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

fn complain(line: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "daemon: {line}");
}
