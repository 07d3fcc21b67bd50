//! Where there are no pidfds: a thread that waits for a child, for those who want to be told.
//!
//! # Invariants
//!
//! 1. A child has an entry in `WATCHED` exactly while a thread waits for its end, and there is one
//!    entry for a number. The thread takes the entry out, and then notifies.
//! 2. The thread leaves the child to be reaped by its owner (`WNOWAIT`). It ends also when that
//!    happens first.
//! 3. An entry may be that of an earlier process with the same number, whose thread has not taken it
//!    out yet. Then the notification comes early, and the caller, who looks at the child, waits
//!    again.
//!
//! Lock order: `WATCHED`, then the registry of `threads`.

use std::io;
use std::panic::Location;

use rustix::io::retry_on_intr;
use rustix::process::{Pid, WaitId, WaitIdOptions, waitid};

use super::notify::Notify;
use crate::sync::Arc;
use crate::sync::plain::Mutex;
use crate::threads::{self, Spec};

const NAME: &str = "cleanbreak child watch";

static WATCHED: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

struct Entry {
    pid: Pid,
    waiting: Vec<Arc<Notify>>,
}

/// A child that a thread waits for.
pub(super) struct Watched {
    pid: Pid,
    ended: Arc<Notify>,
}

impl Watched {
    /// Notified when the child has ended.
    pub(super) fn ended(&self) -> &Notify {
        &self.ended
    }
}

pub(super) fn watch(pid: Pid) -> io::Result<Watched> {
    let ended = Arc::new(Notify::new());
    let mut watched = WATCHED.lock();
    if let Some(entry) = watched.iter_mut().find(|entry| entry.pid == pid) {
        entry.waiting.push(ended.clone());
    } else {
        let spec = Spec::new(NAME, Location::caller());
        // Not joined: it ends with the child, which may outlive everybody here.
        threads::spawn(spec, move || await_end(pid)).map_err(io::Error::other)?;
        let waiting = vec![ended.clone()];
        watched.push(Entry { pid, waiting });
    }
    Ok(Watched { pid, ended })
}

fn await_end(pid: Pid) {
    let options = WaitIdOptions::EXITED | WaitIdOptions::NOWAIT;
    let shown = threads::waiting_on("see a child process end");
    // It fails when the child was reaped, which is an end too.
    let _ = retry_on_intr(|| waitid(WaitId::Pid(pid), options));
    drop(shown);
    let mut watched = WATCHED.lock();
    let place = watched.iter().position(|entry| entry.pid == pid);
    let entry = place.map(|place| watched.swap_remove(place));
    drop(watched);
    for ended in entry.into_iter().flat_map(|entry| entry.waiting) {
        ended.notify();
    }
}

/// The wait is over. The thread stays for as long as the child.
impl Drop for Watched {
    fn drop(&mut self) {
        let mut watched = WATCHED.lock();
        if let Some(entry) = watched.iter_mut().find(|entry| entry.pid == self.pid) {
            entry
                .waiting
                .retain(|ended| !Arc::ptr_eq(ended, &self.ended));
        }
    }
}
