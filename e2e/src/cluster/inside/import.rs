//! Images into containerd, from archives.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use tokio::process::Command;

use super::super::node::{CONTAINERD_NAMESPACE, CONTAINERD_SOCKET};
use crate::components::Binaries;
use crate::process::{Processes, Progress};

/// containerd answers within a second of its start.
const DEADLINE: Duration = Duration::from_secs(60);

/// Imports at once: hashing and unpacking is work for one core each.
const AT_ONCE: usize = 2;

/// Imports all of `archives`, once containerd answers.
pub(super) async fn images(
    processes: &Processes,
    binaries: &Binaries,
    archives: &[PathBuf],
    progress: &Progress,
) -> anyhow::Result<()> {
    let ctr = binaries.path("ctr")?;
    let probe = || run(&ctr, &["--connect-timeout", "1s", "version"], None);
    processes.wait_until("containerd to answer", DEADLINE, progress, probe).await?;
    let step = progress.step("importing images");
    stream::iter(archives)
        .map(|archive| async {
            step.note(&archive.display().to_string());
            let imported = run(&ctr, &["images", "import", "--local"], Some(archive)).await;
            imported.with_context(|| format!("cannot import {}", archive.display()))
        })
        .buffer_unordered(AT_ONCE)
        .try_collect::<()>()
        .await?;
    step.done(&archives.len().to_string());
    Ok(())
}

async fn run(ctr: &Path, arguments: &[&str], file: Option<&PathBuf>) -> anyhow::Result<()> {
    let output = Command::new(ctr)
        .args(["--address", CONTAINERD_SOCKET, "--namespace", CONTAINERD_NAMESPACE])
        .args(arguments)
        .args(file)
        .stdin(Stdio::null())
        .kill_on_drop(true)
        .output()
        .await
        .context("cannot run ctr")?;
    ensure!(output.status.success(), "ctr: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
