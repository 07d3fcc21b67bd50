//! Dumps of all threads (S1, S2): each thread's stack with function and line, what is flagged, and
//! the formats.
//!
//! A binary of its own: a dump shows the threads of every test that runs beside.
#![cfg(all(target_os = "linux", target_arch = "x86_64", not(cleanbreak_portable)))]
#![allow(
    clippy::disallowed_methods,
    reason = "most of what is dumped are threads that the library did not start"
)]

mod support;

use std::io::Read;
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, mpsc};
use std::thread;

use cleanbreak::diagnose::{DumpedThread, Frame, OsState, StackProblem, ThreadDump};
use cleanbreak::{CancelToken, scope};
use support::{child_passes, in_time, is_child, millis, until, until_waiting};

/// Whether the system lets a process look at its own threads. If not, the tests of stacks say so
/// and check what is left.
fn stacks_are_readable() -> bool {
    let readable = std::fs::read_to_string("/proc/thread-self/syscall").is_ok()
        && std::fs::read_to_string("/proc/thread-self/schedstat").is_ok();
    if !readable {
        println!("NOT CHECKED: /proc/TID/syscall or schedstat is not readable here: no stacks");
    }
    readable
}

fn named<'a>(dump: &'a ThreadDump, name: &str) -> Option<&'a DumpedThread> {
    dump.threads().iter().find(|thread| thread.name == name)
}

/// Dumps until the named thread sleeps with a complete stack; the last dump if it never does.
fn dump_of(name: &str) -> DumpedThread {
    let mut found = None;
    until(|| {
        let dump = ThreadDump::capture();
        found = named(&dump, name).cloned();
        let done = |thread: &DumpedThread| {
            thread.state == Some(OsState::Sleeping)
                && (thread.stack.is_complete() || !stacks_are_readable())
        };
        let known = found.as_ref();
        known.is_some_and(|thread| done(thread) && !thread.stack.frames().is_empty())
            || (!stacks_are_readable() && known.is_some())
    });
    found.unwrap()
}

fn frame<'a>(thread: &'a DumpedThread, function: &str) -> &'a Frame {
    let with_name = |frame: &&Frame| {
        // Of a method, the newer mangling has it as `<module::Type>::method`.
        let name = frame.function().map(|name| name.replace(['<', '>'], ""));
        name.is_some_and(|name| name.ends_with(function))
    };
    let found = thread.stack.frames().iter().find(with_name);
    found.unwrap_or_else(|| panic!("no {function} in\n{thread}"))
}

/// Runs `body` on a named thread that `wake` ends, and looks at it once it sleeps in `function`.
fn check(name: &'static str, function: &str, line: u32, call: &[&str], body: impl FnOnce() + Send) {
    thread::scope(|scope| {
        let thread = thread::Builder::new().name(name.to_owned());
        thread.spawn_scoped(scope, body).unwrap();
        let thread = dump_of(name);
        if stacks_are_readable() {
            let found = frame(&thread, function);
            assert_eq!(found.line(), Some(line), "{thread}");
            assert!(found.file().unwrap().ends_with("tests/dump.rs"), "{thread}");
            assert_eq!(thread.stack.problem(), None, "{thread}");
            let in_call = thread.system_call.and_then(|call| call.name()).unwrap();
            assert!(call.contains(&in_call), "{thread}");
        }
        assert!(thread.library.is_none(), "{thread}");
        WAKE.store(true, Ordering::SeqCst);
    });
}

static WAKE: AtomicBool = AtomicBool::new(false);

/// Ends the wait once the worker has been seen.
fn end_when_seen(end: impl FnOnce() + Send + 'static) {
    let seen = move || {
        until(|| WAKE.swap(false, Ordering::SeqCst));
        end();
    };
    thread::spawn(seen);
}

/// Of all kinds of workers, the ones that std and this library wait in. One test, one after the
/// other: each is told by [`WAKE`].
#[test]
fn each_kind_of_sleeper_has_its_function_and_line() {
    in_time(|| {
        in_channel();
        in_lock();
        in_condvar();
        in_socket();
        in_join();
        in_sleep();
        in_inlined();
    });
}

