//! The description of an image, and how it is written.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use oci_spec::image::{
    Arch, Descriptor, History, HistoryBuilder, ImageConfiguration, ImageManifest, ImageManifestBuilder, MediaType, Os,
    Platform, RootFs,
};

use crate::blob::{Sum, Summing};
use crate::config::RunConfig;
use crate::destination::{ArchiveWriter, Destination, Finished, LayoutWriter, SCHEMA_VERSION};
use crate::layer::{Plan, write_tar};
use crate::{
    Compression, ImageError, ImageSummary, Layer, LayerOrigin, LayerSummary, Reference, Scratch, StoredImage, document,
    names,
};

/// When everything was made: an image says the same whenever it is made.
const EPOCH: &str = "1970-01-01T00:00:00Z";

/// An image to be written: layers, and what is run.
#[derive(Clone, Debug)]
pub struct ImageBuilder {
    base: Option<StoredImage>,
    architecture: Arch,
    layers: Vec<Layer>,
    compression: Compression,
    run: RunConfig,
    annotations: BTreeMap<String, String>,
    scratch: Scratch,
}

/// What a manifest and a configuration say of a layer.
struct Written {
    descriptor: Descriptor,
    diff_id: String,
    origin: LayerOrigin,
    /// What it adds to the history; a base's layers are in there already.
    history: Option<History>,
}

// === impl ImageBuilder ===

impl ImageBuilder {
    /// An image for Linux on `architecture`.
    #[must_use]
    pub fn new(architecture: Arch) -> Self {
        Self {
            base: None,
            architecture,
            layers: Vec::new(),
            compression: Compression::default(),
            run: RunConfig::default(),
            annotations: BTreeMap::new(),
            scratch: Scratch::new(),
        }
    }

    /// An image for machines like this one.
    #[must_use]
    pub fn for_host() -> Self {
        Self::new(Arch::default())
    }

    /// An image on the layers of another, whose settings it has where it gets none of its own.
    #[must_use]
    pub fn on(base: StoredImage) -> Self {
        let architecture = base.configuration().architecture().clone();
        Self { base: Some(base), ..Self::new(architecture) }
    }

    /// Puts a layer on top.
    #[must_use]
    pub fn layer(mut self, layer: Layer) -> Self {
        self.layers.push(layer);
        self
    }

    /// How the layers that are added are compressed: gzip 6 unless said otherwise.
    #[must_use]
    pub fn compression(mut self, compression: Compression) -> Self {
        self.compression = compression;
        self
    }

