//! Groups, supervisors, bulkheads and rate limiters as JSON.

use std::fmt::{self, Write};

use super::json::{array, quoted, written};
use crate::diagnose::{Maybe, Seconds, Text, list};
use crate::group::{self, GroupInfo};
use crate::resilience::{Bulkhead, BulkheadInfo, RateLimiter, RateLimiterInfo};
use crate::supervise::{self, ChildInfo, SupervisorInfo};
use crate::threads::{self, WaitInfo};

/// How many of a group's tasks are named.
const TASKS: usize = 20;

pub(super) fn groups() -> String {
    array(&group::live(), |out, it: &GroupInfo| {
        let (name, at) = (Text(&it.name), quoted(it.started_at));
        write!(out, "{{\"id\":{},\"name\":{name},", it.id)?;
        write!(out, "\"started_at\":{at},\"limit\":{},", Maybe(it.limit))?;
        let running = it.running.len();
        write!(out, "\"threads\":{},\"running\":{running},", it.threads)?;
        out.write_str("\"tasks\":")?;
        list(out, &it.running[..running.min(TASKS)], |out, task| {
            let (name, at) = (Text(&task.name), quoted(task.spawned_at));
            write!(out, "{{\"name\":{name},\"spawned_at\":{at}}}")
        })?;
        let (queued, spawns) = (it.queued, it.waiting_spawns);
        write!(out, ",\"queued\":{queued},\"waiting_spawns\":{spawns},")?;
        write!(out, "\"cancelled\":{}}}", it.cancelled)
    })
}

pub(super) fn supervisors() -> String {
    array(&supervise::live(), |out, it: &SupervisorInfo| {
        let (name, at) = (Text(&it.name), quoted(it.started_at));
        let reason = Maybe(it.reason.as_ref().map(quoted));
        write!(out, "{{\"id\":{},\"name\":{name},", it.id)?;
        write!(out, "\"started_at\":{at},\"stops_for\":{reason},")?;
        out.write_str("\"children\":")?;
        list(out, &it.children, child)?;
        out.write_char('}')
    })
}

fn child(out: &mut String, it: &ChildInfo) -> fmt::Result {
    let (name, at) = (Text(&it.name), quoted(it.spawned_at));
    write!(out, "{{\"name\":{name},\"spawned_at\":{at},")?;
    let (phase, state) = (Text(&it.phase), quoted(&it.state));
    write!(out, "\"phase\":{phase},\"state\":{state},")?;
    write!(out, "\"stuck\":{},", it.state.is_stuck())?;
    write!(out, "\"restarts\":{},", it.restarts)?;
    let last_end = Maybe(it.last_end.as_ref().map(quoted));
    let waiting = Maybe(it.waiting.as_ref().map(waiting));
    write!(out, "\"last_end\":{last_end},\"waiting\":{waiting}}}")
}

fn waiting(it: &WaitInfo) -> String {
    let (on, at) = (Text(it.on), quoted(it.at));
    let seconds = Seconds(it.since.elapsed());
    format!("{{\"on\":{on},\"at\":{at},\"seconds\":{seconds}}}")
}

pub(super) fn bulkheads() -> String {
    array(&Bulkhead::live(), |out, it: &BulkheadInfo| {
        let name = Maybe(it.name.as_deref().map(Text));
        let at = quoted(it.built_at);
        write!(out, "{{\"id\":{},\"name\":{name},\"built_at\":{at},", it.id)?;
        let (in_use, capacity) = (it.in_use, it.capacity);
        write!(out, "\"in_use\":{in_use},\"capacity\":{capacity},")?;
        write!(out, "\"waiting\":{},\"closed\":{}}}", it.waiting, it.closed)
    })
}

pub(super) fn limiters() -> String {
    array(&RateLimiter::live(), |out, it: &RateLimiterInfo| {
        let name = Maybe(it.name.as_deref().map(Text));
        let at = quoted(it.built_at);
        write!(out, "{{\"id\":{},\"name\":{name},\"built_at\":{at},", it.id)?;
        write!(out, "\"quota\":{},", quoted(it.quota))?;
        write!(out, "\"wait_seconds\":{},", Maybe(it.wait.map(Seconds)))?;
        let (keys, most) = it.keys.unzip();
        write!(
            out,
            "\"keys\":{},\"most_keys\":{}}}",
            Maybe(keys),
            Maybe(most)
        )
    })
}

/// As text, for a terminal.
pub(super) fn deadlocks_as_text() -> String {
    let found = threads::deadlocks();
    if found.is_empty() {
        return "no deadlock is known of\n".to_owned();
    }
    written(|out| {
        let mut found = found.iter();
        found.try_for_each(|deadlock| writeln!(out, "{deadlock}\n"))
    })
}
