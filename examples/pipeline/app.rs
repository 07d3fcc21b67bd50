//! The wiring.
//!
//! ```text
//! main thread  the books: enters what became of each order; sees when nothing moves any more
//! └ take in  ─ link ─  reserve  ─ link ─  ship
//!              pump               pump
//! ```
//!
//! When the input ends, the stages end one after the other, each when the link before it is closed
//! and drained. When the token is cancelled, they end at once, and what was between them is handed
//! back.

use std::fmt;
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use cleanbreak::channel::RecvTimeoutError;
use cleanbreak::group::SpawnError;
use cleanbreak::interrupt::{Interrupts, SIGINT, SIGTERM, cause_exit_status, signal_name};
use cleanbreak::{CancelToken, Cause, Clock, SafeChannel, SafeReceiver, scope, threads};
use scopeguard::guard;

use super::books::Accounts;
use super::input::{Generator, Input, Lines};
use super::link::Link;
use super::options::{HELP, Options, Source};
use super::order::Order;
use super::stages::{Carrier, Event, Stock, reserve, ship, take_in};

const STUCK: u8 = 3;

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
    match &options.out {
        Some(folder) => {
            fs::create_dir_all(folder).with_context(|| folder.display().to_string())?;
            run_in(folder, options)
        }
        None => {
            let name = format!("pipeline-{}", std::process::id());
            let folder = std::env::temp_dir().join(name);
            fs::create_dir(&folder).with_context(|| folder.display().to_string())?;
            let folder = guard(folder, |folder| drop(fs::remove_dir_all(folder)));
            run_in(&folder, options)
        }
    }
}

fn run_in(folder: &Path, options: &Options) -> anyhow::Result<ExitCode> {
    let stock = Stock::load(&options.stock)?;
    let input = open(&options.orders, &stock)?;
    let link = |name: &str| {
        let path = folder.join(name);
        Link::create(path.clone()).with_context(|| path.display().to_string())
    };
    // First: who finds results of another run leaves nothing of its own.
    let mut accounts = Accounts::create(folder)?;
    let (to_reserve, to_ship) = (link("spill-reserve.csv")?, link("spill-ship.csv")?);
    let line = Line {
        stock,
        carrier: Carrier {
            takes: options.takes,
            stuck: options.stuck,
            bug: options.bug.clone(),
        },
        to_reserve,
        to_ship,
    };
    let service = CancelToken::new();
    let stop = Interrupts::cancel_on(&service, &[SIGINT, SIGTERM])?;
    // The carrier sleeps for each order: without this, each would start and join a timer thread.
    let timer = Clock::system().keep_timer()?;
    print("taking orders; Ctrl-C hands back what is on its way");
    let ran = line.run(input, options, &mut accounts, &service);

    // Whatever happened: every order is entered, and the books are closed.
    let Line {
        stock,
        to_reserve,
        to_ship,
        ..
    } = line;
    let handed_back = [to_ship, to_reserve]
        .map(|(link, inbox)| link.hand_back(&inbox, |order| accounts.enter(Event::Back(order))));
    let closed = accounts.close(&stock);
    print(&accounts);
    match ran {
        // Told to stop before everything was started.
        Err(error) if error.is::<SpawnError>() && service.is_cancelled() => {}
        ran => ran?,
    }
    let spilled: u64 = handed_back.into_iter().sum::<io::Result<_>>()?;
    let some_left = closed?;
    drop((stop, timer));
    ensure!(threads::live().is_empty(), "left: {:?}", threads::live());
    if spilled > 0 {
        print(format_args!("{spilled} times an order waited in a file"));
    }
    Ok(exit_code(&service, some_left))
}

fn open(source: &Source, stock: &Stock) -> anyhow::Result<Input> {
    Ok(match source {
        Source::Stdin => Input::Lines(Lines::of_stdin()?),
        Source::File(path) => {
            let file = File::open(path).with_context(|| path.display().to_string())?;
            Input::Lines(Lines::of_file(file)?)
        }
        Source::Generated(seed, orders) => {
            Input::Generated(Generator::new(*seed, stock.skus(), *orders))
        }
    })
}

/// A link with its other end.
type Joint = (Link, SafeReceiver<Order>);

struct Line {
    stock: Stock,
    carrier: Carrier,
    to_reserve: Joint,
    to_ship: Joint,
}

impl Line {
    /// Runs the stages until all orders have ended, or the token is cancelled.
    fn run(
        &self,
        input: Input,
        options: &Options,
        accounts: &mut Accounts,
        service: &CancelToken,
    ) -> anyhow::Result<()> {
        let (books, events) = SafeChannel::bounded(1024);
        let (to_reserve, reserve_inbox) = &self.to_reserve;
        let (to_ship, ship_inbox) = &self.to_ship;
        let (stock, carrier, skip) = (&self.stock, &self.carrier, options.skip);
        scope(service, |group| {
            let own = books.clone();
            group.spawn_named("take in", move |token| {
                take_in(input, skip, to_reserve, &own, token)
            })?;
            let own = books.clone();
            group.spawn_named("reserve", move |token| {
                reserve(reserve_inbox, stock, to_ship, &own, token)
            })?;
            group.spawn_named("ship", move |token| {
                ship(ship_inbox, carrier, stock, &books, token)
            })?;
            for link in [to_reserve, to_ship] {
                group.spawn_named("pump", move |token| Ok(link.pump(token)?))?;
            }
            keep(&events, accounts, options, service);
            Ok(())
        })
    }
}

/// Enters what the stages say, until the last of them has ended.
fn keep(
    events: &SafeReceiver<Event>,
    accounts: &mut Accounts,
    options: &Options,
    service: &CancelToken,
) {
    'events: loop {
        match events.recv_timeout(options.patience) {
            Ok(event) => accounts.enter(event),
            Err(RecvTimeoutError::Disconnected) => break 'events,
            Err(RecvTimeoutError::Timeout) if accounts.input.is_some() => {
                give_up(accounts, service)
            }
            // More may come: what is stuck costs nobody anything yet.
            Err(RecvTimeoutError::Timeout) => {}
        }
        if accounts.unwritten > 0 {
            service.cancel_with("results cannot be written");
        }
    }
}

fn give_up(accounts: &Accounts, service: &CancelToken) {
    if service.is_cancelled() {
        return;
    }
    complain(format_args!("{} orders are stuck:", accounts.open()));
    for thread in threads::live()
        .iter()
        .filter(|thread| thread.waiting.is_some())
    {
        complain(thread);
    }
    service.cancel_with("a stage is stuck");
}

fn exit_code(service: &CancelToken, some_left: bool) -> ExitCode {
    let cause = service.cause();
    if let Some(signal) = cause.as_ref().and_then(Cause::as_signal) {
        print(format_args!(
            "stopped by {}",
            signal_name(signal).unwrap_or("a signal")
        ));
    }
    match cause.as_ref().and_then(cause_exit_status) {
        Some(status) => ExitCode::from(status),
        None if some_left => ExitCode::from(STUCK),
        None => ExitCode::SUCCESS,
    }
}

fn print(line: impl fmt::Display) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

fn complain(line: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "pipeline: {line}");
}
