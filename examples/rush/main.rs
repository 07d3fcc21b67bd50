//! A rush: seventeen times the usual load in the first part, and what a service gets done of it, with
//! and without shedding. What counts is goodput: answers within the caller's deadline. An answer
//! that comes later was work for nobody.
//!
//! ```text
//! cargo run --release --example rush                # five seconds; then look at the chart
//! cargo run --release --example rush -- --help
//! ```
//!
//! Three services of the same size get the same requests at the same time:
//!
//! * one that takes everything: a queue that never refuses, as long as there is memory. It works
//!   through it in order, so soon on what nobody waits for any more, and long after the rush;
//! * one with a [`Bulkhead`](cleanbreak::Bulkhead): as many at a time as can be answered in time, the
//!   others are refused at once;
//! * one that has a [`KeyedRateLimiter`](cleanbreak::KeyedRateLimiter) before that: most of the rush are a
//!   few clients that retry in a loop, and these are refused first, so that the others are served.
//!
//! At the end it prints a table, writes the chart, and checks what the two show: the exit status is
//! 1 if it does not hold. (On a machine that is too busy to send and to serve in time, it shows nothing: then
//! it is tried again, slower.) Ctrl-C ends it at once, with what there has been.
//!
//! `load.rs` the requests, `service.rs` the services, `tally.rs` what became of them, `chart.rs` the
//! picture.

mod app;
mod chart;
mod load;
mod options;
mod service;
#[path = "../shared/svg.rs"]
mod svg;
mod tally;

fn main() -> std::process::ExitCode {
    app::main()
}
