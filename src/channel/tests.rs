//! What only the crate itself can reach: the bodies that a token bounds, and the list of handles.
#![allow(clippy::disallowed_methods, reason = "threads and times of its own")]

use super::{RecvCancelError, SafeChannel, SendCancelError};
use crate::sync::gate;
use std::sync::mpsc;
use std::thread;

#[test]
fn a_send_whose_stop_has_fired_sends_nothing_although_there_is_room() {
    let (tx, rx) = SafeChannel::bounded(1);
    let (trip, stop) = gate();
    assert_eq!(tx.send_until(1, &stop), Ok(()));
    drop(trip);
    assert_eq!(rx.recv(), Ok(1));
    assert_eq!(tx.send_until(2, &stop), Err(SendCancelError::Cancelled(2)));
    assert!(rx.is_empty());
}

#[test]
fn a_send_blocked_on_a_full_channel_ends_when_its_stop_fires() {
    for capacity in [0, 1] {
        let (tx, rx) = SafeChannel::bounded(capacity);
        (0..capacity).for_each(|_| tx.send(0).unwrap());
        let (trip, stop) = gate();
        let (about, begun) = mpsc::channel();
        let sender = thread::spawn(move || {
            about.send(()).unwrap();
            tx.send_until(7, &stop)
        });
        begun.recv().unwrap();
        drop(trip);
        assert_eq!(sender.join().unwrap(), Err(SendCancelError::Cancelled(7)));
        assert_eq!(rx.iter().count(), capacity);
    }
}

#[test]
fn a_send_bounded_by_a_stop_ends_when_the_channel_closes() {
    let (tx, rx) = SafeChannel::bounded(0);
    let (_trip, stop) = gate();
    let (about, begun) = mpsc::channel();
    let sender = thread::spawn(move || {
        about.send(()).unwrap();
        tx.send_until(7, &stop)
    });
    begun.recv().unwrap();
    rx.close();
    assert_eq!(sender.join().unwrap(), Err(SendCancelError::Closed(7)));
}

#[test]
fn a_send_that_is_both_stopped_and_closed_reports_the_stop() {
    let (tx, rx) = SafeChannel::bounded(1);
    let (trip, stop) = gate();
    drop(trip);
    rx.close();
    assert_eq!(tx.send_until(1, &stop), Err(SendCancelError::Cancelled(1)));
}

#[test]
fn a_receive_whose_stop_has_fired_leaves_the_message_in_the_queue() {
    let (tx, rx) = SafeChannel::bounded(1);
    let (trip, stop) = gate();
    tx.send(1).unwrap();
    drop(trip);
    assert_eq!(rx.recv_until(&stop), Err(RecvCancelError::Cancelled));
    tx.close();
    assert_eq!(rx.recv_until(&stop), Err(RecvCancelError::Cancelled));
    assert_eq!(rx.recv(), Ok(1));
}

#[test]
fn a_receive_bounded_by_a_stop_gets_messages_then_the_end() {
    let (tx, rx) = SafeChannel::bounded(0);
    let (_trip, stop) = gate();
    let sender = thread::spawn(move || tx.send(5));
    assert_eq!(rx.recv_until(&stop), Ok(5));
    assert_eq!(rx.recv_until(&stop), Err(RecvCancelError::Closed));
    sender.join().unwrap().unwrap();
}

#[test]
fn a_receive_blocked_on_an_empty_channel_ends_when_its_stop_fires() {
    let (tx, rx) = SafeChannel::bounded::<u8>(1);
    let (trip, stop) = gate();
    let (about, begun) = mpsc::channel();
    let receiver = thread::spawn(move || {
        about.send(()).unwrap();
        rx.recv_until(&stop)
    });
    begun.recv().unwrap();
    drop(trip);
    let ended = receiver.join().unwrap();
    assert_eq!(ended, Err(RecvCancelError::Cancelled));
    drop(tx);
}

#[test]
fn a_dropped_clone_of_a_sender_leaves_no_residue() {
    let (tx, rx) = SafeChannel::bounded::<u8>(1);
    let clones: Vec<_> = (0..100).map(|_| tx.clone()).collect();
    assert_eq!(rx.core().listed(), Some(101));
    drop(clones);
    assert_eq!(rx.core().listed(), Some(1));
    (0..100).for_each(|_| drop(tx.clone()));
    assert_eq!(rx.core().listed(), Some(1));
    rx.close();
    let late = tx.clone();
    assert_eq!(rx.core().listed(), None);
    drop(late);
}
