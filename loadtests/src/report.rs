//! The result of a scenario, as JSON. Field names are relied on by scripts: extend, do not rename.

use std::collections::BTreeMap;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Serialize, Serializer};

use crate::machine::Machine;

/// What one scenario measured.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Its name on the command line.
    pub scenario: String,
    /// Seed of all that was drawn; null where nothing was.
    pub seed: Option<u64>,
    /// When it started, UTC, as RFC 3339.
    pub started: String,
    /// Where it ran.
    pub machine: Machine,
    /// What was run, itself first.
    pub commands: Vec<String>,
    /// One for each thing that was measured.
    pub series: Vec<Series>,
    /// Figures without a unit, by name: shares, and one series against another of the same run.
    pub ratios: BTreeMap<String, f64>,
    /// Other figures, by a name that carries the unit.
    pub figures: BTreeMap<String, f64>,
    /// What was promised, and whether it held.
    pub verdicts: Vec<Verdict>,
}

/// One series of requests.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Series {
    /// Its name, unique in the report.
    pub name: String,
    /// What was asked.
    pub target: String,
    /// Requests that ended, successes and failures.
    pub samples: u64,
    /// Failures by status, or by `connect`, `broken`, `timeout`, `malformed` where there was none.
    pub errors: BTreeMap<String, u64>,
    /// Successes per second.
    pub throughput_per_s: f64,
    /// Of successes.
    pub latency_us: Latency,
    /// Of successes by phase, as `server-timing` tells them.
    pub phases_us: BTreeMap<String, Latency>,
    /// Processor time of the measured processes by request; null where it was not measured.
    pub cpu_us_per_request: Option<f64>,
    /// Their resident memory; null where it was not measured.
    pub rss_bytes: Option<u64>,
}

/// A distribution in microseconds; zeros where there is no sample, or no time was taken of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Latency {
    /// Median.
    pub p50: f64,
    /// 90 % are at most this.
    pub p90: f64,
    /// 95 % are at most this.
    pub p95: f64,
    /// 99 % are at most this.
    pub p99: f64,
    /// 99.9 % are at most this.
    pub p999: f64,
    /// The longest.
    pub max: f64,
}

/// What a verdict is on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// Correctness: it holds on every machine at any load.
    Promise,
    /// Speed or size: a busy or a small machine may miss it.
    Budget,
}

/// How it went with what was promised. JSON has `true` for the first and `false` for the others.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// What was seen keeps it.
    Held,
    /// What was seen does not keep it.
    Failed,
    /// It was measured, but not closely enough: the bound lies within the figure's confidence, and the next run may fall on
    /// either side of it.
    Undecided,
    /// Nothing was measured that could keep it or not.
    Unseen,
}

impl Standing {
    /// The same where there are samples: over none, zeros stand where the figures would, and they say nothing.
    #[must_use]
    pub const fn over(self, samples: u64) -> Self {
        if samples == 0 { Self::Unseen } else { self }
    }

    /// Of a figure that is to be at most `bound` and lies, with confidence, between `low` and `high`.
    #[must_use]
    pub fn at_most(bound: f64, (low, high): (f64, f64)) -> Self {
        if high <= bound {
            Self::Held
        } else if low > bound {
            Self::Failed
        } else {
            Self::Undecided
        }
    }

    /// Of a figure that is to be at least `bound` and lies, with confidence, between `low` and `high`.
    #[must_use]
    pub fn at_least(bound: f64, (low, high): (f64, f64)) -> Self {
        Self::at_most(-bound, (-high, -low))
    }

    /// Of two conditions that are both to hold.
    #[must_use]
    pub fn and(self, other: Self) -> Self {
        for worse in [Self::Unseen, Self::Failed, Self::Undecided] {
            if self == worse || other == worse {
                return worse;
            }
        }
        Self::Held
    }
}

/// A condition on what was measured.
impl From<bool> for Standing {
    fn from(holds: bool) -> Self {
        if holds { Self::Held } else { Self::Failed }
    }
}

impl Serialize for Standing {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bool(*self == Self::Held)
    }
}

/// Whether a promise held.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Verdict {
    /// Promise or budget.
    pub kind: Kind,
    /// What was promised.
    pub promise: String,
    /// Whether it held.
    #[serde(rename = "held")]
    pub standing: Standing,
    /// What was seen.
    pub seen: String,
}

impl Verdict {
    /// A verdict on correctness.
    #[must_use]
    pub fn promise(promise: impl Into<String>, standing: Standing, seen: impl Into<String>) -> Self {
        Self { kind: Kind::Promise, promise: promise.into(), standing, seen: seen.into() }
    }

    /// A verdict on speed or size.
    #[must_use]
    pub fn budget(promise: impl Into<String>, standing: Standing, seen: impl Into<String>) -> Self {
        Self { kind: Kind::Budget, promise: promise.into(), standing, seen: seen.into() }
    }

    /// The verdict in a word.
    #[must_use]
    pub const fn word(&self) -> &'static str {
        match (self.standing, self.kind) {
            (Standing::Held, _) => "held",
            (Standing::Unseen, _) => "unseen",
            (Standing::Undecided, _) => "undecided",
            (Standing::Failed, Kind::Promise) => "broken",
            (Standing::Failed, Kind::Budget) => "missed",
        }
    }

    /// Whether it was measured and held.
    #[must_use]
    pub fn is_held(&self) -> bool {
        self.standing == Standing::Held
    }
}

