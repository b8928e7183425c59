//! A run beside an earlier one: what got worse, what got better.

use std::fmt;

use super::report::{Report, Verdict};

/// The differences that matter, as names of tests.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Comparison {
    /// Fail now and did not before: they passed, were skipped, or were not there.
    pub newly_failing: Vec<String>,
    /// Pass now and failed before, or waited for an ingress.
    pub newly_passing: Vec<String>,
    /// Were there before and have no result now.
    pub gone: Vec<String>,
}

// === impl Comparison ===

impl Comparison {
    /// Of a run with an earlier one. A test that waits for an ingress fails as expected: that is no news, and neither is it when it
    /// still fails once there is one.
    pub fn of(now: &Report, before: &Report) -> Self {
        let failed_before = |test: &str| matches!(before.verdict(test), Some(Verdict::Fail | Verdict::Waiting));
        let names = |tests: Vec<&str>, keep: &dyn Fn(&str) -> bool| -> Vec<String> {
            tests.into_iter().filter(|test| keep(test)).map(str::to_owned).collect()
        };
        let mut passing = now.with(Verdict::Pass);
        passing.extend(now.with(Verdict::UnexpectedPass));
        passing.sort_unstable();
        Self {
            newly_failing: names(now.with(Verdict::Fail), &|test| !failed_before(test)),
            newly_passing: names(passing, &failed_before),
            gone: before.tests.keys().filter(|test| !now.tests.contains_key(*test)).cloned().collect(),
        }
    }
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lists = [
            ("newly failing", &self.newly_failing),
            ("newly passing", &self.newly_passing),
            ("no result any more", &self.gone),
        ];
        let mut same = true;
        for (what, tests) in lists.into_iter().filter(|(_, tests)| !tests.is_empty()) {
            same = false;
            writeln!(f, "{what}:")?;
            tests.iter().try_for_each(|test| writeln!(f, "  {test}"))?;
        }
        if same {
            writeln!(f, "nothing fails that did not fail before, and nothing passes that did not")?;
        }
        Ok(())
    }
}
