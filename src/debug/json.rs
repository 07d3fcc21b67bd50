//! Facts as JSON. What they mean is said in the [module](super).

use std::fmt::{self, Display, Write};

use super::json_calls;
use super::watched::{Named, Tree};
use crate::diagnose::{Maybe, Seconds, Text, ThreadDump, list};
use crate::pool::{self, PoolInfo};
use crate::probe::{self, LoopInfo};
use crate::resilience::breaker::{self, BreakerInfo};
use crate::sync::Arc;
use crate::ticker::{self, TickerInfo};

/// Into a string, so that nothing can fail.
pub(super) fn written(write: impl FnOnce(&mut String) -> fmt::Result) -> String {
    let mut out = String::new();
    write(&mut out).ok();
    out
}

pub(super) fn array<T>(items: &[T], item: impl FnMut(&mut String, &T) -> fmt::Result) -> String {
    written(|out| list(out, items, item))
}

/// As text: a line of source, a cause.
pub(super) fn quoted(value: impl Display) -> String {
    Text(&value.to_string()).to_string()
}

/// All that the page shows beside values, of one moment as nearly as can be.
pub(super) fn state(at: Seconds, dump: &ThreadDump, trees: &[Tree]) -> String {
    format!(
        "{{\"at_seconds\":{at},\"dump\":{},\"loops\":{},\"pools\":{},\"groups\":{},\
         \"supervisors\":{},\"breakers\":{},\"bulkheads\":{},\"limiters\":{},\"tickers\":{},\
         \"tokens\":{}}}",
        dump.to_json(),
        loops(),
        pools(),
        json_calls::groups(),
        json_calls::supervisors(),
        breakers(),
        json_calls::bulkheads(),
        json_calls::limiters(),
        tickers(),
        tokens(trees)
    )
}

pub(super) fn loops() -> String {
    array(&probe::live(), |out, it: &LoopInfo| {
        let (name, at) = (Text(&it.name), quoted(it.probed_at));
        write!(
            out,
            "{{\"id\":{},\"name\":{name},\"probed_at\":{at},",
            it.id
        )?;
        write!(out, "\"passes\":{},\"busy\":{},", it.passes, it.busy)?;
        write!(out, "\"age_seconds\":{}}}", Seconds(it.age))
    })
}

pub(super) fn pools() -> String {
    array(&pool::live(), |out, it: &PoolInfo| {
        let (name, at) = (Text(&it.name), quoted(it.built_at));
        write!(out, "{{\"id\":{},\"name\":{name},\"built_at\":{at},", it.id)?;
        write!(out, "\"open\":{},\"workers\":{},", it.open, it.workers)?;
        write!(out, "\"running\":{},\"queued\":{},", it.running, it.queued)?;
        write!(
            out,
            "\"bound\":{},\"completed\":{},",
            it.bound, it.completed
        )?;
        write!(
            out,
            "\"failed\":{},\"panicked\":{},",
            it.failed, it.panicked
        )?;
        let (cancelled, abandoned) = (it.cancelled, it.abandoned);
        write!(out, "\"cancelled\":{cancelled},\"abandoned\":{abandoned}}}")
    })
}

pub(super) fn breakers() -> String {
    array(&breaker::live(), |out, it: &BreakerInfo| {
        let (name, at) = (Text(&it.name), quoted(it.built_at));
        let (seen, counts) = (it.snapshot, it.snapshot.counts);
        let remaining = Maybe(seen.remaining_open.map(Seconds));
        write!(out, "{{\"id\":{},\"name\":{name},\"built_at\":{at},", it.id)?;
        write!(out, "\"state\":{},", quoted(seen.state))?;
        write!(out, "\"in_state_seconds\":{},", Seconds(it.in_state))?;
        write!(out, "\"remaining_open_seconds\":{remaining},")?;
        write!(
            out,
            "\"calls\":{},\"failures\":{},",
            counts.calls, counts.failures
        )?;
        write!(out, "\"slow\":{},", counts.slow)?;
        write!(
            out,
            "\"consecutive_failures\":{},",
            counts.consecutive_failures
        )?;
        write!(out, "\"probes_running\":{},", seen.probes_running)?;
        write!(out, "\"rejected\":{}}}", seen.rejected)
    })
}

pub(super) fn tickers() -> String {
    array(&ticker::live(), |out, it: &TickerInfo| {
        let (at, period) = (quoted(it.started_at), Seconds(it.period));
        write!(out, "{{\"id\":{},\"started_at\":{at},", it.id)?;
        write!(out, "\"period_seconds\":{period},")?;
        write!(
            out,
            "\"missed_ticks\":{},",
            quoted(format_args!("{:?}", it.policy))
        )?;
        write!(out, "\"sent\":{},\"missed\":{},", it.sent, it.missed)?;
        write!(out, "\"stopped\":{}}}", it.stopped)
    })
}

pub(super) fn tokens(trees: &[Tree]) -> String {
    array(trees, |out, tree| {
        let (name, cut) = (Text(&tree.name), tree.cut);
        let tokens = array(&tree.tokens, token);
        write!(out, "{{\"name\":{name},\"cut\":{cut},\"tokens\":{tokens}}}")
    })
}

fn token(out: &mut String, Named { name, look }: &Named) -> fmt::Result {
    let cancelled = look.cancelled.as_ref().map(quoted);
    let remaining = look.remaining.map(Seconds);
    write!(out, "{{\"id\":\"{:#x}\",", look.address)?;
    write!(out, "\"depth\":{},", look.depth)?;
    write!(out, "\"name\":{},", Maybe(name.as_deref().map(Text)))?;
    write!(out, "\"cancelled\":{},", Maybe(cancelled))?;
    write!(out, "\"remaining_seconds\":{},", Maybe(remaining))?;
    write!(
        out,
        "\"children\":{},\"hooks\":{}}}",
        look.children, look.hooks
    )
}

pub(super) fn values(values: &[(Arc<str>, Option<String>)]) -> String {
    array(values, |out, (name, value)| {
        let value = Maybe(value.as_deref().map(Text));
        write!(out, "{{\"name\":{},\"value\":{value}}}", Text(name))
    })
}

/// The trees as text, for a terminal.
pub(super) fn trees_as_text(trees: &[Tree]) -> String {
    written(|out| {
        for tree in trees {
            for Named { name, look } in &tree.tokens {
                let (indent, name) = (look.depth * 2, name.as_deref().unwrap_or("-"));
                write!(out, "{:indent$}{name:?}: ", "")?;
                match (&look.cancelled, look.remaining) {
                    (Some(cancelled), _) => write!(out, "{cancelled:?}")?,
                    (None, Some(left)) => write!(out, "active, {} s left", Seconds(left))?,
                    (None, None) => out.write_str("active")?,
                }
                writeln!(out, ", children {}, hooks {}", look.children, look.hooks)?;
            }
            if tree.cut {
                writeln!(out, "  (and more)")?;
            }
        }
        Ok(())
    })
}
