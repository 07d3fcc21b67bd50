//! Which files there are: below the folders that are named, or in a list.

use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};

use super::sums::{Digest, parse};

/// A file to look at.
pub(crate) struct Found {
    pub(crate) path: PathBuf,
    /// Zero if nobody knows.
    pub(crate) bytes: u64,
    /// What its checksum should be.
    pub(crate) expected: Option<Digest>,
}

/// What there is to do, one step at a time, so that the caller can be told to stop between any two.
/// A step that fails says for which path.
pub(crate) type Steps = Box<dyn Iterator<Item = Result<Found, (PathBuf, io::Error)>>>;

/// Every regular file below the paths. What is named itself may be a link.
pub(crate) fn below(paths: Vec<PathBuf>) -> Steps {
    let mut named = paths.into_iter();
    let mut folders: Vec<PathBuf> = Vec::new();
    let mut open: Option<(PathBuf, fs::ReadDir)> = None;
    Box::new(std::iter::from_fn(move || {
        loop {
            if let Some((folder, entries)) = &mut open {
                match entries.next() {
                    None => open = None,
                    Some(Err(error)) => return Some(Err((folder.clone(), error))),
                    Some(Ok(entry)) => match look(&entry, &mut folders).transpose() {
                        Some(step) => return Some(step.map_err(|error| (entry.path(), error))),
                        None => continue,
                    },
                }
            } else if let Some(folder) = folders.pop() {
                match fs::read_dir(&folder) {
                    Ok(entries) => open = Some((folder, entries)),
                    Err(error) => return Some(Err((folder, error))),
                }
            } else {
                let path = named.next()?;
                match fs::metadata(&path) {
                    Ok(found) if found.is_dir() => folders.push(path),
                    Ok(found) => return Some(Ok(unknown(path, found.len()))),
                    Err(error) => return Some(Err((path, error))),
                }
            }
        }
    }))
}

/// A file, or a folder for later, or nothing of interest.
fn look(entry: &fs::DirEntry, folders: &mut Vec<PathBuf>) -> io::Result<Option<Found>> {
    let kind = entry.file_type()?;
    if kind.is_dir() {
        folders.push(entry.path());
    }
    match kind.is_file() {
        true => Ok(Some(unknown(entry.path(), entry.metadata()?.len()))),
        false => Ok(None),
    }
}

fn unknown(path: PathBuf, bytes: u64) -> Found {
    Found {
        path,
        bytes,
        expected: None,
    }
}

/// The files of a list, and how many of its lines make no sense.
pub(crate) fn listed(list: &Path) -> io::Result<(Steps, usize)> {
    let lines = BufReader::new(File::open(list)?).split(b'\n');
    let lines = lines.collect::<io::Result<Vec<_>>>()?;
    let parsed: Vec<_> = lines.iter().filter_map(|line| parse(line)).collect();
    let malformed = lines.len() - parsed.len();
    let steps = parsed.into_iter().map(|(expected, path)| {
        let bytes = fs::metadata(&path).map_or(0, |found| found.len());
        let expected = Some(expected);
        Ok(Found {
            path,
            bytes,
            expected,
        })
    });
    Ok((Box::new(steps), malformed))
}
