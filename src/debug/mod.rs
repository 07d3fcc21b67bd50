//! Floor 6: a page about the process, for when something is stuck. Feature `debug-http`; Unix only.
//!
//! A [`DebugServer`] is to threads what Go's
//! [`net/http/pprof`](https://pkg.go.dev/net/http/pprof) is to goroutines: a small HTTP server in the
//! process, on loopback. It shows all threads with what they wait on and for how long, the loops that
//! have a [`Probe`](crate::Probe), pools, groups, supervisors, breakers, bulkheads, rate limiters, tickers,
//! and trees of tokens; live, in a browser, or with curl. Threads that wait for each other come first.
//!
//! New, and not final: names and formats may change before 1.0.
//!
//! # Paths
//!
//! | path | |
//! |---|---|
//! | `/debug/` | the page: live, with filter, sorting, stacks |
//! | `/debug/threads?debug=1` | threads with the same stack together, as text; also without `debug` |
//! | `/debug/threads?debug=2` | each thread, as text |
//! | `/debug/deadlocks` | [`threads::deadlocks`](crate::threads::deadlocks()), as text |
//! | `/debug/threads.json` | the dump as JSON, as [`diagnose`](crate::diagnose) says |
//! | `/debug/threads.pb.gz` | for `go tool pprof` |
//! | `/debug/tokens`, `/debug/tokens.json` | the trees of tokens that were [put there](DebugServer::watch_token) |
//! | `/debug/loops.json` | [`probe::live`](crate::probe::live) |
//! | `/debug/pools.json` | [`pool::live`](crate::pool::live) |
//! | `/debug/breakers.json` | [`breaker::live`](crate::resilience::breaker::live) |
//! | `/debug/groups.json` | [`group::live`](crate::group::live), 20 tasks of each by name |
//! | `/debug/supervisors.json` | [`supervise::live`](crate::supervise::live) |
//! | `/debug/bulkheads.json` | [`Bulkhead::live`](crate::Bulkhead::live) |
//! | `/debug/limiters.json` | [`RateLimiter::live`](crate::RateLimiter::live) |
//! | `/debug/tickers.json` | [`ticker::live`](crate::ticker::live) |
//! | `/debug/values.json` | [values](DebugServer::watch_value) of the program's own, such as the length of a queue |
//! | `/debug/state.json` | threads without stacks, and all the other lists in one |
//! | `/metrics` | if a [renderer](DebugServerBuilder::metrics) was given |
//!
//! Those with threads take `stacks=0` (faster), and `tid=N` for one thread alone. If the program
//! [allows it](DebugServerBuilder::stack_signal), they take `signals=1`: also the stacks of threads that
//! run, by a signal.
//!
//! # What is promised
//!
//! * It listens on loopback, unless it is told that it is
//!   [exposed](DebugServerBuilder::exposed_to_the_network).
//! * It is read-only: `GET` and `HEAD`, and nothing that they ask for changes anything. No thread is
//!   signalled, unless the program [allows it](DebugServerBuilder::stack_signal) and the request asks.
//! * No web site gets anything out of it through a browser on the machine: requests for another
//!   `Host` are refused (DNS rebinding), there is no CORS, and answers may not be embedded. The page
//!   loads nothing from elsewhere, and shows every name as text: its scripts and styles are named by
//!   their hashes in a content security policy.
//! * A request has a thread of its own while it lasts. There are 16 at a time at most, with 8 kB of
//!   head, 5 s to send it and 10 s to take the answer. One dump is taken at a time, and one renderer
//!   of yours called; who waits longer than 5 s for that is answered 503.
//! * When the token is cancelled, nothing listens any more and every request ends at once; the drop
//!   joins the threads. A request that is taking a dump ends with that.
//!
//! # What is not
//!
//! * There are no passwords: every user of the machine can read the page.
//! * It is no web server: one request for each connection, no TLS, no HTTP/2.
//! * A renderer that hangs holds up the others, and the drop; dumps go on.
//! * Adaptive limits, hedges, retries and their budgets have no list of their own here: that is what
//!   values are for.
//!
//! # Performance
//!
//! Nobody looking, it is one thread that sleeps. The page asks every two seconds for threads without
//! stacks, some 45 µs for each thread; with stacks a thread is some 15 kB of JSON.
//!
//! # Design
//!
//! *A thread for each request*, from a group: straight code, bounded, joined, and a slow client
//! occupies only itself. *No parser from elsewhere*: of a request only its first line and its host
//! matter, there is no body and no second request on a connection, so what is left to parse is a page
//! of code that refuses what it does not know.

mod accept;
mod json;
mod json_calls;
mod page;
#[cfg(any(test, fuzzing))]
pub(crate) mod random;
mod request;
mod response;
mod routes;
mod server;
mod watched;

pub use server::{DebugError, DebugServer, DebugServerBuilder};
