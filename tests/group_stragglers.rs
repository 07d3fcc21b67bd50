//! Stragglers: tasks that run on after the cancellation, and who hears of them (G6).

#![allow(
    clippy::disallowed_methods,
    reason = "a thread that is not the library's own moves the clock"
)]

mod support;

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use cleanbreak::group::Straggler;
use cleanbreak::{CancelToken, Clock, GroupBuilder, ManualClock, threads};
use crossbeam_channel::{Receiver, bounded, unbounded};
use support::{child_passes, in_time, is_child, until};

const SECOND: Duration = Duration::from_secs(1);

/// A group on a manual clock with reports on a channel.
fn watched(patience: Duration) -> (ManualClock, GroupBuilder, Receiver<Vec<Straggler>>) {
    let (tx, reports) = unbounded();
    let report = move |stragglers: &[Straggler]| tx.send(stragglers.to_vec()).unwrap();
    let group = GroupBuilder::new()
        .straggler_after(patience)
        .on_straggler(report);
    (Clock::manual(), group, reports)
}

#[test]
fn a_straggler_is_reported_with_name_line_and_wait_again_after_twice_the_time() {
    in_time(|| {
        let (clock, group, reports) = watched(2 * SECOND);
        let token = CancelToken::with_clock(&clock);
        let (release, held) = bounded::<()>(0);
        let (waits, started) = (Barrier::new(2), Barrier::new(2));
        let line = line!() + 5;
        thread::scope(|s| {
            s.spawn(|| {
                group
                    .scope(&token, |group| {
                        group.spawn_named("stubborn", |_| {
                            let _wait = threads::waiting_on("get what never comes");
                            waits.wait();
                            Ok(held.recv().unwrap_err())
                        })?;
                        group.spawn_named("obedient", |token| {
                            started.wait();
                            Ok(token.wait())
                        })?;
                        Ok(())
                    })
                    .unwrap();
            });
            waits.wait();
            started.wait();
            token.cancel();
            clock.await_timers(1);
            until(|| support::live_named("obedient") == 0);
            clock.advance(2 * SECOND - Duration::from_nanos(1));
            assert!(reports.is_empty());
            clock.advance(Duration::from_nanos(1));
            let report = reports.recv().unwrap();
            assert_eq!(report.len(), 1);
            let straggler = &report[0];
            assert_eq!(straggler.name, "stubborn");
            assert_eq!(straggler.overdue, 2 * SECOND);
            let site = straggler.spawned_at;
            assert_eq!((site.file(), site.line()), (file!(), line));
            let wait = straggler.waiting.unwrap();
            assert_eq!(wait.on, "get what never comes");
            assert_eq!((wait.at.file(), wait.at.line()), (file!(), line + 1));
            let said = straggler.to_string();
            let begins = "task \"stubborn\" still runs 2.0 s after its group was cancelled";
            assert!(said.starts_with(begins), "{said}");

            clock.await_timers(1);
            clock.advance(2 * SECOND);
            assert_eq!(reports.recv().unwrap()[0].overdue, 4 * SECOND);
            // A clock that leaps over several doublings is no burst of like reports.
            clock.await_timers(1);
            clock.advance(100 * SECOND);
            let next = || clock.next_deadline().map(|next| next.as_nanos());
            until(|| next() == Some(128_000_000_000));
            let overdue: Vec<_> = reports.try_iter().map(|report| report[0].overdue).collect();
            assert!(!overdue.is_empty());
            assert!(overdue.is_sorted_by(|a, b| a < b), "{overdue:?}");
            drop(release);
        });
        assert_eq!(clock.timers(), 0);
        assert!(reports.is_empty());
    });
}

