//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

pub(crate) const HELP: &str = "pipeline [OPTIONS]
  Takes orders in, reserves stock, ships; every order ends in one file of the output folder.
  --orders FILE    id,sku,quantity,country on each line; - is standard input
                   (default: examples/data/orders.csv)
  --skip N         leaves out so many lines of it
  --generate N     makes N orders instead
  --seed N         for --generate (default 1)
  --stock FILE     sku,quantity on each line (default: examples/data/stock.csv)
  --out FOLDER     for the results, without results of another run (default: temporary)
  --takes TIME     how long the carrier takes for an order: 5ms, 1s
  --stuck          the carrier never answers
  --bug ID         the shipping of this order panics
  --patience TIME  when the input has ended and no order has for so long, the rest is handed back
                   (default 2s)
Exit status: 0 every order has ended; 3 some were handed back, as a stage was stuck; 130 Ctrl-C,
143 SIGTERM, the rest was handed back; 1 something is wrong; 2 a wrong option.";

pub(crate) struct Options {
    pub(crate) orders: Source,
    pub(crate) skip: u64,
    pub(crate) stock: PathBuf,
    pub(crate) out: Option<PathBuf>,
    pub(crate) takes: Duration,
    pub(crate) stuck: bool,
    pub(crate) bug: Option<String>,
    pub(crate) patience: Duration,
}

pub(crate) enum Source {
    Stdin,
    File(PathBuf),
    Generated(u64, u64),
}

impl Options {
    /// `None` is a call for help.
    pub(crate) fn parse(arguments: impl Iterator<Item = String>) -> anyhow::Result<Option<Self>> {
        let data = concat!(env!("CARGO_MANIFEST_DIR"), "/examples/data");
        let mut options = Self {
            orders: Source::File(format!("{data}/orders.csv").into()),
            skip: 0,
            stock: format!("{data}/stock.csv").into(),
            out: None,
            takes: Duration::ZERO,
            stuck: false,
            bug: None,
            patience: Duration::from_secs(2),
        };
        let (mut generate, mut seed) = (None, 1);
        let mut words = arguments.flat_map(|word| match word.split_once('=') {
            Some((name, value)) if name.starts_with("--") => vec![name.into(), value.into()],
            _ => vec![word],
        });
        while let Some(name) = words.next() {
            let mut value = || {
                words
                    .next()
                    .with_context(|| format!("{name} needs a value"))
            };
            match name.as_str() {
                "--help" | "-h" => return Ok(None),
                "--orders" => {
                    options.orders = match value()?.as_str() {
                        "-" => Source::Stdin,
                        file => Source::File(file.into()),
                    }
                }
                "--skip" => options.skip = number(&name, &value()?)?,
                "--generate" => generate = Some(number(&name, &value()?)?),
                "--seed" => seed = number(&name, &value()?)?,
                "--stock" => options.stock = value()?.into(),
                "--out" => options.out = Some(value()?.into()),
                "--takes" => options.takes = time(&value()?)?,
                "--stuck" => options.stuck = true,
                "--bug" => options.bug = Some(value()?),
                "--patience" => options.patience = time(&value()?)?,
                _ => bail!("unknown option {name}"),
            }
        }
        if let Some(orders) = generate {
            options.orders = Source::Generated(seed, orders);
        }
        ensure!(!options.patience.is_zero(), "--patience: some is needed");
        Ok(Some(options))
    }
}

fn number(name: &str, value: &str) -> anyhow::Result<u64> {
    value.parse().with_context(|| format!("{name}: {value:?}"))
}

fn time(value: &str) -> anyhow::Result<Duration> {
    let units = [("ms", 1), ("s", 1000), ("m", 60_000)];
    let parse = |(unit, millis): &(&str, u64)| {
        let number: u64 = value.strip_suffix(unit)?.parse().ok()?;
        number.checked_mul(*millis)
    };
    let millis = units.iter().find_map(parse);
    let millis = millis.with_context(|| format!("{value:?} is no time such as 200ms, 5s or 2m"))?;
    Ok(Duration::from_millis(millis))
}
