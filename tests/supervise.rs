//! Supervised loops: who is restarted, when, and what can be asked of a supervisor (P3).

#![allow(
    clippy::disallowed_methods,
    reason = "threads that are not the library's own"
)]

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, Weak};
use std::thread;
use std::time::Duration;

use anyhow::bail;
use cleanbreak::backoff::Backoff;
use cleanbreak::supervise::{
    ChildEnd, ChildErrorKind, ChildInfo, ChildState, Context, Event, Restart, StartErrorKind,
    StopReason, Strategy, SupervisorBuilder,
};
use cleanbreak::{CancelKind, CancelToken, ChildSpec, Clock, ManualClock, Supervisor, scope};
use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};
use support::{in_time, live_named, secs, until, until_waiting};

/// A supervisor whose events come on a channel, in words. Constant delays of ten seconds.
fn builder() -> (SupervisorBuilder, Receiver<String>) {
    let (tx, events) = unbounded();
    let builder = Supervisor::builder()
        .backoff(Backoff::constant(secs(10)))
        .on_event(move |event| drop(tx.send(event.to_string())));
    (builder, events)
}

fn manual() -> (ManualClock, CancelToken) {
    let clock = Clock::manual();
    let token = CancelToken::with_clock(&clock);
    (clock, token)
}

/// Does what it is told until it is to stop.
fn obedient(name: &str) -> (ChildSpec, Sender<&'static str>) {
    let (tx, orders) = unbounded();
    let body = move |cx: &Context| {
        cx.ready();
        select! {
            recv(cx.token().done()) -> _ => Ok(()),
            recv(orders) -> order => obey(cx, order?),
        }
    };
    (ChildSpec::new(name, body), tx)
}

fn obey(cx: &Context, order: &str) -> anyhow::Result<()> {
    match order {
        "return" => Ok(()),
        "fail" => bail!("disk full"),
        "panic" => std::panic::resume_unwind(Box::new("bug")),
        "say cancelled" => {
            let other = CancelToken::new();
            other.cancel_with("somebody else's");
            Ok(other.check()?)
        }
        "cancel and return" => {
            cx.token().cancel_with("enough");
            Ok(())
        }
        "cancel and fail" => {
            cx.token().cancel();
            bail!("disk full")
        }
        "cancel and panic" => {
            cx.token().cancel();
            std::panic::resume_unwind(Box::new("bug"))
        }
        other => panic!("no such order: {other}"),
    }
}

fn stay(name: &str) -> ChildSpec {
    ChildSpec::new(name, |cx| {
        cx.ready();
        cx.token().wait();
        Ok(())
    })
}

/// Never says that it is ready.
fn mute(name: &str) -> ChildSpec {
    ChildSpec::new(name, |cx| {
        cx.token().wait();
        Ok(())
    })
}

type Body = fn(&Context) -> anyhow::Result<()>;

fn state_of(supervisor: &Supervisor, name: &str) -> ChildInfo {
    supervisor.report().child(name).unwrap().clone()
}

fn expect(events: &Receiver<String>, expected: &[&str]) {
    for expected in expected {
        assert_eq!(&events.recv().unwrap(), expected);
    }
}

/// Panics when it is dropped.
#[derive(Debug)]
struct Bomb;

impl Drop for Bomb {
    fn drop(&mut self) {
        std::panic::resume_unwind(Box::new("in a destructor"));
    }
}

#[test]
fn a_loop_that_fails_is_started_again_after_its_delay() {
    in_time(|| {
        let (clock, token) = manual();
        let (builder, events) = builder();
        let (child, orders) = obedient("a");
        let supervisor = builder.child(child).start(&token).unwrap();
        assert!(matches!(
            state_of(&supervisor, "a").state,
            ChildState::Running
        ));
        for restart in 1..=2 {
            orders.send("fail").unwrap();
            events
                .iter()
                .find(|event| event.contains("restarted after 10.0s"));
            clock.await_timers(1); // it backs off
            let until = clock.now().checked_add(secs(10));
            match state_of(&supervisor, "a").state {
                ChildState::BackingOff(at) => assert_eq!(at, until),
                other => panic!("{other}"),
            }
            clock.advance(secs(9));
            assert_eq!(state_of(&supervisor, "a").restarts, restart - 1);
            assert_eq!(clock.next_deadline(), until);
            clock.advance(secs(1));
            events.iter().find(|event| event == "\"a\" is ready");
            let info = state_of(&supervisor, "a");
            assert_eq!(info.restarts, restart);
            assert_eq!(info.last_end.unwrap().to_string(), "failed: disk full");
        }
    });
}

