//! Rows of figures, for benches that keep their own time: printed, and with `--rows FILE` appended to
//! a file for the report. `--test` asks for the smallest run that still asserts every answer, `--quick`
//! for one that shows that figures come about; any other option is another bench's.

use std::fs::File;
use std::io::Write as _;
use std::time::Duration;

/// How much to measure.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effort {
    Test,
    Quick,
    Full,
}

pub(crate) struct Rows {
    part: &'static str,
    effort: Effort,
    file: Option<File>,
}

#[allow(dead_code, reason = "each bench uses a part of it")]
impl Rows {
    pub(crate) fn from_args(part: &'static str) -> Self {
        let args: Vec<_> = std::env::args().collect();
        let has = |option: &str| args.iter().any(|arg| arg == option);
        let effort = match () {
            () if has("--test") => Effort::Test,
            () if has("--quick") => Effort::Quick,
            () => Effort::Full,
        };
        let path = args.iter().position(|arg| arg == "--rows");
        let path = path.map(|at| args.get(at + 1).expect("--rows takes a file"));
        let file = path.map(|path| {
            let file = File::options().create(true).append(true).open(path);
            file.unwrap_or_else(|error| panic!("{path}: {error}"))
        });
        Self { part, effort, file }
    }

    pub(crate) fn effort(&self) -> Effort {
        self.effort
    }

    /// One of three, by effort.
    pub(crate) fn pick<T>(&self, test: T, quick: T, full: T) -> T {
        match self.effort {
            Effort::Test => test,
            Effort::Quick => quick,
            Effort::Full => full,
        }
    }

    /// One figure: what was measured, of whom, for how many, and in what.
    pub(crate) fn add(&mut self, case: &str, who: &str, n: u64, unit: &str, value: f64) {
        let part = self.part;
        let line = format!("{part},{case},{who},{n},{unit},{value:.3}");
        println!("{line}");
        if let Some(file) = &mut self.file {
            writeln!(file, "{line}").unwrap();
        }
    }

    /// Samples of some phases each, in nanoseconds, until the effort is made: the medians.
    pub(crate) fn medians<const PHASES: usize>(
        &self,
        mut sample: impl FnMut() -> [Duration; PHASES],
    ) -> [f64; PHASES] {
        let (least, most) = self.pick((1, 1), (2, 3), (5, 25));
        let enough = self.pick(Duration::ZERO, Duration::from_millis(20), BUDGET);
        let mut samples: Vec<[f64; PHASES]> = Vec::new();
        let mut spent = Duration::ZERO;
        while samples.len() < least || (spent < enough && samples.len() < most) {
            let phases = sample();
            spent += phases.iter().sum::<Duration>();
            samples.push(phases.map(|phase| phase.as_nanos() as f64));
        }
        std::array::from_fn(|phase| {
            let mut of_phase: Vec<_> = samples.iter().map(|sample| sample[phase]).collect();
            of_phase.sort_by(f64::total_cmp);
            of_phase[of_phase.len() / 2]
        })
    }
}

/// What is measured is measured for so long, and no less than five times.
const BUDGET: Duration = Duration::from_millis(400);

/// Resident memory of the process, in bytes. Zero where that is not known.
pub(crate) fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|line| line.starts_with("VmRSS"));
    let kilobytes = line.and_then(|line| line.split_whitespace().nth(1)?.parse::<u64>().ok());
    kilobytes.unwrap_or(0) * 1024
}
