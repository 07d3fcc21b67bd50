//! What a `SafeChannel` promises, clause by clause (C1 to C6).
//!
//! No test waits for a time. A thread that is to block says so first and then blocks; what is
//! asserted holds whether the other thread acts before or after it has parked.
#![allow(clippy::disallowed_methods, reason = "threads and times of its own")]

use cleanbreak::channel::{
    Inputs, RecvError, RecvTimeoutError, SafeChannel, SafeReceiver, SafeSender, SendError,
    SendTimeoutError, TryRecvError, TrySendError,
};
use crossbeam_channel::select;
use std::panic::{AssertUnwindSafe, RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Barrier, mpsc};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

/// Runs `f` on a thread; returns when it is about to.
fn about_to<R: Send + 'static>(f: impl FnOnce() -> R + Send + 'static) -> JoinHandle<R> {
    let (about, begun) = mpsc::channel();
    let thread = thread::spawn(move || {
        about.send(()).unwrap();
        f()
    });
    begun.recv().unwrap();
    thread
}

/// A channel with no room: to send into it is to block.
fn full(capacity: usize) -> (SafeSender<usize>, SafeReceiver<usize>) {
    let (tx, rx) = SafeChannel::bounded(capacity);
    (0..capacity).for_each(|n| tx.send(n).unwrap());
    (tx, rx)
}

fn all_kinds<T>() -> Vec<(SafeSender<T>, SafeReceiver<T>)> {
    vec![
        SafeChannel::bounded(1),
        SafeChannel::bounded(64),
        SafeChannel::unbounded(),
    ]
}

/// Counts its drops.
#[derive(Clone)]
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

// C1

#[test]
fn of_many_closers_on_both_ends_exactly_one_gets_true() {
    for _ in 0..50 {
        let (tx, rx) = SafeChannel::bounded::<u8>(1);
        let start = Arc::new(Barrier::new(4));
        let closers: Vec<_> = (0..4)
            .map(|n| {
                let (tx, rx, start) = (tx.clone(), rx.clone(), start.clone());
                thread::spawn(move || {
                    start.wait();
                    let first = if n % 2 == 0 { tx.close() } else { rx.close() };
                    assert!(tx.is_closed() && rx.is_closed());
                    assert_eq!(tx.send(n), Err(SendError(n)), "after any close");
                    first
                })
            })
            .collect();
        let winners = closers
            .into_iter()
            .filter_map(|c| c.join().unwrap().then_some(()));
        assert_eq!(winners.count(), 1);
        assert!(!tx.close() && !rx.close());
    }
}

#[test]
fn the_last_sender_or_receiver_to_go_uses_up_the_one_true() {
    let (tx, rx) = SafeChannel::bounded::<u8>(1);
    let other = tx.clone();
    drop(tx);
    assert!(!rx.is_closed());
    drop(other);
    assert!(rx.is_closed() && !rx.close());

    let (tx, rx) = SafeChannel::bounded::<u8>(1);
    let other = rx.clone();
    drop(rx);
    assert!(!tx.is_closed());
    drop(other);
    assert!(tx.is_closed() && !tx.close());
}

// C2

#[test]
fn after_a_close_every_kind_of_send_through_every_handle_hands_the_value_back() {
    for (tx, rx) in all_kinds() {
        let earlier = tx.clone();
        assert!(rx.close());
        for tx in [&tx, &earlier, &earlier.clone()] {
            assert_eq!(tx.send(1), Err(SendError(1)));
            assert_eq!(tx.try_send(2), Err(TrySendError::Closed(2)));
            assert_eq!(
                tx.send_timeout(3, Duration::MAX),
                Err(SendTimeoutError::Closed(3))
            );
            assert_eq!(
                tx.send_deadline(4, Instant::now()),
                Err(SendTimeoutError::Closed(4))
            );
        }
        assert_eq!(rx.recv(), Err(RecvError));
    }
}

