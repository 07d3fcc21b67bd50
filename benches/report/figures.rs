//! Figures, as they are kept in `docs/figures.csv`: of every run, what was measured, of whom, and in
//! which unit.

use std::collections::BTreeMap;
use std::fmt::Write as _;

/// What was measured.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Key {
    pub(crate) part: String,
    pub(crate) case: String,
    pub(crate) who: String,
    /// Of how many.
    pub(crate) n: u64,
    pub(crate) unit: String,
}

/// All that is known, with the values of all runs of one measurement.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Figures {
    /// Machine, compiler and the like.
    pub(crate) about: BTreeMap<String, String>,
    values: BTreeMap<Key, Vec<f64>>,
}

const HEADER: &str = "part,case,who,n,unit,value of each run";

impl Figures {
    pub(crate) fn add(&mut self, key: Key, value: f64) {
        self.values.entry(key).or_default().push(value);
    }

    /// Forgets a part, which is about to be measured again.
    pub(crate) fn forget(&mut self, part: &str) {
        self.values.retain(|key, _| key.part != part);
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.values.keys()
    }

    pub(crate) fn of(&self, key: &Key) -> Option<Range> {
        self.values.get(key).map(|values| Range::new(values))
    }

    /// The one with this case and contender, whatever its part.
    pub(crate) fn find(&self, case: &str, who: &str) -> Option<(&Key, Range)> {
        let mut all = self.values.iter();
        let (key, values) = all.find(|(key, _)| key.case == case && key.who == who)?;
        Some((key, Range::new(values)))
    }

    /// Values by number, for one line of a chart.
    pub(crate) fn series(&self, case: &str, who: &str) -> Vec<(u64, f64)> {
        let of_it = |(key, values): (&Key, &Vec<f64>)| {
            (key.case == case && key.who == who).then(|| (key.n, Range::new(values).middle))
        };
        let mut series: Vec<_> = self.values.iter().filter_map(of_it).collect();
        series.sort_by_key(|(n, _)| *n);
        series
    }

    /// All who were measured in a case, ours first.
    pub(crate) fn contenders(&self, case: &str) -> Vec<&str> {
        let mut all: Vec<_> = self.keys().filter(|key| key.case == case).collect();
        all.sort_by_key(|key| (!key.who.starts_with("cleanbreak"), &key.who));
        let mut names: Vec<_> = all.into_iter().map(|key| key.who.as_str()).collect();
        names.dedup();
        names
    }

    /// Adds the rows that a bench printed; lines that are none are left out.
    pub(crate) fn read_rows(&mut self, rows: &str) {
        for line in rows.lines() {
            if let Some((key, values)) = parse(line) {
                self.values.entry(key).or_default().extend(values);
            }
        }
    }

    pub(crate) fn load(text: &str) -> Self {
        let mut figures = Self::default();
        for line in text.lines() {
            if let Some((name, value)) = line.strip_prefix("# ").and_then(|l| l.split_once(": ")) {
                figures.about.insert(name.to_owned(), value.to_owned());
            }
        }
        figures.read_rows(text);
        figures
    }

    pub(crate) fn save(&self) -> String {
        let mut text = String::new();
        for (name, value) in &self.about {
            writeln!(text, "# {name}: {value}").unwrap();
        }
        writeln!(text, "{HEADER}").unwrap();
        for (key, values) in &self.values {
            let Key {
                part,
                case,
                who,
                n,
                unit,
            } = key;
            write!(text, "{part},{case},{who},{n},{unit}").unwrap();
            for value in values {
                write!(text, ",{value:.3}").unwrap();
            }
            text.push('\n');
        }
        text
    }
}

fn parse(line: &str) -> Option<(Key, Vec<f64>)> {
    let mut fields = line.split(',');
    let mut field = || fields.next().map(str::to_owned);
    let (part, case, who) = (field()?, field()?, field()?);
    let (n, unit) = (field()?.parse().ok()?, field()?);
    let values: Option<Vec<f64>> = fields.map(|field| field.parse().ok()).collect();
    let values = values.filter(|values| !values.is_empty())?;
    let key = Key {
        part,
        case,
        who,
        n,
        unit,
    };
    Some((key, values))
}

/// What several runs came to.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Range {
    /// What ratios are made of: others that run only add to a time.
    pub(crate) least: f64,
    pub(crate) middle: f64,
    pub(crate) most: f64,
}

impl Range {
    fn new(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let (low, high) = ((sorted.len() - 1) / 2, sorted.len() / 2);
        Self {
            least: sorted[0],
            middle: f64::midpoint(sorted[low], sorted[high]),
            most: sorted[sorted.len() - 1],
        }
    }

    pub(crate) fn scaled(self, by: f64) -> Self {
        let Self {
            least,
            middle,
            most,
        } = self;
        let (least, middle, most) = (least * by, middle * by, most * by);
        Self {
            least,
            middle,
            most,
        }
    }

    /// In a unit that suits it; both ends, where the runs disagreed.
    pub(crate) fn show(self, unit: &str) -> String {
        let (divisor, unit) = suited(self.most, unit);
        let (least, most) = (self.least / divisor, self.most / divisor);
        let middle = self.middle / divisor;
        if most > least * 1.05 && digits(least) != digits(most) {
            return format!("{}–{} {unit}", digits(least), digits(most));
        }
        format!("{} {unit}", digits(middle))
    }
}

fn suited(value: f64, unit: &str) -> (f64, &'static str) {
    match unit {
        "B" if value >= 1e6 => (1e6, "MB"),
        "B" if value >= 1e4 => (1e3, "kB"),
        "B" => (1.0, "B"),
        _ if value >= 1e9 => (1e9, "s"),
        _ if value >= 1e6 => (1e6, "ms"),
        _ if value >= 1e3 => (1e3, "µs"),
        _ => (1.0, "ns"),
    }
}

/// Two significant digits, or all before the point.
pub(crate) fn digits(value: f64) -> String {
    match value {
        value if value < 0.1 => format!("{value:.3}"),
        value if value < 1.0 => format!("{value:.2}"),
        value if value < 10.0 => format!("{value:.1}"),
        value => format!("{value:.0}"),
    }
}
