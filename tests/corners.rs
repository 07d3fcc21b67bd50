//! Corners where two promises meet, and what the parts say of each other.
#![allow(clippy::disallowed_methods, reason = "threads of its own")]
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use anyhow::anyhow;
use cleanbreak::group::Straggler;
use cleanbreak::{
    CancelKind, CancelToken, Cause, Clock, GroupBuilder, SafeChannel, scope, threads,
};
use crossbeam_channel::{bounded, unbounded};
use support::in_time;

#[test]
fn all_returns_an_error_also_when_errors_are_collected() {
    let tasks = [|_: &CancelToken| -> anyhow::Result<()> { Err(anyhow!("boom")) }];
    let result = GroupBuilder::new()
        .collect_errors()
        .all(&CancelToken::new(), tasks);
    assert_eq!(result.unwrap_err().to_string(), "boom");
}

#[test]
fn all_and_first_success_resume_a_panic_also_when_panics_are_collected() {
    let tasks = || [|_: &CancelToken| -> anyhow::Result<()> { std::panic::panic_any("mine") }];
    let token = CancelToken::new();
    let group = GroupBuilder::new().collect_panics();
    let all = catch_unwind(AssertUnwindSafe(|| group.all(&token, tasks())));
    assert_eq!(*all.unwrap_err().downcast_ref::<&str>().unwrap(), "mine");
    let first = catch_unwind(AssertUnwindSafe(|| group.first_success(&token, tasks())));
    assert_eq!(*first.unwrap_err().downcast_ref::<&str>().unwrap(), "mine");
}

#[test]
fn who_loses_the_race_to_be_first_finds_the_group_cancelled() {
    in_time(|| {
        for _ in 0..5_000 {
            let gate = Barrier::new(2);
            let tasks = (0..2).map(|_| {
                |_: &CancelToken| -> anyhow::Result<()> {
                    gate.wait();
                    Err(anyhow!("one"))
                }
            });
            let error = GroupBuilder::new()
                .all(&CancelToken::new(), tasks)
                .unwrap_err();
            assert_eq!(error.to_string(), "one");
        }
    });
}

#[test]
fn a_break_that_comes_second_finds_the_group_cancelled() {
    in_time(|| {
        for _ in 0..5_000 {
            let gate = Barrier::new(2);
            let flow =
                GroupBuilder::new()
                    .breaks::<u32>()
                    .scope_flow(&CancelToken::new(), |group| {
                        for n in 0..2 {
                            let gate = &gate;
                            group.spawn(move |token| {
                                gate.wait();
                                if group.break_with(n).is_err() {
                                    assert!(token.is_cancelled());
                                }
                                Ok(())
                            })?;
                        }
                        Ok(())
                    });
            assert!(flow.unwrap().is_break());
        }
    });
}

fn stuck(run: fn(&GroupBuilder, &CancelToken, crossbeam_channel::Receiver<()>, &Barrier)) {
    in_time(move || {
        let clock = Clock::manual();
        let token = CancelToken::with_clock(&clock);
        let (tx, reports) = unbounded();
        let group = GroupBuilder::new()
            .straggler_after(Duration::from_secs(1))
            .on_straggler(move |s: &[Straggler]| tx.send(s.len()).unwrap());
        let (release, held) = bounded::<()>(0);
        let started = Barrier::new(2);
        thread::scope(|s| {
            s.spawn(|| run(&group, &token, held, &started));
            started.wait();
            token.cancel();
            let until = std::time::Instant::now() + Duration::from_secs(3);
            while clock.timers() == 0 && std::time::Instant::now() < until {
                thread::yield_now();
            }
            clock.advance(Duration::from_secs(1));
            let report = reports.recv_timeout(Duration::from_secs(1));
            drop(release);
            assert_eq!(report, Ok(1));
        });
    });
}

#[test]
fn all_reports_stragglers() {
    stuck(|group, token, held, started| {
        let task = |_: &CancelToken| {
            started.wait();
            held.recv().ok();
            Ok(())
        };
        group.all(token, [task]).ok();
    });
}

