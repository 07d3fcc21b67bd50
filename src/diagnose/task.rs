//! What the kernel shows of one thread, in `/proc/self/task`.

use std::fs::File;
use std::io::{self, ErrorKind};
use std::os::unix::fs::FileExt;
use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::stack::StackProblem;
use super::thread::{OsState, SystemCall};

/// The numbers of all threads of the process.
pub(super) fn tids() -> io::Result<Vec<u32>> {
    let mut tids = Vec::new();
    for entry in std::fs::read_dir("/proc/self/task")? {
        // One that cannot be read ends the listing, not what was listed before.
        let Ok(entry) = entry else { break };
        tids.extend(
            entry
                .file_name()
                .to_str()
                .and_then(|name| name.parse::<u32>().ok()),
        );
    }
    tids.sort_unstable();
    Ok(tids)
}

/// The number of the calling thread.
pub(super) fn own_tid() -> u32 {
    rustix::thread::gettid()
        .as_raw_nonzero()
        .get()
        .unsigned_abs()
}

/// How long ago a thread began that began at this tick after the system's start.
pub(super) fn age(start: u64) -> Option<Duration> {
    // What the kernel tells user space is in ticks of this length, whatever its own are.
    const TICK: Duration = Duration::from_millis(10);
    let now = clock_gettime(ClockId::Boottime);
    let seconds = u64::try_from(now.tv_sec).ok()?;
    let now = Duration::new(seconds, u32::try_from(now.tv_nsec).ok()?);
    let start = TICK.checked_mul(u32::try_from(start).ok()?)?;
    Some(now.saturating_sub(start))
}

/// The files of a thread.
pub(super) struct Task {
    directory: String,
}

/// The line `stat`, as far as it is of use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Stat {
    pub(super) name: String,
    pub(super) state: OsState,
    /// When the thread began, in ticks since the system's start.
    pub(super) start: u64,
}

/// Of `status`, what matters to who wants to send a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Status {
    pub(super) runs: bool,
    /// The signals that the thread blocks, the first in the lowest bit.
    pub(super) blocked: u64,
    /// Those that wait for it.
    pub(super) pending: u64,
}

/// Where the thread was when the kernel last took it off its processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Place {
    Running,
    Blocked {
        /// `None` outside a system call, such as in a page fault.
        call: Option<SystemCall>,
        sp: u64,
        pc: u64,
    },
}

/// What has changed when the thread has run: the time it had, the time it waited for a processor,
/// and how often it got one.
pub(super) type Runs = [u64; 3];

impl Task {
    pub(super) fn new(tid: u32) -> Self {
        Self {
            directory: format!("/proc/self/task/{tid}/"),
        }
    }

    fn open(&self, name: &str) -> Result<File, StackProblem> {
        File::open(self.directory.clone() + name).map_err(problem)
    }

    pub(super) fn stat(&self) -> Result<Stat, StackProblem> {
        let line = read(&self.open("stat")?)?;
        Stat::parse(&line).ok_or(StackProblem::Denied)
    }

    pub(super) fn status(&self) -> Result<Status, StackProblem> {
        let text = read(&self.open("status")?)?;
        Status::parse(&text).ok_or(StackProblem::Denied)
    }

    pub(super) fn place(&self) -> Result<Place, StackProblem> {
        let line = read(&self.open("syscall")?)?;
        Place::parse(&line).ok_or(StackProblem::Denied)
    }

    /// A counter that can be looked at again and again.
    pub(super) fn runs(&self) -> Result<RunCounter, StackProblem> {
        self.open("schedstat").map(RunCounter)
    }
}

pub(super) struct RunCounter(File);

