//! Which of the images in a store is meant.

use oci_spec::image::{Arch, Descriptor, ImageIndex, MediaType, Os};

use super::store::Store;
use super::{DOCKER_INDEX, DOCKER_MANIFEST, MAX_DOCUMENT_BYTES, StoredError, document, parse};
use crate::names;

/// Indexes within indexes: the store's own, and the one of an image for several platforms. One more does no harm.
const MAX_DEPTH: usize = 3;

/// Indexes that are looked into at all: one that names another many times must not cost without end.
const MAX_INDEXES: usize = 1024;

/// Describes the only manifest for Linux on `architecture` that is meant.
pub(super) fn manifest(
    store: &Store,
    architecture: &Arch,
    is_meant: impl Fn(&Descriptor) -> bool,
) -> Result<Descriptor, StoredError> {
    let content = store
        .file("index.json")?
        .ok_or_else(|| StoredError::Missing { path: store.path().to_owned(), name: "index.json".to_owned() })?;
    let index: ImageIndex = parse(store, "index", &store.read(content, MAX_DOCUMENT_BYTES)?)?;
    let mut search = Search { store, found: Vec::new(), looked_into: 0 };
    search.collect(&index, 1)?;
    let mut found = search.found;
    found.retain(is_meant);
    let matching: Vec<_> = found.iter().filter(|one| matches(one, architecture)).cloned().collect();
    if !matching.is_empty() {
        found = matching;
    }
    found.dedup_by(|one, other| one.digest() == other.digest());
    match found.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(StoredError::NotAnImage { path: store.path().to_owned(), reason: "its index names no image" }),
        several if several.iter().any(|one| matches(one, architecture)) => {
            let names = several.iter().map(|one| names::of(one).unwrap_or(one.digest().as_ref()).to_owned()).collect();
            Err(StoredError::Several { path: store.path().to_owned(), names })
        }
        others => {
            let architectures = others
                .iter()
                .filter_map(|one| one.platform().as_ref())
                .map(|platform| format!("{}/{}", platform.os(), platform.architecture()));
            Err(StoredError::Architecture {
                path: store.path().to_owned(),
                wanted: format!("linux/{architecture}"),
                found: architectures.collect::<Vec<_>>().join(", "),
            })
        }
    }
}

/// The manifests of images below an index.
struct Search<'a> {
    store: &'a Store,
    found: Vec<Descriptor>,
    looked_into: usize,
}

// === impl Search ===

impl Search<'_> {
    fn collect(&mut self, index: &ImageIndex, depth: usize) -> Result<(), StoredError> {
        self.looked_into += 1;
        if depth > MAX_DEPTH || self.looked_into > MAX_INDEXES {
            let reason = "its indexes are nested too deep, or too many".to_owned();
            return Err(StoredError::Invalid { path: self.store.path().to_owned(), what: "index", reason });
        }
        for descriptor in index.manifests() {
            match descriptor.media_type() {
                MediaType::ImageManifest => self.found.push(descriptor.clone()),
                MediaType::Other(name) if name == DOCKER_MANIFEST => self.found.push(descriptor.clone()),
                MediaType::ImageIndex => self.descend(descriptor, depth)?,
                MediaType::Other(name) if name == DOCKER_INDEX => self.descend(descriptor, depth)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn descend(&mut self, descriptor: &Descriptor, depth: usize) -> Result<(), StoredError> {
        let inner = document(self.store, descriptor, MAX_DOCUMENT_BYTES)?;
        let inner: ImageIndex = parse(self.store, "index", &inner)?;
        self.collect(&inner, depth + 1)
    }
}

/// One that names no platform may be for any: its configuration decides.
fn matches(descriptor: &Descriptor, architecture: &Arch) -> bool {
    let platform = descriptor.platform().as_ref();
    platform.is_none_or(|platform| *platform.os() == Os::Linux && platform.architecture() == architecture)
}
