//! The plan by tables.

use super::world::{DELAY, START, STOP, World, cancelled, failed, millis};
use super::*;
use crate::backoff::Backoff;
use Restart::{Permanent, Temporary, Transient};
use Strategy::{OneForAll, OneForOne, RestForOne};

const THREE: &[&[Restart]] = &[&[Permanent], &[Permanent], &[Permanent]];

#[test]
fn children_start_in_order_each_when_the_one_before_is_ready() {
    let mut world = World::new(OneForOne, 3, THREE);
    world.said(&["start a"]);
    world.say_ready(0);
    world.say_ready(1);
    world.said(&["a ready", "start b", "b ready", "start c"]);
    world.say_ready(2);
    world.said(&["c ready", "started"]);
}

#[test]
fn who_restarts_by_policy_and_end() {
    let again = |restart, end: ChildEnd| {
        let mut world = World::ready(OneForOne, 3, &[&[restart]]);
        world.end(0, end);
        world.advance(DELAY);
        world.live.contains_key(&0)
    };
    let table = [
        (Permanent, [true, true, false]),
        (Transient, [false, true, false]),
        (Temporary, [false, false, false]),
    ];
    for (restart, expected) in table {
        let ends = [ChildEnd::Returned, failed(), cancelled()];
        assert_eq!(ends.map(|end| again(restart, end)), expected, "{restart:?}");
    }
}

#[test]
fn one_for_one_restarts_the_one_after_its_delay() {
    let mut world = World::ready(OneForOne, 3, THREE);
    world.end(1, failed());
    world.said(&["b failed: disk full", "b in 10"]);
    world.advance(DELAY - 1);
    world.said(&[]);
    world.advance(1);
    world.said(&["start b"]);
}

#[test]
fn one_for_all_stops_the_others_in_reverse_and_starts_all_in_order() {
    let mut world = World::ready(OneForAll, 3, THREE);
    world.end(1, failed());
    world.said(&["b failed: disk full", "b in 10", "stop c"]);
    world.end(2, ChildEnd::Returned);
    world.said(&["c cancelled", "stop a"]);
    world.advance(DELAY);
    world.said(&[]); // a still runs: nothing starts
    world.end(0, ChildEnd::Returned);
    world.said(&["a cancelled", "start a"]);
    world.say_ready(0);
    world.say_ready(1);
    world.say_ready(2);
    world.said(&["a ready", "start b", "b ready", "start c", "c ready"]);
}

#[test]
fn rest_for_one_takes_those_after_it() {
    let mut world = World::ready(RestForOne, 3, THREE);
    world.end(1, failed());
    world.end(2, ChildEnd::Returned);
    world.advance(DELAY);
    world.say_ready(1);
    world.said(&[
        "b failed: disk full",
        "b in 10",
        "stop c",
        "c cancelled",
        "start b",
        "b ready",
        "start c",
    ]);
}

#[test]
fn a_temporary_sibling_is_stopped_and_not_started_again_and_one_that_was_done_is() {
    let phases: &[&[Restart]] = &[&[Temporary], &[Transient], &[Permanent]];
    let mut world = World::ready(OneForAll, 3, phases);
    world.end(1, ChildEnd::Returned);
    world.end(2, failed());
    world.end(0, ChildEnd::Returned);
    world.log.clear();
    world.advance(DELAY);
    world.say_ready(1);
    world.said(&["start b", "b ready", "start c"]);
}

#[test]
fn one_that_was_stopped_by_name_is_not_started_with_its_siblings() {
    let mut world = World::ready(OneForAll, 3, THREE);
    world.plan.stop(0, world.now);
    world.work();
    world.end(0, ChildEnd::Returned);
    world.end(1, failed());
    world.end(2, ChildEnd::Returned);
    world.log.clear();
    world.advance(DELAY);
    world.say_ready(1);
    world.said(&["start b", "b ready", "start c"]);
    world.plan.restart(0, world.now);
    world.work();
    world.said(&["start a"]); // out of turn: c is starting
}

