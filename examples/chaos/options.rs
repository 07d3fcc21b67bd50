//! The command line.

use std::time::Duration;

use crate::plant::Plant;

pub(crate) const HELP: &str = "\
chaos [--rounds N] [--seed S] [--round K] [--plant BUG] [--patience SECONDS] [--os | --no-os]

  --rounds N          how many rounds, 1000 by default
  --seed S            what all is decided by, 7 by default
  --round K           only this round
  --plant BUG         with a bug: close, thread, error, tick, permit, task or wait
  --patience SECONDS  how long a wait may outlive a cancellation, 30 by default
  --os, --no-os       only the faults of the operating system, or none of them";

#[derive(Clone, Debug)]
pub(crate) struct Options {
    pub(crate) rounds: u64,
    pub(crate) seed: u64,
    pub(crate) round: Option<u64>,
    pub(crate) plant: Option<Plant>,
    pub(crate) patience: Duration,
    pub(crate) os: bool,
    pub(crate) service: bool,
    /// This process is the child of such a scenario.
    pub(crate) scenario: Option<String>,
    pub(crate) help: bool,
}

impl Options {
    pub(crate) fn parse(mut arguments: impl Iterator<Item = String>) -> Result<Self, String> {
        let mut options = Self {
            rounds: 1000,
            seed: 7,
            round: None,
            plant: None,
            patience: Duration::from_secs(30),
            os: true,
            service: true,
            scenario: None,
            help: false,
        };
        while let Some(argument) = arguments.next() {
            let mut value = || arguments.next().ok_or(format!("{argument} needs a value"));
            match argument.as_str() {
                "--rounds" => options.rounds = number(&value()?)?,
                "--seed" => options.seed = number(&value()?)?,
                "--round" => options.round = Some(number(&value()?)?),
                "--plant" => options.plant = Some(plant(&value()?)?),
                "--patience" => options.patience = Duration::from_secs(number(&value()?)?),
                "--os" => options.service = false,
                "--no-os" => options.os = false,
                "--scenario" => options.scenario = Some(value()?),
                "--help" => options.help = true,
                other => return Err(format!("what is {other}?")),
            }
        }
        Ok(options)
    }

    /// The command that does round `round` again.
    pub(crate) fn replay(&self, round: u64) -> String {
        let plant = self.plant.and_then(|plant| {
            let named = Plant::ALL.iter().find(|(_, known)| *known == plant);
            named.map(|(name, _)| format!(" --plant {name}"))
        });
        let patience = match self.patience.as_secs() {
            30 => String::new(),
            secs => format!(" --patience {secs}"),
        };
        format!(
            "cargo run --release --features chaos --example chaos -- --seed {} --round {round}{}{patience}",
            self.seed,
            plant.unwrap_or_default()
        )
    }
}

fn number(text: &str) -> Result<u64, String> {
    text.parse().map_err(|_| format!("{text} is not a number"))
}

fn plant(name: &str) -> Result<Plant, String> {
    let known = Plant::ALL.iter().find(|(known, _)| *known == name);
    known
        .map(|(_, plant)| *plant)
        .ok_or(format!("there is no bug {name}"))
}
