//! Reads, writes, accepts and connects that end with their token.
#![cfg(target_os = "linux")]
#![allow(
    clippy::disallowed_methods,
    reason = "the tests are outside the library's doors"
)]

mod ends;
mod signals;
#[path = "../support/mod.rs"]
mod support;
mod times;
mod wakes;

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
    assert!(wait.at.file().contains("tests/io/"), "{}", wait.at);
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

/// A listener whose queue is full: the next connection waits for the one before to be accepted.
fn full_listener() -> (TcpListener, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let first = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (listener, first)
}
