//! The long-polling example, end to end: its binary, real sockets, real signals.
#![cfg(target_os = "linux")]

// The pure modules of the example bring their unit tests along.
#[path = "../examples/longpoll/body.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod body;
#[path = "../examples/longpoll/http.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod http;
#[path = "../examples/longpoll/registry.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod registry;
#[path = "../examples/longpoll/settings.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod settings;
#[path = "../examples/longpoll/topics.rs"]
#[allow(dead_code, reason = "the example uses the rest")]
mod topics;

#[path = "longpoll/harness.rs"]
mod harness;

use std::fs::OpenOptions;
use std::io::{Write, pipe};
use std::ops::Deref;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

use harness::{Client, Ended, Service, dial, raise_file_limit, run};
use parking_lot::Mutex;
use rustix::io::ioctl_fionbio;
use rustix::process::Signal;
use scopeguard::guard;

/// The tests that keep the whole machine busy run one after the other: two of them at once would
/// measure each other.
static CROWD: Mutex<()> = Mutex::new(());

/// Phases so long that only their work can end them, for tests that want every answer on a machine
/// however busy.
const PATIENT: [&str; 3] = [
    "--stop-deadline=60s",
    "--release-deadline=60s",
    "--drain-deadline=60s",
];

/// Opens `count` connections that wait for news of `topic`, and returns when the service has seen
/// them all.
fn crowd(service: &Service, topic: &str, count: u64) -> Vec<Client> {
    let ask = |_| {
        let mut client = service.connect();
        client.ask(&format!("/poll?topic={topic}&since=0"));
        client
    };
    let clients = (0..count).map(ask).collect();
    service.watch().until("waiting", |waiting| waiting == count);
    clients
}

/// A client whose answer is larger than all the buffers on its way, and who does not read it.
fn stuck_reader(service: &Service) -> Client {
    let mut client = service.connect();
    assert_eq!(client.publish("large", &vec![7; 48 << 20]).status, 200);
    client.ask("/poll?topic=large");
    service.watch().until("waiting", |waiting| waiting == 1);
    client
}

/// A path of this test run, and of no other; the file is removed at the end.
fn temporary(kind: &str) -> impl Deref<Target = PathBuf> + Sync {
    let path = std::env::temp_dir().join(format!("longpoll-{}.{kind}", std::process::id()));
    guard(path, |path| drop(std::fs::remove_file(path)))
}

const LARGE: [&str; 2] = ["--max-body=64m", "--max-retained=64m"];

#[test]
fn one_connection_serves_request_after_request() {
    let service = Service::start(&[]);
    let mut client = service.connect();
    assert_eq!(client.get("/healthz").text(), "ok\n");
    assert_eq!(client.publish("a", b"first").field("X-Seq"), Some("1"));
    assert_eq!(client.publish("a", b"second").field("X-Seq"), Some("2"));
    let news = client.get("/poll?topic=a&since=0");
    assert_eq!(
        (news.status, news.field("X-Seq"), news.text().as_str()),
        (200, Some("1"), "first")
    );
    let news = client.get("/poll?topic=a&since=1");
    assert_eq!(
        (news.status, news.field("X-Seq"), news.text().as_str()),
        (200, Some("2"), "second")
    );
    client.send("HEAD /healthz HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n");
    let to_head = client.rest();
    assert!(to_head.starts_with("HTTP/1.1 405 "), "{to_head}");
    assert!(
        to_head.ends_with("\r\n\r\n"),
        "an answer to HEAD has no body: {to_head}"
    );
}

#[test]
fn a_waiting_poll_gets_the_news_of_its_topic_and_of_no_other() {
    let service = Service::start(&[]);
    let mut waiting = crowd(&service, "a", 1).remove(0);
    let mut publisher = service.connect();
    assert_eq!(publisher.publish("b", b"not for you").status, 200);
    assert_eq!(publisher.publish("a", b"for you").status, 200);
    let news = waiting.response();
    assert_eq!(
        (news.field("X-Seq"), news.text().as_str()),
        (Some("2"), "for you")
    );
}

