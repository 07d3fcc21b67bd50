//! A storm of signals ends no wait.

use super::*;

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
