//! A batch with an error group: a hundred tasks, one fails. The traps: the siblings run on to their
//! ends, the error that comes out is "cancelled", or threads stay behind.
//!
//! `cargo run --example errgroup [DIRECTORY]` counts the lines of the files below a directory
//! (default: the crate's own `src`), one task each, over and over until there are a hundred. Once
//! all goes well; once one file is not there.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};

use anyhow::{Context, ensure};
use cleanbreak::{CancelToken, scope, threads};

const TASKS: usize = 100;

fn files_below(directory: &Path, files: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    let entries = fs::read_dir(directory);
    for entry in entries.with_context(|| directory.display().to_string())? {
        let path = entry?.path();
        match path.is_dir() {
            true => files_below(&path, files)?,
            false => files.push(path),
        }
    }
    Ok(())
}

fn count_lines(file: &Path) -> anyhow::Result<usize> {
    let bytes = fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
    Ok(bytes.iter().filter(|byte| **byte == b'\n').count())
}

/// All files at once; each task then waits for more work until it is told to stop.
fn count_all(files: &[PathBuf], stopped: &AtomicUsize) -> anyhow::Result<usize> {
    let total = AtomicUsize::new(0);
    let all_started = Barrier::new(files.len());
    scope(&CancelToken::new(), |group| {
        let mut tasks = Vec::new();
        for file in files {
            let (all_started, total) = (&all_started, &total);
            tasks.push(group.spawn_named("count", move |token| {
                all_started.wait();
                total.fetch_add(count_lines(file)?, Ordering::Relaxed);
                // One wait: the group's end, or a sibling's failure.
                token.wait();
                stopped.fetch_add(1, Ordering::Relaxed);
                Ok(token.check()?) // an error too, but never the first
            })?);
        }
        group.token().wait();
        Ok(total.load(Ordering::Relaxed))
    })
}

fn main() -> anyhow::Result<()> {
    let directory = std::env::args().nth(1).map_or_else(
        || Path::new(env!("CARGO_MANIFEST_DIR")).join("src"),
        PathBuf::from,
    );
    let mut files = Vec::new();
    files_below(&directory, &mut files)?;
    ensure!(!files.is_empty(), "no files below {}", directory.display());
    let mut hundred: Vec<_> = files.iter().cycle().take(TASKS).cloned().collect();

    // All go well: the results are summed after the join.
    let lines = scope(&CancelToken::new(), |group| {
        let tasks = hundred
            .iter()
            .map(|file| group.spawn(|_| count_lines(file)));
        let tasks = tasks.collect::<Result<Vec<_>, _>>()?;
        Ok(tasks
            .into_iter()
            .filter_map(|task| task.join().ok())
            .sum::<usize>())
    })?;
    let expected: anyhow::Result<usize> = hundred.iter().map(|file| count_lines(file)).sum();
    ensure!(lines == expected?, "lines were lost");
    println!("{TASKS} tasks counted {lines} lines");

    // One fails: the other ninety-nine stop within one wait.
    hundred[TASKS / 2] = directory.join("not-there");
    let stopped = AtomicUsize::new(0);
    let error = count_all(&hundred, &stopped)
        .err()
        .context("it must fail")?;
    let stopped = stopped.into_inner();
    println!("stopped {stopped} siblings: {error}");
    ensure!(
        error.to_string().ends_with("not-there"),
        "not the first: {error}"
    );
    ensure!(error.downcast_ref::<std::io::Error>().is_some());
    ensure!(stopped == TASKS - 1, "a sibling ran on");
    ensure!(threads::live().is_empty(), "left: {:?}", threads::live());
    Ok(())
}
