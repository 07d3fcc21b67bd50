//! The pool, the bar, and what is said at the end.

use std::fmt;
use std::io::{self, ErrorKind, Write};
use std::num::NonZeroUsize;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, ensure};
use cleanbreak::interrupt::{
    Interrupts, SIGINT, SIGTERM, cause_exit_status, exit_status, signal_name,
};
use cleanbreak::pool::{Job, JobError};
use cleanbreak::{CancelToken, Pool, Shutdown, threads};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use super::find::{Found, Steps, below, listed};
use super::hash::hash;
use super::sums::{Digest, escape, line};

const HELP: &str = "checksum [--jobs N] [PATH...]
checksum [--jobs N] --check LIST
  SHA-256 of every file below the paths (default: this crate's src), as sha256sum prints it.
  --jobs N       threads (default: one for each core)
  --check LIST   verifies the files of a list
Exit status: 0 all is well; 1 something is not; 2 a wrong option; 130 Ctrl-C, with what there is.";

struct Options {
    jobs: NonZeroUsize,
    check: Option<PathBuf>,
    paths: Vec<PathBuf>,
}

pub(crate) fn main() -> ExitCode {
    let ran = match Options::parse(std::env::args_os().skip(1)) {
        Ok(Some(options)) => run(options),
        Ok(None) => emit(&format!("{HELP}\n").into_bytes()).map(|()| ExitCode::SUCCESS),
        Err(problem) => {
            complain(format_args!("{problem:#} (see --help)"));
            return ExitCode::from(2);
        }
    };
    ran.unwrap_or_else(|error| {
        let broken = |error: &io::Error| error.kind() == ErrorKind::BrokenPipe;
        if error.downcast_ref().is_some_and(broken) {
            // Who was reading has enough: no reason to complain.
            return ExitCode::from(exit_status(libc::SIGPIPE));
        }
        complain(format_args!("{error:#}"));
        ExitCode::FAILURE
    })
}

impl Options {
    /// `None` is a call for help.
    fn parse(
        mut arguments: impl Iterator<Item = std::ffi::OsString>,
    ) -> anyhow::Result<Option<Self>> {
        let cores = std::thread::available_parallelism();
        let mut options = Self {
            jobs: cores.unwrap_or(NonZeroUsize::MIN),
            check: None,
            paths: Vec::new(),
        };
        let mut only_paths = false;
        while let Some(argument) = arguments.next() {
            let mut value = |name| {
                arguments
                    .next()
                    .with_context(|| format!("{name} needs a value"))
            };
            match argument.to_str().filter(|_| !only_paths) {
                Some("--help" | "-h") => return Ok(None),
                Some("--jobs") => {
                    let jobs = value("--jobs")?.into_string().ok();
                    let jobs = jobs.and_then(|jobs| jobs.parse().ok());
                    options.jobs = jobs.context("--jobs: not a positive number")?;
                }
                Some("--check") => options.check = Some(value("--check")?.into()),
                Some("--") => only_paths = true,
                Some(name) if name.starts_with('-') => anyhow::bail!("unknown option {name}"),
                _ => options.paths.push(argument.into()),
            }
        }
        let paths = options.paths.len();
        ensure!(
            options.check.is_none() || paths == 0,
            "--check takes no paths"
        );
        if paths == 0 {
            options
                .paths
                .push(concat!(env!("CARGO_MANIFEST_DIR"), "/src").into());
        }
        Ok(Some(options))
    }
}

/// A file with its place in a worker's hands. `None`: told to stop in the middle of it.
struct Pending {
    path: PathBuf,
    expected: Option<Digest>,
    job: Job<Option<Digest>, io::Error>,
}

/// What there is to say.
#[derive(Default)]
struct Results {
    /// By path; with what a list says that it should be.
    hashed: Vec<(PathBuf, Digest, Option<Digest>)>,
    unreadable: Vec<(PathBuf, String)>,
    unfinished: usize,
    malformed: usize,
}

fn run(options: Options) -> anyhow::Result<ExitCode> {
    let service = CancelToken::new();
    let stop = Interrupts::cancel_on(&service, &[SIGINT, SIGTERM])?;
    let mut results = Results::default();
    let steps = match &options.check {
        None => below(options.paths),
        Some(list) => {
            let (steps, malformed) = listed(list).with_context(|| list.display().to_string())?;
            results.malformed = malformed;
            steps
        }
    };
    let bar = bar();
    work(steps, options.jobs, &service, &bar, &mut results)?;
    // Also when it was interrupted: the terminal is as it was.
    bar.finish_and_clear();
    drop(stop);
    ensure!(threads::live().is_empty(), "left: {:?}", threads::live());

    let in_order = match options.check.is_some() {
        false => print_sums(&results)?,
        true => print_verdicts(&results)?,
    };
    let Some(cause) = service.cause() else {
        return Ok(ExitCode::from(u8::from(!in_order)));
    };
    let signal = cause.as_signal().and_then(signal_name);
    let (done, unfinished) = (results.hashed.len(), results.unfinished);
    complain(format_args!(
        "stopped by {}: {done} files done, {unfinished} or more not",
        signal.unwrap_or("request")
    ));
    Ok(ExitCode::from(cause_exit_status(&cause).unwrap_or(1)))
}

/// On standard error; nothing is drawn if that is no terminal.
fn bar() -> ProgressBar {
    let style = "{bytes} of {total_bytes} {bar:24} {bytes_per_sec} {wide_msg}";
    let style =
        ProgressStyle::with_template(style).unwrap_or_else(|_| ProgressStyle::default_bar());
    let bar = ProgressBar::with_draw_target(Some(0), ProgressDrawTarget::stderr());
    bar.with_style(style)
}

/// Has every file hashed, or as many as there is time for.
fn work(
    steps: Steps,
    jobs: NonZeroUsize,
    service: &CancelToken,
    bar: &ProgressBar,
    results: &mut Results,
) -> anyhow::Result<()> {
    let pool = Pool::builder().name("checksum").workers(jobs.get());
    let pool = pool.errors::<io::Error>().build(service)?;
    let mut pending = Vec::new();
    'files: for step in steps {
        match step {
            _ if service.is_cancelled() => {
                results.unfinished += 1;
                break 'files;
            }
            Err((path, error)) => results.unreadable.push((path, error.to_string())),
            // The queue is bounded: this waits for the workers, and ends at once on Ctrl-C.
            Ok(found) => match submit(&pool, found, bar) {
                Some(file) => pending.push(file),
                None => {
                    results.unfinished += 1;
                    break 'files;
                }
            },
        }
    }
    // What waits was ended by the token, if it was cancelled: then this is at once.
    let report = pool.shutdown(Shutdown::Drain);
    ensure!(report.submitted() == pending.len(), "lost a file: {report}");
    for file in pending {
        results.settle(file);
    }
    results.hashed.sort();
    results.unreadable.sort();
    Ok(())
}