fn in_channel() {
    let (sender, receiver) = mpsc::channel::<()>();
    end_when_seen(move || drop(sender));
    const LINE: u32 = line!() + 3;
    #[inline(never)]
    fn waits_in_channel(receiver: &mpsc::Receiver<()>) {
        std::hint::black_box(receiver.recv()).unwrap_err();
    }
    check("channel", "waits_in_channel", LINE, &["futex"], move || {
        waits_in_channel(&receiver);
    });
}

fn in_lock() {
    let lock = Arc::new(Mutex::new(0));
    let (held, other) = (lock.clone(), lock);
    let (locked, is_locked) = mpsc::channel();
    thread::spawn(move || {
        let _held = held.lock().unwrap();
        locked.send(()).unwrap();
        until(|| WAKE.swap(false, Ordering::SeqCst));
    });
    is_locked.recv().unwrap();
    const LINE: u32 = line!() + 3;
    #[inline(never)]
    fn waits_for_lock(lock: &Mutex<i32>) {
        *std::hint::black_box(lock).lock().unwrap() += 1;
    }
    check("lock", "waits_for_lock", LINE, &["futex"], move || {
        waits_for_lock(&other)
    });
}

fn in_condvar() {
    let pair = Arc::new((Mutex::new(false), Condvar::new()));
    let other = pair.clone();
    end_when_seen(move || {
        *other.0.lock().unwrap() = true;
        other.1.notify_all();
    });
    const LINE: u32 = line!() + 5;
    #[inline(never)]
    fn waits_for_condition((lock, changed): &(Mutex<bool>, Condvar)) {
        let mut done = lock.lock().unwrap();
        while !*done {
            done = std::hint::black_box(changed).wait(done).unwrap();
        }
    }
    check(
        "condvar",
        "waits_for_condition",
        LINE,
        &["futex"],
        move || {
            waits_for_condition(&pair);
        },
    );
}

fn in_socket() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let server = listener.accept().unwrap().0;
    end_when_seen(move || drop(server));
    const LINE: u32 = line!() + 3;
    #[inline(never)]
    fn waits_for_bytes(mut stream: &TcpStream) {
        assert_eq!(std::hint::black_box(stream.read(&mut [0; 8])).unwrap(), 0);
    }
    check(
        "socket",
        "waits_for_bytes",
        LINE,
        &["read", "recvfrom"],
        move || {
            waits_for_bytes(&client);
        },
    );
}

fn in_join() {
    let other = thread::spawn(|| until(|| WAKE.swap(false, Ordering::SeqCst)));
    const LINE: u32 = line!() + 3;
    #[inline(never)]
    fn waits_for_thread(other: thread::JoinHandle<()>) {
        std::hint::black_box(other.join()).unwrap();
    }
    check("join", "waits_for_thread", LINE, &["futex"], move || {
        waits_for_thread(other)
    });
}

fn in_sleep() {
    const LINE: u32 = line!() + 4;
    #[inline(never)]
    fn sleeps() {
        while !WAKE.swap(false, Ordering::SeqCst) {
            thread::sleep(millis(20));
        }
    }
    check("sleep", "::sleeps", LINE, &["clock_nanosleep"], sleeps);
}

