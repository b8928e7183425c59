//! An image layout in one tar file.
//!
//! A tar header tells name and length before the content, and a blob's name is the digest of its content: room is left
//! for the header, and it is filled in once the blob is through. So nothing is read twice or kept elsewhere meanwhile.

use std::collections::BTreeSet;
use std::io::{self, BufWriter, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

use serde_json::json;
use tar::{EntryType, Header};

use super::{Destination, Finished, LAYOUT};
use crate::blob::{Sum, Summing};
use crate::scratch::{self, Partial, Scratch};
use crate::{ImageError, document, names};

/// Length of a header, and what content is padded to.
const BLOCK: u64 = 512;

/// Writes an archive. It has its name once it is complete.
pub(crate) struct ArchiveWriter {
    path: PathBuf,
    file: BufWriter<Partial>,
    /// Blobs that are in it: one that is made twice is kept once.
    blobs: BTreeSet<String>,
}

// === impl ArchiveWriter ===

impl ArchiveWriter {
    pub(crate) fn create(path: &Path, scratch: &Scratch) -> Result<Self, ImageError> {
        let failed = |error| ImageError::Output { path: path.to_owned(), error };
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        scratch::sweep(folder);
        let file = BufWriter::with_capacity(1 << 20, scratch.file(folder).map_err(failed)?);
        let mut archive = Self { path: path.to_owned(), file, blobs: BTreeSet::new() };
        for folder in ["blobs/", "blobs/sha256/"] {
            archive.write(|file| write_header(file, folder, EntryType::Directory, 0))?;
        }
        Ok(archive)
    }

    fn small_file(&mut self, name: &str, content: &[u8]) -> Result<(), ImageError> {
        self.write(|file| {
            write_header(file, name, EntryType::Regular, content.len() as u64)?;
            file.write_all(content)?;
            pad(file, content.len() as u64)
        })
    }

    fn write<T>(&mut self, write: impl FnOnce(&mut BufWriter<Partial>) -> io::Result<T>) -> Result<T, ImageError> {
        write(&mut self.file).map_err(|error| ImageError::Output { path: self.path.clone(), error })
    }
}

impl Destination for ArchiveWriter {
    fn blob<T>(&mut self, fill: impl FnOnce(&mut dyn Write) -> Result<T, ImageError>) -> Result<(Sum, T), ImageError> {
        let start = self.write(|file| {
            let start = file.stream_position()?;
            file.write_all(&[0; BLOCK as usize])?;
            Ok(start)
        })?;
        let mut content = Summing::new(&mut self.file);
        let filled = fill(&mut content)?;
        let sum = content.finish();
        let is_new = self.blobs.insert(sum.hex.clone());
        self.write(|file| {
            if !is_new {
                file.seek(SeekFrom::Start(start))?;
                return file.get_ref().set_len(start);
            }
            pad(file, sum.bytes)?;
            let end = file.stream_position()?;
            file.seek(SeekFrom::Start(start))?;
            write_header(file, &sum.layout_path(), EntryType::Regular, sum.bytes)?;
            file.seek(SeekFrom::Start(end)).map(drop)
        })?;
        Ok((sum, filled))
    }

    fn finish(mut self, image: &Finished<'_>) -> Result<(), ImageError> {
        let index = document::bytes(&super::index(vec![image.manifest.clone()]));
        self.small_file("index.json", &index)?;
        self.small_file("manifest.json", &docker_manifest(image))?;
        self.small_file("oci-layout", LAYOUT.as_bytes())?;
        // two empty blocks end an archive
        self.write(|file| file.write_all(&[0; 2 * BLOCK as usize]))?;
        let failed = |error| ImageError::Output { path: self.path.clone(), error };
        let file = self.file.into_inner().map_err(|error| failed(error.into_error()))?;
        file.persist(&self.path).map_err(failed)
    }

    fn path(&self) -> &Path {
        &self.path
    }
}

/// What `docker load` of every version reads.
fn docker_manifest(image: &Finished<'_>) -> Vec<u8> {
    let path = |descriptor: &oci_spec::image::Descriptor| format!("blobs/sha256/{}", descriptor.digest().digest());
    document::bytes(&json!([{
        "Config": path(image.config),
        "RepoTags": [names::familiar(image.reference)],
        "Layers": image.layers.iter().map(path).collect::<Vec<_>>(),
    }]))
}

fn write_header(file: &mut impl Write, name: &str, entry_type: EntryType, bytes: u64) -> io::Result<()> {
    let mut header = Header::new_gnu();
    header.set_path(name)?;
    header.set_entry_type(entry_type);
    header.set_mode(if entry_type.is_dir() { 0o755 } else { 0o644 });
    header.set_uid(0);
    header.set_gid(0);
    header.set_mtime(0);
    header.set_size(bytes);
    header.set_cksum();
    file.write_all(header.as_bytes())
}

fn pad(file: &mut impl Write, bytes: u64) -> io::Result<()> {
    let rest = usize::try_from(bytes.next_multiple_of(BLOCK) - bytes).expect("less than a block");
    file.write_all(&[0; BLOCK as usize][..rest])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_header_of_a_blob_is_one_block_however_large_the_blob() {
        let mut header = Vec::new();
        let name = Sum { hex: "f".repeat(64), bytes: 0 }.layout_path();
        write_header(&mut header, &name, EntryType::Regular, 1 << 40).expect("it is written");
        assert_eq!(header.len(), 512);
        let read = Header::from_byte_slice(&header);
        assert_eq!(read.size().expect("a size"), 1 << 40);
        assert_eq!(read.path().expect("a path").to_str(), Some(name.as_str()));
    }
}
