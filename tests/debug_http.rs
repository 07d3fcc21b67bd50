//! The debug page: every path over a real socket, who is refused, what is bounded, and the end.

mod support;

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use cleanbreak::debug::{DebugError, DebugServer, DebugServerBuilder};
use cleanbreak::leak::leak_check;
use cleanbreak::{
    Breaker, Bulkhead, CancelToken, ChildSpec, Clock, GroupBuilder, Job, KeyedRateLimiter, Pool,
    Probe, Quota, RateLimiter, Supervisor, Ticker, scope,
};
use crossbeam_channel::bounded;
use serde_json::Value;
use support::{PATIENCE, in_time, secs, until, until_waiting};

fn builder() -> DebugServerBuilder {
    DebugServer::builder().bind("127.0.0.1:0")
}

fn server() -> DebugServer {
    builder().start(&CancelToken::new()).unwrap()
}

/// What came back.
#[derive(Debug)]
struct Answer {
    status: u16,
    head: String,
    body: Vec<u8>,
}

impl Answer {
    fn header(&self, name: &str) -> Option<&str> {
        let lines = self.head.lines().skip(1);
        let pairs = lines.filter_map(|line| line.split_once(": "));
        let mut found = pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name));
        found.next().map(|(_, value)| value)
    }

    fn text(&self) -> &str {
        std::str::from_utf8(&self.body).unwrap()
    }

    fn json(&self) -> Value {
        assert_eq!(self.header("content-type"), Some("application/json"));
        serde_json::from_slice(&self.body).unwrap()
    }
}

fn dial(address: SocketAddr) -> TcpStream {
    let client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    client
}

/// Reads an answer to its end.
fn read(mut client: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    client.read_to_end(&mut bytes).unwrap();
    let end = bytes.windows(4).position(|four| four == b"\r\n\r\n");
    let body = bytes.split_off(end.expect("a whole head") + 4);
    let head = String::from_utf8(bytes).unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head, body }
}

fn send(address: SocketAddr, request: &str) -> Answer {
    let mut client = dial(address);
    client.write_all(request.as_bytes()).unwrap();
    read(client)
}

fn get(server: &DebugServer, path: &str) -> Answer {
    let address = server.local_addr();
    send(
        address,
        &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\n\r\n"),
    )
}

const PATHS: [(&str, &str); 20] = [
    ("/debug/", "text/html; charset=utf-8"),
    ("/debug/threads", "text/plain; charset=utf-8"),
    ("/debug/threads?debug=1", "text/plain; charset=utf-8"),
    ("/debug/threads?debug=2", "text/plain; charset=utf-8"),
    ("/debug/threads.json", "application/json"),
    ("/debug/threads.pb.gz", "application/octet-stream"),
    ("/debug/tokens", "text/plain; charset=utf-8"),
    ("/debug/tokens.json", "application/json"),
    ("/debug/loops.json", "application/json"),
    ("/debug/pools.json", "application/json"),
    ("/debug/breakers.json", "application/json"),
    ("/debug/deadlocks", "text/plain; charset=utf-8"),
    ("/debug/groups.json", "application/json"),
    ("/debug/supervisors.json", "application/json"),
    ("/debug/bulkheads.json", "application/json"),
    ("/debug/limiters.json", "application/json"),
    ("/debug/tickers.json", "application/json"),
    ("/debug/values.json", "application/json"),
    ("/debug/state.json?stacks=1", "application/json"),
    ("/metrics", "text/plain; version=0.0.4; charset=utf-8"),
];

#[test]
fn every_path_answers_with_its_kind_and_lets_a_browser_do_little_with_it() {
    in_time(|| {
        let server = builder().metrics(|| "up 1\n".to_owned());
        let server = server.start(&CancelToken::new()).unwrap();
        for (path, kind) in PATHS {
            let answer = get(&server, path);
            println!("{path}: {} bytes", answer.body.len());
            assert_eq!(answer.status, 200, "{path}");
            assert_eq!(answer.header("content-type"), Some(kind), "{path}");
            let length = answer.body.len().to_string();
            assert_eq!(answer.header("content-length"), Some(&*length));
            assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
            assert_eq!(answer.header("cache-control"), Some("no-store"));
            let policy = answer.header("content-security-policy").unwrap();
            assert!(policy.starts_with("default-src 'none';"), "{policy}");
            assert!(
                !policy.contains("unsafe") && !policy.contains("http"),
                "{policy}"
            );
            let cors = answer.head.to_ascii_lowercase();
            assert!(!cors.contains("access-control"), "{cors}");
            if kind == "application/json" {
                answer.json();
            }
        }
        assert_eq!(get(&server, "/metrics").text(), "up 1\n");
    });
}

