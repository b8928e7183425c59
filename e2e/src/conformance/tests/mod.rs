mod fixtures;
mod plan;
mod reading;
mod report;
mod runner;
mod suite;

use std::collections::BTreeSet;
use std::time::Duration;

use super::events::Reader;
use super::journal::Journal;
use super::suite::Suite;

/// Output of real Go test binaries (Go 1.26, `-test.v=test2json`): tests with the names of the suites that panic, exit and so on.
mod recorded {
    pub(super) const PANIC_IN_A_STEP: &str = include_str!("recorded/panic-in-a-step.log");
    pub(super) const PANIC_IN_A_GOROUTINE: &str = include_str!("recorded/panic-in-a-goroutine.log");
    pub(super) const PANIC_UNNAMED: &str = include_str!("recorded/panic-unnamed.log");
    pub(super) const EXIT: &str = include_str!("recorded/exit.log");
    pub(super) const PLAIN: &str = include_str!("recorded/plain.log");
}

/// What the journal of a process holds that printed this, a second per line.
fn journal(suite: Suite, output: &str) -> Journal {
    let mut reader = Reader::default();
    let mut journal = Journal::new(suite);
    for (line, at) in output.lines().zip(1..) {
        reader.read(line).into_iter().for_each(|event| journal.note(event, Duration::from_secs(at)));
    }
    journal
}

fn names(names: &[&str]) -> BTreeSet<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}
