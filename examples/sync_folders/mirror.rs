//! One pass over a folder and all below it.
//!
//! What goes wrong with one file is noted with its path, and the pass goes on. Only the token ends
//! it, by `?`.
//!
//! Invariants
//! 1. Whatever is in the target under its own name is a whole file: see `copy.rs`.
//! 2. Nothing is deleted because of a folder that could not be read to its end.
//! 3. Temporary files are in one place, `TARGET/.sync-folders`, which is no part of the mirror.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::{self, FileType, Metadata};
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use cleanbreak::{CancelToken, Cancelled};

use super::copy::{Copier, Trouble};
use super::options::{Options, Pair};

/// Name of the folder for what is not yet whole. Inside the target, so that a rename can put it in
/// its place.
const SCRATCH: &str = ".sync-folders";

pub(crate) struct Mirror {
    source: PathBuf,
    target: PathBuf,
    delete: bool,
    copier: Copier,
}

/// What one pass did.
#[derive(Default)]
pub(crate) struct Pass {
    pub(crate) copied: u64,
    pub(crate) bytes: u64,
    pub(crate) deleted: u64,
    unchanged: u64,
    skipped: u64,
    pub(crate) problems: BTreeMap<PathBuf, String>,
}

/// What a folder has, by name.
type Listing = BTreeMap<OsString, FileType>;

impl Mirror {
    pub(crate) fn new(pair: &Pair, options: &Options) -> Self {
        let Pair { source, target } = pair.clone();
        let copier = Copier::new(target.join(SCRATCH), options.limit);
        Self {
            source,
            target,
            delete: options.delete,
            copier,
        }
    }

    /// Makes the target like the source.
    pub(crate) fn sync(&self, token: &CancelToken, pass: &mut Pass) -> Result<(), Cancelled> {
        if !self.prepare(pass) {
            return Ok(());
        }
        let mut folders = vec![PathBuf::new()];
        while let Some(folder) = folders.pop() {
            token.check()?;
            self.sync_folder(&folder, &mut folders, token, pass)?;
        }
        Ok(())
    }

    /// The source must be there, and the target is made, but not its parent: where a disk is
    /// mounted, that is a folder of another disk when it is not.
    fn prepare(&self, pass: &mut Pass) -> bool {
        let source = fs::metadata(&self.source).and_then(must_be_folder);
        let target = || match fs::metadata(&self.target) {
            Err(error) if error.kind() == ErrorKind::NotFound => fs::create_dir(&self.target),
            found => found.and_then(must_be_folder),
        };
        pass.note(&self.source, source).is_some()
            && pass.note(&self.target, target()).is_some()
            && pass.note(&self.target, self.copier.prepare()).is_some()
    }

    fn sync_folder(
        &self,
        folder: &Path,
        folders: &mut Vec<PathBuf>,
        token: &CancelToken,
        pass: &mut Pass,
    ) -> Result<(), Cancelled> {
        let (source, target) = (below(&self.source, folder), below(&self.target, folder));
        // Invariant 2: a folder that cannot be listed is left as it is.
        let Some(wanted) = pass.note(&source, list(&source)) else {
            return Ok(());
        };
        if self.delete {
            // First, as it may be what makes room, or what is in the way.
            self.delete_strangers(&target, &wanted, token, pass)?;
        }
        for (name, kind) in &wanted {
            token.check()?;
            let inner = folder.join(name);
            if kind.is_file() {
                self.sync_file(&inner, token, pass)?;
            } else if !kind.is_dir() {
                pass.skipped += 1;
            } else if pass
                .note(&target.join(name), make_folder(&target.join(name)))
                .is_some()
            {
                folders.push(inner);
            }
        }
        Ok(())
    }

    fn sync_file(
        &self,
        file: &Path,
        token: &CancelToken,
        pass: &mut Pass,
    ) -> Result<(), Cancelled> {
        let (from, to) = (self.source.join(file), self.target.join(file));
        match self.copier.copy_if_changed(&from, &to, token) {
            Ok(None) => pass.unchanged += 1,
            Ok(Some(bytes)) => {
                pass.copied += 1;
                pass.bytes += bytes;
            }
            Err(Trouble::Told(cancelled)) => return Err(cancelled),
            Err(Trouble::Failed(path, error)) => drop(pass.note::<()>(&path, Err(error))),
        }
        Ok(())
    }

