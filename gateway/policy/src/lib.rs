//! Request routing as pure decisions: score, pick, hold, admit, retry.
//!
//! Nothing here does I/O, reads a clock or draws its own randomness: `now`, the random source and every
//! observation are arguments. That is what lets the same code run behind hyper, in a simulation of ten thousand
//! models and under a property test.

mod device;
mod moment;
mod size_bucket;

pub use device::{Device, ParseDeviceError};
pub use moment::Moment;
pub use size_bucket::SizeBucket;