#[test]
fn a_poll_without_news_ends_with_204() {
    let service = Service::start(&["--poll-wait", "20ms"]);
    let mut client = service.connect();
    let answer = client.get("/poll?topic=a");
    assert_eq!((answer.status, answer.field("Content-Length")), (204, None));
    assert_eq!(client.get("/healthz").status, 200, "the connection goes on");
}

#[test]
fn requests_sent_in_one_go_are_answered_in_order() {
    let service = Service::start(&[]);
    let mut client = service.connect();
    client.send(
        "POST /publish?topic=a HTTP/1.1\r\nHost: test\r\nContent-Length: 4\r\n\r\nnews\
         GET /poll?topic=a HTTP/1.1\r\nHost: test\r\n\r\n\
         GET /poll?topic=a&since=1 HTTP/1.1\r\nHost: test\r\n\r\n\
         GET /healthz HTTP/1.1\r\nHost: test\r\n\r\n",
    );
    assert_eq!(client.response().text(), "1\n");
    assert_eq!(client.response().text(), "news");
    // The third one waits, and the fourth behind it; neither is taken for a hang-up.
    service.watch().until("waiting", |waiting| waiting == 1);
    assert_eq!(service.connect().publish("a", b"more").status, 200);
    assert_eq!(client.response().text(), "more");
    assert_eq!(client.response().text(), "ok\n");
}

#[test]
fn a_chunked_body_and_an_expected_one_are_read_whole() {
    let service = Service::start(&[]);
    let mut client = service.connect();
    client.send(
        "POST /publish?topic=a HTTP/1.1\r\nHost: test\r\nTransfer-Encoding: chunked\r\n\r\n\
         3\r\nlon\r\n6;x=y\r\ng poll\r\n0\r\nTrailer: t\r\n\r\n",
    );
    assert_eq!(client.response().status, 200);
    assert_eq!(client.get("/poll?topic=a").text(), "long poll");
    client.send(
        "POST /publish?topic=b HTTP/1.1\r\nHost: test\r\n\
         Expect: 100-continue\r\nContent-Length: 2\r\n\r\n",
    );
    assert_eq!(client.response().status, 100);
    client.send("ok");
    assert_eq!(client.response().status, 200);
    assert_eq!(client.get("/poll?topic=b").text(), "ok");
}

#[test]
fn a_request_that_cannot_be_read_is_refused_and_its_connection_closed() {
    let service = Service::start(&["--max-body=16", "--max-head=512"]);
    let post = |lines: &str| format!("POST /publish?topic=a HTTP/1.1\r\nHost: test\r\n{lines}");
    let long = "x".repeat(600);
    let mistakes = [
        (400, "nonsense\r\n\r\n".to_owned()),
        (400, "GET / HTTP/1.1\r\n\r\n".to_owned()),
        (
            400,
            post("Content-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n"),
        ),
        (400, post("Content-Length: one\r\n\r\n")),
        (400, post("Transfer-Encoding: chunked\r\n\r\nxyz\r\n")),
        (413, post("Content-Length: 17\r\n\r\n")),
        (
            413,
            post("Content-Length: 17\r\nExpect: 100-continue\r\n\r\n"),
        ),
        (413, post("Transfer-Encoding: chunked\r\n\r\n11\r\n")),
        (417, post("Expect: tea\r\n\r\n")),
        (431, format!("GET /{long} HTTP/1.1\r\n")),
        (431, post(&format!("X: {long}\r\n\r\n"))),
        (501, post("Transfer-Encoding: gzip\r\n\r\n")),
        (505, "GET / HTTP/2.0\r\n\r\n".to_owned()),
    ];
    for (status, text) in mistakes {
        let mut client = service.connect();
        client.send(&text);
        let answer = client.response();
        assert_eq!(
            (answer.status, answer.field("Connection")),
            (status, Some("close")),
            "to {text:?}"
        );
        assert!(client.closed(), "after {text:?}");
    }
}

