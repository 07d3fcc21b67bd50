//! The plan by tables, and under random histories that a model of the outside world checks.

use proptest::prelude::{
    Just, ProptestConfig, Strategy as _, prop, prop_assert, prop_oneof, proptest,
};

use super::*;
use crate::backoff::Backoff;
use crate::cancel::{CancelKind, Cancelled};
use crate::supervise::end::Failure;

const STOP: u64 = 50;
const START: u64 = 100;
const DELAY: u64 = 10;

fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn failed() -> ChildEnd {
    ChildEnd::Failed(Failure::new(anyhow::anyhow!("disk full")))
}

fn cancelled() -> ChildEnd {
    ChildEnd::Cancelled(Cancelled::new(CancelKind::Cancelled, None))
}

/// The world outside a plan: performs what it says, and holds it to its invariants.
struct World {
    plan: Plan,
    now: Instant,
    /// The live runs, and whether their tokens have been cancelled.
    live: BTreeMap<ChildId, (u64, bool)>,
    /// What happened, in words.
    log: Vec<String>,
    restarts: Vec<Instant>,
    over: usize,
}

impl World {
    /// Children a, b, .. in one phase each, or as `phases` says.
    fn new(strategy: Strategy, restarts: usize, phases: &[&[Restart]]) -> Self {
        let mut plan = Plan::new(Rules {
            name: "s".into(),
            strategy,
            restarts,
            period: millis(1000),
            healthy_after: millis(500),
        });
        let now = Instant::ZERO;
        let mut names = 'a'..;
        for phase in phases {
            let id = plan.add_phase("phase".into());
            for restart in *phase {
                let name = names.next().unwrap();
                plan.add(id, rules(name, *restart), Attempt::First, now);
            }
        }
        let mut world = Self {
            plan,
            now,
            live: BTreeMap::new(),
            log: Vec::new(),
            restarts: Vec::new(),
            over: 0,
        };
        world.work();
        world
    }

    /// All started and ready.
    fn ready(strategy: Strategy, restarts: usize, phases: &[&[Restart]]) -> Self {
        let mut world = Self::new(strategy, restarts, phases);
        let children = world.plan.children.len() as u64;
        (0..children).for_each(|id| world.say_ready(id));
        assert_eq!(world.plan.mode(), Mode::Running);
        world.log.clear();
        world
    }

    fn name(&self, id: ChildId) -> String {
        let child = self.plan.get(id);
        child.map_or_else(|| "?".into(), |child| child.rules.name.to_string())
    }

    fn work(&mut self) {
        loop {
            self.plan.tick(self.now);
            let mut any = false;
            while let Some(action) = self.plan.next_action() {
                any = true;
                self.perform(action);
            }
            if !any {
                break;
            }
        }
        // Otherwise its thread would spin.
        let next = self.plan.next_deadline(self.now);
        assert!(next.is_none_or(|next| next > self.now), "{:?}", self.log);
    }

    fn perform(&mut self, action: Action) {
        let name = |id| self.name(id);
        let words = match action {
            Action::Start(id) => {
                self.check_start(id);
                let run = self.plan.get(id).unwrap().run();
                self.live.insert(id, (run, false));
                format!("start {}", self.name(id))
            }
            Action::Cancel(id, why) => {
                self.check_cancel(id, why);
                self.live.get_mut(&id).unwrap().1 = true;
                format!("stop {}", self.name(id))
            }
            Action::Note(id, Note::Ready) => format!("{} ready", name(id)),
            Action::Note(id, Note::Ended(end)) => format!("{} {end}", name(id)),
            Action::Note(id, Note::Restarting { after, .. }) => {
                self.restarts.push(self.now);
                format!("{} in {}", self.name(id), after.as_millis())
            }
            Action::Note(id, Note::Stuck) => format!("{} stuck", name(id)),
            Action::Answer(id, answer) => format!("answer {} {}", name(id), answer.is_ok()),
            Action::Forget(..) => "forget".into(),
            Action::Started => "started".into(),
            Action::StopAll => "stop all".into(),
            Action::Over => {
                self.over += 1;
                "over".into()
            }
        };
        self.log.push(words);
    }

    /// Invariants 1, 4 and 6.
    fn check_start(&self, id: ChildId) {
        assert!(!self.live.contains_key(&id), "two runs: {:?}", self.log);
        let mode = self.plan.mode();
        assert!(
            matches!(mode, Mode::Starting | Mode::Running),
            "{:?}",
            self.log
        );
        let in_turn = mode == Mode::Starting || self.plan.rules.strategy != Strategy::OneForOne;
        if !in_turn || self.plan.get(id).unwrap().attempt.is_out_of_turn() {
            return;
        }
        let waits = |(_, child): (&ChildId, &Child)| {
            matches!(child.state, State::Pending { .. }) && !child.attempt.is_out_of_turn()
        };
        let before = self.plan.children.range(..id);
        assert!(
            !before.into_iter().any(waits),
            "out of turn: {:?}",
            self.log
        );
    }

    /// Invariant 3.
    fn check_cancel(&self, id: ChildId, why: Why) {
        assert!(!self.live[&id].1, "told twice: {:?}", self.log);
        if matches!(why, Why::Asked | Why::NotReady) {
            return;
        }
        let phase = self.plan.get(id).unwrap().phase;
        let holds_up = |child: &Child| {
            child.phase > phase && child.is_alive() && child.then.is_some() && !child.is_late()
        };
        assert!(!self.plan.children.values().any(holds_up), "{:?}", self.log);
    }

