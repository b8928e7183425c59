//! The image that the Services run.

use std::path::Path;
use std::process::Command;

use anyhow::{Context, bail, ensure};

use crate::binaries::Binaries;

/// Where containerd listens, as the shell of `e2e/enter` says. It is the node's own, so what is imported there can be run.
const CONTAINERD: &str = "CONTAINERD_ADDRESS";

/// Name of the image that is made here. The tag is not `latest` and the registry is one that Knative asks nothing of, so the node's
/// own copy is taken.
const MADE: &str = "dev.local/loadtest-model:v1";

/// The name of an image that is made here, of the product's own binaries and the model, and imported into this node.
///
/// # Errors
/// This is not a shell on the node, or it cannot be made.
pub fn make(binaries: &Binaries, model_file: &Path) -> anyhow::Result<String> {
    if std::env::var_os(CONTAINERD).is_none() {
        bail!(
            "which image? Run inside the cluster of this machine (e2e/enter loadtest …), where it is made and imported, or make \
             one with `poolctl package {} --push REGISTRY/NAME:TAG` and give it with --image",
            model_file.display()
        );
    }
    let folder = tempfile::tempdir().context("making a folder for the image")?;
    let archive = folder.path().join("image.tar");
    let mut package = Command::new(binaries.poolctl()?);
    package.arg("package").arg(model_file).arg("--output").arg(&archive).args(["--tag", MADE, "--compress", "0"]);
    run(package.arg("--wrapper").arg(binaries.wrapper()?))?;
    run(Command::new("ctr").args(["--namespace", "k8s.io", "images", "import"]).arg(&archive))?;
    Ok(MADE.to_owned())
}

fn run(command: &mut Command) -> anyhow::Result<()> {
    let program = command.get_program().display().to_string();
    let output = command.output().with_context(|| format!("running {program}"))?;
    ensure!(output.status.success(), "{program} failed: {}", String::from_utf8_lossy(&output.stderr).trim());
    Ok(())
}
