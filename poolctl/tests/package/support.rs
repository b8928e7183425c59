//! How tests run `poolctl package` and read what it wrote.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;

use crate::tree::{poolctl, repository};

pub(crate) fn digits() -> PathBuf {
    repository().join("examples/models/digits.onnx")
}

/// A model that keeps its weights in a file beside it.
pub(crate) fn external() -> PathBuf {
    repository().join("model-wrapper/onnx/tests/fixtures/external")
}

/// `poolctl package` with the library of this source tree, and nothing of the environment that would steer it.
pub(crate) fn package() -> Command {
    // compression is slow in a debug build, and tested elsewhere
    compressing(0)
}

/// The same, at a level of compression.
pub(crate) fn compressing(level: u32) -> Command {
    let mut command = poolctl();
    command.args(["package", "--compress", &level.to_string()]);
    command
}

/// Runs it. Returns what `--report json` says.
pub(crate) fn report(command: &mut Command) -> Value {
    let output = command.args(["--report", "json"]).output().unwrap();
    assert!(output.status.success(), "{}", stderr(&output));
    serde_json::from_slice(&output.stdout).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}

/// A document of an image layout.
pub(crate) fn document(layout: &Path, digest: &Value) -> Value {
    let hex = digest.as_str().unwrap().strip_prefix("sha256:").unwrap();
    serde_json::from_slice(&fs::read(layout.join("blobs/sha256").join(hex)).unwrap()).unwrap()
}

/// The configuration of the image that was written to a layout.
pub(crate) fn config(layout: &Path, report: &Value) -> Value {
    document(layout, &report["config"])["config"].clone()
}

/// The names of the files in a layer.
pub(crate) fn files(layout: &Path, layer: &Value) -> Vec<String> {
    let mut archive = open(layout, layer);
    let entries = archive.entries().unwrap().map(Result::unwrap).filter(|entry| entry.header().entry_type().is_file());
    entries.map(|entry| entry.path().unwrap().to_str().unwrap().to_owned()).collect()
}

/// An uncompressed layer.
pub(crate) fn open(layout: &Path, layer: &Value) -> tar::Archive<File> {
    let hex = layer["digest"].as_str().unwrap().strip_prefix("sha256:").unwrap();
    tar::Archive::new(File::open(layout.join("blobs/sha256").join(hex)).unwrap())
}
