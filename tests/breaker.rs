//! The breaker's states as tables on the manual clock: each threshold below, at and above; open times,
//! probes, states by hand, settings.

#[path = "support/breakers.rs"]
mod breakers;
mod support;

use std::sync::OnceLock;
use std::time::Duration;

use cleanbreak::backoff::{Backoff, Jitter};
use cleanbreak::resilience::breaker::{Outcome, Permit, State};
use cleanbreak::{Breaker, Clock, ManualClock};

use breakers::{build, counts, feed, slow, to_the_probe};
use support::{millis, secs};

use Outcome::{Failure, Ignored, Success};
use State::{Closed, Disabled, ForcedOpen, HalfOpen, MetricsOnly, Open};

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