impl Report {
    /// An empty report of a scenario that starts now.
    #[must_use]
    pub fn begin(scenario: &str, seed: impl Into<Option<u64>>) -> Self {
        let itself: Vec<String> = std::env::args().collect();
        Self {
            scenario: scenario.to_owned(),
            seed: seed.into(),
            started: rfc3339(SystemTime::now()),
            machine: Machine::here(),
            commands: vec![itself.join(" ")],
            series: Vec::new(),
            ratios: BTreeMap::new(),
            figures: BTreeMap::new(),
            verdicts: Vec::new(),
        }
    }

    /// Adds what was run, once.
    pub fn command(&mut self, line: &str) {
        if !self.commands.iter().any(|known| known == line) {
            self.commands.push(line.to_owned());
        }
    }

    /// Adds a figure without a unit, rounded to what is meant.
    pub fn ratio(&mut self, name: impl Into<String>, value: f64) {
        self.ratios.insert(name.into(), thousandths(value));
    }

    /// Adds a figure whose name carries its unit.
    pub fn figure(&mut self, name: impl Into<String>, value: f64) {
        self.figures.insert(name.into(), thousandths(value));
    }

    /// The series of that name.
    #[must_use]
    pub fn find(&self, name: &str) -> Option<&Series> {
        self.series.iter().find(|series| series.name == name)
    }

    /// Whether every verdict of this kind was measured and held.
    #[must_use]
    pub fn holds(&self, kind: Kind) -> bool {
        self.verdicts.iter().all(|verdict| verdict.is_held() || verdict.kind != kind)
    }
}

/// JSON has no infinity or NaN: a division by zero is reported as 0, beside series that show why.
fn thousandths(value: f64) -> f64 {
    if value.is_finite() { (value * 1000.0).round() / 1000.0 } else { 0.0 }
}

/// UTC to the second: `2026-01-31T09:30:00Z`.
fn rfc3339(time: SystemTime) -> String {
    let seconds = time.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let (days, second_of_day) = (seconds / 86_400, seconds % 86_400);
    // Civil date from a day count, after Howard Hinnant, with years that begin in March so that leap days come last.
    let shifted = days + 719_468;
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z",
        second_of_day / 3600,
        second_of_day / 60 % 60,
        second_of_day % 60
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    #[test]
    fn a_bound_within_the_confidence_decides_nothing() {
        let standings = [(0.9, 1.0), (0.9, 1.1), (1.01, 1.1)].map(|interval| Standing::at_most(1.0, interval));
        assert_eq!(standings, [Standing::Held, Standing::Undecided, Standing::Failed]);
        let standings = [(0.97, 0.98), (0.96, 0.98), (0.95, 0.96)].map(|interval| Standing::at_least(0.97, interval));
        assert_eq!(standings, [Standing::Held, Standing::Undecided, Standing::Failed]);
    }

    #[test]
    fn two_conditions_stand_as_the_worse_of_them() {
        assert_eq!(Standing::Held.and(Standing::Held), Standing::Held);
        assert_eq!(Standing::Held.and(Standing::Undecided), Standing::Undecided);
        assert_eq!(Standing::Failed.and(Standing::Undecided), Standing::Failed);
        assert_eq!(Standing::Failed.and(Standing::Unseen), Standing::Unseen);
    }

    #[test]
    fn times_are_written_as_people_read_them() {
        let at = |seconds| rfc3339(UNIX_EPOCH + Duration::from_secs(seconds));
        assert_eq!(at(0), "1970-01-01T00:00:00Z");
        assert_eq!(at(951_782_400), "2000-02-29T00:00:00Z");
        assert_eq!(at(1_798_761_599), "2026-12-31T23:59:59Z");
    }

    #[test]
    fn zeros_over_no_samples_hold_nothing() {
        let mut report = Report::begin("idle", 1);
        let fast = Standing::from(0.0 <= 150.0);
        report.verdicts.push(Verdict::budget("fast", fast.over(1), "0 ms"));
        assert!(report.holds(Kind::Budget));
        report.verdicts.push(Verdict::budget("fast", fast.over(0), "0 ms"));
        assert_eq!(report.verdicts[1].word(), "unseen");
        assert!(!report.holds(Kind::Budget) && report.holds(Kind::Promise));
        let json = serde_json::to_value(&report.verdicts).unwrap();
        assert_eq!([&json[0]["held"], &json[1]["held"]], [true, false]);
    }

    #[test]
    fn the_json_has_the_documented_fields() {
        let mut report = Report::begin("herd", 1);
        report.started = "2026-01-31T09:30:00Z".to_owned();
        report.machine = Machine {
            cpus: 2,
            cpu_model: "a processor".to_owned(),
            memory_bytes: 1 << 30,
            kernel: "6.1.0".to_owned(),
            load_average: 0.5,
        };
        report.commands = vec!["loadtest herd".to_owned()];
        report.series.push(Series {
            name: "all".to_owned(),
            target: "http://127.0.0.1:1/v2/models/digits/infer".to_owned(),
            samples: 3,
            errors: BTreeMap::from([("504".to_owned(), 1)]),
            throughput_per_s: 2.0,
            latency_us: Latency { p50: 1.0, p90: 2.0, p95: 3.0, p99: 4.0, p999: 5.0, max: 6.0 },
            phases_us: BTreeMap::from([("infer".to_owned(), Latency::default())]),
            cpu_us_per_request: Some(1.5),
            rss_bytes: None,
        });
        report.ratio("answered", 2.0 / 3.0);
        report.ratio("by_zero", f64::INFINITY);
        report.figure("replica_seconds", 1.23456);
        report.verdicts.push(Verdict::promise("none is lost", Standing::Held, "3 of 3 answered"));
        insta::assert_json_snapshot!(report);
    }
}
