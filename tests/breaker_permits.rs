//! The breaker's permits: late results, drops and panics, what a result means, and the listeners.

#[path = "support/breakers.rs"]
mod breakers;
mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock};

use cleanbreak::resilience::CallError;
use cleanbreak::resilience::breaker::{BreakerBuilder, Outcome, Permit, Reason, State, Transition};
use cleanbreak::{Breaker, CancelToken};

use breakers::{build, counts, feed, to_the_probe};
use support::{payload_of, secs};

use Outcome::{Failure, Ignored, Success};
use State::{Closed, HalfOpen, Open};

#[test]
fn a_late_result_of_an_earlier_generation_has_no_effect() {
    for late in [Success, Failure, Ignored] {
        let (clock, breaker) = build(Breaker::builder().consecutive_failures(1));
        let before: Vec<Permit<'_>> = (0..4).map(|_| breaker.acquire().unwrap()).collect();
        let mut before = before.into_iter();
        let mut unmoved = |state: State| {
            let all = breaker.snapshot();
            assert_eq!(all.state, state);
            before.next().unwrap().report(late);
            assert_eq!(breaker.snapshot(), all, "{late:?} in {state}");
        };
        feed(&breaker, &[Failure]);
        unmoved(Open);
        clock.advance(secs(10));
        unmoved(Open);
        let probe = breaker.acquire().unwrap();
        unmoved(HalfOpen); // it is no probe
        assert!(breaker.acquire().is_err(), "and frees no place");
        probe.success();
        unmoved(Closed);
    }
}

#[test]
fn a_late_probe_of_an_earlier_round_has_no_effect_on_the_next() {
    let (clock, breaker) = build(Breaker::builder().consecutive_failures(1).probes(2));
    to_the_probe(&clock, &breaker);
    let late = breaker.acquire().unwrap();
    feed(&breaker, &[Failure]);
    clock.advance(secs(10));
    let probe = breaker.acquire().unwrap();
    let all = breaker.snapshot();
    late.success();
    assert_eq!(breaker.snapshot(), all);
    probe.success();
    feed(&breaker, &[Success]);
    assert_eq!(breaker.state(), Closed);
}

#[test]
fn a_permit_dropped_by_a_panic_is_a_failure_and_dropped_otherwise_neutral() {
    let (clock, breaker) = build(Breaker::builder().consecutive_failures(2));
    let token = CancelToken::new();
    drop(breaker.acquire().unwrap());
    assert_eq!(counts(&breaker), (0, 0, 0));
    let panics = || breaker.call(&token, |_| -> Result<(), ()> { panic!("in the call") });
    assert_eq!(
        *payload_of(panics).downcast::<&str>().unwrap(),
        "in the call"
    );
    assert_eq!(counts(&breaker), (1, 1, 0));
    payload_of(panics);
    assert_eq!(breaker.state(), Open);
    clock.advance(secs(10));
    payload_of(panics);
    assert_eq!(breaker.state(), Open, "so does a probe that panics");
}

#[test]
fn a_permit_given_while_a_thread_unwinds_is_neutral_when_it_is_dropped() {
    struct Cleanup<'a>(&'a Breaker);
    impl Drop for Cleanup<'_> {
        fn drop(&mut self) {
            drop(self.0.acquire().unwrap());
        }
    }
    let (_clock, breaker) = build(Breaker::builder().consecutive_failures(1));
    payload_of(|| {
        let _cleanup = Cleanup(&breaker);
        panic!("elsewhere");
    });
    assert_eq!(breaker.state(), Closed);
}

#[test]
fn an_owned_permit_outlives_its_borrow_and_is_counted_once() {
    let (_clock, breaker) = build(Breaker::builder().consecutive_failures(2));
    let permit: Permit<'static> = breaker.acquire().unwrap().into_owned();
    std::thread::scope(|s| drop(s.spawn(move || permit.failure())));
    assert_eq!(counts(&breaker), (1, 1, 0));
    drop(breaker.acquire().unwrap().into_owned());
    assert_eq!(counts(&breaker), (1, 1, 0));
}

#[test]
fn an_error_of_a_call_that_was_told_to_stop_is_neutral_and_one_past_its_deadline_a_failure() {
    let (clock, breaker) = build(Breaker::builder().consecutive_failures(2));
    let root = CancelToken::with_clock(&clock);
    let token = root.child();
    let told = breaker.call(&token, |token| {
        token.cancel();
        Err::<(), _>("stopped")
    });
    assert_eq!(told, Err(CallError::Failed("stopped")));
    assert_eq!(counts(&breaker), (0, 0, 0));
    // What got through all the same is a success.
    assert_eq!(breaker.call(&token, |_| Ok::<_, ()>(1)), Ok(1));
    assert_eq!(counts(&breaker), (1, 0, 0));
    for _ in 0..2 {
        let late = breaker.call(&root.child_timeout(secs(1)), |token| {
            clock.advance(secs(1));
            token.check()
        });
        assert!(late.unwrap_err().into_failure().unwrap().is_deadline());
    }
    assert_eq!(breaker.state(), Open);
}

#[test]
fn a_probe_that_is_told_to_stop_frees_its_place() {
    let (clock, breaker) = build(Breaker::builder().consecutive_failures(1));
    to_the_probe(&clock, &breaker);
    let stopped = breaker.call(&CancelToken::new(), |token| {
        token.cancel();
        Err::<(), _>(())
    });
    assert!(stopped.is_err());
    assert_eq!(breaker.state(), HalfOpen);
    feed(&breaker, &[Success]);
    assert_eq!(breaker.state(), Closed);
}

