//! The breaker: its states as tables on the manual clock, permits, classification, listeners.

mod support;

use std::sync::{Arc, Mutex, OnceLock};
use std::time::Duration;

use cleanbreak::backoff::{Backoff, Jitter};
use cleanbreak::resilience::breaker::{
    BreakerBuilder, CallError, Outcome, Permit, Reason, State, Transition,
};
use cleanbreak::{Breaker, CancelToken, Clock, ManualClock};
use support::{millis, payload_of, secs};

use Outcome::{Failure, Ignored, Success};
use State::{Closed, Disabled, ForcedOpen, HalfOpen, MetricsOnly, Open};

fn build(builder: BreakerBuilder) -> (ManualClock, Breaker) {
    let clock = Clock::manual();
    let breaker = builder.open_for(secs(10)).clock(&clock).build().unwrap();
    (clock, breaker)
}

fn feed(breaker: &Breaker, outcomes: &[Outcome]) {
    for outcome in outcomes {
        breaker.acquire().unwrap().report(*outcome);
    }
}

fn slow(clock: &ManualClock, breaker: &Breaker, took: Duration) {
    let permit = breaker.acquire().unwrap();
    clock.advance(took);
    permit.success();
}

/// Opens a breaker that does so on one failure, and waits until it can be probed.
fn to_the_probe(clock: &ManualClock, breaker: &Breaker) {
    feed(breaker, &[Failure]);
    assert_eq!(breaker.state(), Open);
    clock.advance(secs(10));
}

fn counts(breaker: &Breaker) -> (u64, u64, u64) {
    let counts = breaker.snapshot().counts;
    (counts.calls, counts.failures, counts.slow)
}

#[test]
fn consecutive_failures_trip_at_the_threshold_and_a_success_starts_over() {
    let table: [(&[Outcome], State); 6] = [
        (&[Failure, Failure], Closed),
        (&[Failure, Failure, Failure], Open),
        (&[Failure, Failure, Success, Failure, Failure], Closed),
        (
            &[Failure, Failure, Success, Failure, Failure, Failure],
            Open,
        ),
        (&[Failure, Ignored, Failure, Ignored], Closed),
        (&[Failure, Ignored, Failure, Ignored, Failure], Open),
    ];
    for (outcomes, state) in table {
        let (_clock, breaker) = build(Breaker::builder().consecutive_failures(3));
        feed(&breaker, outcomes);
        assert_eq!(breaker.state(), state, "{outcomes:?}");
    }
}

#[test]
fn a_failure_rate_trips_when_it_is_reached_and_not_below() {
    // (threshold, failures of 100, state)
    let table = [
        (0.07, 6, Closed),
        (0.07, 7, Open),
        (0.07, 8, Open),
        (0.29, 28, Closed),
        (0.29, 29, Open),
        (0.5, 49, Closed),
        (0.5, 50, Open),
        (1.0, 99, Closed),
        (1.0, 100, Open),
    ];
    for (threshold, failures, state) in table {
        let builder = Breaker::builder().count_window(100).minimum_calls(100);
        let (_clock, breaker) = build(builder.failure_rate(threshold));
        feed(&breaker, &vec![Success; 100 - failures]);
        feed(&breaker, &vec![Failure; failures]);
        assert_eq!(breaker.state(), state, "{failures} % of {threshold}");
    }
}

#[test]
fn a_rate_does_not_count_below_the_minimum_and_a_success_may_complete_it() {
    let table: [(&[Outcome], State); 5] = [
        (&[Failure, Failure, Failure], Closed),
        (&[Failure, Failure, Failure, Failure], Open),
        (&[Failure, Failure, Success, Success], Open),
        (&[Failure, Success, Success, Success], Closed),
        (
            &[Failure, Success, Success, Success, Failure, Failure],
            Open,
        ),
    ];
    for (outcomes, state) in table {
        let builder = Breaker::builder().failure_rate(0.5).minimum_calls(4);
        let (_clock, breaker) = build(builder);
        feed(&breaker, outcomes);
        assert_eq!(breaker.state(), state, "{outcomes:?}");
    }
}

