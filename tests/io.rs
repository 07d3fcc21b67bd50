//! Reads, writes, accepts and connects that end with their token.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_methods,
    reason = "the tests are outside the library's doors"
)]

mod support;

use std::io::{self, BufRead, BufReader, ErrorKind, PipeReader, Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use cleanbreak::io::{
    Interest, Interruptible, Notify, Waker, Woken, cancellation, connect, connect_timeout,
    transferred, wait_ready, wait_ready_timeout,
};
use cleanbreak::threads::{self, WaitInfo};
use cleanbreak::{CancelKind, CancelToken, Clock};
use rustix::fs::{OFlags, fcntl_getfl};
use support::{cancelled, child_passes, descriptors, in_time, is_child, secs, until};

/// Both ends of a TCP connection.
fn tcp() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

#[track_caller]
fn assert_told(error: &io::Error) {
    assert_eq!(error.kind(), ErrorKind::Other);
    let cancelled = cancellation(error).expect("a cancellation");
    assert_eq!(cancelled.to_string(), "cancelled: enough");
}

#[track_caller]
fn assert_shown(wait: WaitInfo, on: &str) {
    assert_eq!(wait.on, on);
    assert!(wait.at.file().ends_with("tests/io.rs"), "{}", wait.at);
}

#[test]
fn a_blocked_read_ends_and_the_connection_goes_on() {
    let (mut client, server) = tcp();
    let ((server, error), wait) = cancelled("read tcp", |token| {
        let mut server = Interruptible::new(server, token);
        let error = server.read(&mut [0; 8]).unwrap_err();
        (server.into_inner(), error)
    });
    assert_told(&error);
    assert_shown(wait, "read");
    client.write_all(b"later").unwrap();
    let mut later = [0; 5];
    let mut server = Interruptible::new(server, &CancelToken::new());
    server.read_exact(&mut later).unwrap();
    assert_eq!(&later, b"later");
    server.write_all(b"and back").unwrap();
    drop(server);
    assert_eq!(io::read_to_string(client).unwrap(), "and back");
}

/// A reader with something at its other end that keeps it open.
fn assert_read_ends(name: &'static str, reader: impl AsFd + Send + 'static) {
    let (error, wait) = cancelled(name, |token| {
        Interruptible::new(reader, token)
            .read(&mut [0; 8])
            .unwrap_err()
    });
    assert_told(&error);
    assert_shown(wait, "read");
}

#[test]
fn a_blocked_read_of_a_unix_socket_a_pipe_a_named_pipe_and_a_terminal_ends() {
    let (unix, _other) = UnixStream::pair().unwrap();
    assert_read_ends("read unix", unix);
    let (reader, _writer) = pipe().unwrap();
    assert_read_ends("read pipe", reader);
    let (_holder, named) = named_pipe();
    assert_read_ends("read named pipe", named);
    let (_user, terminal) = terminal();
    assert_read_ends("read terminal", terminal);
}

/// Both ends of a named pipe.
fn named_pipe() -> (std::fs::File, std::fs::File) {
    let path = std::env::temp_dir().join(format!("cleanbreak-io-{}", fastrand::u64(..)));
    let made = std::process::Command::new("mkfifo").arg(&path).status();
    assert!(made.unwrap().success());
    let mut both = std::fs::OpenOptions::new();
    let writer = both.read(true).write(true).open(&path).unwrap();
    let reader = std::fs::File::open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    (writer, reader)
}

/// The user's side of a terminal, and the program's.
fn terminal() -> (OwnedFd, OwnedFd) {
    use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
    let user = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).unwrap();
    grantpt(&user).unwrap();
    unlockpt(&user).unwrap();
    let name = ptsname(&user, Vec::new()).unwrap();
    let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
    let program = rustix::fs::open(&*name, flags, rustix::fs::Mode::empty()).unwrap();
    (user, program)
}

