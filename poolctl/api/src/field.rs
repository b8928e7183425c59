//! Where in a document a problem is.

use std::fmt;

/// Path of a field: `spec.cpu.resources.requests["nvidia.com/gpu"]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FieldPath(Vec<String>);

impl FieldPath {
    /// The document itself.
    #[must_use]
    pub const fn root() -> Self {
        Self(Vec::new())
    }

    /// The path of these keys.
    #[must_use]
    pub fn of(keys: &[&str]) -> Self {
        Self(keys.iter().map(|key| (*key).to_owned()).collect())
    }

    /// The field `key` of this one.
    #[must_use]
    pub fn child(&self, key: &str) -> Self {
        let mut keys = self.0.clone();
        keys.push(key.to_owned());
        Self(keys)
    }

    /// The keys from the root on.
    #[must_use]
    pub fn keys(&self) -> &[String] {
        &self.0
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, key) in self.0.iter().enumerate() {
            if key.contains(['.', '/', ' ']) {
                write!(f, "[{key:?}]")?;
            } else if index == 0 {
                f.write_str(key)?;
            } else {
                write!(f, ".{key}")?;
            }
        }
        Ok(())
    }
}

/// What is wrong with a field, and what was expected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {message}")]
pub struct FieldError {
    /// The field.
    pub path: FieldPath,
    /// For people.
    pub message: String,
}

impl FieldError {
    /// A problem with the field at `path`.
    #[must_use]
    pub fn new(path: FieldPath, message: impl Into<String>) -> Self {
        Self { path, message: message.into() }
    }
}