#[test]
fn first_success_reports_stragglers() {
    stuck(|group, token, held, started| {
        let task = |_: &CancelToken| {
            started.wait();
            held.recv().ok();
            Ok(())
        };
        group.first_success(token, [task]).ok();
    });
}

#[test]
fn collect_reports_stragglers() {
    stuck(|group, token, held, started| {
        let task = |_: &CancelToken| {
            started.wait();
            held.recv().ok();
            Ok(())
        };
        drop(group.collect(token, [task]));
    });
}

#[test]
fn a_body_that_joins_reports_stragglers() {
    stuck(|group, token, held, started| {
        group
            .scope(token, |group| {
                let task = group.spawn(|_| {
                    started.wait();
                    held.recv().ok();
                    Ok(())
                })?;
                Ok(task.join()?)
            })
            .ok();
    });
}

#[test]
fn the_error_of_an_anyhow_cause_is_found_by_its_type() {
    let error = anyhow::Error::from(std::io::Error::other("no route")).context("dialling");
    let cause = Cause::from(error);
    assert_eq!(cause.to_string(), "dialling");
    assert!(cause.downcast_ref::<std::io::Error>().is_some());
}

#[test]
fn a_source_deadline_that_passed_before_another_source_was_cancelled_is_reported() {
    let clock = Clock::manual();
    let service = CancelToken::with_clock(&clock);
    let second = Duration::from_secs(1);
    let trigger = CancelToken::with_clock(&clock).child_timeout(second);
    let client = CancelToken::with_clock(&clock).child_timeout(second);
    let call = CancelToken::linked(&[&service, &client]);
    trigger
        .on_cancel({
            let service = service.clone();
            move || {
                service.cancel();
            }
        })
        .detach();
    clock.advance(second);
    assert_eq!(call.kind(), Some(CancelKind::DeadlineExceeded));
}

#[test]
fn a_for_loop_over_a_receiver_shows_the_users_line() {
    let (tx, rx) = SafeChannel::bounded::<u8>(1);
    scope(&CancelToken::new(), |group| {
        group.spawn_named("looper", |_| {
            for _ in &rx {}
            Ok(())
        })?;
        support::until(|| {
            threads::live()
                .iter()
                .any(|t| t.name == "looper" && t.waiting.is_some())
        });
        let live = threads::live();
        let at = live
            .iter()
            .find(|t| t.name == "looper")
            .unwrap()
            .waiting
            .unwrap()
            .at;
        tx.close();
        assert_eq!(at.file(), file!());
        Ok(())
    })
    .unwrap();
}

#[test]
fn a_chain_says_each_thing_once() {
    let token = CancelToken::new();
    token.cancel_with("shutting down");
    let error = anyhow::Error::from(token.check().unwrap_err());
    assert_eq!(format!("{error:#}"), "cancelled: shutting down");
}

#[test]
fn stop_possible_of_a_diamond_chain_is_not_exponential() {
    in_time(|| {
        let mut token = CancelToken::new();
        for _ in 0..40 {
            token = CancelToken::linked(&[&token, &token]);
        }
        assert!(!token.stop_possible());
    });
}

#[test]
fn who_waits_for_a_nested_group_says_so() {
    let line = line!() + 4;
    scope(&CancelToken::new(), |group| {
        let (tx, rx) = bounded::<()>(0);
        group.spawn_named("outer", move |token| {
            scope(token, |inner| {
                inner.spawn(|_| Ok(rx.recv().unwrap_err()))?;
                Ok(())
            })
        })?;
        let wait = || {
            threads::live()
                .iter()
                .find(|t| t.name == "outer")
                .and_then(|t| t.waiting)
        };
        support::until(|| wait().is_some());
        let wait = wait().unwrap();
        drop(tx);
        assert_eq!((wait.at.file(), wait.at.line()), (file!(), line));
        Ok(())
    })
    .unwrap();
}
