//! Waiting on a token: T5 and T6.

#![allow(
    clippy::disallowed_methods,
    reason = "the tests are outside the library's doors"
)]

mod support;

use std::io;
use std::thread;
use std::time::Duration;

use cleanbreak::{CancelKind, CancelToken, Cancelled, Cause, Clock};
use crossbeam_channel::{Select, TryRecvError, never, select};
use support::{PATIENCE, dither, in_time, millis, rng, secs};

#[test]
fn no_duration_is_too_long() {
    for clock in [Clock::system(), (*Clock::manual()).clone()] {
        let token = CancelToken::with_clock(&clock);
        let child = token.child_timeout(Duration::MAX);
        assert_eq!(child.deadline(), None);
        let end = cleanbreak::clock::Instant::from_nanos(u64::MAX);
        let far = token.child_deadline(end);
        assert_eq!(far.deadline(), Some(end));
        thread::scope(|s| {
            let waits = [
                s.spawn(|| child.sleep(Duration::MAX).is_err()),
                s.spawn(|| child.wait_timeout(Duration::MAX)),
                s.spawn(|| far.wait_deadline(end)),
            ];
            token.cancel();
            assert!(
                waits
                    .map(|wait| wait.join().unwrap())
                    .iter()
                    .all(|&cancelled| cancelled)
            );
        });
        assert!(token.sleep(Duration::MAX).is_err());
    }
}

#[test]
fn done_disconnects_for_every_clone_and_every_waiter() {
    in_time(|| {
        let token = CancelToken::new();
        let mut waiters = Vec::new();
        for n in 0..16 {
            let (token, done) = (token.clone(), token.done().clone());
            waiters.push(thread::spawn(move || match n % 4 {
                0 => token.wait(),
                1 => assert!(done.recv().is_err()),
                2 => select! {
                    recv(token.done()) -> nothing => assert!(nothing.is_err()),
                    recv(never::<()>()) -> _ => unreachable!(),
                },
                _ => {
                    let mut select = Select::new();
                    select.recv(&done);
                    select.recv(&done);
                    select.select().recv(&done).unwrap_err();
                }
            }));
        }
        assert_eq!(token.done().try_recv(), Err(TryRecvError::Empty));
        token.cancel();
        waiters
            .into_iter()
            .for_each(|waiter| waiter.join().unwrap());
        // And so it stays, for those who had asked before and those who ask now.
        for done in [token.done().clone(), token.clone().done().clone()] {
            assert_eq!(done.try_recv(), Err(TryRecvError::Disconnected));
        }
    });
}

#[test]
fn done_that_is_first_asked_for_after_the_cancel_is_disconnected() {
    let token = CancelToken::new();
    token.cancel();
    for _ in 0..2 {
        assert_eq!(token.done().try_recv(), Err(TryRecvError::Disconnected));
    }
    select! {
        recv(token.done()) -> nothing => assert!(nothing.is_err()),
        default => panic!("not ready"),
    }
}

/// Nothing could cancel it any more; it is better that a loop ends than that it hangs.
#[test]
fn a_clone_of_done_that_outlives_the_token_disconnects() {
    let token = CancelToken::new();
    let done = token.done().clone();
    let child = token.child();
    drop(token);
    assert_eq!(
        done.try_recv(),
        Err(TryRecvError::Empty),
        "the child keeps its parent"
    );
    drop(child);
    assert_eq!(done.try_recv(), Err(TryRecvError::Disconnected));
}

/// Waiters that come at any moment around the cancel: none sleeps through it.
#[test]
fn no_wait_misses_the_cancel() {
    let mut rng = rng("no wait misses");
    in_time(move || {
        for _ in 0..1000 {
            let token = CancelToken::new();
            let mut seeds = [rng.fork(), rng.fork()];
            thread::scope(|s| {
                let [a, b] = &mut seeds;
                s.spawn(|| {
                    dither(a, 300);
                    token.wait();
                });
                s.spawn(|| {
                    dither(b, 300);
                    assert!(token.sleep(secs(3600)).is_err());
                });
                dither(&mut rng, 2000);
                token.cancel();
            });
        }
    });
}

