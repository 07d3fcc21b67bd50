//! Starting in order, and what becomes of a start that fails.

use super::*;

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
