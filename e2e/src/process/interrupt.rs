//! Ctrl-C and SIGTERM as errors: what was begun is dropped, and cleans up after itself.

use anyhow::{Context as _, bail};
use tokio::signal::unix::{SignalKind, signal};

/// Does `work`, which is dropped when this program is interrupted or terminated. From then on the program does not end by these
/// signals alone.
///
/// # Errors
/// Those of `work`, and when a signal came.
pub async fn unless_interrupted<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let listen = |kind| signal(kind).context("cannot install the signal handlers");
    let (mut interrupted, mut terminated) = (listen(SignalKind::interrupt())?, listen(SignalKind::terminate())?);
    tokio::select! {
        ended = work => ended,
        _ = interrupted.recv() => bail!("interrupted"),
        _ = terminated.recv() => bail!("terminated"),
    }
}
