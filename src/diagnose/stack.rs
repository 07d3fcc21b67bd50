//! Stacks, as they are shown.

use std::fmt;

use crate::sync::Arc;

/// The calls that a thread is in, innermost first.
///
/// # Examples
///
/// ```
/// # if !cfg!(all(target_os = "linux", target_arch = "x86_64", not(cleanbreak_portable))) { return }
/// use cleanbreak::diagnose::{StackProblem, ThreadDump};
///
/// let dump = ThreadDump::capture();
/// let stack = &dump.current().unwrap().stack;
/// assert!(stack.is_complete() && stack.problem().is_none() && stack.omitted().is_none());
/// assert!(stack.frames().len() > 2); // innermost first: ends in `main`, and what called that
///
/// let dump = ThreadDump::builder().stacks(false).capture();
/// let stack = &dump.current().unwrap().stack;
/// assert!(!stack.is_complete() && stack.frames().is_empty());
/// assert_eq!(stack.problem(), Some(StackProblem::NotAsked));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Stack {
    pub(super) frames: Vec<Frame>,
    /// So many frames are left out, after so many of `frames`.
    pub(super) omitted: Option<(usize, usize)>,
    pub(super) problem: Option<StackProblem>,
    pub(super) taken: TakenBy,
    /// What makes two stacks the same, also where frames are left out.
    pub(super) addresses: Arc<[u64]>,
}

impl Stack {
    #[cfg_attr(
        any(not(target_os = "linux"), cleanbreak_portable),
        allow(dead_code, reason = "no stacks there")
    )]
    pub(super) fn missing(problem: StackProblem) -> Self {
        Self {
            problem: Some(problem),
            ..Self::default()
        }
    }

    /// The frames, innermost first; empty if there is no stack.
    #[must_use]
    pub fn frames(&self) -> &[Frame] {
        &self.frames
    }

    /// Whether the stack was followed up to the first function of its thread: then it is right.
    #[must_use]
    pub fn is_complete(&self) -> bool {
        self.problem.is_none()
    }

    /// Why there is no stack, or only its innermost part.
    #[must_use]
    pub fn problem(&self) -> Option<StackProblem> {
        self.problem
    }

    /// How it was taken. Of a thread without a stack, how that was last tried.
    ///
    /// # Examples
    ///
    /// ```
    /// # if cfg!(any(not(target_os = "linux"), not(target_arch = "x86_64"), cleanbreak_portable)) { return }
    /// use cleanbreak::diagnose::{TakenBy, ThreadDump};
    ///
    /// let dump = ThreadDump::capture();
    /// assert_eq!(dump.current().unwrap().stack.taken_by(), TakenBy::Own);
    /// ```
    #[must_use]
    pub fn taken_by(&self) -> TakenBy {
        self.taken
    }

    /// How many calls in the middle of a deep stack are left out of [`frames`](Self::frames), and
    /// after how many frames they would come. See [`max_frames`](super::DumpBuilder::max_frames).
    #[must_use]
    pub fn omitted(&self) -> Option<(usize, usize)> {
        self.omitted
    }

    /// The frames with `None` where some are left out.
    pub(super) fn lines(&self) -> impl Iterator<Item = Line<'_>> {
        let gap = self.omitted;
        self.frames
            .iter()
            .enumerate()
            .flat_map(move |(index, frame)| {
                let gap = gap.filter(|&(_, after)| after == index);
                let gap = gap.map(|(count, _)| Line::Omitted(count));
                gap.into_iter().chain([Line::Frame(frame)])
            })
    }
}

/// How a stack was taken; from [`Stack::taken_by`].
///
/// # Examples
///
/// ```
/// use cleanbreak::diagnose::TakenBy;
///
/// assert_eq!(TakenBy::default(), TakenBy::Look); // no thread gets a signal unless one is asked for
/// assert_ne!(TakenBy::Signal.to_string(), TakenBy::Own.to_string());
/// ```
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TakenBy {
    /// By a look from outside, while the thread slept.
    #[default]
    Look,
    /// By the thread itself, in a [signal handler](super::DumpBuilder::signal) that copied it.
    Signal,
    /// By the thread itself: it took the dump.
    Own,
}

impl fmt::Display for TakenBy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Look => "look",
            Self::Signal => "signal",
            Self::Own => "own",
        })
    }
}

/// The way that was found: an instruction of each function, innermost first.
#[cfg_attr(
    any(not(target_os = "linux"), cleanbreak_portable),
    allow(dead_code, reason = "no stacks there")
)]
#[derive(Debug)]
pub(super) struct Walk {
    /// Addresses to look up: in a caller, of the call, not of what follows it.
    pub(super) addresses: Vec<u64>,
    pub(super) end: Result<(), StackProblem>,
}

#[cfg_attr(
    any(not(target_os = "linux"), cleanbreak_portable),
    allow(dead_code, reason = "no stacks there")
)]
impl Walk {
    pub(super) fn broken(problem: StackProblem) -> Self {
        let addresses = Vec::new();
        let end = Err(problem);
        Self { addresses, end }
    }
}

pub(super) enum Line<'a> {
    Frame(&'a Frame),
    Omitted(usize),
}

