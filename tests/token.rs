//! One token: T1, T2, T4 and the guards of T9.

mod support;

use std::io;
use std::panic::{RefUnwindSafe, UnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread;
use std::time::Duration;

use cleanbreak::{
    CancelKind, CancelToken, Cancelled, Cause, Clock, DropGuard, ManualClock, Registration, Tick,
    Ticker,
};
use crossbeam_channel::{TryRecvError, unbounded};
use support::{dither, rng, secs};

const fn shared_between_threads<T: Send + Sync + 'static>() {}
const fn carried_over_a_panic<T: UnwindSafe + RefUnwindSafe>() {}

const _: () = {
    shared_between_threads::<CancelToken>();
    shared_between_threads::<Cancelled>();
    shared_between_threads::<Cause>();
    shared_between_threads::<DropGuard>();
    shared_between_threads::<Registration>();
    shared_between_threads::<Clock>();
    shared_between_threads::<ManualClock>();
    shared_between_threads::<cleanbreak::clock::TimerLease>();
    shared_between_threads::<Ticker>();
    shared_between_threads::<Tick>();
    shared_between_threads::<cleanbreak::threads::ThreadError>();
    carried_over_a_panic::<CancelToken>();
    carried_over_a_panic::<Registration>();
    carried_over_a_panic::<DropGuard>();
    carried_over_a_panic::<Clock>();
    carried_over_a_panic::<ManualClock>();
    carried_over_a_panic::<Ticker>();
    carried_over_a_panic::<CancelKind>();
    carried_over_a_panic::<Tick>();
    carried_over_a_panic::<cleanbreak::clock::Instant>();
};

#[test]
fn clones_are_the_same_token() {
    let token = CancelToken::new();
    let clone = token.clone();
    assert!(!clone.is_cancelled());
    assert!(clone.cancel());
    assert!(token.is_cancelled());
    assert!(!token.cancel());
}

#[test]
fn the_first_cancellation_wins_and_keeps_its_kind_and_cause() {
    let token = CancelToken::new();
    assert!(token.cancelled().is_none() && token.kind().is_none() && token.cause().is_none());
    assert!(token.cancel_with("first"));
    assert!(!token.cancel_with("second"));
    assert!(!token.cancel());
    assert_eq!(token.kind(), Some(CancelKind::Cancelled));
    assert_eq!(token.cause().unwrap().to_string(), "first");
    assert_eq!(token.check().unwrap_err().to_string(), "cancelled: first");
}

#[test]
fn a_cancel_without_a_cause_is_not_given_one_later() {
    let token = CancelToken::new();
    assert!(token.cancel());
    assert!(!token.cancel_with("too late"));
    assert!(token.cause().is_none());
    assert_eq!(token.check().unwrap_err().to_string(), "cancelled");
}

#[test]
fn a_cause_never_changes_what_the_kind_matches() {
    let causes = [
        Cause::message("in words"),
        Cause::from(String::from("in owned words")),
        Cause::signal(2),
        Cause::error(io::Error::from(io::ErrorKind::Interrupted)),
        Cause::from(anyhow::anyhow!("any error")),
    ];
    for cause in causes {
        let token = CancelToken::new();
        let text = cause.to_string();
        token.cancel_with(cause);
        let error = token.check().unwrap_err();
        assert_eq!(error.kind(), CancelKind::Cancelled);
        assert!(!error.is_deadline());
        assert_eq!(error.cause().unwrap().to_string(), text);
    }
}

#[test]
fn a_cause_keeps_the_type_of_its_error() {
    let token = CancelToken::new();
    token.cancel_with(Cause::error(io::Error::from(io::ErrorKind::BrokenPipe)));
    let cause = token.cause().unwrap();
    let error = cause.downcast_ref::<io::Error>().unwrap();
    assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
    assert!(cause.downcast_ref::<std::fmt::Error>().is_none());
}

/// Of two who cancel with different causes and one deadline, whoever wins, every reader sees one
/// whole outcome: a cause with the explicit kind, none with the deadline.
#[test]
fn racing_readers_never_see_a_kind_without_its_cause() {
    let mut rng = rng("kind and cause");
    let (mut explicit, mut deadlines) = (0, 0);
    for _ in 0..500 {
        let clock = Clock::manual();
        let token = CancelToken::with_clock(&clock).child_timeout(secs(1));
        let start = Barrier::new(5);
        let mut seeds = [rng.fork(), rng.fork()];
        let won = thread::scope(|s| {
            for _ in 0..2 {
                s.spawn(|| {
                    start.wait();
                    while !token.is_cancelled() {
                        std::hint::spin_loop();
                    }
                    assert_whole(&token);
                });
            }
            s.spawn(|| {
                start.wait();
                clock.advance(secs(1));
                assert_whole(&token);
            });
            let (start, token) = (&start, &token);
            let cancellers = seeds.each_mut().map(|rng| {
                s.spawn(move || {
                    start.wait();
                    dither(rng, 100);
                    let cause = format!("{:?}", thread::current().id());
                    let won = token.cancel_with(cause.clone());
                    assert_whole(token);
                    won.then_some(cause)
                })
            });
            let winners = cancellers.map(|canceller| canceller.join().unwrap());
            let mut winners = winners.into_iter().flatten();
            let won = winners.next();
            assert!(winners.next().is_none(), "two calls got true");
            won
        });
        match won {
            Some(cause) => {
                assert_eq!(token.cause().unwrap().to_string(), cause);
                explicit += 1;
            }
            None => {
                assert_eq!(token.kind(), Some(CancelKind::DeadlineExceeded));
                deadlines += 1;
            }
        }
    }
    eprintln!("{explicit} explicit, {deadlines} deadlines");
}

fn assert_whole(token: &CancelToken) {
    let seen = token.check().expect_err("it is cancelled");
    let expected = match seen.kind() {
        CancelKind::Cancelled => true,
        CancelKind::DeadlineExceeded => false,
    };
    assert_eq!(seen.cause().is_some(), expected, "{seen:?}");
}

#[test]
fn exactly_one_of_many_racing_cancels_gets_true() {
    for _ in 0..200 {
        let token = CancelToken::new();
        let (start, winners) = (Barrier::new(8), AtomicUsize::new(0));
        thread::scope(|s| {
            for _ in 0..8 {
                s.spawn(|| {
                    start.wait();
                    let won = token.cancel();
                    assert!(
                        token.is_cancelled(),
                        "whoever won, it is cancelled on return"
                    );
                    winners.fetch_add(won.into(), Ordering::Relaxed);
                });
            }
        });
        assert_eq!(winners.into_inner(), 1);
    }
}

#[test]
fn an_explicit_cancel_before_the_deadline_is_not_reported_as_the_deadline() {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock).child_timeout(secs(5));
    clock.advance(secs(5) - Duration::from_nanos(1));
    assert!(token.cancel_with("by hand"));
    clock.advance(secs(5));
    let error = token.check().unwrap_err();
    assert_eq!(error.kind(), CancelKind::Cancelled);
    assert_eq!(error.to_string(), "cancelled: by hand");
}

