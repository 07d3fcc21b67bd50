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
    let by_column = |section: &str, row: &(&str, &str), columns: &[Id], ours: &[&str]| {
        let least = |who: &str| figures.find(row.1, who).map(|(_, range)| range.least);
        let own = ours.iter().find_map(|who| least(who))?;
        let rivals = columns.iter().filter(|(title, _)| !title.contains("ours"));
        let rivals = rivals.filter(|(_, who)| !who.starts_with("cleanbreak"));
        let rivals = rivals.filter_map(|(title, who)| Some((*title, least(who)?)));
        let best = rivals.min_by(|a, b| a.1.total_cmp(&b.1))?;
        let label = format!("{section}{}", row.0);
        let (rival, ratio) = (best.0, own / best.1);
        Some(Contest {
            label,
            rival,
            ratio,
        })
    };
    let channels = CHANNELS.iter();
    let channels =
        channels.filter_map(|row| by_column("channel of ", row, &CHANNEL_PEERS, &["cleanbreak"]));
    let ours = ["cleanbreak_count", "cleanbreak"];
    let breakers = BREAKERS.iter();
    let breakers = breakers.filter_map(|row| by_column("breaker: ", row, &BREAKER_PEERS, &ours));
    listed.chain(channels).chain(breakers).collect()
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

/// A table with a column for each contender; what beats ours is in bold. `per_item` divides by the
/// number of items in one measurement.
fn matrix(
    figures: &Figures,
    rows: &[(&str, &str)],
    columns: &[(&str, &str)],
    ours: &[&str],
    per_item: bool,
) -> Option<String> {
    let mut table = String::from("| case |");
    columns
        .iter()
        .for_each(|(title, _)| write!(table, " {title} |").unwrap());
    writeln!(table, "\n|---|{}", "---|".repeat(columns.len())).unwrap();
    let mut any = false;
    for (label, case) in rows {
        let figure = |who: &str| {
            let (key, range) = figures.find(case, who)?;
            Some(if per_item {
                range.scaled(1.0 / key.n as f64)
            } else {
                range
            })
        };
        let best = ours
            .iter()
            .filter_map(|who| figure(who))
            .map(|range| range.least);
        let Some(best) = best.min_by(f64::total_cmp) else {
            continue;
        };
        any = true;
        write!(table, "| {label} |").unwrap();
        for (_, who) in columns {
            let shown = figure(who).map_or_else(String::new, |range| {
                let beats = !ours.contains(who) && range.least * LOST < best;
                bold(&range.show("ns"), beats)
            });
            write!(table, " {shown} |").unwrap();
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

const CHANNEL_PEERS: [(&str, &str); 4] = [
    ("cleanbreak", "cleanbreak"),
    ("crossbeam", "crossbeam"),
    ("flume", "flume"),
    ("kanal", "kanal"),
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

const BREAKER_PEERS: [(&str, &str); 5] = [
    ("ours, count", "cleanbreak_count"),
    ("ours, time", "cleanbreak_time"),
    ("recloser", "recloser"),
    ("failsafe, in a row", "failsafe_in_a_row"),
    ("failsafe, rate", "failsafe_rate"),
];

/// Every identifier of the tables by column.
pub(crate) fn matrix_ids() -> Vec<Id> {
    let of = |rows: &[(&'static str, &'static str)], columns: &[(&'static str, &'static str)]| {
        let pairs = rows
            .iter()
            .flat_map(|row| columns.iter().map(|column| (row.1, column.1)));
        pairs.collect::<Vec<_>>()
    };
    [of(&CHANNELS, &CHANNEL_PEERS), of(&BREAKERS, &BREAKER_PEERS)].concat()
}

pub(crate) fn channel(figures: &Figures) -> Option<String> {
    let table = matrix(figures, &CHANNELS, &CHANNEL_PEERS, &["cleanbreak"], true)?;
    let about = "Time for a value of 80,000, or of 4,000 where the capacity is 0 or 1; **bold** is faster than ours.";
    Some(format!("{about}\n\n{table}"))
}

pub(crate) fn breaker(figures: &Figures) -> Option<String> {
    // The row of rejections has a name of its own for ours.
    let ours = ["cleanbreak_count", "cleanbreak"];
    let closed = matrix(figures, &BREAKERS, &BREAKER_PEERS, &ours, false);
    let ours = figures.find("breaker/rejected_when_open", "cleanbreak");
    let Some((_, range)) = ours else {
        return closed;
    };
    closed.map(|table| {
        let row = "| rejected when open |  |";
        table.replace(
            row,
            &format!("| rejected when open | {} |", range.show("ns")),
        )
    })
}
