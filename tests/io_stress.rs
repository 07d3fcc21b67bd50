//! Data that races with cancellation: every byte and every message is accounted for.
#![cfg(unix)]
#![allow(
    clippy::disallowed_methods,
    reason = "the tests are outside the library's doors"
)]

mod support;

use std::io::{ErrorKind, Read, Write, pipe};
use std::net::{TcpListener, TcpStream};
use std::os::fd::AsFd;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::thread;

use cleanbreak::CancelToken;
use cleanbreak::io::{Interest, Interruptible, Notify, Woken, cancellation, transferred};
use crossbeam_channel::{Sender, bounded, unbounded};
use support::{dither, in_time, rng};

const CANCELLATIONS: u32 = 1000;

/// Cancels what it is given, each a little later. It takes one at a time, so that none is cancelled
/// when nobody cares any more.
fn canceller(mut rng: fastrand::Rng) -> (Sender<CancelToken>, thread::JoinHandle<()>) {
    let (tx, tokens) = bounded::<CancelToken>(0);
    let thread = thread::spawn(move || {
        for token in tokens {
            dither(&mut rng, 3000);
            token.cancel();
        }
    });
    (tx, thread)
}

/// What is sent: each byte tells its place.
fn byte(place: usize) -> u8 {
    (place % 251) as u8
}

/// Reads, in pieces of any size, under tokens that are cancelled at any time, until `stop`; how many
/// bytes, and how many reads were cancelled.
fn read_all(
    reader: impl AsFd,
    tokens: &Sender<CancelToken>,
    rng: &mut fastrand::Rng,
) -> (usize, u32) {
    let (mut place, mut cancelled) = (0, 0);
    let bound = Interruptible::new(reader, &CancelToken::never());
    loop {
        let token = CancelToken::new();
        tokens.send(token.clone()).unwrap();
        let mut buffer = vec![0; rng.usize(1..4000)];
        let mut bound = bound.with_token(&token);
        let exact = rng.bool();
        let read = match exact {
            true => bound.read_exact(&mut buffer).map(|()| buffer.len()),
            false => bound.read(&mut buffer),
        };
        let length = match &read {
            Ok(length) => *length,
            Err(error) => transferred(error),
        };
        assert!(
            buffer[..length]
                .iter()
                .zip(place..)
                .all(|(got, place)| *got == byte(place))
        );
        place += length;
        match read {
            Ok(0) => return (place, cancelled),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::UnexpectedEof => return (place, cancelled),
            Err(error) => {
                assert!(cancellation(&error).is_some(), "{error}");
                cancelled += 1;
            }
        }
    }
}

/// Writes under tokens that are cancelled at any time, until that has happened often enough; how
/// many bytes.
fn write_some(writer: impl AsFd, tokens: &Sender<CancelToken>, rng: &mut fastrand::Rng) -> usize {
    let (mut place, mut cancelled) = (0, 0);
    let bound = Interruptible::new(writer, &CancelToken::never());
    while cancelled < CANCELLATIONS {
        let token = CancelToken::new();
        tokens.send(token.clone()).unwrap();
        // Now and then more than the buffers take.
        let most = if rng.u8(..8) == 0 { 300_000 } else { 5000 };
        let bytes: Vec<_> = (place..).map(byte).take(rng.usize(1..most)).collect();
        match bound.with_token(&token).write_all(&bytes) {
            Ok(()) => place += bytes.len(),
            Err(error) => {
                assert!(cancellation(&error).is_some(), "{error}");
                place += transferred(&error);
                cancelled += 1;
            }
        }
    }
    place
}

fn race(
    name: &'static str,
    writer: impl AsFd + Send + 'static,
    reader: impl AsFd + Send + 'static,
) {
    in_time(move || {
        let mut rng = rng(name);
        let (tokens, reads) = canceller(rng.fork());
        let (for_writer, writes) = canceller(rng.fork());
        let mut rng_writer = rng.fork();
        let writing = thread::spawn(move || write_some(writer, &for_writer, &mut rng_writer));
        let (read, cancelled) = read_all(reader, &tokens, &mut rng);
        let written = writing.join().unwrap();
        println!("{name}: {written} bytes, {CANCELLATIONS} writes and {cancelled} reads cancelled");
        assert_eq!(read, written);
        drop(tokens);
        reads.join().unwrap();
        writes.join().unwrap();
    });
}

#[test]
fn no_byte_is_lost_between_data_and_cancellation() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    race("tcp", client, listener.accept().unwrap().0);
    let (one, other) = UnixStream::pair().unwrap();
    race("unix", one, other);
    let (reader, writer) = pipe().unwrap();
    race("pipe", writer, reader);
}

#[test]
fn no_notification_is_lost_between_messages_and_cancellation() {
    const SENDERS: u32 = 3;
    const EACH: u32 = 2000;
    in_time(|| {
        let mut rng = rng("notify");
        let (tokens, canceller) = canceller(rng.fork());
        let (quiet, _other) = UnixStream::pair().unwrap();
        let (notify, (tx, rx)) = (Arc::new(Notify::new()), unbounded());
        let start = |_| {
            let (notify, tx, mut rng) = (notify.clone(), tx.clone(), rng.fork());
            thread::spawn(move || {
                for message in 0..EACH {
                    tx.send(message).unwrap();
                    notify.notify();
                    dither(&mut rng, 500);
                }
            })
        };
        let senders: Vec<_> = (0..SENDERS).map(start).collect();
        let (mut received, mut cancelled) = (0, 0);
        // A wake-up that got lost would leave this waiting for ever, at the end under a token that
        // nobody cancels.
        while received < SENDERS * EACH {
            let token = CancelToken::new();
            if cancelled < CANCELLATIONS {
                tokens.send(token.clone()).unwrap();
            }
            match notify.wait_or_ready(&quiet, Interest::Readable, &token) {
                Ok(woken) => assert_eq!(woken, Woken::Notified),
                Err(error) => {
                    assert!(cancellation(&error).is_some(), "{error}");
                    cancelled += 1;
                }
            }
            received += rx.try_iter().count() as u32;
        }
        println!("{received} messages, {cancelled} waits cancelled");
        senders
            .into_iter()
            .for_each(|sender| sender.join().unwrap());
        drop(tokens);
        canceller.join().unwrap();
    });
}
