//! `docs/PERFORMANCE.md`: prose by hand, with regions that are filled from the figures.

use super::figures::Figures;
use super::{cases, tables};

const BEGIN: &str = "<!-- figures: ";
const END: &str = "<!-- end of figures -->";

/// Every region that the page has, in any order.
pub(crate) const REGIONS: [&str; 19] = [
    "about", "breakout", "token", "channel", "ticker", "group", "pool", "probe", "breaker",
    "policy", "limits", "io", "seeing", "growth", "memory", "beside", "tickers", "peers", "lost",
];

/// A table under its chart.
fn under(plot: &str, table: &str) -> String {
    let about = match plot {
        "growth" => "Time for each, by how many there are",
        "memory" => "Memory for each, by how many there are",
        "go" => "Ratios of Go's figures to ours",
        _ => "Ratios of the fastest rival's time to ours",
    };
    format!("![{about}](plots/{plot}.svg)\n\n{table}")
        .trim_end()
        .to_owned()
        + "\n"
}

fn content(region: &str, figures: &Figures) -> Option<String> {
    match region {
        "about" => cases::about(figures),
        "channel" => tables::channel(figures),
        "breaker" => tables::breaker(figures),
        "growth" => cases::growth(figures, &cases::GROWTH).map(|t| under("growth", &t)),
        "memory" => cases::growth(figures, &cases::MEMORY).map(|t| under("memory", &t)),
        "beside" => cases::beside(figures).map(|table| under("go", &table)),
        "peers" => tables::list("token", figures).map(|_| under("peers", "")),
        "breakout" => cases::breakout(figures),
        "lost" => tables::lost(figures),
        "tickers" => cases::tickers(figures),
        list => tables::list(list, figures),
    }
}

/// The page with its regions filled; one for which there are no figures is left as it is.
pub(crate) fn fill(page: &str, figures: &Figures) -> Result<String, String> {
    let mut filled = String::new();
    let mut left: Vec<_> = REGIONS.to_vec();
    let mut lines = page.lines();
    while let Some(line) = lines.next() {
        filled.push_str(line);
        filled.push('\n');
        let Some(name) = line.strip_prefix(BEGIN) else {
            continue;
        };
        let name = name.trim_end_matches(" -->");
        let at = left.iter().position(|region| *region == name);
        left.swap_remove(at.ok_or_else(|| format!("region {name:?} is unknown, or there twice"))?);
        let mut old = String::new();
        loop {
            let line = lines.next();
            match line.ok_or_else(|| format!("region {name:?} has no end"))? {
                END => break,
                line => old.extend([line, "\n"]),
            }
        }
        let new = content(name, figures).map(|table| format!("\n{table}\n"));
        filled.push_str(&new.unwrap_or(old));
        filled.push_str(END);
        filled.push('\n');
    }
    match left.as_slice() {
        [] => Ok(filled),
        missing => Err(format!("the page has no region {}", missing.join(", "))),
    }
}
