//! How many files and sockets this process and those it starts may open.

use anyhow::Context;
use rustix::process::{Resource, getrlimit, setrlimit};

/// Raises the limit of open files to what the system allows: a thousand callers are a thousand sockets, on both sides.
///
/// # Errors
/// The system refuses.
pub fn raise_limit() -> anyhow::Result<()> {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    setrlimit(Resource::Nofile, limit).context("raising the limit of open files")
}
