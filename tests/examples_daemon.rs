//! The example `daemon`, end to end: its program, real signals, plain sockets.
#![cfg(target_os = "linux")]

// The pure module of the example brings its unit tests along.
#[path = "../examples/daemon/http.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod http;
#[path = "support/program.rs"]
mod program;
mod support;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::Command;

use program::{Ended, Folder, Running, program};
use rustix::process::Signal;
use support::{PATIENCE, until};

/// A daemon with a spool and a configuration of its own.
struct Daemon {
    folder: Folder,
    running: Running,
    address: SocketAddr,
}

fn configured(folder: &Folder, most: u32) {
    let config = format!("# own\nspool = spool\nmax_files = {most}\ncheck_every = 1m\n");
    folder.write("daemon.conf", config);
}

fn command(folder: &Folder, arguments: &[&str]) -> Command {
    let mut command = Command::new(program("daemon"));
    command.arg("--config").arg(folder.join("daemon.conf"));
    command.args(["--port", "0"]).args(arguments);
    command
}

impl Daemon {
    fn start(arguments: &[&str]) -> Self {
        let folder = Folder::new("daemon");
        folder.write("spool/first", "12345");
        configured(&folder, 2);
        Self::start_in(folder, arguments)
    }

    fn start_in(folder: Folder, arguments: &[&str]) -> Self {
        let mut running = Running::start(&mut command(&folder, arguments));
        let line = running.await_line("listening on http://");
        let address = line.rsplit('/').next().unwrap().parse().unwrap();
        Self {
            folder,
            running,
            address,
        }
    }

    fn dial(&self) -> TcpStream {
        let socket = TcpStream::connect(self.address).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket
    }

    /// Sends bytes as they are; everything that comes back.
    fn send(&self, bytes: &str) -> String {
        self.try_send(bytes).unwrap()
    }

    /// The same, where the connection may be turned away.
    fn try_send(&self, bytes: &str) -> io::Result<String> {
        let mut socket = self.dial();
        socket.write_all(bytes.as_bytes())?;
        let mut text = String::new();
        socket.read_to_string(&mut text)?;
        Ok(text)
    }

    fn get(&self, path: &str) -> String {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: test\r\n\r\n"))
    }

    /// The value of a series; zero if there is none.
    fn value(&self, series: &str) -> f64 {
        let text = self.get("/metrics");
        let mut lines = text.lines().filter_map(|line| line.rsplit_once(' '));
        let line = lines.find(|(name, _)| *name == series);
        line.map_or(0.0, |(_, value)| value.parse().unwrap())
    }

    /// Sends a signal, and waits for a line of the log that has `what`.
    fn signal(&mut self, signal: Signal, what: &str) -> String {
        self.running.signal(signal);
        self.running.await_line(what)
    }

    fn stop(self, signal: Signal) -> Ended {
        self.running.stop(signal)
    }
}

fn rest(mut socket: TcpStream) -> String {
    let mut text = String::new();
    socket.read_to_string(&mut text).unwrap();
    text
}

fn status(answer: &str) -> &str {
    answer
        .strip_prefix("HTTP/1.1 ")
        .unwrap_or(answer)
        .get(..3)
        .unwrap_or("nothing")
}

