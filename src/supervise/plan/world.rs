//! The world outside a plan, as the tests of the plan need it.

use super::*;
use crate::backoff::Backoff;
use crate::cancel::{CancelKind, Cancelled};
use crate::supervise::end::Failure;

pub(super) const STOP: u64 = 50;
pub(super) const START: u64 = 100;
pub(super) const DELAY: u64 = 10;

pub(super) fn millis(n: u64) -> Duration {
    Duration::from_millis(n)
}

pub(super) fn failed() -> ChildEnd {
    ChildEnd::Failed(Failure::new(anyhow::anyhow!("disk full")))
}

pub(super) fn cancelled() -> ChildEnd {
    ChildEnd::Cancelled(Cancelled::new(CancelKind::Cancelled, None))
}

/// The world outside a plan: performs what it says, and holds it to its invariants.
pub(super) struct World {
    pub(super) plan: Plan,
    pub(super) now: Instant,
    /// The live runs, and whether their tokens have been cancelled.
    pub(super) live: BTreeMap<ChildId, (u64, bool)>,
    /// What happened, in words.
    pub(super) log: Vec<String>,
    pub(super) restarts: Vec<Instant>,
    pub(super) over: usize,
    /// It gives no thread.
    pub(super) refuses: bool,
}

impl World {
    /// Children a, b, .. in one phase each, or as `phases` says.
    pub(super) fn new(strategy: Strategy, restarts: usize, phases: &[&[Restart]]) -> Self {
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
            refuses: false,
        };
        world.work();
        world
    }

    /// All started and ready.
    pub(super) fn ready(strategy: Strategy, restarts: usize, phases: &[&[Restart]]) -> Self {
        let mut world = Self::new(strategy, restarts, phases);
        let children = world.plan.children.len() as u64;
        (0..children).for_each(|id| world.say_ready(id));
        assert_eq!(world.plan.mode(), Mode::Running);
        world.log.clear();
        world
    }

    pub(super) fn name(&self, id: ChildId) -> String {
        let child = self.plan.get(id);
        child.map_or_else(|| "?".into(), |child| child.rules.name.to_string())
    }

    pub(super) fn work(&mut self) {
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
            Action::Start(id) if self.refuses => {
                self.plan
                    .not_started(id, ThreadError::refused("a", "no more"), self.now);
                format!("no thread for {}", self.name(id))
            }
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

    pub(super) fn say_ready(&mut self, id: ChildId) {
        if let Some((run, _)) = self.live.get(&id) {
            self.plan.ready(id, *run, self.now);
        }
        self.work();
    }

    /// Ends a run; one that was told ends as cancelled unless it failed.
    pub(super) fn end(&mut self, id: ChildId, end: ChildEnd) {
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
    pub(super) fn advance(&mut self, time: u64) {
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

    pub(super) fn stop_all(&mut self) {
        let why = Cancelled::new(CancelKind::Cancelled, None);
        self.plan.stop_all(StopReason::Cancelled(why));
        self.work();
    }

    #[track_caller]
    pub(super) fn said(&mut self, expected: &[&str]) {
        assert_eq!(std::mem::take(&mut self.log), expected);
    }
}

pub(super) fn rules(name: char, restart: Restart) -> ChildRules {
    ChildRules {
        name: name.to_string().into(),
        restart,
        start_timeout: millis(START),
        stop_timeout: millis(STOP),
        delays: Backoff::constant(millis(DELAY)).delays(),
    }
}
