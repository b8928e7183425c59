//! Why a stored image cannot be used.

use std::io;
use std::path::PathBuf;

/// Why a stored image cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoredError {
    /// It cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Read {
        /// The folder or file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is something else.
    #[error("{} is no image in the OCI format: {reason}", path.display())]
    NotAnImage {
        /// The folder or file.
        path: PathBuf,
        /// What is there instead, and what to do.
        reason: &'static str,
    },
    /// One of its documents is not what it should be.
    #[error("the image {} has a bad {what}: {reason}", path.display())]
    Invalid {
        /// The folder or file.
        path: PathBuf,
        /// The document.
        what: &'static str,
        /// What is wrong.
        reason: String,
    },
    /// A part of it is not there.
    #[error("the image {} is incomplete: {name} is not in it", path.display())]
    Missing {
        /// The folder or file.
        path: PathBuf,
        /// The part.
        name: String,
    },
    /// A part of it is not what it is called.
    #[error("the image {} is damaged: what should be {digest} ({bytes} bytes) is {found}", path.display())]
    Corrupt {
        /// The folder or file.
        path: PathBuf,
        /// What it is called.
        digest: String,
        /// How long it should be.
        bytes: u64,
        /// What it is.
        found: String,
    },
    /// It uses another digest than SHA-256.
    #[error("the image {} has a part called {digest}: only sha256 is supported", path.display())]
    Algorithm {
        /// The folder or file.
        path: PathBuf,
        /// The part.
        digest: String,
    },
    /// It is for other machines.
    #[error("the image {} is for {found}, needed is one for {wanted}", path.display())]
    Architecture {
        /// The folder or file.
        path: PathBuf,
        /// What was looked for.
        wanted: String,
        /// What there is.
        found: String,
    },
    /// There are several images.
    #[error(
        "{} holds {} images for this architecture ({}): expected one, save it alone (skopeo copy, docker save)",
        path.display(), names.len(), names.join(", ")
    )]
    Several {
        /// The folder or file.
        path: PathBuf,
        /// What they are called.
        names: Vec<String>,
    },
    /// It says not how it is run: it is an artifact of another kind.
    #[error("{} holds no container image: its configuration is {media_type}", path.display())]
    NoConfig {
        /// The folder or file.
        path: PathBuf,
        /// What it is instead.
        media_type: String,
    },
    /// A layer is no file system.
    #[error("the image {} has a layer of the type {media_type}, which cannot be taken over", path.display())]
    LayerType {
        /// The folder or file.
        path: PathBuf,
        /// The layer's type.
        media_type: String,
    },
}