#[test]
fn a_deadline_before_an_explicit_cancel_is_not_reported_as_explicit() {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock).child_timeout(secs(5));
    clock.advance(secs(5));
    assert!(!token.cancel_with("too late"));
    let error = token.check().unwrap_err();
    assert!(error.is_deadline());
    assert!(error.cause().is_none());
    assert_eq!(error.to_string(), "deadline exceeded");
}

/// Runs `look` on a manual clock at the moment when a token's deadline has passed but its timer
/// has not fired: from the hook of another one that is due at the same time, and fires before it.
fn when_overdue(look: impl FnOnce(&CancelToken, &CancelToken) + Send + 'static) -> CancelToken {
    let clock = Clock::manual();
    let root = CancelToken::with_clock(&clock);
    let first = root.child_timeout(secs(5));
    let overdue = root.child_timeout(secs(5));
    let seen = overdue.clone();
    first.on_cancel(move || look(&root, &seen)).detach();
    clock.advance(secs(5));
    overdue
}

#[test]
fn a_deadline_that_passed_undelivered_still_comes_before_an_explicit_cancel() {
    let (sent, received) = unbounded();
    let token = when_overdue(move |_, overdue| {
        assert!(!overdue.is_cancelled(), "not delivered yet");
        assert_eq!(overdue.remaining(), Some(Duration::ZERO));
        sent.send(overdue.cancel_with("too late")).unwrap();
    });
    assert!(!received.try_recv().unwrap());
    assert_eq!(token.kind(), Some(CancelKind::DeadlineExceeded));
}

