//! The names that tools find an image by.

use std::collections::HashMap;

use oci_spec::image::{ANNOTATION_REF_NAME, Descriptor};

use crate::{ImageError, Reference};

/// Annotation by which containerd names an image that it imports.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// The tag of an image that is made.
pub(crate) fn tag(reference: &Reference) -> Result<&str, ImageError> {
    match (reference.tag(), reference.digest()) {
        (Some(tag), None) => Ok(tag),
        _ => Err(ImageError::DigestReference(reference.whole())),
    }
}

/// Annotations that give an image's descriptor in an index its name: in full for containerd, the tag alone for tools that
/// follow the OCI specification's example.
pub(crate) fn annotations(reference: &Reference) -> Result<HashMap<String, String>, ImageError> {
    let tag = tag(reference)?.to_owned();
    Ok([(CONTAINERD_NAME.to_owned(), reference.whole()), (ANNOTATION_REF_NAME.to_owned(), tag)].into())
}

/// The full name of an image in an index, else its tag.
pub(crate) fn of(descriptor: &Descriptor) -> Option<&str> {
    let annotations = descriptor.annotations().as_ref()?;
    annotations.get(CONTAINERD_NAME).or_else(|| annotations.get(ANNOTATION_REF_NAME)).map(String::as_str)
}

/// As Docker shows it: without what it adds itself.
pub(crate) fn familiar(reference: &Reference) -> String {
    let whole = reference.whole();
    let short = whole.strip_prefix("docker.io/").unwrap_or(&whole);
    short.strip_prefix("library/").unwrap_or(short).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn docker_shows_short_names() {
        let familiar = |name: &str| super::familiar(&name.parse().expect("a reference"));
        assert_eq!(familiar("digits"), "digits:latest");
        assert_eq!(familiar("me/digits:v1"), "me/digits:v1");
        assert_eq!(familiar("dev.local/digits:v1"), "dev.local/digits:v1");
        assert_eq!(familiar("localhost:5000/library/x:v1"), "localhost:5000/library/x:v1");
    }

    #[test]
    fn a_digest_is_no_name_for_what_is_yet_to_be_made() {
        let reference: Reference = format!("a/b@sha256:{}", "0".repeat(64)).parse().expect("a reference");
        assert!(annotations(&reference).is_err());
    }
}
