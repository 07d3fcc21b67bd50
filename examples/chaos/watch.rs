//! The watchdog: a round that hangs is a round that failed. It rests on nothing that it watches.
#![allow(
    clippy::disallowed_methods,
    reason = "the watchdog must not rest on what it watches"
)]

use std::time::Duration;

use cleanbreak::chaos::Reporter;
use cleanbreak::{CancelToken, threads};
use crossbeam_channel::{RecvTimeoutError, bounded, select};

use crate::options::Options;
use crate::round::{Failed, Passed, run};

/// What a round tells at its start.
pub(crate) struct Watched {
    pub(crate) token: CancelToken,
    pub(crate) reporter: Reporter,
}

/// A round that is not cancelled ends by itself, long before this.
const LONGEST: Duration = Duration::from_secs(120);

pub(crate) fn watched(options: &Options, round: u64) -> Result<Passed, Failed> {
    let (told, tells) = bounded(1);
    let (ended, ends) = bounded(1);
    let theirs = options.clone();
    let thread = std::thread::Builder::new().name(format!("round {round}"));
    let thread = thread.spawn(move || ended.send(run(&theirs, round, &told)).is_ok());
    let thread = thread.expect("a thread for the round");
    let Ok(Watched { token, reporter }) = tells.recv() else {
        panic!("the round did not begin: {:?}", thread.join());
    };
    let waited = select! {
        recv(ends) -> end => end.map_err(RecvTimeoutError::from),
        recv(token.done()) -> _ => ends.recv_timeout(options.patience),
        default(LONGEST) => Err(RecvTimeoutError::Timeout),
    };
    let hangs = match waited {
        Ok(end) => {
            thread.join().ok();
            return end;
        }
        Err(RecvTimeoutError::Disconnected) => "the round panicked".to_owned(),
        Err(RecvTimeoutError::Timeout) if token.is_cancelled() => {
            let patience = options.patience;
            format!("a wait has outlived the cancellation for {patience:?}")
        }
        Err(RecvTimeoutError::Timeout) => format!("the round has run for {LONGEST:?}"),
    };
    let mut broken = vec![hangs];
    broken.extend(threads::live().iter().map(ToString::to_string));
    let report = reporter.report();
    Err(Failed { broken, report })
}
