//! Curves over two axes.

use std::fmt::Write;

use super::scale::{Axis, Range};
use super::{COLOURS, escape, legend};

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 380.0;
const LEFT: f64 = 76.0;
const RIGHT: f64 = 24.0;
const TOP: f64 = 52.0;
const BOTTOM: f64 = 52.0;

/// How points are drawn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mark {
    /// Joined by straight lines.
    Line,
    /// Each value lasts until the next.
    Step,
    /// On their own.
    Dots,
}

/// Points of one name.
#[derive(Clone, Debug)]
pub struct Curve {
    /// Name in the legend.
    pub name: String,
    /// Points (x, y), by x where they are joined.
    pub points: Vec<(f64, f64)>,
    /// How they are drawn.
    pub mark: Mark,
}

/// Curves over two axes.
#[derive(Clone, Debug)]
pub struct Chart {
    /// Heading.
    pub title: String,
    /// What it shows and how to read it.
    pub caption: String,
    /// Horizontal axis.
    pub x: Axis,
    /// Vertical axis.
    pub y: Axis,
    /// Curves.
    pub curves: Vec<Curve>,
}

impl Chart {
    pub(super) fn svg(&self) -> String {
        let points = || self.curves.iter().flat_map(|curve| &curve.points);
        let x = self.x.fit(points().map(|point| point.0));
        let y = self.y.fit(points().map(|point| point.1));
        let names: Vec<&str> = self.curves.iter().map(|curve| curve.name.as_str()).collect();
        let mut svg =
            format!("<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" aria-label=\"{}\">", escape(&self.title));
        svg.push_str(&legend(&names, LEFT, WIDTH - LEFT - RIGHT));
        self.push_axes(&mut svg, x, y);
        for (index, curve) in self.curves.iter().enumerate() {
            let finite = curve.points.iter().filter(|point| point.0.is_finite() && point.1.is_finite());
            let places: Vec<(f64, f64)> = finite.map(|point| (across(x, point.0), up(y, point.1))).collect();
            push_curve(&mut svg, index % COLOURS, curve.mark, &places);
        }
        svg.push_str("</svg>");
        svg
    }

    fn push_axes(&self, svg: &mut String, x: Range, y: Range) {
        let (bottom, right) = (HEIGHT - BOTTOM, WIDTH - RIGHT);
        // Writing to a String cannot fail.
        for tick in y.ticks() {
            let at = up(y, tick);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{LEFT}\" x2=\"{right}\" y1=\"{at:.1}\" y2=\"{at:.1}\"/>\
                 <text class=\"tick\" text-anchor=\"end\" x=\"{}\" y=\"{:.1}\">{}</text>",
                LEFT - 8.0,
                at + 4.0,
                self.y.unit.show(tick)
            );
        }
        for tick in x.ticks() {
            let at = across(x, tick);
            let _ = write!(
                svg,
                "<line class=\"grid\" x1=\"{at:.1}\" x2=\"{at:.1}\" y1=\"{TOP}\" y2=\"{bottom}\"/>\
                 <text class=\"tick\" text-anchor=\"middle\" x=\"{at:.1}\" y=\"{}\">{}</text>",
                bottom + 18.0,
                self.x.unit.show(tick)
            );
        }
        let _ = write!(
            svg,
            "<text text-anchor=\"middle\" x=\"{:.1}\" y=\"{:.1}\">{}</text>\
             <text text-anchor=\"middle\" transform=\"translate(14 {:.1}) rotate(-90)\">{}</text>",
            f64::midpoint(LEFT, right),
            HEIGHT - 8.0,
            escape(&self.x.label),
            f64::midpoint(TOP, bottom),
            escape(&self.y.label)
        );
    }
}

fn push_curve(svg: &mut String, colour: usize, mark: Mark, places: &[(f64, f64)]) {
    if mark == Mark::Dots {
        for (x, y) in places {
            let _ = write!(svg, "<circle class=\"f{colour}\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"/>");
        }
        return;
    }
    let mut path = String::new();
    for (index, (x, y)) in places.iter().enumerate() {
        let _ = match (index, mark) {
            (0, _) => write!(path, "M{x:.1} {y:.1}"),
            (_, Mark::Step) => write!(path, "H{x:.1}V{y:.1}"),
            _ => write!(path, "L{x:.1} {y:.1}"),
        };
    }
    let _ = write!(svg, "<path class=\"s{colour}\" d=\"{path}\"/>");
}

fn across(range: Range, value: f64) -> f64 {
    LEFT + range.position(value) * (WIDTH - LEFT - RIGHT)
}

fn up(range: Range, value: f64) -> f64 {
    HEIGHT - BOTTOM - range.position(value) * (HEIGHT - BOTTOM - TOP)
}
