//! The wiring: which thread is in which group, and what ends it.
//!
//! ```text
//! main thread   waits for `stop`, then conducts the shutdown
//! watch         watchdog     ends with `joined`, when the groups inside have ended
//! └ workers     journal      ends when its channel is closed and read to the end
//!   │           housekeeper  ends with `finished`
//!   └ connections  acceptor     ends with `stop`
//!                  connection…  end with `serving`, which the shutdown cancels in its second phase
//! ```
//!
//! Every end is in the hand of a guard of the main thread, so it comes on every way out of the
//! body: a return, a `?` and a panic. A worker that fails cancels its group, and `stop` below it:
//! the service stops in good order, and exits 1.
//!
//! Signals are the library's: SIGINT and SIGTERM cancel `stop`, and a second one of either ends the
//! process from inside the signal handler, so that nothing can be in its way. A graceful stop is a
//! success and exits 0, because the service did what it was told, and service managers and scripts
//! read anything else as a failure. The impatient exit did not finish its work: 128 + signal, as a
//! shell would report it.

mod body;
mod connection;
mod debug;
mod http;
mod link;
mod registry;
mod routes;
mod server;
mod service;
mod settings;
mod shutdown;
mod topics;
mod workers;

use std::io;
use std::net::TcpListener;
use std::process::ExitCode;

use anyhow::{Context as _, anyhow};
use cleanbreak::group::{Group, GroupBuilder};
use cleanbreak::interrupt::{Again, Interrupts, SIGHUP, SIGINT, SIGTERM};
use cleanbreak::io::Waker;
use cleanbreak::{CancelToken, Clock, SafeChannel, SafeReceiver, scope};
use rustix::process::{Resource, getrlimit, setrlimit};
use scopeguard::guard;

use connection::Connection;
use debug::DebugPage;
use service::{Entry, Service, count, log, print};
use settings::{Arguments, Command, Live, help};
use shutdown::Shutdown;

/// A connection's thread needs little: its buffers are on the heap.
const STACK_SIZE: usize = 128 * 1024;
/// Answers on their way to the journal.
const JOURNAL: usize = 8 * 1024;

pub(crate) fn main() -> ExitCode {
    let live = match Arguments::parse(std::env::args().skip(1)) {
        Ok(Command::Help) => {
            print(help());
            return ExitCode::SUCCESS;
        }
        Ok(Command::Serve(arguments)) => Live::load(arguments),
        Err(problem) => Err(problem),
    };
    match live.map(serve) {
        Ok(Ok(())) => ExitCode::SUCCESS,
        Ok(Err(error)) => {
            log(format_args!("{error:#}"));
            ExitCode::FAILURE
        }
        Err(problem) => {
            log(format_args!("{problem} (see --help)"));
            ExitCode::from(2)
        }
    }
}

fn serve(live: Live) -> anyhow::Result<()> {
    raise_file_limit();
    let port = live.current().port;
    let listener =
        server::listen(port).with_context(|| format!("cannot listen on 127.0.0.1:{port}"))?;
    let (journal, entries) = SafeChannel::bounded(JOURNAL);
    let service = Service::new(live, journal);
    let debug = DebugPage::start(service.live.current().debug_port, &service)?;
    let shutdown = run_watched(&service, &entries, listener, &debug)?;
    print(format_args!("{shutdown}\n{}", service.answers()));
    Ok(())
}

/// Runs everything under the watchdog; returns when every thread has been joined.
fn run_watched(
    service: &Service,
    entries: &SafeReceiver<Entry>,
    listener: TcpListener,
    debug: &DebugPage,
) -> anyhow::Result<Shutdown> {
    let mut shutdown = scope(&CancelToken::new(), |group| {
        // Deadlines come and go with every request: the timer's thread stays for as long as they
        // do.
        let _timer = Clock::system().keep_timer()?;
        let (stop, joined) = (CancelToken::new(), CancelToken::new());
        let _ends = (stop.clone().drop_guard(), joined.clone().drop_guard());
        debug.watch("stop", &stop);
        let told = stop.clone();
        group.spawn_named("watchdog", move |_| {
            workers::watchdog(service, &told, &joined);
            Ok(())
        })?;
        run_workers(service, entries, listener, &stop, debug)
    })?;
    shutdown.joined();
    Ok(shutdown)
}

