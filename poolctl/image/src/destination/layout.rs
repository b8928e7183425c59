//! An image layout in a folder.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use oci_spec::image::{Descriptor, ImageIndex};

use super::{Destination, Finished, LAYOUT};
use crate::blob::{Sum, Summing};
use crate::scratch::{self, Partial, Scratch, ScratchFolder};
use crate::{ImageError, document, names};

/// Writes into a folder: a new or empty one, or one that is an image layout, which gets one image more.
///
/// Blobs wait in a private folder for the image to be complete: one whose writing is cut short leaves none behind.
pub(crate) struct LayoutWriter {
    path: PathBuf,
    scratch: Scratch,
    waiting: ScratchFolder,
    /// Names of those that wait.
    blobs: BTreeSet<String>,
}

// === impl LayoutWriter ===

impl LayoutWriter {
    pub(crate) fn create(path: &Path, scratch: &Scratch) -> Result<Self, ImageError> {
        let failed = |error| ImageError::Output { path: path.to_owned(), error };
        scratch::sweep(path);
        // what another process begins there at this moment does not count
        let is_empty = match fs::read_dir(path) {
            Ok(mut entries) => entries.all(|entry| entry.is_ok_and(|entry| scratch::is_partial(&entry.file_name()))),
            Err(error) if error.kind() == io::ErrorKind::NotFound => true,
            Err(error) => return Err(failed(error)),
        };
        // asked later, as it is there before anything else is
        if !is_empty && !path.join("oci-layout").is_file() {
            return Err(ImageError::NotALayout(path.to_owned()));
        }
        fs::create_dir_all(path).map_err(failed)?;
        // first, so that a folder that somebody was killed over is known again
        replace(scratch, path, "oci-layout", LAYOUT.as_bytes()).map_err(failed)?;
        fs::create_dir_all(path.join("blobs/sha256")).map_err(failed)?;
        let waiting = scratch.folder(path).map_err(failed)?;
        Ok(Self { path: path.to_owned(), scratch: scratch.clone(), waiting, blobs: BTreeSet::new() })
    }

    fn failed(&self, error: io::Error) -> ImageError {
        ImageError::Output { path: self.path.clone(), error }
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
        let file = self.scratch.file(self.waiting.path()).map_err(|error| self.failed(error))?;
        let mut file = BufWriter::with_capacity(1 << 20, file);
        let mut content = Summing::new(&mut file);
        let filled = fill(&mut content)?;
        let sum = content.finish();
        let file = file.into_inner().map_err(|error| self.failed(error.into_error()))?;
        file.persist(&self.waiting.path().join(&sum.hex)).map_err(|error| self.failed(error))?;
        self.blobs.insert(sum.hex.clone());
        Ok((sum, filled))
    }

    fn finish(self, image: &Finished<'_>) -> Result<(), ImageError> {
        let blobs = self.path.join("blobs/sha256");
        // another that adds its image now would read the index that this one replaces
        let _turn = take_turn(&blobs).map_err(|error| self.failed(error))?;
        let mut manifests = self.others(&image.manifest)?;
        manifests.push(image.manifest.clone());
        let index = write(&self.scratch, &self.path, &document::bytes(&super::index(manifests)));
        let move_blobs =
            || self.blobs.iter().try_for_each(|blob| fs::rename(self.waiting.path().join(blob), blobs.join(blob)));
        index
            .and_then(|index| index.persist_after(&self.path.join("index.json"), move_blobs))
            .map_err(|error| self.failed(error))
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// Waits until nobody else ends an image in this layout.
fn take_turn(blobs: &Path) -> io::Result<File> {
    let folder = File::open(blobs)?;
    match folder.lock() {
        // a file system without locks: as good as can be
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {}
        locked => locked?,
    }
    Ok(folder)
}

fn write(scratch: &Scratch, folder: &Path, content: &[u8]) -> io::Result<Partial> {
    let mut file = scratch.file(folder)?;
    file.write_all(content)?;
    Ok(file)
}

fn replace(scratch: &Scratch, folder: &Path, name: &str, content: &[u8]) -> io::Result<()> {
    write(scratch, folder, content)?.persist(&folder.join(name))
}