#[test]
fn head_answers_the_head_alone() {
    in_time(|| {
        let server = server();
        let request = "HEAD /debug/ HTTP/1.1\r\nHost: localhost\r\n\r\n";
        let head = send(server.local_addr(), request);
        assert_eq!((head.status, head.body.len()), (200, 0));
        let length = get(&server, "/debug/").body.len().to_string();
        assert_eq!(head.header("content-length"), Some(&*length));
    });
}

#[test]
fn another_host_is_refused_unless_it_was_allowed() {
    in_time(|| {
        let server = builder().allow_host("Box.example");
        let server = server.start(&CancelToken::new()).unwrap();
        let ask = |host: &str| {
            let request = format!("GET /debug/threads.json HTTP/1.1\r\nHost: {host}\r\n\r\n");
            send(server.local_addr(), &request).status
        };
        for host in [
            "localhost",
            "LOCALHOST:1",
            "127.0.0.1:80",
            "[::1]",
            "[::1]:9",
            "box.example:7",
        ] {
            assert_eq!(ask(host), 200, "{host}");
        }
        for host in [
            "evil.example",
            "localhost.evil.example",
            "127.0.0.1.evil.example:80",
            "0.0.0.0",
            "::1",
            "",
        ] {
            assert!([403, 400].contains(&ask(host)), "{host}");
        }
        assert_eq!(ask("evil.example:6060"), 403);
        let none = send(server.local_addr(), "GET /debug/ HTTP/1.1\r\n\r\n");
        assert_eq!(none.status, 400);
    });
}

#[test]
fn it_is_read_only() {
    in_time(|| {
        let server = server();
        for method in ["POST", "PUT", "DELETE", "OPTIONS", "PATCH"] {
            let request = format!(
                "{method} /debug/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4\r\n\r\nbody"
            );
            let answer = send(server.local_addr(), &request);
            assert_eq!(answer.status, 405, "{method}");
            assert_eq!(answer.header("allow"), Some("GET, HEAD"));
        }
    });
}

#[test]
fn what_is_not_there_or_makes_no_sense_is_told_so() {
    in_time(|| {
        let server = server();
        for path in [
            "/debug/nothing",
            "/debug/threads/",
            "/favicon.ico",
            "/../etc/passwd",
            "/metrics",
        ] {
            assert_eq!(get(&server, path).status, 404, "{path}");
        }
        for query in [
            "debug=0",
            "debug=x",
            "stacks=2",
            "tid=x",
            "tid=-1",
            "signals=2",
            "signals=",
        ] {
            assert_eq!(
                get(&server, &format!("/debug/threads?{query}")).status,
                400,
                "{query}"
            );
        }
        let home = get(&server, "/");
        assert_eq!(
            (home.status, home.header("location")),
            (307, Some("/debug/"))
        );
        let address = server.local_addr();
        assert_eq!(send(address, "hello\r\n\r\n").status, 400);
        assert_eq!(
            send(address, "GET / HTTP/3\r\nHost: localhost\r\n\r\n").status,
            505
        );
    });
}

#[test]
fn a_head_that_is_too_long_is_refused_and_the_client_hears_it() {
    in_time(|| {
        let server = server();
        let mut client = dial(server.local_addr());
        let pad = "x".repeat(100 * 1024);
        write!(
            client,
            "GET / HTTP/1.1\r\nHost: localhost\r\nPad: {pad}\r\n\r\n"
        )
        .unwrap();
        assert_eq!(read(client).status, 431);
    });
}

