//! Who is told of which signal, and the thread that tells them.
//!
//! # Invariants
//!
//! 1. A signal is heard (see `handler.rs`) exactly while a subscriber wants it.
//! 2. The signal thread of the present generation runs exactly while there are subscribers. One of
//!    an earlier generation may still be on its way out: it takes no counts and delivers nothing.
//! 3. A counted arrival is followed, in the same handler, by the wake-up of the signal thread: the
//!    wake-up is registered before the signal is heard, and registering returns only when no
//!    handler runs any more that began without it.
//! 4. Only the hub sends, under its lock, and a channel has room for one item of each of its
//!    signals. It takes out what was not received, adds to it and puts it back: so a send never
//!    finds the channel full.
//! 5. Nothing of the user's runs, or is dropped, under the lock.
//!
//! Lock order: the hub, then signal-hook's registry, or the registry of `threads`. The handler takes
//! no lock, so it cannot be stuck behind one.

use std::mem;
use std::panic::Location;

use crossbeam_channel::{Receiver, Sender, bounded};
use signal_hook::iterator::{self, Signals};

use super::set::SignalSet;
use super::{Interrupt, InterruptError, handler, signal_name};
use crate::cancel::{CancelToken, Cause};
use crate::fault::{self, At};
use crate::observe;
use crate::sync::plain::Mutex;
use crate::threads::{self, Handle, Origin, Spec};

const NAME: &str = "cleanbreak signals";

static HUB: Mutex<Hub> = Mutex::new(Hub {
    subscribers: Vec::new(),
    next_id: 0,
    generation: 0,
    server: None,
});

struct Hub {
    subscribers: Vec<Subscriber>,
    next_id: u64,
    /// A thread serves while this is the number it was started with.
    generation: u64,
    server: Option<Server>,
}

/// The signal thread.
struct Server {
    thread: Handle,
    signals: iterator::Handle,
}

struct Subscriber {
    id: u64,
    signals: SignalSet,
    sink: Sink,
}

/// Where a signal goes.
enum Sink {
    Channel(Sender<Interrupt>, Receiver<Interrupt>),
    Token(CancelToken),
}

/// A place among the subscribers, given up on drop.
#[derive(Debug)]
pub(super) struct Subscription {
    id: u64,
}

/// Subscribes a new channel.
pub(super) fn subscribe_channel(
    signals: SignalSet,
    site: &'static Location<'static>,
) -> Result<(Subscription, Receiver<Interrupt>), InterruptError> {
    let (sender, receiver) = bounded(signals.len());
    let sink = Sink::Channel(sender, receiver.clone());
    let subscription = subscribe(signals, sink, site, || Ok(()))?;
    Ok((subscription, receiver))
}

/// Subscribes a token. `arm` runs when every handler is in place and before one is heard, with the
/// hub locked.
pub(super) fn subscribe_token(
    signals: SignalSet,
    token: &CancelToken,
    site: &'static Location<'static>,
    arm: impl FnOnce() -> Result<(), InterruptError>,
) -> Result<Subscription, InterruptError> {
    subscribe(signals, Sink::Token(token.clone()), site, arm)
}

fn subscribe(
    signals: SignalSet,
    sink: Sink,
    site: &'static Location<'static>,
    arm: impl FnOnce() -> Result<(), InterruptError>,
) -> Result<Subscription, InterruptError> {
    fault::pass(At::InterruptSubscribe);
    let mut hub = HUB.lock();
    let ready = hub.prepare(signals, site).and_then(|()| arm());
    if let Err(error) = ready {
        let unused = hub.stop_if_unused();
        drop(hub);
        if let Some(server) = unused {
            server.stop();
        }
        return Err(error);
    }
    let id = hub.next_id;
    hub.next_id += 1;
    hub.subscribers.push(Subscriber { id, signals, sink });
    signals.iter().for_each(handler::hear);
    Ok(Subscription { id })
}

