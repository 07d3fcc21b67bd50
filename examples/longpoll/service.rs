//! What all connections share, and the counts that `/stats` and the reports show.

use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Write};
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use cleanbreak::flow::Exit;
use cleanbreak::io::{Interest, Notify, wait_ready_timeout};
use cleanbreak::{CancelToken, Probe, SafeReceiver, SafeSender};
use parking_lot::Mutex;

use super::registry::Registry;
use super::settings::Live;
use super::topics::Topics;

pub(crate) struct Service {
    pub(crate) live: Live,
    pub(crate) topics: Topics<Notify>,
    pub(crate) registry: Arc<Registry>,
    pub(crate) tally: Tally,
    /// To the journal; full means that an entry is dropped and counted, never that a client waits.
    pub(crate) journal: SafeSender<Entry>,
}

/// Counts of rare events, written by whoever meets them. Relaxed: nothing is decided from them.
#[derive(Default)]
pub(crate) struct Tally {
    pub(crate) hung_up: AtomicU64,
    pub(crate) panics: AtomicU64,
    pub(crate) accept_pauses: AtomicU64,
    entries_dropped: AtomicU64,
    pub(crate) beats: AtomicU64,
    pub(crate) reloads: AtomicU64,
    pub(crate) failed_reloads: AtomicU64,
    answers: Mutex<Answers>,
}

/// One answer that was sent.
pub(crate) struct Entry {
    pub(crate) status: u16,
    pub(crate) bytes: usize,
}

#[derive(Clone, Default)]
pub(crate) struct Answers {
    pub(crate) by_status: BTreeMap<u16, u64>,
    pub(crate) bytes: u64,
    /// Entries that found the journal full.
    pub(crate) dropped: u64,
}

impl Service {
    pub(crate) fn new(live: Live, journal: SafeSender<Entry>) -> Self {
        let (registry, tally) = (Arc::default(), Tally::default());
        Self {
            live,
            topics: Topics::new(),
            registry,
            tally,
            journal,
        }
    }

    pub(crate) fn note(&self, entry: Entry) {
        if self.journal.try_send(entry).is_err() {
            count(&self.tally.entries_dropped);
        }
    }

    /// The journal: sums up the entries until the channel is closed and read to its end, so that
    /// nothing that was noted before the close is missing from the report.
    pub(crate) fn keep_journal(&self, entries: &SafeReceiver<Entry>) {
        // What the debug page shows: answers per second.
        let mut probe = Probe::new("journal");
        let exit: Exit = 'entries: loop {
            probe.idle();
            let Ok(entry) = entries.recv() else {
                break 'entries Exit::Closed;
            };
            probe.pass();
            let mut answers = self.tally.answers.lock();
            *answers.by_status.entry(entry.status).or_default() += 1;
            answers.bytes += entry.bytes as u64;
        };
        probe.finish(&exit);
    }

    pub(crate) fn answers(&self) -> Answers {
        let answers = self.tally.answers.lock().clone();
        Answers {
            dropped: self.tally.entries_dropped.load(Ordering::Relaxed),
            ..answers
        }
    }

    /// The state of the service as JSON.
    pub(crate) fn stats(&self) -> String {
        let topics = self.topics.counts();
        let answers = self.answers();
        let by_status = answers.by_status.iter();
        let by_status: Vec<_> = by_status
            .map(|(status, sent)| format!("\"{status}\":{sent}"))
            .collect();
        let tally = &self.tally;
        let load = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let numbers = [
            ("connections", self.registry.connections() as u64),
            ("waiting", self.registry.polls() as u64),
            ("topics", topics.topics as u64),
            ("messages", topics.messages as u64),
            ("retained_bytes", topics.bytes as u64),
            ("last_seq", topics.last_number),
            ("hung_up", load(&tally.hung_up)),
            ("panics", load(&tally.panics)),
            ("accept_pauses", load(&tally.accept_pauses)),
            ("beats", load(&tally.beats)),
            ("reloads", load(&tally.reloads)),
            ("failed_reloads", load(&tally.failed_reloads)),
            ("bytes_sent", answers.bytes),
            ("answers_not_counted", answers.dropped),
        ];
        let numbers = numbers
            .map(|(key, number)| format!("\"{key}\":{number},"))
            .concat();
        format!("{{{numbers}\"answers\":{{{}}}}}\n", by_status.join(","))
    }
}

impl fmt::Display for Answers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "answered, by status:")?;
        for (status, count) in &self.by_status {
            write!(f, " {status} x {count}")?;
        }
        write!(f, "; {} bytes", self.bytes)?;
        if self.dropped > 0 {
            write!(f, "; {} answers not counted", self.dropped)?;
        }
        Ok(())
    }
}

pub(crate) fn count(counter: &AtomicU64) {
    counter.fetch_add(1, Ordering::Relaxed);
}

/// Writes a line to standard error, or leaves it: a log that nobody reads must cost lines, never
/// the service.
pub(crate) fn log(line: impl fmt::Display) {
    write_line(
        io::stderr().lock(),
        Duration::ZERO,
        format_args!("longpoll: {line}"),
    );
}

/// Writes to standard output, where the reader has a second to make room.
pub(crate) fn print(text: impl fmt::Display) {
    write_line(io::stdout().lock(), Duration::from_secs(1), text);
}

/// Writes a line if there is room for it: a pipe that is ready takes 4 kB without blocking. Errors
/// are dropped, because the service does its work whether or not somebody reads about it.
fn write_line(mut stream: impl Write + AsFd, patience: Duration, line: impl fmt::Display) {
    let never = CancelToken::never();
    if wait_ready_timeout(&stream, Interest::Writable, &never, patience).is_ok() {
        let line = format!("{line}\n");
        let _ = stream
            .write_all(line.as_bytes())
            .and_then(|()| stream.flush());
    }
}
