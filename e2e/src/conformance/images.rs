//! The images that a suite's tests start, put into the cluster without a registry.

use std::collections::BTreeSet;
use std::fs::File;
use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, ensure};

use super::suite::Suite;
use crate::cluster::{Cluster, Inside, Place};
use crate::components::{Binaries, Cache};
use crate::process::Progress;

/// Makes the images of the suite's tests known to the cluster, as far as it does not know them from an earlier run.
///
/// # Errors
/// When an image cannot be made or imported.
pub(super) async fn import(
    cluster: &Cluster,
    cache: &Cache,
    binaries: &Binaries,
    suite: Suite,
) -> anyhow::Result<Imported> {
    let (cache, binaries) = (cache.clone(), binaries.clone());
    let making = tokio::task::spawn_blocking(move || {
        let folder = suite.image_folder();
        crate::images::of_component(&cache, &binaries, suite.component(), folder, &Progress::silent())
    });
    let images = making.await.context("the images' task was ended")??;
    let ledger = Ledger::of(cluster.place());
    let known = ledger.read()?;
    let mut imported = Imported { new: 0, known: 0 };
    for image in images {
        if known.contains(&image.archive) {
            imported.known += 1;
            continue;
        }
        let import = import_of(cluster, &image.archive).await?;
        run(import).await.with_context(|| format!("cannot import the image {}", image.reference))?;
        ledger.add(&image.archive)?;
        imported.new += 1;
    }
    Ok(imported)
}

/// How many images were imported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Imported {
    /// Now.
    pub(super) new: usize,
    /// Before.
    pub(super) known: usize,
}

/// Which archives the cluster has imported: reading them again would take longer than the shorter suites. An archive's path has the
/// key of its component's build in it. The file goes when the cluster's images do.
struct Ledger {
    path: PathBuf,
}

// === impl Ledger ===

impl Ledger {
    fn of(place: &Place) -> Self {
        Self { path: place.data("conformance-images") }
    }

    fn read(&self) -> anyhow::Result<BTreeSet<PathBuf>> {
        match std::fs::read_to_string(&self.path) {
            Ok(text) => Ok(text.lines().map(PathBuf::from).collect()),
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(BTreeSet::new()),
            Err(error) => Err(error).with_context(|| format!("cannot read {}", self.path.display())),
        }
    }

    fn add(&self, archive: &Path) -> anyhow::Result<()> {
        let failed = || format!("cannot write {}", self.path.display());
        let mut file = File::options().append(true).create(true).open(&self.path).with_context(failed)?;
        writeln!(file, "{}", archive.display()).with_context(failed)
    }
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