fn in_inlined() {
    let (sender, receiver) = mpsc::channel::<()>();
    end_when_seen(move || drop(sender));
    const INNER: u32 = line!() + 3;
    #[inline(always)]
    fn is_inlined(receiver: &mpsc::Receiver<()>) {
        std::hint::black_box(receiver.recv()).unwrap_err();
    }
    const OUTER: u32 = line!() + 3;
    #[inline(never)]
    fn has_inlined(receiver: &mpsc::Receiver<()>) {
        is_inlined(receiver);
    }

    thread::scope(|scope| {
        let builder = thread::Builder::new().name("inlined".to_owned());
        let worker = builder
            .spawn_scoped(scope, move || has_inlined(&receiver))
            .unwrap();
        let thread = dump_of("inlined");
        if stacks_are_readable() {
            let (inner, outer) = (frame(&thread, "is_inlined"), frame(&thread, "has_inlined"));
            assert!(inner.is_inlined() && !outer.is_inlined(), "{thread}");
            assert_eq!(
                (inner.line(), outer.line()),
                (Some(INNER), Some(OUTER)),
                "{thread}"
            );
            assert_eq!(inner.address(), outer.address());
        }
        WAKE.store(true, Ordering::SeqCst);
        worker.join().unwrap();
    });
}

#[test]
fn a_thread_of_the_library_has_its_spawn_site_and_its_wait() {
    in_time(|| {
        scope(&CancelToken::new(), |group| {
            let line = line!() + 1;
            group.spawn_named("of-the-library-long-name", |token| {
                token.wait();
                Ok(())
            })?;
            until_waiting("of-the-library-long-name");
            let thread = dump_of("of-the-library-long-name");
            let library = thread.library.as_ref().unwrap();
            assert_eq!(library.spawned_at.line(), line);
            assert!(library.spawned_at.file().ends_with("dump.rs"));
            assert_eq!(library.waiting.unwrap().on, "be cancelled");
            assert_eq!(library.tid, thread.tid);
            assert!(thread.blocked.is_some());
            if stacks_are_readable() {
                let wait = frame(&thread, "CancelToken::wait");
                assert!(wait.file().unwrap().ends_with("cancel/wait.rs"), "{thread}");
            }
            let text = thread.to_string();
            assert!(text.contains("to be cancelled at "), "{text}");
            assert!(
                text.contains(&format!("spawned at\n\ttests/dump.rs:{line}:")),
                "{text}"
            );
            group.token().cancel();
            Ok(())
        })
        .unwrap();
        let after = ThreadDump::capture();
        assert!(named(&after, "of-the-library-long-name").is_none());
    });
}

/// The negative control: nothing makes a stack up for a thread that runs.
#[test]
fn a_thread_that_spins_is_listed_as_running_without_a_stack() {
    in_time(|| {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = stop.clone();
        let (started, has_started) = mpsc::channel();
        let spinner = thread::Builder::new().name("spinner".to_owned());
        let spinner = spinner.spawn(move || {
            started.send(()).unwrap();
            while !stopped.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        });
        has_started.recv().unwrap();
        // It may still be on its way out of `send`, or asleep in it.
        until(|| {
            let dump = ThreadDump::capture();
            let thread = named(&dump, "spinner").unwrap();
            let problem = thread.stack.problem();
            thread.state == Some(OsState::Running)
                && thread.stack.frames().is_empty()
                && (problem == Some(StackProblem::Running) || !stacks_are_readable())
                && thread.system_call.is_none()
                && thread.blocked.is_none()
        });
        stop.store(true, Ordering::Relaxed);
        spinner.unwrap().join().unwrap();
    });
}

#[test]
fn the_calling_thread_has_its_own_stack() {
    #[inline(never)]
    fn takes_a_dump() -> ThreadDump {
        std::hint::black_box(ThreadDump::capture())
    }
    let dump = in_time(takes_a_dump);
    let own = dump.current().unwrap();
    assert_eq!(own.state, Some(OsState::Running));
    assert!(own.stack.is_complete(), "{own}");
    frame(own, "ThreadDump::capture");
    frame(own, "takes_a_dump");
}

const DEEP: usize = 10_000;

#[inline(never)]
fn descends(levels: usize, receiver: &mpsc::Receiver<()>) -> usize {
    if levels == 0 {
        receiver.recv().unwrap_err();
        return 0;
    }
    std::hint::black_box(descends(levels - 1, receiver)) + 1
}

