//! What is known of all cases, and which the next process of the suite is to run.
//!
//! One process runs all cases, as the suite's authors do, unless it is lost on the way: a panic in one test ends the binary, and a
//! test that hangs can only be ended with it. Then the case that did it has failed, and a further process runs the cases that have
//! no result yet. Where it cannot be told which case ended the process, those that ran at that moment each get a process of their
//! own.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::events::Outcome;
use super::journal::Journal;
use super::suite::{Selection, Suite};

/// The result of one test.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TestResult {
    /// How it ended.
    pub outcome: Outcome,
    /// How long it ran, in seconds.
    pub seconds: f64,
    /// What the runner has to say: that it panicked, or was ended.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub note: Option<String>,
    /// The last lines that it printed, if it failed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub printed: Vec<String>,
}

/// How a process of the suite ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// By itself, after all its cases.
    Complete,
    /// The runner ended it, as a case was past this bound.
    Overdue(Duration),
    /// The runner ended it, as this time for the whole suite was over.
    OutOfTime(Duration),
    /// In some other way, with this status.
    Died(String),
}

/// There is no sense in a further process.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum Stuck {
    /// The flags are wrong, the cluster is out of reach, or the suite's own preparations failed.
    #[error("the suite ended ({status}) while no test ran; its last words:\n{}", said.join("\n"))]
    BeforeAnyTest {
        /// How the process ended.
        status: String,
        /// What it said.
        said: Vec<String>,
    },
}

/// The state of a whole run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    suite: Suite,
    wanted: Selection,
    results: BTreeMap<String, TestResult>,
    /// Cases with a result, and those that were not wanted: what is said of them further on is not their own result.
    settled: BTreeSet<String>,
    /// Cases of which one ended a process, nobody knows which.
    suspects: VecDeque<String>,
    /// A process went through all that was wanted.
    complete: bool,
    /// Cases that the binary lists, where it does.
    listed: BTreeSet<String>,
}

// === impl Plan ===

impl Plan {
    /// To run what is wanted. `listed` are the cases that are known beforehand: one that was never reached is told, too.
    pub(super) fn new(suite: Suite, wanted: Selection, listed: BTreeSet<String>) -> Self {
        let settled = match &wanted {
            Selection::AllBut { but, .. } => but.clone(),
            Selection::Only(_) => BTreeSet::new(),
        };
        Self { suite, wanted, results: BTreeMap::new(), settled, suspects: VecDeque::new(), complete: false, listed }
    }

    /// What the next process is to run; none when everything has a result.
    pub(super) fn next(&self) -> Option<Selection> {
        if let Some(suspect) = self.suspects.front() {
            return Some(Selection::Only(BTreeSet::from([suspect.clone()])));
        }
        if self.complete || (!self.listed.is_empty() && self.listed.is_subset(&self.settled)) {
            return None;
        }
        match &self.wanted {
            Selection::AllBut { pattern, .. } => {
                Some(Selection::AllBut { pattern: pattern.clone(), but: self.settled.clone() })
            }
            Selection::Only(only) => {
                let left: BTreeSet<String> = only.difference(&self.settled).cloned().collect();
                (!left.is_empty()).then_some(Selection::Only(left))
            }
        }
    }

    /// The results, by name of the test.
    #[cfg(test)]
    pub(super) fn results(&self) -> &BTreeMap<String, TestResult> {
        &self.results
    }

    /// The results, by name of the test.
    pub(super) fn into_results(self) -> BTreeMap<String, TestResult> {
        self.results
    }

