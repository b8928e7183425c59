//! A Go module as its folder describes it.

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

/// A component's Go module.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct GoModule {
    /// Its folder.
    pub(super) dir: PathBuf,
    /// The oldest Go that it accepts.
    pub(super) go: GoVersion,
    /// Packages of its `tool` lines, in their order.
    pub(super) tools: Vec<String>,
    /// Version of each required module.
    pub(super) requires: BTreeMap<String, String>,
    /// SHA-256 over the names and contents of the folder's files.
    pub(super) digest: [u8; 32],
}

/// A version of Go, such as 1.26.6.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct GoVersion {
    major: u32,
    minor: u32,
    patch: u32,
}

/// Why a folder is no component.
#[derive(Debug, thiserror::Error)]
pub enum ModuleError {
    /// It cannot be read.
    #[error("{} cannot be read: {source}", path.display())]
    Unreadable {
        /// The file or folder.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// Its `go.mod` lacks something.
    #[error("{} has no {what}", path.display())]
    Lacks {
        /// The file.
        path: PathBuf,
        /// What it lacks.
        what: String,
    },
}

// === impl GoModule ===

impl GoModule {
    /// Reads the module in `dir`.
    pub(super) fn read(dir: &Path) -> Result<Self, ModuleError> {
        let path = dir.join("go.mod");
        let text = std::fs::read_to_string(&path).map_err(|source| unreadable(&path, source))?;
        let digest = digest_of(dir)?;
        Self::parse(dir, &text, digest).map_err(|what| ModuleError::Lacks { path, what })
    }

    /// The module that `go.mod` with this text describes, or what the text lacks.
    pub(super) fn parse(dir: &Path, text: &str, digest: [u8; 32]) -> Result<Self, String> {
        let mut go = None;
        let mut tools = Vec::new();
        let mut requires = BTreeMap::new();
        for directive in directives(text) {
            match directive.as_slice() {
                ["go", version] => go = GoVersion::parse(version),
                ["tool", package] => tools.push((*package).to_owned()),
                ["require", module, version] => {
                    requires.insert((*module).to_owned(), (*version).to_owned());
                }
                _ => {}
            }
        }
        let go = go.ok_or("`go` line with a version such as 1.26.0")?;
        Ok(Self { dir: dir.to_owned(), go, tools, requires, digest })
    }
}

/// The directives of a `go.mod`, one verb each: `verb ( a b )` over several lines is several directives.
fn directives(text: &str) -> Vec<Vec<&str>> {
    let mut block = None;
    let mut found = Vec::new();
    for line in text.lines() {
        let line = line.split("//").next().unwrap_or_default();
        let words: Vec<&str> = line.split_whitespace().collect();
        match (block, words.as_slice()) {
            (_, []) => {}
            (None, [verb, "("]) => block = Some(*verb),
            (Some(_), [")"]) => block = None,
            (Some(verb), words) => found.push([&[verb], words].concat()),
            (None, words) => found.push(words.to_vec()),
        }
    }
    found
}

/// SHA-256 over the names and contents of the files directly in `dir`. Hidden ones, an editor's for example, do not count.
fn digest_of(dir: &Path) -> Result<[u8; 32], ModuleError> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(|source| unreadable(dir, source))? {
        let entry = entry.map_err(|source| unreadable(dir, source))?;
        let name = entry.file_name();
        if entry.file_type().is_ok_and(|kind| kind.is_file()) && !name.as_encoded_bytes().starts_with(b".") {
            names.push(name);
        }
    }
    names.sort();
    let mut hash = Sha256::new();
    for name in names {
        let path = dir.join(&name);
        let content = std::fs::read(&path).map_err(|source| unreadable(&path, source))?;
        for part in [name.as_encoded_bytes(), &content] {
            hash.update((part.len() as u64).to_le_bytes());
            hash.update(part);
        }
    }
    Ok(hash.finalize().into())
}

fn unreadable(path: &Path, source: std::io::Error) -> ModuleError {
    ModuleError::Unreadable { path: path.to_owned(), source }
}

// === impl GoVersion ===

impl GoVersion {
    /// Reads `1.26`, `1.26.6`, `go1.26.6` and what `go env GOVERSION` may have behind it.
    pub fn parse(text: &str) -> Option<Self> {
        let text = text.strip_prefix("go").unwrap_or(text);
        let number = |part: &str| {
            let digits = part.find(|c: char| !c.is_ascii_digit()).unwrap_or(part.len());
            part[..digits].parse::<u32>().ok()
        };
        let mut parts = text.split('.');
        let major = number(parts.next()?)?;
        let minor = number(parts.next()?)?;
        let patch = parts.next().and_then(number).unwrap_or(0);
        Some(Self { major, minor, patch })
    }
}

impl fmt::Display for GoVersion {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.major, self.minor, self.patch)
    }
}