#[test]
fn a_client_that_is_refused_early_may_send_to_the_end() {
    let service = Service::start(&[]);
    let mut client = service.connect();
    let length = 512 * 1024;
    client.send(format!(
        "POST /publish?topic=a HTTP/1.1\r\nHost: test\r\nContent-Length: {length}\r\n\r\n"
    ));
    assert_eq!(client.response().status, 413);
    // A socket that was closed at once would answer the first part with a reset, and the second
    // could not be sent.
    client.send(vec![7; length - 1]);
    client.send([7]);
    assert!(client.closed());
}

#[test]
fn a_request_that_makes_no_sense_is_refused_and_its_connection_goes_on() {
    let service = Service::start(&["--max-topics=1"]);
    let mut client = service.connect();
    let mistakes = [
        (404, "GET /nothing"),
        (405, "POST /poll?topic=a"),
        (405, "DELETE /publish?topic=a"),
        (405, "POST /healthz"),
        (400, "GET /poll"),
        (400, "GET /poll?topic="),
        (400, "GET /poll?topic=%61"),
        (400, "GET /poll?topic=a&topic=b"),
        (400, "GET /poll?topic=a&since=-1"),
        (400, "GET /poll?topic=a&since=99999999999999999999"),
        (200, "POST /publish?topic=a"),
        (507, "POST /publish?topic=b"),
    ];
    for (status, line) in mistakes {
        client.send(format!("{line} HTTP/1.1\r\nHost: test\r\n\r\n"));
        assert_eq!(client.response().status, status, "to {line}");
    }
    client.send("PUT /publish HTTP/1.1\r\nHost: test\r\n\r\n");
    assert_eq!(client.response().field("Allow"), Some("POST"));
    assert_eq!(client.get("/healthz").status, 200);
}

#[test]
fn a_client_that_sends_too_slowly_is_told_408() {
    let service = Service::start(&["--read-deadline", "20ms"]);
    let mut head = service.connect();
    head.send("GET /healthz HT");
    assert_eq!(head.response().status, 408);
    let mut body = service.connect();
    body.send("POST /publish?topic=a HTTP/1.1\r\nHost: test\r\nContent-Length: 9\r\n\r\nhalf");
    assert_eq!(body.response().status, 408);
}

#[test]
fn an_idle_connection_is_closed_without_a_word() {
    let service = Service::start(&["--idle-deadline", "20ms"]);
    assert!(service.connect().closed());
}

#[test]
fn a_client_that_does_not_read_is_given_up_at_the_write_deadline() {
    let service = Service::start(&[LARGE[0], LARGE[1], "--write-deadline=1s"]);
    let _client = stuck_reader(&service);
    // The watch is one connection, and the stuck reader's is gone.
    service
        .watch()
        .until("connections", |connections| connections == 1);
}

#[test]
fn a_waiting_client_that_hangs_up_is_removed_at_once() {
    let service = Service::start(&["--poll-wait=60m"]);
    let mut clients = crowd(&service, "a", 3);
    let mut watch = service.watch();
    drop(clients.pop());
    watch.until("waiting", |waiting| waiting == 2);
    clients[0]
        .socket
        .shutdown(std::net::Shutdown::Write)
        .expect("it is connected");
    watch.until("waiting", |waiting| waiting == 1);
    assert_eq!(watch.read("hung_up"), 2);
    watch.until("connections", |connections| connections == 2);
}

#[test]
fn connections_beyond_the_limit_are_answered_503() {
    let service = Service::start(&["--max-connections=2"]);
    let mut watch = service.watch();
    let mut waiting = service.connect();
    waiting.ask("/poll?topic=a");
    watch.until("waiting", |waiting| waiting == 1);
    let mut extra = service.connect();
    let answer = extra.get("/healthz");
    assert_eq!(
        (answer.status, answer.field("Connection")),
        (503, Some("close"))
    );
    assert!(extra.closed());
    drop(waiting);
    watch.until("connections", |connections| connections == 1);
    assert_eq!(service.connect().get("/healthz").status, 200);
}