#[test]
fn it_answers_get_and_head_and_refuses_everything_else() {
    let daemon = Daemon::start(&[]);
    assert!(
        daemon
            .get("/")
            .ends_with("\r\n\r\na daemon; see /metrics and /healthz\n")
    );
    until(|| status(&daemon.get("/healthz")) == "200");
    assert!(
        daemon
            .get("/healthz")
            .ends_with("healthy: 1 files, 5 bytes\n")
    );
    let metrics = daemon.get("/metrics");
    assert!(
        metrics.contains("\r\nContent-Type: text/plain; version=0.0.4"),
        "{metrics}"
    );
    let head = daemon.send("HEAD /healthz HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(status(&head), "200");
    assert!(head.ends_with("\r\n\r\n"), "no body: {head}");
    let long = "x".repeat(10_000);
    for (expected, request) in [
        ("404", "GET /nothing HTTP/1.1\r\nHost: test\r\n\r\n"),
        (
            "405",
            "POST /metrics HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nbody",
        ),
        ("405", "DELETE /healthz HTTP/1.1\r\nHost: test\r\n\r\n"),
        ("400", "nonsense\r\n\r\n"),
        ("400", "GET / HTTP/1.1\r\n\r\n"),
        ("431", &format!("GET /{long} HTTP/1.1\r\n")),
        ("505", "GET / HTTP/2.0\r\nHost: test\r\n\r\n"),
    ] {
        assert_eq!(status(&daemon.send(request)), expected, "to {request:?}");
    }
    assert_eq!(
        daemon.value(r#"daemon_http_requests_total{status="405"}"#),
        2.0
    );
    daemon.stop(Signal::TERM).exits(0).said(" 0 cut off");
}

#[test]
fn sigusr1_is_a_health_check_and_is_counted() {
    let mut daemon = Daemon::start(&[]);
    daemon.signal(Signal::USR1, "SIGUSR1: healthy: 1 files, 5 bytes");
    for name in ["second", "third"] {
        daemon.folder.write(&format!("spool/{name}"), "");
    }
    daemon.signal(
        Signal::USR1,
        "SIGUSR1: unhealthy: 3 files wait, more than 2",
    );
    let health = daemon.get("/healthz");
    assert_eq!(status(&health), "503", "{health}");
    assert_eq!(
        daemon.value(r#"app_interrupt_total{signal="SIGUSR1"}"#),
        2.0
    );
    assert_eq!(daemon.value("daemon_spool_files"), 3.0);
    assert_eq!(daemon.value("daemon_healthy"), 0.0);
    assert_eq!(
        daemon.value(r#"daemon_checks_total{outcome="unhealthy"}"#),
        1.0
    );

    std::fs::rename(daemon.folder.join("spool"), daemon.folder.join("away")).unwrap();
    daemon.signal(Signal::USR1, "SIGUSR1: unhealthy: ");
    daemon
        .stop(Signal::TERM)
        .exits(0)
        .complained("spool: No such file");
}

#[test]
fn a_burst_of_signals_is_counted_and_worked_off_without_a_queue() {
    let daemon = Daemon::start(&[]);
    for _ in 0..1000 {
        daemon.running.signal(Signal::USR1);
    }
    // The kernel merges those that find one pending; the process never sees them.
    let arrived = || daemon.value(r#"app_interrupt_total{signal="SIGUSR1"}"#);
    let checks = || daemon.value(r#"daemon_checks_total{outcome="healthy"}"#);
    until(|| arrived() >= 1.0 && checks() >= 2.0);
    assert!(arrived() <= 1000.0);
    assert!(
        checks() <= arrived() + 1.0,
        "one at the start, and one for an item"
    );
    daemon.stop(Signal::TERM).exits(0).complained("SIGUSR1");
}

#[test]
fn sigusr2_reads_the_configuration_and_a_bad_one_changes_nothing() {
    let mut daemon = Daemon::start(&[]);
    configured(&daemon.folder, 0);
    daemon.signal(Signal::USR2, "SIGUSR2: watching ");
    daemon.signal(Signal::USR1, "unhealthy: 1 files wait, more than 0");
    for (content, complaint) in [
        (
            "spool = spool\nmax_files = many\n",
            r#"line 2: "max_files = many": invalid digit"#,
        ),
        ("spool = spool\nmaxfiles = 3\n", "unknown key"),
        ("spool = a\nspool = b\n", "given twice"),
        ("max_files = 3\ncheck_every = 1s\n", "spool is missing"),
        ("check_every = 0s\n", "no time such as"),
    ] {
        daemon.folder.write("daemon.conf", content);
        let line = daemon.signal(Signal::USR2, complaint);
        assert!(
            line.contains("SIGUSR2: the configuration stays as it was: "),
            "{line}"
        );
    }
    std::fs::remove_file(daemon.folder.join("daemon.conf")).unwrap();
    daemon.signal(Signal::USR2, "daemon.conf: No such file");
    daemon.signal(Signal::USR1, "unhealthy: 1 files wait, more than 0");
    assert_eq!(
        daemon.value(r#"daemon_reloads_total{outcome="loaded"}"#),
        1.0
    );
    assert_eq!(
        daemon.value(r#"daemon_reloads_total{outcome="failed"}"#),
        6.0
    );
    configured(&daemon.folder, 7);
    daemon.signal(Signal::USR2, "at most 7 files");
    daemon.signal(Signal::USR1, "SIGUSR1: healthy");
    daemon.stop(Signal::TERM).exits(0);
}

#[test]
fn sighup_opens_the_log_again_and_reads_the_configuration() {
    let folder = Folder::new("daemon");
    configured(&folder, 2);
    folder.write("spool/first", "12345");
    let (log, old) = (folder.join("log"), folder.join("log.1"));
    let log_name = log.display().to_string();
    let daemon = Daemon::start_in(folder, &["--log", &log_name]);
    let logged = |file: &str, what: &str| {
        let text = std::fs::read_to_string(daemon.folder.join(file)).unwrap_or_default();
        text.contains(what)
    };
    daemon.running.signal(Signal::USR1);
    until(|| logged("log", "SIGUSR1: healthy"));
    std::fs::rename(&log, &old).unwrap();
    configured(&daemon.folder, 9);
    daemon.running.signal(Signal::HUP);
    until(|| logged("log", "SIGHUP: the log was opened again"));
    until(|| logged("log", "SIGHUP: watching ") && logged("log", "at most 9 files"));
    assert!(!logged("log.1", "SIGHUP"));
    assert_eq!(daemon.value(r#"app_interrupt_total{signal="SIGHUP"}"#), 1.0);
    daemon.stop(Signal::TERM).exits(0);
}

#[test]
fn sigterm_ends_it_with_success_and_sigint_as_interrupted() {
    let ended = Daemon::start(&[]).stop(Signal::TERM);
    ended
        .exits(0)
        .said("stopped by SIGTERM: 0 connections served");
    let ended = Daemon::start(&[]).stop(Signal::INT);
    ended
        .exits(130)
        .said("stopped by SIGINT: 0 connections served");
}

/// A client that has sent half a request, to a daemon that gives it minutes, and has seen the stop.
fn half_asked(daemon: &mut Daemon, signal: Signal) -> TcpStream {
    let mut slow = daemon.dial();
    slow.write_all(b"GET /healthz HTTP/1.1\r\n").unwrap();
    // Connections are accepted in order: when this one is answered, the first has a worker.
    assert_eq!(status(&daemon.get("/")), "200");
    daemon.running.signal(signal);
    until(|| TcpStream::connect(daemon.address).is_err());
    slow
}

const PATIENT: [&str; 2] = ["--timeout=10m", "--drain=10m"];

#[test]
fn a_request_that_has_begun_is_answered_after_the_stop() {
    let mut daemon = Daemon::start(&PATIENT);
    let mut slow = half_asked(&mut daemon, Signal::TERM);
    slow.write_all(b"Host: test\r\n\r\n").unwrap();
    let answer = rest(slow);
    assert_eq!(status(&answer), "200", "{answer}");
    let ended = daemon.running.wait();
    ended.exits(0).said(", 0 cut off");
}

#[test]
fn a_request_that_does_not_end_is_cut_off_when_the_time_to_drain_is_up() {
    let mut daemon = Daemon::start(&["--timeout=10m", "--drain=50ms"]);
    let slow = half_asked(&mut daemon, Signal::TERM);
    let ended = daemon.running.wait();
    ended.exits(0).said(", 1 cut off");
    drop(slow);
}

#[test]
fn a_second_ctrl_c_ends_it_at_once() {
    let mut daemon = Daemon::start(&PATIENT);
    let slow = half_asked(&mut daemon, Signal::INT);
    let ended = daemon.stop(Signal::INT);
    ended.exits(130);
    assert!(
        !ended.out.contains("stopped by"),
        "it waited: {}",
        ended.out
    );
    drop(slow);
}

#[test]
fn a_client_that_is_too_slow_is_told_so() {
    let daemon = Daemon::start(&["--timeout=30ms"]);
    let answer = daemon.send("GET /healthz HT");
    assert_eq!(status(&answer), "408", "{answer}");
    daemon.stop(Signal::TERM).exits(0);
}

#[test]
fn silent_clients_fill_their_places_and_those_beyond_are_closed_at_once() {
    let daemon = Daemon::start(&PATIENT);
    // Four workers and sixteen places to wait.
    let mut clients: Vec<_> = (0..30).map(|_| daemon.dial()).collect();
    assert_eq!(rest(clients.pop().unwrap()), "");
    let mut first = clients.remove(0);
    first
        .write_all(b"GET / HTTP/1.1\r\nHost: test\r\n\r\n")
        .unwrap();
    assert_eq!(status(&rest(first)), "200");
    drop(clients);
    until(|| {
        let answer = daemon.try_send("GET / HTTP/1.1\r\nHost: test\r\n\r\n");
        answer.is_ok_and(|answer| status(&answer) == "200")
    });
    assert!(daemon.value("daemon_http_turned_away_total") >= 1.0);
    daemon.stop(Signal::TERM).exits(0);
}

#[test]
fn every_metric_has_a_type_and_says_what_it_means() {
    let mut daemon = Daemon::start(&[]);
    daemon.signal(Signal::USR1, "SIGUSR1: healthy");
    daemon.signal(Signal::USR2, "SIGUSR2: watching");
    let answer = daemon.get("/metrics");
    let (_, body) = answer.split_once("\r\n\r\n").unwrap();
    let told = |kind: &str, name: &str| body.contains(&format!("# {kind} {name} "));
    let mut series = 0;
    for line in body
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        let name = line.split(['{', ' ']).next().unwrap();
        let base = ["_sum", "_count"]
            .iter()
            .find_map(|end| name.strip_suffix(end));
        let known = |name: &str| told("TYPE", name) && told("HELP", name);
        assert!(known(name) || base.is_some_and(known), "{line}");
        series += 1;
    }
    for name in [
        "cleanbreak_threads_live",
        "app_interrupt_total",
        "daemon_healthy",
    ] {
        assert!(told("HELP", name), "{name}: {body}");
    }
    assert!(series > 15, "{body}");
    daemon.stop(Signal::TERM).exits(0);
}

#[test]
fn what_it_cannot_start_with_is_told() {
    let folder = Folder::new("daemon");
    let run = |arguments: &[&str]| Running::start(&mut command(&folder, arguments)).wait();
    run(&[]).exits(1).complained("daemon.conf: No such file");
    configured(&folder, 1);
    let daemon = Daemon::start(&[]);
    let port = format!("--port={}", daemon.address.port());
    run(&[&port])
        .exits(1)
        .complained("cannot listen on 127.0.0.1:");
    run(&["--log=/"]).exits(1).complained("cannot open the log");
    run(&["--port=x"]).exits(2).complained("invalid digit");
    run(&["--drain"]).exits(2).complained("needs a value");
    run(&["--nothing"]).exits(2).complained("unknown option");
    daemon.stop(Signal::TERM).exits(0);
}
