//! The image under test, made as a user makes one.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use e2e::cluster::{Cluster, Inside, TestCluster};

/// Its name. Knative asks no registry about `dev.local`, and a tag other than `latest` lets the kubelet take the node's own copy.
const NAME: &str = "dev.local/e2e-digits:v1";

/// Variable with the name of the image where a cluster elsewhere pulls it.
const ELSEWHERE: &str = "KFERVING_E2E_IMAGE";

/// The name of the image that the cluster has, or can pull. `None`, with a message, where it can have none.
pub(crate) async fn digits_or_skip(cluster: &TestCluster) -> Option<String> {
    if let Some(rig) = cluster.rig() {
        import_digits(rig).await;
        return Some(NAME.to_owned());
    }
    let pushed = std::env::var(ELSEWHERE).ok().filter(|name| !name.is_empty());
    if pushed.is_none() {
        TestCluster::skip(&format!(
            "the cluster of KUBECONFIG has to pull the image: push it with `poolctl package examples/models/digits.onnx \
             --push REGISTRY/NAME:TAG` and give its name as {ELSEWHERE}"
        ));
    }
    pushed
}

/// Packages the digits model with `poolctl package` and imports it into the node.
async fn import_digits(rig: &Cluster) {
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
