//! Children that come, go and are asked about at run time.

use super::*;

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
fn who_is_told_that_a_child_was_not_added_finds_none() {
    in_time(|| {
        let supervisor = builder().0.start(&CancelToken::new()).unwrap();
        for _ in 0..500 {
            let broken = ChildSpec::new("broken", |_| -> anyhow::Result<()> { bail!("no route") });
            assert!(supervisor.add(broken).is_err());
            assert!(supervisor.children().is_empty());
        }
    });
}
