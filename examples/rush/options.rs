//! The command line.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};

pub(crate) const HELP: &str = "rush [OPTIONS]
  Seventeen times the usual load, with and without shedding: a table and a chart.
  --seconds N    how long the rush lasts, and the time after it, each: 1 to 60 (default 2)
  --seed N       of the requests (default 1)
  --chart FILE   where the chart goes (default: rush.svg)
Exit status: 0 all that must hold held; 1 something did not; 130 Ctrl-C; 2 a wrong option.";

pub(crate) struct Options {
    /// Of each of the two parts.
    pub(crate) part: Duration,
    pub(crate) seed: u64,
    pub(crate) chart: PathBuf,
}

impl Options {
    /// `None` is a call for help.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Option<Self>> {
        let (mut seconds, mut seed, mut chart) = (2, 1, PathBuf::from("rush.svg"));
        while let Some(name) = words.next() {
            let value = match name.as_str() {
                "--help" | "-h" => return Ok(None),
                "--seconds" | "--seed" | "--chart" => words.next(),
                _ => bail!("unknown option {name}"),
            };
            let value = value.with_context(|| format!("{name} needs a value"))?;
            let bad = || format!("{name}: {value:?}");
            match name.as_str() {
                "--seconds" => seconds = value.parse().with_context(bad)?,
                "--seed" => seed = value.parse().with_context(bad)?,
                _ => chart = value.into(),
            }
        }
        ensure!(
            (1..=60).contains(&seconds),
            "--seconds: from 1 to 60, not {seconds}"
        );
        Ok(Some(Self {
            part: Duration::from_secs(seconds),
            seed,
            chart,
        }))
    }
}