/// Until a request waits for its client to take the answer.
fn until_waiting_to_write() {
    until(|| {
        let live = cleanbreak::threads::live();
        let mut ours = live.iter().filter(|it| it.name == "debug-request");
        ours.any(|it| it.waiting.is_some_and(|wait| wait.on == "write"))
    });
}

#[test]
fn slow_clients_hold_up_neither_others_nor_the_end() {
    in_time(|| {
        let leaks = leak_check();
        let huge = || "x".repeat(64 * 1024 * 1024);
        let server = builder().metrics(huge);
        let server = server.start(&CancelToken::new()).unwrap();
        let mut slow: Vec<_> = (0..8).map(|_| dial(server.local_addr())).collect();
        for client in &mut slow {
            client.write_all(b"GET /debug/ HT").unwrap();
        }
        // One who does not take what it asked for, which fits into no buffer.
        let mut deaf = dial(server.local_addr());
        write!(deaf, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        until_waiting_to_write();
        assert_eq!(get(&server, "/debug/threads.json").status, 200);
        let address = server.local_addr();
        drop(server);
        assert!(TcpStream::connect(address).is_err());
        leaks.finish().unwrap();
        for mut client in slow {
            // Closed or reset, without an answer.
            let read = client.read(&mut [0; 16]);
            assert!(!matches!(read, Ok(1..)), "{read:?}");
        }
    });
}

#[test]
fn a_client_that_is_too_slow_is_told_so_by_the_clock() {
    in_time(|| {
        let clock = Clock::manual();
        let token = CancelToken::with_clock(&clock);
        let server = builder().start(&token).unwrap();
        let mut client = dial(server.local_addr());
        client.write_all(b"GET /debug/ HT").unwrap();
        clock.await_timers(1);
        clock.advance(secs(5));
        let mut answer = [0; 12];
        client.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"HTTP/1.1 408");
    });
}

#[test]
fn only_so_many_requests_are_served_at_a_time() {
    in_time(|| {
        // Nobody's time runs out.
        let token = CancelToken::with_clock(&Clock::manual());
        let server = builder().start(&token).unwrap();
        let idle: Vec<_> = (0..16).map(|_| dial(server.local_addr())).collect();
        let full = read(dial(server.local_addr()));
        assert_eq!(full.status, 503);
        drop(idle);
        let ask = || {
            let mut client = dial(server.local_addr());
            let request = "GET /debug/loops.json HTTP/1.1\r\nHost: localhost\r\n\r\n";
            // One that is refused may be reset before it has read that.
            client.write_all(request.as_bytes())?;
            let mut answer = String::new();
            client.read_to_string(&mut answer)?;
            Ok::<_, std::io::Error>(answer.starts_with("HTTP/1.1 200"))
        };
        until(|| matches!(ask(), Ok(true)));
    });
}

#[test]
fn a_cancelled_token_ends_it_with_nothing_listening_and_no_thread_left() {
    in_time(|| {
        let leaks = leak_check();
        let service = CancelToken::new();
        let server = builder().start(&service).unwrap();
        assert_eq!(get(&server, "/debug/threads.json").status, 200);
        service.cancel();
        let address = server.local_addr();
        until(|| TcpStream::connect(address).is_err());
        // Also without the drop.
        leaks.finish().unwrap();
        drop(server);
    });
}

#[test]
fn a_name_is_shown_as_text_whatever_is_in_it() {
    in_time(|| {
        let name = "<script>alert(\"1\")</script>'\\\u{1}é";
        let server = server();
        server.watch_token(name, &CancelToken::new().child());
        let service = CancelToken::new();
        server.watch_token(name, &service);
        server.watch_value(name, move || name.to_owned());
        let mut probe = Probe::new(name);
        probe.pass();
        scope(&CancelToken::new(), |group| {
            group.spawn_named(name, |token| {
                token.wait();
                Ok(())
            })?;
            until_waiting(name);
            let state = get(&server, "/debug/state.json");
            assert_eq!(state.header("x-content-type-options"), Some("nosniff"));
            let state = state.json();
            let named = |list: &Value| {
                let mut list = list.as_array().unwrap().iter();
                list.any(|it| it["name"] == name)
            };
            assert!(named(&state["dump"]["threads"]));
            assert!(named(&state["loops"]));
            assert!(named(&state["tokens"]));
            let values = get(&server, "/debug/values.json").json();
            assert_eq!(
                (&values[0]["name"], &values[0]["value"]),
                (&name.into(), &name.into())
            );
            // The same for every process: no name is in it.
            assert_eq!(
                get(&server, "/debug/").text(),
                include_str!("../src/debug/page.html")
            );
            group.token().cancel();
            Ok(())
        })
        .unwrap();
    });
}