#[test]
fn everything_that_was_sent_before_and_while_closing_is_received() {
    for (tx, rx) in all_kinds() {
        let senders: Vec<_> = (0..3)
            .map(|_| {
                let tx = tx.clone();
                thread::spawn(move || (0_usize..).take_while(|n| tx.send(*n).is_ok()).count())
            })
            .collect();
        let mut received = (0..100).filter(|_| rx.recv().is_ok()).count();
        tx.close();
        received += rx.iter().count();
        let sent: usize = senders.into_iter().map(|s| s.join().unwrap()).sum();
        assert_eq!(received, sent);
    }
}

#[test]
fn a_handle_shared_by_reference_loses_nothing_to_close() {
    for (tx, rx) in all_kinds() {
        let sent = AtomicUsize::new(0);
        let received = thread::scope(|scope| {
            for _ in 0..3 {
                scope.spawn(|| {
                    while tx.send(0).is_ok() {
                        sent.fetch_add(1, Ordering::SeqCst);
                    }
                });
            }
            let before = (0..100).filter(|_| rx.recv().is_ok()).count();
            rx.close();
            before + rx.iter().count()
        });
        assert_eq!(received, sent.into_inner());
    }
}

// C3

#[test]
fn senders_blocked_on_clones_wake_on_close_with_their_values() {
    for capacity in [0, 1, 4] {
        let (tx, rx) = full(capacity);
        let blocked: Vec<_> = (100..104)
            .map(|n| {
                let tx = tx.clone();
                about_to(move || tx.send(n))
            })
            .collect();
        assert!(rx.close());
        for (n, sender) in (100..104).zip(blocked) {
            assert_eq!(sender.join().unwrap(), Err(SendError(n)));
        }
        assert_eq!(
            rx.iter().collect::<Vec<_>>(),
            (0..capacity).collect::<Vec<_>>()
        );
    }
}

#[test]
fn senders_blocked_on_one_shared_handle_wake_on_close() {
    for capacity in [0, 1] {
        let (tx, rx) = full(capacity);
        let tx = Arc::new(tx);
        let blocked: Vec<_> = (0..3)
            .map(|_| {
                let tx = tx.clone();
                about_to(move || tx.send(9))
            })
            .collect();
        tx.close();
        for sender in blocked {
            assert_eq!(sender.join().unwrap(), Err(SendError(9)));
        }
        assert_eq!(rx.iter().count(), capacity);
    }
}

#[test]
fn a_sender_with_a_deadline_that_never_comes_wakes_on_close() {
    let (tx, rx) = full(1);
    let blocked = about_to(move || tx.send_timeout(9, Duration::MAX));
    rx.close();
    assert_eq!(blocked.join().unwrap(), Err(SendTimeoutError::Closed(9)));
}

#[test]
fn senders_blocked_on_a_full_channel_wake_when_the_last_receiver_goes() {
    for capacity in [0, 1] {
        let (tx, rx) = full(capacity);
        let blocked = about_to(move || tx.send(9));
        drop(rx);
        assert_eq!(blocked.join().unwrap(), Err(SendError(9)));
    }
}

#[test]
fn a_blocked_sender_goes_on_when_there_is_room() {
    for capacity in [0, 1] {
        let (tx, rx) = full(capacity);
        let blocked = about_to(move || tx.send(9));
        assert_eq!(rx.iter().last(), Some(9));
        assert_eq!(blocked.join().unwrap(), Ok(()));
    }
}

#[test]
fn receivers_blocked_in_any_way_wake_on_close() {
    for (tx, rx) in all_kinds::<u8>() {
        let waits: [fn(&SafeReceiver<u8>) -> bool; 5] = [
            |rx| rx.recv() == Err(RecvError),
            |rx| rx.recv_timeout(Duration::MAX) == Err(RecvTimeoutError::Disconnected),
            |rx| rx.iter().next().is_none(),
            |rx| select! { recv(rx) -> m => m.is_err() },
            |rx| rx.as_crossbeam().recv().is_err(),
        ];
        let blocked = waits.map(|wait| {
            let rx = rx.clone();
            about_to(move || wait(&rx))
        });
        tx.close();
        for receiver in blocked {
            assert!(receiver.join().unwrap());
        }
    }
}