#[test]
fn a_deadline_that_passed_undelivered_still_comes_before_a_cancel_of_an_ancestor() {
    let (sent, received) = unbounded();
    let token = when_overdue(move |root, _| {
        sent.send(root.cancel_with("by the root")).unwrap();
    });
    assert!(
        received.try_recv().unwrap(),
        "the root itself had no deadline"
    );
    assert_eq!(token.kind(), Some(CancelKind::DeadlineExceeded));
    assert!(token.cause().is_none());
}

#[test]
fn a_child_made_when_its_parents_deadline_has_passed_undelivered_is_born_cancelled() {
    let (sent, received) = unbounded();
    let _token = when_overdue(move |_, overdue| {
        let children = [
            overdue.child(),
            overdue.child_timeout(Duration::ZERO),
            overdue.child_timeout(secs(1)),
            CancelToken::linked(&[overdue]),
        ];
        sent.send(children.map(|child| child.kind())).unwrap();
    });
    let kinds = received.try_recv().unwrap();
    assert_eq!(kinds, [Some(CancelKind::DeadlineExceeded); 4]);
}

#[test]
fn the_effective_deadline_is_the_earliest_on_the_path() {
    let clock = Clock::manual();
    let at = |n| clock.deadline_after(secs(n));
    let root = CancelToken::with_clock(&clock);
    assert_eq!((root.deadline(), root.remaining()), (None, None));
    let outer = root.child_timeout(secs(5));
    let later = outer.child_timeout(secs(9));
    let sooner = outer.child_timeout(secs(2));
    let below = later.child().child();
    let tokens = [&outer, &later, &sooner, &below];
    assert_eq!(
        tokens.map(|token| token.deadline()),
        [at(5), at(5), at(2), at(5)]
    );
    assert_eq!(outer.child_timeout(Duration::MAX).deadline(), at(5));

    clock.advance(secs(2));
    assert_eq!(sooner.remaining(), Some(Duration::ZERO));
    assert_eq!(below.remaining(), Some(secs(3)));
    assert_eq!(
        tokens.map(|token| token.is_cancelled()),
        [false, false, true, false]
    );
    clock.advance(secs(3));
    assert!(
        tokens
            .iter()
            .all(|token| token.kind() == Some(CancelKind::DeadlineExceeded))
    );
    assert!(!root.is_cancelled());
}

#[test]
fn a_deadline_outlives_the_handle_that_it_was_given_to() {
    let clock = Clock::manual();
    let child = CancelToken::with_clock(&clock)
        .child_timeout(secs(5))
        .child();
    clock.advance(secs(5));
    assert_eq!(child.kind(), Some(CancelKind::DeadlineExceeded));
}

#[test]
fn a_guard_cancels_on_every_way_out_unless_disarmed() {
    let by = |leave: fn(CancelToken)| {
        let token = CancelToken::new();
        catch_unwind(|| leave(token.clone())).ok();
        token.is_cancelled()
    };
    let by_break = |token: CancelToken| {
        #[allow(clippy::never_loop, reason = "the break is the point")]
        loop {
            let _guard = token.clone().drop_guard();
            break;
        }
        assert!(token.is_cancelled());
    };
    assert!(by(by_break));
    assert!(by(|token| {
        let _guard = token.drop_guard();
    }));
    assert!(by(|token| {
        let leave = || -> Result<(), std::num::ParseIntError> {
            let _guard = token.drop_guard();
            "x".parse::<i32>()?;
            Ok(())
        };
        assert!(leave().is_err());
    }));
    assert!(by(|token| {
        let _guard = token.drop_guard();
        std::panic::resume_unwind(Box::new("out"));
    }));
    assert!(!by(|token| drop(token.drop_guard().disarm())));
}

#[test]
fn nothing_cancels_a_token_that_is_never_cancelled() {
    let never = CancelToken::never();
    assert!(!never.cancel() && !never.cancel_with("no") && !never.is_cancelled());
    drop(never.clone().drop_guard());
    assert!(never.check().is_ok());
    assert_eq!(never.done().try_recv(), Err(TryRecvError::Empty));
    assert!(!never.wait_timeout(Duration::ZERO));
    let child = never.child();
    assert!(child.cancel(), "its children are ordinary roots");
    assert!(!never.is_cancelled());
}
