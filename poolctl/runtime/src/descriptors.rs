//! How many files and connections a process may have open.

use rustix::process::{Resource, getrlimit, setrlimit};

/// Lets the process have as many descriptors as the system allows: shells and container runtimes give 1024 to programs that do
/// not ask, since some cannot count further.
pub fn raise_limit() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(error) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%error, "the limit of open files cannot be raised");
    }
}