/// Writes more than all buffers take, and checks that what the error says was written is what
/// arrives.
fn assert_write_ends(
    name: &'static str,
    writer: impl AsFd + Send + 'static,
    reader: impl Read + Send + 'static,
) {
    let ((writer, error), wait) = cancelled(name, |token| {
        let mut writer = Interruptible::new(writer, token);
        let error = writer.write_all(&vec![7; 64 << 20]).unwrap_err();
        (writer.into_inner(), error)
    });
    assert_told(&error);
    assert_shown(wait, "write");
    let arrived = in_time(move || {
        drop(writer);
        let (mut reader, mut bytes) = (reader, Vec::new());
        reader.read_to_end(&mut bytes).unwrap();
        assert!(bytes.iter().all(|byte| *byte == 7));
        bytes.len()
    });
    println!("{name}: {arrived} bytes were taken");
    assert!(arrived > 0);
    assert_eq!(transferred(&error), arrived);
}

#[test]
fn a_blocked_write_ends_and_tells_how_much_was_written() {
    let (client, server) = tcp();
    assert_write_ends("write tcp", client, server);
    let (one, other) = UnixStream::pair().unwrap();
    assert_write_ends("write unix", one, other);
    let (reader, writer) = pipe().unwrap();
    assert_write_ends("write pipe", writer, reader);
    let (writer, reader) = named_pipe();
    assert_write_ends("write named pipe", writer, reader);
}

#[test]
fn a_blocked_accept_ends_and_the_listener_goes_on() {
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let accepting = listener.clone();
    let (error, wait) = cancelled("accept tcp", |token| {
        Interruptible::new(accepting, token).accept().unwrap_err()
    });
    assert_told(&error);
    assert_shown(wait, "accept a connection");

    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let token = CancelToken::new();
    let (stream, peer) = Interruptible::new(&*listener, &token).accept().unwrap();
    assert_eq!(peer, client.local_addr().unwrap());
    let mode = fcntl_getfl(&stream).unwrap();
    assert!(
        !mode.contains(OFlags::NONBLOCK),
        "the stream is in blocking mode"
    );

    let path = std::env::temp_dir().join(format!("cleanbreak-io-{}", fastrand::u64(..)));
    let listener = UnixListener::bind(&path).unwrap();
    std::fs::remove_file(path).unwrap();
    let (error, _) = cancelled("accept unix", move |token| {
        Interruptible::new(listener, token).accept().unwrap_err()
    });
    assert_told(&error);
}

/// A listener whose queue is full: the next connection waits for the one before to be accepted.
fn full_listener() -> (TcpListener, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let first = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener, first)
}

#[test]
fn a_blocked_connect_ends_and_one_that_is_let_in_succeeds() {
    let (listener, _first) = full_listener();
    let address = listener.local_addr().unwrap();
    let (error, wait) = cancelled("connect", move |token| {
        connect(&address, token).unwrap_err()
    });
    assert_told(&error);
    assert_shown(wait, "connect");

    let clock = Clock::manual();
    let waiting = thread::spawn({
        let token = CancelToken::with_clock(&clock);
        move || connect_timeout(&address, &token, secs(5)).unwrap_err()
    });
    clock.await_timers(1);
    clock.advance(secs(5));
    let late = in_time(move || waiting.join().unwrap());
    assert_eq!(late.kind(), ErrorKind::TimedOut);
    assert!(cancellation(&late).is_none());

    let waiting = thread::spawn(move || connect(&address, &CancelToken::new()));
    in_time(move || {
        let mut accepted = listener.accept().unwrap().0;
        let mut stream = waiting.join().unwrap().unwrap();
        let mode = fcntl_getfl(&stream).unwrap();
        assert!(
            !mode.contains(OFlags::NONBLOCK),
            "the stream is in blocking mode"
        );
        while accepted.peer_addr().unwrap() != stream.local_addr().unwrap() {
            accepted = listener.accept().unwrap().0;
        }
        accepted.write_all(b"in").unwrap();
        stream.read_exact(&mut [0; 2]).unwrap();
    });
}

