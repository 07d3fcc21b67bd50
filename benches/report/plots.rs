//! The charts of the page, as SVG files that are readable on light and on dark.

use super::figures::{Figures, digits};
use super::svg::{Anchor, Chart};
use super::{cases, tables};

type Draw = fn(&Figures) -> Option<String>;

/// Every chart: its file's name, and what draws it.
pub(crate) const PLOTS: [(&str, Draw); 4] = [
    ("growth.svg", growth),
    ("memory.svg", memory),
    ("peers.svg", peers),
    ("go.svg", go),
];

/// A colour for each contender, the same in all charts.
fn colour(who: &str) -> &'static str {
    match who {
        "cleanbreak" => "good",
        "tokio-util" | "crossbeam" | "crossbeam tick" | "threadpool" | "std scope" => "warn",
        "flume" | "rayon" => "closed",
        "kanal" | "rusty_pool" => "bad",
        _ => "other",
    }
}

const PANEL: (f64, f64) = (300.0, 170.0);
const GAP: (f64, f64) = (120.0, 72.0);
const MARGIN: (f64, f64) = (62.0, 92.0);

fn growth(figures: &Figures) -> Option<String> {
    let about = "nanoseconds for each of so many, from one to a million: a flat line is a cost that does not grow";
    panels(figures, &cases::GROWTH, "How the time grows", about, "ns")
}

fn memory(figures: &Figures) -> Option<String> {
    let about = "bytes for each of so many that are alive at once, without the caller's own handle";
    panels(figures, &cases::MEMORY, "How the memory grows", about, "B")
}

/// Small charts beside each other, both axes by powers of ten.
fn panels(
    figures: &Figures,
    cases: &[(&str, &str)],
    title: &str,
    about: &str,
    unit: &str,
) -> Option<String> {
    let known = |case: &&(&str, &str)| !figures.contenders(case.0).is_empty();
    let cases: Vec<_> = cases.iter().filter(known).collect();
    let rows = cases.len().div_ceil(2) as f64;
    let width = 2.0 * (PANEL.0 + GAP.0) + MARGIN.0;
    let height = MARGIN.1 + rows * (PANEL.1 + GAP.1) - 20.0;
    let mut chart = Chart::new(width, height);
    chart.text("ink head", (20.0, 28.0), Anchor::Start, title);
    chart.text("dim", (20.0, 48.0), Anchor::Start, about);
    for (nth, (case, label)) in cases.iter().enumerate() {
        let (column, row) = ((nth % 2) as f64, (nth / 2) as f64);
        let x = MARGIN.0 + column * (PANEL.0 + GAP.0);
        let y = MARGIN.1 + row * (PANEL.1 + GAP.1);
        panel(&mut chart, figures, (x, y), case, label, unit);
    }
    (!cases.is_empty()).then(|| chart.finish(title))
}

/// Powers of ten around the values.
fn decades(values: impl Iterator<Item = f64>) -> (i32, i32) {
    let logs = values.filter(|value| *value > 0.0).map(f64::log10);
    let (least, most) = logs.fold((f64::MAX, f64::MIN), |(a, b), log| (a.min(log), b.max(log)));
    match least <= most {
        true => (
            least.floor() as i32,
            (most.ceil() as i32).max(least.floor() as i32 + 1),
        ),
        false => (0, 1),
    }
}

fn panel(
    chart: &mut Chart,
    figures: &Figures,
    (left, top): (f64, f64),
    case: &str,
    label: &str,
    unit: &str,
) {
    let all: Vec<_> = figures
        .contenders(case)
        .into_iter()
        .map(str::to_owned)
        .collect();
    let series = all.iter().map(|who| (who, figures.series(case, who)));
    let series: Vec<_> = series.collect();
    let points = || series.iter().flat_map(|(_, points)| points.iter());
    let (low, high) = decades(points().map(|(_, value)| *value));
    let (_, wide) = decades(points().map(|(n, _)| *n as f64));
    let x = |n: f64| left + n.log10() / f64::from(wide) * PANEL.0;
    let y = |value: f64| {
        let share = (value.max(1e-3).log10() - f64::from(low)) / f64::from(high - low);
        top + PANEL.1 - share.clamp(0.0, 1.0) * PANEL.1
    };
    chart.text("ink strong", (left, top - 12.0), Anchor::Start, label);
    for decade in low..=high {
        let at = y(10_f64.powi(decade));
        chart.line("line", (left, at), (left + PANEL.0, at));
        let shown = power(decade, unit);
        chart.text("dim", (left - 8.0, at + 4.0), Anchor::End, &shown);
    }
    for decade in 0..=wide {
        let at = x(10_f64.powi(decade));
        chart.line("line", (at, top), (at, top + PANEL.1));
        let shown = count(decade);
        chart.text("dim", (at, top + PANEL.1 + 18.0), Anchor::Middle, &shown);
    }
    let mut labels = Vec::new();
    for (who, points) in &series {
        let points: Vec<_> = points
            .iter()
            .map(|(n, value)| (x(*n as f64), y(*value)))
            .collect();
        points
            .iter()
            .for_each(|point| chart.dot(colour(who), *point));
        labels.extend(points.last().map(|point| (point.1, *who)));
        chart.path(colour(who), points);
    }
    // Names at the ends of the lines, apart from each other.
    labels.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut free = top - 10.0;
    for (at, who) in labels {
        let at = at.max(free + 13.0);
        free = at;
        let place = (left + PANEL.0 + 8.0, at + 4.0);
        chart.text(colour(who), place, Anchor::Start, who);
    }
}