#[test]
fn what_decides_is_the_token_and_not_what_was_returned() {
    let restarts = |order: &'static str| {
        let (child, orders) = obedient("a");
        let (tx, ends) = unbounded();
        let supervisor = Supervisor::builder()
            .backoff(Backoff::constant(Duration::ZERO))
            .on_event(move |event| match event {
                Event::Ended { .. } => drop(tx.send("ended")),
                Event::Ready { .. } => drop(tx.send("ready")),
                _ => {}
            })
            .child(child)
            .start(&CancelToken::new())
            .unwrap();
        assert_eq!(ends.recv().unwrap(), "ready");
        orders.send(order).unwrap();
        assert_eq!(ends.recv().unwrap(), "ended");
        let end = state_of(&supervisor, "a").last_end.unwrap().to_string();
        // Once this is answered, a restart would have been begun.
        let late = supervisor.add(stay("late"));
        late.unwrap();
        let restarts = state_of(&supervisor, "a").restarts;
        (restarts, end)
    };
    in_time(move || {
        let table = [
            ("return", 1, "returned"),
            ("fail", 1, "failed: disk full"),
            ("panic", 1, "panicked: bug"),
            ("say cancelled", 1, "failed: cancelled: somebody else's"),
            ("cancel and return", 0, "cancelled: enough"),
            ("cancel and fail", 0, "failed: disk full"),
            ("cancel and panic", 0, "panicked: bug"),
        ];
        for (order, expected, end) in table {
            assert_eq!(restarts(order), (expected, end.to_owned()), "{order}");
        }
    });
}

#[test]
fn the_payload_of_a_panic_is_kept_for_the_first_who_takes_it() {
    in_time(|| {
        let child = ChildSpec::new("a", |cx| -> anyhow::Result<()> {
            cx.ready();
            std::panic::resume_unwind(Box::new(7_u8))
        });
        let child = child.restart(Restart::Temporary);
        let supervisor = Supervisor::builder()
            .child(child)
            .start(&CancelToken::new());
        let supervisor = supervisor.unwrap();
        until(|| state_of(&supervisor, "a").state.end().is_some());
        let report = supervisor.shutdown();
        let end = report.child("a").unwrap().state.end().unwrap();
        let panic = end.panic().unwrap();
        assert_eq!(
            (panic.message(), end.to_string().as_str()),
            (None, "panicked")
        );
        assert_eq!(*panic.take_payload().unwrap().downcast::<u8>().unwrap(), 7);
        assert!(panic.take_payload().is_none());
    });
}

#[test]
fn an_error_is_kept_with_its_type() {
    in_time(|| {
        let child = ChildSpec::new("a", |cx| -> anyhow::Result<()> {
            cx.ready();
            Err(std::io::Error::other("no route"))?
        });
        let child = child.restart(Restart::Temporary);
        let supervisor = Supervisor::builder()
            .child(child)
            .start(&CancelToken::new());
        let supervisor = supervisor.unwrap();
        until(|| state_of(&supervisor, "a").state.end().is_some());
        let end = state_of(&supervisor, "a").last_end.unwrap();
        assert!(end.is_failure() && !end.is_cancelled());
        assert!(end.error().unwrap().is::<std::io::Error>());
    });
}

#[test]
fn a_child_starts_when_the_one_before_is_ready_and_start_returns_when_all_are() {
    in_time(|| {
        let (builder, events) = builder();
        let (go, wait) = bounded::<()>(0);
        let slow = ChildSpec::new("slow", move |cx| {
            wait.recv()?;
            cx.ready();
            cx.ready(); // once is enough
            cx.token().wait();
            Ok(())
        });
        let builder = builder.child(slow).child(stay("so next"));
        thread::scope(|s| {
            let starter = s.spawn(|| builder.start(&CancelToken::new()));
            expect(&events, &["\"slow\" started"]);
            assert_eq!(live_named("so next"), 0);
            assert!(events.is_empty() && !starter.is_finished());
            go.send(()).unwrap();
            expect(&events, &["\"slow\" is ready", "\"so next\" started"]);
            let supervisor = starter.join().unwrap().unwrap();
            expect(&events, &["\"so next\" is ready"]);
            assert!(events.is_empty());
            drop(supervisor);
        });
    });
}

