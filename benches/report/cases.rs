//! The tables of what keeps its own time or has a form of its own, and under which circumstances all
//! was measured.

use std::fmt::Write as _;

use super::figures::{Figures, Key, digits};
use super::tables::{LOST, bold};

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
                let of_size = |key: &&Key| key.case == *case && key.who == who && key.n == size;
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
            .map(|(_, range)| ours.least / range.least);
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
    let (go, load) = (
        told("go").unwrap_or("not run"),
        told("load").unwrap_or("unknown"),
    );
    let runs = match told("runs")? {
        "1" => "one run".to_owned(),
        runs => format!(
            "{runs} runs; where they differ by more than a twentieth, both ends; ratios are of the better ones"
        ),
    };
    let later =
        told("later").map_or_else(String::new, |later| format!(" Measured again: {later}."));
    Some(format!(
        "Measured on {date} at commit {commit}: {cores} cores of {processor}, {system}, rustc {rustc}; \
         Go: {go}. Load of the minute before: {load}. Medians of {runs}.{later}\n"
    ))
}