#[test]
fn receivers_drain_what_was_sent_and_then_see_the_end_for_ever() {
    let (tx, rx) = full(3);
    tx.close();
    assert_eq!(rx.try_recv(), Ok(0));
    assert_eq!(rx.recv(), Ok(1));
    assert_eq!(select! { recv(rx) -> m => m }, Ok(2));
    for _ in 0..3 {
        assert_eq!(rx.try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(select! { recv(rx) -> m => m }, Err(RecvError));
    }
}

// C4

#[test]
fn a_receiver_stands_in_select_beside_a_raw_one() {
    let (tx, rx) = SafeChannel::bounded(1);
    let (raw_tx, raw) = crossbeam_channel::bounded(1);
    for turn in 0..10 {
        let from_safe = turn % 2 == 0;
        if from_safe {
            tx.send(turn).unwrap();
        } else {
            raw_tx.send(turn).unwrap();
        }
        let got = select! {
            recv(rx) -> m => (true, m.unwrap()),
            recv(raw) -> m => (false, m.unwrap()),
        };
        assert_eq!(got, (from_safe, turn));
    }
}

#[test]
fn the_iterators_end_with_the_channel_or_with_what_is_there() {
    let (tx, rx) = full(3);
    assert_eq!(rx.try_iter().collect::<Vec<_>>(), [0, 1, 2]);
    tx.send(3).unwrap();
    let sender = thread::spawn(move || (4..10).for_each(|n| tx.send(n).unwrap()));
    assert_eq!((&rx).into_iter().take(2).collect::<Vec<_>>(), [3, 4]);
    assert_eq!(rx.into_iter().collect::<Vec<_>>(), [5, 6, 7, 8, 9]);
    sender.join().unwrap();
}

// C5

#[test]
fn close_and_drain_hands_the_backlog_back_in_order() {
    let (tx, rx) = full(3);
    let other = rx.clone();
    assert_eq!(rx.close_and_drain(), [0, 1, 2]);
    assert_eq!(tx.send(3), Err(SendError(3)));
    assert_eq!(other.close_and_drain(), [0; 0]);
    assert_eq!(other.recv(), Err(RecvError));
}

#[test]
fn close_and_drain_includes_sends_that_were_in_flight() {
    for (tx, rx) in all_kinds() {
        let sender = about_to(move || (0..).find(|n| tx.send(*n).is_err()).unwrap());
        let received: Vec<usize> = rx.iter().take(50).collect();
        let drained = rx.close_and_drain();
        let sent = sender.join().unwrap();
        let all: Vec<_> = received.into_iter().chain(drained).collect();
        assert_eq!(all, (0..sent).collect::<Vec<_>>());
    }
}

#[test]
fn when_the_last_receiver_goes_the_backlog_is_dropped_at_once_while_senders_live() {
    for (tx, rx) in all_kinds() {
        let drops = Arc::new(AtomicUsize::new(0));
        tx.send(Counted(drops.clone())).unwrap();
        let other = rx.clone();
        drop(rx);
        assert_eq!(drops.load(Ordering::SeqCst), 0);
        drop(other);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
        drop(tx);
        assert_eq!(drops.load(Ordering::SeqCst), 1);
    }
}

#[test]
fn a_reply_sender_in_the_backlog_of_a_dead_channel_keeps_nobody_waiting() {
    for (requests, server) in all_kinds::<SafeSender<u8>>() {
        let (reply_tx, reply) = SafeChannel::bounded(1);
        requests.send(reply_tx).unwrap();
        let client = about_to(move || reply.recv());
        drop(server);
        assert_eq!(client.join().unwrap(), Err(RecvError));
        drop(requests);
    }
}

#[test]
fn a_channel_that_holds_its_own_sender_is_freed() {
    struct Envelope {
        _reply: SafeSender<Envelope>,
        _count: Counted,
    }
    let drops = Arc::new(AtomicUsize::new(0));
    let (tx, rx) = SafeChannel::unbounded();
    let letter = Envelope {
        _reply: tx.clone(),
        _count: Counted(drops.clone()),
    };
    assert!(tx.send(letter).is_ok());
    drop(tx);
    assert!(!rx.is_closed(), "its own sender keeps it open");
    drop(rx);
    assert_eq!(drops.load(Ordering::SeqCst), 1);
}

#[test]
fn the_drop_of_a_message_may_use_the_channel() {
    struct Nosy(SafeSender<Nosy>);
    impl Drop for Nosy {
        fn drop(&mut self) {
            assert!(self.0.is_closed() && !self.0.close());
            drop(self.0.clone());
        }
    }
    for (tx, rx) in all_kinds() {
        assert!(tx.send(Nosy(tx.clone())).is_ok());
        drop(rx);
    }
}

#[test]
fn a_message_whose_drop_panics_does_not_keep_the_others() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("boom");
        }
    }
    type Message = (Option<Bomb>, Counted);
    let drops = Arc::new(AtomicUsize::new(0));
    let (tx, rx) = SafeChannel::bounded::<Message>(8);
    for n in 0..5 {
        let bomb = (n == 1).then(|| Bomb);
        assert!(tx.send((bomb, Counted(drops.clone()))).is_ok());
    }
    assert!(catch_unwind(AssertUnwindSafe(|| drop(rx))).is_err());
    assert_eq!(drops.load(Ordering::SeqCst), 5);
}

