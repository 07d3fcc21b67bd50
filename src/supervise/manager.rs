//! The supervisor's thread: hears what happened, asks the plan, and does what it says.

use std::collections::BTreeMap;
use std::time::Duration;

use crossbeam_channel::{Receiver, Sender};

use super::end::ChildEnd;
use super::err::ChildErrorKind;
use super::event::Event;
use super::plan::{Action, Attempt, ChildId, ChildRules, Mode, Note, PhaseId, Plan, Unready, Why};
use super::report::{ChildInfo, StopReason};
use super::run::{Run, RunId};
use super::shared::{Ask, Entry, Message, Reply, Role, Shared};
use super::spec::{ChildSpec, Phase};
use crate::backoff::Backoff;
use crate::cancel::{CancelKind, Cancelled, Cause};
use crate::contain::drop_contained;
use crate::fault::{self, At};
use crate::observe;
use crate::sync::Arc;
use crate::threads;

/// What a child gets that does not say otherwise.
#[derive(Clone)]
pub(super) struct Defaults {
    pub(super) start_timeout: Duration,
    pub(super) stop_timeout: Duration,
    pub(super) backoff: Backoff,
}

pub(super) struct Manager {
    shared: Arc<Shared>,
    inbox: Receiver<Message>,
    plan: Plan,
    defaults: Defaults,
    specs: BTreeMap<ChildId, ChildSpec>,
    runs: BTreeMap<ChildId, Run>,
    waiters: Vec<Waiter>,
    /// Who waits for the start: told `true`, or `false` when it has been stopped instead.
    started: Option<Sender<bool>>,
}

/// Who waits for a child.
struct Waiter {
    id: ChildId,
    until: Until,
    reply: Reply,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Until {
    Ready,
    Ended,
    Removed,
}

impl Waiter {
    fn is_for(&self, id: ChildId, until: Until) -> bool {
        self.id == id && self.until == until
    }
}

impl Manager {
    pub(super) fn new(
        shared: Arc<Shared>,
        inbox: Receiver<Message>,
        plan: Plan,
        defaults: Defaults,
        started: Sender<bool>,
    ) -> Self {
        Self {
            shared,
            inbox,
            plan,
            defaults,
            specs: BTreeMap::new(),
            runs: BTreeMap::new(),
            waiters: Vec::new(),
            started: Some(started),
        }
    }

    /// Adds what is to be started first.
    pub(super) fn add_phase(&mut self, phase: Phase) {
        let stop_timeout = phase.stop_timeout.unwrap_or(self.defaults.stop_timeout);
        let id = self.plan.add_phase(phase.name);
        for child in phase.children {
            self.add_child(id, stop_timeout, child, Attempt::First);
        }
    }

    fn add_child(
        &mut self,
        phase: PhaseId,
        stop_timeout: Duration,
        spec: ChildSpec,
        attempt: Attempt,
    ) -> ChildId {
        let backoff = spec.backoff.as_ref().unwrap_or(&self.defaults.backoff);
        let rules = ChildRules {
            name: spec.name.clone(),
            restart: spec.restart,
            start_timeout: spec.start_timeout.unwrap_or(self.defaults.start_timeout),
            stop_timeout,
            delays: backoff.delays(),
        };
        let now = self.shared.now();
        let id = self.plan.add(phase, rules, attempt, now);
        self.specs.insert(id, spec);
        id
    }

    /// Runs until everything has been stopped and every thread has ended.
    pub(super) fn serve(mut self) {
        self.shared.enter(Role::Manager);
        loop {
            fault::pass(At::SuperviseManage);
            while let Ok(message) = self.inbox.try_recv() {
                self.hear(message);
            }
            self.work();
            if self.plan.mode() == Mode::Over && !self.plan.is_anyone_alive() {
                break;
            }
            if let Some(message) = self.receive() {
                self.hear(message);
            }
        }
        // What the children and a custom backoff captured.
        self.specs.into_values().for_each(drop_contained);
        drop_contained((self.plan, self.defaults));
    }

    fn receive(&self) -> Option<Message> {
        let deadline = self.plan.next_deadline(self.shared.now());
        let _wait = threads::waiting_on("hear from the children of a supervisor");
        let clock = self.shared.token.clock();
        clock.recv_until(&self.inbox, deadline).ok()
    }