#[test]
fn without_descriptors_the_acceptor_pauses_and_then_goes_on() {
    let service = Service::start_with_files(40, &[]);
    let mut watch = service.watch();
    // Each takes two descriptors; those for whom there are none wait in the listener's queue.
    let crowd: Vec<_> = (0..40).map(|_| service.connect()).collect();
    watch.until("accept_pauses", |pauses| pauses > 1);
    // Time for a loop that spins to count by the ten thousand; pauses that grow to a second stay
    // few.
    for _ in 0..2000 {
        watch.read("waiting");
    }
    let pauses = watch.read("accept_pauses");
    assert!(pauses < 100, "{pauses} pauses");
    drop(crowd);
    assert_eq!(service.connect().get("/healthz").status, 200);
}

#[test]
fn sighup_reads_the_settings_again_and_keeps_them_when_the_file_is_wrong() {
    let file = temporary("conf");
    let write =
        |text: &str| std::fs::write(&*file, text).expect("the temporary folder can be written");
    write("max-body = 4 # bytes\n");
    let service = Service::start(&["--config", file.to_str().expect("a plain path")]);
    let publish = |body: &[u8]| service.connect().publish("a", body).status;
    assert_eq!((publish(b"four"), publish(b"five5")), (200, 413));

    write("max-body = 5\n");
    service.signal(Signal::HUP);
    service.watch().until("reloads", |reloads| reloads == 1);
    assert_eq!(publish(b"five5"), 200);

    write("max-body = 6\nretain = no\n");
    service.signal(Signal::HUP);
    service
        .watch()
        .until("failed_reloads", |failed| failed == 1);
    assert_eq!((publish(b"five5"), publish(b"sixsix")), (200, 413));
}

#[test]
fn news_reaches_two_thousand_waiting_polls_and_a_stop_releases_them() {
    let _alone = CROWD.lock();
    raise_file_limit(5000);
    let service = Service::start(&PATIENT);
    let mut clients = crowd(&service, "a", 2000);
    assert_eq!(service.connect().publish("a", b"news for all").status, 200);
    for client in &mut clients {
        let news = client.response();
        assert_eq!((news.status, news.text().as_str()), (200, "news for all"));
        client.ask("/poll?topic=a&since=1");
    }
    service.watch().until("waiting", |waiting| waiting == 2000);
    let ended = service.stop(Signal::TERM);
    assert_eq!(ended.status.code(), Some(0));
    let Ended { took, report, .. } = ended;
    println!("2,000 waiting polls: {took:?} from SIGTERM to the end\n{report}");
    assert_released(&mut clients);
}

fn assert_released(clients: &mut [Client]) {
    for client in clients {
        let answer = client.response();
        assert_eq!(
            (answer.status, answer.field("Connection")),
            (503, Some("close"))
        );
        assert!(client.closed());
    }
}

#[test]
fn five_hundred_waiting_polls_are_released_and_the_process_is_gone_within_a_second() {
    let _alone = CROWD.lock();
    raise_file_limit(2000);
    // The promise is about the service; a machine that has no time for it says nothing. So the best
    // of three counts, and everything but the time must be right each time.
    let times: Vec<_> = (0..3).map(|_| release_five_hundred()).collect();
    println!("500 waiting polls: {times:?} from SIGTERM to the end");
    assert!(
        times.iter().any(|took| *took < Duration::from_secs(1)),
        "{times:?}"
    );
}

fn release_five_hundred() -> Duration {
    let service = Service::start(&PATIENT);
    let address = service.address;
    let mut clients = crowd(&service, "a", 500);
    let ended = service.stop(Signal::TERM);
    assert_eq!(ended.status.code(), Some(0), "a graceful stop is a success");
    assert!(
        ended.report.contains("500 waiting, 0 not answered yet"),
        "{}",
        ended.report
    );
    assert!(dial(address).is_none(), "nobody listens");
    assert_released(&mut clients);
    ended.took
}