#[test]
fn a_count_window_forgets_the_oldest_call() {
    let builder = Breaker::builder().failure_rate(0.4).count_window(5);
    let (_clock, breaker) = build(builder);
    feed(&breaker, &[Failure, Success, Success, Success, Success]);
    assert_eq!(counts(&breaker), (5, 1, 0));
    feed(&breaker, &[Success, Failure]);
    assert_eq!(counts(&breaker), (5, 1, 0));
    feed(&breaker, &[Failure]);
    assert_eq!(breaker.state(), Open);
}

#[test]
fn a_time_window_forgets_by_tenths() {
    let builder = Breaker::builder().failure_rate(0.5).minimum_calls(4);
    let (clock, breaker) = build(builder.time_window(secs(10)));
    feed(&breaker, &[Failure]);
    clock.advance(millis(1500));
    feed(&breaker, &[Success, Success]);
    clock.advance(millis(8499)); // 9.999 s: all of it still counts
    assert_eq!(counts(&breaker), (3, 1, 0));
    clock.advance(millis(1)); // the first tenth is out
    assert_eq!(counts(&breaker), (2, 0, 0));
    feed(&breaker, &[Failure]);
    assert_eq!((counts(&breaker), breaker.state()), ((3, 1, 0), Closed));
    feed(&breaker, &[Failure]);
    assert_eq!(breaker.state(), Open);
}

#[test]
fn successes_that_drop_out_of_a_time_window_let_the_next_call_trip() {
    let builder = Breaker::builder().failure_rate(0.5).minimum_calls(2);
    let (clock, breaker) = build(builder.time_window(secs(10)));
    feed(&breaker, &[Success, Success, Success]);
    clock.advance(secs(5));
    feed(&breaker, &[Failure, Failure]);
    assert_eq!(breaker.state(), Closed);
    clock.advance(secs(5));
    assert_eq!(breaker.state(), Closed, "time alone changes nothing");
    feed(&breaker, &[Success]); // two of three
    assert_eq!(breaker.state(), Open);
}

#[test]
fn a_slow_call_is_one_that_took_as_long_and_their_rate_trips_when_reached() {
    // (milliseconds of each of four calls, state)
    let table = [
        ([499, 499, 499, 499], Closed),
        ([500, 499, 499, 499], Closed),
        ([500, 499, 499, 500], Open),
        ([900, 1, 1, 900], Open),
    ];
    for (took, state) in table {
        let builder = Breaker::builder().slow_calls(millis(500), 0.5);
        let (clock, breaker) = build(builder.minimum_calls(4));
        for took in took {
            slow(&clock, &breaker, millis(took));
        }
        assert_eq!(breaker.state(), state, "{took:?}");
    }
}

#[test]
fn a_slow_failure_counts_as_both() {
    let builder = Breaker::builder().slow_calls(millis(5), 1.0);
    let (clock, breaker) = build(builder.minimum_calls(4));
    let permit = breaker.acquire().unwrap();
    clock.advance(millis(5));
    permit.failure();
    assert_eq!(counts(&breaker), (1, 1, 1));
    assert_eq!(breaker.snapshot().counts.failure_rate(), Some(1.0));
    assert_eq!(breaker.snapshot().counts.slow_call_rate(), Some(1.0));
}

#[test]
fn when_nothing_is_said_half_of_the_last_hundred_calls_must_fail_and_twenty_be_made() {
    let (_clock, breaker) = build(Breaker::builder());
    feed(&breaker, &[Failure; 19]);
    assert_eq!(breaker.state(), Closed);
    feed(&breaker, &[Failure]);
    assert_eq!(breaker.state(), Open);
}