/// Runs the workers around the connections.
fn run_workers(
    service: &Service,
    entries: &SafeReceiver<Entry>,
    listener: TcpListener,
    stop: &CancelToken,
    debug: &DebugPage,
) -> anyhow::Result<Shutdown> {
    // Before the service says that it listens: no signal after that meets the default action.
    let ends = [SIGINT, SIGTERM];
    let _told = Interrupts::cancel_on_with(stop, &ends, Again::OneOf(&ends))?;
    let hang_ups = Interrupts::subscribe(&[SIGHUP])?;
    scope(&CancelToken::new(), |group| {
        let failed = stop.clone();
        let _fails = group.token().on_cancel(move || {
            failed.cancel_with("a worker failed");
        });
        let finished = CancelToken::new();
        let _finishes = finished.clone().drop_guard();
        let _closes = guard((), |()| {
            service.journal.close();
        });
        group.spawn_named("journal", move |_| {
            service.keep_journal(entries);
            Ok(())
        })?;
        group.spawn_named("housekeeper", move |_| {
            workers::housekeeper(service, &hang_ups, &finished)
        })?;
        print(format_args!(
            "listening on http://{}",
            listener.local_addr()?
        ));
        run_connections(service, listener, stop, debug)
    })
}

/// Accepts and serves until `stop` is cancelled, then conducts the first three phases; the end of
/// the group is the fourth.
///
/// The group has a token that nobody cancels, and the connections look at `serving` below it: a
/// connection that was accepted but has no thread yet when the service stops still gets one, to be
/// told 503.
fn run_connections(
    service: &Service,
    listener: TcpListener,
    stop: &CancelToken,
    debug: &DebugPage,
) -> anyhow::Result<Shutdown> {
    // A panic in one connection is its client's bad luck, not the end of the service: it is
    // counted, and the panic hook has printed it.
    let builder = GroupBuilder::new()
        .name("connections")
        .stack_size(STACK_SIZE)
        .collect_panics();
    builder.scope(&CancelToken::new(), |connections| {
        let serving = connections.token().child();
        debug.watch("connections", connections.token());
        debug.watch("serving", &serving);
        let closed = CancelToken::new();
        let (stopped, door, below) = (stop.clone(), closed.clone(), serving.clone());
        let acceptor = connections.spawn_named("acceptor", move |_| {
            // Whatever ends the acceptor ends the service, and tells that the listener is closed.
            let _ends = (stopped.clone().drop_guard(), door.drop_guard());
            let start =
                |waker, connection| start(connections, service, &below, (waker, connection));
            Ok(server::accept(listener, &stopped, service, start)?)
        })?;
        // Last of all: a failure of the conductor must end the acceptor too.
        let _stops = stop.clone().drop_guard();
        let mut shutdown = Shutdown::when_told(stop);
        let settings = service.live.current();
        shutdown.stop_accepting(service, &closed, &settings);
        shutdown.release_polls(service, &serving, &settings);
        shutdown.drain(service, &settings);
        // Whoever is still there is a straggler from now on: the group counts from here.
        connections.token().cancel();
        acceptor
            .join()
            .map_err(|error| anyhow!("the acceptor failed: {error}"))?;
        Ok(shutdown)
    })
}

/// Gives a connection its thread.
fn start<'scope>(
    connections: &'scope Group<'scope, '_>,
    service: &'scope Service,
    serving: &CancelToken,
    (waker, connection): (Waker, Connection<'scope>),
) -> io::Result<()> {
    let serving = serving.clone();
    let started = connections.spawn_named("connection", move |_| {
        let _panic = guard((), |()| {
            if std::thread::panicking() {
                count(&service.tally.panics);
            }
        });
        waker.install();
        connection.serve(&serving);
        Ok(())
    });
    started.map(drop).map_err(io::Error::other)
}

/// Two descriptors for each connection soon pass the usual soft limit; the hard one is meant as the
/// limit.
fn raise_file_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        log(format_args!(
            "the limit of open files stays as it is: {error}"
        ));
    }
}