#[test]
fn a_thread_is_shown_with_what_it_waits_on_and_alone_if_that_is_asked() {
    in_time(|| {
        let server = server();
        scope(&CancelToken::new(), |group| {
            group.spawn_named("stuck-one", |token| {
                token.wait();
                Ok(())
            })?;
            until_waiting("stuck-one");
            let find = |dump: &Value| {
                let threads = dump["threads"].as_array().unwrap();
                threads
                    .iter()
                    .find(|it| it["name"] == "stuck-one")
                    .cloned()
                    .unwrap()
            };
            let light = get(&server, "/debug/state.json").json();
            let thread = find(&light["dump"]);
            assert_eq!(thread["library"]["waiting"]["on"], "be cancelled");
            assert!(thread["stack"]["frames"].as_array().unwrap().is_empty());
            let text = get(&server, "/debug/threads?debug=2");
            assert!(text.text().contains("stuck-one") && text.text().contains("debug_http.rs"));
            if cfg!(all(
                target_os = "linux",
                target_arch = "x86_64",
                not(cleanbreak_portable)
            )) {
                let path = format!("/debug/threads.json?tid={}", thread["tid"]);
                until(|| get(&server, "/debug/threads").text().contains("stuck-one"));
                // It says that it waits a moment before it sleeps, and only then there is a stack.
                until(|| {
                    let alone = get(&server, &path).json();
                    assert_eq!(alone["threads"].as_array().unwrap().len(), 1);
                    let frames = find(&alone)["stack"]["frames"].to_string();
                    frames.contains("CancelToken") && frames.contains("wait")
                });
            }
            group.token().cancel();
            Ok(())
        })
        .unwrap();
    });
}

/// Reading disturbs nobody, unless the program has said that it may, and the request asks for it.
#[cfg(all(target_os = "linux", target_arch = "x86_64", not(cleanbreak_portable)))]
#[test]
fn threads_that_run_are_signalled_only_if_the_program_and_the_request_say_so() {
    use std::sync::atomic::{AtomicBool, Ordering};

    use cleanbreak::diagnose::StackSignal;

    in_time(|| {
        let forbidden = server();
        let signal = StackSignal::install().unwrap();
        let allowed = builder().stack_signal(signal);
        let allowed = allowed.start(&CancelToken::new()).unwrap();
        let (stop, begun) = (AtomicBool::new(false), AtomicBool::new(false));
        scope(&CancelToken::new(), |group| {
            group.spawn_named("busy-one", |_| {
                while !stop.load(Ordering::Relaxed) {
                    begun.store(true, Ordering::Relaxed);
                    std::hint::spin_loop();
                }
                Ok(())
            })?;
            scopeguard::defer!(stop.store(true, Ordering::Relaxed));
            until(|| begun.load(Ordering::Relaxed));
            let taken = |server: &DebugServer, query: &str| {
                let dump = get(server, &format!("/debug/threads.json{query}")).json();
                let threads = dump["threads"].as_array().unwrap();
                let busy = threads.iter().find(|it| it["name"] == "busy-one").unwrap();
                busy["stack"]["taken_by"].as_str().unwrap().to_owned()
            };
            for kind in [
                "/debug/threads",
                "/debug/threads.pb.gz",
                "/debug/state.json",
            ] {
                let refused = get(&forbidden, &format!("{kind}?signals=1"));
                assert_eq!(refused.status, 403, "{kind}");
                assert!(refused.text().contains("does not allow signals"), "{kind}");
                assert_eq!(get(&forbidden, &format!("{kind}?signals=0")).status, 200);
            }
            assert_eq!(taken(&allowed, ""), "look");
            assert_eq!(taken(&allowed, "?signals=0"), "look");
            until(|| taken(&allowed, "?signals=1") == "signal");
            Ok(())
        })
        .unwrap();
    });
}

