//! The image under test, made as a user makes one.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::cluster::{Cluster, Inside};

/// Its name. Knative asks no registry about `dev.local`, and a tag other than `latest` lets the kubelet take the node's own copy.
pub(crate) const NAME: &str = "dev.local/e2e-digits:v1";

/// Packages the digits model with `poolctl package` and imports it into the node.
pub(crate) async fn import_digits(rig: &Cluster) {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("digits.tar");
    let mut package = Command::new(built("poolctl"));
    package.arg("package").arg(repository().join("examples/models/digits.onnx")).arg("--output").arg(&archive);
    package.args(["--tag", NAME, "--compress", "0", "--wrapper"]).arg(built("model-wrapper"));
    succeeded("poolctl package", &package.output().unwrap());
    let mut import = rig.command(Inside::NetworkAndFiles, OsStr::new("ctr")).await.unwrap();
    import.args(["images", "import"]).arg(&archive);
    succeeded("ctr images import", &import.output().unwrap());
}

/// A program of the workspace, which is built beside every test program.
pub(crate) fn built(name: &str) -> PathBuf {
    let own = std::env::current_exe().unwrap();
    let program = own.parent().and_then(Path::parent).unwrap().join(name);
    assert!(program.is_file(), "{} is not built: cargo build -p {name}", program.display());
    program
}

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

/// Fails with what the command wrote.
pub(crate) fn succeeded(what: &str, output: &Output) {
    assert!(output.status.success(), "{what} failed: {}", String::from_utf8_lossy(&output.stderr));
}
