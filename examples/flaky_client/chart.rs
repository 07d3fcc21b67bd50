//! The picture: states, calls and failures, latency, over one axis of time.

use cleanbreak::resilience::breaker::State;

use super::client::TIMEOUTS;
use super::record::{Answer, Record};
use super::script::{END, Mood, PHASES};
use super::svg::{Anchor, Chart};

const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 560.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 940.0;

/// Top and bottom of each part.
const STATES: (f64, f64) = (78.0, 100.0);
const CALLS: (f64, f64) = (138.0, 300.0);
const LATENCY: (f64, f64) = (346.0, 508.0);

/// Seconds of a bar.
const BIN: f64 = 0.5;
/// Milliseconds at the ends of the axis of latency, which is logarithmic.
const LEAST: f64 = 0.01;
const MOST: f64 = 3_000.0;

fn x(seconds: f64) -> f64 {
    LEFT + (RIGHT - LEFT) * (seconds / END).clamp(0.0, 1.0)
}

/// `ended` is when the record does, in seconds.
pub(crate) fn draw(record: &Record, ended: f64) -> String {
    let mut chart = Chart::new(WIDTH, HEIGHT);
    let title = "A client under a policy, and an upstream that fails";
    chart.text("ink head", (LEFT, 28.0), Anchor::Start, title);
    phases(&mut chart);
    states(&mut chart, record, ended);
    calls(&mut chart, record);
    latency(&mut chart, record);
    time(&mut chart);
    chart.finish(title)
}

fn phases(chart: &mut Chart) {
    for phase in &PHASES {
        let (from, to) = (x(phase.from), x(phase.to));
        if phase.mood != Mood::Well {
            for (top, bottom) in [CALLS, LATENCY] {
                chart.rect("band", (from, top), (to - from, bottom - top));
            }
        }
        for (top, bottom) in [CALLS, LATENCY] {
            chart.dashes("dim", (from, top), (from, bottom));
        }
        let middle = (from + to) / 2.0;
        let text = format!("upstream: {}", phase.name);
        chart.text("dim", (middle, STATES.0 - 12.0), Anchor::Middle, &text);
        chart.line("dim", (from, STATES.0 - 24.0), (from, STATES.0 - 8.0));
    }
}

fn states(chart: &mut Chart, record: &Record, ended: f64) {
    let changes = record.changes.lock();
    let ends = changes.iter().map(|change| change.at).chain([ended]);
    let begins = changes.iter().map(|change| (change.at, change.what.to));
    let begins = [(0.0, State::Closed)].into_iter().chain(begins);
    for ((from, state), to) in begins.zip(ends) {
        let class = match state {
            State::Closed => "closed",
            State::HalfOpen => "warn",
            _ => "bad",
        };
        let (from, to) = (x(from), x(to));
        // One that is short is seen all the same.
        chart.rect(
            class,
            (from, STATES.0),
            ((to - from).max(2.0), STATES.1 - STATES.0),
        );
        if to - from > 50.0 {
            let middle = ((from + to) / 2.0, STATES.0 + 15.0);
            chart.text("on", middle, Anchor::Middle, &state.to_string());
        }
    }
    chart.text("dim", (LEFT - 8.0, STATES.0 + 15.0), Anchor::End, "breaker");
    let next = chart.key("closed", (RIGHT - 300.0, 28.0), "CLOSED");
    let next = chart.key("bad", (next, 28.0), "OPEN");
    chart.key("warn", (next, 28.0), "HALF_OPEN (one probe)");
}

/// A number for each bar.
fn bins(times: impl Iterator<Item = f64>) -> Vec<u32> {
    let mut bins = vec![0; (END / BIN) as usize + 1];
    for seconds in times {
        let bin = (seconds / BIN) as usize;
        if let Some(count) = bins.get_mut(bin) {
            *count += 1;
        }
    }
    bins
}

