//! Probes: what the list says, slow passes on the manual clock, and what a probe leaves behind.

mod support;

use std::ops::ControlFlow::{Break, Continue};
use std::time::Duration;

use cleanbreak::flow::Exit;
use cleanbreak::probe::{self, LoopInfo, Probe};
use cleanbreak::{CancelToken, Clock, ManualClock, scope};
use crossbeam_channel::{Receiver, bounded, unbounded};
use support::{in_time, millis, payload_of, secs};

fn listed(name: &str) -> Vec<LoopInfo> {
    let all = probe::live();
    all.into_iter().filter(|found| found.name == name).collect()
}

/// A probe with a limit of eight seconds, so a look a second; and what it tells.
fn watched(name: &str, clock: &ManualClock) -> (Probe, Receiver<(u64, Duration)>) {
    let (tell, told) = unbounded();
    let probe = Probe::builder(name)
        .clock(clock)
        .slow_after(secs(8))
        .on_slow(move |slow| tell.send((slow.iteration, slow.took)).unwrap());
    (probe.start().unwrap(), told)
}

#[test]
fn the_list_shows_a_loop_from_its_start_to_its_end_by_every_way_out() {
    let clock = Clock::manual();
    let start = |name| Probe::builder(name).clock(&clock).start().unwrap();
    let mut one = start("listed");
    clock.advance(secs(3));
    assert!(!listed("listed")[0].busy, "no pass has begun");
    one.pass();
    one.pass();
    let info = &listed("listed")[0];
    assert_eq!((info.passes, info.busy, info.age), (2, true, secs(3)));
    assert!(info.probed_at.file().ends_with("probe.rs"));
    assert!(info.to_string().ends_with("age 3.0 s, in pass 2"), "{info}");
    one.idle();
    let info = &listed("listed")[0];
    assert!(info.to_string().ends_with("idle after 2"), "{info}");
    let two = start("listed");
    assert!(listed("listed")[1].id > info.id);
    one.finish_with("failed");
    assert_eq!(listed("listed").len(), 1);
    drop(two);
    assert_eq!(listed("listed").len(), 0);

    let payload = payload_of(|| {
        let mut probe = start("listed");
        probe.pass();
        std::panic::resume_unwind(Box::new(7));
    });
    assert_eq!(payload.downcast_ref(), Some(&7));
    assert_eq!(listed("listed").len(), 0);
}

#[test]
fn a_pass_is_slow_at_its_limit_and_not_before_and_is_told_once() {
    let clock = Clock::manual();
    let (mut probe, told) = watched("limit", &clock);
    probe.pass();
    clock.advance(millis(8_999)); // seen since the look at 1 s
    assert_eq!(told.try_iter().count(), 0);
    clock.advance(millis(1));
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(1, secs(8))]);
    clock.advance(secs(100));
    assert_eq!(told.try_iter().count(), 0);
    probe.pass();
    clock.advance(secs(10));
    assert_eq!(told.try_iter().collect::<Vec<_>>(), [(2, secs(8))]);
    probe.finish_with("done");
    clock.advance(secs(100));
    assert_eq!(told.try_iter().count(), 0);
}

#[test]
fn a_loop_that_moves_or_idles_or_has_not_begun_is_not_slow() {
    let clock = Clock::manual();
    let (mut probe, told) = watched("moves", &clock);
    clock.advance(secs(60));
    for _ in 0..20 {
        probe.pass();
        clock.advance(secs(7));
    }
    probe.idle();
    clock.advance(secs(3600));
    assert_eq!(told.try_iter().count(), 0);
    // The control: the same hour in a pass is told.
    probe.pass();
    clock.advance(secs(3600));
    assert_eq!(told.try_iter().count(), 1);
}

#[test]
fn a_callback_that_panics_or_drops_the_probe_or_blocks_its_dropper_does_no_harm() {
    in_time(|| {
        let clock = Clock::manual();
        let mut panics = Probe::builder("panics").clock(&clock).slow_after(secs(1));
        panics = panics.on_slow(|_| std::panic::resume_unwind(Box::new("planted")));
        let mut panics = panics.start().unwrap();
        let (mut other, told) = watched("other", &clock);
        panics.pass();
        other.pass();
        clock.advance(secs(10));
        assert_eq!(told.try_iter().count(), 1);

        // On the system's clock: the callback waits for who drops the probe.
        let (entered, inside) = bounded(1);
        let (release, released) = bounded::<()>(0);
        let mut probe = Probe::builder("held").slow_after(millis(1));
        probe = probe.on_slow(move |_| {
            entered.send(()).ok();
            released.recv().ok();
        });
        let mut probe = probe.start().unwrap();
        probe.pass();
        inside.recv().unwrap();
        drop(probe); // does not wait
        drop(release);
    });
}

#[test]
fn limits_that_never_pass_need_no_timer_and_a_limit_of_nothing_is_a_millisecond() {
    let clock = Clock::manual();
    let never = Probe::builder("never")
        .clock(&clock)
        .slow_after(Duration::MAX);
    let mut never = never.start().unwrap();
    assert_eq!(clock.timers(), 0);
    never.pass();
    let none = Probe::builder("none")
        .clock(&clock)
        .slow_after(Duration::ZERO);
    let none = none.start().unwrap();
    assert_eq!(
        clock.next_deadline().map(|at| at.as_nanos()),
        Some(1_000_000)
    );
    drop(none);
    assert_eq!(clock.timers(), 0, "nothing is left with the clock");
    drop(never);
}

#[test]
fn a_repeat_counts_its_passes_and_ends_as_the_loop_does() {
    let token = CancelToken::new();
    let mut count = 0;
    let exit: Exit<u32> = Probe::new("repeat").repeat(&token, || {
        count += 1;
        assert_eq!(listed("repeat")[0].passes, u64::from(count));
        if count == 5 {
            Break(Exit::Broke(count))
        } else {
            Continue(())
        }
    });
    assert_eq!(exit.broke(), Some(5));
    token.cancel();
    let exit: Exit = Probe::new("repeat").repeat(&token, || unreachable!("it was cancelled"));
    assert!(exit.cancelled().is_some());
    assert!(listed("repeat").is_empty());
}

#[test]
fn each_of_many_threads_has_its_own() {
    scope(&CancelToken::new(), |group| {
        for _ in 0..8 {
            group.spawn(|_| {
                let mut probe = Probe::builder("many").every(7).start()?;
                (0..1000).for_each(|_| probe.pass());
                assert_eq!(probe.passes(), 1000);
                probe.finish_with("done");
                Ok(())
            })?;
        }
        Ok(())
    })
    .unwrap();
    assert!(listed("many").is_empty());
}