#[test]
fn it_is_open_for_its_time_to_the_nanosecond_and_then_one_call_goes_through() {
    let (clock, breaker) = build(Breaker::builder().consecutive_failures(1));
    assert_eq!(breaker.remaining_open(), None);
    feed(&breaker, &[Failure]);
    assert_eq!(breaker.remaining_open(), Some(secs(10)));
    clock.advance(secs(10) - Duration::from_nanos(1));
    let rejected = breaker.acquire().unwrap_err();
    assert_eq!(rejected.state(), Open);
    assert_eq!(
        rejected.open_until(),
        clock.now().checked_add(Duration::from_nanos(1))
    );
    assert_eq!(breaker.remaining_open(), Some(Duration::from_nanos(1)));
    clock.advance(Duration::from_nanos(1));
    assert_eq!(
        (breaker.state(), breaker.remaining_open()),
        (Open, Some(Duration::ZERO))
    );
    let probe = breaker.acquire().unwrap();
    assert_eq!(breaker.state(), HalfOpen);
    assert_eq!(breaker.acquire().unwrap_err().state(), HalfOpen);
    probe.success();
    assert_eq!(breaker.state(), Closed);
    assert_eq!(breaker.snapshot().rejected, 2);
}

#[test]
fn probes_decide_as_soon_as_they_can() {
    // (probes, successes, outcomes, state)
    let table: [(u32, u32, &[Outcome], State); 9] = [
        (1, 1, &[Success], Closed),
        (1, 1, &[Failure], Open),
        (1, 1, &[Ignored], HalfOpen),
        (3, 2, &[Success], HalfOpen),
        (3, 2, &[Success, Success], Closed),
        (3, 2, &[Success, Failure], HalfOpen),
        (3, 2, &[Failure, Success, Success], Closed),
        (3, 2, &[Failure, Failure], Open),
        (3, 3, &[Success, Success, Failure], Open),
    ];
    for (probes, successes, outcomes, state) in table {
        let builder = Breaker::builder().consecutive_failures(1);
        let (clock, breaker) = build(builder.probes(probes).successes(successes));
        to_the_probe(&clock, &breaker);
        feed(&breaker, outcomes);
        assert_eq!(breaker.state(), state, "{outcomes:?} of {probes}");
    }
}

#[test]
fn a_neutral_probe_frees_its_place_and_others_do_not() {
    let (clock, breaker) = build(Breaker::builder().consecutive_failures(1).probes(2));
    to_the_probe(&clock, &breaker);
    let (first, second) = (breaker.acquire().unwrap(), breaker.acquire().unwrap());
    assert!(breaker.acquire().is_err());
    first.ignore();
    let third = breaker.acquire().unwrap();
    assert!(breaker.acquire().is_err());
    drop(third);
    let fourth = breaker.acquire().unwrap();
    second.success();
    let all = breaker.snapshot();
    assert_eq!(
        (all.probes_running, all.probes_succeeded, all.probes_failed),
        (1, 1, 0)
    );
    assert!(
        breaker.acquire().is_err(),
        "a place is used up by a success"
    );
    fourth.success();
    assert_eq!(breaker.state(), Closed);
}

#[test]
fn a_slow_probe_is_a_failed_one() {
    let builder = Breaker::builder().consecutive_failures(1);
    let (clock, breaker) = build(builder.slow_calls(millis(100), 1.0));
    to_the_probe(&clock, &breaker);
    slow(&clock, &breaker, millis(100));
    assert_eq!(breaker.state(), Open);
    clock.advance(secs(10));
    slow(&clock, &breaker, millis(99));
    assert_eq!(breaker.state(), Closed);
}

#[test]
fn a_hung_probe_is_a_failed_one_after_the_maximum_wait() {
    let builder = Breaker::builder().consecutive_failures(1);
    let (clock, breaker) = build(builder.probe_wait(secs(5)));
    to_the_probe(&clock, &breaker);
    let hung = breaker.acquire().unwrap();
    clock.advance(secs(5) - Duration::from_nanos(1));
    assert_eq!(breaker.acquire().unwrap_err().state(), HalfOpen);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(breaker.acquire().unwrap_err().state(), Open);
    assert_eq!(breaker.remaining_open(), Some(secs(10)));
    hung.success(); // too late
    assert_eq!(breaker.state(), Open);
    clock.advance(secs(10));
    feed(&breaker, &[Success]);
    assert_eq!(breaker.state(), Closed);
}