#[test]
fn waits_on_a_cancelled_token_return_at_once() {
    let clocks = [Clock::system(), (*Clock::manual()).clone()];
    for token in clocks.map(|clock| CancelToken::with_clock(&clock)) {
        token.cancel_with("over");
        token.wait();
        assert!(token.wait_timeout(PATIENCE));
        assert!(token.wait_timeout(Duration::ZERO));
        assert!(token.wait_deadline(token.clock().now()));
        assert_eq!(
            token.sleep(PATIENCE).unwrap_err().to_string(),
            "cancelled: over"
        );
        assert_eq!(
            token.sleep(Duration::ZERO).unwrap_err().to_string(),
            "cancelled: over"
        );
    }
}

#[test]
fn a_wait_ends_with_its_timeout_on_the_system_clock() {
    let token = CancelToken::new();
    let before = token.clock().now();
    assert!(!token.wait_timeout(millis(2)));
    assert!(
        token.clock().now().duration_since(before) >= millis(2),
        "early"
    );
    assert!(token.sleep(millis(1)).is_ok());
    assert!(!token.wait_timeout(Duration::ZERO));
    assert!(
        !token.wait_deadline(before),
        "a deadline in the past is no wait"
    );
}

#[test]
fn a_wait_ends_with_its_timeout_on_the_manual_clock_and_not_before() {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    thread::scope(|s| {
        let sleeper = s.spawn(|| token.sleep(secs(5)));
        let waiter = s.spawn(|| token.wait_timeout(secs(6)));
        clock.await_timers(2);
        clock.advance(secs(4));
        assert_eq!(clock.timers(), 2, "both sleep on");
        clock.advance(secs(1));
        assert!(sleeper.join().unwrap().is_ok());
        assert!(!waiter.is_finished());
        clock.advance(secs(1));
        assert!(!waiter.join().unwrap());
    });
    assert_eq!(clock.timers(), 0);
}

#[test]
fn a_sleep_on_the_manual_clock_is_cut_short_by_a_cancel() {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    thread::scope(|s| {
        let sleeper = s.spawn(|| token.sleep(secs(5)));
        clock.await_timers(1);
        token.cancel();
        assert_eq!(
            sleeper.join().unwrap().unwrap_err().kind(),
            CancelKind::Cancelled
        );
    });
    assert_eq!(clock.timers(), 0, "the sleep leaves no timer behind");
}

#[test]
fn a_sleep_that_ends_together_with_the_deadline_reports_the_deadline() {
    for _ in 0..50 {
        let clock = Clock::manual();
        let token = CancelToken::with_clock(&clock).child_timeout(secs(5));
        thread::scope(|s| {
            let sleeper = s.spawn(|| token.sleep(secs(5)));
            clock.await_timers(2);
            clock.advance(secs(5));
            assert!(sleeper.join().unwrap().unwrap_err().is_deadline());
        });
    }
}

#[test]
fn a_deadline_wakes_a_wait_on_the_system_clock() {
    let token = CancelToken::new().child_timeout(millis(2));
    let error = token.sleep(PATIENCE).unwrap_err();
    assert!(error.is_deadline());
    assert!(token.deadline().unwrap() <= token.clock().now(), "early");
}

#[test]
fn no_error_is_ever_interrupted() {
    let clock = Clock::manual();
    let late = CancelToken::with_clock(&clock).child_timeout(secs(1));
    clock.advance(secs(1));
    let cancelled = CancelToken::new();
    cancelled.cancel();
    let tricky = CancelToken::new();
    tricky.cancel_with(Cause::error(io::Error::from(io::ErrorKind::Interrupted)));
    let expected = [
        (late, io::ErrorKind::TimedOut),
        (cancelled, io::ErrorKind::Other),
        (tricky, io::ErrorKind::Other),
    ];
    for (token, kind) in expected {
        let original = token.check().unwrap_err();
        let error = io::Error::from(original.clone());
        assert_eq!(error.kind(), kind);
        let inner = error
            .get_ref()
            .unwrap()
            .downcast_ref::<Cancelled>()
            .unwrap();
        assert_eq!(inner.kind(), original.kind());
        assert_eq!(error.to_string(), original.to_string());
    }
}
