//! Axes: where a value lies and which values are labelled.

use crate::table;

/// How values spread along an axis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scale {
    /// Evenly.
    Linear,
    /// By their logarithm; values at or below 0 lie at the lower end.
    Log,
    /// Shares of samples: each further nine takes the same room, so that a tail can be read.
    Percentile,
}

/// What values mean.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Microseconds, shown in the unit that reads best.
    Time,
    /// Seconds.
    Seconds,
    /// Shares, shown as percent.
    Share,
    /// Numbers of things.
    Count,
}

impl Unit {
    /// A value as people read it.
    #[must_use]
    pub fn show(self, value: f64) -> String {
        match self {
            Self::Time => table::time(value).replace(".0 µs", " µs").replace(".00 ", " "),
            Self::Seconds => format!("{} s", trimmed(value)),
            Self::Share => format!("{} %", trimmed(value * 100.0)),
            Self::Count => trimmed(value),
        }
    }
}

fn trimmed(value: f64) -> String {
    let text = format!("{value:.3}");
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// One axis of a chart.
#[derive(Clone, Debug)]
pub struct Axis {
    /// What it shows.
    pub label: String,
    /// How values spread.
    pub scale: Scale,
    /// What they mean.
    pub unit: Unit,
}

impl Axis {
    /// An axis.
    #[must_use]
    pub fn new(label: impl Into<String>, scale: Scale, unit: Unit) -> Self {
        Self { label: label.into(), scale, unit }
    }

    /// Fits the axis to its values.
    pub(super) fn fit(&self, values: impl Iterator<Item = f64>) -> Range {
        let (mut low, mut high) = (f64::INFINITY, f64::NEG_INFINITY);
        for value in values.filter(|value| value.is_finite() && (self.scale != Scale::Log || *value > 0.0)) {
            low = low.min(value);
            high = high.max(value);
        }
        if low > high {
            (low, high) = (1.0, 10.0);
        }
        let (low, high) = match self.scale {
            Scale::Linear => (low.min(0.0), if high > low.min(0.0) { high } else { low + 1.0 }),
            Scale::Log => (
                10f64.powf(low.log10().floor()),
                10f64.powf((high.log10() + 1e-9).ceil().max(low.log10().floor() + 1.0)),
            ),
            Scale::Percentile => (0.0, high.clamp(0.9, 0.99999)),
        };
        Range { scale: self.scale, low, high }
    }
}

/// An axis with its ends.
#[derive(Clone, Copy, Debug)]
pub(super) struct Range {
    scale: Scale,
    low: f64,
    high: f64,
}

impl Range {
    /// Where a value lies, 0 to 1.
    pub(super) fn position(self, value: f64) -> f64 {
        let along = |value: f64| match self.scale {
            Scale::Linear => value,
            Scale::Log => value.max(self.low).log10(),
            Scale::Percentile => -(1.0 - value.min(0.999_999_9)).log10(),
        };
        let (low, high) = (along(self.low), along(self.high));
        ((along(value) - low) / (high - low)).clamp(0.0, 1.0)
    }

    /// The values to label.
    pub(super) fn ticks(self) -> Vec<f64> {
        match self.scale {
            Scale::Percentile => [0.0, 0.5, 0.9, 0.99, 0.999, 0.9999, 0.99999]
                .into_iter()
                .filter(|share| *share <= self.high + 1e-12)
                .collect(),
            Scale::Log => {
                let decades = (self.high / self.low).log10().round() as i32;
                let steps: &[f64] = if decades <= 2 { &[1.0, 2.0, 5.0] } else { &[1.0] };
                (0..=decades)
                    .flat_map(|decade| steps.iter().map(move |step| (decade, *step)))
                    .map(|(decade, step)| self.low * 10f64.powi(decade) * step)
                    .filter(|value| *value <= self.high * 1.000_001)
                    .collect()
            }
            Scale::Linear => {
                let raw = (self.high - self.low) / 6.0;
                let magnitude = 10f64.powf(raw.log10().floor());
                let step = [1.0, 2.0, 5.0, 10.0].map(|factor| factor * magnitude).into_iter().find(|step| *step >= raw);
                let step = step.unwrap_or(raw);
                let first = (self.low / step).ceil() as i64;
                let last = ((self.high / step) + 1e-9).floor() as i64;
                (first..=last).map(|index| index as f64 * step).collect()
            }
        }
    }
}
