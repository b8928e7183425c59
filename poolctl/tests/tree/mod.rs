//! What the tests take of this source tree.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

/// Nothing here takes longer, on a busy machine with two cores and a debug build.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// `poolctl` with the library of this source tree, and nothing of the environment that would steer it.
pub(crate) fn poolctl() -> Command {
    let library = std::env::var_os("ORT_DYLIB_PATH").map(PathBuf::from).filter(|path| path.is_absolute());
    let library = library.unwrap_or_else(|| repository().join(".cache/onnxruntime/libonnxruntime.so"));
    assert!(library.exists(), "{} is not there: `make models` gets it", library.display());
    let mut command = Command::new(env!("CARGO_BIN_EXE_poolctl"));
    command.env("ORT_DYLIB_PATH", library).env_remove("KFERVING_WRAPPER").stdin(Stdio::null());
    command
}

/// Held-out pictures of digits and what they show.
pub(crate) fn held_out(count: usize) -> (Vec<Value>, Vec<Value>) {
    let text = fs::read_to_string(repository().join("examples/models/digits-heldout.json")).unwrap();
    let held_out: Value = serde_json::from_str(&text).unwrap();
    let first = |field: &str| held_out[field].as_array().unwrap()[..count].to_vec();
    (first("images"), first("truth"))
}
