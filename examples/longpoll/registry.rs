//! The connection map: who is connected, how many may be, and the door that closes for good.
//!
//! Invariants
//! 1. `closing` is read under the lock that a registration is made under. A connection is either in
//!    the map before the door closes, and the sweep that follows sees it, or it is refused: none is
//!    forgotten.
//! 2. A connection is in the map exactly as long as its `Ticket` lives.

use std::collections::HashMap;
use std::net::{Shutdown, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::{Condvar, Mutex};

/// So many connections beyond the limit get a thread that tells them 503. A bare close would leave
/// the client guessing, and an answer before the request is read would be lost in the reset that
/// follows it.
const OVERFLOW: usize = 64;

#[derive(Default)]
pub(crate) struct Registry {
    state: Mutex<State>,
    fewer: Condvar,
}

#[derive(Default)]
struct State {
    closing: bool,
    last_id: u64,
    sockets: HashMap<u64, Arc<TcpStream>>,
    /// Polls that were not answered yet; kept here so that one condition variable serves the
    /// shutdown.
    polls: usize,
}

/// What became of a new connection.
pub(crate) enum Admission {
    Served(Ticket),
    /// There are too many: to be answered 503.
    Refused(Ticket),
    /// Far too many, or the door is closed: to be dropped.
    Dropped,
}

impl Registry {
    pub(crate) fn admit(self: &Arc<Self>, socket: &Arc<TcpStream>, limit: usize) -> Admission {
        let mut state = self.state.lock();
        let open = state.sockets.len();
        if state.closing || open >= limit.saturating_add(OVERFLOW) {
            return Admission::Dropped;
        }
        state.last_id += 1;
        let id = state.last_id;
        state.sockets.insert(id, Arc::clone(socket));
        let ticket = Ticket {
            registry: Arc::clone(self),
            id,
        };
        if open < limit {
            Admission::Served(ticket)
        } else {
            Admission::Refused(ticket)
        }
    }

    /// Closes the door: from now on nothing is admitted. The number of connections inside.
    pub(crate) fn close(&self) -> usize {
        let mut state = self.state.lock();
        state.closing = true;
        state.sockets.len()
    }

    /// Shuts every socket down, which ends every wait on them; how many they were.
    pub(crate) fn cut(&self) -> usize {
        let sockets: Vec<_> = self.state.lock().sockets.values().cloned().collect();
        for socket in &sockets {
            // It fails when the client has gone: then there is nothing to cut.
            let _ = socket.shutdown(Shutdown::Both);
        }
        sockets.len()
    }

    pub(crate) fn connections(&self) -> usize {
        self.state.lock().sockets.len()
    }

    pub(crate) fn polls(&self) -> usize {
        self.state.lock().polls
    }

    /// Waits until every poll is answered; false when that takes longer than `limit`.
    pub(crate) fn polls_answered(&self, limit: Duration) -> bool {
        self.wait_for(limit, |state| state.polls == 0)
    }

    /// Waits until the map is empty; false when that takes longer than `limit`.
    pub(crate) fn emptied(&self, limit: Duration) -> bool {
        self.wait_for(limit, |state| state.sockets.is_empty())
    }

    fn wait_for(&self, limit: Duration, reached: fn(&State) -> bool) -> bool {
        let mut state = self.state.lock();
        self.fewer
            .wait_while_for(&mut state, |state| !reached(state), limit);
        reached(&state)
    }

    fn update<R>(&self, change: impl FnOnce(&mut State) -> R) -> R {
        let mut state = self.state.lock();
        let result = change(&mut state);
        // Only the last one to leave has something to tell: no storm of wake-ups behind a thousand
        // polls.
        let tell = state.sockets.is_empty() || state.polls == 0;
        drop(state);
        if tell {
            self.fewer.notify_all();
        }
        result
    }
}

/// A place in the map, given back when dropped.
pub(crate) struct Ticket {
    registry: Arc<Registry>,
    id: u64,
}

impl Ticket {
    /// Counts a poll as unanswered until the value is dropped.
    pub(crate) fn poll(&self) -> PollInFlight {
        self.registry.update(|state| state.polls += 1);
        PollInFlight {
            registry: Arc::clone(&self.registry),
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        let id = self.id;
        // The socket may close here, so it leaves the lock first.
        drop(self.registry.update(|state| state.sockets.remove(&id)));
    }
}

/// See [`Ticket::poll`].
pub(crate) struct PollInFlight {
    registry: Arc<Registry>,
}

impl Drop for PollInFlight {
    fn drop(&mut self) {
        self.registry.update(|state| state.polls -= 1);
    }
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    fn socket() -> Arc<TcpStream> {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        Arc::new(TcpStream::connect(listener.local_addr().unwrap()).unwrap())
    }

    #[test]
    fn the_limit_refuses_then_drops_and_a_ticket_gives_its_place_back() {
        let (registry, socket) = (Arc::new(Registry::default()), socket());
        let Admission::Served(first) = registry.admit(&socket, 1) else {
            panic!("there is room for one")
        };
        let refused: Vec<_> = (0..OVERFLOW).map(|_| registry.admit(&socket, 1)).collect();
        assert!(
            refused
                .iter()
                .all(|admission| matches!(admission, Admission::Refused(_)))
        );
        assert!(matches!(registry.admit(&socket, 1), Admission::Dropped));
        drop((first, refused));
        assert_eq!(registry.connections(), 0);
        assert!(matches!(registry.admit(&socket, 1), Admission::Served(_)));
    }

    #[test]
    fn after_the_door_is_closed_nobody_is_admitted() {
        let (registry, socket) = (Arc::new(Registry::default()), socket());
        let inside = registry.admit(&socket, 9);
        assert_eq!(registry.close(), 1);
        assert!(matches!(registry.admit(&socket, 9), Admission::Dropped));
        assert_eq!(registry.cut(), 1);
        drop(inside);
        assert!(registry.emptied(Duration::ZERO));
    }

    #[test]
    fn a_poll_counts_until_it_is_answered() {
        let (registry, socket) = (Arc::new(Registry::default()), socket());
        let Admission::Served(ticket) = registry.admit(&socket, 9) else {
            panic!("there is room")
        };
        let poll = ticket.poll();
        assert!(!registry.polls_answered(Duration::ZERO));
        drop(poll);
        assert!(registry.polls_answered(Duration::ZERO));
    }
}