/// The open time after it counts from when the wait was over, not from when somebody looked.
#[test]
fn after_a_long_silence_a_hung_probe_does_not_cost_another_open_time() {
    let builder = Breaker::builder().consecutive_failures(1);
    let (clock, breaker) = build(builder.probe_wait(secs(5)));
    to_the_probe(&clock, &breaker);
    std::mem::forget(breaker.acquire().unwrap());
    clock.advance(secs(15));
    let probe = breaker.acquire().unwrap();
    assert_eq!(breaker.state(), HalfOpen);
    probe.success();
    assert_eq!(breaker.state(), Closed);
}

#[test]
fn without_a_probe_on_its_way_half_open_waits_for_ever() {
    let builder = Breaker::builder().consecutive_failures(1).probes(2);
    let (clock, breaker) = build(builder.probe_wait(secs(5)));
    to_the_probe(&clock, &breaker);
    feed(&breaker, &[Success]);
    clock.advance(secs(3600));
    assert_eq!(breaker.state(), HalfOpen);
    feed(&breaker, &[Success]);
    assert_eq!(breaker.state(), Closed);
}

#[test]
fn a_slow_probe_that_nobody_waited_for_still_counts_after_the_maximum_wait() {
    let builder = Breaker::builder().consecutive_failures(1);
    let (clock, breaker) = build(builder.probe_wait(secs(5)));
    to_the_probe(&clock, &breaker);
    let probe = breaker.acquire().unwrap();
    clock.advance(secs(60));
    probe.success();
    assert_eq!(breaker.state(), Closed);
}

/// `when` a call was admitted and what the breaker did before it ended.
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
fn states_by_hand_do_what_they_say() {
    let (clock, breaker) = build(Breaker::builder().consecutive_failures(1));
    breaker.force_open();
    clock.advance(secs(3600));
    let rejected = breaker.acquire().unwrap_err();
    assert_eq!(
        (rejected.state(), rejected.open_until()),
        (ForcedOpen, None)
    );
    assert_eq!(breaker.remaining_open(), None);

    breaker.disable();
    feed(&breaker, &[Failure; 10]);
    assert_eq!((breaker.state(), counts(&breaker)), (Disabled, (0, 0, 0)));

    breaker.metrics_only();
    feed(&breaker, &[Failure; 10]);
    feed(&breaker, &[Success; 90]);
    assert_eq!(
        (breaker.state(), counts(&breaker)),
        (MetricsOnly, (100, 10, 0))
    );

    breaker.reset();
    assert_eq!((breaker.state(), counts(&breaker)), (Closed, (0, 0, 0)));
    feed(&breaker, &[Success]);
    breaker.reset();
    assert_eq!(
        counts(&breaker),
        (0, 0, 0),
        "a reset forgets, also when closed"
    );
    breaker.trip();
    assert_eq!(breaker.remaining_open(), Some(secs(10)));
    clock.advance(secs(1));
    breaker.trip();
    assert_eq!(
        breaker.remaining_open(),
        Some(secs(9)),
        "it is open already"
    );
    clock.advance(secs(9));
    feed(&breaker, &[Success]);
    assert_eq!(breaker.state(), Closed);
}

#[test]
fn the_open_time_grows_until_it_has_been_closed() {
    let clock = Clock::manual();
    let times = Backoff::exponential(secs(1))
        .jitter(Jitter::None)
        .max(secs(4));
    let builder = Breaker::builder().consecutive_failures(1);
    let breaker = builder.open_backoff(times).clock(&clock).build().unwrap();
    let mut seen = Vec::new();
    let mut fail = |clock: &ManualClock| {
        feed(&breaker, &[Failure]);
        let open_for = breaker.remaining_open().unwrap();
        seen.push(open_for.as_secs());
        clock.advance(open_for);
    };
    (0..4).for_each(|_| fail(&clock));
    feed(&breaker, &[Success]);
    (0..2).for_each(|_| fail(&clock));
    breaker.reset();
    fail(&clock);
    assert_eq!(seen, [1, 2, 4, 4, 1, 2, 1]);
}