#[test]
fn a_cancelled_token_is_seen_also_where_all_is_ready() {
    let token = CancelToken::new();
    let (mut client, server) = tcp();
    client.write_all(b"flood").unwrap();
    wait_ready(&server, Interest::Readable, &token).unwrap();
    token.cancel_with("enough");
    let mut bound = Interruptible::new(&server, &token);
    assert_told(&bound.read(&mut [0; 8]).unwrap_err());
    assert_told(&bound.write(b"x").unwrap_err());
    assert_told(&wait_ready(&server, Interest::Writable, &token).unwrap_err());
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let _queued = TcpStream::connect(address).unwrap();
    assert_told(&Interruptible::new(listener, &token).accept().unwrap_err());
    assert_told(&connect(&address, &token).unwrap_err());
    // What was there is still there.
    let mut bytes = [0; 8];
    assert_eq!((&server).read(&mut bytes).unwrap(), 5);
}

#[test]
fn a_line_that_is_cut_short_is_an_error_of_the_right_kind_and_kept() {
    let (mut client, server) = tcp();
    client.write_all(b"whole\npar").unwrap();
    let ((partial, error), wait) = cancelled("read_line", |token| {
        let mut lines = BufReader::new(Interruptible::new(server, token));
        let mut line = String::new();
        assert_eq!(lines.read_line(&mut line).unwrap(), 6);
        line.clear();
        let error = lines.read_line(&mut line).unwrap_err();
        (line, error)
    });
    assert_told(&error);
    assert_eq!(partial, "par");
    // Called by std, it shows the line that bound the stream.
    assert_shown(wait, "read");
}

#[test]
fn copy_and_read_exact_end_too() {
    let (mut client, server) = tcp();
    client.write_all(b"copied").unwrap();
    let ((copied, error), _) = cancelled("copy", |token| {
        let mut copied = Vec::new();
        let error = io::copy(&mut Interruptible::new(server, token), &mut copied).unwrap_err();
        (copied, error)
    });
    assert_told(&error);
    assert_eq!(copied, b"copied");

    let (mut client, server) = tcp();
    client.write_all(b"abc").unwrap();
    let ((buffer, error), _) = cancelled("read_exact", |token| {
        let mut buffer = [0; 8];
        let error = Interruptible::new(server, token)
            .read_exact(&mut buffer)
            .unwrap_err();
        (buffer, error)
    });
    assert_told(&error);
    assert_eq!(transferred(&error), 3);
    assert_eq!(&buffer[..3], b"abc");
}

#[test]
fn a_deadline_ends_a_read_by_the_tokens_clock() {
    in_time(|| {
        let clock = Clock::manual();
        let root = CancelToken::with_clock(&clock);
        let (_client, server) = tcp();
        let server = Arc::new(Interruptible::new(server, &root));
        let child = root.child_timeout(secs(3));
        let reading = thread::spawn({
            let server = server.clone();
            move || server.with_token(&child).read(&mut [0; 8]).unwrap_err()
        });
        clock.await_timers(1);
        clock.advance(secs(3));
        let error = reading.join().unwrap();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert_eq!(
            cancellation(&error).unwrap().kind(),
            CancelKind::DeadlineExceeded
        );

        let (reader, _writer) = pipe().unwrap();
        let mut reader = Interruptible::new(reader, &root);
        reader.set_deadline(clock.deadline_after(secs(60)));
        reader.set_timeout(Some(secs(5)));
        let reading = thread::spawn(move || {
            let first = reader.read(&mut [0; 8]).unwrap_err();
            reader.set_timeout(Some(Duration::MAX));
            (first, reader.read(&mut [0; 8]).unwrap_err())
        });
        for _ in 0..2 {
            clock.await_timers(1);
            clock.advance(clock.next_deadline().unwrap().duration_since(clock.now()));
        }
        let (first, second) = reading.join().unwrap();
        assert_eq!(
            (first.kind(), second.kind()),
            (ErrorKind::TimedOut, ErrorKind::TimedOut)
        );
        assert!(cancellation(&first).is_none() && cancellation(&second).is_none());
        assert_eq!(clock.now().as_nanos(), secs(3 + 60).as_nanos() as u64);
        assert_eq!(clock.timers(), 0, "nothing is left with the clock");
        assert!(!root.is_cancelled());
    });
}

