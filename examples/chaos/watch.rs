//! The watchdog: a round that hangs is a round that failed. It rests on nothing that it watches.
#![allow(
    clippy::disallowed_methods,
    reason = "the watchdog must not rest on what it watches"
)]

use std::convert::Infallible;
use std::time::Duration;

use cleanbreak::chaos::Reporter;
use cleanbreak::{CancelToken, threads};
use crossbeam_channel::{Receiver, RecvTimeoutError, bounded, select};

use crate::options::Options;
use crate::round::{Failed, Passed, run};

/// What a round tells at its start.
pub(crate) struct Watched {
    /// What ends the service from outside.
    pub(crate) token: CancelToken,
    /// That it was told to end, in whatever way. Not its token, whose timer would keep a thread alive.
    pub(crate) stopped: Receiver<Infallible>,
    pub(crate) reporter: Reporter,
}

/// A round that is not cancelled ends by itself, long before this. One that does not is cancelled.
const LONGEST: Duration = Duration::from_secs(15);

pub(crate) fn watched(options: &Options, round: u64) -> Result<Passed, Failed> {
    let (told, tells) = bounded(1);
    let (ended, ends) = bounded(1);
    let theirs = options.clone();
    let thread = std::thread::Builder::new().name(format!("round {round}"));
    let thread = thread.spawn(move || ended.send(run(&theirs, round, &told)).is_ok());
    let thread = thread.expect("a thread for the round");
    let Ok(Watched {
        token,
        stopped,
        reporter,
    }) = tells.recv()
    else {
        panic!("the round did not begin: {:?}", thread.join());
    };
    let waited = select! {
        recv(ends) -> end => end.map_err(RecvTimeoutError::from),
        recv(stopped) -> _ => ends.recv_timeout(options.patience),
        default(LONGEST) => {
            token.cancel_with("the round is too long");
            match ends.recv_timeout(options.patience) {
                Ok(_) => return Err(failed(format!("the round has run for {LONGEST:?}"), &reporter)),
                Err(error) => Err(error),
            }
        }
    };
    let hangs = match waited {
        Ok(end) => {
            thread.join().ok();
            return end;
        }
        Err(RecvTimeoutError::Disconnected) => "the round panicked".to_owned(),
        Err(RecvTimeoutError::Timeout) => {
            let patience = options.patience;
            format!("a wait has outlived the cancellation for {patience:?}")
        }
    };
    Err(failed(hangs, &reporter))
}

fn failed(why: String, reporter: &Reporter) -> Failed {
    let mut broken = vec![why];
    broken.extend(threads::live().iter().map(ToString::to_string));
    let report = reporter.report();
    Failed { broken, report }
}
