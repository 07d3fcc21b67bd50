//! All rounds, and what is printed.

use std::collections::BTreeMap;
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
    tally.print(options.seed, seconds);
    true
}

fn tell(options: &Options, round: u64, failed: &Failed) {
    println!("FAILED: seed {}, round {round}", options.seed);
    failed.broken.iter().for_each(|what| println!("  {what}"));
    println!("the faults of that round:");
    let injected = failed.report.injected();
    injected.iter().for_each(|fault| println!("  {fault}"));
    println!("replay it: {}", options.replay(round));
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

    fn print(&self, seed: u64, seconds: f64) {
        println!("{:<22} {:<8} {:>9}", "point", "fault", "survived");
        for ((point, fault), count) in &self.faults {
            println!("{point:<22} {fault:<8} {count:>9}");
        }
        println!();
        for (what, count) in &self.counts {
            println!("{what:<31} {count:>9}");
        }
        println!();
        for fault in Fault::ALL {
            let of_kind = self.faults.iter().filter(|((_, kind), _)| *kind == fault);
            let total: u64 = of_kind.map(|(_, count)| count).sum();
            println!("{:<31} {total:>9}", format!("faults: {fault}"));
        }
        let (rounds, faults) = (self.rounds, self.faults.values().sum::<u64>());
        let pace = rounds as f64 / seconds;
        println!(
            "\n{rounds} rounds survived, seed {seed}: {faults} faults in {seconds:.1} s, {pace:.1} rounds/s"
        );
    }
}