#[test]
fn a_deep_stack_is_followed_to_its_end_and_shown_in_part() {
    in_time(|| {
        let (sender, receiver) = mpsc::channel();
        let builder = thread::Builder::new()
            .name("deep".to_owned())
            .stack_size(64 << 20);
        let deep = builder
            .spawn(move || assert_eq!(descends(DEEP, &receiver), DEEP))
            .unwrap();
        let thread = dump_of("deep");
        if stacks_are_readable() {
            let (omitted, after) = thread.stack.omitted().unwrap();
            assert!(
                (DEEP - 128..DEEP + 128).contains(&omitted),
                "{omitted} left out"
            );
            let frames = thread.stack.frames();
            assert!(frames.len() < 400, "{} frames", frames.len());
            // Both ends, with the gap among the calls of itself.
            for beside in [after - 1, after] {
                assert!(frames[beside].function().unwrap().ends_with("descends"));
            }
            frame(&thread, "start_thread");
            assert!(
                thread
                    .to_string()
                    .contains(&format!("({omitted} frames left out)"))
            );
            let short = ThreadDump::builder()
                .max_frames(2)
                .only([thread.tid.unwrap()])
                .capture();
            let one = &short.threads()[0];
            let own_frames = one
                .stack
                .frames()
                .iter()
                .filter(|frame| !frame.is_inlined());
            assert_eq!(own_frames.count(), 2, "{one}");
        }
        drop(sender);
        deep.join().unwrap();
    });
}

/// Ten threads that do the same, and what ends them.
fn ten_alike() -> (mpsc::Sender<()>, Vec<thread::JoinHandle<()>>) {
    #[inline(never)]
    fn waits_alike(lock: &Mutex<mpsc::Receiver<()>>) {
        lock.lock().unwrap().recv().ok();
    }
    let (sender, receiver) = mpsc::channel();
    let receiver = Arc::new(Mutex::new(receiver));
    let start = |_| {
        let receiver = receiver.clone();
        let builder = thread::Builder::new().name("alike \"quoted\"".to_owned());
        builder.spawn(move || waits_alike(&receiver)).unwrap()
    };
    (sender, (0..10).map(start).collect())
}

