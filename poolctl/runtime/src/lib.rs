//! What every binary of the project does the same way: logs, shutdown, announced addresses, metrics and health.

pub mod admin;
pub mod announce;
pub mod lame_duck;
mod shutdown;
pub mod telemetry;

pub use shutdown::Shutdown;
