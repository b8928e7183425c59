//! The loader of directories and files, where a mistake is an error that names file, line, field and expectation.
//!
//! A document is parsed into a tree that remembers lines ([`node`]), walked along the generated CRD schema for unknown
//! fields and wrong types ([`schema`]), and only then decoded and checked rule by rule. So a file is refused for exactly
//! what the API server refuses under `--validate=strict`, and the messages can say where.

mod document;
mod node;
mod schema;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::definition::{ModelDefinition, PoolDefinition, defaults};
use crate::field::FieldPath;

/// Largest file that is read. A Model takes about 1 KB; etcd would not take an object above 1.5 MiB.
const MAX_FILE_BYTES: u64 = 4 * 1024 * 1024;

/// Everything that a directory describes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Resources {
    /// The models, in the order of file names and documents.
    pub models: Vec<Located<ModelDefinition>>,
    /// The pools.
    pub pools: Vec<Located<PoolDefinition>>,
}

/// A resource and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Located<T> {
    /// The resource.
    pub value: T,
    /// The file.
    pub file: PathBuf,
    /// Line of its first field, from 1.
    pub line: u64,
}

/// One mistake in a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: PathBuf,
    /// The line, from 1; 0 where the problem is with the file as a whole.
    pub line: u64,
    /// The field; the root where the problem is with the document as a whole.
    pub path: FieldPath,
    /// What is wrong and what was expected.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.file.display())?;
        if self.line > 0 {
            write!(f, ":{}", self.line)?;
        }
        if !self.path.keys().is_empty() {
            write!(f, ": {}", self.path)?;
        }
        write!(f, ": {}", self.message)
    }
}

/// Why a directory was refused.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// It could not be read.
    #[error("{path} cannot be read: {error}", path = path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It holds mistakes.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Invalid(Vec<Problem>),
}

/// Reads every `.yaml` and `.yml` file of `directory`, in the order of their names; folders in it are not entered, as
/// `kubectl apply -f DIR` does not enter them. Resources that name no namespace are in `namespace`.
///
/// # Errors
/// When the directory cannot be read, or any file cannot be or holds a mistake: then all of them are named.
pub fn load_directory(directory: &Path, namespace: &str) -> Result<Resources, LoadError> {
    let io_error = |error| LoadError::Io { path: directory.to_owned(), error };
    let mut files = Vec::new();
    for entry in fs::read_dir(directory).map_err(io_error)? {
        let path = entry.map_err(io_error)?.path();
        let is_yaml = path.extension().is_some_and(|ending| ending == "yaml" || ending == "yml");
        if is_yaml && is_meant(&path) {
            files.push(path);
        }
    }
    files.sort();

    let mut found = Resources::default();
    let mut problems = Vec::new();
    for file in files {
        let unreadable = |error| {
            let message = format!("it cannot be read: {error}");
            vec![Problem { file: file.clone(), line: 0, path: FieldPath::default(), message }]
        };
        let parsed = read(&file).map_err(unreadable).and_then(|text| document::parse_file(&file, &text, namespace));
        match parsed {
            Ok(resources) => {
                found.models.extend(resources.models);
                found.pools.extend(resources.pools);
            }
            Err(more) => problems.extend(more),
        }
    }
    problems.extend(duplicates(&found.models, "Model", |model| (Some(&model.namespace), &model.name)));
    problems.extend(duplicates(&found.pools, "WarmPool", |pool| (pool.namespace.as_ref(), &pool.name)));
    // a pool in a file with mistakes is no pool yet: reporting it as unknown would send people the wrong way
    if problems.is_empty() {
        problems.extend(unknown_pools(&found));
    }
    if problems.is_empty() { Ok(found) } else { Err(LoadError::Invalid(problems)) }
}

/// Whether something with the name of a YAML file is one. A link that leads nowhere is a mistake, unless it is hidden: some
/// editors lock a file with such a link.
fn is_meant(path: &Path) -> bool {
    let is_hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
    fs::metadata(path).map_or(!is_hidden, |found| found.is_file())
}

fn read(file: &Path) -> io::Result<String> {
    let length = fs::metadata(file)?.len();
    if length > MAX_FILE_BYTES {
        let message = format!("expected at most {MAX_FILE_BYTES} bytes, got {length}");
        return Err(io::Error::new(io::ErrorKind::FileTooLarge, message));
    }
    fs::read_to_string(file)
}

fn duplicates<T>(
    resources: &[Located<T>],
    kind: &str,
    identity: impl Fn(&T) -> (Option<&String>, &String),
) -> Vec<Problem> {
    let mut first = BTreeMap::new();
    let mut problems = Vec::new();
    for resource in resources {
        let (namespace, name) = identity(&resource.value);
        let before: &Located<T> = first.entry((namespace, name)).or_insert(resource);
        if !std::ptr::eq(before, resource) {
            let namespace = namespace.map(|namespace| format!("{namespace}/")).unwrap_or_default();
            problems.push(Problem {
                file: resource.file.clone(),
                line: resource.line,
                path: FieldPath::of(&["metadata", "name"]),
                message: format!(
                    "duplicate {kind} {namespace}{name}: already in {}:{}",
                    before.file.display(),
                    before.line
                ),
            });
        }
    }
    problems
}

/// Models whose `warmPool` no file describes. The pool called `default` needs no file.
fn unknown_pools(found: &Resources) -> Vec<Problem> {
    let mut problems = Vec::new();
    for model in &found.models {
        let namespace = &model.value.namespace;
        let reachable = found.pools.iter().map(|pool| &pool.value);
        let reachable = reachable.filter(|pool| pool.namespace.as_ref().is_none_or(|own| own == namespace));
        let names: BTreeSet<&str> = reachable.map(|pool| pool.name.as_str()).chain([defaults::WARM_POOL]).collect();
        if !names.contains(model.value.warm_pool.as_str()) {
            let names = names.into_iter().collect::<Vec<_>>().join(", ");
            problems.push(Problem {
                file: model.file.clone(),
                line: model.line,
                path: FieldPath::of(&["spec", "warmPool"]),
                message: format!(
                    "no WarmPool {:?} for namespace {namespace}: expected one of {names}",
                    model.value.warm_pool
                ),
            });
        }
    }
    problems
}