#[test]
fn a_timeout_of_zero_tries_once_and_none_is_early() {
    let token = CancelToken::new();
    let (mut client, server) = tcp();
    let mut server = Interruptible::new(server, &token);
    server.set_timeout(Some(Duration::ZERO));
    assert_eq!(
        server.read(&mut [0; 8]).unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    client.write_all(b"x").unwrap();
    wait_ready(server.get_ref(), Interest::Readable, &token).unwrap();
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 1);

    let begun = Instant::now();
    let timeout = Duration::from_millis(20);
    let late = wait_ready_timeout(server.get_ref(), Interest::Readable, &token, timeout);
    assert_eq!(late.unwrap_err().kind(), ErrorKind::TimedOut);
    assert!(begun.elapsed() >= timeout);
}

#[test]
fn no_mode_is_changed() {
    let token = CancelToken::new();
    let (client, server) = tcp();
    let (reader, writer) = pipe().unwrap();
    let (_user, terminal) = terminal();
    let fds: [OwnedFd; 5] = [
        client.into(),
        server.into(),
        reader.into(),
        writer.into(),
        terminal,
    ];
    for fd in &fds {
        let before = fcntl_getfl(fd).unwrap();
        let mut bound = Interruptible::new(fd, &token);
        bound.set_timeout(Some(Duration::ZERO));
        let _ = (bound.read(&mut [0; 1]), bound.write(b"x"));
        assert_eq!(fcntl_getfl(fd).unwrap(), before);
    }
}

#[test]
fn a_descriptor_in_non_blocking_mode_is_waited_on_alike() {
    let (mut client, server) = tcp();
    server.set_nonblocking(true).unwrap();
    let (error, _) = cancelled("read non-blocking", {
        let server = server.try_clone().unwrap();
        move |token| {
            Interruptible::new(server, token)
                .read(&mut [0; 8])
                .unwrap_err()
        }
    });
    assert_told(&error);
    client.write_all(b"x").unwrap();
    let read = in_time(move || Interruptible::new(server, &CancelToken::new()).read(&mut [0; 8]));
    assert_eq!(read.unwrap(), 1);
}

#[test]
fn an_end_a_reset_and_a_file_are_what_they_are_without_a_token() {
    let token = CancelToken::new();
    let (client, server) = tcp();
    drop(client);
    let mut server = Interruptible::new(server, &token);
    assert_eq!(server.read(&mut [0; 8]).unwrap(), 0);
    assert_eq!(
        server.read_exact(&mut [0; 8]).unwrap_err().kind(),
        ErrorKind::UnexpectedEof
    );
    assert_eq!(server.read(&mut []).unwrap(), 0);
    let (reader, writer) = pipe().unwrap();
    drop(reader);
    let broken = Interruptible::new(writer, &token).write(b"x").unwrap_err();
    assert_eq!(broken.kind(), ErrorKind::BrokenPipe);
    let file = std::fs::File::open("Cargo.toml").unwrap();
    let text = io::read_to_string(Interruptible::new(file, &token)).unwrap();
    assert_eq!(text, include_str!("../Cargo.toml"));
}

#[test]
fn what_can_cross_threads_and_panics_is_pinned() {
    use std::panic::{RefUnwindSafe, UnwindSafe};
    fn pinned<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    pinned::<Interruptible<TcpStream>>();
    pinned::<Notify>();
    pinned::<Waker>();
    pinned::<cleanbreak::io::Lines<TcpStream>>();
    pinned::<cleanbreak::io::StdinLines>();
    fn sendable<T: Send + Sync>() {}
    sendable::<cleanbreak::io::OutputError>();
}

// Signals.

/// Sends `SIGUSR1` to the thread again and again until `done`; each is seen by a handler before the
/// next. How many they were.
fn storm(thread: libc::pthread_t, done: impl Fn() -> bool) -> usize {
    let seen = Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, seen.clone()).unwrap();
    let mut sent = 0;
    while !done() {
        // SAFETY: the thread is joined later, so its handle is good.
        #[allow(unsafe_code, reason = "std cannot signal one thread")]
        let answer = unsafe { libc::pthread_kill(thread, libc::SIGUSR1) };
        assert_eq!(answer, 0);
        until(|| seen.swap(false, std::sync::atomic::Ordering::SeqCst) || done());
        sent += 1;
    }
    sent
}

