//! A chart as a file of its own: SVG by hand, with colours for dark and light. No scripts, no
//! fonts, nothing from elsewhere.

use std::fmt::{self, Write as _};

/// Colours by class: the first is for light backgrounds, the second for dark ones.
const COLOURS: [(&str, &str, &str); 9] = [
    ("good", "#2563a8", "#6fb1f5"),
    ("bad", "#c0392b", "#ff7b6b"),
    ("other", "#8a8f98", "#8b93a0"),
    ("warn", "#b7791f", "#f0b849"),
    ("closed", "#2e8b57", "#4fbf83"),
    ("ink", "#1b1f24", "#e6e9ee"),
    ("dim", "#5c6470", "#a0a8b4"),
    ("line", "#d5d9df", "#3a414b"),
    ("band", "#eef0f3", "#252a32"),
];

/// A chart that is being drawn.
pub(crate) struct Chart {
    width: f64,
    height: f64,
    body: String,
}

/// Where a text is anchored.
#[derive(Clone, Copy)]
#[allow(dead_code, reason = "each example uses a part of it")]
pub(crate) enum Anchor {
    Start,
    Middle,
    End,
}

impl Anchor {
    fn word(self) -> &'static str {
        match self {
            Self::Start => "start",
            Self::Middle => "middle",
            Self::End => "end",
        }
    }
}

#[allow(dead_code, reason = "each example uses a part of it")]
impl Chart {
    pub(crate) fn new(width: f64, height: f64) -> Self {
        let body = String::new();
        Self {
            width,
            height,
            body,
        }
    }

    fn add(&mut self, element: fmt::Arguments<'_>) {
        // Writing to a string does not fail.
        writeln!(self.body, "{element}").ok();
    }

    pub(crate) fn rect(&mut self, class: &str, (x, y): (f64, f64), (width, height): (f64, f64)) {
        self.add(format_args!(
            r#"<rect class="{class}" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"/>"#
        ));
    }

    pub(crate) fn line(&mut self, class: &str, (x, y): (f64, f64), (to_x, to_y): (f64, f64)) {
        self.add(format_args!(
            r#"<line class="{class}" x1="{x:.1}" y1="{y:.1}" x2="{to_x:.1}" y2="{to_y:.1}"/>"#
        ));
    }

    /// A line that says nothing but where something is.
    pub(crate) fn dashes(&mut self, class: &str, (x, y): (f64, f64), (to_x, to_y): (f64, f64)) {
        self.add(format_args!(
            r#"<line class="{class} dashed" x1="{x:.1}" y1="{y:.1}" x2="{to_x:.1}" y2="{to_y:.1}"/>"#
        ));
    }

    pub(crate) fn dot(&mut self, class: &str, (x, y): (f64, f64)) {
        self.add(format_args!(
            r#"<circle class="{class}" cx="{x:.1}" cy="{y:.1}" r="2.2"/>"#
        ));
    }

    pub(crate) fn path(&mut self, class: &str, points: impl IntoIterator<Item = (f64, f64)>) {
        let mut data = String::new();
        for (x, y) in points {
            let go = if data.is_empty() { 'M' } else { 'L' };
            write!(data, "{go}{x:.1} {y:.1}").ok();
        }
        self.add(format_args!(r#"<path class="{class} curve" d="{data}"/>"#));
    }

    pub(crate) fn text(&mut self, class: &str, (x, y): (f64, f64), at: Anchor, text: &str) {
        let text = text.replace('&', "&amp;").replace('<', "&lt;");
        let anchor = at.word();
        self.add(format_args!(
            r#"<text class="{class}" x="{x:.1}" y="{y:.1}" text-anchor="{anchor}">{text}</text>"#
        ));
    }

    /// A square of a colour, with what it means; returns where the next one may be.
    pub(crate) fn key(&mut self, class: &str, (x, y): (f64, f64), text: &str) -> f64 {
        self.rect(class, (x, y - 9.0), (10.0, 10.0));
        self.text("dim", (x + 15.0, y), Anchor::Start, text);
        x + 32.0 + 6.4 * text.chars().count() as f64
    }

    /// The file.
    pub(crate) fn finish(self, title: &str) -> String {
        let mut style = String::new();
        let mut dark = String::new();
        for (class, light, on_dark) in COLOURS {
            let rule = |out: &mut String, colour| {
                write!(out, ".{class}{{fill:{colour};stroke:{colour}}}").ok();
            };
            rule(&mut style, light);
            rule(&mut dark, on_dark);
        }
        let Self {
            width,
            height,
            body,
        } = self;
        format!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}" role="img">
<title>{title}</title>
<style>
svg{{font:12px system-ui,sans-serif}}
.on{{fill:#fff!important;font-weight:600}}
.page{{fill:#fff}}
{style}
@media (prefers-color-scheme:dark){{.page{{fill:#171a1f}}{dark}.on{{fill:#14171b!important}}}}
rect,text,circle{{stroke:none!important}}
line{{stroke-width:1}}
.dashed{{stroke-dasharray:4 4}}
.curve{{fill:none!important;stroke-width:1.8;stroke-linejoin:round}}
.head{{font-size:15px;font-weight:600}}
.strong{{font-weight:600}}
</style>
<rect class="page" width="{width}" height="{height}"/>
{body}</svg>
"##
        )
    }
}