impl Hub {
    /// Starts the thread if there is none, and puts the handlers in place.
    fn prepare(
        &mut self,
        signals: SignalSet,
        site: &'static Location<'static>,
    ) -> Result<(), InterruptError> {
        let server = match self.server.take() {
            Some(server) => server,
            None => Server::start(self.generation, site)?,
        };
        let server = self.server.insert(server);
        for signal in signals.iter() {
            let refused = |error| InterruptError::Handler(signal, error);
            handler::install(signal).map_err(refused)?;
            server.signals.add_signal(signal).map_err(refused)?;
        }
        Ok(())
    }

    /// Ends the generation when nothing needs it; the caller stops what it returns.
    fn stop_if_unused(&mut self) -> Option<Server> {
        if !self.subscribers.is_empty() {
            return None;
        }
        self.generation += 1;
        self.server.take()
    }

    /// Tells every subscriber that wants it; returns the tokens to cancel.
    fn deliver(&self, signal: i32, count: u64) -> Vec<CancelToken> {
        let mut tokens = Vec::new();
        let wants = |subscriber: &&Subscriber| subscriber.signals.contains(signal);
        for subscriber in self.subscribers.iter().filter(wants) {
            match &subscriber.sink {
                Sink::Channel(sender, receiver) => add(sender, receiver, signal, count),
                Sink::Token(token) => tokens.push(token.clone()),
            }
        }
        tokens
    }
}

/// Adds to the item that is waiting for this signal, or puts a new one behind the others
/// (invariant 4).
fn add(sender: &Sender<Interrupt>, receiver: &Receiver<Interrupt>, signal: i32, count: u64) {
    let mut waiting: Vec<_> = receiver.try_iter().collect();
    match waiting.iter_mut().find(|item| item.signal == signal) {
        Some(item) => item.count += count,
        None => waiting.push(Interrupt { signal, count }),
    }
    for item in waiting {
        let sent = sender.try_send(item);
        debug_assert!(sent.is_ok(), "there is room for each signal");
    }
}

impl Server {
    fn start(generation: u64, site: &'static Location<'static>) -> Result<Self, InterruptError> {
        let incoming = Signals::new([0_i32; 0]).map_err(InterruptError::Pipe)?;
        let signals = incoming.handle();
        // Whoever subscribes first, it serves them all.
        let _inside = Origin::nobody().enter();
        let thread = threads::spawn(Spec::new(NAME, site), move || serve(incoming, generation))?;
        Ok(Self { thread, signals })
    }

    /// Not under the hub's lock, which the thread may be waiting for. The thread does not join
    /// itself: stopped by a hook that it runs, it ends when the hook has.
    fn stop(self) {
        self.signals.close();
        if !self.thread.is_current() {
            self.thread.join();
        }
    }
}

fn serve(mut incoming: Signals, generation: u64) {
    while !incoming.is_closed() {
        let batch = {
            let _wait = threads::waiting_on("get a signal");
            incoming.wait()
        };
        for signal in batch {
            pass_on(signal, generation);
        }
    }
}

/// On the signal thread. A count of zero is no news: an earlier pass has taken it.
fn pass_on(signal: i32, generation: u64) {
    let hub = HUB.lock();
    if hub.generation != generation {
        return;
    }
    let count = handler::take(signal);
    let tokens = match count {
        0 => Vec::new(),
        count => hub.deliver(signal, count),
    };
    drop(hub);
    observe::interrupts(signal, signal_name(signal), count);
    for token in tokens {
        token.cancel_with(Cause::signal(signal));
    }
}

impl Drop for Subscription {
    fn drop(&mut self) {
        let mut hub = HUB.lock();
        let (gone, kept): (Vec<_>, Vec<_>) = mem::take(&mut hub.subscribers)
            .into_iter()
            .partition(|subscriber| subscriber.id == self.id);
        hub.subscribers = kept;
        for signal in gone.iter().flat_map(|subscriber| subscriber.signals.iter()) {
            let mut others = hub.subscribers.iter();
            if !others.any(|other| other.signals.contains(signal)) {
                handler::unhear(signal);
            }
        }
        let unused = hub.stop_if_unused();
        drop(hub);
        drop(gone);
        if let Some(server) = unused {
            server.stop();
        }
    }
}