#[test]
fn a_start_that_fails_stops_those_before_in_reverse_joins_them_and_says_why() {
    let failing = |body: Body, name: &str| {
        let (builder, events) = builder();
        let builder = builder.name("sf itself");
        let builder = builder.child(stay("sf one")).child(stay("sf two"));
        let builder = builder
            .child(ChildSpec::new(name, body))
            .child(stay("sf never"));
        let error = builder.start(&CancelToken::new()).unwrap_err();
        assert!(
            ["sf one", "sf two", name]
                .iter()
                .all(|name| live_named(name) == 0)
        );
        assert_eq!(live_named("sf itself"), 0);
        let ended = events.try_iter().filter(|event| event.contains("ended"));
        let ended: Vec<_> = ended
            .map(|event| event.split('"').nth(1).unwrap().to_owned())
            .collect();
        assert_eq!(ended, [name, "sf two", "sf one"]);
        let report = error.report().unwrap();
        let never = report.child("sf never").unwrap();
        assert!(matches!(never.state, ChildState::Ended(ChildEnd::NeverRan)));
        error.to_string()
    };
    in_time(move || {
        let table: [(Body, &str, &str); 5] = [
            (|_| bail!("disk full"), "sf bad", "failed: disk full"),
            (
                |_| std::panic::resume_unwind(Box::new("bug")),
                "sf bad",
                "panicked: bug",
            ),
            (|_| Ok(()), "sf bad", "returned"),
            (
                |cx| {
                    cx.token().cancel_with("no");
                    Ok(())
                },
                "sf bad",
                "cancelled: no",
            ),
            (
                |_| Ok(()),
                "sf b\0d",
                "could not start thread \"sf b\0d\": the name of a thread must not contain a NUL byte",
            ),
        ];
        for (body, name, expected) in table {
            let expected = format!("child \"{name}\" did not start: {expected}");
            assert_eq!(failing(body, name), expected);
        }
    });
}

#[test]
fn a_child_that_never_becomes_ready_is_stopped_at_its_start_deadline() {
    in_time(|| {
        let (clock, token) = manual();
        let mute = mute("nr mute");
        let builder = Supervisor::builder().child(mute).start_timeout(secs(3));
        thread::scope(|s| {
            let starter = s.spawn(|| builder.start(&token));
            clock.await_timers(1);
            clock.advance(secs(3));
            let error = starter.join().unwrap().unwrap_err();
            let text = "child \"nr mute\" did not start: was not ready within 3.0 s";
            assert_eq!(error.to_string(), text);
            match error.kind() {
                StartErrorKind::Child {
                    end: ChildEnd::NotReady(time),
                    ..
                } => {
                    assert_eq!(*time, secs(3));
                }
                other => panic!("{other:?}"),
            }
        });
        assert_eq!(live_named("nr mute"), 0);
    });
}

#[test]
fn names_are_unique_and_a_builder_starts_again() {
    in_time(|| {
        let builder = Supervisor::builder().child(stay("a"));
        let twice = builder.clone().child(stay("a"));
        let error = twice.start(&CancelToken::new()).unwrap_err();
        assert_eq!(error.to_string(), "two children have the name \"a\"");
        assert!(error.report().is_none());
        for _ in 0..2 {
            let report = builder.start(&CancelToken::new()).unwrap().shutdown();
            assert!(
                report
                    .child("a")
                    .unwrap()
                    .state
                    .end()
                    .unwrap()
                    .is_cancelled()
            );
        }
    });
}

#[test]
fn a_cancel_of_the_parent_while_starting_stops_what_runs() {
    in_time(|| {
        let (builder, events) = builder();
        let token = CancelToken::new();
        let mute = mute("cp mute");
        let builder = builder
            .child(stay("cp ready"))
            .child(mute)
            .child(stay("never"));
        thread::scope(|s| {
            let starter = s.spawn(|| builder.start(&token));
            events.iter().find(|event| event == "\"cp mute\" started");
            token.cancel_with("SIGTERM");
            let error = starter.join().unwrap().unwrap_err();
            assert!(error.is_cancelled());
            let words = "the supervisor was stopped while it started: cancelled: SIGTERM";
            assert_eq!(error.to_string(), words);
        });
        assert_eq!(live_named("cp ready") + live_named("cp mute"), 0);

        let error = builder.start(&token).unwrap_err();
        assert!(error.is_cancelled());
        let children = &error.report().unwrap().children;
        let never_ran = |child: &ChildInfo| matches!(child.state.end(), Some(ChildEnd::NeverRan));
        assert!(children.iter().all(never_ran));
    });
}