#[test]
fn a_backoff_that_panics_leaves_the_time_before() {
    let clock = Clock::manual();
    let times = Backoff::custom(|n| match n {
        0 => secs(3),
        _ => panic!("no more"),
    });
    let builder = Breaker::builder().consecutive_failures(1);
    let breaker = builder.open_backoff(times).clock(&clock).build().unwrap();
    for _ in 0..3 {
        feed(&breaker, &[Failure]);
        assert_eq!(breaker.remaining_open(), Some(secs(3)));
        clock.advance(secs(3));
    }
}

/// The closure may use the breaker: it is called with no lock held.
#[test]
fn a_backoff_may_look_at_the_breaker() {
    static BREAKER: OnceLock<Breaker> = OnceLock::new();
    support::in_time(|| {
        let times = Backoff::custom(|n| {
            let state = BREAKER.get().map(Breaker::state);
            assert_eq!(state, (n > 0).then_some(Open));
            secs(60 - u64::from(n))
        });
        let builder = Breaker::builder().consecutive_failures(1);
        let breaker = builder.open_backoff(times).build().unwrap();
        let breaker = BREAKER.get_or_init(|| breaker);
        feed(breaker, &[Failure]);
        assert_eq!(breaker.state(), Open);
    });
}

#[test]
fn open_for_ever_is_until_somebody_closes_it() {
    let clock = Clock::manual();
    let builder = Breaker::builder().consecutive_failures(1);
    let breaker = builder.open_for(Duration::MAX).probe_wait(Duration::MAX);
    let breaker = breaker.clock(&clock).build().unwrap();
    feed(&breaker, &[Failure]);
    clock.advance(Duration::MAX);
    let rejected = breaker.acquire().unwrap_err();
    assert_eq!((rejected.state(), rejected.open_until()), (Open, None));
    assert_eq!(breaker.remaining_open(), None);
    breaker.reset();
    feed(&breaker, &[Success]);
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
        assert!(late.unwrap_err().failed().unwrap().is_deadline());
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
    assert!(rejected.is_rejected() && rejected.failed().is_none());
    assert_eq!(rejected.into_failed(), None);
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
fn settings_that_make_no_sense_are_refused() {
    let b = Breaker::builder;
    let refused = [
        (b().failure_rate(0.0), "a rate must"),
        (b().failure_rate(1.01), "a rate must"),
        (b().failure_rate(f64::NAN), "a rate must"),
        (b().slow_calls(secs(1), -0.1), "a rate must"),
        (
            b().slow_calls(Duration::ZERO, 0.5),
            "every call would be slow",
        ),
        (b().consecutive_failures(0), "zero failures"),
        (b().count_window(0), "one to a million"),
        (b().count_window(1_000_001), "one to a million"),
        (b().time_window(Duration::ZERO), "length zero"),
        (b().minimum_calls(0), "must not be zero"),
        (b().minimum_calls(101), "no rate would ever count"),
        (b().probes(0), "never close"),
        (b().probes(2).successes(3), "number of probes"),
        (b().successes(0), "number of probes"),
        (b().probe_wait(Duration::ZERO), "given time"),
    ];
    for (builder, why) in refused {
        let what = format!("{builder:?}");
        let error = builder.build().unwrap_err();
        assert!(error.to_string().contains(why), "{what}: {error}");
    }
    let small = b().count_window(5).build().unwrap();
    feed(&small, &[Failure; 5]);
    assert_eq!(small.state(), Open, "the minimum fits into a small window");
}

#[test]
fn the_names_are_the_fields_and_the_types_cross_threads() {
    fn crosses<T: Send + Sync + std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    crosses::<Breaker>();
    crosses::<Permit<'static>>();
    let (_clock, breaker) = build(Breaker::builder().name("stock"));
    assert_eq!(breaker.name(), "stock");
    let debug = format!("{breaker:?} {:?}", breaker.acquire().unwrap());
    assert!(
        debug.contains("stock") && debug.contains("Closed"),
        "{debug}"
    );
    assert!(!breaker.clock().timer_runs());
}
