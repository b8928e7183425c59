//! Where an image is written to.

mod archive;
mod layout;

use std::io::Write;
use std::path::Path;

use oci_spec::image::{Descriptor, ImageIndex, MediaType};

pub(crate) use archive::ArchiveWriter;
pub(crate) use layout::LayoutWriter;

use crate::blob::Sum;
use crate::{ImageError, Reference};

/// Version of the image layout that is written, the content of its `oci-layout` file.
const LAYOUT: &str = r#"{"imageLayoutVersion":"1.0.0"}"#;

/// The only one that manifests and indexes have.
pub(crate) const SCHEMA_VERSION: u32 = 2;

/// Takes blobs as they are made, and in the end what refers to them.
pub(crate) trait Destination {
    /// Adds a blob of what `fill` writes.
    fn blob<T>(&mut self, fill: impl FnOnce(&mut dyn Write) -> Result<T, ImageError>) -> Result<(Sum, T), ImageError>;

    /// Ends the image. `manifest` describes its manifest and carries its name as annotations.
    fn finish(self, image: &Finished<'_>) -> Result<(), ImageError>;

    /// What it is called in errors.
    fn path(&self) -> &Path;
}

/// An image whose blobs are all written.
pub(crate) struct Finished<'a> {
    pub(crate) reference: &'a Reference,
    pub(crate) manifest: Descriptor,
    pub(crate) config: &'a Descriptor,
    pub(crate) layers: &'a [Descriptor],
}

/// What an image layout's `index.json` says.
fn index(manifests: Vec<Descriptor>) -> ImageIndex {
    let mut index = ImageIndex::default();
    index.set_schema_version(SCHEMA_VERSION).set_media_type(Some(MediaType::ImageIndex)).set_manifests(manifests);
    index
}