#[test]
fn more_failures_than_the_intensity_allows_end_it_and_the_report_says_why() {
    in_time(|| {
        let (clock, token) = manual();
        let (builder, events) = builder();
        let (child, orders) = obedient("a");
        let builder = builder.name("gateway").intensity(2, secs(60));
        let builder = builder
            .child(stay("first"))
            .child(child)
            .child(stay("last"));
        let supervisor = builder.start(&token).unwrap();
        for _ in 0..2 {
            orders.send("fail").unwrap();
            events
                .iter()
                .find(|event| event.contains("restarted after"));
            clock.await_timers(1);
            clock.advance(secs(10));
            events.iter().find(|event| event == "\"a\" is ready");
        }
        orders.send("panic").unwrap();
        let report = supervisor.wait();
        let words =
            "supervisor \"gateway\" gave up after 2 restarts in 60.0 s: \"a\" panicked: bug";
        assert_eq!(report.check().unwrap_err().to_string(), words);
        expect(&events, &["\"a\" ended: panicked: bug", words]);
        let order: Vec<_> = report.phases.iter().map(|phase| &phase.name).collect();
        assert_eq!(order, ["last", "first"]); // "a" had ended
        let told = report.child("first").unwrap().state.end().unwrap();
        assert_eq!(told.to_string(), format!("cancelled: {words}"));
        let cause = supervisor.token().cause().unwrap();
        let gave_up = cause
            .downcast_ref::<cleanbreak::supervise::GaveUp>()
            .unwrap();
        assert_eq!(gave_up.child, "a");
        assert!(!token.is_cancelled());
    });
}

#[test]
fn the_backoff_starts_over_after_a_healthy_time() {
    in_time(|| {
        let (clock, token) = manual();
        let (tx, delays) = unbounded();
        let (child, orders) = obedient("a");
        let backoff = Backoff::custom(|n| secs(1 << n));
        let supervisor = Supervisor::builder()
            .intensity(usize::MAX, Duration::MAX)
            .healthy_after(secs(30))
            .on_event(move |event| match event {
                Event::Restarting { after, .. } => drop(tx.send(*after)),
                Event::Ready { .. } => drop(tx.send(Duration::ZERO)),
                _ => {}
            })
            .child(child.backoff(backoff))
            .start(&token)
            .unwrap();
        for (healthy, expected) in [(0, 1), (29, 2), (0, 4), (30, 1), (0, 2)] {
            assert_eq!(delays.recv().unwrap(), Duration::ZERO);
            clock.advance(secs(healthy));
            orders.send("fail").unwrap();
            assert_eq!(delays.recv().unwrap(), secs(expected));
            clock.await_timers(1);
            clock.advance(secs(expected));
        }
        drop(supervisor);
    });
}

#[test]
fn one_for_all_stops_the_others_in_reverse_and_starts_all_in_order() {
    in_time(|| {
        let (tx, events) = unbounded();
        let (child, orders) = obedient("b");
        let supervisor = Supervisor::builder()
            .strategy(Strategy::OneForAll)
            .backoff(Backoff::constant(Duration::ZERO))
            .on_event(move |event| drop(tx.send(event.to_string())))
            .child(stay("a"))
            .child(child)
            .child(stay("c"))
            .start(&CancelToken::new())
            .unwrap();
        expect(
            &events,
            &[
                "\"a\" started",
                "\"a\" is ready",
                "\"b\" started",
                "\"b\" is ready",
            ],
        );
        expect(&events, &["\"c\" started", "\"c\" is ready"]);
        orders.send("fail").unwrap();
        let expected = [
            "\"b\" ended: failed: disk full",
            "\"b\" failed: disk full; it is restarted after 0.0ns",
            "\"c\" ended: cancelled: a sibling failed",
            "\"a\" ended: cancelled: a sibling failed",
            "\"a\" started again, restart 1",
            "\"a\" is ready",
            "\"b\" started again, restart 1",
            "\"b\" is ready",
            "\"c\" started again, restart 1",
            "\"c\" is ready",
        ];
        expect(&events, &expected);
        assert!(
            supervisor
                .children()
                .iter()
                .all(|child| child.restarts == 1)
        );
    });
}

