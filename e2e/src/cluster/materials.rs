//! What a cluster is made of: programs, images and YAML. Gathered outside, where the network is, and found again inside.

use std::path::{Path, PathBuf};

use anyhow::Context as _;

use super::settings::Place;
use crate::components::{Binaries, Cache, Component};
use crate::images;
use crate::knative::KnativeSource;
use crate::process::Progress;

/// The components of every cluster.
const COMPONENTS: &[Component] = &[
    Component::Etcd,
    Component::Kubernetes,
    Component::KubernetesNode,
    Component::Containerd,
    Component::CoreDns,
    Component::Pause,
];

/// Everything that a cluster is made of.
#[derive(Debug)]
pub(super) struct Materials {
    /// The programs.
    pub(super) binaries: Binaries,
    /// Archives of the images of the cluster itself.
    pub(super) images: Vec<PathBuf>,
    /// Knative.
    pub(super) knative: KnativeSource,
}

// === impl Materials ===

impl Materials {
    /// Builds what the cache lacks. Knative is the pinned release, or that of a folder. Where all is there it takes milliseconds.
    ///
    /// # Errors
    /// When something cannot be built, or the folder is not as it has to be.
    pub(super) async fn gather(place: &Place, knative_dir: Option<&Path>, progress: &Progress) -> anyhow::Result<Self> {
        let cache = Cache::open()?;
        let mut components = COMPONENTS.to_owned();
        if knative_dir.is_none() {
            components.push(Component::Knative);
        }
        let binaries = cache.ensure(&components, progress).await?;
        let images = images::cluster(&cache, &binaries, progress).await?;
        let knative = tokio::task::block_in_place(|| match knative_dir {
            Some(dir) => KnativeSource::folder(dir, &place.data("knative-images")).map_err(anyhow::Error::new),
            None => KnativeSource::released(&cache, &binaries, progress).map_err(anyhow::Error::new),
        })?;
        Ok(Self { binaries, images, knative })
    }

    /// Archives of all images, those of a folder with Knative made now.
    ///
    /// # Errors
    /// When one cannot be made.
    pub(super) fn archives(&self) -> anyhow::Result<Vec<PathBuf>> {
        let knative = tokio::task::block_in_place(|| self.knative.images()).context("cannot make Knative's images")?;
        Ok(self.images.iter().cloned().chain(knative.into_iter().map(|image| image.archive)).collect())
    }
}