fn submit(pool: &Pool<io::Error>, found: Found, bar: &ProgressBar) -> Option<Pending> {
    let Found {
        path,
        bytes,
        expected,
    } = found;
    bar.inc_length(bytes);
    let (file, progress) = (path.clone(), bar.clone());
    let task = move |token: &CancelToken| {
        progress.set_message(shown(&file));
        hash(&file, token, |bytes| progress.inc(bytes))
    };
    let job = pool.submit(task).ok()?;
    Some(Pending {
        path,
        expected,
        job,
    })
}

/// A name as a terminal may see it.
fn shown(file: &Path) -> String {
    let name = file.display().to_string();
    name.replace(char::is_control, "?")
}

impl Results {
    fn settle(&mut self, file: Pending) {
        let Pending {
            path,
            expected,
            job,
        } = file;
        match job.join() {
            Ok(Some(digest)) => self.hashed.push((path, digest, expected)),
            Ok(None) | Err(JobError::Cancelled | JobError::Abandoned) => self.unfinished += 1,
            Err(JobError::Failed(error)) => self.unreadable.push((path, error.to_string())),
            Err(error) => self.unreadable.push((path, error.to_string())),
        }
    }

    fn complain_of_unreadable(&self) {
        for (path, error) in &self.unreadable {
            complain(format_args!("{}: {error}", path.display()));
        }
    }
}

/// The list; whether all files are in it.
fn print_sums(results: &Results) -> anyhow::Result<bool> {
    let mut text = Vec::new();
    for (path, digest, _) in &results.hashed {
        text.extend(line(digest, path));
        text.push(b'\n');
    }
    let printed = emit(&text);
    results.complain_of_unreadable();
    printed?;
    Ok(results.unreadable.is_empty())
}

/// What became of each file of the list; whether all are as they should be.
fn print_verdicts(results: &Results) -> anyhow::Result<bool> {
    let mut text = Vec::new();
    let mut verdict = |path: &Path, verdict: &str| {
        text.extend(escape(path));
        text.extend(format!(": {verdict}\n").bytes());
    };
    let mut wrong = 0;
    for (path, digest, expected) in &results.hashed {
        let right = expected.as_ref() == Some(digest);
        wrong += usize::from(!right);
        verdict(path, if right { "OK" } else { "FAILED" });
    }
    for (path, _) in &results.unreadable {
        verdict(path, "FAILED open or read");
    }
    let printed = emit(&text);
    results.complain_of_unreadable();
    let problems = [
        (results.malformed, "lines make no sense"),
        (results.unreadable.len(), "listed files could not be read"),
        (wrong, "checksums did NOT match"),
    ];
    for (count, what) in problems.iter().filter(|(count, _)| *count > 0) {
        complain(format_args!("{count} {what}"));
    }
    printed?;
    Ok(problems.iter().all(|(count, _)| *count == 0))
}

/// To standard output, whole: where a reader has gone, this is an error.
fn emit(text: &[u8]) -> anyhow::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text)?;
    Ok(stdout.flush()?)
}

fn complain(line: impl fmt::Display) {
    let _ = writeln!(io::stderr().lock(), "checksum: {line}");
}
