//! The results of a run: one table for people, the same as JSON for the next run to compare with.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::events::Outcome;
use super::plan::TestResult;
use super::suite::Suite;

/// A run of a suite.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// Which suite.
    pub suite: Suite,
    /// The version of what the suite is part of, such as `v0.42.2`.
    pub version: String,
    /// The class of the ingress that was under test.
    pub ingress_class: String,
    /// When it began, in seconds since 1970.
    pub began_unix_s: u64,
    /// How long it took in all, in seconds.
    pub seconds: f64,
    /// Processes of the suite that it took: one, and one more for each that was lost.
    pub processes: usize,
    /// Tests by name: cases and their steps.
    pub tests: BTreeMap<String, TestResult>,
    /// Cases that were expected to fail for want of an ingress, and why.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub waiting: BTreeMap<String, String>,
}

/// What a row of the table says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// It passed.
    Pass,
    /// It was expected to fail, and passed.
    UnexpectedPass,
    /// It failed.
    Fail,
    /// It failed as expected, for want of an ingress, or was not run for that reason.
    Waiting,
    /// It chose not to run.
    Skip,
}

/// Why a report cannot be written or read.
#[derive(Debug, thiserror::Error)]
pub enum ReportError {
    /// A file.
    #[error("the file {path} of results cannot be {what}: {source}")]
    File {
        /// The file.
        path: String,
        /// Written or read.
        what: &'static str,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its content.
    #[error("{path} does not hold the results of a suite (results.json of an earlier run is expected): {source}")]
    Form {
        /// The file.
        path: String,
        /// What is wrong with it.
        source: serde_json::Error,
    },
}

// === impl Report ===

impl Report {
    /// What to make of a test's result.
    pub fn verdict(&self, test: &str) -> Option<Verdict> {
        let outcome = self.tests.get(test)?.outcome;
        let is_waiting = self.waiting_reason(test).is_some();
        Some(match (outcome, is_waiting) {
            (Outcome::Pass, true) if self.waiting.contains_key(test) => Verdict::UnexpectedPass,
            (Outcome::Pass, _) => Verdict::Pass,
            (Outcome::Fail | Outcome::Skip, true) => Verdict::Waiting,
            (Outcome::Fail, false) => Verdict::Fail,
            (Outcome::Skip, false) => Verdict::Skip,
        })
    }

    /// Names of the tests with this verdict.
    pub fn with(&self, verdict: Verdict) -> Vec<&str> {
        let tests = self.tests.keys().map(String::as_str);
        tests.filter(|test| self.verdict(test) == Some(verdict)).collect()
    }

    /// Why a test waits for an ingress: its own reason, or that of the case it is a step of.
    fn waiting_reason(&self, test: &str) -> Option<&str> {
        let of = |name: &str| self.waiting.get(name).map(String::as_str);
        of(test).or_else(|| test.match_indices('/').find_map(|(at, _)| of(&test[..at])))
    }

    /// The table: a row per test, then what it comes to.
    pub fn table(&self) -> String {
        let within = |test: &str| {
            let below = test.strip_prefix(self.suite.container()?)?;
            below.strip_prefix('/').map(str::to_owned)
        };
        let shown = |test: &str| within(test).unwrap_or_else(|| test.to_owned());
        let width = self.tests.keys().map(|test| shown(test).len()).max().unwrap_or(0).max("test".len());
        let mut table = format!("{:width$}  {:7}  {:>7}  {}\n", "test", "result", "seconds", "");
        for (test, result) in &self.tests {
            let verdict = self.verdict(test).expect("the test is among the results");
            let mut remarks: Vec<&str> = result.note.as_deref().into_iter().collect();
            match verdict {
                Verdict::Waiting => remarks.extend(self.waiting.get(test).map(String::as_str)),
                Verdict::UnexpectedPass => {
                    remarks.push("unexpected: take it off the list of those that wait for an ingress");
                }
                Verdict::Pass | Verdict::Fail | Verdict::Skip => {}
            }
            let row = format!(
                "{:width$}  {:7}  {:>7.1}  {}",
                shown(test),
                verdict.word(),
                result.seconds,
                remarks.join("; "),
            );
            let _ = writeln!(table, "{}", row.trim_end());
        }
        let _ = writeln!(table, "\n{}", self.summary());
        table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
    }

    /// One line.
    pub fn summary(&self) -> String {
        let count = |verdict| self.with(verdict).len();
        let passed = count(Verdict::Pass) + count(Verdict::UnexpectedPass);
        format!(
            "{} {} ({}): {passed} passed, {} failed, {} waiting for an ingress, {} skipped; {:.0} s, {} process{}",
            self.suite.name(),
            self.version,
            self.ingress_class,
            count(Verdict::Fail),
            count(Verdict::Waiting),
            count(Verdict::Skip),
            self.seconds,
            self.processes,
            if self.processes == 1 { "" } else { "es" },
        )
    }

    /// Reads what [`Self::write`] wrote.
    ///
    /// # Errors
    /// When there is no such file or something else is in it.
    pub fn read(path: &Path) -> Result<Self, ReportError> {
        let shown = path.display().to_string();
        let text =
            std::fs::read(path).map_err(|source| ReportError::File { path: shown.clone(), what: "read", source })?;
        serde_json::from_slice(&text).map_err(|source| ReportError::Form { path: shown, source })
    }

    /// Writes `results.json` and `results.txt` into a folder.
    ///
    /// # Errors
    /// When they cannot be written.
    pub fn write(&self, folder: &Path) -> Result<(), ReportError> {
        let mut json = serde_json::to_string_pretty(self).expect("a report has no keys but strings");
        json.push('\n');
        for (name, text) in [("results.json", json), ("results.txt", self.table())] {
            let path = folder.join(name);
            let file = |source| ReportError::File { path: path.display().to_string(), what: "written", source };
            std::fs::write(&path, text).map_err(file)?;
        }
        Ok(())
    }
}

// === impl Verdict ===

impl Verdict {
    /// As the table says it.
    pub fn word(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::UnexpectedPass => "pass!",
            Self::Fail => "FAIL",
            Self::Waiting => "waiting",
            Self::Skip => "skip",
        }
    }
}