    /// Takes note of the process that ran what [`Self::next`] said, and of its end at `now` (since it was started).
    ///
    /// # Errors
    /// When it told nothing that a further process would not tell again.
    pub(super) fn ended(&mut self, journal: &Journal, ending: &Ending, now: Duration) -> Result<(), Stuck> {
        let suspect = self.suspects.pop_front();
        let settled_before = self.settled.clone();
        self.record(journal);
        match ending {
            Ending::Complete => {
                self.fail_all(journal.unfinished(), journal, "it began, but the suite ended without a result of it");
                self.complete |= suspect.is_none();
            }
            Ending::Overdue(bound) => {
                for (case, ran) in journal.running(now) {
                    if ran >= *bound {
                        let note = format!("timed out after {:.0} s", ran.as_secs_f64());
                        self.settle(case, failed(ran, note, journal.printed(case)));
                    }
                }
            }
            Ending::OutOfTime(bound) => {
                let note = format!("not ended when the {} s for the suite were over", bound.as_secs());
                self.fail_all(journal.unfinished(), journal, &note);
                self.fail_all(suspect.iter().map(String::as_str), journal, &note);
                let suspects = std::mem::take(&mut self.suspects);
                self.fail_all(suspects.iter().map(String::as_str), journal, &note);
                let note = format!("not reached before the {} s for the suite were over", bound.as_secs());
                let listed = self.listed.clone();
                self.fail_all(listed.iter().map(String::as_str), journal, &note);
                self.complete = true;
            }
            Ending::Died(status) => {
                let death = Death { journal, status, now, settled_before: &settled_before };
                self.died(&death, suspect.as_deref())?;
            }
        }
        if let Some(suspect) = suspect {
            self.fail_all(std::iter::once(suspect.as_str()), journal, "it did not run when it was run alone");
        }
        Ok(())
    }

    /// Takes over the results of tests that ended by themselves.
    fn record(&mut self, journal: &Journal) {
        let mut ended = Vec::new();
        for test in journal.ended() {
            if self.settled.contains(&test.test) || Some(test.test.as_str()) == self.suite.container() {
                continue;
            }
            let result = TestResult {
                outcome: test.outcome,
                seconds: test.took.as_secs_f64(),
                note: None,
                printed: test.printed.clone(),
            };
            self.results.insert(test.test.clone(), result);
            if journal.is_case(&test.test) {
                ended.push(test.test.clone());
            }
        }
        self.settled.extend(ended);
    }

    fn died(&mut self, death: &Death<'_>, suspect: Option<&str>) -> Result<(), Stuck> {
        let &Death { journal, status, now, settled_before } = death;
        let how = match journal.crash() {
            Some(crash) => format!("ended the suite: {}", crash.message),
            None => format!("ended the suite ({status})"),
        };
        let open = |case: &String| !settled_before.contains(case);
        let culprit = journal.culprit().filter(open).or(suspect.map(str::to_owned));
        if let Some(culprit) = culprit {
            let running = journal.running(now);
            let ran = running.iter().find(|(case, _)| *case == culprit).map(|(_, ran)| *ran);
            let mut result = failed(ran.unwrap_or_default(), how, journal.printed(&culprit));
            if let Some(reported) = self.results.get(&culprit) {
                result.seconds = reported.seconds;
                result.printed.clone_from(&reported.printed);
            }
            result.printed.extend(journal.crash().into_iter().flat_map(|crash| crash.stack.iter().cloned()));
            self.settle(&culprit, result);
            return Ok(());
        }
        self.suspects = journal.running(now).into_iter().map(|(case, _)| case.to_owned()).filter(open).collect();
        if self.suspects.is_empty() {
            return Err(Stuck::BeforeAnyTest { status: status.to_owned(), said: journal.last_words() });
        }
        Ok(())
    }

    fn settle(&mut self, case: &str, result: TestResult) {
        self.results.insert(case.to_owned(), result);
        self.settled.insert(case.to_owned());
    }

    /// Those among `cases` that have no result have failed.
    fn fail_all<'a>(&mut self, cases: impl Iterator<Item = &'a str>, journal: &Journal, note: &str) {
        for case in cases {
            if !self.settled.contains(case) {
                self.settle(case, failed(Duration::ZERO, note.to_owned(), journal.printed(case)));
            }
        }
    }
}

/// A process that ended in some other way than planned.
struct Death<'a> {
    journal: &'a Journal,
    status: &'a str,
    now: Duration,
    /// The cases with a result when it was started: none of them was in it.
    settled_before: &'a BTreeSet<String>,
}

fn failed(ran: Duration, note: String, printed: Vec<String>) -> TestResult {
    TestResult { outcome: Outcome::Fail, seconds: ran.as_secs_f64(), note: Some(note), printed }
}
