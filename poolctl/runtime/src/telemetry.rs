//! Logs on standard error.

use std::io::IsTerminal;

use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;

/// Sends logs to standard error: for people on a terminal, one JSON object a line elsewhere.
///
/// The level is `info`, or what `RUST_LOG` says. Standard output is left to [`crate::announce`]: scripts read it.
/// A second call in one process changes nothing.
pub fn init() {
    init_with_writer(std::io::stderr);
}

/// As [`init`], through `writer`: for a program that also draws on the terminal.
pub fn init_with_writer<W>(writer: W)
where
    W: for<'writer> MakeWriter<'writer> + Send + Sync + 'static,
{
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let for_people = std::io::stderr().is_terminal();
    // Without this a log that cannot be written is reported on standard error, which panics when that is a closed pipe:
    // the thread that notices the parent's death would die of it.
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer).log_internal_errors(false);
    let installed =
        if for_people { builder.compact().try_init() } else { builder.json().flatten_event(true).try_init() };
    if installed.is_err() {
        tracing::debug!("logging was set up before");
    }
}
