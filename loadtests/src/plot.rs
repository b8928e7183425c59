//! Charts as inline SVG: no script, no font, no file beside the page.

mod bars;
mod chart;
mod scale;

pub use bars::{Bar, Bars, Segment};
pub use chart::{Chart, Curve, Mark};
pub use scale::{Axis, Scale, Unit};

/// A plot of a page.
#[derive(Clone, Debug)]
pub enum Plot {
    /// Curves over two axes.
    Chart(Chart),
    /// Horizontal bars.
    Bars(Bars),
}

impl Plot {
    /// Its heading.
    #[must_use]
    pub fn title(&self) -> &str {
        match self {
            Self::Chart(chart) => &chart.title,
            Self::Bars(bars) => &bars.title,
        }
    }

    /// What it shows and how to read it.
    #[must_use]
    pub fn caption(&self) -> &str {
        match self {
            Self::Chart(chart) => &chart.caption,
            Self::Bars(bars) => &bars.caption,
        }
    }

    /// The SVG element.
    #[must_use]
    pub fn svg(&self) -> String {
        match self {
            Self::Chart(chart) => chart.svg(),
            Self::Bars(bars) => bars.svg(),
        }
    }
}

/// Number of series colours that the page's style defines; further series repeat them.
pub(crate) const COLOURS: usize = 6;

/// Text as HTML and SVG take it.
#[must_use]
pub(crate) fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Names of series with their colours, along the top.
pub(crate) fn legend(names: &[&str], left: f64, width: f64) -> String {
    /// Advance of a character at the legend's font size.
    const CHARACTER: f64 = 7.2;
    let (mut x, mut y) = (left, 16.0);
    let mut svg = String::new();
    for (index, name) in names.iter().enumerate() {
        let length = 24.0 + CHARACTER * name.chars().count() as f64;
        if x + length > left + width && x > left {
            x = left;
            y += 16.0;
        }
        svg.push_str(&format!(
            "<rect class=\"f{}\" x=\"{x:.1}\" y=\"{:.1}\" width=\"12\" height=\"12\"/><text x=\"{:.1}\" y=\"{:.1}\">{}</text>",
            index % COLOURS,
            y - 10.0,
            x + 17.0,
            y,
            escape(name)
        ));
        x += length + 14.0;
    }
    svg
}

#[cfg(test)]
mod tests;
