//! A long-polling HTTP/1.1 service on blocking threads that stops when it is told.
//!
//! ```text
//! cargo run --release --example longpoll -- --help
//! cargo run --release --example longpoll -- --port 8080 &
//! curl 'http://127.0.0.1:8080/poll?topic=weather' &      # waits up to 30 s for news
//! curl -d sunny 'http://127.0.0.1:8080/publish?topic=weather'
//! kill -TERM %1                                          # or Ctrl-C: a report of the stop
//! ```
//!
//! # Why a server of its own
//!
//! Because of how it has to end. A waiting poll must end at once for four reasons: news, its
//! deadline, a client that hung up, a service that stops. The small blocking servers offer none of
//! them to a handler: tiny_http has no timeouts, needs one `unblock` for each waiting thread and
//! leaves threads behind; rouille sits on it; touche cannot be shut down; astra is tokio inside.
//! With the library's `io`, all four are one wait in one place (`link.rs`); with httparse for the
//! syntax, framing, the one part of HTTP that is easy to get wrong, is a pure function with tests
//! (`http.rs`, `body.rs`).
//!
//! # Why a thread for each connection
//!
//! The other design is a poller with a pool of workers: it needs a state machine for every
//! half-read request and half-written answer, and its workers are shared, so one slow client delays
//! another. Here a connection is straight code on its own stack (`connection.rs`), a slow or stuck
//! client occupies only itself, and the group joins every thread at the end. The price is memory,
//! some 15 kB resident and two descriptors for each connection: thousands of connections, not
//! hundreds of thousands.
//!
//! # Map
//!
//! `http`, `body`, `settings` pure; `topics` messages and who waits for them; `link` a socket;
//! `connection`, `routes` one client; `server` the acceptor; `registry` the connection map;
//! `shutdown` the end; `service`, `workers` counts, journal, heartbeat, watchdog; `app` the wiring.
//!
//! Linux only, for `POLLRDHUP`, which tells that a client has hung up.

#[cfg(target_os = "linux")]
#[path = "app.rs"]
mod app;

#[cfg(target_os = "linux")]
fn main() -> std::process::ExitCode {
    app::main()
}

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("this example needs Linux: it waits for POLLRDHUP");
}
