//! What a layer holds.

mod plan;
#[cfg(test)]
mod tests;

use std::path::PathBuf;

pub(crate) use plan::{Plan, write_tar};

/// Permissions and owner of an entry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Attributes {
    /// Permission bits, e.g. `0o755`.
    pub mode: u32,
    /// Numeric id of the owner.
    pub uid: u64,
    /// Numeric id of the group.
    pub gid: u64,
}

/// A layer of an image: files, links and folders.
///
/// Folders above an entry need not be named: they are made as root's, mode 0755. On top of a base image that replaces the
/// attributes of a folder that the base has too, and replaces a link of the base by a folder: put what goes on a base
/// into a folder of its own.
#[derive(Clone, Debug)]
pub struct Layer {
    comment: String,
    entries: Vec<(String, Entry)>,
}

/// One entry of a layer.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    attributes: Attributes,
    content: Content,
}

#[derive(Clone, Debug)]
enum Content {
    Folder,
    File(PathBuf),
    Bytes(Vec<u8>),
    Link(String),
}

// === impl Attributes ===

impl Attributes {
    /// Root's, and everybody may run it.
    pub const EXECUTABLE: Self = Self { mode: 0o755, uid: 0, gid: 0 };

    /// Root's, and everybody may read it.
    pub const DATA: Self = Self { mode: 0o644, uid: 0, gid: 0 };

    /// Root's folder, which everybody may enter.
    pub const FOLDER: Self = Self::EXECUTABLE;

    /// The same with another owner.
    #[must_use]
    pub const fn owner(self, uid: u64, gid: u64) -> Self {
        Self { mode: self.mode, uid, gid }
    }
}

// === impl Layer ===

impl Layer {
    /// A layer without entries. The comment goes into the image's history.
    #[must_use]
    pub fn new(comment: impl Into<String>) -> Self {
        Self { comment: comment.into(), entries: Vec::new() }
    }

    /// Adds the regular file that `source` is, or leads to, as `path`. It is read when the image is written.
    #[must_use]
    pub fn file(self, path: impl Into<String>, source: impl Into<PathBuf>, attributes: Attributes) -> Self {
        self.entry(path, attributes, Content::File(source.into()))
    }

    /// Adds a file of these bytes.
    #[must_use]
    pub fn bytes(self, path: impl Into<String>, content: impl Into<Vec<u8>>, attributes: Attributes) -> Self {
        self.entry(path, attributes, Content::Bytes(content.into()))
    }

    /// Adds a symbolic link to `target`, which is taken literally.
    #[must_use]
    pub fn link(self, path: impl Into<String>, target: impl Into<String>) -> Self {
        self.entry(path, Attributes { mode: 0o777, uid: 0, gid: 0 }, Content::Link(target.into()))
    }

    /// Adds a folder.
    #[must_use]
    pub fn folder(self, path: impl Into<String>, attributes: Attributes) -> Self {
        self.entry(path, attributes, Content::Folder)
    }

    /// What the image's history says of it.
    #[must_use]
    pub fn comment(&self) -> &str {
        &self.comment
    }

    fn entry(mut self, path: impl Into<String>, attributes: Attributes, content: Content) -> Self {
        self.entries.push((path.into(), Entry { attributes, content }));
        self
    }
}
