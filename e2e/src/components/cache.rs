//! Where built components are kept, outside the checkout: `bin/<component>/<version-key>/`.
//!
//! A folder of that name is complete: a build happens in a folder beside it, which gets the name when all is there. A lock file
//! per component keeps two processes from building the same.

use std::collections::BTreeMap;
use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::build::Build;
use super::catalog;
use super::module::GoModule;
use super::plan::Plan;
use super::toolchain::{self, Toolchain};
use super::{Component, Error};
use crate::process::Progress;

/// Start of the name of a folder in which a build happens.
const PARTIAL: &str = ".partial-";

/// How often a lock that another process holds is tried.
const RETRY: Duration = Duration::from_millis(200);

/// The cache of built components.
#[derive(Clone, Debug)]
pub struct Cache {
    root: PathBuf,
    modules: PathBuf,
}

/// Components that are built.
#[derive(Clone, Debug)]
pub struct Binaries {
    dirs: BTreeMap<Component, Built>,
}

/// A component in the cache.
#[derive(Clone, Debug)]
struct Built {
    dir: PathBuf,
    version: String,
    programs: Vec<String>,
}

// === impl Cache ===

impl Cache {
    /// The user's: `$KFERVING_CACHE`, else `$XDG_CACHE_HOME/kferving`, else `~/.cache/kferving`. It is made when it is written.
    ///
    /// # Errors
    /// When none of the three variables is set.
    pub fn open() -> Result<Self, Error> {
        let set = |name| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        let root = set("KFERVING_CACHE")
            .or_else(|| set("XDG_CACHE_HOME").map(|dir| dir.join("kferving")))
            .or_else(|| set("HOME").map(|dir| dir.join(".cache/kferving")));
        Ok(Self::at(&root.ok_or(Error::NoCache)?, &Path::new(env!("CARGO_MANIFEST_DIR")).join("components")))
    }

    /// A cache in the folder `root`, of the Go modules in the folders of `modules`.
    pub fn at(root: &Path, modules: &Path) -> Self {
        Self { root: root.to_owned(), modules: modules.to_owned() }
    }

    /// Its folder. What is derived from built components may be kept there too.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Builds what is not there of `components`, one after another. Where all is there it takes some milliseconds and needs no
    /// network.
    ///
    /// # Errors
    /// Names the component that was not built, with the end of what the compiler said.
    pub async fn ensure(&self, components: &[Component], progress: &Progress) -> Result<Binaries, Error> {
        let installed = toolchain::installed();
        let mut dirs = BTreeMap::new();
        for &component in components {
            dirs.insert(component, self.ensure_one(component, installed.as_deref(), progress).await?);
        }
        Ok(Binaries { dirs })
    }

    async fn ensure_one(
        &self,
        component: Component,
        installed: Option<&str>,
        progress: &Progress,
    ) -> Result<Built, Error> {
        let description = catalog::description(component);
        let dir = self.modules.join(description.module);
        let module = GoModule::read(&dir).map_err(|source| Error::Module { component, source })?;
        let toolchain = Toolchain::choose(module.go, installed, &self.root);
        let plan = Plan::of(description, &module, &toolchain.version).map_err(|what| {
            let source = super::ModuleError::Lacks { path: dir.join("go.mod"), what };
            Error::Module { component, source }
        })?;
        let of_component = self.root.join("bin").join(description.name);
        let built = Built {
            dir: of_component.join(plan.key()),
            version: plan.version.clone(),
            programs: plan.programs.clone(),
        };
        if built.is_complete() {
            return Ok(built);
        }
        std::fs::create_dir_all(&of_component).map_err(io("make", &of_component))?;
        let _lock = lock(component, &of_component.join("lock"), progress).await?;
        if built.is_complete() {
            return Ok(built);
        }
        sweep(&of_component)?;
        let no_go = |reason| Error::NoGo { component, needed: module.go, reason };
        let go = toolchain.program(&self.root, progress).map_err(no_go)?;
        let folder = || {
            let made = tempfile::Builder::new().prefix(PARTIAL).tempdir_in(&of_component);
            made.map_err(io("make a folder in", &of_component))
        };
        let (partial, work) = (folder()?, folder()?);
        let build =
            Build { component, description, plan: &plan, module: &dir, go, into: partial.path(), work: work.path() };
        build.run(progress).await?;
        // Something of this name that lacks a program was damaged from outside.
        if built.dir.exists() {
            std::fs::remove_dir_all(&built.dir).map_err(io("remove", &built.dir))?;
        }
        std::fs::rename(partial.keep(), &built.dir).map_err(io("put in place", &built.dir))?;
        // The folder was made for its owner alone, as temporary ones are; the cache is as readable as the rest of the home.
        let readable = std::os::unix::fs::PermissionsExt::from_mode(0o755);
        std::fs::set_permissions(&built.dir, readable).map_err(io("make readable", &built.dir))?;
        Ok(built)
    }
}

/// Removes what interrupted builds left; the caller holds the lock, so none is under way.
fn sweep(of_component: &Path) -> Result<(), Error> {
    for entry in std::fs::read_dir(of_component).map_err(io("read", of_component))? {
        let entry = entry.map_err(io("read", of_component))?;
        if entry.file_name().as_encoded_bytes().starts_with(PARTIAL.as_bytes()) {
            let path = entry.path();
            std::fs::remove_dir_all(&path).map_err(io("remove", &path))?;
        }
    }
    Ok(())
}

/// Waits for the lock file at `path`. The lock goes with the returned file, so at the latest with the process.
async fn lock(component: Component, path: &Path, progress: &Progress) -> Result<File, Error> {
    let file = File::options().create(true).append(true).open(path).map_err(io("open", path))?;
    let mut waiting = None;
    loop {
        match file.try_lock() {
            Ok(()) => return Ok(file),
            Err(TryLockError::WouldBlock) => {
                let step = waiting.get_or_insert_with(|| progress.step(&format!("waiting for {component}")));
                step.note("another process builds it");
                tokio::time::sleep(RETRY).await;
            }
            Err(TryLockError::Error(source)) => return Err(io("lock", path)(source)),
        }
    }
}

fn io(what: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> Error + use<> {
    let path = path.to_owned();
    move |source| Error::Io { what, path, source }
}

// === impl Built ===

impl Built {
    fn is_complete(&self) -> bool {
        self.programs.iter().all(|program| self.dir.join(program).is_file())
    }
}

// === impl Binaries ===

impl Binaries {
    /// The program of this name, of any of the components.
    ///
    /// # Errors
    /// When none of them has such a program.
    pub fn path(&self, program: &str) -> Result<PathBuf, Error> {
        let has = |built: &&Built| built.programs.iter().any(|name| name == program);
        let built = self.dirs.values().find(has);
        built
            .map(|built| built.dir.join(program))
            .ok_or_else(|| Error::NoProgram { name: program.to_owned(), of: self.dirs.keys().copied().collect() })
    }

    /// Folder with the component's programs and configuration; `None` when the component was not asked for.
    pub fn dir(&self, component: Component) -> Option<&Path> {
        self.dirs.get(&component).map(|built| built.dir.as_path())
    }

    /// Version of the component, such as `v1.36.3`; `None` when it was not asked for.
    pub fn version(&self, component: Component) -> Option<&str> {
        self.dirs.get(&component).map(|built| built.version.as_str())
    }

    /// Names of the component's programs, sorted.
    pub fn programs(&self, component: Component) -> impl Iterator<Item = &str> {
        self.dirs.get(&component).into_iter().flat_map(|built| built.programs.iter().map(String::as_str))
    }
}
