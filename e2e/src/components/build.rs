//! Running a plan: Go's calls one after another, what it says shown, and kept for the error.

use std::ffi::OsString;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use super::catalog::{Description, Files};
use super::plan::{ENVIRONMENT, Plan};
use super::{Component, Error};
use crate::process::{Process, Progress, Step};

/// Lines of Go's output that an error shows: the compiler stops after ten errors in a package, so that is several packages.
const SHOWN: usize = 40;

/// How often what Go said is looked at.
const LOOK: Duration = Duration::from_millis(500);

/// A build that is under way.
pub(super) struct Build<'a> {
    pub(super) component: Component,
    pub(super) description: &'a Description,
    pub(super) plan: &'a Plan,
    /// Folder of the Go module.
    pub(super) module: &'a Path,
    /// The Go to run.
    pub(super) go: &'a Path,
    /// An empty folder for the result.
    pub(super) into: &'a Path,
    /// An empty folder for what Go writes meanwhile, gigabytes at times: the machine's own may be in memory, and nobody would
    /// remove there what a build leaves that is killed.
    pub(super) work: &'a Path,
}

// === impl Build ===

impl Build<'_> {
    /// Puts the programs and the configuration of the component into the folder.
    pub(super) async fn run(&self, progress: &Progress) -> Result<(), Error> {
        let version = &self.plan.version;
        let step = progress.step(&format!("building {} {version}", self.component));
        step.note("once; it may take minutes");
        for (index, command) in self.plan.commands.iter().enumerate() {
            let log = self.work.join(format!("go-{index}.log"));
            self.go(command.arguments(self.into), &log, &step).await?;
        }
        for (theirs, ours) in &self.plan.renames {
            let (from, to) = (self.into.join(theirs), self.into.join(ours));
            std::fs::rename(&from, &to).map_err(|source| io("rename", from, source))?;
        }
        for files in self.description.files {
            self.copy(files, &self.work.join("files.log"), &step).await?;
        }
        step.done("built");
        Ok(())
    }

    /// Runs Go and waits until it has ended.
    async fn go(&self, arguments: Vec<OsString>, log: &Path, step: &Step) -> Result<(), Error> {
        let mut command = Command::new(self.go);
        command.args(&arguments).current_dir(self.module).envs(ENVIRONMENT.iter().copied()).stdin(Stdio::null());
        command.env("GOTMPDIR", self.work);
        let verb = arguments.first().map(|verb| verb.to_string_lossy().into_owned()).unwrap_or_default();
        let failed = |how: String, output| Error::Build {
            component: self.component,
            version: self.plan.version.clone(),
            what: format!("go {verb}{how}"),
            output,
        };
        let name = format!("go for {}", self.component);
        let go = Process::spawn(&name, command, log).map_err(|error| failed(format!(": {error}"), String::new()))?;
        let ended = loop {
            tokio::select! {
                ended = go.ended() => break ended,
                () = tokio::time::sleep(LOOK) => step.note(&so_far(log)),
            }
        };
        if ended.success() {
            return Ok(());
        }
        Err(failed(format!(" ended with {ended}"), complaints(log)))
    }

    /// Copies the YAML files of a module.
    async fn copy(&self, files: &Files, log: &Path, step: &Step) -> Result<(), Error> {
        let arguments = ["mod", "download", "-json", files.module].map(OsString::from).to_vec();
        self.go(arguments, log, step).await?;
        let text = std::fs::read(log).map_err(|source| io("read", log.to_owned(), source))?;
        std::fs::remove_file(log).map_err(|source| io("remove", log.to_owned(), source))?;
        let dir = serde_json::from_slice::<Download>(&text).map_err(|error| Error::Build {
            component: self.component,
            version: self.plan.version.clone(),
            what: format!("go mod download {}: {error}", files.module),
            output: String::from_utf8_lossy(&text).into_owned(),
        })?;
        copy_yaml(&dir.dir.join(files.from), &self.into.join(files.to))
    }
}

/// What `go mod download -json` says that matters here.
#[derive(serde::Deserialize)]
struct Download {
    #[serde(rename = "Dir")]
    dir: PathBuf,
}

/// Copies a YAML file, or all below a folder, into the folder `to`.
fn copy_yaml(from: &Path, to: &Path) -> Result<(), Error> {
    if from.is_dir() {
        let read = |source| io("read", from.to_owned(), source);
        for entry in std::fs::read_dir(from).map_err(read)? {
            let entry = entry.map_err(read)?;
            let (path, below) = (entry.path(), to.join(entry.file_name()));
            copy_yaml(&path, if path.is_dir() { &below } else { to })?;
        }
    } else if let Some(name) = from.file_name()
        && from.extension().is_some_and(|extension| extension == "yaml")
    {
        let target = to.join(name);
        std::fs::create_dir_all(to).map_err(|source| io("make", to.to_owned(), source))?;
        // Not std::fs::copy: files of the module cache are read-only, and what is in ours must stay removable.
        let content = std::fs::read(from).map_err(|source| io("read", from.to_owned(), source))?;
        std::fs::write(&target, content).map_err(|source| io("write", target, source))?;
    }
    Ok(())
}

/// How far Go is: it prints the name of each package that it compiles, and nothing when it fetches or links.
fn so_far(log: &Path) -> String {
    let lines = lines(log);
    let packages = lines.iter().filter(|line| is_package(line)).count();
    match lines.last() {
        Some(last) => format!("{packages} packages compiled, {last}"),
        None => "fetching modules or linking".to_owned(),
    }
}

/// What Go said beside the names of packages: its last lines.
fn complaints(log: &Path) -> String {
    let lines: Vec<String> = lines(log).into_iter().filter(|line| !is_package(line)).collect();
    lines[lines.len().saturating_sub(SHOWN)..].join("\n")
}

/// The name of a package is a line without spaces; messages have some.
fn is_package(line: &str) -> bool {
    !line.is_empty() && !line.contains(char::is_whitespace)
}

fn lines(log: &Path) -> Vec<String> {
    let Ok(file) = std::fs::File::open(log) else { return Vec::new() };
    BufReader::new(file).lines().map_while(Result::ok).collect()
}

fn io(what: &'static str, path: PathBuf, source: std::io::Error) -> Error {
    Error::Io { what, path, source }
}
