//! An image layout in a folder.

use std::fs;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageIndex};

use super::{Destination, Finished, LAYOUT};
use crate::blob::{Sum, Summing};
use crate::scratch::{self, Partial, Scratch};
use crate::{ImageError, document, names};

/// Writes into a folder: a new or empty one, or one that is an image layout, which gets one image more.
pub(crate) struct LayoutWriter {
    path: PathBuf,
    scratch: Scratch,
}

// === impl LayoutWriter ===

impl LayoutWriter {
    pub(crate) fn create(path: &Path, scratch: &Scratch) -> Result<Self, ImageError> {
        let layout = Self { path: path.to_owned(), scratch: scratch.clone() };
        let blobs = path.join("blobs/sha256");
        scratch::sweep(path);
        scratch::sweep(&blobs);
        let is_layout = path.join("oci-layout").is_file();
        let is_empty = match fs::read_dir(path) {
            Ok(mut entries) => entries.next().is_none(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(layout.failed(error)),
        };
        if !is_layout && !is_empty {
            return Err(ImageError::NotALayout(path.to_owned()));
        }
        fs::create_dir_all(path).map_err(|error| layout.failed(error))?;
        // first, so that a folder that somebody was killed over is known again
        layout.replace("oci-layout", LAYOUT.as_bytes())?;
        fs::create_dir_all(blobs).map_err(|error| layout.failed(error))?;
        Ok(layout)
    }

    fn failed(&self, error: io::Error) -> ImageError {
        ImageError::Output { path: self.path.clone(), error }
    }

    fn temporary(&self, folder: &Path) -> Result<Partial, ImageError> {
        self.scratch.file(folder).map_err(|error| self.failed(error))
    }

    fn replace(&self, name: &str, content: &[u8]) -> Result<(), ImageError> {
        let mut file = self.temporary(&self.path)?;
        file.write_all(content).map_err(|error| self.failed(error))?;
        file.persist(&self.path.join(name)).map_err(|error| self.failed(error))
    }

    /// The images that are there already, without those of the same name.
    fn others(&self, manifest: &Descriptor) -> Result<Vec<Descriptor>, ImageError> {
        let path = self.path.join("index.json");
        let content = match fs::read(&path) {
            Ok(content) => content,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.failed(error)),
        };
        let index: ImageIndex = serde_json::from_slice(&content).map_err(|error| ImageError::Index {
            path: self.path.clone(),
            reason: format!("cannot be read: {error}"),
        })?;
        let name = names::of(manifest);
        let others = index.manifests().iter().filter(|other| names::of(other) != name);
        Ok(others.filter(|other| other.digest() != manifest.digest()).cloned().collect())
    }
}

impl Destination for LayoutWriter {
    fn blob<T>(&mut self, fill: impl FnOnce(&mut dyn Write) -> Result<T, ImageError>) -> Result<(Sum, T), ImageError> {
        let folder = self.path.join("blobs/sha256");
        let mut file = BufWriter::with_capacity(1 << 20, self.temporary(&folder)?);
        let mut content = Summing::new(&mut file);
        let filled = fill(&mut content)?;
        let sum = content.finish();
        let file = file.into_inner().map_err(|error| self.failed(error.into_error()))?;
        file.persist(&folder.join(&sum.hex)).map_err(|error| self.failed(error))?;
        Ok((sum, filled))
    }

    fn finish(self, image: &Finished<'_>) -> Result<(), ImageError> {
        let mut manifests = self.others(&image.manifest)?;
        manifests.push(image.manifest.clone());
        self.replace("index.json", &document::bytes(&super::index(manifests)))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}