#[test]
fn the_profile_is_gzip_and_its_content_comes_out() {
    in_time(|| {
        let server = server();
        let answer = get(&server, "/debug/threads.pb.gz");
        let name = answer.header("content-disposition").unwrap();
        assert!(name.contains("threads.pb.gz"));
        let body = &answer.body;
        assert_eq!(body[..3], [0x1f, 0x8b, 8], "gzip's magic, deflate");
        assert_eq!(body[3], 0, "no optional fields");
        let profile = miniz_oxide::inflate::decompress_to_vec(&body[10..body.len() - 8]).unwrap();
        let length = u32::from_le_bytes(body[body.len() - 4..].try_into().unwrap());
        assert_eq!(profile.len(), length as usize);
        let has = |text: &str| profile.windows(text.len()).any(|it| it == text.as_bytes());
        assert!(has("threads") && has("debug-request"));
    });
}

#[test]
fn a_tree_of_tokens_is_shown_by_name_and_not_kept() {
    in_time(|| {
        let server = server();
        let service = CancelToken::new();
        let requests = service.child_timeout(secs(3600));
        let one = requests.child();
        let _hook = one.on_cancel(|| ());
        let lost = service.child();
        lost.cancel_with("the client went");
        assert!(server.watch_token("service", &service));
        assert!(server.watch_token("requests", &requests));
        let trees = get(&server, "/debug/tokens.json").json();
        let tokens = trees[0]["tokens"].as_array().unwrap();
        let shape: Vec<_> = tokens
            .iter()
            .map(|it| (it["depth"].as_u64().unwrap(), &it["name"]))
            .collect();
        let null = Value::Null;
        assert_eq!(
            shape,
            [
                (0, &"service".into()),
                (1, &"requests".into()),
                (2, &null),
                (1, &null)
            ]
        );
        assert_eq!(
            (&tokens[0]["children"], &tokens[2]["hooks"]),
            (&2.into(), &1.into())
        );
        let left = tokens[1]["remaining_seconds"].as_f64().unwrap();
        assert!((3000.0..=3600.0).contains(&left), "{left}");
        assert_eq!(tokens[3]["cancelled"], "cancelled: the client went");
        assert_eq!(
            trees.as_array().unwrap().len(),
            1,
            "it is a part of the other"
        );
        let text = get(&server, "/debug/tokens");
        println!("{}", text.text());
        assert!(text.text().contains("\"service\": active, children 2"));
        // Who waits learns that nobody is left who could cancel, though the page knows the token.
        let done = service.done().clone();
        drop((service, requests, one, lost, _hook));
        assert!(done.recv().is_err());
        assert_eq!(
            get(&server, "/debug/tokens.json").json(),
            Value::Array(vec![])
        );
    });
}

#[test]
fn a_huge_tree_is_shown_in_part() {
    in_time(|| {
        let server = server();
        let service = CancelToken::new();
        let children: Vec<_> = (0..10_000).map(|_| service.child()).collect();
        server.watch_token("service", &service);
        let tree = get(&server, "/debug/tokens.json").json()[0].clone();
        assert_eq!(
            (&tree["cut"], &tree["tokens"][0]["children"]),
            (&true.into(), &10_000.into())
        );
        assert!(tree["tokens"].as_array().unwrap().len() <= 200);
        drop(children);
        let tree = get(&server, "/debug/tokens.json").json()[0].clone();
        assert_eq!(
            (&tree["cut"], &tree["tokens"][0]["children"]),
            (&false.into(), &0.into())
        );
    });
}

