//! A daemon whose signals come on a channel, counted, beside its other work. The traps: work done
//! in a signal handler; a burst of signals that is lost, or queued without bound; a daemon that a
//! bad configuration file ends; one that cannot be stopped because it is busy stopping.
//!
//! It watches a spool folder: how many files wait there, and whether those are too many.
//!
//! ```text
//! cargo run --release --features signal,metrics --example daemon -- --help
//! cargo run --release --features signal,metrics --example daemon        # prints address and pid
//! curl http://127.0.0.1:9464/metrics
//! kill -USR1 PID       # a health check, now
//! kill -USR2 PID       # reads the configuration again; a bad one is told, and the old one stays
//! kill -HUP PID        # the same, and opens the log file again, for logrotate
//! kill -TERM PID       # ends it, status 0; Ctrl-C: status 130; Ctrl-C twice: at once
//! ```
//!
//! `app.rs` is the loop, `watch.rs` the work, `config.rs` what it is told, `server.rs` and `http.rs`
//! what it tells, `log.rs` its log.
//!
//! Linux only: it ends a blocked accept by shutting the listener down, which no other system
//! promises.

#[cfg(target_os = "linux")]
mod app;
#[cfg(target_os = "linux")]
mod config;
#[cfg(target_os = "linux")]
mod http;
#[cfg(target_os = "linux")]
mod log;
#[cfg(target_os = "linux")]
mod server;
#[cfg(target_os = "linux")]
mod watch;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    app::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("this example needs Linux: it shuts a listening socket down");
}