#[test]
fn the_window_of_the_intensity_slides_and_counts_both_its_ends() {
    let mut world = World::ready(OneForOne, 2, &[&[Permanent]]);
    let fail_at = |world: &mut World, at: u64| {
        world.advance(at - world.now.as_nanos() / 1_000_000);
        world.say_ready(0);
        world.end(0, failed());
        world.plan.mode() == Mode::Running
    };
    assert!(fail_at(&mut world, 0));
    assert!(fail_at(&mut world, 600));
    assert!(fail_at(&mut world, 1001)); // 600 and 1001
    assert!(!fail_at(&mut world, 1600)); // 600, 1001 and 1600 are in one second
    let Some(StopReason::GaveUp(gave_up)) = world.plan.reason() else {
        panic!("{:?}", world.plan.reason());
    };
    assert_eq!((gave_up.child.as_str(), gave_up.restarts), ("a", 2));
}

#[test]
fn an_intensity_of_zero_gives_up_at_the_first_failure() {
    let mut world = World::ready(OneForOne, 0, THREE);
    world.end(1, failed());
    world.said(&["b failed: disk full", "stop all", "stop c"]);
    world.end(2, ChildEnd::Returned);
    world.end(0, ChildEnd::Returned);
    world.said(&["c cancelled", "stop a", "a cancelled", "over"]);
}

#[test]
fn delays_grow_and_start_over_after_a_healthy_time() {
    let mut world = World::ready(OneForOne, usize::MAX, &[&[Permanent]]);
    let backoff = Backoff::exponential(millis(10)).jitter(crate::backoff::Jitter::None);
    world.plan.child(0).rules.delays = backoff.delays();
    for (healthy, expected) in [(0, 10), (499, 20), (0, 40), (500, 10), (0, 20)] {
        world.advance(healthy);
        world.end(0, failed());
        let said = world.log.pop().unwrap();
        assert_eq!(said, format!("a in {expected}"));
        world.advance(expected);
        world.say_ready(0);
    }
}

#[test]
fn a_start_that_takes_too_long_fails_and_those_before_are_stopped_in_reverse() {
    let mut world = World::new(OneForOne, 3, THREE);
    world.say_ready(0);
    world.say_ready(1);
    world.log.clear();
    world.advance(START);
    world.said(&["stop all", "stop c"]);
    world.end(2, ChildEnd::Returned);
    world.said(&["c was not ready within 0.1 s", "stop b"]);
    world.end(1, ChildEnd::Returned);
    world.end(0, ChildEnd::Returned);
    world.said(&["b cancelled", "stop a", "a cancelled", "over"]);
    let reason = world.plan.reason().unwrap().to_string();
    assert_eq!(reason, "\"c\" did not start: was not ready within 0.1 s");
}

#[test]
fn a_restart_that_takes_too_long_is_a_failure_like_another() {
    let mut world = World::ready(OneForOne, 3, &[&[Transient]]);
    world.end(0, failed());
    world.advance(DELAY);
    world.log.clear();
    world.advance(START);
    world.said(&["stop a"]);
    world.end(0, ChildEnd::Returned);
    world.said(&["a was not ready within 0.1 s", "a in 10"]);
}

#[test]
fn facts_that_come_late_in_one_batch_are_not_taken_for_timeouts() {
    let mut world = World::new(OneForOne, 3, &[&[Permanent]]);
    let ready_at = world.now.checked_add(millis(START - 1)).unwrap();
    world.now = world.now.checked_add(millis(START * 3)).unwrap();
    world.plan.ready(0, 1, ready_at);
    world.work();
    world.said(&["start a", "a ready", "started"]);
}

#[test]
fn what_has_one_thing_to_do_is_ready_when_it_has_done_it() {
    for (restart, starts) in [(Permanent, false), (Transient, true), (Temporary, true)] {
        let mut world = World::new(OneForOne, 3, &[&[restart], &[Permanent]]);
        world.end(0, ChildEnd::Returned);
        assert_eq!(world.live.contains_key(&1), starts, "{restart:?}");
    }
}