    fn hear(&mut self, message: Message) {
        match message {
            Message::Ready { id, run, at } => self.plan.ready(id, run, at),
            Message::Ended {
                id,
                run,
                end,
                cancelled,
                at,
            } => {
                // Before anything follows from it, so that the next run finds it gone.
                if let Some(run) = self.runs.remove(&id) {
                    run.join();
                }
                self.plan.ended(id, run, end, cancelled, at);
            }
            Message::Cancelled => {
                if let Some(cancelled) = self.shared.token.cancelled() {
                    self.plan.stop_all(StopReason::Cancelled(cancelled));
                }
            }
            // The reply goes unanswered.
            Message::Add(spec, _) if self.is_stopping() => drop_contained(spec),
            Message::Ask(..) if self.is_stopping() => {}
            Message::Add(spec, reply) => self.hear_add(spec, reply),
            Message::Ask(ask, name, reply) => self.hear_ask(ask, &name, reply),
        }
    }

    fn is_stopping(&self) -> bool {
        matches!(self.plan.mode(), Mode::Stopping | Mode::Over)
    }

    fn hear_add(&mut self, spec: ChildSpec, reply: Reply) {
        if self.plan.find(&spec.name).is_some() {
            drop_contained(spec);
            reply.send(Err(ChildErrorKind::DuplicateName)).ok();
            return;
        }
        let phase = self.plan.add_phase(spec.name.clone());
        let stop_timeout = self.defaults.stop_timeout;
        let id = self.add_child(phase, stop_timeout, spec, Attempt::Added);
        self.waiters.push(Waiter {
            id,
            until: Until::Ready,
            reply,
        });
    }

    fn hear_ask(&mut self, ask: Ask, name: &str, reply: Reply) {
        let Some(id) = self.plan.find(name) else {
            reply.send(Err(ChildErrorKind::Unknown)).ok();
            return;
        };
        if matches!(ask, Ask::Restart) && self.plan.is_leaving(id) {
            reply.send(Err(ChildErrorKind::Unknown)).ok();
            return;
        }
        // Who waits for its start, or has waited for its end, is answered before it changes again.
        self.plan.interrupt(id);
        self.show();
        self.do_actions();
        self.answer_stopped();
        let until = match ask {
            Ask::Restart => Until::Ready,
            Ask::Stop => Until::Ended,
            Ask::Remove => Until::Removed,
        };
        self.waiters.push(Waiter { id, until, reply });
        let now = self.shared.now();
        match ask {
            Ask::Restart => self.plan.restart(id, now),
            Ask::Stop => self.plan.stop(id, now),
            Ask::Remove => self.plan.remove(id, now),
        }
    }

    /// Does what is due, and what follows from that, until there is nothing more to do.
    fn work(&mut self) {
        loop {
            self.plan.tick(self.shared.now());
            self.show();
            if !self.do_actions() {
                break;
            }
        }
        self.answer_stopped();
    }

    /// Whether there was any.
    fn do_actions(&mut self) -> bool {
        let mut any = false;
        while let Some(action) = self.plan.next_action() {
            any = true;
            self.perform(action);
        }
        any
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Start(id) => self.start(id),
            Action::Cancel(id, why) => self.cancel(id, why),
            Action::Note(id, note) => self.tell(id, note),
            Action::Answer(id, answer) => self.answer(id, answer),
            Action::Forget(id, end) => self.forget(id, end),
            Action::Started => self.answer_start(true),
            Action::StopAll => self.stop_all(),
            Action::Over => self.over(),
        }
    }

    fn start(&mut self, id: ChildId) {
        let (Some(child), Some(spec)) = (self.plan.get(id), self.specs.get(&id)) else {
            return;
        };
        let (run, restarts) = (child.run(), child.restarts());
        let (name, ready) = (spec.name.to_string(), spec.ready_at_start);
        let run_id = RunId { child: id, run };
        match Run::start(&self.shared, spec, run_id) {
            Err(error) => self.plan.not_started(id, error, self.shared.now()),
            Ok(started) => {
                self.runs.insert(id, started);
                self.plan.touch(id);
                let child = name;
                self.shared.tell(&Event::Started { child, restarts });
                if ready {
                    self.plan.ready(id, run, self.shared.now());
                }
            }
        }
    }

    fn cancel(&mut self, id: ChildId, why: Why) {
        let Some(run) = self.runs.get(&id) else {
            return;
        };
        let words = match why {
            Why::Stop => "the supervisor stops",
            Why::NotReady => "it was not ready in time",
            Why::Sibling => "a sibling failed",
            Why::Asked => "it was asked to stop",
        };
        let inherited = self.shared.token.cancelled().filter(|_| why == Why::Stop);
        let own = || Cancelled::new(CancelKind::Cancelled, Some(Cause::from(words)));
        // Hooks on it run here.
        if !run.token.cancel_as(&inherited.unwrap_or_else(own)) {
            self.plan.found_cancelled(id);
        }
    }