    /// Deletes what the source does not have, or has as something else.
    fn delete_strangers(
        &self,
        target: &Path,
        wanted: &Listing,
        token: &CancelToken,
        pass: &mut Pass,
    ) -> Result<(), Cancelled> {
        let Some(present) = pass.note(target, list(target)) else {
            return Ok(());
        };
        for (name, kind) in present {
            let belongs = |wanted: &FileType| {
                let skipped = !wanted.is_file() && !wanted.is_dir();
                skipped || (wanted.is_file(), wanted.is_dir()) == (kind.is_file(), kind.is_dir())
            };
            if !wanted.get(&name).is_some_and(belongs) {
                delete(&target.join(name), kind, token, pass)?;
            }
        }
        Ok(())
    }

    /// Removes what is temporary. There is none unless a file was being copied.
    pub(crate) fn clean(&self) {
        self.copier.clean();
    }

    pub(crate) fn left_something(&self) -> bool {
        fs::symlink_metadata(self.target.join(SCRATCH)).is_ok()
    }
}

impl Pass {
    /// The value, or a note of what is wrong with the path.
    fn note<T>(&mut self, path: &Path, result: io::Result<T>) -> Option<T> {
        match result {
            Ok(value) => Some(value),
            Err(error) => {
                self.problems.insert(path.to_owned(), error.to_string());
                None
            }
        }
    }
}

/// Deletes a file, or a folder from its leaves up, as long as the token allows.
fn delete(
    path: &Path,
    kind: FileType,
    token: &CancelToken,
    pass: &mut Pass,
) -> Result<(), Cancelled> {
    // A folder is met twice: before its contents, and after.
    let mut left = vec![(path.to_owned(), kind.is_dir(), false)];
    while let Some((path, is_folder, emptied)) = left.pop() {
        token.check()?;
        if is_folder && !emptied {
            if let Some(inner) = pass.note(&path, list_all(&path)) {
                left.push((path.clone(), true, true));
                let inner = inner.into_iter();
                left.extend(inner.map(|(name, kind)| (path.join(name), kind.is_dir(), false)));
            }
            continue;
        }
        let deleted = match is_folder {
            true => fs::remove_dir(&path),
            false => fs::remove_file(&path),
        };
        pass.deleted += u64::from(pass.note(&path, deleted).is_some());
    }
    Ok(())
}

/// The folder of this name, or the root itself, by the name that the user gave it.
fn below(root: &Path, folder: &Path) -> PathBuf {
    match folder.as_os_str().is_empty() {
        true => root.to_owned(),
        false => root.join(folder),
    }
}

/// What is in a folder: all of it, or an error.
fn list_all(folder: &Path) -> io::Result<Listing> {
    fs::read_dir(folder)?
        .map(|entry| {
            let entry = entry?;
            Ok((entry.file_name(), entry.file_type()?))
        })
        .collect()
}

/// The same, without what is not to be mirrored (invariant 3).
fn list(folder: &Path) -> io::Result<Listing> {
    let mut listing = list_all(folder)?;
    listing.remove(OsStr::new(SCRATCH));
    Ok(listing)
}

fn make_folder(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        // Not through a link: that would lead out of the target.
        Ok(found) => must_be_folder(found),
        Err(_) => fs::create_dir(path),
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for `and_then`")]
fn must_be_folder(found: Metadata) -> io::Result<()> {
    match found.is_dir() {
        true => Ok(()),
        false => Err(ErrorKind::NotADirectory.into()),
    }
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (source, target) = (self.source.display(), self.target.display());
        write!(f, "{source} -> {target}")
    }
}

impl fmt::Display for Pass {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            copied,
            bytes,
            deleted,
            unchanged,
            skipped,
            problems,
        } = self;
        write!(f, "{copied} copied ({bytes} bytes), {deleted} deleted, ")?;
        write!(f, "{unchanged} unchanged, {skipped} skipped, ")?;
        write!(f, "{} problems", problems.len())
    }
}
