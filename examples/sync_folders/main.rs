//! A pool of polling workers that mirror folders: every N seconds, each makes its target like its
//! source. The traps: a copy of gigabytes that cannot be told to stop; half a file left behind by
//! one that was; one bad file that ends the loop; a source that is gone for a moment, and a target
//! that is emptied for it.
//!
//! ```text
//! cargo run --release --features signal --example sync_folders                 # shows itself
//! cargo run --release --features signal --example sync_folders -- --help
//! cargo run --release --features signal --example sync_folders -- --delete photos /mnt/photos
//! ```
//!
//! Ctrl-C or `SIGTERM` stops at once, also in the middle of a file: the token goes down into every
//! step between two system calls. What was copied so far is removed, each worker is joined, and
//! reports. Without folders it mirrors this crate's own `src` and `examples` into a temporary
//! place, checks that nothing differs, and ends.
//!
//! `mirror.rs` is one pass, `copy.rs` one file, `options.rs` the command line.
//!
//! Not promised: a system call that hangs, as on a dead network file system, holds its worker (a
//! second Ctrl-C ends the process). A file counts as unchanged when length and time of modification
//! are. Symbolic links and special files are skipped. Owners, and the times of folders, are not
//! mirrored.

#[cfg(unix)]
mod app;
#[cfg(unix)]
mod copy;
#[cfg(unix)]
mod mirror;
#[cfg(unix)]
mod options;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    app::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("this example needs Unix, for its signals");
}
