//! Container images of the cluster's programs, made without a registry.
//!
//! An image is one static program and the few folders that programs expect. Names are below `dev.local`, a registry that exists
//! nowhere: Knative asks no registry about it (`registries-skipping-tag-resolving`), and the tag is not `latest`, so Kubernetes
//! takes what containerd has. Images are kept as archives for `ctr images import`, beside the binaries they are made of.

#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};

use poolctl_image::{Attributes, Compression, ImageBuilder, ImageError, Layer, Reference};

use crate::components::{Binaries, Cache, Component};
use crate::process::Progress;

/// The registry of all images here.
pub const REGISTRY: &str = "dev.local";

/// The tag of all images here.
pub const TAG: &str = "v1";

/// The image of the pods' sandbox.
pub const PAUSE: &str = "dev.local/pause:v1";

/// The image of the DNS server; its entry point is the server.
pub const COREDNS: &str = "dev.local/coredns:v1";

/// Who the programs run as: not root, and by number, as Kubernetes cannot tell from a name.
const USER: &str = "65532:65532";

/// Changes when an image of the same program is made differently, so that no cached archive of the old form is used.
const FORM: &str = "1";

/// An image in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Image {
    /// What pods call it, such as `dev.local/coredns:v1`.
    pub reference: String,
    /// The archive, an OCI image layout in a tar file.
    pub archive: PathBuf,
}

/// Why an image could not be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The name is none.
    #[error("{name} cannot be the name of an image: {reason}")]
    Name {
        /// As asked for.
        name: String,
        /// What is wrong with it.
        reason: String,
    },
    /// It cannot be written.
    #[error("the image {name} could not be made: {source}")]
    Write {
        /// Its name.
        name: String,
        /// Why.
        source: ImageError,
    },
    /// The folder for archives cannot be made.
    #[error("{} cannot be made: {source}", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Programs of a component that was not ensured.
    #[error("images of {0} were asked for before its programs were built")]
    NotBuilt(Component),
}

/// The name of the image of `program` in `repository` (may be empty): `dev.local/serving/queue:v1`.
pub fn reference(repository: &str, program: &str) -> String {
    let separator = if repository.is_empty() { "" } else { "/" };
    format!("{REGISTRY}/{repository}{separator}{program}:{TAG}")
}

/// Archives of the images that any cluster needs, [`PAUSE`] and [`COREDNS`].
///
/// # Errors
/// When a program is not built or an image cannot be written.
pub async fn cluster(cache: &Cache, binaries: &Binaries, progress: &Progress) -> Result<Vec<PathBuf>, Error> {
    let (cache, binaries, progress) = (cache.clone(), binaries.clone(), progress.clone());
    let made = tokio::task::spawn_blocking(move || {
        let mut images = of_component(&cache, &binaries, Component::Pause, "", &progress)?;
        images.extend(of_component(&cache, &binaries, Component::CoreDns, "", &progress)?);
        Ok(images.into_iter().map(|image| image.archive).collect())
    });
    made.await.expect("making images does not panic and is not cancelled")
}

/// An image of each program of `component`, test suites (`*.test`) excepted, in `repository`. Blocking; what the cache has is not
/// made again.
///
/// # Errors
/// When the component is not built or an image cannot be written.
pub fn of_component(
    cache: &Cache,
    binaries: &Binaries,
    component: Component,
    repository: &str,
    progress: &Progress,
) -> Result<Vec<Image>, Error> {
    let dir = binaries.dir(component).ok_or(Error::NotBuilt(component))?;
    let key = dir.file_name().unwrap_or_default();
    let kept = cache.root().join("images").join(component.name()).join(key);
    let mut images = Vec::new();
    for program in binaries.programs(component).filter(|program| !program.ends_with(".test")) {
        let archive = kept.join(archive_name(repository, program));
        let reference = reference(repository, program);
        if !archive.is_file() {
            progress.say(&format!("making the image {reference}"));
            write(&reference, &dir.join(program), &archive)?;
        }
        images.push(Image { reference, archive });
    }
    Ok(images)
}

/// Writes the image called `name` of the static `program` as an archive. Blocking; the file is there once it is complete.
///
/// The program lies and is started where ko, Knative's own builder, puts it, which Knative's suites rely on: `/ko-app/PROGRAM`.
///
/// # Errors
/// When the name is none, the program cannot be read or the archive cannot be written.
pub fn write(name: &str, program: &Path, archive: &Path) -> Result<(), Error> {
    let reference: Reference = name.parse().map_err(|reason: poolctl_image::ReferenceError| Error::Name {
        name: name.to_owned(),
        reason: reason.to_string(),
    })?;
    if let Some(folder) = archive.parent() {
        let failed = |source| Error::Folder { path: folder.to_owned(), source };
        std::fs::create_dir_all(folder).map_err(failed)?;
    }
    let file = program.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let path = format!("/ko-app/{file}");
    let layer = Layer::new(format!("{file} and the folders that programs expect"))
        .file(&path, program, Attributes::EXECUTABLE)
        .folder("/tmp", Attributes { mode: 0o1777, ..Attributes::FOLDER })
        .folder("/home/nonroot", Attributes::FOLDER.owner(65532, 65532))
        .bytes("/etc/passwd", PASSWD, Attributes::DATA)
        .bytes("/etc/group", GROUP, Attributes::DATA);
    let written = ImageBuilder::for_host()
        // It stays on this machine: inflating it would only make its import slower.
        .compression(Compression::None)
        .layer(layer)
        .entrypoint([path])
        .env("PATH", "/ko-app")
        .env("HOME", "/home/nonroot")
        .user(USER)
        .working_dir("/")
        .write_archive(archive, &reference);
    written.map_err(|source| Error::Write { name: name.to_owned(), source })?;
    Ok(())
}

const PASSWD: &str = "root:x:0:0:root:/root:/sbin/nologin\nnonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n";
const GROUP: &str = "root:x:0:\nnonroot:x:65532:\n";

fn archive_name(repository: &str, program: &str) -> String {
    let repository = repository.replace('/', "-");
    format!("{FORM}-{repository}-{program}.tar")
}
