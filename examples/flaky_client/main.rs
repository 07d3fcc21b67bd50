//! A client in a loop, and an HTTP upstream that fails as they do: now and then, slowly, and then not
//! at all for a while. What the client must not do: hang with it, hammer it while it is down, or
//! have no answer.
//!
//! ```text
//! cargo run --release --example flaky_client                # ten seconds; then look at the chart
//! cargo run --release --example flaky_client -- --help
//! cargo run --release --example flaky_client -- --speed 1 --chart slow.svg    # in real time
//! ```
//!
//! One [`Policy`](cleanbreak::Policy) for four loops: attempts that time out after 800, 400 and 200 ms,
//! a breaker for which a timeout is a failure, with one probe when it is half-open, and a fallback
//! that answers while it is open. The upstream is a listener of the example's own on the loopback
//! interface, and what it does when is a script with a seed. All times are those of the script:
//! `--speed` says how many times faster it runs.
//!
//! At the end it prints the timeline of states, writes the chart, and checks what the two show: the
//! exit status is 1 if anything of it does not hold. Ctrl-C ends it at once, with the chart of what
//! there has been.
//!
//! `script.rs` what the upstream does, `upstream.rs` the upstream, `request.rs` one attempt,
//! `client.rs` the loops, `record.rs` what happened, `check.rs` what must hold, `chart.rs` the picture.
//!
//! Unix only, for sockets whose waits end with a token.

#[cfg(unix)]
mod app;
#[cfg(unix)]
mod chart;
#[cfg(unix)]
mod check;
#[cfg(unix)]
mod client;
#[cfg(unix)]
mod options;
#[cfg(unix)]
mod record;
#[cfg(unix)]
mod request;
#[cfg(unix)]
mod script;
#[cfg(unix)]
#[path = "../shared/svg.rs"]
mod svg;
#[cfg(unix)]
mod upstream;

#[cfg(unix)]
fn main() -> std::process::ExitCode {
    app::main()
}

#[cfg(not(unix))]
fn main() {
    eprintln!("this example needs a Unix: its sockets' waits end with a token");
}
