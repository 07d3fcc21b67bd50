//! Closing a channel that many senders use. The traps: closing twice, sending after the close, and
//! reading values that nobody sent; or losing what was sent just before.
//!
//! Producers send the lines of the files below a directory (default: the crate's own `src`) until
//! the channel is closed under them; any of them may close it, a consumer too. Whoever is refused
//! has its line back, and every line that was taken is received, once.
//!
//! `cargo run --example close_once [DIRECTORY]`

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, ensure};
use cleanbreak::{CancelToken, SafeChannel, SafeReceiver, SafeSender, scope, threads};

type Line<'a> = (usize, &'a str);

/// What became of the lines of one run.
#[derive(Default)]
struct Books<'a> {
    sent: Mutex<Vec<Line<'a>>>,
    refused: AtomicUsize,
    closes: AtomicUsize,
    received: Mutex<HashMap<Line<'a>, usize>>,
}

fn read_all(directory: &Path, texts: &mut Vec<String>) -> anyhow::Result<()> {
    let entries = fs::read_dir(directory);
    for entry in entries.with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        match path.is_dir() {
            true => read_all(&path, texts)?,
            false => texts.push(fs::read_to_string(path)?),
        }
    }
    Ok(())
}

/// Sends its lines until it is refused; then tries to close as well.
fn produce<'a>(
    lines: &[Line<'a>],
    tx: &SafeSender<Line<'a>>,
    books: &Books<'a>,
) -> anyhow::Result<()> {
    'lines: for &line in lines {
        if let Err(refused) = tx.send(line) {
            ensure!(refused.into_inner() == line, "another's line came back");
            books.refused.fetch_add(1, Ordering::Relaxed);
            break 'lines;
        }
        books.sent.lock().unwrap().push(line);
    }
    books
        .closes
        .fetch_add(usize::from(tx.close()), Ordering::Relaxed);
    ensure!(tx.send(lines[0]).is_err(), "sent after the close");
    Ok(())
}

/// Reads to the end; half-way through, it closes too.
fn consume<'a>(enough: usize, rx: &SafeReceiver<Line<'a>>, books: &Books<'a>) {
    for (n, line) in rx.iter().enumerate() {
        if n == enough {
            books
                .closes
                .fetch_add(usize::from(rx.close()), Ordering::Relaxed);
        }
        *books.received.lock().unwrap().entry(line).or_default() += 1;
    }
}

fn run<'a>(lines: &[Line<'a>], producers: usize, enough: usize) -> anyhow::Result<Books<'a>> {
    let (tx, rx) = SafeChannel::bounded(4);
    let books = Books::default();
    scope(&CancelToken::new(), |group| {
        let books = &books;
        for lines in lines.chunks(lines.len().div_ceil(producers)) {
            let tx = tx.clone();
            group.spawn(move |_| produce(lines, &tx, books))?;
        }
        for rx in [rx.clone(), rx] {
            group.spawn(move |_| {
                consume(enough, &rx, books);
                Ok(())
            })?;
        }
        Ok(())
    })?;
    Ok(books)
}

fn main() -> anyhow::Result<()> {
    let directory = std::env::args().nth(1).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        PathBuf::from,
    );
    let mut texts = Vec::new();
    read_all(&directory, &mut texts)?;
    let lines: Vec<Line<'_>> = texts
        .iter()
        .flat_map(|text| text.lines())
        .enumerate()
        .collect();
    ensure!(
        !lines.is_empty(),
        "nothing to read below {}",
        directory.display()
    );

    for enough in [0, 10, 100, usize::MAX] {
        let Books {
            sent,
            refused,
            closes,
            received,
        } = run(&lines, 8, enough)?;
        let sent = sent.into_inner().expect("no task panicked");
        let received = received.into_inner().expect("no task panicked");
        let refused = refused.into_inner();
        ensure!(closes.into_inner() == 1, "not closed once");
        ensure!(sent.len() == received.len(), "lost or made up");
        ensure!(sent.iter().all(|line| received.get(line) == Some(&1)));
        ensure!(refused <= 8 && (refused > 0 || sent.len() == lines.len()));
        let enough = match enough {
            usize::MAX => "the first producer at its end".to_owned(),
            enough => format!("a reader after {enough} lines, or so"),
        };
        println!("closed once, by {enough}: every line sent was received");
    }
    ensure!(threads::live().is_empty(), "left: {:?}", threads::live());
    Ok(())
}
