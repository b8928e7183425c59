//! What every binary of the project does the same way: logs, time, descriptors, shutdown, addresses given and announced,
//! metrics and health.

pub mod address;
pub mod admin;
pub mod announce;
mod clock;
pub mod descriptors;
pub mod lame_duck;
mod shutdown;
pub mod telemetry;

pub use clock::{Clock, since_1970};
pub use shutdown::Shutdown;
