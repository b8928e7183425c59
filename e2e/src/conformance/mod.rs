//! Knative's own test suites, run against the cluster, and their results as a table.
//!
//! The suites are Go test binaries of the pinned release, unmodified, with the images that they start. What they do not do by
//! themselves is done here: a test that panics or hangs costs its own result only, whatever a lost suite leaves in the cluster is
//! removed, and a run is compared with an earlier one.

mod canary;
mod command;
mod compare;
mod events;
mod fixtures;
mod images;
mod journal;
mod plan;
mod report;
mod rig;
mod runner;
mod suite;
mod tail;
mod waiting;

#[cfg(test)]
mod tests;

pub use command::{Arguments, Waiting, report, run};
pub use compare::Comparison;
pub use events::Outcome;
pub use plan::TestResult;
pub use report::{Report, ReportError, Verdict};
pub use suite::Suite;
