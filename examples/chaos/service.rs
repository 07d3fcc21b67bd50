//! The service: a group of producers, consumers, a heartbeat and a pair of pipes, on a bad day.

use std::io::{Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use cleanbreak::channel::RecvCancelError;
use cleanbreak::group::SpawnError;
use cleanbreak::{
    CancelToken, Clock, Group, GroupBuilder, Interruptible, MissedTicks, Task, ThreadCache, Ticker,
    chaos,
};
use crossbeam_channel::{Receiver, bounded, select};
use fastrand::Rng;

use crate::calls::Calls;
use crate::ledger::Ledger;
use crate::plant::{Inbox, Outbox, Plant, lane};
use crate::work::Work;

pub(crate) struct Service {
    root: CancelToken,
    clock: Clock,
    ledger: Arc<Ledger>,
    plant: Option<Plant>,
    outbox: Outbox,
    inbox: Inbox,
    cache: ThreadCache,
    calls: Calls,
    work: Work,
    /// One in so many steps of a consumer fails; 0 for none.
    failing: u32,
    /// What a task does that is told to stop: fail with that, or end well.
    strict: bool,
    seed: u64,
}

/// The last of the consumers closes the channel, so that no producer waits for nobody.
struct Crew<'a> {
    left: &'a AtomicUsize,
    inbox: Inbox,
}

impl Drop for Crew<'_> {
    fn drop(&mut self) {
        if self.left.fetch_sub(1, Ordering::SeqCst) == 1 {
            self.inbox.close();
        }
    }
}

type Tasks<'scope> = Vec<Task<'scope, (), anyhow::Error>>;

impl Service {
    pub(crate) fn new(
        rng: &mut Rng,
        root: &CancelToken,
        clock: &Clock,
        ledger: &Arc<Ledger>,
        plant: Option<Plant>,
    ) -> Self {
        let capacity = [Some(0), Some(1), Some(8), None][rng.usize(..4)];
        let (outbox, inbox) = lane(capacity, plant);
        Self {
            root: root.clone(),
            clock: clock.clone(),
            ledger: ledger.clone(),
            plant,
            outbox,
            inbox,
            cache: ThreadCache::new(),
            calls: Calls::new(rng, clock, ledger, plant),
            work: Work::new(rng, root, ledger, plant),
            failing: if rng.bool() { rng.u32(20..200) } else { 0 },
            strict: rng.bool(),
            seed: rng.u64(..),
        }
    }

    /// A generator for one task, the same in each replay.
    fn rng(&self, task: u64) -> Rng {
        Rng::with_seed(self.seed ^ task.wrapping_mul(0x9e37_79b9_7f4a_7c15))
    }

    /// Runs the service to its end, and returns what it came to.
    pub(crate) fn run(&self, rng: &mut Rng) -> Option<anyhow::Error> {
        let mut builder = GroupBuilder::new().name("service");
        if rng.bool() {
            builder = builder.collect_panics();
        }
        let supervisor = self.work.supervise(rng, &self.root);
        let (producers, consumers) = (rng.u64(1..4), rng.u64(1..4));
        let left = AtomicUsize::new(usize::try_from(consumers).unwrap_or(1));
        let mut own = None;
        let ended = builder.scope(&self.root, |group| {
            own = Some(group.token().clone());
            let makers = self.spawn_all(group, producers, consumers, &left);
            self.disturb(rng, group.token(), makers);
            Ok(())
        });
        drop(supervisor);
        let error = ended.err();
        self.check_cause(error.as_ref(), own.as_ref());
        error
    }

    /// The siblings were told of the error that the group returns (G2).
    fn check_cause(&self, error: Option<&anyhow::Error>, token: Option<&CancelToken>) {
        let failure = error.and_then(|error| error.downcast_ref::<crate::ledger::Failure>());
        let (Some(failure), Some(token)) = (failure, token) else {
            return;
        };
        let cause = token.cause().map(|cause| cause.to_string());
        let told = cause
            .as_ref()
            .is_some_and(|cause| cause.ends_with(&failure.to_string()));
        let panicked = cause
            .as_ref()
            .is_some_and(|cause| cause.contains("panicked"));
        let otherwise = panicked || is_over(&self.root);
        self.ledger.check(told || otherwise, || {
            format!("the group failed with \"{failure}\", its siblings were told {cause:?}")
        });
    }

