//! Answers scrapes: an acceptor, and a few workers that no slow client holds for long.
//!
//! Every wait is a blocking call that ends because a hook of its token shuts the socket down.

use std::fmt;
use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use cleanbreak::{CancelToken, Pool, Shutdown as Policy, threads};
use metrics::{counter, describe_counter};
use metrics_exporter_prometheus::PrometheusHandle;

use super::http::{Answer, Asked, MOST_BYTES, parse};
use super::log::Log;
use super::watch::Watch;

const REQUESTS: &str = "daemon_http_requests_total";
const TURNED_AWAY: &str = "daemon_http_turned_away_total";

const WORKERS: usize = 4;
/// Connections that may wait for a worker; those beyond it are closed at once.
const WAITING: usize = 16;
/// What a client may still be sending when it has been answered.
const MOST_DISCARDED: u64 = 64 * 1024;
/// When the system has no descriptor or memory left, until the next try.
const PAUSE: Duration = Duration::from_millis(100);

pub(crate) struct Server<'a> {
    pub(crate) log: &'a Log,
    pub(crate) watch: &'a Arc<Watch>,
    pub(crate) prometheus: &'a PrometheusHandle,
    pub(crate) drain: Duration,
    /// For the whole of a request, however many bytes at a time it comes in; and of an answer.
    pub(crate) each_way: Duration,
}

/// One connection.
struct Client {
    socket: TcpStream,
    each_way: Duration,
}

/// What became of the connections.
#[derive(Default)]
pub(crate) struct Answered {
    answered: usize,
    stuck: usize,
}

impl Server<'_> {
    /// Serves until the token is cancelled; then lets requests that have begun end, for a time.
    pub(crate) fn run(
        &self,
        listener: TcpListener,
        token: &CancelToken,
    ) -> anyhow::Result<Answered> {
        // Shielded: the stop ends the accepting at once, not the answers.
        let pool = Pool::builder().name("http").workers(WORKERS).queue(WAITING);
        let pool = pool.build(&token.shield())?;
        describe_counter!(REQUESTS, "Requests that were answered, by status.");
        describe_counter!(TURNED_AWAY, "Connections that found no worker.");
        self.accept(&listener, &pool, token)?;
        drop(listener);
        let report = pool.shutdown(Policy::DrainFor(self.drain));
        for stuck in &report.stuck {
            self.log.line(stuck);
        }
        Ok(Answered {
            answered: report.completed,
            stuck: report.stuck.len() + report.failed + report.cancelled + report.abandoned,
        })
    }

    fn accept(&self, listener: &TcpListener, pool: &Pool, token: &CancelToken) -> io::Result<()> {
        let wake = listener.try_clone()?;
        // On Linux, this ends a blocked accept, and every later one, with an error.
        let _hook = token.on_cancel(move || {
            let _ = rustix::net::shutdown(&wake, rustix::net::Shutdown::Both);
        });
        'accepting: while !token.is_cancelled() {
            let accepted = {
                let _wait = threads::waiting_on("accept a connection");
                listener.accept()
            };
            match accepted {
                Ok((socket, _)) => self.admit(socket, pool),
                Err(_) if token.is_cancelled() => break 'accepting,
                // The client was gone before we looked.
                Err(error) if error.kind() == ErrorKind::ConnectionAborted => {}
                Err(error) => {
                    self.log.line(format_args!("accepting pauses: {error}"));
                    token.wait_timeout(PAUSE);
                }
            }
        }
        Ok(())
    }

    fn admit(&self, socket: TcpStream, pool: &Pool) {
        let (watch, prometheus) = (self.watch.clone(), self.prometheus.clone());
        let each_way = self.each_way;
        let client = Client { socket, each_way };
        let serve = move |token: &CancelToken| {
            // A client that leaves early is its own affair, and no failure of ours.
            let _ = client.converse(token, |asked| respond(asked, &watch, &prometheus));
            Ok(token.check()?)
        };
        // Dropping what was refused closes the connection.
        if pool.try_submit(serve).is_err() {
            counter!(TURNED_AWAY).increment(1);
        }
    }
}

fn respond(asked: &Asked, watch: &Watch, prometheus: &PrometheusHandle) -> Answer {
    match asked.path.as_str() {
        "/" => Answer::text(200, "a daemon; see /metrics and /healthz"),
        "/metrics" => Answer::metrics(prometheus.render()),
        "/healthz" => {
            let health = watch.health();
            Answer::text(if health.is_good() { 200 } else { 503 }, health)
        }
        _ => Answer::text(404, "there are /, /metrics and /healthz"),
    }
}

impl Client {
    /// One request and its answer.
    fn converse(
        &self,
        token: &CancelToken,
        respond: impl FnOnce(&Asked) -> Answer,
    ) -> io::Result<()> {
        let (answer, head_only) = match self.within(Shutdown::Read, token, receive)? {
            Ok(asked) => (respond(&asked), asked.head_only),
            Err(refusal) => (refusal, false),
        };
        // Before it is sent, so that who has the answer finds it counted at the next scrape.
        counter!(REQUESTS, "status" => answer.status.to_string()).increment(1);
        let bytes = answer.encode(head_only);
        self.within(Shutdown::Both, token, |mut socket, _| {
            socket.write_all(&bytes)?;
            socket.shutdown(Shutdown::Write)?;
            // What was sent and is not read would reset the connection, and the answer with it.
            io::copy(&mut socket.take(MOST_DISCARDED), &mut io::sink()).map(drop)
        })
    }

    /// Runs one direction of the talk for as long as it may take: then the socket is shut down
    /// under it, so that a blocked read finds its end and a blocked write fails.
    fn within<T>(
        &self,
        how: Shutdown,
        token: &CancelToken,
        talk: impl FnOnce(&TcpStream, &CancelToken) -> io::Result<T>,
    ) -> io::Result<T> {
        let limited = token.child_timeout(self.each_way);
        let wake = self.socket.try_clone()?;
        let _hook = limited.on_cancel(move || drop(wake.shutdown(how)));
        let _wait = threads::waiting_on("exchange bytes with a client");
        talk(&self.socket, &limited)
    }
}

/// Reads a request, or says why there is none.
fn receive(mut socket: &TcpStream, limited: &CancelToken) -> io::Result<Result<Asked, Answer>> {
    let mut input = Vec::new();
    let mut chunk = [0; 1024];
    'reading: loop {
        match parse(&input) {
            Ok(Some(asked)) => break 'reading Ok(Ok(asked)),
            Ok(None) => {}
            Err(refusal) => break 'reading Ok(Err(refusal)),
        }
        let room = chunk.len().min(MOST_BYTES - input.len());
        match socket.read(&mut chunk[..room])? {
            0 if limited.is_cancelled() => {
                break 'reading Ok(Err(Answer::text(408, "the request took too long")));
            }
            0 => break 'reading Err(ErrorKind::UnexpectedEof.into()),
            length => input.extend_from_slice(&chunk[..length]),
        }
    }
}

impl fmt::Display for Answered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { answered, stuck } = self;
        write!(f, "{answered} connections served, {stuck} cut off")
    }
}
