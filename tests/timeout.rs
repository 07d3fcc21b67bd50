//! Timeouts: whose time was up, what becomes of the operation's own words, and what is kept.

mod support;

use std::io::{self, Read};
use std::net::{TcpListener, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

use cleanbreak::resilience::{Timeout, TimeoutError};
use cleanbreak::{CancelKind, CancelToken, Cancelled, Clock};
use support::{in_time, millis, secs};

const NANO: Duration = Duration::from_nanos(1);

#[test]
fn an_operation_is_told_at_its_limit_and_not_a_nanosecond_before() {
    for (advanced, told) in [(secs(5) - NANO, false), (secs(5), true), (secs(6), true)] {
        let clock = Clock::manual();
        let token = CancelToken::with_clock(&clock);
        let timeout = Timeout::new(secs(5));
        let result = timeout.call(&token, |token| {
            assert_eq!(token.remaining(), Some(secs(5)));
            clock.advance(advanced);
            assert_eq!(token.is_cancelled(), told);
            Err::<(), _>("my own words")
        });
        match result.unwrap_err() {
            TimeoutError::TimedOut { limit, error, .. } => {
                assert!(told);
                assert_eq!((limit, error), (secs(5), Some("my own words")));
            }
            TimeoutError::Failed(error) => {
                assert!(!told);
                assert_eq!(error, "my own words");
            }
            other => panic!("{other}"),
        }
        assert!(!token.is_cancelled(), "the caller's token is its own");
        assert_eq!(clock.timers(), 0);
    }
}

#[test]
fn the_words_say_what_happened() {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    let timeout = Timeout::new(secs(5));
    let wait = |token: &CancelToken| {
        clock.advance(secs(5));
        token.check()
    };
    let error = timeout.call(&token, wait).unwrap_err();
    assert_eq!(error.to_string(), "timed out after 5s: deadline exceeded");
    assert_eq!(
        error.into_error().unwrap().kind(),
        CancelKind::DeadlineExceeded
    );
}

#[test]
fn a_value_is_a_value_however_late() {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    let late = Timeout::new(secs(5)).call(&token, |_| {
        clock.advance(secs(60));
        Ok::<_, ()>("late")
    });
    assert_eq!(late.unwrap(), "late");
}

#[test]
fn the_caller_s_cancellation_is_not_a_timeout() {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    let error = Timeout::new(secs(5)).call(&token, |child| {
        token.cancel_with("shutting down");
        clock.advance(secs(60)); // the limit comes second
        child.check()
    });
    let error = error.unwrap_err();
    assert!(error.is_cancelled() && !error.is_timeout());
    match error {
        TimeoutError::Cancelled { cancelled, .. } => {
            assert_eq!(cancelled.to_string(), "cancelled: shutting down");
        }
        other => panic!("{other}"),
    }
    // And it does not run at all under a token that is cancelled already.
    let error = Timeout::new(secs(5)).call(&token, |_| -> Result<(), Cancelled> { unreachable!() });
    let error = error.unwrap_err();
    assert!(error.is_cancelled());
    assert!(error.into_error().is_none());
}

#[test]
fn of_the_limit_and_the_caller_s_deadline_the_earlier_one_is_named() {
    for (limit, mine) in [(secs(4), true), (secs(5), false), (secs(6), false)] {
        let clock = Clock::manual();
        let caller = CancelToken::with_clock(&clock).child_timeout(secs(5));
        let error = Timeout::new(limit).call(&caller, |token| {
            clock.advance(limit.min(secs(5)));
            token.check()
        });
        let error = error.unwrap_err();
        assert_eq!((error.is_timeout(), error.is_cancelled()), (mine, !mine));
    }
}

#[test]
fn the_limit_comes_first_and_the_caller_s_cancellation_second() {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    let error = Timeout::new(secs(5)).call(&token, |child| {
        clock.advance(secs(5));
        token.cancel();
        child.check()
    });
    assert!(error.unwrap_err().is_timeout());
}

#[test]
fn an_operation_that_cancels_its_own_token_fails_by_itself() {
    let token = CancelToken::new();
    let error = Timeout::new(secs(5)).call(&token, |child| {
        child.cancel();
        child.check()
    });
    assert!(matches!(error, Err(TimeoutError::Failed(_))));
}

#[test]
fn no_time_at_all_runs_nothing_and_all_the_time_there_is_is_no_deadline() {
    let token = CancelToken::new();
    let never = |_: &CancelToken| -> Result<(), ()> { unreachable!() };
    let error = Timeout::new(Duration::ZERO)
        .call(&token, never)
        .unwrap_err();
    assert!(error.is_timeout() && error.into_error().is_none());
    let forever = Timeout::new(Duration::MAX);
    for timeout in [forever.clone(), forever.with_slack(Duration::MAX)] {
        let deadline = timeout.call(&token, |token| Ok::<_, ()>(token.deadline()));
        assert_eq!(deadline.unwrap(), None);
    }
}

#[test]
fn a_panic_passes_through_and_leaves_nothing() {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    let timeout = Timeout::new(secs(5));
    let panics = || timeout.call(&token, |_| -> Result<(), ()> { panic!("bug") });
    let payload = catch_unwind(AssertUnwindSafe(panics)).unwrap_err();
    assert_eq!(*payload.downcast::<&str>().unwrap(), "bug");
    assert_eq!(clock.timers(), 0);
}

#[test]
fn a_socket_that_times_out_by_itself_is_a_timeout() {
    in_time(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut silent = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let token = CancelToken::new();
        let timeout = Timeout::new(millis(20));
        let mut read = || {
            let read = timeout.call(&token, |token| {
                let left = token.remaining().unwrap();
                // A little longer than what is left: the socket's clock is not ours.
                silent.set_read_timeout(Some(left + millis(2)))?;
                silent.read(&mut [0])
            });
            let error = read.unwrap_err();
            assert!(error.is_timeout(), "{error}");
            error.into_error()
        };
        // On a busy machine, the time may be up before it has begun.
        let error: io::Error = std::iter::repeat_with(&mut read).flatten().next().unwrap();
        assert!(matches!(
            error.kind(),
            io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut
        ));
    });
}

