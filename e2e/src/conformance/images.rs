//! The images that a suite's tests start, put into the cluster without a registry.

use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::suite::Suite;
use crate::cluster::{Cluster, Inside};
use crate::components::{Binaries, Cache};
use crate::process::Progress;

/// Makes the images of the suite's tests known to the cluster.
///
/// # Errors
/// When an image cannot be made or imported.
pub(super) async fn import(cluster: &Cluster, cache: &Cache, binaries: &Binaries, suite: Suite) -> anyhow::Result<()> {
    let (cache, binaries) = (cache.clone(), binaries.clone());
    let making = tokio::task::spawn_blocking(move || {
        let folder = suite.image_folder();
        crate::images::of_component(&cache, &binaries, suite.component(), folder, &Progress::silent())
    });
    let images = making.await.context("the images' task was ended")??;
    for image in images {
        let import = import_of(cluster, &image.archive).await?;
        run(import).await.with_context(|| format!("cannot import the image {}", image.reference))?;
    }
    Ok(())
}

async fn import_of(cluster: &Cluster, archive: &Path) -> anyhow::Result<Command> {
    let mut command = cluster.command(Inside::NetworkAndFiles, "ctr".as_ref()).await?;
    command.args(["images", "import"]).arg(archive);
    Ok(command)
}

async fn run(mut command: Command) -> anyhow::Result<()> {
    let running = tokio::task::spawn_blocking(move || command.output());
    let output = running.await.context("the command's task was ended")?.context("cannot run ctr")?;
    ensure!(
        output.status.success(),
        "ctr ended with {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(())
}
