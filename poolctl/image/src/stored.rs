//! Images that are stored: as an image layout in a folder, or in one tar file.

mod error;
mod select;
mod store;

use std::io::{Read, Write};
use std::path::Path;

use oci_spec::image::{Arch, Descriptor, DigestAlgorithm, ImageConfiguration, ImageManifest, MediaType, Os};
use serde::de::DeserializeOwned;

pub use error::StoredError;
use store::Store;

use crate::blob::{Sum, Summing};

/// Longest manifest or index that is read; registries take 4 MiB.
const MAX_DOCUMENT_BYTES: u64 = 4 * 1024 * 1024;

/// Longest configuration that is read: histories and labels of generated images are longer than they should be.
const MAX_CONFIG_BYTES: u64 = 16 * 1024 * 1024;

/// Docker's names of what the OCI specification has too.
const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
const DOCKER_CONFIG: &str = "application/vnd.docker.container.image.v1+json";
const DOCKER_LAYER: &str = "application/vnd.docker.image.rootfs.diff.tar";
const DOCKER_LAYER_GZIP: &str = "application/vnd.docker.image.rootfs.diff.tar.gzip";

/// An image that is stored. Its layers are read when they are needed.
#[derive(Clone, Debug)]
pub struct StoredImage {
    store: Store,
    descriptor: Descriptor,
    manifest_bytes: Vec<u8>,
    manifest: ImageManifest,
    configuration: ImageConfiguration,
}

// === impl StoredImage ===

impl StoredImage {
    /// Opens the image for `architecture` in the folder or tar file at `path`.
    ///
    /// # Errors
    /// It is no image, not one image for this architecture, or its manifest or configuration is not what its digest says.
    pub fn open(path: &Path, architecture: &Arch) -> Result<Self, StoredError> {
        Self::of(path, architecture, |_| true)
    }

    /// Opens the one whose manifest has this digest, `sha256:HEX`, of the images that are there.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub fn find(path: &Path, architecture: &Arch, digest: &str) -> Result<Self, StoredError> {
        Self::of(path, architecture, |descriptor| descriptor.digest().as_ref() == digest)
    }

    fn of(path: &Path, architecture: &Arch, is_meant: impl Fn(&Descriptor) -> bool) -> Result<Self, StoredError> {
        let store = Store::open(path)?;
        let descriptor = select::manifest(&store, architecture, is_meant)?;
        let manifest_bytes = document(&store, &descriptor, MAX_DOCUMENT_BYTES)?;
        let manifest: ImageManifest = parse(&store, "manifest", &manifest_bytes)?;
        let config = manifest.config();
        if !matches!(config.media_type().as_ref(), "application/vnd.oci.image.config.v1+json" | DOCKER_CONFIG) {
            return Err(StoredError::NoConfig { path: path.to_owned(), media_type: config.media_type().to_string() });
        }
        let configuration: ImageConfiguration =
            parse(&store, "configuration", &document(&store, config, MAX_CONFIG_BYTES)?)?;
        if configuration.architecture() != architecture || *configuration.os() != Os::Linux {
            let found = format!("{}/{}", configuration.os(), configuration.architecture());
            let wanted = format!("linux/{architecture}");
            return Err(StoredError::Architecture { path: path.to_owned(), wanted, found });
        }
        let (layers, diff_ids) = (manifest.layers().len(), configuration.rootfs().diff_ids().len());
        if layers != diff_ids {
            let reason = format!("it lists {layers} layers, its configuration {diff_ids}");
            return Err(StoredError::Invalid { path: path.to_owned(), what: "manifest", reason });
        }
        Ok(Self { store, descriptor, manifest_bytes, manifest, configuration })
    }

    /// Digest of its manifest, `sha256:HEX`.
    #[must_use]
    pub fn digest(&self) -> String {
        self.descriptor.digest().to_string()
    }

    /// Its manifest as it is stored.
    #[must_use]
    pub fn manifest_bytes(&self) -> &[u8] {
        &self.manifest_bytes
    }

    /// Media type of its manifest.
    #[must_use]
    pub fn media_type(&self) -> &MediaType {
        self.descriptor.media_type()
    }

    /// What its manifest refers to: its layers, lowest first, then its configuration.
    pub fn blobs(&self) -> impl Iterator<Item = &Descriptor> {
        self.manifest.layers().iter().chain([self.manifest.config()])
    }

    /// What it runs and what its layers unpack to.
    #[must_use]
    pub fn configuration(&self) -> &ImageConfiguration {
        &self.configuration
    }

    /// Its layers, lowest first, with the media types of the OCI specification.
    pub(crate) fn layers(&self) -> Result<Vec<Descriptor>, StoredError> {
        let layers = self.manifest.layers().iter().cloned().map(|mut layer| {
            let media_type = match layer.media_type().as_ref() {
                DOCKER_LAYER => MediaType::ImageLayer,
                DOCKER_LAYER_GZIP => MediaType::ImageLayerGzip,
                "application/vnd.oci.image.layer.v1.tar"
                | "application/vnd.oci.image.layer.v1.tar+gzip"
                | "application/vnd.oci.image.layer.v1.tar+zstd" => layer.media_type().clone(),
                other => {
                    let (path, media_type) = (self.store.path().to_owned(), other.to_owned());
                    return Err(StoredError::LayerType { path, media_type });
                }
            };
            layer.set_media_type(media_type);
            Ok(layer)
        });
        layers.collect()
    }

    /// The content of a blob, unchecked.
    ///
    /// # Errors
    /// It is not there or cannot be read.
    pub fn open_blob(&self, blob: &Descriptor) -> Result<impl Read + Send + use<>, StoredError> {
        blob_content(&self.store, blob)
    }

    /// Copies a blob to `out`. `failed` makes an error of one of `out`.
    pub(crate) fn copy_blob<E: From<StoredError>>(
        &self,
        blob: &Descriptor,
        out: impl Write,
        failed: impl FnOnce(std::io::Error) -> E,
    ) -> Result<(), E> {
        let mut out = Summing::new(out);
        copy(&self.store, self.open_blob(blob)?, &mut out, failed)?;
        check(&self.store, blob, &out.finish()).map_err(E::from)
    }
}

