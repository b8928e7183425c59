//! What a Go test binary says while it runs with `-test.v=test2json`: the form that `go tool test2json` reads.
//!
//! In that form every line of the test framework begins with the byte 0x16, so that it is found even behind output that ended
//! without a newline, and the result of a subtest is told when it ends, not when its parent does. The source of the form is
//! Go's `cmd/internal/test2json` and `testing` (`-test.v=test2json` is stable since Go 1.20).

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Before every line of the framework.
const MARKER: char = '\u{16}';

/// How a test ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It found nothing wrong.
    Pass,
    /// It found something wrong, crashed, or did not end in time.
    Fail,
    /// It chose not to run.
    Skip,
}

/// One thing that was said. Tests are named as Go does: `TestX/subtest/subtest`.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Event {
    /// A test began.
    Began(String),
    /// A test waits until it may run beside others.
    Paused(String),
    /// A test that was paused goes on.
    Continued(String),
    /// A test ended.
    Ended {
        /// Its name.
        test: String,
        /// How it ended.
        outcome: Outcome,
        /// How long it ran, as measured by Go; exact to 10 ms.
        took: Duration,
    },
    /// All tests ended: the last thing that a binary says which was not cut off.
    Closed,
    /// The Go runtime ends the binary: a panic that nobody caught, or a fatal error. Tests may print such a line, too: it counts
    /// only when the binary did end without [`Event::Closed`].
    Crashed(String),
    /// A line that a test printed, with the test that is known to have been printing.
    Printed {
        /// The test; none before the first and between tests.
        test: Option<String>,
        /// The line, without its end.
        line: String,
    },
}

/// Reads the lines in order.
#[derive(Clone, Debug, Default)]
pub(super) struct Reader {
    /// The test that what follows is attributed to.
    current: Option<String>,
}

// === impl Reader ===

impl Reader {
    /// What a line (without its end) says: mostly one thing, more when a line of the framework follows output without a newline.
    pub(super) fn read(&mut self, line: &str) -> Vec<Event> {
        let mut pieces = line.split(MARKER);
        let printed = pieces.next().unwrap_or_default();
        let framework: Vec<&str> = pieces.collect();
        let mut events = Vec::with_capacity(1 + framework.len());
        if !printed.is_empty() || framework.is_empty() {
            events.push(self.unmarked(printed));
        }
        events.extend(framework.into_iter().filter_map(|piece| self.marked(piece)));
        events
    }

    fn unmarked(&self, line: &str) -> Event {
        if line.starts_with("panic: ") || line.starts_with("fatal error: ") {
            return Event::Crashed(line.to_owned());
        }
        Event::Printed { test: self.current.clone(), line: line.to_owned() }
    }

    fn marked(&mut self, line: &str) -> Option<Event> {
        if let Some(rest) = line.strip_prefix("=== ") {
            let (verb, test) = rest.split_once(' ')?;
            let test = test.trim();
            self.current = (!test.is_empty()).then(|| test.to_owned());
            return match verb {
                "RUN" => Some(Event::Began(test.to_owned())),
                "PAUSE" => Some(Event::Paused(test.to_owned())),
                "CONT" => Some(Event::Continued(test.to_owned())),
                // NAME only says whose output follows.
                _ => None,
            };
        }
        if let Some(rest) = line.strip_prefix("--- ") {
            let event = ended(rest);
            if let Some(Event::Ended { test, .. }) = &event {
                self.current = Some(test.clone());
            }
            return event;
        }
        if line == "PASS" || line == "FAIL" {
            self.current = None;
            return Some(Event::Closed);
        }
        (!line.is_empty()).then(|| self.unmarked(line))
    }
}

/// `PASS: TestX/sub (1.23s)`
fn ended(rest: &str) -> Option<Event> {
    let (word, rest) = rest.split_once(": ")?;
    let outcome = match word {
        "PASS" => Outcome::Pass,
        "FAIL" => Outcome::Fail,
        "SKIP" => Outcome::Skip,
        _ => return None,
    };
    let (test, seconds) = rest.strip_suffix("s)")?.rsplit_once(" (")?;
    let took = Duration::try_from_secs_f64(seconds.parse().ok()?).ok()?;
    Some(Event::Ended { test: test.to_owned(), outcome, took })
}
