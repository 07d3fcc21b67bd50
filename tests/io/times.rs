//! Deadlines, modes of descriptors, and plain ends.

use super::*;

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
    assert_eq!(text, include_str!("../../Cargo.toml"));
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
