//! The tables of the page, each from the figures of one section.

use std::fmt::Write as _;

use super::figures::{Figures, Range, digits};

const ROWS: &str = include_str!("rows.txt");

/// Slower than the fastest rival by more than this is a row that is lost.
pub(crate) const LOST: f64 = 1.05;

/// What a row is about and who takes part in it.
pub(crate) struct Row {
    pub(crate) section: &'static str,
    pub(crate) label: &'static str,
    ours: Id,
    peers: Vec<Peer>,
}

type Id = (&'static str, &'static str);

struct Peer {
    name: &'static str,
    /// Not something that one could take instead, but held against it.
    rival: bool,
    id: Id,
}

/// The rows of the sections that have rivals, or none, row by row.
pub(crate) fn rows() -> Vec<Row> {
    let mut section = "";
    let mut rows = Vec::new();
    for line in ROWS
        .lines()
        .filter(|line| !line.is_empty() && !line.starts_with('#'))
    {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']');
            continue;
        }
        let mut cells = line.split('|').map(str::trim);
        let label = cells.next().unwrap_or_default();
        let ours = id(cells.next().unwrap_or_default());
        let peers = cells.filter(|cell| !cell.is_empty()).map(peer).collect();
        rows.push(Row {
            section,
            label,
            ours,
            peers,
        });
    }
    rows
}

fn id(text: &'static str) -> Id {
    let split = text.split_once(' ');
    split.unwrap_or_else(|| panic!("rows.txt: {text:?} is not `group function`"))
}

fn peer(text: &'static str) -> Peer {
    let split = text.rsplit_once(": ");
    let (name, figure) = split.unwrap_or_else(|| panic!("rows.txt: {text:?} has no name"));
    let rival = !name.starts_with('(');
    let name = name.trim_start_matches('(').trim_end_matches(')');
    Peer {
        name,
        rival,
        id: id(figure),
    }
}

/// A row with its figures.
pub(crate) struct Measured {
    pub(crate) ours: Range,
    /// Name, figure, and whether it is a rival.
    pub(crate) peers: Vec<(&'static str, Range, bool)>,
}

impl Measured {
    /// Ours over the fastest rival.
    fn ratio(&self) -> Option<f64> {
        let rivals = self.peers.iter().filter(|(_, _, rival)| *rival);
        let best = rivals
            .map(|(_, range, _)| range.least)
            .min_by(f64::total_cmp)?;
        Some(self.ours.least / best)
    }
}

impl Row {
    /// All identifiers that it is made of.
    pub(crate) fn ids(&self) -> impl Iterator<Item = Id> {
        std::iter::once(self.ours).chain(self.peers.iter().map(|peer| peer.id))
    }

