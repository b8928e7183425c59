//! Horizontal bars, of one piece or of several in a row.

use std::fmt::Write;

use super::scale::Unit;
use super::{COLOURS, escape, legend};

const WIDTH: f64 = 760.0;
const ROW: f64 = 28.0;
const THICKNESS: f64 = 18.0;
const TOP: f64 = 48.0;
const LABELS: f64 = 210.0;
const VALUES: f64 = 90.0;

/// A piece of a bar.
#[derive(Clone, Debug)]
pub struct Segment {
    /// Name in the legend; pieces of one name have one colour.
    pub name: String,
    /// Length.
    pub value: f64,
}

/// One bar.
#[derive(Clone, Debug)]
pub struct Bar {
    /// Its label.
    pub label: String,
    /// Its pieces, from the left.
    pub segments: Vec<Segment>,
}

/// Horizontal bars; the total of each stands at its end.
#[derive(Clone, Debug)]
pub struct Bars {
    /// Heading.
    pub title: String,
    /// What they show and how to read them.
    pub caption: String,
    /// What lengths mean.
    pub unit: Unit,
    /// Bars, from the top.
    pub bars: Vec<Bar>,
}

impl Bars {
    pub(super) fn svg(&self) -> String {
        let mut names: Vec<&str> = Vec::new();
        for segment in self.bars.iter().flat_map(|bar| &bar.segments) {
            if !names.contains(&segment.name.as_str()) {
                names.push(&segment.name);
            }
        }
        let longest = self.bars.iter().map(Bar::total).fold(0.0, f64::max);
        let scale = if longest > 0.0 { (WIDTH - LABELS - VALUES) / longest } else { 0.0 };
        let height = TOP + ROW * self.bars.len() as f64 + 8.0;
        let mut svg =
            format!("<svg viewBox=\"0 0 {WIDTH} {height}\" role=\"img\" aria-label=\"{}\">", escape(&self.title));
        svg.push_str(&legend(&names, LABELS, WIDTH - LABELS));
        for (index, bar) in self.bars.iter().enumerate() {
            let y = TOP + ROW * index as f64;
            let mut x = LABELS;
            // Writing to a String cannot fail.
            let _ = write!(
                svg,
                "<text text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>",
                LABELS - 10.0,
                y + 14.0,
                escape(&bar.label)
            );
            for segment in &bar.segments {
                let colour = names.iter().position(|name| *name == segment.name).unwrap_or(0) % COLOURS;
                let length = segment.value.max(0.0) * scale;
                let _ = write!(
                    svg,
                    "<rect class=\"f{colour}\" x=\"{x:.1}\" y=\"{y:.1}\" width=\"{length:.1}\" height=\"{THICKNESS}\">\
                     <title>{}: {}</title></rect>",
                    escape(&segment.name),
                    self.unit.show(segment.value)
                );
                x += length;
            }
            let _ =
                write!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", x + 8.0, y + 14.0, self.unit.show(bar.total()));
        }
        svg.push_str("</svg>");
        svg
    }
}

impl Bar {
    /// A bar of one piece.
    #[must_use]
    pub fn plain(label: impl Into<String>, name: impl Into<String>, value: f64) -> Self {
        Self { label: label.into(), segments: vec![Segment { name: name.into(), value }] }
    }

    fn total(&self) -> f64 {
        self.segments.iter().map(|segment| segment.value.max(0.0)).sum()
    }
}
