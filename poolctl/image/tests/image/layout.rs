//! Reads an image layout as the specification describes it, with nothing of the crate under test.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::Path;

use flate2::read::GzDecoder;
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType, OciLayout};
use sha2::{Digest, Sha256};

/// A layout whose every document has been read and every digest compared.
pub(crate) struct Layout {
    pub(crate) index: ImageIndex,
    pub(crate) manifest: ImageManifest,
    pub(crate) config: ImageConfiguration,
    pub(crate) layers: Vec<Vec<Entry>>,
}

/// An entry of a layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Entry {
    pub(crate) path: String,
    pub(crate) kind: tar::EntryType,
    pub(crate) mode: u32,
    pub(crate) owner: (u64, u64),
    pub(crate) mtime: u64,
    pub(crate) content: Vec<u8>,
    pub(crate) target: Option<String>,
}

/// The files of a folder, by path.
pub(crate) fn files_of(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut files = BTreeMap::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(next) = folders.pop() {
        for entry in fs::read_dir(next).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else {
                let name = path.strip_prefix(folder).unwrap().to_str().unwrap().to_owned();
                files.insert(name, fs::read(path).unwrap());
            }
        }
    }
    files
}

/// The files of an archive, by path.
pub(crate) fn files_in(archive: &Path) -> BTreeMap<String, Vec<u8>> {
    let mut archive = tar::Archive::new(File::open(archive).unwrap());
    let mut files = BTreeMap::new();
    for entry in archive.entries().unwrap() {
        let mut entry = entry.unwrap();
        if entry.header().entry_type().is_file() {
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            files.insert(entry.path().unwrap().to_str().unwrap().to_owned(), content);
        }
    }
    files
}

pub(crate) fn sha256(content: &[u8]) -> String {
    Sha256::digest(content).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads the image of this name, and checks all that the specification says about digests and sizes.
pub(crate) fn read(files: &BTreeMap<String, Vec<u8>>, name: &str) -> Layout {
    let layout: OciLayout = serde_json::from_slice(&files["oci-layout"]).unwrap();
    assert_eq!(layout.image_layout_version(), "1.0.0");
    for (path, content) in files.iter().filter(|(path, _)| path.starts_with("blobs/")) {
        assert_eq!(*path, format!("blobs/sha256/{}", sha256(content)));
    }
    let blob = |descriptor: &Descriptor| {
        let content = &files[&format!("blobs/sha256/{}", descriptor.digest().digest())];
        assert_eq!(content.len() as u64, descriptor.size());
        content.clone()
    };
    let index: ImageIndex = serde_json::from_slice(&files["index.json"]).unwrap();
    assert_eq!(index.schema_version(), 2);
    let named = |descriptor: &&Descriptor| {
        let annotations = descriptor.annotations().as_ref().unwrap();
        annotations.get("io.containerd.image.name").is_some_and(|found| found == name)
    };
    let descriptor = index.manifests().iter().find(named).unwrap();
    assert_eq!(*descriptor.media_type(), MediaType::ImageManifest);
    let manifest: ImageManifest = serde_json::from_slice(&blob(descriptor)).unwrap();
    assert_eq!(manifest.schema_version(), 2);
    assert_eq!(*manifest.config().media_type(), MediaType::ImageConfig);
    let config: ImageConfiguration = serde_json::from_slice(&blob(manifest.config())).unwrap();
    let layers = manifest.layers().iter().zip(config.rootfs().diff_ids()).map(|(layer, diff_id)| {
        let stored = blob(layer);
        let tar = match layer.media_type() {
            MediaType::ImageLayer => stored,
            MediaType::ImageLayerGzip => {
                let mut tar = Vec::new();
                GzDecoder::new(stored.as_slice()).read_to_end(&mut tar).unwrap();
                tar
            }
            other => panic!("a layer of the type {other}"),
        };
        assert_eq!(*diff_id, format!("sha256:{}", sha256(&tar)));
        entries(&tar)
    });
    let layers: Vec<_> = layers.collect();
    assert_eq!(layers.len(), manifest.layers().len());
    assert_eq!(layers.len(), config.rootfs().diff_ids().len());
    let shown = config.history().iter().flatten().filter(|entry| entry.empty_layer() != Some(true)).count();
    assert_eq!(shown, layers.len(), "the history has an entry for each layer");
    Layout { layers, index: index.clone(), manifest, config }
}

fn entries(tar: &[u8]) -> Vec<Entry> {
    let mut archive = tar::Archive::new(tar);
    let entries = archive.entries().unwrap().map(|entry| {
        let mut entry = entry.unwrap();
        let mut content = Vec::new();
        entry.read_to_end(&mut content).unwrap();
        let header = entry.header();
        Entry {
            path: entry.path().unwrap().to_str().unwrap().to_owned(),
            kind: header.entry_type(),
            mode: header.mode().unwrap(),
            owner: (header.uid().unwrap(), header.gid().unwrap()),
            mtime: header.mtime().unwrap(),
            target: entry.link_name().unwrap().map(|target| target.to_str().unwrap().to_owned()),
            content,
        }
    });
    entries.collect()
}