#[test]
fn phases_stop_in_reverse_and_the_late_are_left_behind_and_reported_again() {
    let phases: &[&[Restart]] = &[&[Permanent], &[Permanent, Permanent], &[Permanent]];
    let mut world = World::ready(OneForOne, 3, phases);
    world.stop_all();
    world.said(&["stop all", "stop d"]);
    world.advance(20);
    world.end(3, ChildEnd::Returned);
    world.said(&["d cancelled", "stop c", "stop b"]);
    world.end(1, ChildEnd::Returned);
    world.advance(STOP);
    world.said(&["b cancelled", "c stuck", "stop a"]);
    world.end(0, ChildEnd::Returned);
    world.said(&["a cancelled", "over"]);
    let phases: Vec<_> = world
        .plan
        .stopped_phases()
        .iter()
        .map(|phase| (phase.took.as_millis(), phase.late.join("")))
        .collect();
    let expected = [(20, ""), (50, "c"), (0, "")];
    assert_eq!(phases, expected.map(|(took, late)| (took, late.to_owned())));
    world.advance(STOP); // twice the time since it was told
    world.said(&["c stuck"]);
    world.advance(STOP * 2);
    world.said(&["c stuck"]);
    world.end(2, ChildEnd::Returned);
    world.said(&["c cancelled"]);
    assert!(!world.plan.is_anyone_alive() && world.over == 1);
}

#[test]
fn a_stop_ends_a_backoff_at_once() {
    let mut world = World::ready(OneForOne, 3, &[&[Permanent]]);
    world.end(0, failed());
    world.stop_all();
    world.said(&["a failed: disk full", "a in 10", "stop all", "over"]);
}

#[test]
fn a_restart_waits_for_a_sibling_that_does_not_stop() {
    let mut world = World::ready(OneForAll, 3, &[&[Permanent], &[Permanent]]);
    world.end(0, failed());
    world.advance(DELAY + STOP);
    world.said(&["a failed: disk full", "a in 10", "stop b", "b stuck"]);
    world.end(1, ChildEnd::Returned);
    world.said(&["b cancelled", "start a"]);
}

#[test]
fn a_run_that_cancelled_itself_while_its_sibling_failed_is_not_started_again() {
    let mut world = World::ready(OneForAll, 3, &[&[Permanent], &[Permanent]]);
    world.end(0, failed());
    world.plan.found_cancelled(1); // its token was, before it could be told
    world.end(1, ChildEnd::Returned);
    world.advance(DELAY);
    world.say_ready(0);
    let words = ["b cancelled", "start a", "a ready"];
    world.said(&[&["a failed: disk full", "a in 10", "stop b"][..], &words].concat());
}

#[test]
fn who_asked_is_answered_when_a_sibling_fails_meanwhile() {
    let mut world = World::ready(OneForAll, 3, THREE);
    world.plan.restart(2, world.now);
    world.work();
    world.end(2, ChildEnd::Returned);
    world.said(&["stop c", "c cancelled", "start c"]);
    world.end(0, failed());
    let stop = ["a failed: disk full", "a in 10", "answer c false", "stop c"];
    world.said(&stop);
}

#[test]
fn nothing_to_supervise_starts_and_stops() {
    let mut world = World::new(OneForAll, 0, &[]);
    world.said(&["started"]);
    world.stop_all();
    world.said(&["stop all", "over"]);
}

#[test]
fn a_thread_that_is_refused_is_a_failure_like_another() {
    let mut world = World::ready(OneForOne, 2, &[&[Transient]]);
    world.refuses = true;
    world.end(0, failed());
    world.log.clear();
    world.advance(DELAY);
    let refused = "a could not start thread \"a\": no more";
    world.said(&["no thread for a", refused, "a in 10"]);
    world.refuses = false;
    world.advance(DELAY);
    world.said(&["start a"]);
}

#[test]
fn one_that_was_done_and_then_stopped_by_name_is_not_started_with_its_siblings() {
    for stopped in [false, true] {
        let mut world = World::ready(OneForAll, 3, &[&[Transient], &[Permanent]]);
        world.end(0, ChildEnd::Returned);
        if stopped {
            world.plan.stop(0, world.now);
        }
        world.end(1, failed());
        world.advance(DELAY);
        assert_eq!(world.live.contains_key(&0), !stopped);
    }
}