    fn spawn_all<'scope>(
        &'scope self,
        group: &'scope Group<'scope, '_>,
        producers: u64,
        consumers: u64,
        left: &'scope AtomicUsize,
    ) -> Tasks<'scope> {
        // Made before any is spawned, so that those that are refused count as gone.
        let crew = |_| Crew {
            left,
            inbox: self.inbox.clone(),
        };
        let crews: Vec<_> = (0..consumers).map(crew).collect();
        let note = |spawned: Result<_, SpawnError>| {
            if let Err(SpawnError::Thread(_)) = spawned {
                self.ledger.count("tasks without a thread", 1);
            }
            spawned.ok()
        };
        let mut makers = Vec::new();
        for n in 0..producers {
            let outbox = self.outbox.clone();
            let task = move |token: &CancelToken| self.produce(n, &outbox, token);
            makers.extend(note(group.spawn_named("producer", task)));
        }
        for (n, crew) in (100..).zip(crews) {
            let task = move |token: &CancelToken| self.consume(n, &crew.inbox, token);
            note(group.spawn_named("consumer", task));
        }
        let heartbeat = |token: &CancelToken| self.beat(token);
        note(group.spawn_named("heartbeat", heartbeat));
        if let Ok((reader, writer)) = std::io::pipe() {
            let total = self.rng(300).usize(1..200_000);
            let write = move |token: &CancelToken| {
                write_all(writer, total, token);
                Ok(())
            };
            note(group.spawn_named("writer", write));
            let read = move |token: &CancelToken| {
                self.read_all(reader, total, token);
                Ok(())
            };
            note(group.spawn_named("reader", read));
        }
        if self.plant == Some(Plant::Wait) {
            let deaf = |_: &CancelToken| {
                let never = crossbeam_channel::never::<()>();
                never.recv_timeout(Duration::from_secs(60)).ok();
                Ok(())
            };
            note(group.spawn_named("deaf", deaf));
        }
        makers
    }

    /// What happens to the service from outside, at moments of the seed's choice.
    fn disturb(&self, rng: &mut Rng, token: &CancelToken, makers: Tasks<'_>) {
        for _ in 0..rng.u32(1..6) {
            token.sleep(Duration::from_micros(rng.u64(10..1500))).ok();
            match rng.u8(..12) {
                0 => drop(self.root.cancel_with("a bad day")),
                1 => self.outbox.close(),
                2 | 3 => {
                    let backlog = self.inbox.close_and_drain();
                    self.ledger.close_returned();
                    backlog
                        .into_iter()
                        .for_each(|message| self.ledger.drained(message));
                }
                4 | 5 => self.work.resize(rng.usize(1..4)),
                6 | 7 => self.calls.advance(Duration::from_millis(rng.u64(1..20))),
                _ => {}
            }
        }
        match rng.u8(..5) {
            n if n == 0 || self.plant == Some(Plant::Wait) => {
                self.root.cancel_with("the end of the day");
            }
            // They come to their end, or are told.
            1 | 2 => makers.into_iter().for_each(|maker| drop(maker.join())),
            _ => drop(token.sleep(Duration::from_millis(rng.u64(1..8)))),
        }
        // So that consumers end when all is received.
        self.outbox.close();
        self.ledger.close_returned();
    }

    fn produce(&self, task: u64, outbox: &Outbox, token: &CancelToken) -> anyhow::Result<()> {
        let mut rng = self.rng(task);
        for _ in 0..rng.u32(20..200) {
            chaos::point("producer.step");
            if token.is_cancelled() {
                return self.told(token);
            }
            let message = self.ledger.message();
            let (id, closed) = (message.id, self.ledger.is_closed());
            match outbox.send(message, rng.u8(..), token) {
                Ok(()) => self.ledger.sent(id, closed),
                Err(back) => self.ledger.refused(id, back),
            }
        }
        Ok(())
    }

    /// The end of a task that was told to stop.
    fn told(&self, token: &CancelToken) -> anyhow::Result<()> {
        match self.strict {
            true => Ok(token.check()?),
            false => Ok(()),
        }
    }

    fn consume(&self, task: u64, inbox: &Inbox, token: &CancelToken) -> anyhow::Result<()> {
        let mut rng = self.rng(task);
        loop {
            chaos::point("consumer.step");
            match inbox.receive(token) {
                Ok(message) => self.ledger.received(message),
                Err(RecvCancelError::Closed) => return Ok(()),
                Err(RecvCancelError::Cancelled(_)) => return self.told(token),
            }
            match rng.u8(..8) {
                0..3 => self.work.submit(&mut rng),
                3..6 => self.calls.call(&mut rng, token),
                6 => self.fan_out(&mut rng, token),
                _ => {}
            }
            if self.failing > 0 && rng.u32(..self.failing) == 0 {
                let failure = self.ledger.failure();
                if self.plant == Some(Plant::Error) {
                    token.cancel();
                    chaos::point("plant.window");
                }
                return Err(failure.into());
            }
        }
    }

    /// A group within the task, with a limit. What it comes to is no affair of the service's.
    fn fan_out(&self, rng: &mut Rng, token: &CancelToken) {
        let (tasks, ran) = (rng.usize(1..6), AtomicUsize::new(0));
        let group = GroupBuilder::new()
            .name("fan-out")
            .limit(2)
            .collect_panics();
        let group = match rng.bool() {
            true => group.cache(&self.cache),
            false => group,
        };
        let mut started = 0;
        let ended: anyhow::Result<()> = group.scope(token, |group| {
            for _ in 0..tasks {
                let ran = &ran;
                group.spawn(move |_| {
                    ran.fetch_add(1, Ordering::SeqCst);
                    Ok(())
                })?;
                started += 1;
            }
            Ok(())
        });
        let ran = ran.into_inner();
        self.ledger
            .check(ran <= started, || format!("{ran} tasks ran of {started}"));
        if ended.is_ok() {
            self.ledger.count("groups in groups", 1);
        }
    }

    /// Ticks are on the grid and in order, and none comes after a stop or a reset (K3, K4).
    fn beat(&self, token: &CancelToken) -> anyhow::Result<()> {
        let mut rng = self.rng(200);
        let period = Duration::from_micros(rng.u64(200..2000));
        let policy = [MissedTicks::Skip, MissedTicks::Burst][rng.usize(..2)];
        let mut last = self.clock.now();
        let ticker = Ticker::builder(period)
            .clock(&self.clock)
            .missed_ticks(policy)
            .start();
        let Ok(ticker) = ticker else {
            self.ledger.count("tickers without a thread", 1);
            return Ok(());
        };
        let stale = self.second_hand(&ticker);
        let (mut period, mut first) = (period, None);
        for n in 0..rng.u32(1..8) {
            let tick = select! {
                recv(token.done()) -> _ => break,
                recv(ticker) -> tick => tick?,
            };
            self.ledger.count("ticks", 1);
            let grid = *first.get_or_insert(tick.scheduled);
            let off = tick.scheduled.duration_since(grid).as_nanos() % period.as_nanos();
            let after = tick.scheduled > last;
            self.ledger.check(off == 0 && after, || {
                format!("tick {n} is {off} ns off its grid, or stale: {tick:?} after {last:?}")
            });
            last = tick.scheduled;
            if rng.u8(..4) == 0 {
                period = Duration::from_micros(rng.u64(200..2000));
                (last, first) = (self.clock.now(), None);
                ticker.reset(period)?;
            }
        }
        ticker.stop();
        let left = stale.as_ref().unwrap_or(&ticker).try_recv();
        self.ledger
            .check(left.is_err(), || format!("a tick after the stop: {left:?}"));
        Ok(())
    }

    /// What the bug hands out for a ticker: a channel behind it.
    fn second_hand(&self, ticker: &Ticker) -> Option<Receiver<cleanbreak::Tick>> {
        if self.plant != Some(Plant::Tick) {
            return None;
        }
        let (tx, rx) = bounded(1);
        ticker.ticks().recv().ok().map(|tick| tx.send(tick).ok());
        Some(rx)
    }

    /// What is read is what was written, as far as it goes.
    fn read_all(&self, reader: std::io::PipeReader, total: usize, token: &CancelToken) {
        let (mut reader, mut seen) = (Interruptible::new(reader, token), 0);
        let mut buffer = [0; 4096];
        let ended = loop {
            match reader.read(&mut buffer) {
                Ok(0) => break true,
                Ok(length) => {
                    let right = (seen..)
                        .zip(&buffer[..length])
                        .all(|(n, byte)| *byte == pattern(n));
                    self.ledger
                        .check(right, || format!("wrong bytes after {seen}"));
                    seen += length;
                }
                Err(_) => break false,
            }
        };
        self.ledger
            .check(seen <= total, || format!("{seen} bytes read of {total}"));
        self.ledger.count("bytes through pipes", seen as u64);
        self.ledger
            .count("pipes read to their end", u64::from(ended && seen == total));
    }

    /// After the group: what is left is handed back, and each part tells its end.
    pub(crate) fn end(&self, rng: &mut Rng) {
        let backlog = self.inbox.close_and_drain();
        backlog
            .into_iter()
            .for_each(|message| self.ledger.drained(message));
        self.work.end(rng);
    }

    /// Without faults: every permit is back.
    pub(crate) fn check_calm(&self) {
        self.calls.check_calm();
    }
}

/// Told to stop from outside, or by a deadline that has passed; that may not have been delivered yet,
/// but counts (T2).
pub(crate) fn is_over(root: &CancelToken) -> bool {
    root.is_cancelled() || root.remaining() == Some(Duration::ZERO)
}

fn pattern(n: usize) -> u8 {
    (n % 251) as u8
}

/// Until the reader goes, or the token is cancelled.
fn write_all(writer: std::io::PipeWriter, total: usize, token: &CancelToken) {
    let bytes: Vec<_> = (0..total).map(pattern).collect();
    Interruptible::new(writer, token).write_all(&bytes).ok();
}