    fn tell(&mut self, id: ChildId, note: Note) {
        let Some(spec) = self.specs.get(&id) else {
            return;
        };
        let (supervisor, name) = (&self.shared.name, &spec.name);
        let child = name.to_string();
        let event = match note {
            Note::Ready => Event::Ready { child },
            Note::Ended(end) => {
                observe::supervised_run(supervisor, name, || end.label());
                // Now, as another call may have it started again at once.
                let answer = Ok(Some(end.clone()));
                self.reply_to(|waiter| waiter.is_for(id, Until::Ended), &answer);
                Event::Ended { child, end }
            }
            Note::Restarting { end, after } => {
                observe::supervised_restart(supervisor, name);
                Event::Restarting { child, end, after }
            }
            Note::Stuck => match self.shared.info(id) {
                Some(child) => Event::Stuck { child },
                None => return,
            },
        };
        self.shared.tell(&event);
    }

    fn answer(&mut self, id: ChildId, answer: Result<(), Unready>) {
        let answer = match answer {
            Ok(()) => Ok(None),
            Err(Unready::Ended(end)) => {
                if self.plan.get(id).is_none() {
                    self.shared.hide(id); // who is told that it is no child finds none
                }
                Err(ChildErrorKind::NotReady(end))
            }
            Err(Unready::Interrupted) => Err(ChildErrorKind::Interrupted),
            Err(Unready::Closed) => Err(ChildErrorKind::Closed),
            Err(Unready::Stuck) => Err(self.stuck(id)),
        };
        self.reply_to(|waiter| waiter.is_for(id, Until::Ready), &answer);
    }

    fn stuck(&self, id: ChildId) -> ChildErrorKind {
        let info = self.shared.info(id);
        info.map_or(ChildErrorKind::Closed, |child: ChildInfo| {
            ChildErrorKind::Stuck(Box::new(child))
        })
    }

    fn reply_to(
        &mut self,
        whom: impl Fn(&Waiter) -> bool,
        answer: &Result<Option<ChildEnd>, ChildErrorKind>,
    ) {
        for waiter in self.waiters.extract_if(.., |waiter| whom(waiter)) {
            waiter.reply.send(answer.clone()).ok();
        }
    }

    /// Answers those who wait for the end of what did not run, or is late.
    fn answer_stopped(&mut self) {
        let waited_for = self
            .waiters
            .iter()
            .filter(|waiter| waiter.until != Until::Ready);
        let ids: Vec<_> = waited_for.map(|waiter| waiter.id).collect();
        for id in ids {
            let Some(child) = self.plan.get(id).filter(|child| child.is_settled()) else {
                continue;
            };
            let answer = match child.told_at() {
                Some(_) => Err(self.stuck(id)),
                None => Ok(child.last_end().cloned()),
            };
            let waits = |waiter: &Waiter| waiter.id == id && waiter.until != Until::Ready;
            self.reply_to(waits, &answer);
        }
    }

    fn forget(&mut self, id: ChildId, end: Option<ChildEnd>) {
        self.shared.hide(id);
        drop_contained(self.specs.remove(&id));
        self.reply_to(|waiter| waiter.id == id, &Ok(end));
    }

    fn answer_start(&mut self, started: bool) {
        if let Some(waits) = self.started.take() {
            waits.send(started).ok();
        }
    }

    fn stop_all(&mut self) {
        // Unanswered, before any child is told: one of them may be who waits.
        self.waiters.clear();
        let cause = match self.plan.reason() {
            Some(StopReason::GaveUp(gave_up)) => Cause::error(gave_up.clone()),
            Some(reason @ StopReason::NotStarted { .. }) => Cause::from(reason.to_string()),
            _ => return,
        };
        if let Some(StopReason::GaveUp(gave_up)) = self.plan.reason() {
            observe::supervisor_gave_up(&self.shared.name);
            self.shared.tell(&Event::GaveUp(gave_up.clone()));
        }
        self.shared.token.cancel_with(cause);
    }

    fn over(&mut self) {
        self.shared.tell(&Event::Stopped(self.shared.report()));
        self.shared.open_gate();
        self.answer_start(false);
    }

    /// Shows what has changed to who looks.
    fn show(&mut self) {
        let now = self.shared.now();
        let mut entries = Vec::new();
        for id in self.plan.take_touched() {
            let (Some(child), Some(spec)) = (self.plan.get(id), self.specs.get(&id)) else {
                continue;
            };
            let entry = Entry {
                name: spec.name.clone(),
                site: spec.site,
                phase: self.plan.phase_name(child.phase),
                state: child.state(now),
                told_at: child.told_at(),
                restarts: child.restarts(),
                last_end: child.last_end().cloned(),
                thread: self.runs.get(&id).map(|run| run.thread.clone()),
            };
            entries.push((id, entry));
        }
        self.shared.show(entries);
        let (reason, phases) = (self.plan.reason(), self.plan.stopped_phases());
        self.shared.show_stop(reason, phases);
    }
}
