//! How a supervisor ends: phases with deadlines, who is stuck, and no thread left (P3).

#![allow(
    clippy::disallowed_methods,
    reason = "threads that are not the library's own"
)]

mod support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Duration;

use anyhow::{bail, ensure};
use cleanbreak::backoff::Backoff;
use cleanbreak::supervise::{
    ChildEnd, ChildState, Event, Phase, Report, Restart, StopReason, Strategy,
};
use cleanbreak::{CancelKind, CancelToken, ChildSpec, Clock, ManualClock, Supervisor, threads};
use crossbeam_channel::{Receiver, Sender, bounded, unbounded};
use support::{count_the_end, dither, in_time, live_named, rng, secs, threads_named, until};

fn manual() -> (ManualClock, CancelToken) {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    (clock, token)
}

fn stay(name: &str) -> ChildSpec {
    ChildSpec::new(name, |cx| {
        cx.ready();
        cx.token().wait();
        Ok(())
    })
}

/// Writes its name down when it is told to stop, and stops when the sender is dropped.
fn slow(name: &'static str, told: &Told) -> (ChildSpec, Sender<()>) {
    let (release, held) = bounded::<()>(0);
    let told = told.clone();
    let child = ChildSpec::new(name, move |cx| {
        cx.ready();
        cx.token().wait();
        told.lock().unwrap().push(name);
        let _wait = threads::waiting_on("flush");
        held.recv().unwrap_err();
        Ok(())
    });
    (child, release)
}

type Told = Arc<Mutex<Vec<&'static str>>>;

/// Ignores its token until the sender is dropped.
fn deaf(name: &str) -> (ChildSpec, Sender<()>) {
    let (release, held) = bounded::<()>(0);
    let child = ChildSpec::new(name, move |cx| {
        cx.ready();
        let _wait = threads::waiting_on("hear nothing");
        held.recv().unwrap_err();
        Ok(())
    });
    (child, release)
}

/// Reports of stuck children only.
fn stuck_events() -> (impl Fn(&Event) + Send + Sync + 'static, Receiver<String>) {
    let (tx, events) = unbounded();
    let listener = move |event: &Event| {
        if let Event::Stuck { .. } = event {
            tx.send(event.to_string()).ok();
        }
    };
    (listener, events)
}

fn phases(report: &Report) -> Vec<(&str, u64, String)> {
    let phases = report.phases.iter();
    phases
        .map(|phase| {
            (
                phase.name.as_str(),
                phase.took.as_secs(),
                phase.late.join(","),
            )
        })
        .collect()
}

#[test]
fn phases_stop_in_reverse_and_the_next_goes_on_when_one_is_late() {
    in_time(|| {
        let (clock, token) = manual();
        let told = Told::default();
        let (base, end_base) = slow("sp base", &told);
        let (left, end_left) = slow("sp left", &told);
        let (right, end_right) = slow("sp right", &told);
        let (top, end_top) = slow("sp top", &told);
        let workers = Phase::new("workers").stop_timeout(secs(20));
        let (listener, stuck) = stuck_events();
        let supervisor = Supervisor::builder()
            .name("sp itself")
            .stop_timeout(secs(60))
            .on_event(listener)
            .child(base)
            .phase(workers.child(left).child(right))
            .child(top)
            .start(&token)
            .unwrap();
        thread::scope(|s| {
            let stop = s.spawn(|| supervisor.shutdown());
            let names = || told.lock().unwrap().clone();
            until(|| names().len() == 1);
            clock.await_timers(1);
            clock.advance(secs(3));
            assert_eq!(names(), ["sp top"]);
            drop(end_top);
            until(|| names().len() == 3); // both workers at once
            assert!(!names().contains(&"sp base"));
            drop(end_left);
            until(|| live_named("sp left") == 0);
            clock.await_timers(1);
            clock.advance(secs(20)); // right is late
            until(|| names().len() == 4);
            drop(end_base);
            let report = stop.join().unwrap();
            let expected = [
                ("sp top", 3, ""),
                ("workers", 20, "sp right"),
                ("sp base", 0, ""),
            ];
            let expected = expected.map(|(name, took, late)| (name, took, late.to_owned()));
            assert_eq!(phases(&report), expected);

            let right = report.stuck().next().unwrap();
            assert_eq!(
                (right.name.as_str(), right.phase.as_str()),
                ("sp right", "workers")
            );
            assert_eq!(right.waiting.unwrap().on, "flush");
            assert!(right.spawned_at.file().ends_with("supervise_shutdown.rs"));
            let words = stuck.recv().unwrap();
            assert!(words.starts_with("\"sp right\" still runs 20.0 s after it was told to stop"));
            assert!(
                words.contains("supervise_shutdown.rs:") && words.contains("to flush"),
                "{words}"
            );
            let others = ["sp top", "sp left", "sp base"];
            assert!(others.iter().all(|name| live_named(name) == 0));
        });
        // The drop waits for the last, and says so again.
        assert_eq!(live_named("sp right"), 1);
        let dropped = thread::spawn(move || drop(supervisor));
        clock.await_timers(1);
        clock.advance(secs(20));
        assert!(stuck.recv().unwrap().contains("40.0 s after"));
        assert!(!dropped.is_finished());
        drop(end_right);
        dropped.join().unwrap();
        assert_eq!(live_named("sp right") + live_named("sp itself"), 0);
    });
}