#[test]
fn loops_pools_breakers_and_tickers_are_shown_while_they_live() {
    in_time(|| {
        let server = server();
        let find = |path: &str, key: &str, value: &str| {
            let list = get(&server, path).json();
            let found = list.as_array().unwrap().iter();
            let found: Vec<_> = found
                .filter(|it| it[key].as_str().unwrap().contains(value))
                .collect();
            found.first().map(|it| (*it).clone())
        };
        let mut probe = Probe::new("shown-loop");
        (0..3).for_each(|_| probe.pass());
        let it = find("/debug/loops.json", "name", "shown-loop").unwrap();
        assert_eq!((&it["passes"], &it["busy"]), (&3.into(), &true.into()));
        drop(probe);
        assert_eq!(find("/debug/loops.json", "name", "shown-loop"), None);

        let pool = Pool::builder().name("shown-pool").workers(1).queue(7);
        let pool = pool.build(&CancelToken::new()).unwrap();
        let (go, held) = bounded::<()>(0);
        let job = pool.submit(move |_| Ok(held.recv().ok())).unwrap();
        let _queued = pool.submit(|_| Ok(())).unwrap();
        until(|| find("/debug/pools.json", "name", "shown-pool").unwrap()["running"] == 1);
        let it = find("/debug/pools.json", "name", "shown-pool").unwrap();
        assert_eq!(
            (&it["workers"], &it["queued"], &it["bound"]),
            (&1.into(), &1.into(), &7.into())
        );
        drop(go);
        job.join().unwrap();
        drop(pool);
        assert_eq!(find("/debug/pools.json", "name", "shown-pool"), None);

        let breaker = Breaker::builder().name("shown-breaker");
        let breaker = breaker.consecutive_failures(2).build().unwrap();
        let fail = || breaker.call(&CancelToken::new(), |_| Err::<(), _>("down"));
        let find_it = || find("/debug/breakers.json", "name", "shown-breaker");
        fail().unwrap_err();
        let it = find_it().unwrap();
        assert_eq!(it["state"], "CLOSED");
        assert_eq!(it["consecutive_failures"], 1);
        assert_eq!(it["remaining_open_seconds"], Value::Null);
        fail().unwrap_err();
        assert!(fail().unwrap_err().is_refused());
        let it = find_it().unwrap();
        assert_eq!((&it["state"], &it["rejected"]), (&"OPEN".into(), &1.into()));
        assert!(it["remaining_open_seconds"].as_f64().unwrap() > 0.0);
        drop(breaker);
        assert_eq!(find_it(), None);

        let ticker = Ticker::new(secs(3600)).unwrap();
        let line = format!("debug_http.rs:{}", line!() - 1);
        let it = find("/debug/tickers.json", "started_at", &line).unwrap();
        assert_eq!(
            (&it["period_seconds"], &it["sent"]),
            (&3600.0.into(), &0.into())
        );
        drop(ticker);
        assert_eq!(find("/debug/tickers.json", "started_at", &line), None);
    });
}

/// The one of this name in a list.
fn named(server: &DebugServer, path: &str, name: &str) -> Option<Value> {
    let list = get(server, path).json();
    let mut found = list.as_array().unwrap().iter();
    found.find(|it| it["name"] == name).cloned()
}