#[test]
fn slow_senders_and_clients_that_never_read_do_not_hold_the_exit() {
    // The deadlines of the clients are hours away: only the stop can end them.
    let hours = [
        "--read-deadline=600m",
        "--write-deadline=600m",
        "--idle-deadline=600m",
    ];
    let service = Service::start(&[&LARGE[..], &hours[..]].concat());
    let mut stuck = stuck_reader(&service);
    let (mut head, mut body, mut idle) = (service.connect(), service.connect(), service.connect());
    head.send("GET /healthz HT");
    body.send(
        "POST /publish?topic=a HTTP/1.1\r\nHost: test\r\n\
         Expect: 100-continue\r\nContent-Length: 9\r\n\r\n",
    );
    assert_eq!(body.response().status, 100);
    body.send("half");
    // With the stuck one and the watch they are five.
    service
        .watch()
        .until("connections", |connections| connections == 5);
    let ended = service.stop(Signal::INT);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.report);
    assert!(
        ended.report.contains("SIGINT") && ended.report.contains(" 0 left"),
        "{}",
        ended.report
    );
    assert_eq!(
        (head.response().status, body.response().status),
        (503, 503),
        "who was not done is told"
    );
    assert!(idle.closed());
    assert!(stuck.try_response().is_none(), "its answer was cut");
}

#[test]
fn a_second_signal_exits_at_once() {
    for (first, second, status) in [
        (Signal::TERM, Signal::INT, 130),
        (Signal::INT, Signal::TERM, 143),
    ] {
        let hours = ["--write-deadline=600m", "--drain-deadline=600m"];
        let service = Service::start(&[&LARGE[..], &hours[..]].concat());
        let _stuck = stuck_reader(&service);
        service.signal(first);
        service.await_closed_door();
        let Ended {
            status: ended,
            report,
            ..
        } = service.stop(second);
        assert_eq!(ended.code(), Some(status));
        assert_eq!(report, "", "an exit at once reports nothing");
    }
}

#[test]
fn a_log_that_nobody_reads_costs_neither_the_service_nor_its_exit_anything() {
    let (_reader, mut writer) = pipe().expect("a pipe");
    ioctl_fionbio(&writer, true).expect("it is ours");
    while writer.write(&[b'x'; 4096]).is_ok() {}
    while writer.write(b"x").is_ok() {}
    ioctl_fionbio(&writer, false).expect("it is ours");
    let service = Service::start_logging_to(writer.into(), &["--heartbeat=1ms"]);
    service.watch().until("beats", |beats| beats > 2);
    assert_eq!(service.stop(Signal::TERM).status.code(), Some(0));
}

#[test]
fn a_thread_that_hangs_is_named_and_does_not_hold_the_exit() {
    let file = temporary("fifo");
    std::fs::write(&*file, "retain = 9\n").expect("the temporary folder can be written");
    let path = file.to_str().expect("a plain path");
    let patience = ["--config", path, "--join-deadline=100ms"];
    let service = Service::start_logging_to(Stdio::piped(), &patience);
    // From now on reading the file hangs.
    std::fs::remove_file(&*file).expect("it is there");
    let made = Command::new("mkfifo").arg(&*file).status();
    assert!(made.expect("mkfifo is there").success());
    let mut clients = crowd(&service, "a", 3);
    service.signal(Signal::HUP);
    // Opens when the other side does; then it waits for us to write or to close.
    let _held = OpenOptions::new()
        .write(true)
        .open(&*file)
        .expect("the service reads it");
    let ended = service.stop(Signal::TERM);
    assert_eq!(ended.status.code(), Some(70), "{}", ended.log);
    assert!(ended.log.contains("\"housekeeper\""), "{}", ended.log);
    assert_released(&mut clients);
}

