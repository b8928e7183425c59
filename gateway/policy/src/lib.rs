//! Request routing as pure decisions: score, pick, hold, admit, retry.
//!
//! Nothing here does I/O, reads a clock or draws its own randomness: `now`, the random source and every
//! observation are arguments. That is what lets the same code run behind hyper, in a simulation of ten thousand
//! models and under a property test.

pub mod deadline;
mod device;
mod duration;
mod ewma;
mod failed_runs;
mod header;
mod hold;
mod moment;
mod outlier;
mod pick;
pub mod retry;
mod score;
mod size_bucket;
mod slots;

pub use device::{Device, ParseDeviceError};
pub use duration::{DurationError, format_duration, parse_duration};
pub use ewma::ServiceTimes;
pub use failed_runs::FailedRuns;
pub use header::{REASON_HEADER, REVISION_HEADER};
pub use hold::{Hold, HoldLimits, Outcome, Refusal, Ticket};
pub use moment::Moment;
pub use outlier::{EjectionPolicy, Health, Verdict};
pub use pick::{Choice, Class, Pick, Reason, choose, pick};
pub use retry::RetryBudget;
pub use score::{Aim, Load, predict};
pub use size_bucket::SizeBucket;
pub use slots::{Replica, Slot, Slots};
