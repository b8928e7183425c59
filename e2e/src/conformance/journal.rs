//! What happened in one process of a suite so far: which cases run and since when, which ended and how, and, when the process is
//! gone, who ended it.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use super::events::{Event, Outcome};
use super::suite::Suite;

/// Lines that are kept of what a test printed: the last ones tell why it failed, the whole is in the log.
const KEPT_LINES: usize = 20;

/// Lines of a crash that are kept: the stack of the goroutine that panicked comes first.
const KEPT_OF_CRASH: usize = 60;

/// How lines begin that the suites copy from the logs of Serving's own parts: hundreds a second, and none tells what a test found.
const COPIED: &str = "stream.go:";

/// A test that ended by itself.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Ended {
    /// Its name.
    pub test: String,
    /// How.
    pub outcome: Outcome,
    /// How long it ran.
    pub took: Duration,
    /// What it printed last; empty unless it failed.
    pub printed: Vec<String>,
}

/// A case that has not ended.
#[derive(Clone, Debug, Default, PartialEq)]
struct Open {
    /// Begin of the present stretch; none while it is paused.
    running_since: Option<Duration>,
    /// Sum of the earlier stretches.
    ran: Duration,
}

/// How a process was lost, as far as its own words tell.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Crash {
    /// The first line: `panic: …`.
    pub message: String,
    /// The lines after it.
    pub stack: Vec<String>,
    /// The case whose failure was reported as part of the panic.
    reported: Option<String>,
}

/// The record of one process. Times are since it was started.
#[derive(Clone, Debug)]
pub(super) struct Journal {
    suite: Suite,
    /// Cases that began.
    cases: BTreeSet<String>,
    /// Those of them that have not ended.
    open: BTreeMap<String, Open>,
    /// All tests that ended, in that order.
    ended: Vec<Ended>,
    /// Last lines that no test printed: what is wrong with the flags, or the preparations.
    preamble: VecDeque<String>,
    /// Last lines of tests that may still fail.
    printed: BTreeMap<String, VecDeque<String>>,
    /// A case has left its pause: whatever begins below the container from now on is part of one.
    cases_are_known: bool,
    closed: bool,
    crash: Option<Crash>,
}

// === impl Journal ===

impl Journal {
    /// Of a process that was just started.
    pub(super) fn new(suite: Suite) -> Self {
        Self {
            suite,
            cases: BTreeSet::new(),
            open: BTreeMap::new(),
            ended: Vec::new(),
            preamble: VecDeque::new(),
            printed: BTreeMap::new(),
            cases_are_known: false,
            closed: false,
            crash: None,
        }
    }

    /// Takes note of what was said at `now`.
    pub(super) fn note(&mut self, event: Event, now: Duration) {
        if !matches!(event, Event::Crashed(_) | Event::Printed { .. }) {
            // The framework goes on: a test had printed something that looks like a crash.
            self.crash = None;
        }
        match event {
            Event::Began(test) => {
                if self.begins_case(&test) {
                    self.cases.insert(test.clone());
                    self.open.insert(test, Open { running_since: Some(now), ran: Duration::ZERO });
                }
            }
            Event::Paused(test) => {
                if let Some(open) = self.open.get_mut(&test) {
                    open.ran += open.running_since.take().map_or(Duration::ZERO, |since| now.saturating_sub(since));
                }
            }
            Event::Continued(test) => {
                if let Some(open) = self.open.get_mut(&test) {
                    open.running_since = Some(now);
                    self.cases_are_known = true;
                }
            }
            Event::Ended { test, outcome, took } => self.end(test, outcome, took),
            Event::Closed => self.closed = true,
            Event::Crashed(message) => {
                let reported = self.last_chain();
                self.crash = Some(Crash { message, stack: Vec::new(), reported });
            }
            Event::Printed { test, line } => self.print(test, line),
        }
    }

    /// Whether it ran to its end.
    pub(super) fn is_closed(&self) -> bool {
        self.closed
    }

    /// How it said that it crashed.
    pub(super) fn crash(&self) -> Option<&Crash> {
        self.crash.as_ref()
    }

    /// The tests that ended.
    pub(super) fn ended(&self) -> &[Ended] {
        &self.ended
    }

    /// Whether a test is a case, not a step of one.
    pub(super) fn is_case(&self, test: &str) -> bool {
        self.cases.contains(test)
    }

    /// Cases that run or pause.
    pub(super) fn unfinished(&self) -> impl Iterator<Item = &str> {
        self.open.keys().map(String::as_str)
    }