#[test]
fn a_cancelled_parent_stops_phase_by_phase_with_its_kind_and_cause() {
    in_time(|| {
        let (clock, root) = manual();
        let token = root.child_timeout(secs(7));
        let told = Told::default();
        let (first, end_first) = slow("first", &told);
        let (last, end_last) = slow("last", &told);
        let supervisor = Supervisor::builder()
            .child(first)
            .child(last)
            .start(&token)
            .unwrap();
        clock.await_timers(1);
        clock.advance(secs(7));
        until(|| told.lock().unwrap().len() == 1);
        let report = supervisor.report();
        assert!(matches!(
            report.child("first").unwrap().state,
            ChildState::Running
        ));
        assert!(matches!(
            report.child("last").unwrap().state,
            ChildState::Stopping
        ));
        drop(end_last);
        until(|| *told.lock().unwrap() == ["last", "first"]);
        drop(end_first);
        let report = supervisor.wait();
        for child in &report.children {
            match child.state.end().unwrap() {
                ChildEnd::Cancelled(cancelled) => {
                    assert_eq!(cancelled.kind(), CancelKind::DeadlineExceeded);
                }
                other => panic!("{other}"),
            }
        }
        match report.reason {
            Some(StopReason::Cancelled(cancelled)) => assert!(cancelled.is_deadline()),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn what_fails_while_it_stops_is_reported_as_failed() {
    in_time(|| {
        let lossy = ChildSpec::new("lossy", |cx| -> anyhow::Result<()> {
            cx.ready();
            cx.token().wait();
            bail!("could not flush")
        });
        let polite = ChildSpec::new("polite", |cx| {
            cx.ready();
            cx.token().wait();
            Ok(cx.token().check()?)
        });
        let supervisor = Supervisor::builder()
            .child(lossy)
            .child(polite)
            .start(&CancelToken::new());
        let report = supervisor.unwrap().shutdown();
        let ends: Vec<_> = report
            .children
            .iter()
            .map(|child| child.state.to_string())
            .collect();
        let shut_down = "cancelled: supervisor \"supervisor\" shut down";
        assert_eq!(ends, ["failed: could not flush", shut_down]);
        assert!(report.children.iter().all(|child| child.restarts == 0));
    });
}

/// Leaves a supervisor, with one child that runs and one that backs off, in one of many ways.
fn leave(way: usize, supervisor: Supervisor, token: &CancelToken) {
    match way {
        0 => drop(supervisor),
        1 => drop(supervisor.shutdown()),
        2 => {
            token.cancel();
            supervisor.wait();
        }
        3 => drop(supervisor.token().cancel_with("by its own")),
        4 => drop(supervisor.stop_child("sw runs")),
        5 => drop(supervisor.remove_child("sw fails")),
        6 => drop(supervisor.restart_child("sw runs")),
        _ => panic!("with a supervisor in scope"),
    }
}

#[test]
fn no_thread_is_left_by_any_way_out() {
    in_time(|| {
        for way in (0..8).cycle().take(80) {
            let token = CancelToken::new();
            let fails = ChildSpec::new("sw fails", |cx| -> anyhow::Result<()> {
                cx.ready();
                bail!("again")
            });
            let builder = Supervisor::builder().name("sw itself").on_event(|_| {});
            let builder = builder.backoff(Backoff::constant(secs(3600)));
            let supervisor = builder
                .child(stay("sw runs"))
                .child(fails)
                .start(&token)
                .unwrap();
            until(|| {
                let report = supervisor.report();
                let fails = &report.child("sw fails").unwrap().state;
                matches!(fails, ChildState::BackingOff(_))
            });
            let left = thread::spawn(move || leave(way, supervisor, &token)).join();
            assert_eq!(left.is_err(), way == 7);
            assert_eq!(live_named("sw runs") + live_named("sw itself"), 0);
        }
        // The kernel takes a thread out of its list a moment after it was joined.
        until(|| threads_named("sw ") == 0);
    });
}

#[test]
fn a_child_that_ignores_its_token_would_be_seen_by_these_tests() {
    in_time(|| {
        let (child, release) = deaf("sd deaf");
        let builder = Supervisor::builder()
            .stop_timeout(Duration::ZERO)
            .on_event(|_| {});
        let supervisor = builder.child(child).start(&CancelToken::new()).unwrap();
        let report = supervisor.shutdown(); // does not wait at all
        assert_eq!(report.stuck().count(), 1);
        assert_eq!((live_named("sd deaf"), threads_named("sd deaf")), (1, 1));
        drop(release);
        until(|| supervisor.report().stuck().count() == 0);
        let report = supervisor.shutdown(); // joins
        assert!(
            report
                .child("sd deaf")
                .unwrap()
                .state
                .end()
                .unwrap()
                .is_cancelled()
        );
        assert_eq!(live_named("sd deaf"), 0);
    });
}

#[test]
fn thread_local_destructors_have_run_when_a_shutdown_or_a_drop_returns_or_the_end_is_told() {
    static ENDED: AtomicUsize = AtomicUsize::new(0);
    in_time(|| {
        for round in 0..21 {
            let child = ChildSpec::new("sl", |cx| {
                count_the_end(&ENDED, None);
                cx.ready();
                cx.token().wait();
                Ok(())
            });
            let supervisor = Supervisor::builder()
                .child(child)
                .start(&CancelToken::new());
            let supervisor = supervisor.unwrap();
            match round % 3 {
                0 => drop(supervisor),
                1 => {
                    supervisor.token().cancel();
                    supervisor.ended().recv().unwrap_err();
                    assert_eq!(ENDED.load(Ordering::SeqCst), round + 1);
                }
                // Of two at once, neither returns before.
                _ => thread::scope(|s| {
                    for _ in 0..2 {
                        s.spawn(|| {
                            supervisor.shutdown();
                            assert_eq!(ENDED.load(Ordering::SeqCst), round + 1);
                        });
                    }
                }),
            }
            assert_eq!(ENDED.load(Ordering::SeqCst), round + 1);
        }
    });
}

#[test]
fn a_start_whose_child_is_stuck_returns_and_names_it() {
    in_time(|| {
        let (release, held) = bounded::<()>(0);
        let deaf = ChildSpec::new("ss deaf", move |_| {
            held.recv().unwrap_err();
            Ok(())
        });
        let (clock, token) = manual();
        let builder = Supervisor::builder().name("ss itself").on_event(|_| {});
        let builder = builder.child(stay("ss before")).child(deaf);
        thread::scope(|s| {
            let starter = s.spawn(|| builder.start(&token));
            until(|| live_named("ss deaf") == 1);
            clock.await_timers(1);
            clock.advance(secs(30)); // to be ready
            until(|| clock.next_deadline() == clock.now().checked_add(secs(5)));
            clock.advance(secs(5)); // to stop
            let error = starter.join().unwrap().unwrap_err();
            let words = "child \"ss deaf\" did not start: was not ready within 30.0 s; \"ss deaf\" \
                         still runs 5.0 s after it was told to stop";
            assert!(error.to_string().starts_with(words), "{error}");
        });
        assert_eq!((live_named("ss before"), live_named("ss deaf")), (0, 1));
        drop(release);
        until(|| live_named("ss deaf") + live_named("ss itself") == 0);
    });
}

#[test]
fn a_child_stops_its_supervisor_and_itself_with_it() {
    in_time(|| {
        let (go, wait) = bounded::<()>(0);
        let ends = ChildSpec::new("ends", move |cx| {
            cx.ready();
            wait.recv().unwrap_err();
            cx.supervisor().cancel_with("had enough");
            cx.token().wait(); // in its turn
            Ok(())
        });
        let builder = Supervisor::builder().child(ends).child(stay("other"));
        let supervisor = builder.start(&CancelToken::new()).unwrap();
        drop(go);
        let report = supervisor.wait();
        assert_eq!(phases(&report).len(), 2);
        let all = report
            .children
            .iter()
            .all(|child| child.state.to_string() == "cancelled: had enough");
        assert!(all, "{report}");
    });
}

#[test]
fn a_shutdown_and_a_drop_from_within_a_child_wait_for_nothing() {
    in_time(|| {
        for round in 0..20 {
            let (give, take) = bounded::<Arc<Supervisor>>(1);
            let (tx, rx) = bounded(1);
            let last = ChildSpec::new("si last", move |cx| {
                cx.ready();
                let supervisor = take.recv()?;
                if round % 2 == 0 {
                    tx.send(supervisor.shutdown().reason.is_some())?;
                }
                until(|| Arc::strong_count(&supervisor) == 1);
                drop(supervisor);
                tx.send(cx.supervisor().is_cancelled())?;
                Ok(())
            });
            let builder = Supervisor::builder()
                .name("si itself")
                .child(stay("si other"));
            let supervisor = Arc::new(builder.child(last).start(&CancelToken::new()).unwrap());
            give.send(supervisor.clone()).unwrap();
            if round % 2 == 0 {
                rx.recv().unwrap();
            }
            drop(supervisor);
            assert!(rx.recv().unwrap());
            until(|| {
                ["si itself", "si other", "si last"]
                    .iter()
                    .all(|name| live_named(name) == 0)
            });
        }
        until(|| threads_named("si ") == 0);
    });
}

#[test]
fn a_supervisor_below_a_supervisor_gives_up_to_it_and_stops_before_it() {
    in_time(|| {
        let (tx, events) = unbounded();
        let above_events = tx.clone();
        let fail = Arc::new(AtomicBool::new(false));
        let fails = fail.clone();
        let inner = ChildSpec::new("inner", move |cx| {
            let fails = fails.clone();
            let leaf = ChildSpec::new("leaf", move |cx| {
                cx.ready();
                until(|| cx.token().is_cancelled() || fails.load(Ordering::SeqCst));
                ensure!(!fails.swap(false, Ordering::SeqCst), "disk full");
                Ok(())
            });
            let told = tx.clone();
            let below = Supervisor::builder()
                .name("below")
                .intensity(0, secs(1))
                .on_event(move |event| {
                    if let Event::Ended { child, .. } = event {
                        told.send(child.clone()).ok();
                    }
                })
                .child(leaf)
                .start(cx.token())?;
            cx.ready();
            Ok(below.wait().check()?)
        });
        let above = Supervisor::builder()
            .backoff(Backoff::constant(Duration::ZERO))
            .on_event(move |event| {
                if let Event::Ended { child, end } = event {
                    above_events.send(format!("{child} {end}")).ok();
                }
            })
            .child(inner)
            .start(&CancelToken::new())
            .unwrap();
        fail.store(true, Ordering::SeqCst);
        assert_eq!(events.recv().unwrap(), "leaf");
        let gave_up =
            "supervisor \"below\" gave up after 0 restarts in 1.0 s: \"leaf\" failed: disk full";
        assert_eq!(events.recv().unwrap(), format!("inner failed: {gave_up}"));
        until(|| {
            let report = above.report();
            let inner = report.child("inner").unwrap();
            inner.restarts == 1 && matches!(inner.state, ChildState::Running)
        });
        let report = above.shutdown();
        assert_eq!(events.recv().unwrap(), "leaf");
        assert!(
            report
                .child("inner")
                .unwrap()
                .state
                .end()
                .unwrap()
                .is_cancelled(),
            "{report}"
        );
        assert_eq!(
            live_named("leaf") + live_named("below") + live_named("inner"),
            0
        );
    });
}

#[test]
fn a_call_that_waits_when_the_stop_begins_is_answered() {
    in_time(|| {
        let (deaf, release) = deaf("sc deaf");
        let (clock, token) = manual();
        let builder = Supervisor::builder().on_event(|_| {});
        let supervisor = builder.child(deaf).start(&token).unwrap();
        thread::scope(|s| {
            let stop = s.spawn(|| supervisor.stop_child("sc deaf"));
            until(|| matches!(supervisor.children()[0].state, ChildState::Stopping));
            supervisor.token().cancel();
            assert!(stop.join().unwrap().unwrap_err().is_closed());
            clock.await_timers(1);
            drop(release);
        });
    });
}

/// Runs of one child never overlap, everything asked is answered, and nothing is left, whatever
/// happens at the same time.
#[test]
fn a_storm_of_failures_and_calls_leaves_nothing_behind() {
    const CHILDREN: usize = 4;
    in_time(|| {
        let mut seeds = rng("a storm");
        let strategies = [
            Strategy::OneForOne,
            Strategy::OneForAll,
            Strategy::RestForOne,
        ];
        let policies = [Restart::Permanent, Restart::Transient, Restart::Temporary];
        for round in 0..30 {
            let (runs, overlaps) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
            let child = |n: usize, mut rng: fastrand::Rng| {
                let (runs, overlaps) = (runs.clone(), overlaps.clone());
                let runs_now = Arc::new(AtomicUsize::new(0));
                let seed = rng.u64(..);
                ChildSpec::new(&format!("st {n}"), move |cx| {
                    overlaps.fetch_add(runs_now.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
                    let _one_less = scopeguard::guard(runs_now.clone(), |now| {
                        now.fetch_sub(1, Ordering::SeqCst);
                    });
                    runs.fetch_add(1, Ordering::SeqCst);
                    let mut rng = fastrand::Rng::with_seed(seed ^ cx.restarts());
                    cx.ready();
                    cx.token()
                        .wait_timeout(Duration::from_micros(rng.u64(0..2000)));
                    match rng.u32(0..8) {
                        0 => bail!("failed"),
                        1 => std::panic::resume_unwind(Box::new("bug")),
                        2 => Ok(()),
                        3 => {
                            cx.token().cancel();
                            Ok(())
                        }
                        _ => {
                            cx.token().wait();
                            Ok(())
                        }
                    }
                })
                .restart(policies[rng.usize(0..3)])
            };
            let mut builder = Supervisor::builder()
                .name("st itself")
                .strategy(strategies[round % 3])
                .intensity(usize::MAX, secs(1))
                .backoff(Backoff::constant(Duration::from_micros(seeds.u64(0..200))))
                .on_event(|_| {});
            for n in 0..CHILDREN {
                builder = builder.child(child(n, seeds.fork()));
            }
            let supervisor = builder.start(&CancelToken::new()).unwrap();
            thread::scope(|s| {
                for caller in 0..2 {
                    let (mut rng, supervisor, child) = (seeds.fork(), &supervisor, &child);
                    s.spawn(move || {
                        for call in 0..20 {
                            let name = format!("st {}", rng.usize(0..CHILDREN + 1));
                            match rng.u32(0..4) {
                                0 => drop(supervisor.stop_child(&name)),
                                1 => drop(supervisor.restart_child(&name)),
                                2 => drop(supervisor.remove_child(&name)),
                                _ => drop(
                                    supervisor.add(child(100 + caller * 100 + call, rng.fork())),
                                ),
                            }
                            dither(&mut rng, 1000);
                        }
                    });
                }
            });
            let report = supervisor.shutdown();
            let ended = report
                .children
                .iter()
                .all(|child| child.state.end().is_some());
            assert!(ended && report.stuck().count() == 0, "{report}");
            assert_eq!(overlaps.load(Ordering::SeqCst), 0);
            assert!(runs.load(Ordering::SeqCst) >= CHILDREN);
            assert_eq!(
                threads::live()
                    .iter()
                    .filter(|t| t.name.starts_with("st "))
                    .count(),
                0
            );
        }
        until(|| threads_named("st ") == 0);
    });
}