#[test]
fn groups_and_supervisors_are_shown_with_what_runs_in_them_while_they_live() {
    in_time(|| {
        let server = server();
        let group = GroupBuilder::new().name("shown-group").limit(1).backlog(1);
        let ran = group.scope(&CancelToken::new(), |group| {
            group.spawn_named("shown-task", |token| {
                token.wait();
                Ok(())
            })?;
            until_waiting("shown-task");
            group.spawn(|_| Ok(()))?;
            let it = named(&server, "/debug/groups.json", "shown-group").unwrap();
            assert_eq!(
                (&it["limit"], &it["running"], &it["queued"]),
                (&1.into(), &1.into(), &1.into())
            );
            assert_eq!(it["tasks"][0]["name"], "shown-task");
            assert!(
                it["started_at"]
                    .as_str()
                    .unwrap()
                    .contains("debug_http.rs:")
            );
            let full = scope(&CancelToken::new(), |outside| {
                let spawner = outside
                    .spawn_named("shown-spawner", |_| Ok(group.spawn(|_| Ok(())).is_err()))?;
                let waits = || named(&server, "/debug/groups.json", "shown-group").unwrap();
                until(|| waits()["waiting_spawns"] == 1);
                group.token().cancel();
                Ok(spawner.join()?)
            });
            assert!(full?);
            let it = named(&server, "/debug/groups.json", "shown-group").unwrap();
            assert_eq!(
                (&it["cancelled"], &it["waiting_spawns"]),
                (&true.into(), &0.into())
            );
            Ok(())
        });
        ran.unwrap();
        assert_eq!(named(&server, "/debug/groups.json", "shown-group"), None);

        let child = ChildSpec::new("shown-child", |cx| {
            cx.ready();
            cx.token().wait();
            Ok(())
        });
        let supervisor = Supervisor::builder().name("shown-supervisor").child(child);
        let supervisor = supervisor.start(&CancelToken::new()).unwrap();
        until_waiting("shown-child");
        let find = || named(&server, "/debug/supervisors.json", "shown-supervisor");
        let it = find().unwrap();
        assert_eq!(it["stops_for"], Value::Null);
        let shown = &it["children"][0];
        assert_eq!(
            (&shown["name"], &shown["state"]),
            (&"shown-child".into(), &"running".into())
        );
        assert_eq!(
            (&shown["restarts"], &shown["stuck"]),
            (&0.into(), &false.into())
        );
        assert_eq!(shown["waiting"]["on"], "be cancelled");
        supervisor.shutdown();
        let it = find().unwrap();
        let why = "cancelled: supervisor \"shown-supervisor\" shut down";
        assert_eq!(it["stops_for"], why);
        drop(supervisor);
        assert_eq!(find(), None);
    });
}

#[test]
fn bulkheads_and_rate_limiters_are_shown_while_they_live_and_not_those_of_the_page() {
    in_time(|| {
        let server = server();
        let uploads = Bulkhead::new(2).named("shown-bulkhead").with_queue(3);
        let permit = uploads.try_acquire().unwrap();
        let find = || named(&server, "/debug/bulkheads.json", "shown-bulkhead");
        let it = find().unwrap();
        assert_eq!(
            (&it["in_use"], &it["capacity"], &it["waiting"]),
            (&1.into(), &2.into(), &0.into())
        );
        assert_eq!(it["closed"], false);
        assert!(it["built_at"].as_str().unwrap().contains("debug_http.rs:"));
        let all = get(&server, "/debug/bulkheads.json");
        assert!(!all.text().contains("server.rs"), "{}", all.text());
        drop(permit);
        drop(uploads);
        assert_eq!(find(), None);

        let clock = Clock::manual();
        let mails = RateLimiter::with_clock(Quota::per_second(4), &clock).named("shown-limiter");
        let find = || named(&server, "/debug/limiters.json", "shown-limiter");
        mails.try_acquire_n(4).unwrap();
        let it = find().unwrap();
        assert_eq!(
            (&it["wait_seconds"], &it["keys"]),
            (&0.25.into(), &Value::Null)
        );
        assert_eq!(it["quota"], "4 per 1s, 4 at once");
        let clients = KeyedRateLimiter::<u8>::new(Quota::per_minute(1)).with_max_keys(9);
        let clients = clients.named("shown-clients");
        clients.try_acquire(&1).unwrap();
        let it = named(&server, "/debug/limiters.json", "shown-clients").unwrap();
        assert_eq!((&it["keys"], &it["most_keys"]), (&1.into(), &9.into()));
        drop((mails, clients));
        assert_eq!(find(), None);
    });
}

#[test]
fn a_deadlock_is_told_as_text_and_in_the_state() {
    in_time(|| {
        let server = server();
        let pool = Pool::builder().name("shown-deadlock").workers(1);
        let pool = pool.build(&CancelToken::new()).unwrap();
        let (give, given) = bounded::<Job<()>>(1);
        let outer = pool
            .submit(move |_| Ok(given.recv()?.join().is_err()))
            .unwrap();
        give.send(pool.submit(|_| Ok(())).unwrap()).unwrap();
        let text = || get(&server, "/debug/deadlocks").text().to_owned();
        until(|| text().contains("\"shown-deadlock\""));
        assert!(text().starts_with("deadlock: a thread waits for itself; only a cancel of pool"));
        let state = get(&server, "/debug/state.json").json();
        let shown = &state["dump"]["deadlocks"][0];
        assert_eq!(shown["threads"][0]["name"], "shown-deadlock");
        pool.token().cancel();
        assert!(outer.join().unwrap());
        assert_eq!(text(), "no deadlock is known of\n");
    });
}