    pub(crate) fn measured(&self, figures: &Figures) -> Option<Measured> {
        let find = |id: Id| figures.find(id.0, id.1).map(|(_, range)| range);
        let ours = find(self.ours)?;
        let peers = self.peers.iter();
        let peers = peers.filter_map(|peer| Some((peer.name, find(peer.id)?, peer.rival)));
        Some(Measured {
            ours,
            peers: peers.collect(),
        })
    }
}

pub(crate) fn bold(text: &str, lost: bool) -> String {
    match lost {
        true => format!("**{text}**"),
        false => text.to_owned(),
    }
}

/// A table of rows: ours, the peers, and the ratio to the fastest rival.
pub(crate) fn list(section: &str, figures: &Figures) -> Option<String> {
    let mut table =
        String::from("| case | cleanbreak | beside | ours / fastest rival |\n|---|---|---|---|\n");
    let mut any = false;
    for row in rows().iter().filter(|row| row.section == section) {
        let Some(measured) = row.measured(figures) else {
            continue;
        };
        any = true;
        let ratio = measured.ratio();
        let lost = ratio.is_some_and(|ratio| ratio > LOST);
        let peers = measured
            .peers
            .iter()
            .map(|(name, range, _)| format!("{name}: {}", range.show("ns")));
        let peers = peers.collect::<Vec<_>>().join("; ");
        let (label, ours) = (bold(row.label, lost), measured.ours.show("ns"));
        let ratio = ratio.map_or_else(String::new, digits);
        writeln!(table, "| {label} | {ours} | {peers} | {ratio} |").unwrap();
    }
    any.then_some(table)
}

/// A row beside the fastest of its rivals.
pub(crate) struct Contest {
    pub(crate) label: String,
    pub(crate) rival: &'static str,
    /// Ours over the rival's.
    pub(crate) ratio: f64,
}

/// Every row that has a rival, of all tables.
pub(crate) fn contests(figures: &Figures) -> Vec<Contest> {
    let listed = rows().into_iter().filter_map(|row| {
        let measured = row.measured(figures)?;
        let rivals = measured.peers.iter().filter(|(_, _, rival)| *rival);
        let best = rivals.min_by(|a, b| a.1.least.total_cmp(&b.1.least))?;
        let label = format!("{}: {}", row.section, row.label);
        let (rival, ratio) = (best.0, measured.ours.least / best.1.least);
        Some(Contest {
            label,
            rival,
            ratio,
        })
    });
    let columned = by_column().flat_map(|(section, label, case, columns)| {
        let ours = columns.iter().filter(|column| is_ours(column));
        ours.filter_map(move |column| {
            let (_, own) = in_column(figures, case, column)?;
            let (rival, best) = fastest(figures, case, columns)?;
            let kind = column
                .0
                .strip_prefix("ours, ")
                .map(|kind| format!(" (by {kind})"));
            let label = format!("{section} {label}{}", kind.unwrap_or_default());
            let ratio = own.least / best;
            Some(Contest {
                label,
                rival,
                ratio,
            })
        })
    });
    listed.chain(columned).collect()
}

/// All rows that are lost, the worst first.
pub(crate) fn lost(figures: &Figures) -> Option<String> {
    let mut lost = contests(figures);
    lost.retain(|contest| contest.ratio > LOST);
    lost.sort_by(|a, b| b.ratio.total_cmp(&a.ratio));
    let mut list = String::new();
    for Contest {
        label,
        rival,
        ratio,
    } in &lost
    {
        writeln!(list, "* {label}: {} times {rival}", digits(*ratio)).unwrap();
    }
    (!list.is_empty()).then_some(list)
}

/// A title, and whose figures stand under it: the first of these that there is.
type Column = (&'static str, &'static [&'static str]);

fn is_ours(column: &Column) -> bool {
    column.1[0].starts_with("cleanbreak")
}

fn in_column(figures: &Figures, case: &str, column: &Column) -> Option<(u64, Range)> {
    let found = column.1.iter().find_map(|who| figures.find(case, who));
    found.map(|(key, range)| (key.n, range))
}

/// The fastest rival in a row of a table by column.
fn fastest(figures: &Figures, case: &str, columns: &[Column]) -> Option<(&'static str, f64)> {
    let rivals = columns.iter().filter(|column| !is_ours(column));
    let times = rivals.filter_map(|column| {
        let (_, range) = in_column(figures, case, column)?;
        Some((column.0, range.least))
    });
    times.min_by(|a, b| a.1.total_cmp(&b.1))
}

/// A table with a column for each contender; ours is in bold where it loses. `per_item` divides by
/// the number of items in one measurement.
fn matrix(
    figures: &Figures,
    rows: &[(&str, &str)],
    columns: &[Column],
    per_item: bool,
) -> Option<String> {
    let titles = columns.iter().map(|(title, _)| format!(" {title} |"));
    let mut table = format!("| case |{}\n|---|", titles.collect::<String>());
    table.push_str(&"---|".repeat(columns.len()));
    table.push('\n');
    let mut any = false;
    for (label, case) in rows {
        let best = fastest(figures, case, columns);
        write!(table, "| {label} |").unwrap();
        for column in columns {
            let shown = in_column(figures, case, column).map(|(n, range)| {
                any |= is_ours(column);
                let loses = best.is_some_and(|(_, best)| range.least > best * LOST);
                let items = if per_item { n as f64 } else { 1.0 };
                bold(
                    &range.scaled(1.0 / items).show("ns"),
                    is_ours(column) && loses,
                )
            });
            write!(table, " {} |", shown.unwrap_or_default()).unwrap();
        }
        table.push('\n');
    }
    any.then_some(table)
}

const CHANNELS: [(&str, &str); 8] = [
    ("0, 1 producer", "channel/bounded0_1p"),
    ("0, 4 producers", "channel/bounded0_4p"),
    ("1, 1 producer", "channel/bounded1_1p"),
    ("1, 4 producers", "channel/bounded1_4p"),
    ("1024, 1 producer", "channel/bounded1024_1p"),
    ("1024, 4 producers", "channel/bounded1024_4p"),
    ("any number, 1 producer", "channel/unbounded_1p"),
    ("any number, 4 producers", "channel/unbounded_4p"),
];

const CHANNEL_COLUMNS: [Column; 4] = [
    ("cleanbreak", &["cleanbreak"]),
    ("crossbeam", &["crossbeam"]),
    ("flume", &["flume"]),
    ("kanal", &["kanal"]),
];

const BREAKERS: [(&str, &str); 7] = [
    ("closed, 1 thread", "breaker/closed_1_threads"),
    ("closed, 2 threads", "breaker/closed_2_threads"),
    ("closed, 8 threads", "breaker/closed_8_threads"),
    (
        "1 in 10 fails, 1 thread",
        "breaker/closed_1_in_10_fails_1_threads",
    ),
    (
        "1 in 10 fails, 2 threads",
        "breaker/closed_1_in_10_fails_2_threads",
    ),
    (
        "1 in 10 fails, 8 threads",
        "breaker/closed_1_in_10_fails_8_threads",
    ),
    ("rejected when open", "breaker/rejected_when_open"),
];

const BREAKER_COLUMNS: [Column; 5] = [
    // A rejection is the same for all windows.
    ("ours, count", &["cleanbreak_count", "cleanbreak"]),
    ("ours, time", &["cleanbreak_time"]),
    ("recloser", &["recloser"]),
    ("failsafe, in a row", &["failsafe_in_a_row"]),
    ("failsafe, rate", &["failsafe_rate"]),
];

/// Every row of the tables by column: section, label, case, columns.
fn by_column() -> impl Iterator<Item = (&'static str, &'static str, &'static str, &'static [Column])>
{
    let channels = CHANNELS
        .iter()
        .map(|(label, case)| ("channel of", *label, *case, &CHANNEL_COLUMNS[..]));
    let breakers = BREAKERS
        .iter()
        .map(|(label, case)| ("breaker:", *label, *case, &BREAKER_COLUMNS[..]));
    channels.chain(breakers)
}

/// Every identifier of the tables by column. Not all contenders take part in every row.
pub(crate) fn column_ids() -> Vec<Id> {
    let of_row = |(_, _, case, columns): (_, _, &'static str, &'static [Column])| {
        columns.iter().map(move |column| (case, column.1[0]))
    };
    by_column().flat_map(of_row).collect()
}

pub(crate) fn channel(figures: &Figures) -> Option<String> {
    let table = matrix(figures, &CHANNELS, &CHANNEL_COLUMNS, true)?;
    let about = "Time for a value of 80,000, or of 4,000 where the capacity is 0 or 1; **bold** where another is faster.";
    Some(format!("{about}\n\n{table}"))
}

pub(crate) fn breaker(figures: &Figures) -> Option<String> {
    matrix(figures, &BREAKERS, &BREAKER_COLUMNS, false)
}
