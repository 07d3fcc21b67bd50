//! All rounds, and what is printed.

use std::collections::BTreeMap;
use std::io::Write;
use std::process::ExitCode;
use std::time::Instant;

use cleanbreak::chaos::Fault;

use crate::options::{HELP, Options};
use crate::os;
use crate::round::{Failed, Passed};
use crate::watch;

/// Of all rounds so far.
#[derive(Default)]
struct Tally {
    rounds: u64,
    faults: BTreeMap<(&'static str, Fault), u64>,
    counts: BTreeMap<&'static str, u64>,
}

pub(crate) fn main() -> ExitCode {
    let options = match Options::parse(std::env::args().skip(1)) {
        Ok(options) => options,
        Err(error) => {
            eprintln!("chaos: {error}\n\n{HELP}");
            return ExitCode::from(2);
        }
    };
    if options.help {
        println!("{HELP}");
        return ExitCode::SUCCESS;
    }
    if let Some(scenario) = &options.scenario {
        return os::child(scenario);
    }
    let survived = (!options.os || os::run_all()) && (!options.service || run_rounds(&options));
    match survived {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    }
}

#[allow(clippy::disallowed_methods, reason = "how long it took, for people")]
fn run_rounds(options: &Options) -> bool {
    let (began, mut tally) = (Instant::now(), Tally::default());
    let rounds = match options.round {
        Some(round) => round..round + 1,
        None => 0..options.rounds,
    };
    for round in rounds {
        match watch::watched(options, round) {
            Ok(passed) => tally.add(&passed),
            Err(failed) => {
                tell(options, round, &failed);
                return false;
            }
        }
    }
    let seconds = began.elapsed().as_secs_f64();
    print(&tally.table(options.seed, seconds));
    true
}

fn tell(options: &Options, round: u64, failed: &Failed) {
    let mut text = format!("FAILED: seed {}, round {round}\n", options.seed);
    let mut line = |line: String| text.push_str(&(line + "\n"));
    failed
        .broken
        .iter()
        .for_each(|what| line(format!("  {what}")));
    line("the faults of that round:".to_owned());
    let injected = failed.report.injected();
    injected.iter().for_each(|fault| line(format!("  {fault}")));
    line(format!("replay it: {}", options.replay(round)));
    print(&text);
}

/// Not `println!`, which panics where nobody reads on.
fn print(text: &str) {
    std::io::stdout().write_all(text.as_bytes()).ok();
}

impl Tally {
    fn add(&mut self, passed: &Passed) {
        self.rounds += 1;
        for (point, fault, count) in passed.report.counts() {
            *self.faults.entry((point, fault)).or_default() += count;
        }
        for (what, count) in &passed.counts {
            *self.counts.entry(what).or_default() += count;
        }
    }

    fn table(&self, seed: u64, seconds: f64) -> String {
        let mut lines = vec![format!("{:<22} {:<8} {:>9}", "point", "fault", "survived")];
        let rows = self.faults.iter();
        lines.extend(
            rows.map(|((point, fault), count)| format!("{point:<22} {fault:<8} {count:>9}")),
        );
        lines.push(String::new());
        let rows = self.counts.iter();
        lines.extend(rows.map(|(what, count)| format!("{what:<31} {count:>9}")));
        lines.push(String::new());
        for fault in Fault::ALL {
            let of_kind = self.faults.iter().filter(|((_, kind), _)| *kind == fault);
            let total: u64 = of_kind.map(|(_, count)| count).sum();
            lines.push(format!("{:<31} {total:>9}", format!("faults: {fault}")));
        }
        let (rounds, faults) = (self.rounds, self.faults.values().sum::<u64>());
        let pace = rounds as f64 / seconds;
        lines.push(format!(
            "\n{rounds} rounds survived, seed {seed}: {faults} faults in {seconds:.1} s, \
             {pace:.1} rounds/s\n"
        ));
        lines.join("\n")
    }
}
