//! The closing protocol of the channel, in every interleaving of small scenarios.
//!
//! Each scenario asserts the same balance: a value is either refused or received, and nothing is
//! sent after a close has returned. A deadlock fails the model by itself.

#[path = "../../src/channel/protocol.rs"]
mod protocol;

use crate::sync::Arc;
use crate::sync::chan::{self, TrySendError};
use loom::thread;
use protocol::{Core, Handle, LastReceiver, Limit};

/// What `channel/mod.rs` is to the protocol.
fn blocking<R>(_what: &'static str, _shown: Shown<'_>, wait: impl FnOnce() -> R) -> R {
    wait()
}

#[derive(Clone, Copy, Default)]
struct Shown<'a>(std::marker::PhantomData<&'a ()>);

/// Two threads: every interleaving. With three that is too many, and the bound is the number of
/// times that a thread is stopped where it could have gone on.
const ALL: Option<usize> = None;
const THREE_THREADS: Option<usize> = Some(4);

fn model(preemptions: Option<usize>, scenario: impl Fn() + Send + Sync + 'static) {
    let mut builder = loom::model::Builder::new();
    builder.preemption_bound = preemptions;
    builder.check(scenario);
}

fn channel(capacity: usize) -> (Handle<u8>, LastReceiver<u8>) {
    let (tx, rx) = chan::bounded(capacity);
    protocol::new(tx, rx)
}

/// Sends, waiting for room: whether it was sent. A refused value must be the one that was given.
fn send(tx: &Handle<u8>, value: u8) -> bool {
    match tx.send(value, Limit::default()) {
        Ok(()) => true,
        Err(chan::Unsent::Closed(back)) => {
            assert_eq!(back, value);
            false
        }
        Err(_) => panic!("neither a stop nor a deadline was given"),
    }
}

fn try_send(tx: &Handle<u8>, value: u8) -> bool {
    match tx.try_send(value) {
        Ok(()) => true,
        Err(TrySendError::Full(back) | TrySendError::Disconnected(back)) => {
            assert_eq!(back, value);
            false
        }
    }
}

/// Reads to the end.
fn read(core: &Core<u8>) -> Vec<u8> {
    std::iter::from_fn(|| core.receiver().recv().ok()).collect()
}

#[test]
fn a_send_that_races_with_close_is_either_received_or_refused() {
    model(ALL, || {
        let (tx, last) = channel(2);
        let core = last.core().clone();
        let sender = thread::spawn(move || {
            let sent = send(&tx, 1);
            (tx, sent)
        });
        assert!(core.close());
        let received = read(&core);
        let (tx, sent) = sender.join().unwrap();
        assert_eq!(received.len(), usize::from(sent));
        assert!(!send(&tx, 2), "a send began after close had returned");
    });
}

#[test]
fn of_two_closers_one_gets_true_and_both_return_when_nothing_can_be_sent() {
    model(ALL, || {
        let (tx, last) = channel(1);
        let core = last.core().clone();
        let tx = Arc::new(tx);
        let other = thread::spawn({
            let (core, tx) = (core.clone(), tx.clone());
            move || {
                let first = core.close();
                assert!(!try_send(&tx, 1));
                first
            }
        });
        let first = core.close();
        assert!(!try_send(&tx, 2));
        assert!(first ^ other.join().unwrap());
        assert!(read(&core).is_empty());
    });
}

#[test]
fn a_blocked_send_wakes_when_the_channel_closes() {
    model(ALL, || {
        let (tx, last) = channel(1);
        let core = last.core().clone();
        assert!(send(&tx, 1));
        let sender = thread::spawn(move || send(&tx, 2));
        core.close();
        assert!(!sender.join().unwrap(), "there never was room");
        assert_eq!(read(&core), [1]);
    });
}

#[test]
fn a_blocked_send_gets_room_or_the_close() {
    model(THREE_THREADS, || {
        let (tx, last) = channel(1);
        let core = last.core().clone();
        assert!(send(&tx, 1));
        let sender = thread::spawn(move || send(&tx, 2));
        let closer = thread::spawn({
            let core = core.clone();
            move || core.close()
        });
        let received = read(&core);
        let sent = sender.join().unwrap();
        let _raced_with_the_last_sender = closer.join().unwrap();
        assert_eq!(received.len(), 1 + usize::from(sent));
    });
}

#[test]
fn a_blocked_receiver_wakes_when_the_channel_closes() {
    model(ALL, || {
        let (tx, last) = channel(1);
        let core = last.core().clone();
        let receiver = thread::spawn(move || read(&core));
        tx.core().close();
        assert!(receiver.join().unwrap().is_empty());
    });
}

