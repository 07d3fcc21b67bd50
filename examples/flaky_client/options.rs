//! The command line.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};

pub(crate) const HELP: &str = "flaky_client [OPTIONS]
  Calls a flaky upstream in a loop, under a policy, and draws what came of it.
  --speed N      how many times faster than the script it runs, 1 to 20 (default 5)
  --seed N       of the script and of the jitter (default 1)
  --chart FILE   where the chart goes (default: flaky_client.svg)
Exit status: 0 all that must hold held; 1 something did not; 130 Ctrl-C; 2 a wrong option.";

pub(crate) struct Options {
    pub(crate) speed: u32,
    pub(crate) seed: u64,
    pub(crate) chart: PathBuf,
}

impl Options {
    /// `None` is a call for help.
    pub(crate) fn parse(mut words: impl Iterator<Item = String>) -> anyhow::Result<Option<Self>> {
        let mut options = Self {
            speed: 5,
            seed: 1,
            chart: "flaky_client.svg".into(),
        };
        while let Some(name) = words.next() {
            let value = match name.as_str() {
                "--help" | "-h" => return Ok(None),
                "--speed" | "--seed" | "--chart" => words.next(),
                _ => bail!("unknown option {name}"),
            };
            let value = value.with_context(|| format!("{name} needs a value"))?;
            let bad = || format!("{name}: {value:?}");
            match name.as_str() {
                "--speed" => options.speed = value.parse().with_context(bad)?,
                "--seed" => options.seed = value.parse().with_context(bad)?,
                _ => options.chart = value.into(),
            }
        }
        ensure!(
            (1..=20).contains(&options.speed),
            "--speed: from 1 to 20, not {}",
            options.speed
        );
        Ok(Some(options))
    }
}
