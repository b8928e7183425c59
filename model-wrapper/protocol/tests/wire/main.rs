//! The wire formats from outside.

mod hostile;
mod messages;
mod round_trip;
mod support;
