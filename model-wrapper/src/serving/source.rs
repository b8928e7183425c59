//! Gets a model's bytes and their digest.
//!
//! Everything is read once, into memory, and what is loaded is what was hashed: a file that changes meanwhile changes nothing.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs::File;
use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use model_wrapper_onnx::{LoadError, ModelFiles, external_files};
use sha2::{Digest as _, Sha256};

#[cfg(test)]
mod tests;

/// Schemes that a model's uri may have.
const SCHEMES: &str = "file";

/// Largest model file, whatever it is called: protobuf's own limit. Larger models keep their weights in external data, which
/// has no limit but memory.
const MAX_MODEL_BYTES: u64 = (1 << 31) - 1;

/// Why a model could not be read. Its texts name paths: they are for the operator, not for a caller of the model.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// Another scheme than those known.
    #[error("the uri '{uri}' cannot be fetched: supported are {SCHEMES}:///ABSOLUTE/PATH")]
    Scheme {
        /// The uri.
        uri: String,
    },
    /// It cannot be read.
    #[error("'{}' cannot be read: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        error: std::io::Error,
    },
    /// It is no regular file.
    #[error("'{}' is not a file; name the model's .onnx file itself", .0.display())]
    NotAFile(PathBuf),
    /// It is too large.
    #[error("'{}' is larger than an ONNX file can be, {MAX_MODEL_BYTES} bytes: keep its weights as external data", .0.display())]
    TooLarge(PathBuf),
    /// A link that leaves the model's folder.
    #[error("'{}' leads to '{}', outside the model's folder: refused", path.display(), target.display())]
    Leaves {
        /// The link.
        path: PathBuf,
        /// Where it leads.
        target: PathBuf,
    },
    /// It is no model, or names external data that may not be read.
    #[error(transparent)]
    Model(#[from] Unloadable),
}

/// A file that could be read and holds no model that can be served.
#[derive(Debug, thiserror::Error)]
#[error("'{}' cannot be loaded: {error}", path.display())]
pub struct Unloadable {
    /// The file.
    pub path: PathBuf,
    /// What is wrong with it.
    pub error: LoadError,
}

/// A model's bytes and what they hash to.
#[derive(Debug)]
pub struct Fetched {
    /// The bytes.
    pub files: ModelFiles,
    /// `sha256:HEX`: of the file; of a model with external data, of the manifest that `sha256sum` prints for its files, paths
    /// relative to the model's folder and sorted.
    pub digest: String,
}

/// The path in a `file://` uri, taken literally: percent signs are characters like others.
pub(super) fn path_of(uri: &str) -> Result<PathBuf, SourceError> {
    match uri.strip_prefix("file://") {
        Some(path) if path.starts_with('/') => Ok(PathBuf::from(path)),
        _ => Err(SourceError::Scheme { uri: uri.to_owned() }),
    }
}

/// Reads a model and the external data it refers to. Blocking.
pub fn fetch(path: &Path) -> Result<Fetched, SourceError> {
    let named_folder = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let folder =
        std::fs::canonicalize(named_folder).map_err(|error| SourceError::Read { path: path.to_owned(), error })?;
    let model = read_within(&folder, path, MAX_MODEL_BYTES)?;
    let mut external = BTreeMap::new();
    let locations = external_files(&model).map_err(|error| Unloadable { path: path.to_owned(), error })?;
    for location in locations {
        let content = read_within(&folder, &folder.join(&location), u64::MAX)?;
        external.insert(location, Arc::<[u8]>::from(content));
    }
    let digest = digest(path, &model, &external);
    Ok(Fetched { files: ModelFiles { model, external }, digest })
}

fn digest(path: &Path, model: &[u8], external: &BTreeMap<String, Arc<[u8]>>) -> String {
    if external.is_empty() {
        return format!("sha256:{}", hash(model));
    }
    let name = path.file_name().map_or_else(String::new, |name| name.to_string_lossy().into_owned());
    let files = external.iter().map(|(location, content)| (location.as_str(), content.as_ref()));
    let sorted: BTreeMap<&str, &[u8]> = files.chain([(name.as_str(), model)]).collect();
    let mut manifest = String::new();
    for (name, content) in sorted {
        let _ = writeln!(manifest, "{}  {name}", hash(content));
    }
    format!("sha256:{}", hash(manifest.as_bytes()))
}

fn hash(content: &[u8]) -> String {
    let mut text = String::with_capacity(64);
    for byte in Sha256::digest(content) {
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The content of a regular file of at most `limit` bytes that lies in `folder`, links followed.
fn read_within(folder: &Path, path: &Path, limit: u64) -> Result<Vec<u8>, SourceError> {
    let target = canonical(path)?;
    if !target.starts_with(folder) {
        return Err(SourceError::Leaves { path: path.to_owned(), target });
    }
    let failed = |error| SourceError::Read { path: path.to_owned(), error };
    let metadata = std::fs::metadata(&target).map_err(failed)?;
    if !metadata.is_file() {
        return Err(SourceError::NotAFile(path.to_owned()));
    }
    let too_large = || SourceError::TooLarge(path.to_owned());
    if metadata.len() > limit {
        return Err(too_large());
    }
    let mut content = Vec::new();
    let expected = usize::try_from(metadata.len()).map_err(|_| too_large())?;
    content.try_reserve_exact(expected).map_err(|error| failed(error.into()))?;
    let read = File::open(&target).and_then(|file| file.take(limit.saturating_add(1)).read_to_end(&mut content));
    // It may have grown meanwhile.
    if read.map_err(failed)? as u64 > limit { Err(too_large()) } else { Ok(content) }
}

fn canonical(path: &Path) -> Result<PathBuf, SourceError> {
    std::fs::canonicalize(path).map_err(|error| SourceError::Read { path: path.to_owned(), error })
}
