//! The plan under random histories, held to its invariants by the [world](super::world).

use proptest::prelude::{Just, Strategy as _, prop, prop_assert, prop_oneof, proptest};

use super::world::{World, cancelled, failed, millis, rules};
use super::*;
use crate::noise::cases;
use Restart::{Permanent, Temporary, Transient};
use Strategy::{OneForAll, OneForOne, RestForOne};

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
    #![proptest_config(cases(500))]

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
