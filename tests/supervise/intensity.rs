//! Limits to restarting, and restarting together.

use super::*;

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
