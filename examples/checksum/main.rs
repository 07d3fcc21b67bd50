//! SHA-256 of every file below some folders, on all cores, with a progress bar: what `sha256sum`
//! prints, sorted, for `sha256sum -c`. The traps: a Ctrl-C that throws the work of minutes away, or
//! leaves the terminal with half a bar; a pool that is dropped with its queue full; one unreadable
//! file that hides a million good ones.
//!
//! ```text
//! cargo run --release --features signal --example checksum                    # this crate's src
//! cargo run --release --features signal --example checksum -- --help
//! cargo run --release --features signal --example checksum -- ~/photos > sums
//! cargo run --release --features signal --example checksum -- --check sums    # or sha256sum -c
//! ```
//!
//! On Ctrl-C it prints what it has, says that it is not all, and exits with 130. Files that cannot
//! be read are told at the end; the exit status is then 1. Symbolic links below a folder, and
//! special files, are left out.
//!
//! `hash.rs` is one file, `find.rs` which files, `sums.rs` the lines of a list.

#[cfg(unix)]
mod app;
#[cfg(unix)]
mod find;
#[cfg(unix)]
mod hash;
#[cfg(unix)]
mod sums;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    app::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("this example needs Unix, for its signals");
}
