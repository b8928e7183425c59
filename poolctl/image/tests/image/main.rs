//! Images as other tools see them: read back by the OCI types, tar and gzip.

#![allow(clippy::unwrap_used, reason = "a failed assumption is a failed test")]

mod layout;

mod base;
mod written;