#[test]
fn children_come_and_go_at_run_time() {
    in_time(|| {
        let supervisor = Supervisor::builder()
            .child(stay("cg a"))
            .start(&CancelToken::new());
        let supervisor = supervisor.unwrap();
        supervisor.add(stay("cg b")).unwrap();
        let names = || {
            let children = supervisor.children();
            children
                .into_iter()
                .map(|child| child.name)
                .collect::<Vec<_>>()
        };
        assert_eq!(names(), ["cg a", "cg b"]);

        let end = supervisor.stop_child("cg a").unwrap();
        assert_eq!(end.to_string(), "cancelled: it was asked to stop");
        assert_eq!(live_named("cg a"), 0);
        assert!(supervisor.stop_child("cg a").unwrap().is_cancelled()); // as it was
        supervisor.restart_child("cg a").unwrap(); // starts it again
        supervisor.restart_child("cg a").unwrap(); // stops it first
        assert_eq!(state_of(&supervisor, "cg a").restarts, 2);

        assert!(supervisor.remove_child("cg a").unwrap().is_cancelled());
        assert_eq!(names(), ["cg b"]);
        assert!(supervisor.stop_child("cg a").unwrap_err().is_unknown());
        let unknown = supervisor.restart_child("cg a").unwrap_err();
        assert_eq!(
            unknown.to_string(),
            "child \"cg a\": there is no child of this name"
        );

        supervisor.shutdown();
        let closed = supervisor.stop_child("cg b").unwrap_err();
        assert!(closed.is_closed());
        let closed = supervisor.add(stay("c")).unwrap_err();
        assert!(matches!(closed.kind(), ChildErrorKind::Closed));
        assert_eq!(closed.into_inner().name(), "c");
    });
}

#[test]
fn two_calls_about_one_child_are_both_answered() {
    in_time(|| {
        let (release, held) = bounded::<()>(0);
        let slow = ChildSpec::new("slow", move |cx| {
            cx.ready();
            cx.token().wait();
            held.recv().ok();
            Ok(())
        });
        let supervisor = Supervisor::builder()
            .child(slow)
            .start(&CancelToken::new())
            .unwrap();
        let is_stopping = || matches!(state_of(&supervisor, "slow").state, ChildState::Stopping);
        thread::scope(|s| {
            let stop = s.spawn(|| supervisor.stop_child("slow"));
            until(is_stopping);
            let restart = s.spawn(|| supervisor.restart_child("slow"));
            release.send(()).unwrap();
            assert!(stop.join().unwrap().unwrap().is_cancelled());
            // It was heard before the end, or after.
            restart.join().unwrap().unwrap();
            assert_eq!(state_of(&supervisor, "slow").restarts, 1);

            let remove = s.spawn(|| supervisor.remove_child("slow"));
            until(is_stopping);
            assert!(supervisor.restart_child("slow").unwrap_err().is_unknown());
            release.send(()).unwrap();
            assert!(remove.join().unwrap().unwrap().is_cancelled());
        });
        assert!(supervisor.children().is_empty());
    });
}

#[test]
fn two_calls_that_are_heard_at_once_are_both_answered() {
    in_time(|| {
        let (entered, has_entered) = bounded(1);
        let (release, held) = bounded::<()>(0);
        let (a, orders) = obedient("a");
        let supervisor = Supervisor::builder()
            .backoff(Backoff::constant(secs(3600)))
            .on_event(move |event| match event {
                Event::Started { child, .. } if child == "b" => {
                    entered.send(()).unwrap();
                    held.recv().unwrap_err();
                }
                _ => {}
            })
            .child(a)
            .start(&CancelToken::new())
            .unwrap();
        orders.send("fail").unwrap();
        until(|| matches!(state_of(&supervisor, "a").state, ChildState::BackingOff(_)));
        let answers = scope(&CancelToken::new(), |group| {
            group.spawn_named("hh add", |_| Ok(supervisor.add(stay("b"))?))?;
            has_entered.recv()?; // the supervisor's thread is held up
            let stop = group.spawn_named("hh stop", |_| Ok(supervisor.stop_child("a")?))?;
            until_waiting("hh stop");
            let restart =
                group.spawn_named("hh restart", |_| Ok(supervisor.restart_child("a")?))?;
            until_waiting("hh restart");
            drop(release);
            restart.join()?;
            Ok(stop.join()?)
        });
        assert_eq!(answers.unwrap().to_string(), "failed: disk full");
        assert_eq!(state_of(&supervisor, "a").restarts, 1);
    });
}

