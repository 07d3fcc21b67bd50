//! What panics in callbacks and destructors costs, and the edges of durations.

use super::*;

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
