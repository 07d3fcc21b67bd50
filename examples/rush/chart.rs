//! The picture: for each service, what became of the requests of each tenth of a second.

use std::time::Duration;

use super::app::{NAMES, SLICE};
use super::load::Request;
use super::service::{WORK, WORKERS};
use super::svg::{Anchor, Chart};
use super::tally::{Fate, Served, Tally};

const WIDTH: f64 = 960.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 940.0;
const FIRST: f64 = 96.0;
const TALL: f64 = 130.0;
const APART: f64 = 182.0;

/// From the bottom up.
const KINDS: [(Fate, &str, &str); 4] = [
    (Fate::InTime, "good", "answered in time"),
    (Fate::Late, "bad", "answered too late"),
    (Fate::Full, "warn", "refused: full"),
    (Fate::OverQuota, "other", "refused: over its share"),
];

pub(crate) fn draw(served: &[Vec<Served>; 3], part: Duration) -> String {
    let mut chart = Chart::new(WIDTH, FIRST + 3.0 * APART);
    let title = "Seventeen times the usual load, with and without shedding";
    chart.text("ink head", (LEFT, 28.0), Anchor::Start, title);
    let mut next = LEFT;
    for (_, class, text) in KINDS {
        next = chart.key(class, (next, 52.0), text);
    }
    let counts = served.each_ref().map(|served| count(served, part));
    let sums = counts
        .iter()
        .flatten()
        .map(|slice| slice.iter().sum::<u32>());
    let tallest = sums.max().unwrap_or(0).max(10);
    for (number, counts) in counts.iter().enumerate() {
        let top = FIRST + number as f64 * APART;
        panel(&mut chart, top, counts, tallest);
        let tally = Tally::of(&served[number], |request| request.in_rush);
        let regular = |request: &Request| request.in_rush && !request.is_greedy();
        let regular = Tally::of(&served[number], regular);
        let text = format!(
            "{}: of the rush {:.0}% in time, of its regular clients {:.0}%",
            NAMES[number],
            100.0 * tally.share(),
            100.0 * regular.share()
        );
        chart.text("ink strong", (LEFT, top - 8.0), Anchor::Start, &text);
        axis(&mut chart, top + TALL, part);
    }
    chart.finish(title)
}

/// For each slice of time in which they came: how many had which fate.
fn count(served: &[Served], part: Duration) -> Vec<[u32; 4]> {
    let slices = (2 * part).div_duration_f64(SLICE).ceil() as usize;
    let mut counts = vec![[0; 4]; slices];
    for one in served {
        let slice = one.request.at.div_duration_f64(SLICE) as usize;
        let kind = KINDS.iter().position(|(fate, ..)| *fate == one.fate);
        if let (Some(slice), Some(kind)) = (counts.get_mut(slice), kind) {
            slice[kind] += 1;
        }
    }
    counts
}

fn panel(chart: &mut Chart, top: f64, counts: &[[u32; 4]], tallest: u32) {
    let bottom = top + TALL;
    let scale = TALL / f64::from(tallest);
    let width = (RIGHT - LEFT) / counts.len() as f64;
    for (number, slice) in counts.iter().enumerate() {
        let left = LEFT + number as f64 * width;
        let mut y = bottom;
        for ((_, class, _), count) in KINDS.iter().zip(slice) {
            let tall = f64::from(*count) * scale;
            y -= tall;
            if *count > 0 {
                chart.rect(class, (left, y), ((width - 1.5).max(1.0), tall));
            }
        }
    }
    // What it can do in a slice.
    let most = WORKERS as f64 * SLICE.div_duration_f64(WORK);
    let y = bottom - most * scale;
    chart.dashes("ink", (LEFT, y), (RIGHT, y));
    let text = format!("capacity: {most:.0}");
    chart.text("dim", (RIGHT, y - 5.0), Anchor::End, &text);
    chart.line("dim", (LEFT, bottom), (RIGHT, bottom));
    for count in (0..=tallest).step_by(50) {
        let y = bottom - f64::from(count) * scale;
        chart.text(
            "dim",
            (LEFT - 8.0, y + 4.0),
            Anchor::End,
            &count.to_string(),
        );
    }
}

fn axis(chart: &mut Chart, bottom: f64, part: Duration) {
    let seconds = 2 * part.as_secs();
    let step = seconds.div_ceil(10);
    for second in (0..=seconds).step_by(step as usize) {
        let at = LEFT + (RIGHT - LEFT) * second as f64 / seconds as f64;
        chart.line("dim", (at, bottom), (at, bottom + 5.0));
        let anchor = if second == seconds {
            Anchor::End
        } else {
            Anchor::Middle
        };
        let text = if second == seconds {
            format!("{second} s")
        } else {
            second.to_string()
        };
        chart.text("dim", (at, bottom + 19.0), anchor, &text);
    }
    let middle = (LEFT + RIGHT) / 2.0;
    chart.text(
        "dim",
        (middle + 8.0, bottom - TALL + 12.0),
        Anchor::Start,
        "the rush is over",
    );
    chart.dashes("dim", (middle, bottom - TALL), (middle, bottom));
}
