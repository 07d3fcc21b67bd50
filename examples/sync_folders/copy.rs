//! One file, copied whole or not at all.
//!
//! It is written under a temporary name and renamed when it is complete, so that nobody ever finds
//! half of it under its own; and it is removed again on every other way out: an error, a panic, a
//! cancellation between two chunks. The token is looked at between any two chunks.
//!
//! There is no `fsync`: after a power cut, files of the last seconds may be empty, and are copied
//! again, as their time of modification will differ. `rsync` does the same.

use std::fs::{self, File, FileTimes, Metadata, OpenOptions, Permissions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use cleanbreak::{CancelToken, Cancelled};
use scopeguard::{ScopeGuard, guard};

/// Some 100 µs of work: the longest that a cancellation waits for, on a healthy disk.
const CHUNK: u64 = 64 * 1024;

/// Why a file was not copied.
pub(crate) enum Trouble {
    /// The token was cancelled.
    Told(Cancelled),
    /// This path is to blame.
    Failed(PathBuf, io::Error),
}

impl From<Cancelled> for Trouble {
    fn from(cancelled: Cancelled) -> Self {
        Self::Told(cancelled)
    }
}

pub(crate) struct Copier {
    scratch: PathBuf,
    /// Bytes in a second.
    limit: Option<u64>,
}

impl Copier {
    pub(crate) fn new(scratch: PathBuf, limit: Option<u64>) -> Self {
        Self { scratch, limit }
    }

    /// Makes the temporary place, empty: a run that was killed may have left something in it.
    pub(crate) fn prepare(&self) -> io::Result<()> {
        match fs::remove_dir_all(&self.scratch) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => fs::create_dir(&self.scratch),
        }
    }

    pub(crate) fn clean(&self) {
        let _ = fs::remove_dir_all(&self.scratch);
    }

    /// Copies unless length and time of modification are the same; the length of what it copied.
    pub(crate) fn copy_if_changed(
        &self,
        from: &Path,
        to: &Path,
        token: &CancelToken,
    ) -> Result<Option<u64>, Trouble> {
        let source = fs::symlink_metadata(from).map_err(blame(from))?;
        let same = |target: Metadata| target.is_file() && version(&target) == version(&source);
        if fs::symlink_metadata(to).is_ok_and(same) {
            return Ok(None);
        }
        self.copy(from, to, token).map(Some)
    }

    fn copy(&self, from: &Path, to: &Path, token: &CancelToken) -> Result<u64, Trouble> {
        let (mut input, before) = open(from).map_err(blame(from))?;
        let part = guard(self.scratch.join("part"), |part| {
            drop(fs::remove_file(part))
        });
        // Blame the name that the user knows.
        let mut output = File::create(&*part).map_err(blame(to))?;
        let bytes = self.transfer(&mut input, &mut output, (from, to), token)?;
        let after = input.metadata().map_err(blame(from))?;
        if version(&before) != version(&after) || bytes != before.len() {
            let changed = io::Error::other("it changed while it was copied");
            return Err(blame(from)(changed));
        }
        dress(&output, &before).map_err(blame(to))?;
        fs::rename(&*part, to).map_err(blame(to))?;
        ScopeGuard::into_inner(part);
        Ok(bytes)
    }

    fn transfer(
        &self,
        input: &mut File,
        output: &mut File,
        (from, to): (&Path, &Path),
        token: &CancelToken,
    ) -> Result<u64, Trouble> {
        // Ten chunks a second at least.
        let chunk = self
            .limit
            .map_or(CHUNK, |limit| (limit / 10).clamp(1, CHUNK));
        let mut buffer = vec![0; usize::try_from(chunk).unwrap_or(usize::MAX)];
        let mut bytes = 0;
        'chunks: loop {
            token.check()?;
            let length = match input.read(&mut buffer) {
                Ok(0) => break 'chunks Ok(bytes),
                Ok(length) => length,
                Err(error) if error.kind() == ErrorKind::Interrupted => continue 'chunks,
                Err(error) => return Err(blame(from)(error)),
            };
            output.write_all(&buffer[..length]).map_err(blame(to))?;
            bytes += length as u64;
            if let Some(limit) = self.limit {
                token.sleep(Duration::from_secs_f64(length as f64 / limit as f64))?;
            }
        }
    }
}

/// What tells one state of a file from another.
fn version(file: &Metadata) -> (u64, Option<std::time::SystemTime>) {
    (file.len(), file.modified().ok())
}

/// Opens a file, and nothing else: between the listing and now, it may have become a link that
/// leads elsewhere, or a pipe, whose opening would block.
fn open(path: &Path) -> io::Result<(File, Metadata)> {
    let mut options = OpenOptions::new();
    options.custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK);
    let file = options.read(true).open(path)?;
    let found = file.metadata()?;
    match found.is_file() {
        true => Ok((file, found)),
        false => Err(io::Error::other("no file any more")),
    }
}

/// Permissions without set-user-id and the like, as the owner may be another; and the time of
/// modification, by which the next pass knows the file.
fn dress(output: &File, as_source: &Metadata) -> io::Result<()> {
    let mode = as_source.permissions().mode() & 0o777;
    output.set_permissions(Permissions::from_mode(mode))?;
    output.set_times(FileTimes::new().set_modified(as_source.modified()?))
}

fn blame(path: &Path) -> impl Fn(io::Error) -> Trouble + '_ {
    |error| Trouble::Failed(path.to_owned(), error)
}
