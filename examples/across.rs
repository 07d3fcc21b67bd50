//! A break that must cross a function, a closure or a thread. The trap: labels stop at the edge of
//! a function, and people reach for panics.
//!
//! `cargo run --example across [DIRECTORY [WORD]]` searches the files below a directory. Inside a
//! thread the break travels as `ControlFlow` through closures and functions by `?`; across threads
//! the finder breaks the whole group with the place as its value. Exits with 1 if the word is
//! nowhere.

use std::fs;
use std::ops::ControlFlow::{self, Break, Continue};
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, ensure};
use cleanbreak::{CancelToken, GroupBuilder, threads};

#[derive(Debug)]
struct Place {
    file: PathBuf,
    line: usize,
}

/// Why a walk is left early.
enum Left {
    Found(Place),
    Told,
}

/// Calls `visit` for every file below `directory` until it breaks: through the recursion, by `?`.
fn walk<B>(
    directory: &Path,
    visit: &mut impl FnMut(PathBuf) -> ControlFlow<B>,
) -> anyhow::Result<ControlFlow<B>> {
    let entries = fs::read_dir(directory);
    for entry in entries.with_context(|| format!("cannot read {}", directory.display()))? {
        let entry = entry?;
        let flow = match entry.file_type()?.is_dir() {
            true => walk(&entry.path(), visit)?,
            false => visit(entry.path()),
        };
        if flow.is_break() {
            return Ok(flow);
        }
    }
    Ok(Continue(()))
}

/// Looks into one file. Breaks out of the closure, this function and its caller's loop at once.
fn look_into(file: &Path, word: &str, token: &CancelToken) -> ControlFlow<Left> {
    let Ok(text) = fs::read_to_string(file) else {
        return Continue(()); // not text
    };
    text.lines().enumerate().try_for_each(|(n, line)| {
        if token.is_cancelled() {
            return Break(Left::Told);
        }
        if line.contains(word) {
            let (file, line) = (file.to_owned(), n + 1);
            return Break(Left::Found(Place { file, line }));
        }
        Continue(())
    })
}

fn look_into_all(files: &[PathBuf], word: &str, token: &CancelToken) -> ControlFlow<Left> {
    for file in files {
        look_into(file, word, token)?;
    }
    Continue(())
}

/// The first place that any worker finds; it stops the others.
fn search(directory: &Path, word: &str) -> anyhow::Result<Option<Place>> {
    let mut files = Vec::new();
    let everything = walk(directory, &mut |file| {
        files.push(file);
        Continue::<()>(())
    })?;
    ensure!(everything.is_continue());
    let group = GroupBuilder::new().name("search").breaks::<Place>();
    let flow = group.scope_flow(&CancelToken::new(), |group| {
        for files in files.chunks(files.len().div_ceil(4).max(1)) {
            group.spawn(move |token| {
                if let Break(Left::Found(place)) = look_into_all(files, word, token) {
                    group.break_with(place).ok(); // a second finder comes too late
                }
                Ok(())
            })?;
        }
        Ok(())
    });
    ensure!(threads::live().is_empty(), "a worker was left behind");
    match flow {
        Ok(Break(place)) => Ok(Some(place)),
        Ok(Continue(())) => Ok(None),
        // Broken before all had been spawned is no error: the break was first, and is above.
        Err(error) => Err(error),
    }
}

fn main() -> anyhow::Result<ExitCode> {
    let mut arguments = std::env::args().skip(1);
    let directory = arguments.next().map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        PathBuf::from,
    );
    let word = arguments.next().unwrap_or_else(|| "fn break_with".into());
    let Some(Place { file, line }) = search(&directory, &word)? else {
        println!("\"{word}\" is nowhere");
        return Ok(ExitCode::FAILURE);
    };
    println!("{}:{line}", file.display());
    let text = fs::read_to_string(&file)?;
    let found = text.lines().nth(line - 1);
    ensure!(found.is_some_and(|line| line.contains(&word)));
    Ok(ExitCode::SUCCESS)
}
