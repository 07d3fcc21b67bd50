//! The example `loop_tracing`, run as its users run it: with its own collector, with collectors of
//! these tests, which decode what they get, and with those that are down, silent or unwilling.

#[path = "../examples/loop_tracing/receiver.rs"]
mod receiver;
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use cleanbreak::{CancelToken, scope};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::Span;
use parking_lot::Mutex;
use prost::Message;
use support::in_time;

/// What a run makes: the batch; four workers with five breakpoints, two checkpoints and an end each;
/// the late, the abandoned and the panicking loop.
const SPANS: usize = 1 + 4 * (1 + 5 + 2 + 1) + 3 + 2 + 3;

/// The example's program, which `cargo test` and `cargo build --examples` build.
fn program() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.parent().unwrap().parent().unwrap();
    let program = profile.join("examples").join("loop_tracing");
    let program = program.with_extension(std::env::consts::EXE_EXTENSION);
    let hint = "cargo build --features tracing --example loop_tracing";
    let built = program.metadata().and_then(|data| data.modified());
    let built = built.unwrap_or_else(|_| panic!("not built: {hint}"));
    // Rather no result than one about an older program.
    let sources = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/loop_tracing");
    for source in sources.read_dir().unwrap() {
        let modified = source.unwrap().metadata().unwrap().modified().unwrap();
        assert!(modified <= built, "older than its sources: {hint}");
    }
    program
}

/// A run that has ended.
#[derive(Debug)]
struct Ended {
    code: Option<i32>,
    out: String,
    err: String,
}