#[test]
fn one_that_cancels_itself_before_its_turn_to_stop_is_not_started_with_its_siblings() {
    let mut world = World::ready(OneForAll, 3, THREE);
    world.end(1, failed());
    world.end(0, cancelled()); // c has been told, and a not yet
    world.end(2, ChildEnd::Returned);
    world.log.clear();
    world.advance(DELAY);
    world.say_ready(1);
    world.said(&["start b", "b ready", "start c"]);
}

#[test]
fn one_that_waits_for_its_turn_is_not_shown_as_backing_off() {
    let world = World::new(OneForOne, 3, THREE);
    let state = world.plan.get(1).unwrap().state(world.now);
    assert!(matches!(state, ChildState::Waiting), "{state}");
}

#[test]
fn who_asked_for_a_restart_is_told_once_when_the_end_takes_too_long() {
    let mut world = World::ready(OneForOne, 3, THREE);
    world.plan.restart(1, world.now);
    world.work();
    world.said(&["stop b"]);
    world.advance(STOP);
    world.said(&["b stuck", "answer b false"]);
    world.advance(STOP * 10);
    assert!(!world.log.contains(&"answer b false".to_owned()));
    // Who only stopped it does not wait for that answer.
    world.log.clear();
    world.plan.stop(2, world.now);
    world.advance(STOP);
    assert!(!world.log.iter().any(|word| word.starts_with("answer")));
}

#[test]
fn who_asked_for_a_restart_is_told_at_once_when_something_else_is_asked() {
    let mut world = World::ready(OneForOne, 3, THREE);
    world.plan.restart(1, world.now);
    world.work();
    world.plan.stop(1, world.now);
    world.work();
    world.said(&["stop b", "answer b false"]);
}

#[test]
fn one_that_is_removed_is_forgotten_whatever_is_asked_before_it_has_ended() {
    let afterwards: [fn(&mut World); 3] = [
        |world| world.stop_all(),
        |world| world.plan.stop(1, world.now),
        |world| world.plan.found_cancelled(1),
    ];
    for ask in afterwards {
        let mut world = World::ready(OneForOne, 3, THREE);
        world.plan.remove(1, world.now);
        world.work();
        ask(&mut world);
        world.end(1, ChildEnd::Returned);
        assert!(world.log.contains(&"forget".into()), "{:?}", world.log);
        assert!(world.plan.get(1).is_none());
    }
}

#[test]
fn the_last_child_of_a_phase_that_is_forgotten_takes_the_phase_with_it() {
    let mut world = World::ready(OneForOne, 3, &[&[Permanent, Permanent], &[Permanent]]);
    for (id, phases) in [(0, 2), (1, 1), (2, 0)] {
        world.plan.remove(id, world.now);
        world.work();
        world.end(id, ChildEnd::Returned);
        assert_eq!(world.plan.phases.len(), phases, "{:?}", world.log);
    }
}

#[test]
fn one_that_is_being_added_when_a_sibling_fails_is_forgotten() {
    let mut world = World::ready(OneForAll, 3, &[&[Permanent]]);
    let phase = world.plan.add_phase("added".into());
    let rules = super::world::rules('z', Permanent);
    let added = world.plan.add(phase, rules, Attempt::Added, world.now);
    world.work();
    world.said(&["start z"]);
    world.end(0, failed());
    world.said(&["a failed: disk full", "a in 10", "answer z false", "stop z"]);
    world.end(added, ChildEnd::Returned);
    world.advance(DELAY);
    world.said(&["? cancelled", "forget", "start a"]);
}

#[test]
fn the_end_of_an_earlier_run_is_not_taken_for_that_of_this_one() {
    let mut world = World::ready(OneForOne, 3, &[&[Permanent]]);
    let (first, _) = world.live[&0];
    world.end(0, failed());
    world.advance(DELAY);
    world.log.clear();
    world.plan.ended(0, first, failed(), false, world.now);
    world.work();
    world.said(&[]);
    // Nor is one that comes twice.
    let (second, _) = world.live[&0];
    world.end(0, failed());
    world.log.clear();
    world.plan.ended(0, second, failed(), false, world.now);
    world.work();
    world.said(&[]);
}
