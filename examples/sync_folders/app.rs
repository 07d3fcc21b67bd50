//! The workers, and what ends them.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use cleanbreak::interrupt::{Interrupts, SIGINT, SIGTERM, cause_exit_status, signal_name};
use cleanbreak::{CancelToken, GroupBuilder, Ticker, threads};
use crossbeam_channel::select;
use scopeguard::defer;

use super::mirror::{Mirror, Pass};
use super::options::{Command, Options, Pair, help};

pub(crate) fn main() -> ExitCode {
    let ran = match Options::parse(std::env::args_os().skip(1)) {
        Ok(Command::Help) => {
            print(help());
            return ExitCode::SUCCESS;
        }
        Ok(Command::Show(options)) => show(options),
        Ok(Command::Sync(options)) => run(&options),
        Err(problem) => {
            log(format_args!("{problem} (see --help)"));
            return ExitCode::from(2);
        }
    };
    ran.unwrap_or_else(|error| {
        log(format_args!("{error:#}"));
        ExitCode::FAILURE
    })
}

/// Mirrors the crate's own folders, and looks that nothing differs.
fn show(mut options: Options) -> anyhow::Result<ExitCode> {
    let temporary = std::env::temp_dir().join(format!("sync_folders-{}", std::process::id()));
    fs::create_dir(&temporary).with_context(|| temporary.display().to_string())?;
    defer!(drop(fs::remove_dir_all(&temporary)));
    let crate_root = Path::new(env!("CARGO_MANIFEST_DIR"));
    options.pairs = ["src", "examples"]
        .map(|name| Pair {
            source: crate_root.join(name),
            target: temporary.join(name),
        })
        .into();
    let code = run(&options)?;
    let stopped_early = code != ExitCode::SUCCESS;
    for Pair { source, target } in &options.pairs {
        ensure!(
            stopped_early || tree(source)? == tree(target)?,
            "{} differs from {}",
            target.display(),
            source.display()
        );
    }
    Ok(code)
}

/// Every file below a folder, with what is in it.
fn tree(root: &Path) -> anyhow::Result<BTreeMap<PathBuf, Vec<u8>>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![root.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).with_context(|| folder.display().to_string())? {
            let path = entry?.path();
            match path.is_dir() {
                true => folders.push(path),
                false => {
                    let content = fs::read(&path)?;
                    files.insert(path.strip_prefix(root)?.to_owned(), content);
                }
            }
        }
    }
    Ok(files)
}

fn run(options: &Options) -> anyhow::Result<ExitCode> {
    let service = CancelToken::new();
    let stop = Interrupts::cancel_on(&service, &[SIGINT, SIGTERM])?;
    let mirrors: Vec<_> = options
        .pairs
        .iter()
        .map(|pair| Mirror::new(pair, options))
        .collect();
    print("syncing; Ctrl-C stops it");

    // Each to its own end: a worker that fails, or even panics, does not stop the others.
    let work = mirrors
        .iter()
        .map(|mirror| move |token: &CancelToken| worker(mirror, options, token));
    let outcomes = GroupBuilder::new()
        .name("sync worker")
        .collect(&service, work);

    let mut reports = Vec::new();
    for (mirror, outcome) in mirrors.iter().zip(outcomes) {
        let report = match outcome {
            // Told to stop before it began.
            Err(error) if error.is_not_started() => Report::default(),
            outcome => outcome.with_context(|| mirror.to_string())?,
        };
        print(format_args!("worker {mirror}: {report}"));
        ensure!(
            !mirror.left_something(),
            "{mirror}: a temporary file is left"
        );
        reports.push(report);
    }
    drop(stop);
    ensure!(threads::live().is_empty(), "left: {:?}", threads::live());
    Ok(exit_code(&service, &reports))
}

/// A service that was asked to stop, and did, has succeeded; Ctrl-C is an interruption.
fn exit_code(service: &CancelToken, reports: &[Report]) -> ExitCode {
    let Some(cause) = service.cause() else {
        let in_order = reports.iter().all(|report| report.last_problems.is_empty());
        return ExitCode::from(u8::from(!in_order));
    };
    let signal = cause.as_signal().and_then(signal_name);
    print(format_args!("stopped by {}", signal.unwrap_or("request")));
    match cause.as_signal() {
        Some(SIGTERM) => ExitCode::SUCCESS,
        _ => ExitCode::from(cause_exit_status(&cause).unwrap_or(1)),
    }
}

/// Mirrors at every tick, until it is told to stop or has made all its passes.
fn worker(mirror: &Mirror, options: &Options, token: &CancelToken) -> anyhow::Result<Report> {
    // However this is left: break, `?`, panic.
    defer!(mirror.clean());
    let ticker = Ticker::builder(options.every).clock(token.clock());
    let ticker = ticker.immediate().start()?;
    let mut report = Report::default();
    'ticks: while options.passes.is_none_or(|most| report.passes < most) {
        select! {
            recv(token.done()) -> _ => break 'ticks,
            recv(ticker) -> tick => if tick.is_err() { break 'ticks },
        }
        let mut pass = Pass::default();
        let told = mirror.sync(token, &mut pass);
        report.add(pass, told.is_err());
        // The token decides, not the error: a pass that failed is tried again at the next tick.
        if told.is_err() {
            break 'ticks;
        }
    }
    Ok(report)
}

/// What a worker did.
#[derive(Default)]
struct Report {
    passes: u64,
    failed: u64,
    interrupted: bool,
    copied: u64,
    bytes: u64,
    deleted: u64,
    last_problems: BTreeMap<PathBuf, String>,
}

impl Report {
    /// Adds a pass, and logs what is new: a file that stays unreadable is not news at every tick.
    fn add(&mut self, pass: Pass, interrupted: bool) {
        for (path, problem) in &pass.problems {
            if self.last_problems.get(path) != Some(problem) {
                log(format_args!("{}: {problem}", path.display()));
            }
        }
        if !interrupted {
            for path in self.last_problems.keys() {
                if !pass.problems.contains_key(path) {
                    log(format_args!("{}: in order again", path.display()));
                }
            }
        }
        if pass.copied + pass.deleted > 0 {
            log(&pass);
        }
        self.passes += 1;
        self.failed += u64::from(!pass.problems.is_empty());
        self.interrupted |= interrupted;
        self.copied += pass.copied;
        self.bytes += pass.bytes;
        self.deleted += pass.deleted;
        self.last_problems = pass.problems;
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            passes,
            failed,
            copied,
            bytes,
            deleted,
            ..
        } = self;
        write!(f, "{passes} passes, {failed} with problems; ")?;
        write!(
            f,
            "{copied} files copied ({bytes} bytes), {deleted} deleted"
        )?;
        match self.interrupted {
            true => write!(f, "; the last pass was interrupted"),
            false => Ok(()),
        }
    }
}

/// To standard output. Nobody may be reading it any more: that is no reason to stop syncing.
fn print(line: impl fmt::Display) {
    let mut stdout = io::stdout().lock();
    let _ = writeln!(stdout, "{line}").and_then(|()| stdout.flush());
}

fn log(line: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "sync_folders: {line}");
}