fn blob_content(store: &Store, blob: &Descriptor) -> Result<store::Content, StoredError> {
    if *blob.digest().algorithm() != DigestAlgorithm::Sha256 {
        return Err(StoredError::Algorithm { path: store.path().to_owned(), digest: blob.digest().to_string() });
    }
    let name = format!("blobs/sha256/{}", blob.digest().digest());
    store.file(&name)?.ok_or_else(|| StoredError::Missing { path: store.path().to_owned(), name })
}

/// A small blob, checked against its digest.
fn document(store: &Store, blob: &Descriptor, most: u64) -> Result<Vec<u8>, StoredError> {
    let content = blob_content(store, blob)?;
    let bytes = store.read(content, most)?;
    let mut sum = Summing::new(std::io::sink());
    sum.write_all(&bytes).expect("a sink takes everything");
    check(store, blob, &sum.finish())?;
    Ok(bytes)
}

fn check(store: &Store, blob: &Descriptor, sum: &Sum) -> Result<(), StoredError> {
    if sum.hex == blob.digest().digest() && sum.bytes == blob.size() {
        return Ok(());
    }
    Err(StoredError::Corrupt {
        path: store.path().to_owned(),
        digest: blob.digest().to_string(),
        bytes: blob.size(),
        found: format!("{} ({} bytes)", sum.digest(), sum.bytes),
    })
}

fn parse<T: DeserializeOwned>(store: &Store, what: &'static str, bytes: &[u8]) -> Result<T, StoredError> {
    serde_json::from_slice(bytes).map_err(|error| StoredError::Invalid {
        path: store.path().to_owned(),
        what,
        reason: error.to_string(),
    })
}

/// Copies so that an error of reading is told from one of writing.
fn copy<E: From<StoredError>>(
    store: &Store,
    mut content: impl Read,
    out: &mut impl Write,
    failed: impl FnOnce(std::io::Error) -> E,
) -> Result<(), E> {
    /// What a pipe holds, and enough that calls cost nothing.
    const BUFFER_BYTES: usize = 64 * 1024;
    let mut buffer = vec![0; BUFFER_BYTES];
    loop {
        match content.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(read) => {
                if let Err(error) = out.write_all(&buffer[..read]) {
                    return Err(failed(error));
                }
            }
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => {}
            Err(error) => return Err(StoredError::Read { path: store.path().to_owned(), error }.into()),
        }
    }
}
