//! Ends a select loop when all its inputs have ended.

use super::SafeReceiver;
use crossbeam_channel::{Receiver, RecvError, never};
use std::cell::Cell;
use std::fmt;
use std::ops::Deref;

/// Counts the inputs of a select loop that have not ended.
///
/// The arm of a channel that has ended is always ready: a `select!` loop that does not take it out
/// spins at full speed, and one that leaves at the first end loses what the other channels still
/// hold. Here every receiver of the loop is added to an `Inputs`; the [`Input`] that stands in its
/// arm falls silent at the end of its channel, and the loop goes on while any input is open.
///
/// # Examples
///
/// ```
/// use cleanbreak::channel::{Inputs, SafeChannel};
/// use crossbeam_channel::select;
///
/// let (orders_tx, orders) = SafeChannel::bounded(4);
/// let (prices_tx, prices) = crossbeam_channel::bounded(4); // a raw receiver will do as well
/// orders_tx.send("buy").unwrap();
/// orders_tx.close();
/// prices_tx.send(10).unwrap();
/// prices_tx.send(11).unwrap();
/// drop(prices_tx);
///
/// let (mut seen, mut sum) = (Vec::new(), 0);
/// let inputs = Inputs::new();
/// let mut orders = inputs.add(&orders);
/// let mut prices = inputs.add(prices);
/// while inputs.any_open() {
///     select! {
///         recv(orders) -> message => {
///             let Some(order) = orders.take(message) else { continue };
///             seen.push(order);
///         }
///         recv(prices) -> message => {
///             let Some(price) = prices.take(message) else { continue };
///             sum += price;
///         }
///     }
/// }
/// assert_eq!((seen, sum), (vec!["buy"], 21));
/// assert_eq!(inputs.open(), 0);
/// ```
#[derive(Debug, Default)]
pub struct Inputs {
    open: Cell<usize>,
}

impl Inputs {
    /// No inputs yet: [`any_open`](Self::any_open) is `false`.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a receiver: a [`SafeReceiver`] or a crossbeam `Receiver`, owned or borrowed.
    ///
    /// Inputs may be added, and dropped, while the loop runs.
    pub fn add<'a, T>(&'a self, source: impl Into<Source<'a, T>>) -> Input<'a, T> {
        self.open.set(self.open.get() + 1);
        Input {
            open: &self.open,
            source: source.into(),
        }
    }

    /// Whether any input has not ended: the condition of the loop.
    #[must_use]
    pub fn any_open(&self) -> bool {
        self.open.get() > 0
    }

    /// How many inputs have not ended.
    #[must_use]
    pub fn open(&self) -> usize {
        self.open.get()
    }
}

/// One input of a select loop; from [`Inputs::add`].
///
/// It dereferences to the receiver for as long as its channel has not ended, and from then on to
/// one that is never ready. Dropping it takes it out of the count.
///
/// # Examples
///
/// ```
/// use cleanbreak::channel::{Inputs, SafeChannel};
///
/// let (tx, rx) = SafeChannel::bounded(4);
/// let inputs = Inputs::new();
/// let (mut a, b) = (inputs.add(&rx), inputs.add(&rx));
/// assert_eq!(inputs.open(), 2);
/// drop(b);
/// assert_eq!(inputs.open(), 1);
///
/// tx.send("last").unwrap();
/// tx.close();
/// let message = a.recv(); // as its arm in a `select!` does
/// assert_eq!(a.take(message), Some("last"));
/// assert!(a.is_open());
/// let message = a.recv();
/// assert_eq!(a.take(message), None); // its channel has ended
/// assert!(!a.is_open() && !inputs.any_open());
/// assert!(a.try_recv().unwrap_err().is_empty()); // never ready again
///
/// let mut c = inputs.add(&rx);
/// c.end(); // heard enough
/// assert!(!inputs.any_open());
/// ```
#[must_use = "an input that is dropped does not count"]
pub struct Input<'a, T> {
    open: &'a Cell<usize>,
    source: Source<'a, T>,
}

/// What an [`Input`] reads from. Made by `into()`.
///
/// # Examples
///
/// ```
/// use cleanbreak::channel::{Inputs, SafeChannel, Source};
///
/// /// Takes what [`Inputs::add`] takes.
/// fn first<'a, T: 'a>(source: impl Into<Source<'a, T>>) -> Option<T> {
///     let (inputs, source) = (Inputs::new(), source.into());
///     let mut input = inputs.add(source);
///     let message = input.recv();
///     input.take(message)
/// }
///
/// let (tx, rx) = SafeChannel::unbounded();
/// (1..=4).for_each(|n| tx.send(n).unwrap());
/// assert_eq!(first(&rx), Some(1));
/// assert_eq!(first(rx.as_crossbeam()), Some(2));
/// assert_eq!(first(rx.as_crossbeam().clone()), Some(3));
/// assert_eq!(first(rx), Some(4)); // and the receiver is gone
/// assert!(tx.is_closed());
/// ```
pub struct Source<'a, T>(Kind<'a, T>);

enum Kind<'a, T> {
    Safe(SafeReceiver<T>),
    SafeRef(&'a SafeReceiver<T>),
    Raw(Receiver<T>),
    RawRef(&'a Receiver<T>),
    /// A receiver that is never ready.
    Ended(Receiver<T>),
}

impl<T> Input<'_, T> {
    /// Unwraps what the arm of this input received; `None` says that its channel has ended.
    ///
    /// The end is counted once, whatever is passed afterwards. An owned receiver is dropped.
    pub fn take(&mut self, message: Result<T, RecvError>) -> Option<T> {
        if message.is_err() {
            self.end();
        }
        message.ok()
    }

    /// Stops listening to this input before its channel has ended.
    pub fn end(&mut self) {
        if self.is_open() {
            self.open.set(self.open.get() - 1);
            self.source = Source(Kind::Ended(never()));
        }
    }

    /// Whether it still counts.
    #[must_use]
    pub fn is_open(&self) -> bool {
        !matches!(self.source.0, Kind::Ended(_))
    }
}

impl<T> Deref for Input<'_, T> {
    type Target = Receiver<T>;

    fn deref(&self) -> &Receiver<T> {
        match &self.source.0 {
            Kind::Safe(receiver) => receiver.as_crossbeam(),
            Kind::SafeRef(receiver) => receiver.as_crossbeam(),
            Kind::Raw(receiver) | Kind::Ended(receiver) => receiver,
            Kind::RawRef(receiver) => receiver,
        }
    }
}

impl<T> Drop for Input<'_, T> {
    fn drop(&mut self) {
        self.end();
    }
}

impl<T> fmt::Debug for Input<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Input")
            .field("open", &self.is_open())
            .finish_non_exhaustive()
    }
}

impl<T> fmt::Debug for Source<'_, T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Source(..)")
    }
}

impl<T> From<SafeReceiver<T>> for Source<'_, T> {
    fn from(receiver: SafeReceiver<T>) -> Self {
        Source(Kind::Safe(receiver))
    }
}

impl<'a, T> From<&'a SafeReceiver<T>> for Source<'a, T> {
    fn from(receiver: &'a SafeReceiver<T>) -> Self {
        Source(Kind::SafeRef(receiver))
    }
}

impl<T> From<Receiver<T>> for Source<'_, T> {
    fn from(receiver: Receiver<T>) -> Self {
        Source(Kind::Raw(receiver))
    }
}

impl<'a, T> From<&'a Receiver<T>> for Source<'a, T> {
    fn from(receiver: &'a Receiver<T>) -> Self {
        Source(Kind::RawRef(receiver))
    }
}