#[test]
fn a_child_that_cannot_be_added_comes_back_and_is_none() {
    in_time(|| {
        let (clock, token) = manual();
        let supervisor = Supervisor::builder().start(&token).unwrap();
        let failing = ChildSpec::new("x", |_| -> anyhow::Result<()> { bail!("disk full") });
        let error = supervisor.add(failing).unwrap_err();
        assert_eq!(
            error.to_string(),
            "child \"x\": it did not start: failed: disk full"
        );
        let refused = supervisor
            .add(ChildSpec::new("n\0l", |_| Ok(())))
            .unwrap_err();
        assert!(matches!(
            refused.kind(),
            ChildErrorKind::NotReady(ChildEnd::NotStarted(_))
        ));

        let mute = mute("mute");
        thread::scope(|s| {
            let adding = s.spawn(|| supervisor.add(mute.start_timeout(secs(1))));
            clock.await_timers(1);
            clock.advance(secs(1));
            let error = adding.join().unwrap().unwrap_err();
            let text = "child \"mute\": it did not start: was not ready within 1.0 s";
            assert_eq!(error.to_string(), text);
        });
        until(|| supervisor.children().is_empty());
    });
}

#[test]
fn a_restart_by_hand_cuts_a_backoff_short_and_reports_how_it_went() {
    in_time(|| {
        let (clock, token) = manual();
        let (builder, events) = builder();
        let (child, orders) = obedient("a");
        let supervisor = builder.child(child).start(&token).unwrap();
        orders.send("fail").unwrap();
        events
            .iter()
            .find(|event| event.contains("restarted after"));
        supervisor.restart_child("a").unwrap();
        assert_eq!(clock.now(), cleanbreak::clock::Instant::ZERO);
        assert!(matches!(
            state_of(&supervisor, "a").state,
            ChildState::Running
        ));

        // A stop, too; and the failure is how it ended.
        orders.send("fail").unwrap();
        events
            .iter()
            .find(|event| event.contains("restarted after"));
        let end = supervisor.stop_child("a").unwrap();
        assert_eq!(end.to_string(), "failed: disk full");
        clock.advance(secs(100));
        assert_eq!(state_of(&supervisor, "a").restarts, 1);
    });
}

#[test]
fn calls_that_would_wait_for_themselves_are_refused() {
    in_time(|| {
        // Weak, as what the listener holds is held by the supervisor.
        let cell = Arc::new(OnceLock::<Weak<Supervisor>>::new());
        let (tx, rx) = unbounded();
        let (asks, told) = (cell.clone(), tx.clone());
        let builder = Supervisor::builder().on_event(move |event| {
            let asked = asks.get().and_then(Weak::upgrade);
            if let (Event::Ended { .. }, Some(supervisor)) = (event, asked) {
                let refused = supervisor.stop_child("other").unwrap_err();
                let seen = supervisor.children().len(); // looks are free
                supervisor.wait();
                told.send(format!("{refused}, {seen} seen")).unwrap();
            }
        });
        let asks = cell.clone();
        let myself = ChildSpec::new("self", move |cx| {
            cx.ready();
            while asks.get().is_none() {
                thread::yield_now();
            }
            let supervisor = asks.get().unwrap().upgrade().unwrap();
            tx.send(supervisor.stop_child("self").unwrap_err().to_string())?;
            supervisor.stop_child("other")?; // of another one is fine
            Ok(())
        });
        let myself = myself.restart(Restart::Temporary);
        let supervisor = builder
            .child(stay("other"))
            .child(myself)
            .start(&CancelToken::new());
        let supervisor = Arc::new(supervisor.unwrap());
        cell.set(Arc::downgrade(&supervisor)).ok().unwrap();
        assert_eq!(
            rx.recv().unwrap(),
            "child \"self\": the call would wait for itself"
        );
        assert_eq!(
            rx.recv().unwrap(),
            "child \"other\": the call would wait for itself, 2 seen"
        );
        supervisor.shutdown();
    });
}

