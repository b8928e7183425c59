//! Models: from definitions to what the gateway routes and the autoscaler scales.
//!
//! [`inspect`] asks the model server, once for each source, for its digest and metadata, so that the catalogue answers
//! while nothing runs and a model that cannot load is known before anybody asks for it. [`revisions`] is the rest, and
//! pure.

mod catalog;
pub mod inspect;
pub mod revisions;

pub use catalog::{Catalog, Entry};
pub use inspect::{Inspection, Inspector};
pub use revisions::{Devices, Resolved, Variant};