// C6

#[test]
fn a_select_loop_over_inputs_takes_everything_and_ends_with_the_last_channel() {
    let (a_tx, a) = SafeChannel::bounded(1);
    let (b_tx, b) = SafeChannel::unbounded();
    let (c_tx, c) = crossbeam_channel::bounded(0);
    let senders = [
        thread::spawn(move || (0..10).for_each(|n| a_tx.send(n).unwrap())),
        thread::spawn(move || (0..200).for_each(|n| b_tx.send(n).unwrap())),
        thread::spawn(move || (0..30).for_each(|n| c_tx.send(n).unwrap())),
    ];
    let (mut got, mut rounds) = ([0; 3], 0);
    let inputs = Inputs::new();
    let (mut a, mut b, mut c) = (inputs.add(a), inputs.add(&b), inputs.add(&c));
    while inputs.any_open() {
        rounds += 1;
        select! {
            recv(a) -> m => got[0] += usize::from(a.take(m).is_some()),
            recv(b) -> m => got[1] += usize::from(b.take(m).is_some()),
            recv(c) -> m => got[2] += usize::from(c.take(m).is_some()),
        }
    }
    assert_eq!(got, [10, 200, 30]);
    assert_eq!(rounds, 240 + 3, "one turn for each value and for each end");
    for sender in senders {
        sender.join().unwrap();
    }
}

#[test]
fn an_input_leaves_the_count_once_however_it_ends() {
    let (tx, rx) = SafeChannel::bounded(1);
    let inputs = Inputs::new();
    assert!(!inputs.any_open());
    let (mut a, mut b, c) = (inputs.add(&rx), inputs.add(&rx), inputs.add(&rx));
    assert_eq!(inputs.open(), 3);
    assert_eq!(a.take(Ok(1)), Some(1));
    assert_eq!(a.take(Err(RecvError)), None);
    assert_eq!(a.take(Err(RecvError)), None);
    assert!(!a.is_open());
    drop(a);
    assert_eq!(inputs.open(), 2);
    b.end();
    drop(c);
    assert!(!inputs.any_open());
    tx.send(1).unwrap();
    assert_eq!(
        b.try_recv(),
        Err(TryRecvError::Empty),
        "never ready any more"
    );
    assert_eq!(rx.recv(), Ok(1));
}

#[test]
fn an_input_that_owns_its_receiver_lets_go_of_it_at_the_end() {
    let (tx, rx) = SafeChannel::bounded::<u8>(1);
    let inputs = Inputs::new();
    let mut input = inputs.add(rx);
    assert!(!tx.is_closed());
    input.end();
    assert!(tx.is_closed());
}

// The rest of the surface