#[test]
fn a_listener_that_panics_is_contained() {
    in_time(|| {
        let heard = Arc::new(AtomicUsize::new(0));
        let hears = heard.clone();
        let supervisor = Supervisor::builder()
            .on_event(move |_| {
                hears.fetch_add(1, Ordering::SeqCst);
                std::panic::resume_unwind(Box::new("in a listener"))
            })
            .child(stay("a"))
            .start(&CancelToken::new())
            .unwrap();
        assert!(
            supervisor
                .shutdown()
                .child("a")
                .unwrap()
                .state
                .end()
                .unwrap()
                .is_cancelled()
        );
        assert_eq!(heard.load(Ordering::SeqCst), 4); // started, ready, ended, stopped
    });
}

#[test]
fn destructors_that_panic_cost_nothing_but_themselves() {
    #[derive(Debug)]
    struct Bad(#[allow(dead_code, reason = "for its destructor")] Arc<Bomb>);
    impl std::fmt::Display for Bad {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            std::panic::resume_unwind(Box::new("in a message"))
        }
    }
    impl std::error::Error for Bad {}
    in_time(|| {
        let captured = Bomb;
        let child = ChildSpec::new("a", move |cx| -> anyhow::Result<Bomb> {
            let _captured = &captured;
            match cx.restarts() {
                0 => cx.ready(),
                1 => Err(Bad(Arc::new(Bomb)))?,
                2 => std::panic::panic_any(Bomb),
                3 => drop(Bomb),
                4 => return Ok(Bomb), // nobody takes it
                _ => {
                    cx.ready();
                    cx.token().wait();
                    return Err(anyhow::anyhow!("so that nothing is dropped"));
                }
            }
            bail!("again")
        });
        let builder = Supervisor::builder().backoff(Backoff::constant(Duration::ZERO));
        let (heard, (tx, ends)) = (Bomb, unbounded());
        let builder = builder.on_event(move |event| {
            let _captured = &heard;
            if let Event::Ended { .. } = event {
                tx.send(event.to_string()).unwrap();
            }
        });
        let bomb = Bomb;
        let backoff = Backoff::custom(move |_| {
            let _captured = &bomb;
            Duration::ZERO
        });
        let builder = builder.child(child.backoff(backoff));
        let supervisor = builder.start(&CancelToken::new()).unwrap();
        drop(builder);
        let expected = [
            "\"a\" ended: failed: again",
            "\"a\" ended: failed, and its error panicked when it was asked for its message",
            "\"a\" ended: panicked",
            "\"a\" ended: panicked: in a destructor",
            "\"a\" ended: panicked: in a destructor",
        ];
        expect(&ends, &expected);
        until(|| {
            let info = state_of(&supervisor, "a");
            info.restarts == 5 && matches!(info.state, ChildState::Running)
        });
        let report = supervisor.shutdown();
        assert_eq!(
            report.children[0].last_end.as_ref().unwrap().to_string(),
            "failed: so that nothing is dropped"
        );
    });
}

#[test]
fn a_failure_whose_message_panics_is_told_in_other_words() {
    #[derive(Debug)]
    struct Mute;
    impl std::fmt::Display for Mute {
        fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            std::panic::resume_unwind(Box::new("in a message"))
        }
    }
    impl std::error::Error for Mute {}
    in_time(|| {
        let child = ChildSpec::new("a", |cx| -> anyhow::Result<()> {
            cx.ready();
            Err(Mute)?
        });
        // With the listener that prints.
        let builder = Supervisor::builder().intensity(0, secs(1)).child(child);
        let report = match builder.start(&CancelToken::new()) {
            Ok(supervisor) => supervisor.wait(),
            Err(error) => error.report().unwrap().clone(),
        };
        let words = report.reason.unwrap().to_string();
        assert!(
            words.ends_with("its error panicked when it was asked for its message"),
            "{words}"
        );
    });
}

#[test]
fn a_custom_backoff_that_panics_makes_the_delay_a_second() {
    in_time(|| {
        let (clock, token) = manual();
        let (builder, events) = builder();
        let (child, orders) = obedient("a");
        let bad = Backoff::custom(|_| std::panic::resume_unwind(Box::new("in a backoff")));
        let supervisor = builder.child(child.backoff(bad)).start(&token).unwrap();
        orders.send("fail").unwrap();
        events
            .iter()
            .find(|event| event.contains("restarted after 1.0s"));
        clock.await_timers(1);
        clock.advance(secs(1));
        events.iter().find(|event| event == "\"a\" is ready");
        drop(supervisor);
    });
}