#[test]
fn when_the_last_receiver_goes_a_racing_send_is_refused_or_dropped_at_once() {
    model(ALL, || {
        let (tx, rx) = chan::bounded(1);
        let (tx, last) = protocol::new(tx, rx);
        let message = Arc::new(());
        let sender = thread::spawn({
            let message = message.clone();
            move || {
                let refused = tx.send(message, Limit::default()).is_err();
                (tx, refused)
            }
        });
        drop(last);
        let (tx, _) = sender.join().unwrap();
        assert_eq!(Arc::strong_count(&message), 1, "kept by a dead channel");
        assert!(tx.send(message, Limit::default()).is_err());
    });
}

#[test]
fn a_blocked_send_wakes_when_the_last_receiver_goes() {
    model(ALL, || {
        let (tx, last) = channel(1);
        assert!(send(&tx, 1));
        let sender = thread::spawn(move || send(&tx, 2));
        drop(last);
        assert!(!sender.join().unwrap());
    });
}

#[test]
fn two_threads_on_one_handle_lose_nothing_to_close() {
    model(THREE_THREADS, || {
        let (tx, last) = channel(2);
        let core = last.core().clone();
        let tx = Arc::new(tx);
        let other = thread::spawn({
            let tx = tx.clone();
            move || send(&tx, 1)
        });
        let third = thread::spawn({
            let core = core.clone();
            move || core.close_and_drain().len()
        });
        let sent = send(&tx, 2);
        let sent = usize::from(sent) + usize::from(other.join().unwrap());
        assert_eq!(third.join().unwrap(), sent);
        assert!(!send(&tx, 3));
        assert!(read(&core).is_empty());
    });
}

#[test]
fn try_send_does_not_wait_for_a_send_blocked_on_the_same_handle() {
    model(ALL, || {
        let (tx, last) = channel(1);
        let core = last.core().clone();
        let tx = Arc::new(tx);
        assert!(send(&tx, 1));
        let blocked = thread::spawn({
            let tx = tx.clone();
            move || send(&tx, 2)
        });
        // Nothing ends the blocked send but the close below: waiting for it would be a deadlock.
        assert!(!try_send(&tx, 3));
        core.close();
        assert!(!blocked.join().unwrap());
    });
}

#[test]
fn close_and_drain_takes_what_was_in_flight() {
    model(ALL, || {
        let (tx, last) = channel(2);
        let sender = thread::spawn(move || u8::from(send(&tx, 1)) + u8::from(send(&tx, 2)));
        let drained = last.core().close_and_drain();
        let sent = sender.join().unwrap();
        assert_eq!(drained, (1..=sent).collect::<Vec<_>>());
    });
}

#[test]
fn the_last_sender_closes_also_while_a_clone_is_made_and_dropped() {
    model(THREE_THREADS, || {
        let (tx, last) = channel(2);
        let other = tx.clone();
        let first = thread::spawn(move || drop(tx));
        let second = thread::spawn(move || send(&other.clone(), 1));
        assert_eq!(read(last.core()), [1]);
        first.join().unwrap();
        assert!(second.join().unwrap());
        assert!(!last.core().close(), "closed by the last sender already");
    });
}

/// What the slots are for: the same scenario, without them, must be caught.
mod control {
    use super::*;
    use crate::sync::{AtomicBool, Mutex, Ordering};

    /// A flag in front of a channel, and a sender that `close` takes away: a push may still follow.
    struct Flagged {
        closed: AtomicBool,
        queue: Mutex<Vec<u8>>,
    }

    impl Flagged {
        fn send(&self, value: u8) -> bool {
            if self.closed.load(Ordering::SeqCst) {
                return false;
            }
            self.queue.lock().push(value);
            true
        }

        fn close_and_drain(&self) -> Vec<u8> {
            self.closed.store(true, Ordering::SeqCst);
            std::mem::take(&mut self.queue.lock())
        }
    }

    #[test]
    #[should_panic(expected = "sent and not drained")]
    fn the_model_catches_a_close_that_is_only_a_flag() {
        model(ALL, || {
            let channel = Arc::new(Flagged {
                closed: AtomicBool::new(false),
                queue: Mutex::new(Vec::new()),
            });
            let sender = thread::spawn({
                let channel = channel.clone();
                move || channel.send(1)
            });
            let drained = channel.close_and_drain();
            let sent = sender.join().unwrap();
            assert_eq!(drained.len(), usize::from(sent), "sent and not drained");
        });
    }
}