#[test]
fn a_predicate_says_what_an_error_or_an_answer_means() {
    let (_clock, breaker) = build(Breaker::builder().consecutive_failures(1));
    let token = CancelToken::new();
    let classify = |result: &Result<u16, &str>| match result {
        Err("not found") | Ok(..500) => Success,
        Err("bad request") => Ignored,
        Ok(_) | Err(_) => Failure,
    };
    let call = |answer| breaker.call_with(&token, classify, |_| answer);
    assert_eq!(call(Err("not found")), Err(CallError::Failed("not found")));
    assert_eq!(counts(&breaker), (1, 0, 0));
    assert_eq!(
        call(Err("bad request")),
        Err(CallError::Failed("bad request"))
    );
    assert_eq!(counts(&breaker), (1, 0, 0));
    assert_eq!(call(Ok(404)), Ok(404));
    assert_eq!(call(Ok(503)), Ok(503));
    let rejected = call(Ok(200)).unwrap_err();
    assert_eq!(rejected.to_string(), "rejected by the breaker: OPEN");
    assert!(rejected.is_refused() && rejected.failure().is_none());
    assert_eq!(rejected.into_failure(), None);
}

fn recorded(builder: BreakerBuilder) -> (BreakerBuilder, Arc<Mutex<Vec<Transition>>>) {
    let seen = Arc::new(Mutex::new(Vec::new()));
    let record = seen.clone();
    let builder = builder.on_transition(move |transition| record.lock().unwrap().push(*transition));
    (builder, seen)
}

#[test]
fn listeners_hear_each_transition_with_reason_time_and_counts() {
    let builder = Breaker::builder().failure_rate(0.5).minimum_calls(2);
    let (builder, seen) = recorded(builder.probe_wait(secs(5)));
    let (clock, breaker) = build(builder);
    clock.advance(secs(1));
    feed(&breaker, &[Success, Failure]);
    clock.advance(secs(10));
    std::mem::forget(breaker.acquire().unwrap());
    clock.advance(secs(6));
    assert!(breaker.acquire().is_err());
    clock.advance(secs(9));
    feed(&breaker, &[Failure]);
    clock.advance(secs(10));
    feed(&breaker, &[Success]);
    let seen = seen.lock().unwrap();
    let table: Vec<_> = seen
        .iter()
        .map(|t| (t.to_string(), t.at.as_nanos() / 1_000_000_000, t.generation))
        .collect();
    let expected = [
        ("CLOSED -> OPEN: failure rate", 1, 1),
        ("OPEN -> HALF_OPEN: open time over", 11, 2),
        ("HALF_OPEN -> OPEN: probes hung", 16, 3),
        ("OPEN -> HALF_OPEN: open time over", 26, 4),
        ("HALF_OPEN -> OPEN: probes failed", 26, 5),
        ("OPEN -> HALF_OPEN: open time over", 36, 6),
        ("HALF_OPEN -> CLOSED: probes succeeded", 36, 7),
    ];
    assert_eq!(
        table,
        expected.map(|(text, at, generation)| (text.to_owned(), at, generation))
    );
    assert_eq!((seen[0].counts.calls, seen[0].counts.failures), (2, 1));
    assert_eq!(seen[0].open_for, Some(secs(10)));
    assert_eq!(seen[1].open_for, None);
    assert_eq!(seen[0].reason, Reason::FailureRate);
}

/// It resets the breaker from within: that transition is told after the one that led to it.
#[test]
fn a_listener_may_use_the_breaker_and_hears_of_what_it_does_afterwards() {
    support::in_time(|| {
        let handle: Arc<OnceLock<Breaker>> = Arc::default();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let (inner, told) = (handle.clone(), seen.clone());
        let breaker = Breaker::builder().consecutive_failures(1);
        let breaker = breaker.on_transition(move |transition| {
            let breaker = inner.get().unwrap();
            if transition.to == Open {
                assert!(breaker.acquire().is_err());
                breaker.reset();
                breaker.acquire().unwrap().success();
            }
            told.lock().unwrap().push(transition.to);
        });
        let breaker = breaker.build().unwrap();
        handle.set(breaker.clone()).unwrap();
        feed(&breaker, &[Failure, Failure]);
        assert_eq!(*seen.lock().unwrap(), [Open, Closed, Open, Closed]);
    });
}

#[test]
fn a_listener_that_panics_harms_neither_the_call_nor_the_next_listener() {
    let builder = Breaker::builder().consecutive_failures(1);
    let (builder, seen) = recorded(builder.on_transition(|_| panic!("in a listener")));
    let (_clock, breaker) = build(builder);
    let failed = breaker.call(&CancelToken::new(), |_| Err::<(), _>("down"));
    assert_eq!(failed, Err(CallError::Failed("down")));
    assert_eq!(seen.lock().unwrap().len(), 1);
    // Also when it is told while a panic is on its way.
    breaker.reset();
    let panics = || {
        breaker.call(&CancelToken::new(), |_| -> Result<(), ()> {
            panic!("the call")
        })
    };
    assert_eq!(*payload_of(panics).downcast::<&str>().unwrap(), "the call");
    assert_eq!(seen.lock().unwrap().len(), 3);
}

#[test]
fn what_a_listener_has_captured_may_panic_when_it_is_dropped() {
    struct Bomb(Arc<AtomicUsize>);
    impl Drop for Bomb {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
            panic!("in a destructor");
        }
    }
    let dropped = Arc::new(AtomicUsize::new(0));
    let mut builder = Breaker::builder();
    for _ in 0..3 {
        let bomb = Bomb(dropped.clone());
        builder = builder.on_transition(move |_| assert_eq!(Arc::strong_count(&bomb.0), 4));
    }
    drop(builder.build().unwrap());
    assert_eq!(dropped.load(Ordering::SeqCst), 3);
}
