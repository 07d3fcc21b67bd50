//! A whole service under seeded faults, round after round, and a look at every promise after each:
//! producers, channels, a group, a pool, a ticker, supervised loops, breaker, bulkhead, rate limit,
//! retry and pipes, while threads stand still, panic, are refused or wake early, ticks come late,
//! clocks leap, and tokens and channels are ended at random moments. And faults of the operating
//! system itself: no thread, no descriptor, no room on the disk, children that are killed.
//!
//! ```text
//! cargo run --release --features chaos --example chaos -- --rounds 1000 --seed 7
//! cargo run --release --features chaos --example chaos -- --seed 7 --round 13   # that one again
//! cargo run --release --features chaos --example chaos -- --plant close         # a bug, caught
//! cargo run --release --features chaos --example chaos -- --help
//! ```
//!
//! What must hold at the end of each round: every message is accounted for (a send that returned
//! `Ok` was received, drained or handed back, once), every thread has come home, the group's error
//! is one that a task really had and is what the siblings were told, every task of the pool is in
//! its report, no wait outlives a cancellation, no tick comes after a stop, and every permit is
//! back. If one does not, it says which, with the seed, the round, the faults of that round and
//! the command that replays it, and exits with 1.
//!
//! `round.rs` is the order of a round, `service.rs` the service, `ledger.rs` the books, `plant.rs` the
//! bugs, `watch.rs` the watchdog, `os.rs` the faults of the system.

#[cfg(unix)]
mod app;
#[cfg(unix)]
mod calls;
#[cfg(unix)]
mod ledger;
#[cfg(unix)]
mod options;
#[cfg(unix)]
mod os;
#[cfg(unix)]
mod plant;
#[cfg(unix)]
mod round;
#[cfg(unix)]
mod service;
#[cfg(unix)]
mod watch;
#[cfg(unix)]
mod work;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    app::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("this example needs Unix, for its pipes and children");
}