impl RunCounter {
    pub(super) fn read(&self) -> Result<Runs, StackProblem> {
        let line = read(&self.0)?;
        let mut numbers = line.split_ascii_whitespace().map(str::parse);
        let mut next = || numbers.next()?.ok();
        let runs = next().zip(next()).zip(next());
        match runs.ok_or(StackProblem::Denied)? {
            // It has not begun to run, or this kernel does not count.
            ((_, _), 0) if kernel_counts() => Err(StackProblem::Running),
            ((_, _), 0) => Err(StackProblem::Denied),
            ((run, waited), times) => Ok([run, waited, times]),
        }
    }
}

/// Whether the calling thread, which runs, has been counted.
fn kernel_counts() -> bool {
    let own = std::fs::read_to_string("/proc/thread-self/schedstat");
    own.is_ok_and(|line| !line.trim_end().ends_with(" 0"))
}

/// All of these are one short line, or a page of them.
fn read(file: &File) -> Result<String, StackProblem> {
    let mut bytes = [0; 4096];
    let length = file.read_at(&mut bytes, 0).map_err(problem)?;
    Ok(String::from_utf8_lossy(&bytes[..length]).into_owned())
}

fn problem(error: io::Error) -> StackProblem {
    // Its directory is gone, or was still there but not what it is about.
    let ended = error.raw_os_error() == Some(libc::ESRCH);
    if ended || error.kind() == ErrorKind::NotFound {
        StackProblem::Ended
    } else {
        StackProblem::Denied
    }
}

impl Stat {
    /// `4711 (a name) S 1 ...`: the name may have parentheses and spaces in it.
    fn parse(line: &str) -> Option<Self> {
        let (before, after) = line.rsplit_once(") ")?;
        let (_, name) = before.split_once(" (")?;
        let mut fields = after.split_ascii_whitespace();
        let state = OsState::from_letter(fields.next()?.chars().next()?);
        // The state is the third field, the start the 22nd.
        let start = fields.nth(18)?.parse().ok()?;
        let name = name.to_owned();
        Some(Self { name, state, start })
    }
}

impl Status {
    /// Lines such as `State:\tR (running)`, `SigPnd:\t0000000000000000`.
    fn parse(text: &str) -> Option<Self> {
        let field = |name: &str| {
            let line = text.lines().find_map(|line| line.strip_prefix(name));
            line.map(str::trim_start)
        };
        let set = |name| u64::from_str_radix(field(name)?, 16).ok();
        Some(Self {
            runs: field("State:")?.starts_with('R'),
            blocked: set("SigBlk:")?,
            pending: set("SigPnd:")?,
        })
    }
}

impl Place {
    /// `running`, or a number, for a system call its six arguments, then stack pointer and
    /// instruction.
    fn parse(line: &str) -> Option<Self> {
        let line = line.trim_end();
        if line == "running" {
            return Some(Self::Running);
        }
        let mut fields = line.split_ascii_whitespace();
        let number: i64 = fields.next()?.parse().ok()?;
        let call = u32::try_from(number).ok().map(SystemCall);
        let mut last = fields.rev().map(|field| {
            let digits = field.strip_prefix("0x")?;
            u64::from_str_radix(digits, 16).ok()
        });
        let (pc, sp) = (last.next()??, last.next()??);
        Some(Self::Blocked { call, sp, pc })
    }
}