    /// The program and its first arguments. The base's arguments (`cmd`) are dropped, as they were for its own program.
    #[must_use]
    pub fn entrypoint<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.run.entrypoint = Some(arguments.into_iter().map(Into::into).collect());
        self
    }

    /// Arguments behind the entrypoint, in whose place whoever runs the image may put others.
    #[must_use]
    pub fn cmd<T: Into<String>>(mut self, arguments: impl IntoIterator<Item = T>) -> Self {
        self.run.cmd = Some(arguments.into_iter().map(Into::into).collect());
        self
    }

    /// Sets a variable of the environment.
    #[must_use]
    pub fn env(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.run.env.insert(name.into(), value.into());
        self
    }

    /// Leaves a variable of the base out.
    #[must_use]
    pub fn without_env(mut self, name: impl Into<String>) -> Self {
        self.run.unset_env.insert(name.into());
        self
    }

    /// Who it runs as: `UID:GID`. Kubernetes wants numbers to know that it is not root.
    #[must_use]
    pub fn user(mut self, user: impl Into<String>) -> Self {
        self.run.user = Some(user.into());
        self
    }

    /// Sets a label, which tools show and select by.
    #[must_use]
    pub fn label(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.run.labels.insert(name.into(), value.into());
        self
    }

    /// Leaves a label of the base out.
    #[must_use]
    pub fn without_label(mut self, name: impl Into<String>) -> Self {
        self.run.unset_labels.insert(name.into());
        self
    }

    /// Sets an annotation of the manifest.
    #[must_use]
    pub fn annotation(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.annotations.insert(name.into(), value.into());
        self
    }

    /// The folder that it starts in.
    #[must_use]
    pub fn working_dir(mut self, path: impl Into<String>) -> Self {
        self.run.working_dir = Some(path.into());
        self
    }

    /// A TCP port that it listens on.
    #[must_use]
    pub fn port(mut self, port: u16) -> Self {
        self.run.ports.push(format!("{port}/tcp"));
        self
    }

    /// The signal that asks it to stop, e.g. `SIGINT`.
    #[must_use]
    pub fn stop_signal(mut self, signal: impl Into<String>) -> Self {
        self.run.stop_signal = Some(signal.into());
        self
    }

    /// Lists what is not complete there, for a process that removes it when it is told to stop.
    #[must_use]
    pub fn scratch(mut self, scratch: Scratch) -> Self {
        self.scratch = scratch;
        self
    }

    /// Writes the image as one tar file: an image layout that `ctr images import` and `docker load` take.
    ///
    /// The file has its name once it is complete. What a process that was killed left over beside it is removed. Blocking.
    ///
    /// # Errors
    /// A layer is impossible, a source cannot be read or the output cannot be written.
    pub fn write_archive(&self, path: &Path, reference: &Reference) -> Result<ImageSummary, ImageError> {
        self.write(ArchiveWriter::create(path, &self.scratch)?, reference)
    }

    /// Writes the image as an OCI image layout: into a new or empty folder, or as one image more into a layout.
    ///
    /// The index names it once it is complete. What a process that was killed left over is removed.
    ///
    /// # Errors
    /// A layer is impossible, a source cannot be read or the output cannot be written.
    pub fn write_layout(&self, folder: &Path, reference: &Reference) -> Result<ImageSummary, ImageError> {
        self.write(LayoutWriter::create(folder, &self.scratch)?, reference)
    }

    fn write<D: Destination>(&self, mut to: D, reference: &Reference) -> Result<ImageSummary, ImageError> {
        let annotations = names::annotations(reference)?;
        let plans = self.layers.iter().map(Plan::new).collect::<Result<Vec<_>, _>>()?;
        let mut layers = match &self.base {
            Some(base) => copy_layers(&mut to, base)?,
            None => Vec::new(),
        };
        for (layer, plan) in self.layers.iter().zip(&plans) {
            layers.push(self.write_layer(&mut to, layer, plan)?);
        }
        let config = self.configuration(&layers);
        let config = blob_of(&mut to, MediaType::ImageConfig, &document::bytes(&config))?;
        let descriptors: Vec<_> = layers.iter().map(|layer| layer.descriptor.clone()).collect();
        let manifest = document::bytes(&self.manifest(&config, descriptors.clone()));
        let mut manifest = blob_of(&mut to, MediaType::ImageManifest, &manifest)?;
        manifest.set_annotations(Some(annotations));
        manifest.set_platform(Some(self.platform()));
        let summary = self.summary(reference, &manifest, &config, &layers);
        to.finish(&Finished { reference, manifest, config: &config, layers: &descriptors })?;
        Ok(summary)
    }

    fn write_layer<D: Destination>(&self, to: &mut D, layer: &Layer, plan: &Plan<'_>) -> Result<Written, ImageError> {
        let output = to.path().to_owned();
        let (stored, tar) = to.blob(|out| {
            self.compression.through(
                out,
                |out| {
                    let mut tar = Summing::new(out);
                    write_tar(plan, &mut tar, &output)?;
                    Ok(tar.finish())
                },
                &output,
            )
        })?;
        let history = HistoryBuilder::default().created(EPOCH).created_by("poolctl").comment(layer.comment()).build();
        Ok(Written {
            descriptor: stored.descriptor(self.compression.media_type()),
            diff_id: tar.digest(),
            origin: LayerOrigin::Added,
            history: Some(history.expect("every field is optional")),
        })
    }

    fn configuration(&self, layers: &[Written]) -> ImageConfiguration {
        let mut configuration = match &self.base {
            Some(base) => base.configuration().clone(),
            None => ImageConfiguration::default(),
        };
        let base = configuration.config().clone().unwrap_or_default();
        let mut history = configuration.history().clone().unwrap_or_default();
        history.extend(layers.iter().filter_map(|layer| layer.history.clone()));
        let mut root = RootFs::default();
        root.set_diff_ids(layers.iter().map(|layer| layer.diff_id.clone()).collect());
        configuration
            .set_created(Some(EPOCH.to_owned()))
            .set_architecture(self.architecture.clone())
            .set_os(Os::Linux)
            .set_config(Some(self.run.over(base)))
            .set_rootfs(root)
            .set_history(Some(history));
        configuration
    }

    fn manifest(&self, config: &Descriptor, layers: Vec<Descriptor>) -> ImageManifest {
        let mut manifest = ImageManifestBuilder::default()
            .schema_version(SCHEMA_VERSION)
            .media_type(MediaType::ImageManifest)
            .config(config.clone())
            .layers(layers);
        if !self.annotations.is_empty() {
            manifest = manifest.annotations(HashMap::from_iter(self.annotations.clone()));
        }
        manifest.build().expect("its four required fields are set")
    }

    fn platform(&self) -> Platform {
        let mut platform = Platform::default();
        platform.set_architecture(self.architecture.clone()).set_os(Os::Linux);
        platform.set_variant(self.base.as_ref().and_then(|base| base.configuration().variant().clone()));
        platform
    }

    fn summary(
        &self,
        reference: &Reference,
        manifest: &Descriptor,
        config: &Descriptor,
        layers: &[Written],
    ) -> ImageSummary {
        let stored: u64 = layers.iter().map(|layer| layer.descriptor.size()).sum();
        ImageSummary {
            reference: reference.whole(),
            digest: manifest.digest().to_string(),
            config: config.digest().to_string(),
            platform: format!("linux/{}", self.architecture),
            bytes: manifest.size() + config.size() + stored,
            layers: layers.iter().map(Written::summary).collect(),
        }
    }
}

impl Written {
    fn summary(&self) -> LayerSummary {
        LayerSummary {
            digest: self.descriptor.digest().to_string(),
            diff_id: self.diff_id.clone(),
            bytes: self.descriptor.size(),
            media_type: self.descriptor.media_type().clone(),
            origin: self.origin,
            comment: self.history.as_ref().and_then(|history| history.comment().clone()),
        }
    }
}

fn copy_layers<D: Destination>(to: &mut D, base: &StoredImage) -> Result<Vec<Written>, ImageError> {
    let output = to.path().to_owned();
    let mut written = Vec::new();
    for (layer, diff_id) in base.layers()?.into_iter().zip(base.configuration().rootfs().diff_ids()) {
        let failed = |error| ImageError::Output { path: output.clone(), error };
        to.blob(|out| base.copy_blob(&layer, out, failed))?;
        let diff_id = diff_id.clone();
        written.push(Written { descriptor: layer, diff_id, origin: LayerOrigin::Base, history: None });
    }
    Ok(written)
}

fn blob_of<D: Destination>(to: &mut D, media_type: MediaType, content: &[u8]) -> Result<Descriptor, ImageError> {
    let path = to.path().to_owned();
    let (sum, ()): (Sum, ()) =
        to.blob(|out| out.write_all(content).map_err(|error| ImageError::Output { path: path.clone(), error }))?;
    Ok(sum.descriptor(media_type))
}