#[test]
fn identical_stacks_are_grouped_with_the_oldest_three_named() {
    in_time(|| {
        let (sender, threads) = ten_alike();
        let mut dump = ThreadDump::capture();
        // One waits for the message, nine for the lock.
        let alike = |dump: &ThreadDump| {
            let groups = dump.groups();
            groups.iter().any(|group| {
                group.threads.len() == 9
                    && group
                        .threads
                        .iter()
                        .all(|thread| thread.name.starts_with("alike"))
            })
        };
        until(|| {
            dump = ThreadDump::capture();
            alike(&dump) || !stacks_are_readable()
        });
        let text = dump.grouped().to_string();
        assert!(text.starts_with(&format!("thread profile: total {}\n", dump.threads().len())));
        if stacks_are_readable() {
            let at = text.find("9 threads [sleeping in futex]:\n").unwrap();
            let block = text[at..].split("\n\n").next().unwrap();
            let titles: Vec<_> = block
                .lines()
                .filter(|line| line.starts_with("#\t"))
                .collect();
            assert_eq!(titles.len(), 4, "{block}");
            assert!(titles[0].contains(r#""alike \"quoted\"", age "#), "{block}");
            assert_eq!(titles[3], "#\tand 6 more");
            assert!(block.contains("waits_alike\n\t"), "{block}");
        }
        let groups = dump.groups();
        let sizes: Vec<_> = groups.iter().map(|group| group.threads.len()).collect();
        assert_eq!(sizes.iter().sum::<usize>(), dump.threads().len());
        assert!(sizes.is_sorted_by(|a, b| a >= b), "{sizes:?}");
        for group in &groups {
            assert!(group.threads.is_sorted_by(|a, b| a.age >= b.age));
        }
        drop(sender);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn the_json_is_read_by_a_parser_and_says_the_same() {
    in_time(|| {
        let (sender, threads) = ten_alike();
        let dump = ThreadDump::capture();
        let json: serde_json::Value = serde_json::from_str(&dump.to_json()).unwrap();
        assert_eq!(json["pid"], std::process::id());
        let listed = json["threads"].as_array().unwrap();
        assert_eq!(listed.len(), dump.threads().len());
        for (json, thread) in listed.iter().zip(dump.threads()) {
            assert_eq!(json["tid"], thread.tid.unwrap());
            assert_eq!(json["name"], *thread.name);
            assert_eq!(json["current"], thread.is_current);
            let stack = &json["stack"];
            assert_eq!(stack["complete"], thread.stack.is_complete());
            let frames = stack["frames"].as_array().unwrap();
            assert_eq!(frames.len(), thread.stack.frames().len());
            for (json, frame) in frames.iter().zip(thread.stack.frames()) {
                assert_eq!(json["function"].as_str(), frame.function());
                assert_eq!(json["file"].as_str(), frame.file());
                assert_eq!(json["line"].as_u64(), frame.line().map(u64::from));
                assert_eq!(json["address"], format!("{:#x}", frame.address()));
            }
        }
        drop(sender);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

/// The fields of a protocol buffer: number, and a value or bytes.
fn fields(mut bytes: &[u8]) -> Vec<(u64, Field<'_>)> {
    fn varint(bytes: &mut &[u8]) -> u64 {
        let (mut value, mut shift) = (0, 0);
        loop {
            let (byte, rest) = bytes.split_first().unwrap();
            *bytes = rest;
            value |= u64::from(byte & 0x7f) << shift;
            shift += 7;
            if byte & 0x80 == 0 {
                return value;
            }
        }
    }
    let mut found = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes);
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)),
            2 => {
                let length = usize::try_from(varint(&mut bytes)).unwrap();
                let (content, rest) = bytes.split_at(length);
                bytes = rest;
                Field::Bytes(content)
            }
            other => panic!("wire type {other}"),
        };
        found.push((tag >> 3, field));
    }
    found
}

#[derive(Clone, Copy, Debug)]
enum Field<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

fn messages<'a>(of: &[(u64, Field<'a>)], field: u64) -> Vec<Vec<(u64, Field<'a>)>> {
    let with = of.iter().filter(|(number, _)| *number == field);
    with.map(|(_, field)| match field {
        Field::Bytes(bytes) => fields(bytes),
        Field::Number(_) => panic!("no message"),
    })
    .collect()
}