fn calls(chart: &mut Chart, record: &Record) {
    let (calls, tries) = (record.calls.lock(), record.tries.lock());
    let of = |upstream: bool| {
        let these = calls
            .iter()
            .filter(move |call| (call.answer == Answer::FromUpstream) == upstream);
        bins(these.map(|call| call.began))
    };
    let (good, fallback) = (of(true), of(false));
    let failed = bins(tries.iter().filter(|it| it.failed).map(|it| it.ended));
    let tallest = good.iter().zip(&fallback).map(|(a, b)| a + b);
    let tallest = tallest
        .chain(failed.iter().copied())
        .max()
        .unwrap_or(0)
        .max(5);
    let scale = (CALLS.1 - CALLS.0) / f64::from(tallest);
    let width = x(BIN) - x(0.0) - 1.5;
    for (bin, (&good, &fallback)) in good.iter().zip(&fallback).enumerate() {
        let left = x(bin as f64 * BIN);
        let (good, fallback) = (f64::from(good) * scale, f64::from(fallback) * scale);
        chart.rect("good", (left, CALLS.1 - good), (width, good));
        chart.rect(
            "other",
            (left, CALLS.1 - good - fallback),
            (width, fallback),
        );
    }
    let points = failed.iter().enumerate().map(|(bin, &count)| {
        (
            x((bin as f64 + 0.5) * BIN),
            CALLS.1 - f64::from(count) * scale,
        )
    });
    chart.path("bad", points);
    chart.line("dim", (LEFT, CALLS.1), (RIGHT, CALLS.1));
    for step in (0..=tallest).step_by(5) {
        let y = CALLS.1 - f64::from(step) * scale;
        chart.text("dim", (LEFT - 8.0, y + 4.0), Anchor::End, &step.to_string());
    }
    let y = CALLS.0 - 10.0;
    chart.text(
        "ink strong",
        (LEFT, y),
        Anchor::Start,
        "calls in half a second",
    );
    let next = chart.key("good", (LEFT + 180.0, y), "answered by the upstream");
    let next = chart.key("other", (next, y), "by the fallback");
    chart.key("bad", (next, y), "attempts that failed");
}

fn latency(chart: &mut Chart, record: &Record) {
    let (top, bottom) = LATENCY;
    let y = |millis: f64| {
        let part = (millis.clamp(LEAST, MOST) / LEAST).ln() / (MOST / LEAST).ln();
        bottom - (bottom - top) * part
    };
    for (millis, text) in [
        (0.01, "0.01"),
        (0.1, "0.1"),
        (1.0, "1"),
        (10.0, "10"),
        (100.0, "100"),
        (1000.0, "1000"),
    ] {
        chart.line("line", (LEFT, y(millis)), (RIGHT, y(millis)));
        chart.text("dim", (LEFT - 8.0, y(millis) + 4.0), Anchor::End, text);
    }
    let mut sum = 0;
    for (number, timeout) in TIMEOUTS.iter().enumerate() {
        sum += timeout;
        let at = y(f64::from(sum));
        chart.dashes("warn", (LEFT, at), (RIGHT, at));
        if number == 0 || number + 1 == TIMEOUTS.len() {
            let below = if number == 0 { 13.0 } else { -4.0 };
            let text = if number == 0 {
                "800 ms: the first attempt"
            } else {
                "800 + 400 + 200 ms"
            };
            chart.text("warn", (LEFT + 4.0, at + below), Anchor::Start, text);
        }
    }
    for call in record.calls.lock().iter() {
        let class = match call.answer {
            Answer::FromUpstream => "good",
            Answer::Fallback(_) => "other",
        };
        chart.dot(class, (x(call.began), y(call.took)));
    }
    chart.line("dim", (LEFT, bottom), (RIGHT, bottom));
    let y = top - 10.0;
    chart.text(
        "ink strong",
        (LEFT, y),
        Anchor::Start,
        "time of a call, in ms",
    );
    let next = chart.key("good", (LEFT + 180.0, y), "answered by the upstream");
    chart.key("other", (next, y), "by the fallback");
}

fn time(chart: &mut Chart) {
    let bottom = LATENCY.1;
    for seconds in (0..=END as u32).step_by(5) {
        let at = x(f64::from(seconds));
        chart.line("dim", (at, bottom), (at, bottom + 5.0));
        chart.text(
            "dim",
            (at, bottom + 20.0),
            Anchor::Middle,
            &seconds.to_string(),
        );
    }
    let text = "seconds of the script";
    chart.text("dim", (RIGHT, bottom + 38.0), Anchor::End, text);
}
