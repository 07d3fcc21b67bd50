//! Wake-ups and the descriptors that they cost.

use super::*;

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
    const NAME: &str = "wakes::a_wait_without_a_descriptor_fails_and_one_made_ahead_serves";
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
    const NAME: &str = "wakes::no_descriptor_and_no_thread_is_left";
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