    fn say_ready(&mut self, id: ChildId) {
        if let Some((run, _)) = self.live.get(&id) {
            self.plan.ready(id, *run, self.now);
        }
        self.work();
    }

    /// Ends a run; one that was told ends as cancelled unless it failed.
    fn end(&mut self, id: ChildId, end: ChildEnd) {
        if let Some((run, told)) = self.live.remove(&id) {
            let end = match (told, end) {
                (true, ChildEnd::Returned) => cancelled(),
                (_, end) => end,
            };
            let by_token = told || end.is_cancelled();
            self.plan.ended(id, run, end, by_token, self.now);
        }
        self.work();
    }

    /// To the moment, one deadline after the other.
    fn advance(&mut self, time: u64) {
        let target = self.now.checked_add(millis(time)).unwrap();
        while let Some(next) = self.plan.next_deadline(self.now)
            && next <= target
        {
            self.now = next;
            self.work();
        }
        self.now = target;
        self.work();
    }

    fn stop_all(&mut self) {
        let why = Cancelled::new(CancelKind::Cancelled, None);
        self.plan.stop_all(StopReason::Cancelled(why));
        self.work();
    }

    #[track_caller]
    fn said(&mut self, expected: &[&str]) {
        assert_eq!(std::mem::take(&mut self.log), expected);
    }
}

fn rules(name: char, restart: Restart) -> ChildRules {
    ChildRules {
        name: name.to_string().into(),
        restart,
        start_timeout: millis(START),
        stop_timeout: millis(STOP),
        delays: Backoff::constant(millis(DELAY)).delays(),
    }
}

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

#[derive(Clone, Debug)]
enum Step {
    Advance(u64),
    Ready(u64),
    Return(u64),
    Fail(u64),
    CancelItself(u64),
    Stop(u64),
    Restart(u64),
    Remove(u64),
    Add,
}

fn step() -> impl proptest::strategy::Strategy<Value = Step> {
    let child = 0..6_u64;
    prop_oneof![
        (0..80_u64).prop_map(Step::Advance),
        child.clone().prop_map(Step::Ready),
        child.clone().prop_map(Step::Ready),
        child.clone().prop_map(Step::Return),
        child.clone().prop_map(Step::Fail),
        child.clone().prop_map(Step::CancelItself),
        child.clone().prop_map(Step::Stop),
        child.clone().prop_map(Step::Restart),
        child.prop_map(Step::Remove),
        Just(Step::Add),
    ]
}

impl World {
    fn take(&mut self, step: &Step) {
        let exists = |world: &Self, id| {
            let stopping = matches!(world.plan.mode(), Mode::Stopping | Mode::Over);
            !stopping && world.plan.get(id).is_some()
        };
        match *step {
            Step::Advance(time) => self.advance(time),
            Step::Ready(id) => self.say_ready(id),
            Step::Return(id) => self.end(id, ChildEnd::Returned),
            Step::Fail(id) => self.end(id, failed()),
            Step::CancelItself(id) => self.end(id, cancelled()),
            Step::Stop(id) if exists(self, id) => self.plan.stop(id, self.now),
            Step::Restart(id) if exists(self, id) => {
                self.plan.interrupt(id);
                self.plan.restart(id, self.now);
            }
            Step::Remove(id) if exists(self, id) => self.plan.remove(id, self.now),
            Step::Add if exists(self, 0) => {
                let phase = self.plan.add_phase("added".into());
                let rules = rules('z', Permanent);
                self.plan.add(phase, rules, Attempt::Added, self.now);
            }
            _ => {}
        }
        self.work();
    }

    /// Ends everything, from the outside.
    fn wind_down(&mut self) {
        self.stop_all();
        while let Some((id, _)) = self.live.iter().find(|(_, (_, told))| *told) {
            self.end(*id, ChildEnd::Returned);
        }
        assert!(self.live.is_empty(), "never told: {:?}", self.log);
        assert_eq!(self.over, 1, "{:?}", self.log);
        assert_eq!(self.plan.mode(), Mode::Over);
        let ended = |child: &Child| child.state == State::Ended;
        assert!(self.plan.children.values().all(ended), "{:?}", self.log);
        assert_eq!(self.plan.next_deadline(self.now), None);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn any_history_keeps_the_invariants_and_comes_to_an_end(
        strategy in prop::sample::select(vec![OneForOne, OneForAll, RestForOne]),
        policies in prop::collection::vec(prop::sample::select(vec![Permanent, Transient, Temporary]), 4),
        intensity in 0..6_usize,
        steps in prop::collection::vec(step(), 0..60),
    ) {
        let phases = [&policies[..1], &policies[1..3], &policies[3..]];
        let mut world = World::new(strategy, intensity, &phases);
        for step in &steps {
            world.take(step);
            prop_assert!(world.over <= 1);
        }
        world.wind_down();
        // No more restarts than so many in any second.
        for window in world.restarts.windows(intensity + 1) {
            let time = window[intensity].duration_since(window[0]);
            prop_assert!(time > millis(1000), "{:?}", world.log);
        }
        // Who waits is answered.
        prop_assert!(world.plan.children.values().all(|child| child.attempt == Attempt::None));
    }
}