fn run(arguments: &[&str], environment: &[(&str, &str)]) -> Ended {
    let mut command = Command::new(program());
    let inherited = std::env::vars().map(|(name, _)| name);
    for name in inherited.filter(|name| name.starts_with("OTEL_")) {
        command.env_remove(name);
    }
    command.env("RUST_BACKTRACE", "0");
    // One request, also where the work takes long.
    command.env("OTEL_BSP_SCHEDULE_DELAY", "600000");
    command.envs(environment.iter().copied()).args(arguments);
    let output = command.stdin(Stdio::null()).output().unwrap();
    Ended {
        code: output.status.code(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

impl Ended {
    fn exits(&self, code: i32) -> &Self {
        assert_eq!(self.code, Some(code), "{}\n{}", self.out, self.err);
        self
    }

    fn said(&self, what: &str) -> &Self {
        assert!(self.out.contains(what), "no {what:?} in {}", self.out);
        self
    }

    fn complained(&self, what: &str) -> &Self {
        assert!(self.err.contains(what), "no {what:?} in {}", self.err);
        self
    }

    /// Of its report: ended, delivered, rejected, lost on the way, never sent.
    fn counts(&self) -> Vec<usize> {
        let mut lines = self.out.lines();
        let line = lines.find_map(|line| line.strip_prefix("spans: "));
        let line = line.unwrap_or_else(|| panic!("no report in {}\n{}", self.out, self.err));
        let counts = line.split(", ").map(|count| count.split(' ').next());
        counts
            .map(|count| count.unwrap().parse().unwrap())
            .collect()
    }
}

/// What a collector does with a request.
#[derive(Clone, Copy)]
enum Answer {
    Takes,
    Rejects(i64),
    Status(&'static str),
    Never,
}

struct Request {
    path: String,
    body: ExportTraceServiceRequest,
}

impl Request {
    fn spans(&self) -> Vec<Span> {
        let resources = self.body.resource_spans.iter();
        let scopes = resources.flat_map(|resource| &resource.scope_spans);
        scopes.flat_map(|scope| scope.spans.clone()).collect()
    }

    fn service(&self) -> Option<Value> {
        let resource = self.body.resource_spans[0].resource.as_ref().unwrap();
        value(&resource.attributes, "service.name")
    }
}

fn value(attributes: &[KeyValue], name: &str) -> Option<Value> {
    let found = attributes.iter().find(|pair| pair.key == name)?;
    let AnyValue { value } = found.value.clone()?;
    value
}

/// Runs `user` with a collector that answers as told, and so to every request after the last.
fn collected(answers: &[Answer], user: impl FnOnce(SocketAddr) -> Ended) -> (Ended, Vec<Request>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let requests = Mutex::default();
    let closing = CancelToken::new();
    let ended = scope(&CancelToken::new(), |group| {
        group.spawn_named("collector", |_| {
            collect(&listener, answers, &requests, &closing);
            Ok(())
        })?;
        let ended = user(address);
        closing.cancel();
        TcpStream::connect(address)?; // who accepts, looks
        Ok(ended)
    });
    (ended.unwrap(), requests.into_inner())
}

/// One connection after the other: the example has one thread that exports.
fn collect(
    listener: &TcpListener,
    answers: &[Answer],
    requests: &Mutex<Vec<Request>>,
    closing: &CancelToken,
) {
    let mut silent = Vec::new(); // held open to the end
    loop {
        let (socket, _) = listener.accept().unwrap();
        if closing.is_cancelled() {
            return;
        }
        let mut input = BufReader::new(&socket);
        while let Some(request) = receive(&mut input) {
            let number = requests.lock().len();
            requests.lock().push(request);
            let answer = answers.get(number).or(answers.last()).unwrap();
            if !give(&socket, *answer) {
                silent.push(socket.try_clone().unwrap());
                break;
            }
        }
    }
}

/// `None` when the client has gone.
fn receive(input: &mut impl BufRead) -> Option<Request> {
    let mut line = String::new();
    if input.read_line(&mut line).ok()? == 0 {
        return None;
    }
    let path = line.strip_prefix("POST ").unwrap().split(' ').next();
    let path = path.unwrap().to_owned();
    let mut headers = BTreeMap::new();
    loop {
        let mut line = String::new();
        input.read_line(&mut line).ok()?;
        let Some((name, value)) = line.split_once(':') else {
            break;
        };
        headers.insert(name.to_ascii_lowercase(), value.trim().to_owned());
    }
    assert_eq!(headers["content-type"], "application/x-protobuf");
    let mut body = vec![0; headers["content-length"].parse().unwrap()];
    input.read_exact(&mut body).ok()?;
    let body = ExportTraceServiceRequest::decode(&body[..]).unwrap();
    Some(Request { path, body })
}

/// Whether it has answered.
fn give(mut socket: &TcpStream, answer: Answer) -> bool {
    let (status, body) = match answer {
        Answer::Takes => ("200 OK", Vec::new()),
        Answer::Rejects(rejected_spans) => {
            let partial_success = Some(ExportTracePartialSuccess {
                rejected_spans,
                error_message: "no room".into(),
            });
            let body = ExportTraceServiceResponse { partial_success };
            ("200 OK", body.encode_to_vec())
        }
        Answer::Status(status) => (status, Vec::new()),
        Answer::Never => return false,
    };
    let mut answer = format!(
        "HTTP/1.1 {status}\r\ncontent-length: {}\r\n\r\n",
        body.len()
    );
    // Text and bytes in one piece.
    let answer = [std::mem::take(&mut answer).into_bytes(), body].concat();
    socket.write_all(&answer).ok();
    true
}

/// To a collector of the test.
fn export(answers: &[Answer], arguments: &[&str], more: &[(&str, &str)]) -> (Ended, Vec<Request>) {
    collected(answers, |address| {
        let endpoint = format!("http://{address}");
        let endpoint = [("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint)];
        run(arguments, &[&endpoint[..], more].concat())
    })
}

#[test]
fn by_itself_it_prints_the_tree_that_arrived_and_finds_it_right() {
    in_time(|| {
        let ended = run(&[], &[]);
        ended
            .exits(0)
            .said(&format!("all {SPANS} spans are where they belong"));
        assert_eq!(ended.counts(), [SPANS, SPANS, 0, 0, 0]);
        let tree: Vec<_> = ended.out.lines().collect();
        let passes = |what: &str| {
            let of = |line: &&&str| line.contains("─ loop.pass ") && line.contains(what);
            tree.iter().filter(of).count()
        };
        assert_eq!(passes("is_breakpoint=true is_last=false"), 4 * 5 + 1);
        assert_eq!(
            passes("exit=closed interval=50000 is_breakpoint=false is_last=true"),
            4
        );
        assert_eq!(
            passes("iteration=250000 name=fold total_count=250000"),
            2 * 4
        );
        for line in [
            "batch, on thread main",
            "├─ worker worker=3, on thread worker",
            "│  │  └─ checkpoint sum=333338333350000, on thread pool",
            "├─ late, on thread pool, late in pass 2",
            "│  └─ loop.pass exit=abandoned interval=0 is_breakpoint=false is_last=true iteration=7 \
             name=quits total_count=10, failed",
            "   └─ loop.pass exit=panicked interval=2 is_breakpoint=false is_last=true iteration=2 \
             name=panics total_count=2, failed",
        ] {
            assert!(tree.contains(&line), "no {line:?} in {}", ended.out);
        }
    });
}

#[test]
fn it_fails_if_spans_lose_their_parent() {
    in_time(|| {
        let ended = run(&["--unparented"], &[]);
        ended.exits(1).complained("8 spans have no parent");
    });
}

#[test]
fn it_takes_other_numbers_of_passes() {
    in_time(|| {
        let ended = run(&["--passes", "4000", "--every", "400"], &[]);
        ended
            .exits(0)
            .said("iteration=800 name=fold total_count=1000");
        ended.said("exit=closed interval=400 is_breakpoint=false is_last=true iteration=1000");
    });
}

#[test]
fn a_collector_of_the_environment_gets_every_span_below_its_parent() {
    in_time(|| {
        let (ended, requests) = export(&[Answer::Takes], &[], &[]);
        ended.exits(0).said("as OTEL_EXPORTER_OTLP_ENDPOINT says");
        assert_eq!(ended.counts(), [SPANS, SPANS, 0, 0, 0]);
        for request in &requests {
            assert_eq!(request.path, "/v1/traces");
            let service = Value::StringValue("loop_tracing".into());
            assert_eq!(request.service(), Some(service));
        }
        let spans: Vec<_> = requests.iter().flat_map(Request::spans).collect();
        assert_eq!(spans.len(), SPANS);
        let by_id: BTreeMap<_, _> = spans.iter().map(|span| (&span.span_id, span)).collect();
        assert_eq!(by_id.len(), SPANS);
        let traces: BTreeSet<_> = spans.iter().map(|span| &span.trace_id).collect();
        assert_eq!(traces.len(), 1);
        let mut below = BTreeMap::new();
        for span in &spans {
            let parent = by_id.get(&span.parent_span_id);
            let parent = parent.map_or("", |parent| &parent.name);
            *below.entry((parent, &*span.name)).or_default() += 1;
        }
        let expected: BTreeMap<(&str, &str), usize> = [
            (("", "batch"), 1),
            (("batch", "worker"), 4),
            (("worker", "loop.pass"), 4 * 6),
            (("loop.pass", "checkpoint"), 4 * 2),
            (("batch", "late"), 1),
            (("late", "loop.pass"), 2),
            (("batch", "quits"), 1),
            (("quits", "loop.pass"), 1),
            (("batch", "panics"), 1),
            (("panics", "loop.pass"), 2),
        ]
        .into();
        assert_eq!(below, expected);
        assert_numbers(&spans);
    });
}

/// Counts are numbers, and not text, so that a backend can compare them.
fn assert_numbers(spans: &[Span]) {
    let mut iterations = Vec::new();
    for span in spans.iter().filter(|span| span.name == "loop.pass") {
        let of = |name| value(&span.attributes, name);
        let Some(Value::IntValue(iteration)) = of("loop.iteration") else {
            panic!("{span:?}");
        };
        assert!(matches!(of("loop.interval"), Some(Value::IntValue(_))));
        let total = of("loop.total_count");
        assert!(
            matches!(total, None | Some(Value::IntValue(_))),
            "{total:?}"
        );
        if of("loop.is_breakpoint") == Some(Value::BoolValue(true)) {
            iterations.push(iteration);
        }
    }
    iterations.sort_unstable();
    iterations.dedup();
    assert_eq!(iterations, [2, 50_000, 100_000, 150_000, 200_000, 250_000]);
}

#[test]
fn the_variable_for_traces_goes_first_and_is_taken_as_it_is() {
    in_time(|| {
        let (ended, requests) = collected(&[Answer::Takes], |address| {
            let endpoint = format!("http://{address}/some/where");
            run(
                &[],
                &[
                    ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", &endpoint),
                    ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
                    ("OTEL_SERVICE_NAME", "by another name"),
                ],
            )
        });
        ended.exits(0);
        let service = Value::StringValue("by another name".into());
        assert!(!requests.is_empty());
        for request in &requests {
            assert_eq!(request.path, "/some/where");
            assert_eq!(request.service(), Some(service.clone()));
        }
    });
}

#[test]
fn a_collector_that_is_down_costs_every_span_and_the_report_says_so() {
    in_time(|| {
        let closed = ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1");
        let ended = run(&["--flush", "60000"], &[closed]);
        ended.exits(1);
        assert_eq!(ended.counts(), [SPANS, 0, 0, SPANS, 0]);
        ended.said("last trouble: io: Connection refused");
        // All attempts were made; nobody had to be stopped.
        ended.said("flush: ended after ");
        ended.said("the exporting thread is joined");
        ended.complained(&format!("{SPANS} of {SPANS} spans did not arrive"));
    });
}

#[test]
fn a_collector_that_never_answers_is_left_when_the_time_of_the_flush_is_up() {
    in_time(|| {
        let (ended, requests) = export(&[Answer::Never], &["--flush", "300"], &[]);
        ended.exits(1);
        assert_eq!(ended.counts(), [SPANS, 0, 0, SPANS, 0]);
        ended.said("the last flush took longer than 300 ms");
        ended.said("flush: stopped after ");
        // Within the grace that a thread has after the stop: it was woken from its read.
        ended.said("the exporting thread is joined");
        assert_eq!(requests.len(), 1);
    });
}

/// A listener whose queue is full answers no further connect, and nothing interrupts a connect.
#[cfg(target_os = "linux")]
#[test]
fn a_collector_that_does_not_even_accept_is_left_as_well() {
    in_time(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let address = listener.local_addr().unwrap();
        let connect = || TcpStream::connect_timeout(&address, support::millis(200));
        let waiting: Vec<_> = std::iter::from_fn(|| connect().ok()).collect();
        let endpoint = format!("http://{address}");
        let endpoint = ("OTEL_EXPORTER_OTLP_ENDPOINT", &*endpoint);
        let ended = run(&["--flush", "300"], &[endpoint]);
        ended.exits(1).said("flush: stopped after ");
        assert_eq!(ended.counts(), [SPANS, 0, 0, SPANS, 0]);
        ended.said("the exporting thread is joined");
        drop(waiting);
    });
}

#[test]
fn an_export_that_takes_longer_than_the_environment_allows_is_lost_before_the_flush_is_over() {
    in_time(|| {
        let timeout = ("OTEL_EXPORTER_OTLP_TIMEOUT", "200");
        let (ended, _) = export(&[Answer::Never], &["--flush", "60000"], &[timeout]);
        ended.exits(1).said("flush: ended after ");
        assert_eq!(ended.counts(), [SPANS, 0, 0, SPANS, 0]);
    });
}

#[test]
fn what_the_queue_has_no_place_for_is_counted_too() {
    in_time(|| {
        let queue = ("OTEL_BSP_MAX_QUEUE_SIZE", "8");
        let (ended, _) = export(&[Answer::Never], &["--flush", "300"], &[queue]);
        ended.exits(1);
        let counts = ended.counts();
        assert_eq!(counts[..3], [SPANS, 0, 0]);
        assert_eq!(counts[3] + counts[4], SPANS);
        // Eight in the request that hangs, and eight in the queue.
        assert!(counts[4] >= SPANS - 16, "{counts:?}");
    });
}

#[test]
fn a_collector_that_is_busy_is_asked_again() {
    in_time(|| {
        let busy = Answer::Status("503 Service Unavailable");
        let (ended, requests) = export(&[busy, busy, Answer::Takes], &["--flush", "60000"], &[]);
        ended.exits(0).said("answered 503 Service Unavailable");
        assert_eq!(ended.counts(), [SPANS, SPANS, 0, 0, 0]);
        assert_eq!(requests.len(), 3);
        assert_eq!(requests[0].spans(), requests[2].spans());
    });
}

#[test]
fn a_collector_that_refuses_is_not_asked_again() {
    in_time(|| {
        let (ended, requests) = export(&[Answer::Status("400 Bad Request")], &[], &[]);
        ended.exits(1).said("answered 400 Bad Request");
        assert_eq!(ended.counts(), [SPANS, 0, 0, SPANS, 0]);
        assert_eq!(requests.len(), 1);
    });
}

#[test]
fn spans_that_the_collector_rejects_are_not_called_delivered() {
    in_time(|| {
        let (ended, _) = export(&[Answer::Rejects(5)], &[], &[]);
        ended.exits(1).said("last trouble: no room");
        assert_eq!(ended.counts(), [SPANS, SPANS - 5, 5, 0, 0]);
        ended.complained(&format!("5 of {SPANS} spans did not arrive"));
    });
}

#[test]
fn what_it_cannot_do_is_said_before_the_work() {
    in_time(|| {
        let tls = [("OTEL_EXPORTER_OTLP_ENDPOINT", "https://collector.example")];
        run(&[], &tls)
            .exits(1)
            .complained("this example has no TLS");
        let late = [("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")];
        run(&[], &late)
            .exits(1)
            .complained("OTEL_EXPORTER_OTLP_TIMEOUT is not a number");
        for (arguments, why) in [
            (&["--passes", "7"][..], "multiple of 4"),
            (&["--passes", "many"], "not a number"),
            (&["--passes"], "needs a number"),
            (&["--every", "0"], "no breakpoints"),
            (&["--nonsense"], "unknown option"),
        ] {
            let ended = run(arguments, &[]);
            ended.exits(1).complained(why);
            assert!(!ended.out.contains("passes in"), "{}", ended.out);
        }
    });
}

/// What the example's own collector says to these bytes, to the end of the connection.
fn answered(address: SocketAddr, pieces: &[&[u8]]) -> String {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_nodelay(true).unwrap();
    for piece in pieces {
        socket.write_all(piece).ok(); // it may have refused after the first
    }
    socket.shutdown(std::net::Shutdown::Write).ok();
    let mut answer = Vec::new();
    socket.read_to_end(&mut answer).ok();
    String::from_utf8(answer).unwrap()
}

#[test]
fn its_own_collector_takes_requests_in_pieces_and_one_after_the_other() {
    in_time(|| {
        let head = "POST /v1/traces HTTP/1.1\r\nContent-Type: application/x-protobuf\r\n\
                    Content-Length: 2\r\n\r\n";
        let empty = [0x0a, 0]; // one empty list of spans
        let bytes = [head.as_bytes(), &empty].concat();
        let (answers, received) = receiver::serve(|address| {
            let twice = [&bytes[..], &bytes[..9]];
            let pieces: Vec<_> = bytes[9..].chunks(1).collect();
            Ok(answered(address, &[&twice[..], &pieces[..]].concat()))
        })
        .unwrap();
        assert_eq!(answers.unwrap().matches("HTTP/1.1 200 OK").count(), 2);
        assert_eq!(received.requests.len(), 2);
        assert_eq!(received.requests[1].resource_spans.len(), 1);
        assert!(received.refused.is_empty(), "{:?}", received.refused);
    });
}

#[test]
fn its_own_collector_refuses_what_is_no_request_and_keeps_nothing_of_it() {
    let post = "POST /v1/traces HTTP/1.1\r\n";
    let kind = "content-type: application/x-protobuf\r\n";
    let cases = [
        ("\0\0\r\n\r\n".to_owned(), "400"),
        (format!("{post}{kind}content-length: 9\r\n\r\nshort"), "400"),
        (format!("{post}{kind}content-length: 3\r\n\r\nabc"), "400"),
        ("POST /v1/tra".to_owned(), "400"),
        (format!("POST /v1/logs HTTP/1.1\r\n{kind}\r\n"), "404"),
        (format!("GET /v1/traces HTTP/1.1\r\n{kind}\r\n"), "405"),
        (format!("{post}{kind}\r\n"), "411"),
        (
            format!("{post}{kind}content-length: 99999999\r\n\r\n"),
            "413",
        ),
        (
            format!("{post}{kind}content-length: 99999999999999999999\r\n\r\n"),
            "411",
        ),
        (
            format!("{post}content-type: application/json\r\n\r\n"),
            "415",
        ),
        (format!("{post}{kind}content-encoding: gzip\r\n\r\n"), "415"),
        (
            format!("{post}{kind}transfer-encoding: chunked\r\n\r\n"),
            "415",
        ),
        (format!("{post}x: {}", "x".repeat(9000)), "431"),
    ];
    in_time(move || {
        let ((), received) = receiver::serve(|address| {
            for (bytes, status) in &cases {
                let answer = answered(address, &[bytes.as_bytes()]);
                assert!(
                    answer.starts_with(&format!("HTTP/1.1 {status} ")),
                    "{bytes:?}: {answer}"
                );
            }
            Ok(())
        })
        .map(|(result, received)| (result.unwrap(), received))
        .unwrap();
        assert!(received.requests.is_empty());
        assert_eq!(received.refused.len(), 13, "{:?}", received.refused);
    });
}

#[test]
fn its_own_collector_has_a_bound_of_connections_and_silent_ones_do_not_hold_up_its_end() {
    in_time(|| {
        let (result, received) = receiver::serve(|address| {
            let silent: Vec<_> = (0..8)
                .map(|_| TcpStream::connect(address).unwrap())
                .collect();
            // They are accepted in their order, so this one is too many.
            assert_eq!(answered(address, &[]), "");
            Ok(silent)
        })
        .unwrap();
        for mut socket in result.unwrap() {
            assert_eq!(socket.read(&mut [0]).unwrap(), 0, "it is open");
        }
        assert_eq!(received.refused, ["too many connections"]);
    });
}
