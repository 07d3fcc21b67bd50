//! What must hold, whatever the machine's load.

use std::collections::BTreeMap;

use anyhow::ensure;
use cleanbreak::resilience::breaker::{Reason, State};
use cleanbreak::resilience::policy::PolicyErrorKind;

use super::client::{OPEN_FOR, TIMEOUTS};
use super::record::{Answer, Change, Record};
use super::script::{Mood, PHASES};

/// Milliseconds that the clock's reading and its arithmetic may be off.
const ROUNDING: f64 = 0.5;

pub(crate) fn check(record: &Record, requests: u64) -> anyhow::Result<()> {
    states(record)?;
    probes(record, requests)?;
    attempts(record)?;
    answers(record)
}

/// Each change follows from the one before; it was open in the outage, where its probes failed, was
/// closed by one after it, and stayed open for its time in between.
fn states(record: &Record) -> anyhow::Result<()> {
    let changes = record.changes.lock();
    let mut state = State::Closed;
    for change in &*changes {
        let what = change.what;
        ensure!(what.from == state, "{what} follows {state}");
        state = what.to;
        let legal = match (what.from, what.to) {
            (State::Closed, State::Open) => what.reason == Reason::ConsecutiveFailures,
            (State::Open, State::HalfOpen) => what.reason == Reason::OpenTimeOver,
            (State::HalfOpen, State::Open) => what.reason == Reason::ProbesFailed,
            (State::HalfOpen, State::Closed) => what.reason == Reason::ProbesSucceeded,
            _ => false,
        };
        ensure!(legal, "{what} cannot be");
    }
    for pair in changes.windows(2) {
        let open = (pair[1].at - pair[0].at) * 1e3;
        let enough = pair[0].what.to != State::Open || open >= f64::from(OPEN_FOR) - ROUNDING;
        ensure!(enough, "open for {open:.1} ms only");
    }
    let down = PHASES.iter().find(|phase| phase.mood == Mood::Down);
    let down = down.map_or(0.0..0.0, |phase| phase.from..phase.to);
    let during = || changes.iter().filter(|change| down.contains(&change.at));
    let failed = |change: &&Change| change.what.reason == Reason::ProbesFailed;
    let probes = during().filter(failed).count();
    ensure!(probes >= 1, "no probe failed in the outage");
    let last = during().next_back().map(|change| change.what.to);
    ensure!(
        last.is_some_and(|state| state != State::Closed),
        "it was closed in the outage"
    );
    ensure!(state == State::Closed, "at the end it is {state}");
    Ok(())
}

/// Half-open lets exactly one request through, each time; and no request leaves that was rejected.
fn probes(record: &Record, requests: u64) -> anyhow::Result<()> {
    let (sent, changes) = (record.sent.lock(), record.changes.lock());
    let mut probes: BTreeMap<u32, u32> = BTreeMap::new();
    for change in changes
        .iter()
        .filter(|change| change.what.to == State::HalfOpen)
    {
        probes.insert(change.what.generation, 0);
    }
    for probe in sent.iter().filter(|sent| sent.state == State::HalfOpen) {
        *probes.entry(probe.generation).or_default() += 1;
    }
    let one_each = probes.values().all(|&count| count == 1);
    ensure!(one_each, "probes by generation: {probes:?}");
    let tries = record.tries.lock().len();
    ensure!(
        tries == sent.len(),
        "{tries} attempts, {} requests",
        sent.len()
    );
    let came = usize::try_from(requests)?;
    ensure!(
        came <= sent.len(),
        "{came} requests came, {} left",
        sent.len()
    );
    Ok(())
}

/// No attempt was given up before its time, and each time was half the one before.
fn attempts(record: &Record) -> anyhow::Result<()> {
    let mut seen = [0; TIMEOUTS.len()];
    for attempt in record
        .tries
        .lock()
        .iter()
        .filter(|attempt| attempt.timed_out)
    {
        let number = attempt.number as usize - 1;
        let timeout = f64::from(TIMEOUTS[number]);
        let took = attempt.took;
        ensure!(
            took >= timeout - ROUNDING,
            "attempt {} timed out after {took:.1} of {timeout} ms",
            attempt.number
        );
        seen[number] += 1;
    }
    ensure!(seen[0] > 0, "timeouts by attempt: {seen:?}");
    Ok(())
}

/// Every call had an answer; the fallback's while the breaker was open, at once and without a request;
/// the upstream's before and after.
fn answers(record: &Record) -> anyhow::Result<()> {
    let calls = record.calls.lock();
    let of = |answer| calls.iter().filter(move |call| call.answer == answer);
    let open = of(Answer::Fallback(PolicyErrorKind::Rejected)).count();
    ensure!(
        open >= 20,
        "{open} answers of the fallback while it was open"
    );
    for phase in PHASES.iter().filter(|phase| phase.mood == Mood::Well) {
        let during = |began: f64| phase.from <= began && began < phase.to;
        let good = of(Answer::FromUpstream).filter(|call| during(call.began));
        let good = good.count();
        ensure!(
            good >= 10,
            "{good} answers of the upstream when {}",
            phase.name
        );
    }
    Ok(())
}