#[test]
fn try_send_returns_while_another_thread_is_blocked_on_the_same_handle() {
    for capacity in [0, 1] {
        let (tx, rx) = full(capacity);
        let tx = Arc::new(tx);
        let blocked = {
            let tx = tx.clone();
            about_to(move || tx.send(9))
        };
        for _ in 0..1000 {
            assert_eq!(tx.try_send(8), Err(TrySendError::Full(8)));
        }
        assert!(tx.close());
        assert_eq!(blocked.join().unwrap(), Err(SendError(9)));
        drop(rx);
    }
}

#[test]
fn a_send_with_a_time_limit_tries_first_and_then_gives_the_value_back() {
    let (tx, rx) = full(1);
    let past = Instant::now();
    assert_eq!(
        tx.send_timeout(7, Duration::ZERO),
        Err(SendTimeoutError::Timeout(7))
    );
    assert_eq!(tx.send_deadline(7, past), Err(SendTimeoutError::Timeout(7)));
    assert_eq!(
        tx.send_timeout(7, Duration::from_millis(2)),
        Err(SendTimeoutError::Timeout(7))
    );
    assert_eq!(rx.recv(), Ok(0));
    assert_eq!(tx.send_deadline(7, past), Ok(()));
    assert_eq!(rx.recv(), Ok(7));
}

#[test]
fn many_short_lived_clones_come_and_go_without_closing() {
    let (tx, rx) = SafeChannel::unbounded();
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| (0..1000).for_each(|n| tx.clone().send(n).unwrap()));
        }
    });
    assert!(!tx.is_closed());
    assert_eq!(tx.len(), 4000);
    assert!(tx.close());
    assert_eq!(rx.iter().count(), 4000);
}

#[test]
fn a_clone_of_a_closed_sender_is_closed() {
    let (tx, rx) = SafeChannel::bounded(1);
    drop(rx);
    let clone = tx.clone();
    assert!(clone.is_closed());
    assert_eq!(clone.send(1), Err(SendError(1)));
}

#[test]
fn the_ends_tell_what_they_hold_and_to_whom_they_belong() {
    let (tx, rx) = full(2);
    assert_eq!(
        (tx.len(), tx.capacity(), tx.is_empty()),
        (2, Some(2), false)
    );
    assert_eq!(
        (rx.len(), rx.capacity(), rx.is_empty()),
        (2, Some(2), false)
    );
    let (other, other_rx) = SafeChannel::unbounded::<usize>();
    assert_eq!(
        (other.len(), other.capacity(), other.is_empty()),
        (0, None, true)
    );
    assert!(tx.same_channel(&tx.clone()) && !tx.same_channel(&other));
    assert!(tx.feeds(&rx) && !tx.feeds(&other_rx));
    assert_eq!(
        format!("{tx:?}"),
        "SafeSender { len: 2, capacity: Some(2), closed: false }"
    );
    rx.close();
    assert_eq!(
        format!("{rx:?}"),
        "SafeReceiver { len: 2, capacity: Some(2), closed: true }"
    );
}

#[test]
fn errors_say_what_happened_without_asking_the_value_for_debug() {
    struct Opaque;
    let (tx, rx) = SafeChannel::bounded(0);
    let full = tx.try_send(Opaque).unwrap_err();
    assert_eq!((format!("{full:?}"), full.to_string()), {
        ("Full(..)".into(), "sending on a full channel".into())
    });
    rx.close();
    let closed = tx.send(Opaque).unwrap_err();
    assert_eq!((format!("{closed:?}"), closed.to_string()), {
        ("SendError(..)".into(), "sending on a closed channel".into())
    });
    let widened = TrySendError::from(closed);
    assert!(widened.is_closed() && !widened.is_full());
}

#[test]
fn the_ends_cross_threads_and_unwinding_whenever_the_value_may() {
    fn pinned<T: Send + Sync + UnwindSafe + RefUnwindSafe>() {}
    // `Cell` is `Send` and not `Sync`, like many a message.
    pinned::<SafeSender<std::cell::Cell<u8>>>();
    pinned::<SafeReceiver<std::cell::Cell<u8>>>();
}
