//! Who is started again, and when.

use super::*;

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
