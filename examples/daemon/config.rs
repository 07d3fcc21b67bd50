//! What the daemon is told: the command line, once, and the configuration, again and again.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

/// A configuration is a page, not a flood.
const MOST_BYTES: u64 = 64 * 1024;

pub(crate) fn help() -> &'static str {
    "daemon [OPTIONS]
  Watches a spool folder, until Ctrl-C or SIGTERM. Serves /metrics and /healthz.
  SIGUSR1: health check. SIGUSR2: reads the configuration again. SIGHUP: that, and reopens the log.
  --port N         port on 127.0.0.1; 0 takes a free one (default 9464)
  --config FILE    the configuration (default: the example's own, examples/data/daemon.conf)
  --log FILE       log there instead of to standard error
  --timeout TIME   how long a request may take, and its answer (default 5s)
  --drain TIME     how long requests may take to end after a stop: 500ms, 5s (default 5s)"
}

#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) port: u16,
    pub(crate) config: PathBuf,
    pub(crate) log: Option<PathBuf>,
    pub(crate) timeout: Duration,
    pub(crate) drain: Duration,
}

#[derive(Debug)]
pub(crate) enum Command {
    Help,
    Serve(Arguments),
}

impl Arguments {
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> anyhow::Result<Command> {
        let own = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data/daemon.conf");
        let mut parsed = Self {
            port: 9464,
            config: own.into(),
            log: None,
            timeout: Duration::from_secs(5),
            drain: Duration::from_secs(5),
        };
        let mut words = arguments.flat_map(|word| match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => vec![name.into(), value.into()],
            _ => vec![word],
        });
        while let Some(name) = words.next() {
            if name == "--help" || name == "-h" {
                return Ok(Command::Help);
            }
            let known = ["--port", "--config", "--log", "--timeout", "--drain"];
            ensure!(known.contains(&name.as_str()), "unknown option {name}");
            let value = words
                .next()
                .with_context(|| format!("{name} needs a value"))?;
            match name.as_str() {
                "--port" => parsed.port = value.parse().context(value)?,
                "--config" => parsed.config = value.into(),
                "--timeout" => parsed.timeout = time(&value)?,
                "--log" => parsed.log = Some(value.into()),
                _ => parsed.drain = time(&value)?,
            }
        }
        Ok(Command::Serve(parsed))
    }
}

/// The configuration. Every key must be there once, so that a misspelt one is an error and not a
/// default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Config {
    pub(crate) spool: PathBuf,
    pub(crate) max_files: u64,
    pub(crate) check_every: Duration,
}

impl Config {
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let name = || path.display().to_string();
        let mut text = String::new();
        let file = File::open(path).with_context(name)?;
        file.take(MOST_BYTES + 1)
            .read_to_string(&mut text)
            .with_context(name)?;
        ensure!(text.len() as u64 <= MOST_BYTES, "{}: too long", name());
        let mut config = Self::parse(&text).with_context(name)?;
        if let Some(folder) = path.parent() {
            config.spool = folder.join(config.spool);
        }
        Ok(config)
    }

    fn parse(text: &str) -> anyhow::Result<Self> {
        let (mut spool, mut max_files, mut check_every) = (None, None, None);
        for (number, line) in (1..).zip(text.lines()) {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let place = || format!("line {number}: {line:?}");
            let (key, value) = line.split_once('=').with_context(place)?;
            let (key, value) = (key.trim(), value.trim());
            let twice = match key {
                "spool" => spool.replace(PathBuf::from(value)).is_some(),
                "max_files" => max_files
                    .replace(value.parse().with_context(place)?)
                    .is_some(),
                "check_every" => check_every
                    .replace(time(value).with_context(place)?)
                    .is_some(),
                _ => bail!("{}: unknown key", place()),
            };
            ensure!(!twice, "{}: given twice", place());
        }
        Ok(Self {
            spool: spool.context("spool is missing")?,
            max_files: max_files.context("max_files is missing")?,
            check_every: check_every.context("check_every is missing")?,
        })
    }
}

/// A positive time such as 200ms, 5s or 2m.
fn time(value: &str) -> anyhow::Result<Duration> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000)];
    let parse = |(unit, millis): &(&str, u64)| {
        let number: u64 = value.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*millis).filter(|millis| *millis > 0)
    };
    let millis = units.iter().find_map(parse);
    let millis = millis.with_context(|| format!("{value:?} is no time such as 200ms, 5s or 2m"))?;
    Ok(Duration::from_millis(millis))
}

impl fmt::Display for Config {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            spool,
            max_files,
            check_every,
        } = self;
        let spool = spool.display();
        write!(
            f,
            "watching {spool}, at most {max_files} files, every {check_every:?}"
        )
    }
}
