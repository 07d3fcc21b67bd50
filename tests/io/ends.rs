//! Blocked calls end, and lose nothing.

use super::*;

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
