//! What is traced: a hot loop on several threads, and three loops that do not end as they should.

use std::sync::mpsc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use cleanbreak::flow::Exit;
use cleanbreak::{CancelToken, Pool, Probe, Shutdown, scope};
use tracing::info_span;

use super::options::{Options, WORKERS};

/// A pass of the late loop that takes longer is slow.
pub(crate) const LIMIT: Duration = Duration::from_millis(200);

/// Of the loop that gives up: what it meant to do, and what it did.
pub(crate) const MEANT: u64 = 10;
pub(crate) const DONE: u64 = 7;

/// All under one span. The first error is the result.
pub(crate) fn run(options: &Options, token: &CancelToken) -> anyhow::Result<()> {
    let batch = info_span!("batch");
    let _batch = (!options.unparented).then(|| batch.enter());
    let pool = Pool::builder().name("pool").workers(2).build(token)?;
    let clock = token.clock();
    let begun = clock.now();
    let total = scope(token, |group| {
        let mut workers = Vec::new();
        for worker in 0..WORKERS {
            let pool = &pool;
            workers.push(
                group.spawn_named("worker", move |token| fold(worker, options, pool, token))?,
            );
        }
        let mut total = 0_u64;
        for worker in workers {
            total = total.wrapping_add(worker.join()?);
        }
        Ok(total)
    })?;
    let took = clock.now().duration_since(begun);
    println!("{} passes in {} ms", options.passes, took.as_millis());
    ensure!(total == sum_of_squares(options.passes), "{total} is wrong");

    misfits(&pool)?;
    let report = pool.shutdown(Shutdown::Drain);
    ensure!(
        (report.failed, report.panicked) == (1, 1) && report.stuck.is_empty(),
        "the pool says: {report}"
    );
    Ok(())
}

/// The hot loop: a worker's share of the sum of squares. It runs inside the span of `batch`, though
/// on a thread of its own; what it hands to the pool runs inside the span of its pass, on a third.
fn fold(worker: u64, options: &Options, pool: &Pool, token: &CancelToken) -> anyhow::Result<u64> {
    let _worker = info_span!("worker", worker).entered();
    let passes = options.passes_per_worker();
    let probe = Probe::builder("fold").every(options.every).total(passes);
    let mut probe = probe.start()?;
    let (mut sum, mut number) = (0_u64, worker * passes);
    let exit: Exit = 'fold: loop {
        if probe.passes() == passes {
            break 'fold Exit::Closed; // all numbers have come
        }
        if let Err(cancelled) = token.check() {
            break 'fold cancelled.into();
        }
        probe.pass();
        number += 1;
        sum = sum.wrapping_add(number.wrapping_mul(number));
        if options.is_checkpoint(probe.passes()) {
            let kept = sum;
            let checkpoint =
                pool.submit(move |_| Ok(info_span!("checkpoint", sum = %kept).in_scope(|| kept)))?;
            ensure!(checkpoint.join()? == sum, "the checkpoint kept another sum");
        }
    };
    probe.finish(&exit);
    token.check()?;
    Ok(sum)
}

/// 1² + 2² + … + n², as the sums wrap.
fn sum_of_squares(n: u64) -> u64 {
    let n = u128::from(n);
    let sum = n * (n + 1) * (2 * n + 1) / 6;
    u64::try_from(sum & u128::from(u64::MAX)).unwrap_or_default()
}

/// One has a slow pass, one is abandoned, one panics. Each costs the others nothing.
fn misfits(pool: &Pool) -> anyhow::Result<()> {
    let late = pool.submit(|_| late())?;
    let quits = pool.submit(|_| quits())?;
    let panics = pool.submit(|_| panics())?;
    late.join().context("the late loop")?;
    let error = quits.join().err().and_then(|error| error.into_failure());
    let error = error.context("the loop that gives up must fail")?;
    ensure!(error.to_string().contains("out of input"), "{error}");
    let error = panics.join().err().context("the last one must panic")?;
    ensure!(error.is_panic(), "{error}");
    Ok(())
}

/// Three passes, of which the second waits until it has been told that it is late.
fn late() -> anyhow::Result<()> {
    let _late = info_span!("late").entered();
    let (tell, told) = mpsc::channel();
    let mut probe = Probe::builder("late")
        .every(0)
        .total(3)
        .slow_after(LIMIT)
        .on_slow(move |pass| {
            tell.send(pass.iteration).ok();
        })
        .start()?;
    for pass in 1..=3 {
        probe.pass();
        if pass == 2 {
            let iteration = told.recv_timeout(Duration::from_secs(60))?;
            ensure!(iteration == 2, "told of pass {iteration}");
        }
    }
    probe.finish_with("done");
    Ok(())
}

/// Leaves its loop by `?`, without a word to the probe.
fn quits() -> anyhow::Result<()> {
    let _quits = info_span!("quits").entered();
    let mut probe = Probe::builder("quits").every(0).total(MEANT).start()?;
    for pass in 0..MEANT {
        let record = input(pass)?; // before the pass: it never begins
        probe.pass();
        ensure!(record == pass);
    }
    probe.finish_with("done");
    Ok(())
}

fn input(record: u64) -> anyhow::Result<u64> {
    if record == DONE {
        bail!("out of input");
    }
    Ok(record)
}

/// Panics inside the pass that is a breakpoint.
fn panics() -> anyhow::Result<()> {
    let _panics = info_span!("panics").entered();
    let mut probe = Probe::builder("panics").every(2).start()?;
    loop {
        probe.pass();
        assert!(probe.passes() < 2, "planted: the second pass panics");
    }
}
