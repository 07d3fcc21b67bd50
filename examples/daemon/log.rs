//! The log: standard error, or a file that can be opened again.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use parking_lot::Mutex;

pub(crate) struct Log {
    path: Option<PathBuf>,
    file: Mutex<Option<File>>,
}

impl Log {
    /// To a file, or without one to standard error.
    pub(crate) fn open(path: Option<PathBuf>) -> anyhow::Result<Self> {
        let file = path.as_deref().map(append).transpose()?;
        let file = Mutex::new(file);
        Ok(Self { path, file })
    }

    /// Opens the file again, as it may have been renamed; what was open stays if that fails.
    pub(crate) fn reopen(&self) -> String {
        let Some(path) = &self.path else {
            return "the log is standard error".to_owned();
        };
        match append(path) {
            Ok(file) => {
                let before = self.file.lock().replace(file);
                drop(before);
                "the log was opened again".to_owned()
            }
            Err(error) => format!("the log stays where it is: {error:#}"),
        }
    }

    /// A log that cannot be written, as on a full disk, is no reason to stop.
    pub(crate) fn line(&self, line: impl fmt::Display) {
        let line = format!("daemon: {line}\n");
        let _ = match &mut *self.file.lock() {
            Some(file) => file.write_all(line.as_bytes()),
            None => io::stderr().lock().write_all(line.as_bytes()),
        };
    }
}

fn append(path: &Path) -> anyhow::Result<File> {
    let file = OpenOptions::new().append(true).create(true).open(path);
    file.with_context(|| format!("cannot open the log {}", path.display()))
}
