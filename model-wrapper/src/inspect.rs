//! `model-wrapper inspect`: what models take and give, without serving them.

use std::io::Write;
use std::path::{Path, PathBuf};

use model_wrapper_onnx::Runtime;
use model_wrapper_protocol::metadata_json;
use serde_json::{Value, json};

use crate::serving::{Format, ModelSpec, load};

/// Writes one line of JSON for each path and returns how many could not be loaded.
///
/// # Errors
/// `out` cannot be written to.
pub fn inspect(runtime: &Runtime, format: Format, paths: &[PathBuf], mut out: impl Write) -> std::io::Result<usize> {
    let mut failed = 0;
    for path in paths {
        let line = describe(runtime, format, path).unwrap_or_else(|error| {
            failed += 1;
            json!({"path": path, "error": error})
        });
        writeln!(out, "{line}")?;
        out.flush()?;
    }
    Ok(failed)
}

fn describe(runtime: &Runtime, format: Format, path: &Path) -> Result<Value, String> {
    let spec = ModelSpec { format, ..ModelSpec::new(name_of(path)?, path.to_owned()) };
    let loaded = load(runtime, &spec).map_err(|error| error.to_string())?;
    let metadata = metadata_json(loaded.metadata());
    Ok(json!({"path": path, "digest": loaded.digest, "external": loaded.external, "metadata": metadata}))
}

/// The name that a model has where none is given: its file's, without the ending.
pub(crate) fn name_of(path: &Path) -> Result<String, String> {
    path.file_stem()
        .and_then(|stem| stem.to_str())
        .map(str::to_owned)
        .ok_or_else(|| format!("no name can be had from '{}': give --name", path.display()))
}