fn power(decade: i32, unit: &str) -> String {
    let value = 10_f64.powi(decade);
    let scaled = match (unit, decade) {
        ("B", 6..) => (value / 1e6, "MB"),
        ("B", 3..) => (value / 1e3, "kB"),
        ("B", _) => (value, "B"),
        (_, 9..) => (value / 1e9, "s"),
        (_, 6..) => (value / 1e6, "ms"),
        (_, 3..) => (value / 1e3, "µs"),
        _ => (value, "ns"),
    };
    format!("{} {}", scaled.0, scaled.1)
}

fn count(decade: i32) -> String {
    match decade {
        0 => "1".into(),
        1 => "10".into(),
        2 => "100".into(),
        3..=5 => format!("{}k", 10_u32.pow(decade as u32 - 3)),
        _ => format!("{}M", 10_u32.pow((decade - 6).clamp(0, 9) as u32)),
    }
}

/// One line of a chart of ratios.
struct Bar {
    label: String,
    /// The rival's time over ours: more than one where we are faster.
    ratio: f64,
    rival: String,
}

fn peers(figures: &Figures) -> Option<String> {
    let bar = |contest: tables::Contest| Bar {
        label: contest.label,
        ratio: 1.0 / contest.ratio,
        rival: contest
            .rival
            .split(", which")
            .next()
            .unwrap_or_default()
            .to_owned(),
    };
    let bars: Vec<_> = tables::contests(figures).into_iter().map(bar).collect();
    let about =
        "time of the fastest rival over ours; to the right we are faster, to the left it is";
    ratios("Beside the fastest rival", about, &bars)
}

fn go(figures: &Figures) -> Option<String> {
    let bar = |(case, label): &(&str, &str)| {
        let (_, ours) = figures.find(case, "cleanbreak")?;
        let (_, go) = figures.find(case, "go")?;
        let (label, rival) = ((*label).to_owned(), String::new());
        Some(Bar {
            label,
            ratio: go.least / ours.least,
            rival,
        })
    };
    let bars: Vec<_> = cases::BESIDE.iter().filter_map(bar).collect();
    let about = "Go's figure over ours; to the right we take less, to the left Go does";
    ratios("Beside Go", about, &bars)
}

const LINE: f64 = 19.0;
const LABELS: f64 = 345.0;
const BARS: f64 = 330.0;
const NAMES: f64 = 240.0;

fn ratios(title: &str, about: &str, bars: &[Bar]) -> Option<String> {
    let logs = bars.iter().map(|bar| bar.ratio.log10().abs());
    let most = logs.fold(1.0, f64::max).ceil();
    let top = 84.0;
    let height = top + bars.len() as f64 * LINE + 34.0;
    let mut chart = Chart::new(LABELS + BARS + NAMES, height);
    chart.text("ink head", (20.0, 28.0), Anchor::Start, title);
    chart.text("dim", (20.0, 48.0), Anchor::Start, about);
    let x = |ratio: f64| LABELS + (ratio.log10() / most).clamp(-1.0, 1.0) * BARS / 2.0 + BARS / 2.0;
    let bottom = height - 30.0;
    for decade in -(most as i32)..=most as i32 {
        let at = x(10_f64.powi(decade));
        let class = if decade == 0 { "dim" } else { "line" };
        chart.line(class, (at, top - 8.0), (at, bottom));
        let shown = format!("{}", 10_f64.powi(decade));
        chart.text("dim", (at, top - 14.0), Anchor::Middle, &shown);
    }
    for (nth, bar) in bars.iter().enumerate() {
        let y = top + nth as f64 * LINE;
        let (from, to) = (x(1.0).min(x(bar.ratio)), x(1.0).max(x(bar.ratio)));
        let class = if bar.ratio >= 1.0 { "good" } else { "bad" };
        chart.rect(class, (from, y), (to - from, LINE - 6.0));
        let label = shortened(&bar.label.replace('`', ""), 50);
        chart.text("ink", (LABELS - 10.0, y + 11.0), Anchor::End, &label);
        let rival = shortened(&bar.rival.replace('`', ""), 28);
        let beside = format!("{} {rival}", digits(bar.ratio));
        chart.text(
            "dim",
            (LABELS + BARS + 10.0, y + 11.0),
            Anchor::Start,
            beside.trim(),
        );
    }
    (!bars.is_empty()).then(|| chart.finish(title))
}

fn shortened(text: &str, most: usize) -> String {
    match text.chars().count() > most {
        true => format!("{}…", text.chars().take(most - 1).collect::<String>()),
        false => text.to_owned(),
    }
}
