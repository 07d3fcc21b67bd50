//! Whether the tree that arrived is the one that the loops must make: every span, below its parent,
//! with its attributes and their types, and none else.

use anyhow::{Context, ensure};
use opentelemetry_proto::tonic::common::v1::any_value::Value;

use super::options::{Options, WORKERS};
use super::tree::{Node, Tree};
use super::work::{DONE, LIMIT, MEANT};

pub(crate) fn judge(tree: &Tree, options: &Options) -> anyhow::Result<()> {
    let batch = tree.root();
    ensure!(batch.name == "batch", "the root is {}", batch.name);
    let workers = batch.named("worker").count();
    ensure!(int(workers)? == int(WORKERS)?, "{workers} workers");
    let mut spans = 1;
    for worker in batch.named("worker") {
        spans += judge_worker(worker, batch, options)?;
    }
    spans += judge_late(only(batch, "late")?)?;
    spans += judge_quits(only(batch, "quits")?)?;
    spans += judge_panics(only(batch, "panics")?)?;
    ensure!(
        spans == tree.len(),
        "{spans} of {} spans belong",
        tree.len()
    );
    Ok(())
}

/// What a span of a pass must say.
#[derive(Clone, Copy)]
struct Pass {
    name: &'static str,
    iteration: u64,
    total: Option<u64>,
    interval: u64,
    /// Why the loop ended, if it did.
    exit: Option<&'static str>,
    failed: bool,
}

impl Pass {
    /// A breakpoint, or the last if there is an exit, or a slow pass if it is neither.
    fn judge(&self, span: &Node, breakpoint: bool) -> anyhow::Result<()> {
        let told = || format!("pass {} of {:?}", self.iteration, self.name);
        let last = Value::BoolValue(self.exit.is_some());
        has(span, "loop.name", &text(self.name)).with_context(told)?;
        has(span, "loop.iteration", &number(self.iteration)?).with_context(told)?;
        has(span, "loop.interval", &number(self.interval)?).with_context(told)?;
        has(span, "loop.is_last", &last).with_context(told)?;
        has(span, "loop.is_breakpoint", &Value::BoolValue(breakpoint)).with_context(told)?;
        match self.total {
            Some(total) => has(span, "loop.total_count", &number(total)?).with_context(told)?,
            None => ensure!(!span.attributes.contains_key("loop.total_count")),
        }
        match self.exit {
            Some(exit) => has(span, "loop.exit", &text(exit)).with_context(told)?,
            None => ensure!(!span.attributes.contains_key("loop.exit")),
        }
        ensure!(
            span.failed == self.failed,
            "{}: failed: {}",
            told(),
            span.failed
        );
        ensure!(span.name == "loop.pass", "{} is a {}", told(), span.name);
        Ok(())
    }
}

fn judge_worker(worker: &Node, batch: &Node, options: &Options) -> anyhow::Result<usize> {
    ensure!(
        thread(worker)? != thread(batch)?,
        "a worker ran on the main thread"
    );
    let passes = options.passes_per_worker();
    let mut pass = Pass {
        name: "fold",
        iteration: 0,
        total: Some(passes),
        interval: options.every,
        exit: None,
        failed: false,
    };
    let (last, breakpoints) = worker
        .children
        .split_last()
        .context("a worker without a span")?;
    ensure!(
        int(breakpoints.len())? == int(passes / options.every)?,
        "{} breakpoints",
        breakpoints.len()
    );
    let mut spans = 2 + breakpoints.len();
    for span in breakpoints {
        pass.iteration += options.every;
        pass.judge(span, true)?;
        ensure!(thread(span)? == thread(worker)?, "a pass ran elsewhere");
        spans += judge_checkpoint(span, options.is_checkpoint(pass.iteration))?;
    }
    pass.iteration = passes;
    pass.exit = Some("closed");
    pass.judge(last, false)?;
    Ok(spans)
}

/// What a pass handed to the pool is below it, though it ran on another thread.
fn judge_checkpoint(pass: &Node, expected: bool) -> anyhow::Result<usize> {
    let found = pass.children.len();
    ensure!(found == usize::from(expected), "{found} spans in a pass");
    for checkpoint in &pass.children {
        ensure!(checkpoint.name == "checkpoint", "{}", checkpoint.name);
        ensure!(
            thread(checkpoint)? != thread(pass)?,
            "the pool was not used"
        );
    }
    Ok(found)
}

fn judge_late(late: &Node) -> anyhow::Result<usize> {
    let [slow, last] = &late.children[..] else {
        anyhow::bail!("the late loop has {} spans", late.children.len());
    };
    let mut pass = Pass {
        name: "late",
        iteration: 2,
        total: Some(3),
        interval: 0,
        exit: None,
        failed: false,
    };
    pass.judge(slow, false)?;
    let took = slow.attributes.get("loop.slow_ms");
    let limit = LIMIT.as_secs_f64() * 1e3;
    ensure!(
        matches!(took, Some(Value::DoubleValue(took)) if *took >= limit),
        "the slow pass took {took:?} ms"
    );
    has(slow, "level", &text("WARN"))?;
    pass.iteration = 3;
    pass.exit = Some("done");
    pass.judge(last, false)?;
    has(last, "level", &text("INFO"))?;
    // And it was told while it ran, from the thread that watches.
    let told: Vec<_> = late
        .events
        .iter()
        .map(|event| event.get("loop.iteration"))
        .collect();
    ensure!(told == [Some(&Value::IntValue(2))], "told of {told:?}");
    Ok(3)
}

fn judge_quits(quits: &Node) -> anyhow::Result<usize> {
    let end = Pass {
        name: "quits",
        iteration: DONE,
        total: Some(MEANT),
        interval: 0,
        exit: Some("abandoned"),
        failed: true,
    };
    end.judge(only(quits, "loop.pass")?, false)?;
    Ok(2)
}

fn judge_panics(panics: &Node) -> anyhow::Result<usize> {
    let [breakpoint, last] = &panics.children[..] else {
        anyhow::bail!("the loop that panics has {} spans", panics.children.len());
    };
    let mut pass = Pass {
        name: "panics",
        iteration: 2,
        total: None,
        interval: 2,
        exit: None,
        failed: false,
    };
    pass.judge(breakpoint, true)?;
    pass.total = Some(2); // by then it is known
    pass.exit = Some("panicked");
    pass.failed = true;
    pass.judge(last, false)?;
    has(last, "level", &text("WARN"))?;
    Ok(3)
}

fn only<'a>(of: &'a Node, name: &'a str) -> anyhow::Result<&'a Node> {
    let mut found = of.named(name);
    let first = found.next().with_context(|| format!("no {name:?}"))?;
    ensure!(found.next().is_none(), "{name:?} is there twice");
    Ok(first)
}

fn has(span: &Node, name: &str, value: &Value) -> anyhow::Result<()> {
    let found = span.attributes.get(name);
    ensure!(
        found == Some(value),
        "{name} is {found:?} and not {value:?}"
    );
    Ok(())
}

fn thread(span: &Node) -> anyhow::Result<&Value> {
    let thread = span.attributes.get("thread.id");
    thread.context("a span without a thread")
}

fn text(text: &str) -> Value {
    Value::StringValue(text.to_owned())
}

fn number(number: u64) -> anyhow::Result<Value> {
    Ok(Value::IntValue(int(number)?))
}

fn int(number: impl TryInto<i64>) -> anyhow::Result<i64> {
    number.try_into().ok().context("too large")
}
