//! The command line.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Where a path leads, also when the last part of it is not there yet.
fn resolved(path: &Path) -> PathBuf {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    let resolve = |ancestor: &Path| {
        let rest = absolute.strip_prefix(ancestor).ok()?;
        Some(ancestor.canonicalize().ok()?.join(rest))
    };
    absolute.ancestors().find_map(resolve).unwrap_or(absolute)
}

pub(crate) fn help() -> &'static str {
    "sync_folders [OPTIONS] [SOURCE TARGET]...
  Makes each target folder like its source, again and again, until Ctrl-C or SIGTERM.
  Without folders: mirrors this crate's own into a temporary place, three times, and checks them.
  --every TIME     from one pass to the next: 200ms, 5s, 2m (default 5s)
  --passes N       stop after so many passes; exit status 1 if the last one had problems
  --delete         delete in the target what the source does not have
  --limit BYTES    copy no more than so many bytes in a second, for each pair"
}

pub(crate) struct Options {
    pub(crate) every: Duration,
    pub(crate) passes: Option<u64>,
    pub(crate) delete: bool,
    pub(crate) limit: Option<u64>,
    pub(crate) pairs: Vec<Pair>,
}

#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) source: PathBuf,
    pub(crate) target: PathBuf,
}

pub(crate) enum Command {
    Help,
    /// Without folders of the user's.
    Show(Options),
    Sync(Options),
}

impl Options {
    pub(crate) fn parse(arguments: impl Iterator<Item = OsString>) -> Result<Command, String> {
        let mut arguments = arguments;
        let mut folders = Vec::new();
        let (mut every, mut passes, mut delete, mut limit) = (None, None, false, None);
        'arguments: while let Some(argument) = arguments.next() {
            let text = argument.to_str().unwrap_or_default().to_owned();
            let (name, mut inline) = match text.split_once('=') {
                Some((name, value)) if name.starts_with("--") => (name, Some(value.to_owned())),
                _ => (text.as_str(), None),
            };
            let mut value = || {
                let next = inline
                    .take()
                    .map(OsString::from)
                    .or_else(|| arguments.next());
                let next = next.ok_or_else(|| format!("{name} needs a value"))?;
                next.into_string().map_err(|_| format!("{name}: not text"))
            };
            match name {
                "--help" | "-h" => return Ok(Command::Help),
                "--every" => every = Some(duration(&value()?)?),
                "--passes" => passes = Some(positive(name, &value()?)?),
                "--limit" => limit = Some(positive(name, &value()?)?),
                "--delete" => delete = true,
                "--" => {
                    folders.extend(arguments.by_ref().map(PathBuf::from));
                    break 'arguments;
                }
                _ if name.starts_with('-') => return Err(format!("unknown option {name}")),
                _ => folders.push(PathBuf::from(argument)),
            }
            if inline.is_some() {
                return Err(format!("{name} takes no value"));
            }
        }
        let show = folders.is_empty();
        let options = Self {
            every: every.unwrap_or(Duration::from_millis(if show { 200 } else { 5000 })),
            passes: passes.or(show.then_some(3)),
            delete,
            limit,
            pairs: pairs(folders)?,
        };
        Ok(match show {
            true => Command::Show(options),
            false => Command::Sync(options),
        })
    }
}

/// Pairs whose folders are not in each other's way.
fn pairs(folders: Vec<PathBuf>) -> Result<Vec<Pair>, String> {
    if !folders.len().is_multiple_of(2) {
        return Err("folders come in pairs: SOURCE TARGET".to_owned());
    }
    let pairs: Vec<_> = folders
        .chunks(2)
        .map(|pair| Pair {
            source: pair[0].clone(),
            target: pair[1].clone(),
        })
        .collect();
    let overlap = |one: &Path, other: &Path| {
        let (one, other) = (resolved(one), resolved(other));
        one.starts_with(&other) || other.starts_with(&one)
    };
    for (n, Pair { source, target }) in pairs.iter().enumerate() {
        let others = pairs[..n].iter().map(|pair| &pair.target);
        // A target may be another pair's source.
        if let Some(clash) = others.chain([source]).find(|path| overlap(path, target)) {
            let (target, clash) = (target.display(), clash.display());
            return Err(format!("{target} and {clash} are one inside the other"));
        }
    }
    Ok(pairs)
}

fn positive(name: &str, value: &str) -> Result<u64, String> {
    let number = value.parse().ok().filter(|number| *number > 0);
    number.ok_or_else(|| format!("{name}: {value:?} is no positive number"))
}

fn duration(value: &str) -> Result<Duration, String> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000)];
    let parse = |(unit, millis): &(&str, u64)| {
        let number: u64 = value.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*millis).filter(|millis| *millis > 0)
    };
    let millis = units.iter().find_map(parse);
    let millis = millis.ok_or_else(|| format!("{value:?} is no time such as 200ms, 5s or 2m"))?;
    Ok(Duration::from_millis(millis))
}
