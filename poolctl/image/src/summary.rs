//! What was written.

use oci_spec::image::MediaType;
use serde::Serialize;

/// An image that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ImageSummary {
    /// Its name, in full: `REGISTRY/REPOSITORY:TAG`.
    pub reference: String,
    /// Digest of its manifest, `sha256:HEX`: what `NAME@DIGEST` means.
    pub digest: String,
    /// Digest of its configuration, which Docker calls its id.
    pub config: String,
    /// `linux/ARCHITECTURE`.
    pub platform: String,
    /// Length of everything it consists of: manifest, configuration and layers as they are stored.
    pub bytes: u64,
    /// Its layers, lowest first.
    pub layers: Vec<LayerSummary>,
}

/// A layer of an image that was written.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct LayerSummary {
    /// Digest of what is stored, `sha256:HEX`.
    pub digest: String,
    /// Digest of the uncompressed tar stream.
    pub diff_id: String,
    /// Length of what is stored.
    pub bytes: u64,
    /// What is stored, e.g. `application/vnd.oci.image.layer.v1.tar+gzip`.
    #[serde(serialize_with = "as_text")]
    pub media_type: MediaType,
    /// Where it is from.
    pub origin: LayerOrigin,
    /// What is in it, where it was added.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// Where a layer is from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum LayerOrigin {
    /// The base image has it.
    Base,
    /// It was added.
    Added,
}

fn as_text<S: serde::Serializer>(media_type: &MediaType, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(media_type)
}
