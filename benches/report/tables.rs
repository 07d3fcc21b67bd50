//! The tables of the page, each from the figures of one section.

use std::fmt::Write as _;

use super::figures::{Figures, Range, digits};

const ROWS: &str = include_str!("rows.txt");

/// Slower than the fastest rival by more than this is a row that is lost.
const LOST: f64 = 1.05;

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
            .map(|(_, range, _)| range.middle)
            .min_by(f64::total_cmp)?;
        Some(self.ours.middle / best)
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

fn bold(text: &str, lost: bool) -> String {
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

/// All rows that are lost, the worst first.
pub(crate) fn lost(figures: &Figures) -> Option<String> {
    let lost = rows().into_iter().filter_map(|row| {
        let ratio = row.measured(figures)?.ratio()?;
        (ratio > LOST).then_some((ratio, row))
    });
    let mut lost: Vec<_> = lost.collect();
    lost.sort_by(|a, b| b.0.total_cmp(&a.0));
    let items = lost.iter().map(|(ratio, row)| {
        let times = digits(*ratio);
        format!(
            "* {}: {}, {times} times the fastest rival\n",
            row.section, row.label
        )
    });
    let list: String = items.collect();
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
            .map(|range| range.middle);
        let Some(best) = best.min_by(f64::total_cmp) else {
            continue;
        };
        any = true;
        write!(table, "| {label} |").unwrap();
        for (_, who) in columns {
            let shown = figure(who).map_or_else(String::new, |range| {
                let beats = !ours.contains(who) && range.middle * LOST < best;
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
    ("unbounded, 1 producer", "channel/unbounded_1p"),
    ("unbounded, 4 producers", "channel/unbounded_4p"),
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

/// Cases of `growth`, as they are called on the page.
pub(crate) const GROWTH: [(&str, &str); 13] = [
    ("token children create", "children of one token: create one"),
    (
        "token children cancel",
        "children of one token: cancel all, each",
    ),
    ("token children drop", "children of one token: drop one"),
    ("token chain create", "chain of tokens: create one"),
    (
        "token chain cancel",
        "chain of tokens: cancel from the root, each",
    ),
    (
        "token chain drop",
        "chain of tokens: drop, roots first, each",
    ),
    ("ticker start", "tickers: start one"),
    ("ticker tick", "tickers: a tick of all, each"),
    ("task", "tasks through two workers, each"),
    ("backlog send", "unbounded channel: send one"),
    ("backlog recv", "unbounded channel: receive one"),
    ("thread start", "threads: start one"),
    ("thread end", "threads: cancel and join all, each"),
];

pub(crate) const MEMORY: [(&str, &str); 6] = [
    ("token children memory", "child of one token"),
    ("token chain memory", "token in a chain"),
    ("ticker memory", "ticker"),
    ("task memory", "task that waits"),
    ("backlog memory", "number that waits in a channel"),
    ("thread memory", "thread that waits (resident)"),
];

pub(crate) fn growth(figures: &Figures, cases: &[(&str, &str)]) -> Option<String> {
    let sizes = [1, 100, 10_000, 1_000_000];
    let mut table = String::from(
        "| each of so many | whose | 1 | 100 | 10,000 | 1,000,000 |\n|---|---|---|---|---|---|\n",
    );
    let mut any = false;
    for (case, label) in cases {
        for who in figures.contenders(case) {
            any = true;
            let unit = if case.ends_with("memory") { "B" } else { "ns" };
            let own = if who.starts_with("cleanbreak") {
                *label
            } else {
                ""
            };
            write!(table, "| {own} | {who} |").unwrap();
            for size in sizes {
                let of_size = |key: &&super::figures::Key| {
                    key.case == *case && key.who == who && key.n == size
                };
                let range = figures.keys().find(of_size).and_then(|key| figures.of(key));
                let shown = range.map_or_else(String::new, |range| range.show(unit));
                write!(table, " {shown} |").unwrap();
            }
            table.push('\n');
        }
    }
    any.then_some(table)
}

/// Cases that are measured in both languages, as they are called on the page.
pub(crate) const BESIDE: [(&str, &str); 17] = [
    ("look", "look whether it is cancelled"),
    ("child create cancel", "child: create, cancel"),
    ("cancel 100000 children", "cancel 100,000 children, each"),
    ("cancel to woken waiter", "cancel until the waiter runs"),
    ("tick of 1 ms in a select", "a tick of 1 ms in a select"),
    (
        "leave a grid by break",
        "leave two loops by a labelled break",
    ),
    ("leave a grid by panic", "leave two loops by unwinding"),
    ("channel of 0 from 1", "channel of 0, 1 producer, a value"),
    ("channel of 0 from 4", "channel of 0, 4 producers, a value"),
    ("channel of 1 from 1", "channel of 1, 1 producer, a value"),
    ("channel of 1 from 4", "channel of 1, 4 producers, a value"),
    (
        "channel of 1024 from 1",
        "channel of 1024, 1 producer, a value",
    ),
    (
        "channel of 1024 from 4",
        "channel of 1024, 4 producers, a value",
    ),
    ("group of 100 tasks", "group of 100 trivial tasks"),
    (
        "group of 100 tasks of which one fails",
        "group of 100 tasks, of which one fails",
    ),
    (
        "spawn and join 1000",
        "start 1,000 that wait, and join them",
    ),
    ("memory of one that waits", "memory of one that waits"),
];

pub(crate) fn beside(figures: &Figures) -> Option<String> {
    let mut table = String::from(
        "| case | cleanbreak | with warm threads | Go | ours / Go |\n|---|---|---|---|---|\n",
    );
    let mut any = false;
    for (case, label) in BESIDE {
        let Some((key, ours)) = figures.find(case, "cleanbreak") else {
            continue;
        };
        any = true;
        let unit = key.unit.as_str();
        let show = |who: &str| {
            let found = figures.find(case, who);
            found.map_or_else(String::new, |(_, range)| range.show(unit))
        };
        let go = figures
            .find(case, "go")
            .map(|(_, range)| ours.middle / range.middle);
        let lost = go.is_some_and(|ratio| ratio > LOST);
        let (label, ratio) = (bold(label, lost), go.map_or_else(String::new, digits));
        let (shown, warm, go) = (ours.show(unit), show("cleanbreak warm"), show("go"));
        writeln!(table, "| {label} | {shown} | {warm} | {go} | {ratio} |").unwrap();
    }
    any.then_some(table)
}

/// Ways to leave two loops, as they are called on the page.
pub(crate) const WAYS: [(&str, &str); 7] = [
    ("labelled_break", "labelled `break`"),
    ("control_flow", "`ControlFlow` and `?`"),
    ("error_return", "error return (an enum)"),
    ("anyhow_return", "error return (`anyhow::Error`)"),
    ("resume_unwind", "`resume_unwind` and `catch_unwind`"),
    ("panic_no_hook", "`panic!`, silent hook"),
    ("panic_formatting_hook", "`panic!`, hook that formats"),
];

pub(crate) fn breakout(figures: &Figures) -> Option<String> {
    let mut table =
        String::from("| way | one | bytes allocated | a million |\n|---|---|---|---|\n");
    let mut any = false;
    for (who, label) in WAYS {
        let Some((_, one)) = figures.find("breakout/grid", who) else {
            continue;
        };
        any = true;
        let bytes = figures.find("breakout/bytes", who);
        let bytes = bytes.map_or_else(String::new, |(_, range)| format!("{:.0}", range.middle));
        let million = figures.find("breakout/million", who);
        let million = million.map_or_else(String::new, |(_, range)| range.show("ns"));
        writeln!(
            table,
            "| {label} | {} | {bytes} | {million} |",
            one.show("ns")
        )
        .unwrap();
    }
    any.then_some(table)
}

/// What ten thousand tickers came to.
pub(crate) fn tickers(figures: &Figures) -> Option<String> {
    let (_, missed) = figures.find("ticker/10k_at_100ms", "missed")?;
    let (_, off) = figures.find("ticker/10k_at_100ms", "off grid")?;
    Some(format!(
        "10,000 tickers at 100 ms on one thread, 200,000 ticks in 2 s, time and again: {:.0} missed at the most, \
         and none was off the grid of its start by more than {}.\n",
        missed.most,
        off.show("ns"),
    ))
}

/// Under which circumstances the figures were found.
pub(crate) fn about(figures: &Figures) -> Option<String> {
    let told = |name: &str| figures.about.get(name).map(String::as_str);
    let date = told("date")?;
    let (commit, rustc) = (told("commit")?, told("rustc")?);
    let (cores, processor, system) = (told("cores")?, told("processor")?, told("system")?);
    let go = told("go").unwrap_or("not run");
    let runs = match told("runs")? {
        "1" => "one run".to_owned(),
        runs => format!("{runs} runs; where they differ by more than a twentieth, both ends"),
    };
    let later =
        told("later").map_or_else(String::new, |later| format!(" Measured again: {later}."));
    Some(format!(
        "Measured on {date} at commit {commit}: {cores} cores of {processor}, {system}, rustc {rustc}; \
         Go: {go}. Medians of {runs}.{later}\n"
    ))
}
