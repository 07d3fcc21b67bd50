//! Dumps as text, in the manner of Go's goroutine profiles.

use std::fmt;
use std::time::Duration;

use super::dump::{ThreadDump, ThreadGroup};
use super::stack::{Line, Stack, TakenBy};
use super::thread::DumpedThread;

/// Each thread, as `debug=2` has it.
pub(super) fn each(dump: &ThreadDump, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for problem in &dump.problems {
        writeln!(f, "problem: {problem}\n")?;
    }
    for deadlock in &dump.deadlocks {
        writeln!(f, "{deadlock}\n")?;
    }
    for thread in &dump.threads {
        write!(f, "{thread}")?;
        writeln!(f)?;
    }
    Ok(())
}

/// Identical stacks together, as `debug=1` has it.
pub(super) fn grouped(dump: &ThreadDump, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for problem in &dump.problems {
        writeln!(f, "problem: {problem}")?;
    }
    for deadlock in &dump.deadlocks {
        writeln!(f, "{deadlock}")?;
    }
    writeln!(f, "thread profile: total {}", dump.threads.len())?;
    for group in dump.groups() {
        writeln!(f)?;
        group_of(&group, f)?;
    }
    Ok(())
}

/// How many threads of a group are named.
const NAMED: usize = 3;

fn group_of(group: &ThreadGroup<'_>, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    let count = group.threads.len();
    let noun = if count == 1 { "thread" } else { "threads" };
    let Some(first) = group.threads.first() else {
        return Ok(());
    };
    writeln!(f, "{count} {noun} [{}]:", Doing(first))?;
    for thread in group.threads.iter().take(NAMED) {
        write!(f, "#\t{}", Title(thread))?;
        if let Some(age) = thread.age {
            write!(f, ", age {}", Time(age))?;
        }
        if let Some(blocked) = thread.blocked {
            write!(f, ", blocked for at least {}", Time(blocked))?;
        }
        if let Some(info) = &thread.library {
            write!(f, ", spawned at {}", info.spawned_at)?;
            if let Some(waiting) = &info.waiting {
                write!(f, ", {waiting}")?;
            }
        }
        writeln!(f)?;
    }
    if count > NAMED {
        writeln!(f, "#\tand {} more", count - NAMED)?;
    }
    stack(&first.stack, f)
}

impl fmt::Display for Stack {
    /// A line for each function, and one for its place in the source; last, what is missing.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        stack(self, f)
    }
}

impl fmt::Display for DumpedThread {
    /// A block of lines: a title, what the thread waits on, its stack, where it was spawned, and the
    /// token that it works under.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} [{}", Title(self), Doing(self))?;
        if let Some(blocked) = self.blocked {
            write!(f, ", at least {}", Time(blocked))?;
        }
        writeln!(f, "]:")?;
        let waiting = self.library.as_ref().and_then(|info| info.waiting);
        if let Some(waiting) = waiting {
            writeln!(f, "({waiting})")?;
        }
        stack(&self.stack, f)?;
        if let Some(info) = &self.library {
            writeln!(f, "spawned at\n\t{}", info.spawned_at)?;
            if let Some(token) = &info.token {
                writeln!(f, "under token\n\t{token}")?;
            }
        }
        Ok(())
    }
}

fn stack(stack: &Stack, f: &mut fmt::Formatter<'_>) -> fmt::Result {
    for line in stack.lines() {
        let frame = match line {
            Line::Frame(frame) => frame,
            Line::Omitted(count) => {
                writeln!(f, "({count} frames left out)")?;
                continue;
            }
        };
        let inlined = if frame.is_inlined() { " (inlined)" } else { "" };
        writeln!(f, "{frame}{inlined}")?;
        match (frame.file(), frame.line()) {
            (Some(file), Some(line)) => writeln!(f, "\t{file}:{line}")?,
            (Some(file), None) => writeln!(f, "\t{file}")?,
            (None, _) => writeln!(
                f,
                "\t{}+{:#x}",
                frame.module().unwrap_or("?"),
                frame.offset()
            )?,
        }
    }
    if stack.taken_by() == TakenBy::Signal && !stack.frames().is_empty() {
        writeln!(f, "(taken by a signal)")?;
    }
    match stack.problem() {
        None => Ok(()),
        Some(problem) if stack.frames().is_empty() => writeln!(f, "(no stack: {problem})"),
        Some(problem) => writeln!(f, "(incomplete: {problem})"),
    }
}

struct Title<'a>(&'a DumpedThread);

impl fmt::Display for Title<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.tid {
            Some(tid) => write!(f, "thread {tid}")?,
            None => write!(f, "thread ?")?,
        }
        // Escaped: a name may have anything in it, also a new line.
        write!(f, " {:?}", self.0.name)?;
        if self.0.is_current {
            write!(f, " (took this dump)")?;
        }
        Ok(())
    }
}

/// State and system call.
struct Doing<'a>(&'a DumpedThread);

impl fmt::Display for Doing<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.state {
            Some(state) => write!(f, "{state}")?,
            None => write!(f, "state unknown")?,
        }
        match self.0.system_call {
            Some(call) => write!(f, " in {call}"),
            None => Ok(()),
        }
    }
}

/// A time, rounded down.
struct Time(Duration);

impl fmt::Display for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let tenths = self.0.as_millis() / 100;
        write!(f, "{}.{} s", tenths / 10, tenths % 10)
    }
}