#[test]
fn the_timer_s_thread_runs_while_the_policy_lives() {
    let clock = Clock::isolated();
    let token = CancelToken::with_clock(&clock);
    Timeout::new(secs(5))
        .call(&token, |_| Ok::<_, ()>(()))
        .unwrap();
    assert!(
        !clock.timer_runs(),
        "started for the call alone, and joined"
    );
    let timeout = Timeout::new(secs(5)).keep_timer(&clock).unwrap();
    let clone = timeout.clone();
    drop(timeout);
    clone.call(&token, |_| Ok::<_, ()>(())).unwrap();
    assert!(clock.timer_runs());
    drop(clone);
    assert!(!clock.timer_runs());
}

#[test]
fn with_slack_a_token_serves_again_until_it_would_be_too_short() {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    let timeout = Timeout::new(secs(5)).with_slack(secs(1));
    let deadline_of = |token: &CancelToken| {
        let deadline = timeout.call(token, |token| Ok::<_, ()>(token.deadline()));
        deadline.unwrap().unwrap().as_nanos()
    };
    let first = deadline_of(&token);
    assert_eq!(first, 6_000_000_000, "the limit and the slack");
    clock.advance(secs(1));
    assert_eq!(deadline_of(&token), first, "five seconds are left: enough");
    clock.advance(NANO);
    assert_eq!(deadline_of(&token), 7_000_000_001, "a new one");
    assert_eq!(clock.timers(), 1, "the old one is gone");
    // Another caller's token is another one, and the nearer deadline of a caller counts.
    let other = token.child_timeout(secs(2));
    assert_eq!(deadline_of(&other), 3_000_000_001);
    assert_eq!(deadline_of(&other), 3_000_000_001);
    drop((other, timeout));
    assert_eq!(clock.timers(), 0);
}

#[test]
fn a_token_that_was_used_up_or_is_still_seen_somewhere_does_not_serve_again() {
    let clock = Clock::manual();
    let caller = CancelToken::with_clock(&clock);
    let timeout = Timeout::new(secs(5)).with_slack(secs(60));
    let mut kept = timeout
        .call(&caller, |token| Ok::<_, ()>(token.clone()))
        .unwrap();
    for use_up in [
        (|token| token.cancel()) as fn(&CancelToken) -> bool,
        |token| token.done().is_empty(),
        |_| true,
    ] {
        let before = kept.clone();
        let result = timeout.call(&caller, |token| {
            assert!(!token.is_cancelled());
            before.cancel();
            assert!(!token.is_cancelled(), "it is not the one that was kept");
            use_up(token);
            Ok::<_, ()>(token.clone())
        });
        kept = result.unwrap();
    }
    // The caller is cancelled, and with it what is kept: nothing runs.
    timeout.call(&caller, |_| Ok::<_, ()>(())).unwrap();
    caller.cancel();
    let error = timeout.call(&caller, |_| Ok::<_, ()>(())).unwrap_err();
    assert!(error.is_cancelled());
    // Under `never`, children are roots.
    let never = CancelToken::never();
    for _ in 0..2 {
        let deadline = timeout.call(&never, |token| Ok::<_, ()>(token.deadline()));
        assert!(deadline.unwrap().is_some());
    }
}