#[test]
fn who_arrives_while_the_service_stops_gets_an_answer_or_a_closed_door() {
    let _alone = CROWD.lock();
    let service = Service::start(&["--poll-wait=60m"]);
    let address = service.address;
    let arrivals = || {
        let mut released = 0;
        // Ends when the door is closed. A poll that the stop forgot would end it never.
        while let Some(socket) = dial(address) {
            let mut client = Client::new(socket);
            if client.try_poll()
                && let Some(answer) = client.try_response()
            {
                assert_eq!(answer.status, 503, "nobody publishes here");
                released += 1;
            }
        }
        released
    };
    std::thread::scope(|scope| {
        let threads: Vec<_> = (0..8).map(|_| scope.spawn(arrivals)).collect();
        service.watch().until("waiting", |waiting| waiting > 4);
        let ended = service.stop(Signal::TERM);
        assert_eq!(ended.status.code(), Some(0), "{}", ended.report);
        let released: u32 = threads
            .into_iter()
            .map(|thread| thread.join().expect("it ends"))
            .sum();
        assert!(released > 4, "those who were waiting were told: {released}");
    });
}

#[test]
fn help_is_given_and_mistakes_on_the_command_line_exit_2() {
    let help = run(&["--help"]);
    assert_eq!(help.status.code(), Some(0));
    assert!(String::from_utf8_lossy(&help.stdout).contains("--max-connections"));
    for (arguments, named) in [
        (["--port", "none"], "`none`"),
        (["--no-such", "1"], "`no-such`"),
    ] {
        let mistake = run(&arguments);
        assert_eq!(mistake.status.code(), Some(2));
        let said = String::from_utf8_lossy(&mistake.stderr).into_owned();
        assert!(said.contains(named), "{said}");
    }
}

#[test]
fn a_port_that_is_taken_is_named_and_exits_1() {
    let service = Service::start(&[]);
    let port = service.address.port().to_string();
    let second = run(&["--port", &port]);
    assert_eq!(second.status.code(), Some(1));
    let said = String::from_utf8_lossy(&second.stderr).into_owned();
    assert!(said.contains(&port), "{said}");
}

#[cfg(feature = "debug-http")]
#[test]
fn the_debug_page_shows_the_waiting_polls_and_goes_with_the_service() {
    use std::io::{BufRead, BufReader, Read};
    use std::net::SocketAddr;

    let (reader, writer) = pipe().expect("a pipe");
    let service = Service::start_logging_to(writer.into(), &["--debug-port=0"]);
    let mut line = String::new();
    let mut log = BufReader::new(reader);
    log.read_line(&mut line)
        .expect("the service logs where the page is");
    let (_, address) = line.split_once("debug page on http://").expect(&line);
    let (address, _) = address.split_once('/').expect(&line);
    let address: SocketAddr = address.parse().expect(&line);
    let get = |path: &str| {
        let mut page = dial(address).expect("the page is served");
        write!(page, "GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        page.read_to_string(&mut answer).expect("it answers");
        answer
    };
    let mut clients = crowd(&service, "a", 3);
    let threads = get("/debug/threads?debug=2");
    // Maybe that of the watch too, which is ending.
    assert!(threads.matches("\"connection\"").count() >= 3, "{threads}");
    let values = get("/debug/values.json");
    assert!(
        values.ends_with(r#"[{"name":"polls that wait","value":"3"}]"#),
        "{values}"
    );
    let tokens = get("/debug/tokens");
    assert!(tokens.contains("\"stop\": active") && tokens.contains("\"serving\": active"));
    assert!(get("/debug/loops.json").contains("\"journal\""));
    let ended = service.stop(Signal::TERM);
    assert_eq!(ended.status.code(), Some(0), "{}", ended.report);
    assert!(dial(address).is_none());
    assert_released(&mut clients);
}

#[cfg(not(feature = "debug-http"))]
#[test]
fn without_its_feature_the_debug_page_is_refused() {
    let output = run(&["--port=0", "--debug-port=0"]);
    assert_eq!(output.status.code(), Some(1));
    let log = String::from_utf8_lossy(&output.stderr);
    assert!(log.contains("debug-http"), "{log}");
}