    /// Cases that run, and how long they have; the longest first.
    pub(super) fn running(&self, now: Duration) -> Vec<(&str, Duration)> {
        let ran = |open: &Open| Some(open.ran + now.saturating_sub(open.running_since?));
        let mut running: Vec<(&str, Duration)> =
            self.open.iter().filter_map(|(case, open)| Some((case.as_str(), ran(open)?))).collect();
        running.sort_by(|(a, a_ran), (b, b_ran)| b_ran.cmp(a_ran).then(a.cmp(b)));
        running
    }

    /// What a case that has not ended printed last.
    pub(super) fn printed(&self, case: &str) -> Vec<String> {
        let is_step = |test: &str| {
            let below = test.strip_prefix(case).is_some_and(|rest| rest.starts_with('/'));
            below && !self.is_case(test)
        };
        let own = self.printed.iter().filter(|(test, _)| *test == case || is_step(test));
        let mut lines: Vec<String> = own.flat_map(|(_, lines)| lines.iter().cloned()).collect();
        lines.drain(..lines.len().saturating_sub(KEPT_LINES));
        lines
    }

    /// What was printed last while no test ran, and by the Go runtime.
    pub(super) fn last_words(&self) -> Vec<String> {
        let crash = self.crash().into_iter().flat_map(|crash| std::iter::once(&crash.message).chain(&crash.stack));
        self.preamble.iter().chain(crash).cloned().collect()
    }

    /// The case that ended the process: the one whose failure the panic reported, else one that is named in the stack of the
    /// goroutine that panicked, else the only one that ran.
    pub(super) fn culprit(&self) -> Option<String> {
        if let Some(crash) = self.crash() {
            if let Some(reported) = &crash.reported {
                return Some(reported.clone());
            }
            let in_stack = |case: &&String| crash.stack.iter().any(|line| calls(line, case));
            if let Some(case) = self.open.keys().find(in_stack) {
                return Some(case.clone());
            }
        }
        let mut running = self.open.iter().filter(|(_, open)| open.running_since.is_some());
        match (running.next(), running.next()) {
            (Some((case, _)), None) => Some(case.clone()),
            _ => None,
        }
    }

    fn begins_case(&self, test: &str) -> bool {
        match self.suite.container() {
            None => !test.contains('/'),
            // All cases wait for each other before the first goes on; what begins later is a step of a case.
            Some(container) => {
                let below = test.strip_prefix(container).is_some_and(|rest| rest.starts_with('/'));
                below && !self.cases_are_known
            }
        }
    }

    fn end(&mut self, test: String, outcome: Outcome, took: Duration) {
        let mut printed = Vec::new();
        if outcome == Outcome::Fail {
            printed = self.printed(&test);
        }
        self.printed.remove(&test);
        self.open.remove(&test);
        self.ended.push(Ended { test, outcome, took, printed });
    }

    fn print(&mut self, test: Option<String>, line: String) {
        if let Some(crash) = &mut self.crash {
            if crash.stack.len() < KEPT_OF_CRASH {
                crash.stack.push(line);
            }
            return;
        }
        if line.trim_start().starts_with(COPIED) {
            return;
        }
        let kept = match test {
            Some(test) => self.printed.entry(test).or_default(),
            None => &mut self.preamble,
        };
        kept.push_back(line);
        if kept.len() > KEPT_LINES {
            kept.pop_front();
        }
    }

    /// A test that panics is reported as failed together with all tests around it, from the inside out, right before the panic: the
    /// case among them.
    fn last_chain(&self) -> Option<String> {
        let mut failed = self.ended.iter().rev();
        let outermost = failed.next().filter(|ended| ended.outcome == Outcome::Fail && !ended.test.contains('/'))?;
        let Some(container) = self.suite.container() else { return Some(outermost.test.clone()) };
        if outermost.test != container {
            return None;
        }
        // The next is the case itself, whatever slashes its name has: a container's cases are its direct subtests.
        let case = failed.next().filter(|ended| ended.outcome == Outcome::Fail)?;
        case.test.strip_prefix(container).is_some_and(|rest| rest.starts_with('/')).then(|| case.test.clone())
    }
}

/// Whether a line of a stack is a call of the test function `case`, or of a function within it: `example.com/pkg.TestX.func1(…)`,
/// `created by example.com/pkg.TestX in goroutine 7`.
fn calls(line: &str, case: &str) -> bool {
    let Some((_, after)) = line.split_once(&format!(".{case}")) else { return false };
    !after.starts_with(|next: char| next.is_alphanumeric() || next == '_')
}