#[test]
fn a_value_that_panics_is_told_and_one_that_hangs_holds_up_no_dump() {
    in_time(|| {
        let (go, held) = bounded::<()>(0);
        let server =
            builder().metrics(move || held.recv().map(|()| String::new()).unwrap_or_default());
        let server = server.start(&CancelToken::new()).unwrap();
        server.watch_value("broken", || panic!("planted"));
        server.watch_value("queue", || "3 of 7".to_owned());
        let values = get(&server, "/debug/values.json").json();
        assert_eq!(values[0]["value"], Value::Null);
        assert_eq!(
            (&values[1]["name"], &values[1]["value"]),
            (&"queue".into(), &"3 of 7".into())
        );
        server.watch_value("queue", || "4 of 7".to_owned());
        assert_eq!(
            get(&server, "/debug/values.json").json()[1]["value"],
            "4 of 7"
        );

        let mut hung = dial(server.local_addr());
        write!(hung, "GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        assert_eq!(get(&server, "/debug/threads.json").status, 200);
        drop(go);
        assert_eq!(read(hung).status, 200);
    });
}

#[test]
fn a_renderer_of_metrics_that_panics_is_a_500_and_not_the_end() {
    in_time(|| {
        let server = builder().metrics(|| panic!("planted"));
        let server = server.start(&CancelToken::new()).unwrap();
        for _ in 0..3 {
            assert_eq!(get(&server, "/metrics").status, 500);
        }
    });
}

#[test]
fn what_cannot_be_listened_on_is_an_error_and_beyond_loopback_must_be_said() {
    in_time(|| {
        let token = CancelToken::new();
        let _leaks = leak_check();
        let beyond = DebugServer::builder().bind("0.0.0.0:0").start(&token);
        let error = beyond.unwrap_err();
        assert!(matches!(error, DebugError::NotLoopback(_)));
        assert!(error.to_string().contains("0.0.0.0"), "{error}");
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let error = DebugServer::builder()
            .bind(taken.local_addr().unwrap())
            .start(&token);
        match error.unwrap_err() {
            DebugError::Bind(error) => assert_eq!(error.kind(), ErrorKind::AddrInUse),
            other => panic!("{other}"),
        }
        let error = DebugServer::builder()
            .bind("nonsense")
            .start(&token)
            .unwrap_err();
        assert!(matches!(error, DebugError::Bind(_)));
        let exposed = DebugServer::builder()
            .bind("0.0.0.0:0")
            .exposed_to_the_network();
        let exposed = exposed.start(&token).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], exposed.local_addr().port()));
        let ask = |host| {
            send(
                address,
                &format!("GET /debug/ HTTP/1.1\r\nHost: {host}\r\n\r\n"),
            )
            .status
        };
        assert_eq!((ask("localhost"), ask("box.example")), (200, 403));
        token.cancel();
        let late = builder().start(&token).unwrap();
        until(|| TcpStream::connect(late.local_addr()).is_err());
    });
}

#[test]
fn dropped_by_one_of_its_own_threads_it_waits_for_nothing() {
    in_time(|| {
        let leaks = leak_check();
        let slot = Arc::new(Mutex::new(None));
        let server = server();
        let address = server.local_addr();
        let own = slot.clone();
        server.watch_value("the end", move || {
            let server: Option<DebugServer> = own.lock().unwrap().take();
            drop(server);
            "dropped".to_owned()
        });
        *slot.lock().unwrap() = Some(server);
        let mut client = dial(address);
        write!(
            client,
            "GET /debug/values.json HTTP/1.1\r\nHost: localhost\r\n\r\n"
        )
        .unwrap();
        client.read_to_end(&mut Vec::new()).ok();
        until(|| TcpStream::connect(address).is_err());
        leaks.patience(Duration::from_secs(60)).finish().unwrap();
    });
}