/// Whatever the kernel says: nothing panics.
#[cfg(any(test, fuzzing))]
pub(crate) fn read_made_up_files(bytes: &[u8]) {
    let line = String::from_utf8_lossy(bytes);
    if let Some(stat) = Stat::parse(&line) {
        assert!(line.contains(&stat.name));
        let _age = age(stat.start);
    }
    if let Some(Place::Blocked { sp, pc, .. }) = Place::parse(&line) {
        let last = |at| line.trim_end().split_ascii_whitespace().nth_back(at);
        let is = |word: &str, number| u64::from_str_radix(&word[2..], 16) == Ok(number);
        assert!(last(0).is_some_and(|word| is(word, pc)));
        assert!(last(1).is_some_and(|word| is(word, sp)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::noise::cases;
    use proptest::prelude::*;

    proptest! {
        #![proptest_config(cases(1_000))]

        #[test]
        fn no_line_of_the_kernels_makes_a_panic(
            words in prop::collection::vec(
                prop_oneof!["[0-9]{1,22}", "-1", "0x[0-9a-f]{0,18}", "\\(", "\\)", "[RSDTZ]", ".*"], 0..30,
            ),
            bytes in prop::collection::vec(any::<u8>(), 0..80),
        ) {
            read_made_up_files(words.join(" ").as_bytes());
            read_made_up_files(&bytes);
        }

        #[test]
        fn what_the_kernel_says_of_a_thread_is_read_whatever_its_name(
            tid in any::<u32>(), name in "[^\n]{0,15}", state in "[RSDTtZXxIPW]",
            fields in prop::collection::vec(any::<i64>(), 18), start in any::<u64>(),
        ) {
            let fields: String = fields.iter().map(|field| format!(" {field}")).collect();
            let line = format!("{tid} ({name}) {state}{fields} {start} 0 0 0\n");
            let stat = Stat::parse(&line).unwrap();
            prop_assert_eq!(&stat.name, &name);
            prop_assert_eq!(stat.start, start);
            let letter = state.chars().next().unwrap();
            prop_assert_eq!(stat.state, OsState::from_letter(letter));
        }

        #[test]
        fn where_a_thread_is_blocked_is_read_for_any_call(
            number in prop::option::of(any::<u32>()), arguments in any::<[u64; 6]>(),
            sp in any::<u64>(), pc in any::<u64>(),
        ) {
            let line = match number {
                None => format!("-1 {sp:#x} {pc:#x}\n"),
                Some(number) => {
                    let words = arguments.map(|it| format!("{it:#x}")).join(" ");
                    format!("{number} {words} {sp:#x} {pc:#x}\n")
                }
            };
            let call = number.map(SystemCall);
            prop_assert_eq!(Place::parse(&line), Some(Place::Blocked { call, sp, pc }));
        }
    }

    #[test]
    fn a_name_may_look_like_the_end_of_a_name() {
        let line = "12 (a) S (b) R 1 2 3 0 -1 4 5 6 7 8 9 10 11 12 20 0 1 0 777 0 0";
        let stat = Stat::parse(line).unwrap();
        assert_eq!((&*stat.name, stat.start), ("a) S (b", 777));
        assert_eq!(stat.state, OsState::Running);
        assert_eq!(Stat::parse("12 (a"), None);
        assert_eq!(Stat::parse(""), None);
    }

    #[test]
    fn signals_that_are_blocked_and_in_wait_are_read() {
        let text = "Name:\tSigBlk: ffff\nState:\tR (running)\nSigPnd:\t8000000000000000\n\
                    ShdPnd:\tffffffffffffffff\nSigBlk:\t0000000000000a00\nSigIgn:\t0\n";
        let status = Status::parse(text).unwrap();
        assert_eq!((status.pending, status.blocked), (1 << 63, 0xa00));
        assert!(status.runs);
        let asleep = Status::parse(&text.replace("R (r", "S (r")).unwrap();
        assert!(!asleep.runs);
        assert_eq!(Status::parse("State:\tR\n"), None);
    }

    #[test]
    fn a_place_is_read_with_and_without_a_system_call() {
        let futex = "202 0x7f 0x80 0x2 0x0 0x0 0xffffffff 0x7f01 0x7f02\n";
        let call = Some(SystemCall(202));
        let (sp, pc) = (0x7f01, 0x7f02);
        assert_eq!(Place::parse(futex), Some(Place::Blocked { call, sp, pc }));
        let call = None;
        assert_eq!(
            Place::parse("-1 0x7f01 0x7f02\n"),
            Some(Place::Blocked { call, sp, pc })
        );
        assert_eq!(Place::parse("running\n"), Some(Place::Running));
        assert_eq!(Place::parse("0 0x"), None);
    }
}
