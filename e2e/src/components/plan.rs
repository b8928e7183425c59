//! What will be run to build a component, decided before anything runs, and the key under which its result is kept.

use std::path::Path;

use sha2::{Digest as _, Sha256};

use super::catalog::{Description, Files, Tools};
use super::module::GoModule;

/// The environment of a build beside the caller's own: nothing in that may change the result without changing the key.
pub(super) const ENVIRONMENT: &[(&str, &str)] = &[
    ("CGO_ENABLED", "0"),
    ("GOFLAGS", "-mod=readonly"),
    ("GOTOOLCHAIN", "local"),
    ("GOWORK", "off"),
    ("GOOS", "linux"),
    ("GOARCH", GOARCH),
    ("GOAMD64", ""),
    ("GOARM64", ""),
    ("GOEXPERIMENT", ""),
];

const GOARCH: &str = match std::env::consts::ARCH.as_bytes() {
    b"aarch64" => "arm64",
    _ => "amd64",
};

/// Changes when a build is stored differently, so that no reader finds the old form.
const FORM: u8 = 1;

/// The build of a component.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Plan {
    /// Version of what is built, `v1.2.3`; `own` for a program of this repository.
    pub(super) version: String,
    /// Go commands, each of which puts its programs into the folder that is given to it.
    pub(super) commands: Vec<GoCommand>,
    /// Programs under a name of Go's choice, and the name they get.
    pub(super) renames: Vec<(&'static str, &'static str)>,
    /// Names of all programs that must be there in the end, sorted.
    pub(super) programs: Vec<String>,
    /// Digest over everything that the result depends on.
    digest: String,
}

/// A call of Go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GoCommand {
    before_output: Vec<String>,
    /// Name of the single program that it writes; `None`: Go names them.
    output: Option<&'static str>,
    packages: Vec<String>,
}

// === impl Plan ===

impl Plan {
    /// The plan for a component of this description and module with that Go, or what its `go.mod` lacks.
    pub(super) fn of(description: &Description, module: &GoModule, go: &str) -> Result<Self, String> {
        let version = match description.release {
            Some(release) => module.requires.get(release).ok_or(format!("required module {release}"))?.clone(),
            None => "own".to_owned(),
        };
        let linked = format!("-s -w{}", variables(description, &version));
        let packages: Vec<String> = module.tools.iter().filter(|tool| wanted(description, tool)).cloned().collect();
        let mut programs: Vec<String> = packages.iter().map(|package| our_name(description, package)).collect();
        if let Tools::Only(names) = description.tools {
            let lacking = names.iter().find(|name| !programs.iter().any(|program| program == *name));
            if let Some(name) = lacking {
                return Err(format!("`tool` line for {name}"));
            }
        }
        let mut commands = Vec::new();
        if !packages.is_empty() {
            commands.push(GoCommand { before_output: flags(&["build", "-v"], &linked), output: None, packages });
        }
        for (package, name) in description.suites {
            let before_output = flags(&["test", "-c", "-v", "-tags=e2e"], &linked);
            commands.push(GoCommand { before_output, output: Some(*name), packages: vec![(*package).to_owned()] });
            programs.push((*name).to_owned());
        }
        if programs.is_empty() {
            return Err("`tool` line".to_owned());
        }
        programs.sort();
        let digest = digest(&commands, description.files, module, go);
        Ok(Self { version, commands, renames: description.renamed.to_vec(), programs, digest })
    }

    /// Name of the folder in the cache.
    pub(super) fn key(&self) -> String {
        format!("{}-{}", self.version, &self.digest[..16])
    }
}

fn flags(verb: &[&str], linked: &str) -> Vec<String> {
    let mut flags: Vec<String> = verb.iter().map(|&word| word.to_owned()).collect();
    flags.extend(["-trimpath".to_owned(), "-buildvcs=false".to_owned(), format!("-ldflags={linked}")]);
    flags
}

/// The linker's variables of the release `version`.
fn variables(description: &Description, version: &str) -> String {
    let bare = version.strip_prefix('v').unwrap_or(version);
    let mut parts = bare.split('.');
    let (major, minor) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let filled = description.variables.iter().map(|(name, value)| {
        let value = value.replace("{version}", version).replace("{bare}", bare);
        format!(" -X {name}={}", value.replace("{major}", major).replace("{minor}", minor))
    });
    filled.collect()
}

fn wanted(description: &Description, package: &str) -> bool {
    match description.tools {
        Tools::All => true,
        Tools::Only(names) => names.contains(&our_name(description, package).as_str()),
    }
}

fn our_name(description: &Description, package: &str) -> String {
    let theirs = program_of(package);
    let renamed = description.renamed.iter().find(|(from, _)| *from == theirs);
    renamed.map_or(theirs, |(_, to)| to).to_owned()
}

/// The name that Go gives the program of a package: its last element, or the one before where that is a major version.
fn program_of(package: &str) -> &str {
    let mut elements = package.rsplit('/');
    let last = elements.next().unwrap_or(package);
    let is_version =
        last.strip_prefix('v').is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|b| b.is_ascii_digit()));
    if is_version { elements.next().unwrap_or(last) } else { last }
}

fn digest(commands: &[GoCommand], files: &[Files], module: &GoModule, go: &str) -> String {
    let description = format!("{FORM} {go} {ENVIRONMENT:?} {commands:?} {files:?}");
    let mut hash = Sha256::new();
    hash.update(module.digest);
    hash.update(description);
    hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect()
}

// === impl GoCommand ===

impl GoCommand {
    /// Its arguments, with programs written below `dir`.
    pub(super) fn arguments(&self, dir: &Path) -> Vec<std::ffi::OsString> {
        // A trailing slash makes Go take the path for a folder.
        let output = dir.join(self.output.unwrap_or(""));
        let mut arguments: Vec<std::ffi::OsString> = self.before_output.iter().map(Into::into).collect();
        arguments.push("-o".into());
        arguments.push(output.into());
        arguments.extend(self.packages.iter().map(Into::into));
        arguments
    }
}