#[test]
fn a_storm_of_signals_ends_no_wait_and_cuts_none_short() {
    use std::os::unix::thread::JoinHandleExt;
    use std::sync::atomic::{AtomicUsize, Ordering};
    in_time(|| {
        let (mut client, server) = tcp();
        let reading = thread::spawn(move || {
            let mut byte = [0];
            let mut server = Interruptible::new(server, &CancelToken::new());
            server.read_exact(&mut byte).unwrap();
            byte
        });
        let enough = AtomicUsize::new(0);
        let sent = storm(reading.as_pthread_t(), || {
            enough.fetch_add(1, Ordering::Relaxed) > 1000
        });
        println!("{sent} signals while a read waits");
        assert!(!reading.is_finished());
        client.write_all(&[42]).unwrap();
        assert_eq!(reading.join().unwrap(), [42]);

        let timeout = Duration::from_millis(50);
        let waiting = thread::spawn(move || {
            let (begun, (reader, _writer)) = (Instant::now(), pipe().unwrap());
            let mut reader = Interruptible::new(reader, &CancelToken::new());
            reader.set_timeout(Some(timeout));
            let late = reader.read(&mut [0; 1]).unwrap_err();
            (late.kind(), begun.elapsed())
        });
        let sent = storm(waiting.as_pthread_t(), || waiting.is_finished());
        let (kind, took) = waiting.join().unwrap();
        println!("{sent} signals in a timeout of {timeout:?}, which took {took:?}");
        assert_eq!(kind, ErrorKind::TimedOut);
        assert!(took >= timeout);
    });
}

// Wake-ups.

#[test]
fn without_the_library_the_same_read_does_not_end() {
    in_time(|| {
        let token = CancelToken::new();
        let (client, mut server) = tcp();
        let (tx, task) = crossbeam_channel::bounded(1);
        let plain = thread::spawn(move || {
            tx.send(std::fs::read_link("/proc/thread-self").unwrap())
                .unwrap();
            server.read(&mut [0; 8]).unwrap()
        });
        let stat = std::path::Path::new("/proc")
            .join(task.recv().unwrap())
            .join("stat");
        let asleep = || std::fs::read_to_string(&stat).unwrap().contains(") S ");
        until(asleep);
        let ours = {
            let (_client, server) = tcp();
            let told = token.clone();
            let ours = thread::spawn(move || {
                Interruptible::new(server, &told)
                    .read(&mut [0; 8])
                    .unwrap_err()
            });
            token.cancel_with("enough");
            ours.join().unwrap()
        };
        assert_told(&ours);
        assert!(
            asleep() && !plain.is_finished(),
            "std's read knows of no token"
        );
        drop(client);
        assert_eq!(plain.join().unwrap(), 0);
    });
}

#[test]
fn two_readers_of_one_byte_both_end() {
    in_time(|| {
        for _ in 0..200 {
            let token = CancelToken::new();
            let (mut client, server) = tcp();
            let server = Arc::new(server);
            let read = |server: Arc<TcpStream>, token: CancelToken| {
                thread::spawn(move || Interruptible::new(server, &token).read(&mut [0; 1]))
            };
            let one = read(server.clone(), token.clone());
            let other = read(server.clone(), token.clone());
            client.write_all(b"x").unwrap();
            until(|| one.is_finished() || other.is_finished());
            token.cancel_with("enough");
            let ends = [one.join().unwrap(), other.join().unwrap()];
            assert_eq!(ends.iter().flatten().sum::<usize>(), 1);
            let error = ends
                .into_iter()
                .find_map(Result::err)
                .expect("there was one byte");
            assert_told(&error);
        }
    });
}

