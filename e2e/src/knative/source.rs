//! Where Knative Serving comes from.

use std::path::{Path, PathBuf};

use super::Error;
use crate::components::{Binaries, Cache, Component};
use crate::images::{self, Image};
use crate::process::Progress;

/// Repository of the images.
const REPOSITORY: &str = "serving";

/// Knative's programs that run in the cluster.
const PROGRAMS: [&str; 5] = ["activator", "autoscaler", "controller", "queue", "webhook"];

/// A Knative Serving to install: its programs and its YAML.
///
/// Both kinds have one layout: static programs `activator`, `autoscaler`, `controller`, `queue` and `webhook` in a folder, and all
/// `*.yaml` files below its folder `config`, in any order and depth.
#[derive(Clone, Debug)]
pub struct KnativeSource {
    dir: PathBuf,
    images: Images,
}

/// Where the images are.
#[derive(Clone, Debug)]
enum Images {
    Made(Vec<Image>),
    /// To be made into this folder.
    Into(PathBuf),
}

// === impl KnativeSource ===

impl KnativeSource {
    /// The pinned release. Blocking: its images are made now where the cache lacks them.
    ///
    /// # Errors
    /// When [`Component::Knative`] is not among `binaries` or an image cannot be made.
    pub fn released(cache: &Cache, binaries: &Binaries, progress: &Progress) -> Result<Self, images::Error> {
        let made = images::of_component(cache, binaries, Component::Knative, REPOSITORY, progress)?;
        let dir = binaries.dir(Component::Knative).ok_or(images::Error::NotBuilt(Component::Knative))?;
        Ok(Self { dir: dir.to_owned(), images: Images::Made(made) })
    }

    /// Another release, from a folder; archives of its images go to the folder `archives`.
    ///
    /// # Errors
    /// When the folder lacks a program or has no YAML; says what belongs there.
    pub fn folder(dir: &Path, archives: &Path) -> Result<Self, Error> {
        let wrong = |reason| Error::Source { dir: dir.to_owned(), reason };
        let lacking: Vec<&str> = PROGRAMS.into_iter().filter(|program| !dir.join(program).is_file()).collect();
        if !lacking.is_empty() {
            let build = "CGO_ENABLED=0 go build -o FOLDER ./cmd/{activator,autoscaler,controller,queue,webhook}";
            return Err(wrong(format!("no program {} in it (in Knative's repository: {build})", lacking.join(", "))));
        }
        let config = dir.join("config");
        if !config.is_dir() {
            let copy = "cp -rL config/core FOLDER/config";
            return Err(wrong(format!("no folder config with its YAML in it (in Knative's repository: {copy})")));
        }
        Ok(Self { dir: dir.to_owned(), images: Images::Into(archives.to_owned()) })
    }

    /// Its images. Blocking: those of a folder are made now, each time, as nobody knows whether its programs changed.
    ///
    /// # Errors
    /// When one cannot be made.
    pub fn images(&self) -> Result<Vec<Image>, images::Error> {
        let archives = match &self.images {
            Images::Made(made) => return Ok(made.clone()),
            Images::Into(archives) => archives,
        };
        let made = PROGRAMS.into_iter().map(|program| {
            let image = Image { reference: image_of(program), archive: archives.join(format!("{program}.tar")) };
            images::write(&image.reference, &self.dir.join(program), &image.archive)?;
            Ok(image)
        });
        made.collect()
    }

    /// Its YAML files, in a fixed order.
    pub(super) fn files(&self) -> Result<Vec<PathBuf>, Error> {
        let config = self.dir.join("config");
        let mut files = Vec::new();
        let failed = |source: std::io::Error| Error::Source { dir: self.dir.clone(), reason: source.to_string() };
        yaml_below(&config, &mut files).map_err(failed)?;
        files.sort();
        Ok(files)
    }
}

/// Name of the image of one of Knative's programs; `None` for any other.
pub(super) fn image_of_program(program: &str) -> Option<String> {
    PROGRAMS.contains(&program).then(|| image_of(program))
}

fn image_of(program: &str) -> String {
    images::reference(REPOSITORY, program)
}

fn yaml_below(dir: &Path, found: &mut Vec<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() {
            yaml_below(&path, found)?;
        } else if path.extension().is_some_and(|extension| extension == "yaml") {
            found.push(path);
        }
    }
    Ok(())
}
