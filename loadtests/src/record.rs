//! Counting outcomes into histograms.

use std::collections::BTreeMap;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::http1::Failure;
use crate::outcome::Outcome;
use crate::report::{Latency, Series};
use crate::server_timing;

/// Significant decimal digits of a recorded time: an error of at most 0.1 %.
const DIGITS: u8 = 3;

/// Longest time that is told apart, 73 years in nanoseconds: far above any run, and within what the histogram can hold.
const LONGEST: u64 = u64::MAX >> 3;

/// A distribution of times, recorded in nanoseconds.
#[derive(Clone, Debug)]
pub struct Times(Histogram<u64>);

impl Default for Times {
    fn default() -> Self {
        Self(Histogram::new(DIGITS).expect("3 digits are within hdrhistogram's 0 to 5"))
    }
}

impl Times {
    /// Adds one.
    pub fn record(&mut self, time: Duration) {
        let nanoseconds = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX).min(LONGEST);
        self.0.record(nanoseconds).expect("the histogram grows to hold every value up to LONGEST");
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.0.add(&other.0).expect("a resizable histogram takes every value of another");
    }

    /// How many were recorded.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The time that a share `quantile` (0 to 1) of them does not exceed, in microseconds; 0 where there are none.
    #[must_use]
    pub fn quantile_us(&self, quantile: f64) -> f64 {
        // A bucket's upper edge can lie above the largest value that was recorded.
        tenths(self.0.value_at_quantile(quantile).min(self.0.max()) as f64 / 1000.0)
    }

    /// The figures that a report gives.
    #[must_use]
    pub fn summary(&self) -> Latency {
        Latency {
            p50: self.quantile_us(0.5),
            p90: self.quantile_us(0.9),
            p95: self.quantile_us(0.95),
            p99: self.quantile_us(0.99),
            p999: self.quantile_us(0.999),
            max: tenths(self.0.max() as f64 / 1000.0),
        }
    }

    /// Points of the percentile curve, as (share of samples, microseconds), denser towards the tail.
    #[must_use]
    pub fn curve(&self) -> Vec<(f64, f64)> {
        let mut points: Vec<(f64, f64)> = self
            .0
            .iter_quantiles(5)
            .map(|step| (step.quantile_iterated_to(), tenths(step.value_iterated_to() as f64 / 1000.0)))
            .collect();
        points.retain(|(share, _)| *share < 1.0);
        points
    }
}

fn tenths(value: f64) -> f64 {
    (value * 10.0).round() / 10.0
}

/// What was seen of one series of requests.
#[derive(Clone, Debug, Default)]
pub struct Recorder {
    /// Times of successes.
    pub latency: Times,
    /// Times of successes by phase, as the server says.
    pub phases: BTreeMap<String, Times>,
    /// Failures by status or by name.
    pub errors: BTreeMap<String, u64>,
}

impl Recorder {
    /// Counts a success.
    pub fn success(&mut self, latency: Duration) {
        self.latency.record(latency);
    }

    /// Counts a failure under a status or a name.
    pub fn error(&mut self, name: &str) {
        // Allocates for a name's first occurrence only.
        match self.errors.get_mut(name) {
            Some(count) => *count += 1,
            None => {
                self.errors.insert(name.to_owned(), 1);
            }
        }
    }

    /// Counts an outcome by its latency and the phases its answer tells of.
    pub fn outcome(&mut self, outcome: &Outcome) {
        self.outcome_as(outcome, outcome.latency());
    }

    /// Counts an outcome by its time to first byte.
    pub fn outcome_by_first_byte(&mut self, outcome: &Outcome) {
        self.outcome_as(outcome, outcome.time_to_first_byte());
    }

    fn outcome_as(&mut self, outcome: &Outcome, time: Duration) {
        match &outcome.result {
            Ok(answer) if answer.status == 200 => {
                self.success(time);
                for (phase, time) in answer.labels.server_timing.iter().flat_map(|header| server_timing::parse(header))
                {
                    self.phases.entry(phase.to_owned()).or_default().record(time);
                }
            }
            Ok(answer) => self.error(&answer.status.to_string()),
            Err(failure) => self.error(Failure::name(failure)),
        }
    }

    /// Adds all of `other`.
    pub fn merge(&mut self, other: &Self) {
        self.latency.merge(&other.latency);
        for (phase, times) in &other.phases {
            self.phases.entry(phase.clone()).or_default().merge(times);
        }
        for (name, count) in &other.errors {
            *self.errors.entry(name.clone()).or_default() += count;
        }
    }

    /// Requests that ended, successes and failures.
    #[must_use]
    pub fn ended(&self) -> u64 {
        self.latency.count() + self.errors.values().sum::<u64>()
    }

    /// The report's series: `elapsed` is the time over which the successes came.
    #[must_use]
    pub fn series(&self, name: &str, target: &str, elapsed: Duration) -> Series {
        let seconds = elapsed.as_secs_f64();
        Series {
            name: name.to_owned(),
            target: target.to_owned(),
            samples: self.ended(),
            errors: self.errors.clone(),
            throughput_per_s: if seconds > 0.0 { tenths(self.latency.count() as f64 / seconds) } else { 0.0 },
            latency_us: self.latency.summary(),
            phases_us: self.phases.iter().map(|(phase, times)| (phase.clone(), times.summary())).collect(),
            cpu_us_per_request: None,
            rss_bytes: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_what_was_recorded() {
        let mut times = Times::default();
        for milliseconds in 1..=1000 {
            times.record(Duration::from_millis(milliseconds));
        }
        let summary = times.summary();
        for (measured, expected) in [
            (summary.p50, 500e3),
            (summary.p90, 900e3),
            (summary.p99, 990e3),
            (summary.p999, 999e3),
            (summary.max, 1e6),
        ] {
            assert!((measured / expected - 1.0).abs() < 0.002, "{measured} is not {expected}");
        }
    }

    #[test]
    fn times_of_any_length_are_taken() {
        let mut times = Times::default();
        times.record(Duration::ZERO);
        times.record(Duration::MAX);
        assert_eq!(times.count(), 2);
    }

    #[test]
    fn nothing_recorded_is_zero_and_not_an_error() {
        assert_eq!(Times::default().summary(), Latency::default());
        assert_eq!(Recorder::default().series("a", "b", Duration::ZERO).throughput_per_s, 0.0);
    }

    #[test]
    fn failures_count_as_samples_but_not_as_throughput() {
        let mut recorder = Recorder::default();
        recorder.success(Duration::from_millis(1));
        recorder.error("503");
        recorder.error("503");
        let mut other = Recorder::default();
        other.error("timeout");
        recorder.merge(&other);
        let series = recorder.series("a", "b", Duration::from_secs(1));
        assert_eq!(series.samples, 4);
        assert_eq!(series.throughput_per_s, 1.0);
        assert_eq!(series.errors, BTreeMap::from([("503".to_owned(), 2), ("timeout".to_owned(), 1)]));
    }
}