#[test]
fn a_notification_ends_a_wait_once_also_if_it_came_before() {
    in_time(|| {
        let (token, notify) = (CancelToken::new(), Arc::new(Notify::new()));
        let (client, server) = tcp();
        notify.notify();
        notify.notify();
        let wait = || notify.wait_or_ready(&server, Interest::HangUp, &token);
        assert_eq!(wait().unwrap(), Woken::Notified);
        // Bytes are no hang-up.
        (&client).write_all(b"x").unwrap();
        let waiting = |count| {
            let start = |_| {
                let (notify, token) = (notify.clone(), token.clone());
                let server = server.try_clone().unwrap();
                thread::spawn(move || notify.wait_or_ready(server, Interest::HangUp, &token))
            };
            (0..count).map(start).collect::<Vec<_>>()
        };
        let mut both = waiting(2);
        notify.notify();
        until(|| both.iter().any(|wait| wait.is_finished()));
        let first = both.iter().position(|wait| wait.is_finished()).unwrap();
        assert_eq!(
            both.swap_remove(first).join().unwrap().unwrap(),
            Woken::Notified
        );
        assert!(!both[0].is_finished(), "one permit is for one");
        notify.notify();
        assert_eq!(both.remove(0).join().unwrap().unwrap(), Woken::Notified);

        notify.notify();
        token.cancel_with("enough");
        assert_told(&wait().unwrap_err());
        let wait = || notify.wait_or_ready(&server, Interest::HangUp, &CancelToken::new());
        assert_eq!(wait().unwrap(), Woken::Notified, "the permit was kept");
        drop(client);
        assert_eq!(wait().unwrap(), Woken::Ready);
    });
}

// Descriptors.

#[test]
fn a_wait_without_a_descriptor_fails_and_one_made_ahead_serves() {
    const NAME: &str = "a_wait_without_a_descriptor_fails_and_one_made_ahead_serves";
    if !is_child() {
        child_passes(NAME, "ulimit -n 32");
        return;
    }
    let token = CancelToken::new();
    let (mut writer, waker) = (None, Waker::new().unwrap());
    let mut pipes = Vec::new();
    while let Ok((reader, end)) = pipe() {
        writer = Some(end);
        pipes.push(reader);
    }
    let mut last = Interruptible::new(pipes.pop().unwrap(), &token);
    last.set_timeout(Some(Duration::from_millis(1)));
    // Fill up: a pipe takes two, an eventfd one.
    let hog: Vec<_> = std::iter::from_fn(|| std::fs::File::open("/dev/null").ok()).collect();
    let refused = thread::spawn(move || (last.read(&mut [0; 1]).unwrap_err(), last));
    let (error, mut last) = refused.join().unwrap();
    assert_eq!(error.raw_os_error(), Some(libc::EMFILE), "{error}");
    waker.install();
    assert_eq!(
        last.read(&mut [0; 1]).unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    writer.unwrap().write_all(b"x").unwrap();
    assert_eq!(last.read(&mut [0; 1]).unwrap(), 1);
    drop(hog);
}

/// Every kind of wait, cancelled while it blocks, on threads that end.
fn all_kinds_of_waits() {
    let (_client, server) = tcp();
    assert_read_ends("read tcp", server);
    let (reader, _writer): (PipeReader, _) = pipe().unwrap();
    assert_read_ends("read pipe", reader);
    let (client, server) = tcp();
    assert_write_ends("write tcp", client, server);
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let (error, _) = cancelled("accept tcp", move |token| {
        Interruptible::new(listener, token).accept().unwrap_err()
    });
    assert_told(&error);
    let (listener, _first) = full_listener();
    let address = listener.local_addr().unwrap();
    let (error, _) = cancelled("connect", move |token| {
        connect(&address, token).unwrap_err()
    });
    assert_told(&error);
}

#[test]
fn no_descriptor_and_no_thread_is_left() {
    const NAME: &str = "no_descriptor_and_no_thread_is_left";
    if !is_child() {
        child_passes(NAME, ":");
        return;
    }
    all_kinds_of_waits();
    let (open, running) = (descriptors(), support::status("Threads:"));
    (0..5).for_each(|_| all_kinds_of_waits());
    assert_eq!(descriptors(), open);
    until(|| support::status("Threads:") == running);
    assert!(threads::live().is_empty(), "{:?}", threads::live());
    // The count would see one.
    let kept = pipe().unwrap();
    assert_eq!(descriptors(), open + 2);
    drop(kept);
}
