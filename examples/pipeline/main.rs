//! Orders on their way through decoupled stages: take in, reserve stock, ship. The traps: a stuck
//! last stage that blocks the first, through queues that are full one after the other; queues
//! without a bound, which turn the stuck stage into a process that is out of memory, with all it
//! held; a Ctrl-C that loses what is between two stages; one bad order that ends everything.
//!
//! ```text
//! cargo run --release --features signal --example pipeline              # the sample orders
//! cargo run --release --features signal --example pipeline -- --help
//! cargo run --release --features signal --example pipeline -- --stuck --generate 100000 --out run1
//! cargo run --release --features signal --example pipeline -- \
//!     --orders run1/backlog.csv --stock run1/stock.csv --out run2       # the rest, another day
//! ```
//!
//! # Between two stages
//!
//! Each link is a bounded [`SafeChannel`](cleanbreak::SafeChannel) and, when that is full, a file.
//! A sender that finds no room appends to the file and goes on; a pump of the link's own moves what
//! is in the file into the channel when there is room again, in order. Why a file: the first stage
//! must not wait, so what comes in faster than it goes out has to be somewhere. In memory it would
//! grow until the process is killed, and be lost; on disk it is bounded by the disk, survives a
//! kill, and costs nothing while the stages keep up. If the disk refuses as well, the sender waits
//! after all: rather slow than wrong.
//!
//! # The books
//!
//! Every order that was read ends in exactly one file: `shipments.csv`, `refused.csv` (out of
//! stock), `dead.csv` (a stage failed on it), or `backlog.csv`, handed back with the stage that
//! comes next, to be given to a later run together with `stock.csv`. Numbers and check sums of all
//! must add up, or the exit status is 1.
//!
//! `order.rs` lines, `input.rs` reading that can be told to stop, `link.rs` and `spill.rs` between
//! the stages, `stages.rs` what they do, `books.rs` the accounts, `app.rs` the wiring.
//!
//! Linux only, for its wait on an eventfd and the input at once.

#[cfg(target_os = "linux")]
mod app;
#[cfg(target_os = "linux")]
mod books;
#[cfg(target_os = "linux")]
mod input;
#[cfg(target_os = "linux")]
mod link;
#[cfg(target_os = "linux")]
mod options;
#[cfg(target_os = "linux")]
mod order;
#[cfg(target_os = "linux")]
mod spill;
#[cfg(target_os = "linux")]
mod stages;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    app::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("this example needs Linux: it waits on an eventfd");
}