#[test]
fn nobody_is_reported_before_the_cancellation_or_with_endless_patience() {
    in_time(|| {
        let (clock, group, reports) = watched(SECOND);
        let token = CancelToken::with_clock(&clock);
        let result = group.scope(&token, |group| {
            let (tx, rx) = bounded::<()>(0);
            group.spawn(move |_| Ok(rx.recv().unwrap_err()))?;
            clock.advance(1000 * SECOND);
            Ok(drop(tx))
        });
        result.unwrap();
        let forever = group.straggler_after(Duration::MAX);
        let (release, held) = bounded::<()>(0);
        let started = Barrier::new(2);
        thread::scope(|s| {
            s.spawn(|| {
                let result = forever.scope(&token, |group| {
                    group.spawn(|token| {
                        started.wait();
                        token.wait();
                        Ok(held.recv().unwrap_err())
                    })?;
                    Ok(())
                });
                result.unwrap();
            });
            started.wait();
            token.cancel();
            clock.advance(1000 * SECOND);
            drop(release);
        });
        assert!(reports.is_empty());
    });
}

#[test]
fn no_patience_at_all_is_no_flood_of_reports() {
    in_time(|| {
        let (clock, group, reports) = watched(Duration::ZERO);
        let token = CancelToken::with_clock(&clock);
        let (release, held) = bounded::<()>(0);
        let started = Barrier::new(2);
        thread::scope(|s| {
            s.spawn(|| {
                let result = group.scope(&token, |group| {
                    group.spawn(|_| {
                        started.wait();
                        Ok(held.recv().unwrap_err())
                    })?;
                    Ok(())
                });
                result.unwrap();
            });
            started.wait();
            token.cancel();
            assert_eq!(reports.recv().unwrap()[0].overdue, Duration::ZERO);
            clock.await_timers(1);
            assert!(reports.is_empty());
            drop(release);
        });
    });
}

#[test]
fn a_report_that_panics_is_contained() {
    in_time(|| {
        let clock = Clock::manual();
        let token = CancelToken::with_clock(&clock);
        let (called, calls) = unbounded();
        let group = GroupBuilder::new().straggler_after(SECOND);
        let group = group.on_straggler(move |_| {
            called.send(()).unwrap();
            panic!("in the report")
        });
        let (release, held) = bounded::<()>(0);
        let started = Barrier::new(2);
        thread::scope(|s| {
            let scope = s.spawn(|| {
                group.scope(&token, |group| {
                    group.spawn(|_| {
                        started.wait();
                        Ok(held.recv().unwrap_err())
                    })?;
                    Ok("unharmed")
                })
            });
            started.wait();
            token.cancel();
            for after in [1, 1] {
                clock.await_timers(1);
                clock.advance(after * SECOND);
                calls.recv().unwrap();
            }
            drop(release);
            assert_eq!(scope.join().unwrap().unwrap(), "unharmed");
        });
    });
}

#[test]
fn without_a_handler_stragglers_are_printed_to_standard_error() {
    let name = "without_a_handler_stragglers_are_printed_to_standard_error";
    if !is_child() {
        let output = child_passes(name, "");
        let said = String::from_utf8(output.stderr).unwrap();
        let line = said.lines().find(|line| line.starts_with("cleanbreak: "));
        let line = line.unwrap_or_else(|| panic!("{said}"));
        let begins = "cleanbreak: task \"deaf\" still runs 3.0 s after its group was cancelled";
        assert!(line.starts_with(begins), "{line}");
        assert!(
            line.contains("spawned at tests/group_stragglers.rs:"),
            "{line}"
        );
        assert!(line.contains("to read a broken disk at"), "{line}");
        return;
    }
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    let (release, held) = bounded::<()>(0);
    let started = Barrier::new(2);
    thread::scope(|s| {
        s.spawn(|| {
            let group = GroupBuilder::new().straggler_after(3 * SECOND);
            let result = group.scope(&token, |group| {
                group.spawn_named("deaf", |_| {
                    let _wait = threads::waiting_on("read a broken disk");
                    started.wait();
                    Ok(held.recv().unwrap_err())
                })?;
                Ok(())
            });
            result.unwrap();
        });
        started.wait();
        token.cancel();
        clock.await_timers(1);
        clock.advance(3 * SECOND);
        clock.await_timers(1); // for the next: the first has been printed
        drop(release);
    });
}
