//! Why an image cannot be written.

use std::io;
use std::path::PathBuf;

use crate::StoredError;

/// Why an image cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum ImageError {
    /// A path in the image that cannot be.
    #[error("the path {path:?} in the image {reason}")]
    Path {
        /// As given.
        path: String,
        /// What is wrong with it.
        reason: &'static str,
    },
    /// Two entries of a layer have one path.
    #[error("two entries of one layer have the path /{0}")]
    Duplicate(String),
    /// An entry lies below one that is no folder.
    #[error("/{path} cannot be in the image: /{above} above it is no folder")]
    NoFolder {
        /// The entry.
        path: String,
        /// What lies above it.
        above: String,
    },
    /// A file that belongs into the image cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Source {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// A file that belongs into the image is no regular file.
    #[error("{} is not a regular file", .0.display())]
    NotAFile(PathBuf),
    /// The output cannot be written.
    #[error("{} cannot be written: {error}", path.display())]
    Output {
        /// The file or folder.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// The output folder holds something else.
    #[error("{} is neither empty nor an image layout: nothing is written into it", .0.display())]
    NotALayout(PathBuf),
    /// The output folder is an image layout that cannot be added to.
    #[error("the image layout {} cannot be added to: its index.json {reason}", path.display())]
    Index {
        /// The folder.
        path: PathBuf,
        /// What is wrong with its index.
        reason: String,
    },
    /// The base image cannot be used.
    #[error("the base image: {0}")]
    Base(#[from] StoredError),
    /// An image is known by a tag.
    #[error("{0} names a digest: an image that is being made gets a tag, NAME:TAG")]
    DigestReference(String),
}
