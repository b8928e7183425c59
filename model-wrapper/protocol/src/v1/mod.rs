//! V1 bodies: `instances` by row or `inputs` by column, answered with `predictions`.
//!
//! V1 names no types, so the model's metadata does. A request by row is answered by row, one by column by column.

mod decode;
mod encode;

pub use decode::{V1Layout, V1Request, decode};
pub use encode::{encode, extent};
