use std::path::Path;
use std::process::Command;

use super::{reference, write};

#[test]
fn names_are_below_a_registry_that_exists_nowhere() {
    assert_eq!(reference("", "pause"), super::PAUSE);
    assert_eq!(reference("", "coredns"), super::COREDNS);
    assert_eq!(reference("serving", "queue"), "dev.local/serving/queue:v1");
}

#[test]
fn an_archive_has_the_program_and_who_runs_it() {
    let dir = tempfile::tempdir().unwrap();
    let program = dir.path().join("prober");
    std::fs::write(&program, "a program").unwrap();
    let archive = dir.path().join("images/prober.tar");
    write("dev.local/prober:v1", &program, &archive).unwrap();

    let unpacked = dir.path().join("unpacked");
    unpack(&archive, &unpacked);
    let index = json(&unpacked.join("index.json"));
    assert_eq!(index["manifests"][0]["annotations"]["io.containerd.image.name"], "dev.local/prober:v1");
    let manifest = json(&blob(&unpacked, &index["manifests"][0]["digest"]));
    let config = json(&blob(&unpacked, &manifest["config"]["digest"]));
    assert_eq!(config["config"]["User"], "65532:65532");
    assert_eq!(config["config"]["Entrypoint"], serde_json::json!(["/ko-app/prober"]));

    let root = dir.path().join("root");
    unpack(&blob(&unpacked, &manifest["layers"][0]["digest"]), &root);
    assert_eq!(std::fs::read_to_string(root.join("ko-app/prober")).unwrap(), "a program");
    let mode = |path: &str| {
        std::os::unix::fs::PermissionsExt::mode(&std::fs::metadata(root.join(path)).unwrap().permissions())
    };
    assert_eq!(mode("ko-app/prober") & 0o777, 0o755);
    assert_eq!(mode("tmp") & 0o7777, 0o1777);
}

#[test]
fn a_program_that_is_missing_and_a_bad_name_are_named() {
    let dir = tempfile::tempdir().unwrap();
    let archive = dir.path().join("x.tar");
    let error = write("dev.local/x:v1", &dir.path().join("absent"), &archive).unwrap_err().to_string();
    assert!(error.contains("dev.local/x:v1") && error.contains("absent"), "{error}");
    assert!(!archive.exists());
    let error = write("dev.local/UPPER:v1", &archive, &archive).unwrap_err().to_string();
    assert!(error.contains("dev.local/UPPER:v1"), "{error}");
}

fn unpack(archive: &Path, into: &Path) {
    std::fs::create_dir_all(into).unwrap();
    let status = Command::new("tar").args(["-xpf"]).arg(archive).arg("-C").arg(into).status().unwrap();
    assert!(status.success());
}

fn blob(layout: &Path, digest: &serde_json::Value) -> std::path::PathBuf {
    layout.join("blobs").join(digest.as_str().unwrap().replace(':', "/"))
}

fn json(path: &Path) -> serde_json::Value {
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}
