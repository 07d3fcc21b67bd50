//! What the stages do. None of them waits for the one behind it.

use std::collections::BTreeMap;
use std::io::Write;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use cleanbreak::group::PanicPayload;
use cleanbreak::{CancelToken, SafeReceiver, SafeSender, threads};
use parking_lot::Mutex;

use super::input::{Input, Step};
use super::link::Link;
use super::order::{Next, Order};

/// What the books are told. The first number is the line of the order.
pub(crate) enum Event {
    /// A line was read, and will end in one of the ways below.
    Accepted(u64),
    Shipped(Order, String),
    Refused(Order),
    /// A stage failed on it: why, and what it was.
    Dead(u64, String, String),
    /// Handed back.
    Back(Order),
    /// Nothing more will be accepted: lines that were read, and whether those were all.
    InputEnded(u64, bool),
}

pub(crate) type Books = SafeSender<Event>;

/// The books are open until the last stage has ended: a send cannot fail before.
fn tell(books: &Books, event: Event) -> anyhow::Result<()> {
    books.send(event).context("the books were closed too early")
}

fn dead(books: &Books, order: &Order, why: String) -> anyhow::Result<()> {
    tell(books, Event::Dead(order.line, why, order.to_string()))
}

/// Takes orders in, as fast as they come.
pub(crate) fn take_in(
    mut input: Input,
    skip: u64,
    to: &Link,
    books: &Books,
    token: &CancelToken,
) -> anyhow::Result<()> {
    let mut line = 0;
    let complete = 'lines: loop {
        let text = match input.next(token)? {
            Step::Line(text) => text,
            Step::End => break 'lines true,
            Step::Told => break 'lines false,
        };
        line += 1;
        if line > skip {
            accept(line, &text, to, books, token)?;
        }
    };
    // What has been read from a pipe is nowhere else any more.
    let (whole, cut) = input.rest();
    for text in whole {
        line += 1;
        if line > skip {
            accept(line, &text, to, books, token)?;
        }
    }
    if let Some(text) = cut {
        tell(books, Event::Accepted(line + 1))?;
        let why = "the line was cut off by the stop".to_owned();
        tell(books, Event::Dead(line + 1, why, text))?;
        line += 1;
    }
    to.finish();
    tell(books, Event::InputEnded(line, complete))
}

fn accept(
    line: u64,
    text: &str,
    to: &Link,
    books: &Books,
    token: &CancelToken,
) -> anyhow::Result<()> {
    let header = line == 1 && text.starts_with("id,");
    if header || text.is_empty() {
        return Ok(());
    }
    tell(books, Event::Accepted(line))?;
    match Order::parse(line, text) {
        Ok(order) => match to.push(order, token) {
            Ok(()) => Ok(()),
            Err(order) => tell(books, Event::Back(order)),
        },
        Err(why) => tell(books, Event::Dead(line, why, text.to_owned())),
    }
}

/// Takes an order's goods out of the stock, or refuses it.
pub(crate) fn reserve(
    inbox: &SafeReceiver<Order>,
    stock: &Stock,
    to: &Link,
    books: &Books,
    token: &CancelToken,
) -> anyhow::Result<()> {
    'orders: loop {
        // Closed and drained, or told to stop: what is still in the channel is handed back later.
        let Ok(mut order) = inbox.recv_or_cancel(token) else {
            break 'orders;
        };
        if order.next == Next::Reserve {
            match stock.reserve(&order) {
                Ok(true) => order.next = Next::Ship,
                Ok(false) => {
                    tell(books, Event::Refused(order))?;
                    continue 'orders;
                }
                Err(why) => {
                    dead(books, &order, why)?;
                    continue 'orders;
                }
            }
        }
        if let Err(order) = to.push(order, token) {
            tell(books, Event::Back(order))?;
        }
    }
    to.finish();
    Ok(())
}