#[test]
fn the_longest_durations_are_never() {
    in_time(|| {
        let (clock, token) = manual();
        clock.advance(secs(1));
        let (child, orders) = obedient("a");
        let (tx, events) = unbounded();
        let supervisor = Supervisor::builder()
            .backoff(Backoff::constant(Duration::MAX))
            .intensity(1, Duration::MAX)
            .healthy_after(Duration::MAX)
            .start_timeout(Duration::MAX)
            .stop_timeout(Duration::MAX)
            .on_event(move |event| drop(tx.send(event.to_string())))
            .child(child)
            .start(&token)
            .unwrap();
        assert_eq!(clock.timers(), 0);
        orders.send("fail").unwrap();
        events
            .iter()
            .find(|event| event.contains("it is restarted after"));
        let state = state_of(&supervisor, "a").state;
        assert!(matches!(state, ChildState::BackingOff(None)), "{state}");
        clock.advance(Duration::MAX);
        supervisor.restart_child("a").unwrap();
        assert_eq!(supervisor.shutdown().stuck().count(), 0);
    });
}

#[test]
fn no_children_are_supervised_until_the_end() {
    in_time(|| {
        let supervisor = Supervisor::builder().intensity(0, Duration::ZERO);
        let token = CancelToken::new();
        let supervisor = supervisor.start(&token).unwrap();
        assert!(supervisor.ended().try_recv().unwrap_err().is_empty());
        token.cancel_with("enough");
        let report = supervisor.wait();
        assert!(report.children.is_empty() && report.phases.is_empty());
        match report.reason {
            Some(StopReason::Cancelled(cancelled)) => {
                assert_eq!(cancelled.kind(), CancelKind::Cancelled);
                assert_eq!(cancelled.to_string(), "cancelled: enough");
            }
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn the_public_types_cross_threads() {
    fn pinned<T: Send + Sync>() {}
    fn unwinds<T: std::panic::UnwindSafe + std::panic::RefUnwindSafe>() {}
    unwinds::<Supervisor>();
    pinned::<Supervisor>();
    pinned::<SupervisorBuilder>();
    pinned::<ChildSpec>();
    pinned::<Context>();
    pinned::<Event>();
    pinned::<ChildEnd>();
    pinned::<cleanbreak::supervise::Report>();
    pinned::<cleanbreak::supervise::StartError>();
    pinned::<cleanbreak::supervise::AddError>();
    pinned::<cleanbreak::supervise::ChildError>();
}

#[test]
fn every_state_can_be_seen() {
    in_time(|| {
        let (clock, token) = manual();
        let (builder, events) = builder();
        let (ends, orders) = obedient("ends");
        let (release, held) = bounded::<()>(0);
        let deaf = ChildSpec::new("deaf", move |cx| {
            cx.ready();
            held.recv().unwrap_err();
            Ok(())
        });
        let ends = ends.restart(Restart::Temporary);
        let supervisor = builder.child(ends).child(deaf).start(&token).unwrap();
        let state = |name: &str| state_of(&supervisor, name).state.to_string();
        assert_eq!(state("ends"), "running");
        orders.send("return").unwrap();
        events
            .iter()
            .find(|event| event == "\"ends\" ended: returned");
        assert_eq!(state("ends"), "returned");
        let (say, may_say) = bounded::<()>(0);
        let slow = ChildSpec::new("slow", move |cx| {
            may_say.recv().unwrap_err();
            cx.ready();
            cx.token().wait();
            Ok(())
        });
        let stopped = Mutex::new(None);
        thread::scope(|s| {
            s.spawn(|| supervisor.add(slow).unwrap());
            events.iter().find(|event| event == "\"slow\" started");
            assert_eq!(state("slow"), "starting");
            drop(say);
            s.spawn(|| *stopped.lock().unwrap() = Some(supervisor.stop_child("deaf")));
            until(|| state("deaf") == "stopping");
            clock.await_timers(1);
            clock.advance(secs(5));
            until(|| state("deaf") == "still runs 5.0 s after it was told to stop");
        });
        let stuck = stopped.into_inner().unwrap().unwrap().unwrap_err();
        assert!(stuck.is_stuck(), "{stuck}");
        drop(release);
        until(|| state("deaf") == "cancelled: it was asked to stop");
    });
}
