//! Dumps as JSON, written by hand: one object of known shape needs no serialiser.

use std::fmt::{self, Write};
use std::time::Duration;

use super::dump::ThreadDump;
use super::stack::{Frame, Stack};
use super::thread::DumpedThread;
use crate::threads::{Deadlock, StuckThread, ThreadInfo, TokenPath};

pub(super) fn dump(dump: &ThreadDump) -> String {
    let mut out = String::new();
    // Into a string, so that nothing can fail.
    write_dump(&mut out, dump).ok();
    out
}

fn write_dump(out: &mut String, dump: &ThreadDump) -> fmt::Result {
    write!(out, "{{\"pid\":{},\"threads\":", std::process::id())?;
    list(out, &dump.threads, write_thread)?;
    out.write_str(",\"problems\":")?;
    list(out, &dump.problems, |out, problem| {
        write!(out, "{}", Text(problem))
    })?;
    out.write_str(",\"deadlocks\":")?;
    list(out, &dump.deadlocks, write_deadlock)?;
    out.write_char('}')
}

fn write_deadlock(out: &mut String, deadlock: &Deadlock) -> fmt::Result {
    write!(out, "{{\"certain\":{},\"ended_by\":", deadlock.certain)?;
    list(out, &deadlock.ended_by, |out, way| {
        write!(out, "{}", Text(way))
    })?;
    out.write_str(",\"threads\":")?;
    list(out, &deadlock.threads, write_stuck)?;
    out.write_str(",\"held_up\":")?;
    list(out, &deadlock.held_up, write_stuck)?;
    out.write_char('}')
}

fn write_stuck(out: &mut String, stuck: &StuckThread) -> fmt::Result {
    write!(out, "{{\"name\":{}", Text(&stuck.thread.name))?;
    write!(out, ",\"tid\":{}", Maybe(stuck.thread.tid))?;
    out.write_str(",\"library\":")?;
    write_library(out, &stuck.thread)?;
    write!(out, ",\"any\":{},\"waits_for\":", stuck.any)?;
    list(out, &stuck.on, |out, id| write!(out, "{id}"))?;
    out.write_char('}')
}

pub(crate) fn list<T>(
    out: &mut String,
    items: &[T],
    mut item: impl FnMut(&mut String, &T) -> fmt::Result,
) -> fmt::Result {
    out.write_char('[')?;
    for (index, value) in items.iter().enumerate() {
        if index > 0 {
            out.write_char(',')?;
        }
        item(out, value)?;
    }
    out.write_char(']')
}

fn write_thread(out: &mut String, thread: &DumpedThread) -> fmt::Result {
    write!(
        out,
        "{{\"tid\":{},\"name\":{}",
        Maybe(thread.tid),
        Text(&thread.name)
    )?;
    write!(out, ",\"current\":{}", thread.is_current)?;
    let state = thread.state.map(|state| state.to_string());
    write!(out, ",\"state\":{}", Maybe(state.as_deref().map(Text)))?;
    let call = thread.system_call.map(|call| call.to_string());
    write!(out, ",\"system_call\":{}", Maybe(call.as_deref().map(Text)))?;
    write!(out, ",\"age_seconds\":{}", Maybe(thread.age.map(Seconds)))?;
    let blocked = thread.blocked.map(Seconds);
    write!(out, ",\"blocked_seconds_at_least\":{}", Maybe(blocked))?;
    out.write_str(",\"library\":")?;
    match &thread.library {
        Some(info) => write_library(out, info)?,
        None => out.write_str("null")?,
    }
    out.write_str(",\"stack\":")?;
    write_stack(out, &thread.stack)?;
    out.write_char('}')
}

