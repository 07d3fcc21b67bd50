//! Where the system lists no threads: those of the library.

use super::dump::{DumpBuilder, Module};
use super::stack::{Stack, StackProblem};
use super::stacks::Here;
use super::thread::DumpedThread;
use crate::threads::{self, ThreadInfo};

pub(super) struct Captured {
    pub(super) threads: Vec<DumpedThread>,
    pub(super) problems: Vec<String>,
    pub(super) modules: Vec<Module>,
}

pub(super) fn capture(options: &DumpBuilder, _here: Here) -> Captured {
    let mut infos = threads::live();
    infos.retain(|_| options.only.is_none());
    let problem = "on this system a dump has only the library's threads, without stacks";
    Captured {
        threads: infos.into_iter().map(show).collect(),
        problems: vec![problem.to_owned()],
        modules: Vec::new(),
    }
}

fn show(info: ThreadInfo) -> DumpedThread {
    DumpedThread {
        tid: info.tid,
        name: info.name.clone(),
        is_current: false,
        state: None,
        system_call: None,
        age: Some(info.age),
        blocked: info.waiting.map(|waiting| waiting.since.elapsed()),
        library: Some(info),
        stack: Stack::missing(StackProblem::Unsupported),
    }
}