/// One function of a stack.
///
/// # Examples
///
/// ```
/// # if !cfg!(all(target_os = "linux", target_arch = "x86_64", not(cleanbreak_portable))) { return }
/// use cleanbreak::diagnose::{Frame, ThreadDump};
///
/// #[inline(never)]
/// fn take_stock() -> ThreadDump {
///     std::hint::black_box(ThreadDump::capture())
/// }
/// let dump = take_stock();
/// let frames = dump.current().unwrap().stack.frames();
/// let is_ours = |frame: &&Frame| frame.function().is_some_and(|it| it.ends_with("take_stock"));
/// let frame = frames.iter().find(is_ours).unwrap();
/// assert!(frame.symbol().unwrap().contains("take_stock")); // as the linker has it
/// assert_eq!(frame.to_string(), frame.function().unwrap());
/// assert!(!frame.is_inlined());
/// assert!(frame.module().is_some() && frame.address() >= frame.offset());
/// // With debug information also the place; without it none of the three.
/// assert_eq!(frame.file().is_some(), frame.line().is_some());
/// assert!(frame.column().is_none() || frame.line().is_some());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Frame {
    pub(super) address: u64,
    pub(super) offset: u64,
    pub(super) module: Option<Arc<str>>,
    pub(super) function: Option<Arc<str>>,
    pub(super) symbol: Option<Arc<str>>,
    pub(super) file: Option<Arc<str>>,
    pub(super) line: Option<u32>,
    pub(super) column: Option<u32>,
    pub(super) inlined: bool,
}

impl Frame {
    /// The function: with its path where a symbol table or full debug information has it. Inlined
    /// functions have their short name where debug information is `line-tables-only`.
    #[must_use]
    pub fn function(&self) -> Option<&str> {
        self.function.as_deref()
    }

    /// Its name as the linker has it.
    #[must_use]
    pub fn symbol(&self) -> Option<&str> {
        self.symbol.as_deref()
    }

    /// The source file, as the compiler was given it.
    #[must_use]
    pub fn file(&self) -> Option<&str> {
        self.file.as_deref()
    }

    /// The line that is being run, or has called the next function in.
    #[must_use]
    pub fn line(&self) -> Option<u32> {
        self.line
    }

    /// The column of that line.
    #[must_use]
    pub fn column(&self) -> Option<u32> {
        self.column
    }

    /// Whether the function has no frame of its own, but is part of the next one out.
    #[must_use]
    pub fn is_inlined(&self) -> bool {
        self.inlined
    }

    /// The program or library that the code is in.
    #[must_use]
    pub fn module(&self) -> Option<&str> {
        self.module.as_deref()
    }

    /// The instruction; of a caller, a byte of the call.
    #[must_use]
    pub fn address(&self) -> u64 {
        self.address
    }

    /// The instruction as its file numbers it, for tools that read the file.
    #[must_use]
    pub fn offset(&self) -> u64 {
        self.offset
    }
}

impl fmt::Display for Frame {
    /// The function, or the module and the offset in it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.function, &self.module) {
            (Some(function), _) => f.write_str(function),
            (None, Some(module)) => write!(f, "{module}+{:#x}", self.offset),
            (None, None) => write!(f, "{:#x}", self.address),
        }
    }
}

/// Why a thread has no stack in a dump, or an incomplete one.
///
/// # Examples
///
/// ```
/// use cleanbreak::diagnose::{StackProblem, ThreadDump};
///
/// let dump = ThreadDump::builder().stacks(false).capture();
/// for thread in dump.threads() {
///     match thread.stack.problem() {
///         Some(StackProblem::NotAsked) => {}
///         Some(StackProblem::Unsupported | StackProblem::Unlisted) => {} // system, or about to begin
///         Some(StackProblem::Running | StackProblem::KeptRunning | StackProblem::Denied) => {}
///         other => panic!("{other:?}"),
///     }
/// }
/// let words = StackProblem::NotAsked.to_string();
/// assert_eq!(words, "stacks were not asked for");
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum StackProblem {
    /// Stacks were not asked for.
    NotAsked,
    /// There are none on this system or processor.
    Unsupported,
    /// The library has started the thread, but the system does not list it: it is about to begin,
    /// or the system lists none.
    Unlisted,
    /// The thread runs.
    Running,
    /// The thread slept, but ran each time before its stack had been copied.
    KeptRunning,
    /// The thread runs, and blocks the [signal](super::DumpBuilder::signal); or it blocks one whose
    /// handler has a stack of its own, so that it may be in that.
    SignalBlocked,
    /// The thread has not taken the [signal](super::DumpBuilder::signal) in
    /// [time](super::DumpBuilder::patience): it has had no processor, or is stopped.
    SignalLate,
    /// The system refuses to send more [signals](super::DumpBuilder::signal), or there is no memory
    /// for another copy.
    SignalRefused,
    /// The thread has ended.
    Ended,
    /// The system did not let the dump look.
    Denied,
    /// Incomplete: a function has no unwind information, such as hand-written assembly or code
    /// that was made at run time.
    NoUnwindInfo,
    /// Incomplete: a register that the next step needs is not known.
    LostRegister,
    /// Incomplete: the next step leads nowhere.
    Garbled,
    /// Incomplete: deeper than the dump goes.
    TooDeep,
}

impl fmt::Display for StackProblem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotAsked => "stacks were not asked for",
            Self::Unlisted => "the system does not list the thread",
            Self::Unsupported => "stacks are not supported here",
            Self::Running => "the thread is running",
            Self::KeptRunning => "the thread ran each time it was looked at",
            Self::SignalBlocked => "the thread blocks signals, or is in the handler of one",
            Self::SignalLate => "the thread did not take the signal for its stack in time",
            Self::SignalRefused => "the system refused the signal for its stack",
            Self::Ended => "the thread has ended",
            Self::Denied => "the system did not let it be read",
            Self::NoUnwindInfo => "a function without unwind information",
            Self::LostRegister => "a register that is not known",
            Self::Garbled => "the next step leads nowhere",
            Self::TooDeep => "too deep",
        })
    }
}