fn write_library(out: &mut String, info: &ThreadInfo) -> fmt::Result {
    let spawned_at = info.spawned_at.to_string();
    write!(
        out,
        "{{\"id\":{},\"spawned_at\":{}",
        info.id,
        Text(&spawned_at)
    )?;
    out.write_str(",\"token\":")?;
    match &info.token {
        None => out.write_str("null")?,
        Some(TokenPath {
            ids,
            cut,
            cancelled,
            ..
        }) => {
            out.write_str("{\"ids\":")?;
            list(out, ids, |out, id| write!(out, "\"{id:#x}\""))?;
            write!(out, ",\"cut\":{cut},\"cancelled\":{cancelled}}}")?;
        }
    }
    match &info.waiting {
        None => out.write_str(",\"waiting\":null}"),
        Some(waiting) => {
            let (on, at) = (Text(waiting.on), waiting.at.to_string());
            let seconds = Seconds(waiting.since.elapsed());
            write!(out, ",\"waiting\":{{\"on\":{on},\"at\":{},", Text(&at))?;
            write!(out, "\"seconds\":{seconds}}}}}")
        }
    }
}

fn write_stack(out: &mut String, stack: &Stack) -> fmt::Result {
    let problem = stack.problem().map(|problem| problem.to_string());
    write!(out, "{{\"complete\":{}", stack.is_complete())?;
    write!(out, ",\"problem\":{}", Maybe(problem.as_deref().map(Text)))?;
    let (count, after) = stack.omitted().unzip();
    write!(
        out,
        ",\"omitted\":{},\"omitted_after\":{}",
        Maybe(count),
        Maybe(after)
    )?;
    out.write_str(",\"frames\":")?;
    list(out, stack.frames(), write_frame)?;
    write!(out, ",\"taken_by\":{}", Text(&stack.taken_by().to_string()))?;
    out.write_char('}')
}

fn write_frame(out: &mut String, frame: &Frame) -> fmt::Result {
    write!(out, "{{\"function\":{}", Maybe(frame.function().map(Text)))?;
    write!(out, ",\"file\":{}", Maybe(frame.file().map(Text)))?;
    write!(
        out,
        ",\"line\":{},\"column\":{}",
        Maybe(frame.line()),
        Maybe(frame.column())
    )?;
    write!(out, ",\"inlined\":{}", frame.is_inlined())?;
    write!(out, ",\"module\":{}", Maybe(frame.module().map(Text)))?;
    // As text: not every reader has whole numbers of 64 bits.
    write!(
        out,
        ",\"address\":\"{:#x}\",\"offset\":\"{:#x}\"}}",
        frame.address(),
        frame.offset()
    )
}

pub(crate) struct Maybe<T>(pub(crate) Option<T>);

impl<T: fmt::Display> fmt::Display for Maybe<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(value) => value.fmt(f),
            None => f.write_str("null"),
        }
    }
}

pub(crate) struct Seconds(pub(crate) Duration);

impl fmt::Display for Seconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{:03}", self.0.as_secs(), self.0.subsec_millis())
    }
}

/// A string with its quotes, as RFC 8259 wants it: quotes, backslashes and control characters
/// escaped.
pub(crate) struct Text<'a>(pub(crate) &'a str);

impl fmt::Display for Text<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_char('"')?;
        for c in self.0.chars() {
            match c {
                '"' => f.write_str("\\\"")?,
                '\\' => f.write_str("\\\\")?,
                '\n' => f.write_str("\\n")?,
                '\t' => f.write_str("\\t")?,
                c if c < ' ' => write!(f, "\\u{:04x}", u32::from(c))?,
                c => f.write_char(c)?,
            }
        }
        f.write_char('"')
    }
}

#[cfg(test)]
mod tests {
    use super::Text;

    #[test]
    fn any_text_comes_back_from_a_json_parser() {
        for text in [
            "",
            "a\"b\\c",
            "\u{0}\u{1f}\n\r\t\u{7f}",
            "é \u{1f980} \u{2028}",
        ] {
            let json = Text(text).to_string();
            assert_eq!(
                serde_json::from_str::<String>(&json).unwrap(),
                text,
                "{json}"
            );
        }
    }
}