fn number(of: &[(u64, Field<'_>)], field: u64) -> u64 {
    match of.iter().find(|(number, _)| *number == field) {
        Some((_, Field::Number(value))) => *value,
        Some((_, Field::Bytes([value]))) => u64::from(*value), // packed, a small one
        _ => 0,
    }
}

#[test]
fn the_profile_decodes_and_counts_every_thread_once() {
    in_time(|| {
        let (sender, threads) = ten_alike();
        let mut dump = ThreadDump::capture();
        until(|| {
            dump = ThreadDump::capture();
            dump.groups()[0].threads.len() >= 9 || !stacks_are_readable()
        });
        let file = dump.to_pprof();
        assert_eq!(file[..3], [0x1f, 0x8b, 8]);
        let (body, trailer) = file[10..].split_at(file.len() - 18);
        let raw = miniz_oxide::inflate::decompress_to_vec(body).unwrap();
        assert_eq!(
            trailer[4..],
            u32::try_from(raw.len()).unwrap().to_le_bytes()
        );
        let profile = fields(&raw);

        let texts = profile.iter().filter(|(number, _)| *number == 6);
        let texts = texts.map(|(_, field)| match field {
            Field::Bytes(bytes) => std::str::from_utf8(bytes).unwrap(),
            Field::Number(_) => panic!("no text"),
        });
        let texts: Vec<_> = texts.collect();
        assert_eq!(texts[0], "");
        let text = |of: &[_], field| texts[usize::try_from(number(of, field)).unwrap()];
        let kind = &messages(&profile, 1)[0];
        assert_eq!((text(kind, 1), text(kind, 2)), ("threads", "count"));

        let samples = messages(&profile, 2);
        let count: u64 = samples.iter().map(|sample| number(sample, 2)).sum();
        assert_eq!(count, dump.threads().len() as u64);
        let labels = samples.iter().flat_map(|sample| messages(sample, 3));
        let labels: Vec<_> = labels
            .map(|label| (text(&label, 1), text(&label, 2)))
            .collect();
        assert!(
            labels.contains(&("thread", "alike \"quoted\"")),
            "{labels:?}"
        );

        for function in messages(&profile, 5) {
            assert_ne!(
                text(&function, 2),
                text(&function, 3),
                "the viewer would cut the name"
            );
        }
        if stacks_are_readable() {
            assert!(texts.iter().any(|text| text.ends_with("waits_alike")));
            assert!(
                texts.contains(&concat!(env!("CARGO_MANIFEST_DIR"), "/tests/dump.rs"))
                    || texts.contains(&"tests/dump.rs")
            );
        }
        drop(sender);
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
    });
}

#[test]
fn the_time_blocked_grows_from_dump_to_dump_while_a_thread_sleeps() {
    in_time(|| {
        let (sender, receiver) = mpsc::channel::<()>();
        let builder = thread::Builder::new().name("patient".to_owned());
        let patient = builder.spawn(move || receiver.recv().unwrap_err()).unwrap();
        let first = dump_of("patient");
        if stacks_are_readable() {
            let mut longest = first.blocked.unwrap_or_default();
            for _ in 0..3 {
                until(|| {
                    dump_of("patient")
                        .blocked
                        .is_some_and(|blocked| blocked > longest)
                });
                longest = dump_of("patient").blocked.unwrap();
            }
            assert!(longest <= first.age.unwrap() + support::secs(120));
        }
        drop(sender);
        patient.join().unwrap();
    });
}

#[test]
fn only_what_is_asked_for_is_dumped() {
    let own = rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs();
    let one = ThreadDump::builder().only([own, u32::MAX]).capture();
    assert_eq!(one.threads().len(), 1);
    assert!(one.current().is_some());
    let (sender, receiver) = mpsc::channel::<()>();
    let sleeper = thread::spawn(move || receiver.recv().unwrap_err());
    let without = ThreadDump::builder().stacks(false).attempts(1).capture();
    assert!(without.threads().len() >= 2);
    for thread in without.threads() {
        let asleep = thread.state == Some(OsState::Sleeping);
        assert!(
            thread.is_current || thread.stack.frames().is_empty(),
            "{thread}"
        );
        assert!(!asleep || thread.stack.problem().is_some());
    }
    drop(sender);
    sleeper.join().unwrap();
}

/// Without file descriptors there is no `/proc`: what the library knows is still there, and what is
/// missing is said.
#[test]
fn without_proc_the_librarys_threads_are_left() {
    if !is_child() {
        child_passes("without_proc_the_librarys_threads_are_left", "ulimit -n 32");
        return;
    }
    scope(&CancelToken::new(), |group| {
        group.spawn_named("known", |token| {
            token.wait();
            Ok(())
        })?;
        until_waiting("known");
        let mut taken = Vec::new();
        while let Ok(file) = std::fs::File::open("/dev/null") {
            taken.push(file);
        }
        let dump = ThreadDump::capture();
        drop(taken);
        let known = named(&dump, "known").unwrap();
        assert_eq!(
            known.library.as_ref().unwrap().waiting.unwrap().on,
            "be cancelled"
        );
        assert_eq!(known.stack.problem(), Some(StackProblem::Unlisted));
        assert!(
            dump.problems()[0].contains("cannot be listed"),
            "{:?}",
            dump.problems()
        );
        assert!(dump.to_string().starts_with("problem: "));
        let json: serde_json::Value = serde_json::from_str(&dump.to_json()).unwrap();
        assert_eq!(json["problems"][0], *dump.problems()[0]);
        group.token().cancel();
        Ok(())
    })
    .unwrap();
}
