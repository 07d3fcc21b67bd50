//! The accounts: each order that was accepted ends in one file, and the sums say so.

use std::fmt;
use std::fs::{File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::Path;

use anyhow::{Context as _, ensure};

use super::stages::{Event, Stock};

/// How many orders, and the sum of their line numbers: an order that is lost and another that is
/// there twice do not cancel out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Tally {
    orders: u64,
    sum: u128,
}

impl Tally {
    fn add(&mut self, line: u64) {
        self.orders += 1;
        self.sum += u128::from(line);
    }
}

/// A file of results.
struct Ledger {
    name: &'static str,
    /// Not buffered: what is entered is there, also if the process is killed.
    file: File,
    tally: Tally,
}

impl Ledger {
    /// A new one: results of another run are not overwritten.
    fn create(folder: &Path, name: &'static str, header: &str) -> anyhow::Result<Self> {
        let path = folder.join(name);
        let file = OpenOptions::new().write(true).create_new(true).open(&path);
        let mut file = file.with_context(|| path.display().to_string())?;
        writeln!(file, "{header}")?;
        let tally = Tally::default();
        Ok(Self { name, file, tally })
    }

    fn add(&mut self, line: u64, entry: fmt::Arguments<'_>) -> anyhow::Result<()> {
        self.tally.add(line);
        let line = format!("{entry}\n");
        let written = self.file.write_all(line.as_bytes());
        written.with_context(|| format!("not in {}: {entry}", self.name))
    }
}

/// All files, and what was accepted.
pub(crate) struct Accounts {
    accepted: Tally,
    shipments: Ledger,
    refused: Ledger,
    dead: Ledger,
    backlog: Ledger,
    stock: File,
    pub(crate) input: Option<(u64, bool)>,
    /// Entries that are on standard error only.
    pub(crate) unwritten: u64,
}

impl Accounts {
    pub(crate) fn create(folder: &Path) -> anyhow::Result<Self> {
        let ledger = |name, header| Ledger::create(folder, name, header);
        let stock = folder.join("stock.csv");
        let stock = OpenOptions::new().write(true).create_new(true).open(&stock);
        Ok(Self {
            accepted: Tally::default(),
            shipments: ledger("shipments.csv", "id,sku,quantity,country,shipment")?,
            refused: ledger("refused.csv", "id,sku,quantity,country")?,
            dead: ledger("dead.csv", "line,why,text")?,
            backlog: ledger("backlog.csv", "id,sku,quantity,country,next")?,
            stock: stock.context("stock.csv")?,
            input: None,
            unwritten: 0,
        })
    }

    /// Enters what a stage says. What cannot be written is told on standard error, so that it is
    /// not lost.
    pub(crate) fn enter(&mut self, event: Event) {
        let written = match event {
            Event::Accepted(line) => {
                self.accepted.add(line);
                Ok(())
            }
            Event::Shipped(order, number) => {
                let entry = format_args!("{order},{number}");
                self.shipments.add(order.line, entry)
            }
            Event::Refused(order) => self.refused.add(order.line, format_args!("{order}")),
            Event::Dead(line, why, text) => {
                self.dead.add(line, format_args!("{line},{why},{text:?}"))
            }
            Event::Back(order) => {
                let entry = format_args!("{order},{}", order.next);
                self.backlog.add(order.line, entry)
            }
            Event::InputEnded(lines, complete) => {
                self.input = Some((lines, complete));
                Ok(())
            }
        };
        if let Err(error) = written {
            self.unwritten += 1;
            let _ = writeln!(io::stderr().lock(), "pipeline: {error:#}");
        }
    }

    /// Orders on their way.
    pub(crate) fn open(&self) -> u64 {
        self.accepted.orders - self.settled().orders
    }

    fn settled(&self) -> Tally {
        let ledgers = [&self.shipments, &self.refused, &self.dead, &self.backlog];
        let add = |sum: Tally, ledger: &Ledger| Tally {
            orders: sum.orders + ledger.tally.orders,
            sum: sum.sum + ledger.tally.sum,
        };
        ledgers.into_iter().fold(Tally::default(), add)
    }

    /// Writes everything to its end, and looks whether it adds up. Whether orders were handed back.
    pub(crate) fn close(&self, stock: &Stock) -> anyhow::Result<bool> {
        for ledger in [&self.shipments, &self.refused, &self.dead, &self.backlog] {
            ledger.file.sync_all().context(ledger.name)?;
        }
        let left = stock.save(BufWriter::new(&self.stock));
        left.and_then(|()| self.stock.sync_all())
            .context("stock.csv")?;
        let (accepted, settled) = (self.accepted, self.settled());
        ensure!(
            self.unwritten == 0,
            "{} entries could not be written",
            self.unwritten
        );
        ensure!(
            accepted == settled,
            "accepted {accepted:?}, but settled {settled:?}"
        );
        Ok(self.backlog.tally.orders > 0)
    }
}

impl fmt::Display for Accounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let accepted = self.accepted.orders;
        let (shipped, refused) = (self.shipments.tally.orders, self.refused.tally.orders);
        let (dead, back) = (self.dead.tally.orders, self.backlog.tally.orders);
        write!(
            f,
            "{accepted} accepted = {shipped} shipped + {refused} refused "
        )?;
        write!(f, "+ {dead} dead + {back} handed back")?;
        match self.input {
            Some((lines, false)) => write!(f, "; read {lines} lines: go on with --skip {lines}"),
            _ => Ok(()),
        }
    }
}