/// Hands orders to the carrier.
pub(crate) fn ship(
    inbox: &SafeReceiver<Order>,
    carrier: &Carrier,
    stock: &Stock,
    books: &Books,
    token: &CancelToken,
) -> anyhow::Result<()> {
    'orders: loop {
        let Ok(order) = inbox.recv_or_cancel(token) else {
            break 'orders;
        };
        // A bug that one order meets must not cost the others.
        let outcome = catch_unwind(AssertUnwindSafe(|| carrier.ship(&order, token)));
        let outcome = outcome.unwrap_or_else(|payload| {
            let payload = PanicPayload::new(payload);
            let message = payload.message().unwrap_or("no message");
            Err(Failure::Order(format!("the stage panicked: {message}")))
        });
        match outcome {
            Ok(number) => tell(books, Event::Shipped(order, number))?,
            Err(Failure::Told) => tell(books, Event::Back(order))?,
            Err(Failure::Order(why)) => {
                // Nobody will get these goods.
                stock.release(&order);
                dead(books, &order, why)?;
            }
        }
    }
    Ok(())
}

enum Failure {
    /// Told to stop: the order is as it was.
    Told,
    Order(String),
}

/// Stands for a carrier's service, slow or stuck if wanted.
pub(crate) struct Carrier {
    pub(crate) takes: Duration,
    pub(crate) stuck: bool,
    /// The id of an order on which the code has a bug.
    pub(crate) bug: Option<String>,
}

impl Carrier {
    /// The number of the shipment.
    fn ship(&self, order: &Order, token: &CancelToken) -> Result<String, Failure> {
        if self.stuck {
            let _wait = threads::waiting_on("get an answer of the carrier");
            // Not `token.wait()`, which would show as a wait of its own.
            let _ = token.done().recv();
        }
        if self.bug.as_ref() == Some(&order.id) {
            panic!("a bug that order {} meets", order.id);
        }
        token.sleep(self.takes).map_err(|_| Failure::Told)?;
        let known =
            order.country.len() == 2 && order.country.bytes().all(|b| b.is_ascii_uppercase());
        match known {
            true => Ok(format!("S{:06}", order.line)),
            false => Err(Failure::Order(format!("no way to {}", order.country))),
        }
    }
}

/// What is there, by article.
pub(crate) struct Stock(Mutex<BTreeMap<String, u64>>);

impl Stock {
    pub(crate) fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| path.display().to_string())?;
        let mut stock = BTreeMap::new();
        for (number, line) in (1..).zip(text.lines()) {
            if line.trim().is_empty() || (number == 1 && line.starts_with("sku,")) {
                continue;
            }
            let place = || format!("{}, line {number}: {line:?}", path.display());
            let (sku, quantity) = line.split_once(',').with_context(place)?;
            let quantity = quantity.trim().parse().with_context(place)?;
            let before = stock.insert(sku.trim().to_owned(), quantity);
            anyhow::ensure!(before.is_none(), "{}: given twice", place());
        }
        Ok(Self(Mutex::new(stock)))
    }

    pub(crate) fn save(&self, mut to: impl Write) -> std::io::Result<()> {
        writeln!(to, "sku,quantity")?;
        let stock = self.0.lock();
        for (sku, quantity) in &*stock {
            writeln!(to, "{sku},{quantity}")?;
        }
        to.flush()
    }

    pub(crate) fn skus(&self) -> Vec<String> {
        self.0.lock().keys().cloned().collect()
    }

    /// Whether there was enough, and is that much less now.
    fn reserve(&self, order: &Order) -> Result<bool, String> {
        let mut stock = self.0.lock();
        let there = stock.get_mut(&order.sku);
        let there = there.ok_or_else(|| format!("no article {}", order.sku))?;
        let left = there.checked_sub(order.quantity);
        *there = left.unwrap_or(*there);
        Ok(left.is_some())
    }

    fn release(&self, order: &Order) {
        let mut stock = self.0.lock();
        let there = stock.entry(order.sku.clone()).or_default();
        *there = there.saturating_add(order.quantity);
    }
}
