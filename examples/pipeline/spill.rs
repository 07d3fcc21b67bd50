//! What did not fit into a channel, in a file, first in first out.
//!
//! Invariants
//! 1. The file holds whole lines only: what could be written in part is cut off again.
//! 2. `held` counts what was appended and not yet `moved`: the order that was taken last is among
//!    them, so nothing overtakes it.
//! 3. When nothing is held, the file is empty.

use std::fs::{File, OpenOptions, remove_file};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom, Write};
use std::path::PathBuf;

use super::order::Order;

pub(crate) struct Spill {
    path: PathBuf,
    writer: File,
    reader: BufReader<File>,
    length: u64,
    held: u64,
    /// Taken, and not moved.
    front: Option<Order>,
    /// How many ever came here.
    pub(crate) total: u64,
}

impl Spill {
    /// In a new file: one that is there is what a killed run left, and not to be overwritten.
    pub(crate) fn create(path: PathBuf) -> io::Result<Self> {
        let writer = OpenOptions::new()
            .append(true)
            .create_new(true)
            .open(&path)?;
        let reader = BufReader::new(File::open(&path)?);
        Ok(Self {
            path,
            writer,
            reader,
            length: 0,
            held: 0,
            front: None,
            total: 0,
        })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.held == 0
    }

    pub(crate) fn append(&mut self, order: &Order) -> io::Result<()> {
        let line = order.spilled();
        if let Err(error) = self.writer.write_all(line.as_bytes()) {
            let _ = self.writer.set_len(self.length); // invariant 1
            return Err(error);
        }
        self.length += line.len() as u64;
        self.held += 1;
        self.total += 1;
        Ok(())
    }

    /// The oldest; it still counts as held until it is [`moved`](Self::moved).
    pub(crate) fn take(&mut self) -> io::Result<Option<Order>> {
        if self.is_empty() || self.front.is_some() {
            return Ok(self.front.take());
        }
        let mut line = String::new();
        self.reader.read_line(&mut line)?;
        let broken = || io::Error::other(format!("{}: {line:?}", self.path.display()));
        Order::unspill(&line).ok_or_else(broken).map(Some)
    }

    /// The order that was taken is somewhere else now.
    pub(crate) fn moved(&mut self) -> io::Result<()> {
        self.held -= 1;
        if self.is_empty() {
            self.writer.set_len(0)?;
            self.reader.seek(SeekFrom::Start(0))?;
            self.length = 0;
        }
        Ok(())
    }

    /// The order that was taken comes back.
    pub(crate) fn put_back(&mut self, order: Order) {
        self.front = Some(order);
    }

    /// Removes the file, if nothing is held in it.
    pub(crate) fn remove(self) -> io::Result<()> {
        match self.is_empty() {
            true => remove_file(&self.path),
            false => Ok(()),
        }
    }
}
