//! A program with everything that it needs to run in an image: shared libraries and the dynamic loader.
//!
//! They go into a folder of their own, and the program is started through its loader with that folder as the place to
//! look for libraries. So it runs in an image that has nothing else, and on any base image, whatever C library the base
//! has: neither sees the other's.

mod error;
mod machine;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::env;
use std::path::{Path, PathBuf};

use lddtree::{DependencyAnalyzer, DependencyTree, ld_so_conf};
use oci_spec::image::Arch;

pub use error::ProgramError;

use crate::{Attributes, Layer};

/// A program and the shared libraries that it needs.
#[derive(Clone, Debug)]
pub struct Program {
    path: PathBuf,
    /// What it is called in the image.
    name: String,
    architecture: Arch,
    /// File name of the dynamic loader, which is one of the libraries; a static program has none.
    loader: Option<String>,
    /// Where each library is, by the name that it is looked for.
    libraries: BTreeMap<String, PathBuf>,
}

// === impl Program ===

impl Program {
    /// Finds what the program at `path` needs, as its dynamic loader would: by RPATH and RUNPATH, `LD_LIBRARY_PATH`, the
    /// folders of `/etc/ld.so.conf` and the usual ones. Nothing is run.
    ///
    /// # Errors
    /// It is no ELF program, or a library that it needs is not there.
    pub fn open(path: &Path) -> Result<Self, ProgramError> {
        let architecture = machine::of(path)?;
        let tree = analyze(path)?;
        let loader = tree.interpreter.as_deref().and_then(|interpreter| interpreter.rsplit('/').next());
        let mut program = Self {
            path: path.to_owned(),
            name: path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
            architecture,
            loader: loader.map(str::to_owned),
            libraries: BTreeMap::new(),
        };
        program.add(path, &tree)?;
        Ok(program)
    }

    /// Adds a library that the program loads by itself as it runs, under the name `name`, and what that library needs.
    ///
    /// # Errors
    /// It is no library for the program's machine, or one that it needs is not there.
    pub fn and_library(mut self, name: &str, path: &Path) -> Result<Self, ProgramError> {
        let architecture = machine::of(path)?;
        if architecture != self.architecture {
            return Err(ProgramError::OtherMachine {
                library: path.to_owned(),
                its: architecture.to_string(),
                program: self.path,
                wanted: self.architecture.to_string(),
            });
        }
        self.add(path, &analyze(path)?)?;
        self.libraries.insert(name.to_owned(), path.to_owned());
        Ok(self)
    }

    /// The machines that it runs on.
    #[must_use]
    pub fn architecture(&self) -> &Arch {
        &self.architecture
    }

    /// Where each library is, by the name that it is looked for.
    #[must_use]
    pub fn libraries(&self) -> &BTreeMap<String, PathBuf> {
        &self.libraries
    }

    /// Calls it something else in the image than here.
    #[must_use]
    pub fn named(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// Puts the program into `FOLDER/bin` of a layer.
    #[must_use]
    pub fn add_program(&self, layer: Layer, folder: &str) -> Layer {
        layer.file(self.path_in(folder), &self.path, Attributes::EXECUTABLE)
    }

    /// Puts its libraries and its loader into `FOLDER/lib` of a layer.
    #[must_use]
    pub fn add_libraries(&self, layer: Layer, folder: &str) -> Layer {
        self.libraries
            .iter()
            .fold(layer, |layer, (name, path)| layer.file(format!("{folder}/lib/{name}"), path, Attributes::EXECUTABLE))
    }

    /// The command that starts it there.
    #[must_use]
    pub fn command(&self, folder: &str) -> Vec<String> {
        let program = self.path_in(folder);
        match &self.loader {
            None => vec![program],
            Some(loader) => {
                let libraries = format!("{folder}/lib");
                vec![format!("{libraries}/{loader}"), "--library-path".to_owned(), libraries, program]
            }
        }
    }

    fn path_in(&self, folder: &str) -> String {
        format!("{folder}/bin/{}", self.name)
    }

    fn add(&mut self, path: &Path, tree: &DependencyTree) -> Result<(), ProgramError> {
        for (name, library) in &tree.libraries {
            if name.contains('/') {
                return Err(ProgramError::NeededByPath { path: path.to_owned(), library: name.clone() });
            }
            match &library.realpath {
                // the one that the program itself brings is loaded before, and stays
                Some(realpath) => {
                    self.libraries.entry(name.clone()).or_insert_with(|| realpath.clone());
                }
                None => return Err(missing(path, tree, name)),
            }
        }
        Ok(())
    }
}

fn analyze(path: &Path) -> Result<DependencyTree, ProgramError> {
    DependencyAnalyzer::default()
        .analyze(path)
        .map_err(|error| ProgramError::Unreadable { path: path.to_owned(), reason: error.to_string() })
}

/// Says who needs the library and where it was looked for.
fn missing(path: &Path, tree: &DependencyTree, name: &str) -> ProgramError {
    let needs = |needed: &[String]| needed.iter().any(|one| one == name);
    let by = tree.libraries.values().find(|library| needs(&library.needed));
    let (needed_by, run_path) = match by {
        Some(library) => (library.realpath.clone().unwrap_or_else(|| library.path.clone()), &library.rpath),
        None => (path.to_owned(), &tree.rpath),
    };
    let looked_in: Vec<PathBuf> = run_path.iter().map(PathBuf::from).chain(usual_folders()).collect();
    let unfit = looked_in.iter().map(|folder| folder.join(name)).find(|file| file.is_file());
    ProgramError::MissingLibrary { library: name.to_owned(), needed_by, looked_in, unfit }
}

/// Where the dynamic loader looks for every program.
#[must_use]
pub fn usual_folders() -> Vec<PathBuf> {
    let environment = env::var_os("LD_LIBRARY_PATH").unwrap_or_default();
    let configured = ld_so_conf::parse_ld_so_conf("/etc/ld.so.conf", "/").unwrap_or_default();
    let trusted = ["/lib", "/lib64", "/usr/lib", "/usr/lib64"].map(PathBuf::from);
    let named = env::split_paths(&environment).filter(|folder| !folder.as_os_str().is_empty());
    named.chain(configured.into_iter().map(PathBuf::from)).chain(trusted).collect()
}
