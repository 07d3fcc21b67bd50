//! Tickers: K3 and K4.

#![allow(
    clippy::disallowed_methods,
    reason = "the tests are outside the library's doors"
)]

mod support;

use std::collections::HashSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;
use std::time::Duration;

use cleanbreak::clock::Instant;
use cleanbreak::ticker::TickerError;
use cleanbreak::{CancelToken, Clock, ManualClock, MissedTicks, Tick, Ticker};
use crossbeam_channel::{Receiver, RecvTimeoutError, TryRecvError, select};
use support::{PATIENCE, dither, in_time, millis, rng, secs};

fn started(clock: &Clock, period: Duration, policy: MissedTicks) -> Ticker {
    Ticker::builder(period)
        .clock(clock)
        .missed_ticks(policy)
        .start()
        .unwrap()
}

/// What has been delivered and not been taken: (scheduled second, missed).
fn taken(ticks: &Receiver<Tick>) -> Vec<(u64, u64)> {
    let in_secs = |tick: Tick| tick.scheduled.duration_since(Instant::ZERO).as_secs();
    ticks
        .try_iter()
        .map(|tick| (in_secs(tick), tick.missed))
        .collect()
}

/// A row: advance by so many seconds, and then find these ticks (second, missed).
type Rows<'a> = &'a [(u64, &'a [(u64, u64)])];

fn table(policy: MissedTicks, period: u64, rows: Rows<'_>) {
    let clock = Clock::manual();
    let ticker = started(&clock, secs(period), policy);
    for (row, &(advance, expected)) in rows.iter().enumerate() {
        clock.advance(secs(advance));
        assert_eq!(taken(&ticker), expected, "row {row} of {policy:?}");
    }
}

#[test]
fn skip_keeps_the_latest_tick_on_the_grid_and_counts_the_missed() {
    table(
        MissedTicks::Skip,
        5,
        &[
            (4, &[]),
            (1, &[(5, 0)]),
            (5, &[(10, 0)]),
            (17, &[(25, 2)]), // 15 and 20 came and went
            (3, &[(30, 0)]),  // the grid is kept
            (4, &[]),
            (1, &[(35, 0)]),
            (50, &[(85, 9)]),
        ],
    );
}

#[test]
fn burst_delivers_every_tick_on_the_grid() {
    table(
        MissedTicks::Burst,
        5,
        &[
            (4, &[]),
            (1, &[(5, 0)]),
            (17, &[(10, 0), (15, 0), (20, 0)]),
            (3, &[(25, 0)]),
            (10, &[(30, 0), (35, 0)]),
        ],
    );
}

#[test]
fn delay_sends_none_while_one_is_untaken_and_counts_them() {
    table(
        MissedTicks::Delay,
        5,
        &[
            (4, &[]),
            (1, &[(5, 0)]),
            (17, &[(10, 0)]), // 15 and 20 found it untaken
            (3, &[(25, 2)]),
            (5, &[(30, 0)]),
        ],
    );
}

/// Second 5 takes until second 18, since a hook that is due with the first tick, and fires before
/// it, moves the time on.
fn after_a_jump(policy: MissedTicks) -> (ManualClock, Ticker) {
    let clock = Clock::manual();
    let jumper = CancelToken::with_clock(&clock).child_timeout(secs(5));
    let ticker = started(&clock, secs(5), policy);
    let within = clock.clone();
    jumper.on_cancel(move || within.advance(secs(13))).detach();
    clock.advance(secs(5));
    (clock, ticker)
}

#[test]
fn an_advance_from_within_a_hook_delivers_the_ticks_on_its_way() {
    for (policy, expected) in [
        (MissedTicks::Skip, &[(15, 2)][..]),
        (MissedTicks::Burst, &[(5, 0), (10, 0), (15, 0)]),
        (MissedTicks::Delay, &[(5, 0)]),
    ] {
        let (clock, ticker) = after_a_jump(policy);
        assert_eq!(clock.now(), Instant::ZERO.checked_add(secs(18)).unwrap());
        assert_eq!(taken(&ticker), expected, "{policy:?}");
        clock.advance(secs(2));
        assert_eq!(taken(&ticker).last().unwrap().0, 20);
    }
}

#[test]
fn burst_keeps_so_many_ticks_and_the_next_says_how_many_were_lost() {
    let clock = Clock::manual();
    let ticker = started(&clock, secs(1), MissedTicks::Burst);
    clock.advance(secs(1500));
    let ticks = taken(&ticker);
    let kept: Vec<_> = (1..=1024).map(|n| (n, 0)).collect();
    assert_eq!(ticks, kept);
    clock.advance(secs(2));
    assert_eq!(taken(&ticker), [(1501, 476), (1502, 0)]);
}

#[test]
fn the_grid_is_start_plus_n_periods_also_under_select() {
    let clock = Clock::manual();
    clock.advance(millis(700));
    let start = clock.now();
    let ticker = started(&clock, millis(300), MissedTicks::Skip);
    let token = CancelToken::with_clock(&clock);
    for n in 1..=1000u32 {
        // Never asked at the same place within the period.
        clock.advance_to(
            start
                .checked_add(millis(300) * n + millis(n as u64 * 7 % 299))
                .unwrap(),
        );
        select! {
            recv(token.done()) -> _ => unreachable!(),
            recv(ticker) -> tick => {
                let expected = start.checked_add(millis(300) * n).unwrap();
                assert_eq!(tick.unwrap().scheduled, expected);
            }
        }
    }
}

#[test]
fn ticks_of_the_system_clock_are_on_the_grid_and_never_early() {
    let clock = Clock::isolated();
    let before = clock.now();
    let period = Duration::from_micros(500);
    let ticker = started(&clock, period, MissedTicks::Skip);
    let after = clock.now();
    let (mut first, mut number) = (None, 0);
    for _ in 0..50 {
        let tick = ticker.recv_timeout(PATIENCE).unwrap();
        assert!(tick.scheduled <= clock.now(), "early");
        number += 1 + tick.missed;
        let start = tick.scheduled.duration_since(Instant::ZERO) - period * number as u32;
        assert_eq!(
            *first.get_or_insert(start),
            start,
            "off the grid, or a wrong count of missed"
        );
    }
    let start = Instant::ZERO.checked_add(first.unwrap()).unwrap();
    assert!(
        before <= start && start <= after,
        "the grid starts with the ticker"
    );
}

#[test]
fn the_first_tick_comes_after_a_period_or_at_once_if_asked() {
    let clock = Clock::manual();
    clock.advance(secs(3));
    for policy in [MissedTicks::Skip, MissedTicks::Burst, MissedTicks::Delay] {
        let start = clock.now().duration_since(Instant::ZERO).as_secs();
        let later = started(&clock, secs(5), policy);
        let builder = Ticker::builder(secs(5)).clock(&clock).missed_ticks(policy);
        let at_once = builder.immediate().start().unwrap();
        assert_eq!(taken(&later), []);
        assert_eq!(taken(&at_once), [(start, 0)]);
        clock.advance(secs(5));
        assert_eq!(taken(&later), [(start + 5, 0)]);
        assert_eq!(taken(&at_once), [(start + 5, 0)]);
    }
}

#[test]
fn an_immediate_tick_that_is_not_taken_counts_as_missed() {
    let clock = Clock::manual();
    let ticker = Ticker::builder(secs(5))
        .clock(&clock)
        .immediate()
        .start()
        .unwrap();
    clock.advance(secs(5));
    assert_eq!(taken(&ticker), [(5, 1)]);
}

#[test]
fn a_period_of_zero_is_refused_with_a_message() {
    let zero = Duration::ZERO;
    let errors = [
        Ticker::new(zero).unwrap_err(),
        Ticker::builder(zero).immediate().start().unwrap_err(),
    ];
    for error in errors {
        assert!(matches!(error, TickerError::ZeroPeriod));
        assert_eq!(
            error.to_string(),
            "the period of a ticker must be longer than zero"
        );
    }
    let clock = Clock::manual();
    let ticker = started(&clock, secs(5), MissedTicks::Skip);
    assert!(matches!(ticker.reset(zero), Err(TickerError::ZeroPeriod)));
    assert_eq!(ticker.period(), secs(5));
    clock.advance(secs(5));
    assert_eq!(taken(&ticker), [(5, 0)], "it goes on as it was");
}

#[test]
fn a_huge_period_never_ticks_and_never_panics() {
    let longest = [
        Duration::MAX,
        Duration::from_nanos(u64::MAX),
        Duration::from_secs(u64::MAX),
    ];
    for policy in [MissedTicks::Skip, MissedTicks::Burst, MissedTicks::Delay] {
        for period in longest {
            let clock = Clock::manual();
            clock.advance(secs(1));
            let ticker = started(&clock, period, policy);
            clock.advance(Duration::MAX);
            assert_eq!(ticker.try_recv(), Err(TryRecvError::Empty));
            ticker.reset(period).unwrap();
            assert_eq!(ticker.period(), period);
            let system = started(&Clock::system(), period, policy);
            assert_eq!(system.try_recv(), Err(TryRecvError::Empty));
            assert!(system.stop());
        }
    }
}

#[test]
fn a_stop_leaves_no_stale_tick_and_ends_the_loop() {
    for policy in [MissedTicks::Skip, MissedTicks::Burst, MissedTicks::Delay] {
        let clock = Clock::manual();
        let ticker = started(&clock, secs(5), policy);
        let clone = ticker.ticks().clone();
        clock.advance(secs(12));
        assert!(ticker.stop());
        assert!(!ticker.stop());
        assert_eq!((&ticker).into_iter().count(), 0);
        clock.advance(secs(12));
        assert_eq!(clone.try_recv(), Err(TryRecvError::Disconnected));
        assert_eq!(clock.timers(), 0);
    }
}

#[test]
fn a_drop_leaves_no_stale_tick_in_a_clone_of_the_receiver() {
    let clock = Clock::manual();
    let ticker = started(&clock, secs(5), MissedTicks::Burst);
    let clone = ticker.ticks().clone();
    clock.advance(secs(12));
    assert_eq!(clone.len(), 2);
    drop(ticker);
    assert_eq!(clone.try_recv(), Err(TryRecvError::Disconnected));
    assert_eq!(clock.timers(), 0);
}

#[test]
fn a_reset_starts_a_new_grid_without_ticks_and_misses_of_before() {
    for policy in [MissedTicks::Skip, MissedTicks::Burst, MissedTicks::Delay] {
        let clock = Clock::manual();
        let ticker = started(&clock, secs(5), policy);
        clock.advance(secs(12));
        ticker.reset(secs(3)).unwrap();
        assert_eq!(taken(&ticker), []);
        assert_eq!((ticker.period(), clock.timers()), (secs(3), 1));
        clock.advance(secs(2));
        assert_eq!(taken(&ticker), []);
        clock.advance(secs(1));
        assert_eq!(taken(&ticker), [(15, 0)]);
        // To "never" and back.
        ticker.reset(Duration::MAX).unwrap();
        clock.advance(secs(100));
        assert_eq!((taken(&ticker), clock.timers()), (vec![], 0));
        ticker.reset(secs(1)).unwrap();
        clock.advance(secs(1));
        assert_eq!(taken(&ticker), [(116, 0)]);
    }
}

#[test]
fn a_stopped_ticker_is_not_reset() {
    let clock = Clock::manual();
    let ticker = started(&clock, secs(5), MissedTicks::Skip);
    ticker.stop();
    let error = ticker.reset(secs(1)).unwrap_err();
    assert!(matches!(error, TickerError::Stopped));
    assert_eq!(error.to_string(), "the ticker has been stopped");
    assert_eq!(ticker.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn a_blocked_receiver_wakes_on_stop_and_on_drop() {
    for drops in [false, true] {
        for _ in 0..100 {
            in_time(move || {
                let ticker = started(&Clock::system(), secs(3600), MissedTicks::Skip);
                let ticks = ticker.ticks().clone();
                let receiver = thread::spawn(move || ticks.recv());
                if drops {
                    drop(ticker)
                } else {
                    assert!(ticker.stop())
                }
                assert!(receiver.join().unwrap().is_err());
            });
        }
    }
}

/// On the system clock, with ticks as fast as they come: once a stop has returned nothing is in the
/// channel, and once a reset has returned nothing of before.
#[test]
fn no_tick_of_before_is_delivered_after_a_stop_or_reset_that_races_with_the_timer() {
    let mut rng = rng("stale ticks");
    let clock = Clock::isolated();
    let _lease = clock.keep_timer().unwrap();
    let mut ticked = 0;
    for round in 0..3000 {
        let policy = [MissedTicks::Skip, MissedTicks::Burst, MissedTicks::Delay][round % 3];
        let period = Duration::from_nanos(rng.u64(200..20_000));
        let ticker = started(&clock, period, policy);
        let clone = ticker.ticks().clone();
        dither(&mut rng, 3000);
        let before = clock.now();
        ticker.reset(period).unwrap();
        if let Ok(tick) = clone.try_recv() {
            ticked += 1;
            let first = before.checked_add(period).unwrap();
            assert!(
                tick.scheduled >= first,
                "round {round}: a tick of before the reset"
            );
        }
        dither(&mut rng, 3000);
        if rng.bool() {
            drop(ticker)
        } else {
            assert!(ticker.stop())
        }
        assert_eq!(
            clone.try_recv(),
            Err(TryRecvError::Disconnected),
            "round {round}"
        );
    }
    eprintln!("{ticked} ticks between reset and look");
}

/// The counter-proof: with the stop left out, the same look finds ticks.
#[test]
fn without_a_stop_the_same_look_finds_ticks() {
    let clock = Clock::isolated();
    let ticker = started(&clock, Duration::from_micros(1), MissedTicks::Skip);
    let clone = ticker.ticks().clone();
    assert!(clone.recv_timeout(PATIENCE).is_ok());
    assert!(clone.recv_timeout(PATIENCE).is_ok());
}

#[test]
fn clones_of_the_receiver_share_the_ticks() {
    let clock = Clock::manual();
    let ticker = started(&clock, secs(1), MissedTicks::Burst);
    let clones = [ticker.ticks().clone(), ticker.ticks().clone()];
    clock.advance(secs(100));
    let mut seen = HashSet::new();
    for n in 0..100 {
        assert!(
            seen.insert(clones[n % 2].try_recv().unwrap().scheduled),
            "delivered twice"
        );
    }
    assert_eq!(clones[0].try_recv(), Err(TryRecvError::Empty));
}

#[test]
fn two_who_stop_at_once_get_one_true() {
    for _ in 0..200 {
        let ticker = started(&Clock::system(), secs(3600), MissedTicks::Skip);
        let wins = thread::scope(|s| {
            let stops = [s.spawn(|| ticker.stop()), s.spawn(|| ticker.stop())];
            stops.map(|stop| stop.join().unwrap())
        });
        assert_ne!(wins[0], wins[1]);
    }
}

/// The loop's ticker goes with the loop, by whatever way it is left, and its thread with it.
#[test]
#[allow(clippy::never_loop, reason = "each leaves its loop on the first tick")]
fn every_way_out_of_a_loop_stops_the_ticker_and_its_thread() {
    type Leave = fn(&Clock) -> Result<(), std::num::ParseIntError>;
    let leave_by: [(&str, Leave); 4] = [
        ("break", |clock| {
            let ticker = started(clock, millis(1), MissedTicks::Skip);
            'beat: for _tick in &ticker {
                break 'beat;
            }
            Ok(())
        }),
        ("return", |clock| {
            let ticker = started(clock, millis(1), MissedTicks::Skip);
            'beat: loop {
                select! {
                    recv(ticker) -> _tick => return Ok(()),
                    default(PATIENCE) => break 'beat,
                }
            }
            panic!("no tick")
        }),
        ("?", |clock| {
            let ticker = started(clock, millis(1), MissedTicks::Skip);
            for _tick in &ticker {
                "x".parse::<i32>()?;
            }
            Ok(())
        }),
        ("panic", |clock| {
            let ticker = started(clock, millis(1), MissedTicks::Skip);
            for _tick in &ticker {
                std::panic::resume_unwind(Box::new("out"));
            }
            Ok(())
        }),
    ];
    for (way, leave) in leave_by {
        let clock = Clock::isolated();
        catch_unwind(AssertUnwindSafe(|| leave(&clock).ok())).ok();
        assert!(!clock.timer_runs(), "left by {way}");
    }
    // The counter-proof: a ticker that is kept keeps its thread.
    let clock = Clock::isolated();
    let kept = started(&clock, millis(1), MissedTicks::Skip);
    assert!(kept.recv_timeout(PATIENCE).is_ok() && clock.timer_runs());
}

#[test]
fn a_hook_may_stop_and_reset_tickers_of_its_clock() {
    in_time(|| {
        let clock = Clock::manual();
        let ticker = std::sync::Arc::new(started(&clock, secs(2), MissedTicks::Skip));
        let token = CancelToken::with_clock(&clock).child_timeout(secs(2));
        let (other, ticks) = (ticker.clone(), ticker.ticks().clone());
        token
            .on_cancel(move || other.reset(secs(10)).unwrap())
            .detach();
        clock.advance(secs(3));
        assert_eq!(taken(&ticker), [], "the reset at 2 took the tick of 2 away");
        clock.advance(secs(9));
        assert_eq!(taken(&ticker), [(12, 0)]);
        let token = CancelToken::with_clock(&clock).child_timeout(secs(1));
        token.on_cancel(move || assert!(ticker.stop())).detach();
        clock.advance(secs(1));
        assert_eq!(
            ticks.recv_timeout(PATIENCE),
            Err(RecvTimeoutError::Disconnected)
        );
    });
}
