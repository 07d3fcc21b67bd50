//! Sends and receives that a token bounds (C4).
#![allow(clippy::disallowed_methods, reason = "threads of its own")]

use std::sync::mpsc;
use std::thread;

use cleanbreak::channel::{RecvCancelError, SendCancelError};
use cleanbreak::{CancelToken, SafeChannel};

/// The value came back: with the cause of the cancellation, or because the channel was closed.
#[track_caller]
fn assert_unsent(sent: Result<(), SendCancelError<u8>>, value: u8, cause: Option<&str>) {
    let error = sent.unwrap_err();
    let cancelled = error
        .cancelled()
        .map(|cancelled| cancelled.cause().unwrap().to_string());
    assert_eq!(cancelled.as_deref(), cause);
    assert_eq!(error.is_closed(), cause.is_none());
    assert_eq!(error.into_inner(), value);
}

#[track_caller]
fn assert_unreceived(received: Result<u8, RecvCancelError>, cause: Option<&str>) {
    let error = received.unwrap_err();
    let cancelled = error
        .cancelled()
        .map(|cancelled| cancelled.cause().unwrap().to_string());
    assert_eq!(cancelled.as_deref(), cause);
    assert_eq!(error.is_closed(), cause.is_none());
}

#[test]
fn a_send_whose_token_is_cancelled_sends_nothing_although_there_is_room() {
    let (tx, rx) = SafeChannel::bounded(1);
    let token = CancelToken::new();
    assert!(tx.send_or_cancel(1, &token).is_ok());
    token.cancel_with("enough");
    assert_eq!(rx.recv(), Ok(1));
    assert_unsent(tx.send_or_cancel(2, &token), 2, Some("enough"));
    assert!(rx.is_empty());
}

#[test]
fn a_send_blocked_on_a_full_channel_ends_when_its_token_is_cancelled() {
    for capacity in [0, 1] {
        let (tx, rx) = SafeChannel::bounded(capacity);
        (0..capacity).for_each(|_| tx.send(0).unwrap());
        let token = CancelToken::new();
        let (about, begun) = mpsc::channel();
        let its_token = token.clone();
        let sender = thread::spawn(move || {
            about.send(()).unwrap();
            tx.send_or_cancel(7, &its_token)
        });
        begun.recv().unwrap();
        token.cancel_with("enough");
        assert_unsent(sender.join().unwrap(), 7, Some("enough"));
        assert_eq!(rx.iter().count(), capacity);
    }
}

#[test]
fn a_send_bounded_by_a_token_ends_when_the_channel_closes() {
    let (tx, rx) = SafeChannel::bounded(0);
    let token = CancelToken::new();
    let (about, begun) = mpsc::channel();
    let its_token = token.clone();
    let sender = thread::spawn(move || {
        about.send(()).unwrap();
        tx.send_or_cancel(7, &its_token)
    });
    begun.recv().unwrap();
    rx.close();
    assert_unsent(sender.join().unwrap(), 7, None);
}

#[test]
fn a_send_that_is_both_cancelled_and_closed_reports_the_cancellation() {
    let (tx, rx) = SafeChannel::bounded(1);
    let token = CancelToken::new();
    token.cancel_with("enough");
    rx.close();
    assert_unsent(tx.send_or_cancel(1, &token), 1, Some("enough"));
}

#[test]
fn a_receive_whose_token_is_cancelled_leaves_the_message_in_the_queue() {
    let (tx, rx) = SafeChannel::bounded(1);
    let token = CancelToken::new();
    tx.send(1).unwrap();
    token.cancel_with("enough");
    assert_unreceived(rx.recv_or_cancel(&token), Some("enough"));
    tx.close();
    assert_unreceived(rx.recv_or_cancel(&token), Some("enough"));
    assert_eq!(rx.recv(), Ok(1));
}

#[test]
fn a_receive_bounded_by_a_token_gets_messages_then_the_end() {
    let (tx, rx) = SafeChannel::bounded(0);
    let token = CancelToken::new();
    let sender = thread::spawn(move || tx.send(5));
    assert_eq!(rx.recv_or_cancel(&token).unwrap(), 5);
    assert_unreceived(rx.recv_or_cancel(&token), None);
    sender.join().unwrap().unwrap();
}

#[test]
fn a_receive_blocked_on_an_empty_channel_ends_when_its_token_is_cancelled() {
    let (tx, rx) = SafeChannel::bounded::<u8>(1);
    let token = CancelToken::new();
    let (about, begun) = mpsc::channel();
    let its_token = token.clone();
    let receiver = thread::spawn(move || {
        about.send(()).unwrap();
        rx.recv_or_cancel(&its_token)
    });
    begun.recv().unwrap();
    token.cancel_with("enough");
    let ended = receiver.join().unwrap();
    assert_unreceived(ended, Some("enough"));
    drop(tx);
}
