//! Where a result goes: opened before anything is measured, written once it is there.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;

/// A file that can be written to. Until then it keeps what it had, and one that was made goes again with this value.
#[derive(Debug)]
pub struct ResultFile {
    path: PathBuf,
    file: File,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Made,
    Found,
    Written,
}

impl ResultFile {
    /// Opens or makes it.
    ///
    /// # Errors
    /// It cannot be written to.
    pub fn open(path: &Path) -> anyhow::Result<Self> {
        let made = OpenOptions::new().write(true).create_new(true).open(path);
        let (opened, state) = match made {
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                (OpenOptions::new().write(true).open(path), State::Found)
            }
            made => (made, State::Made),
        };
        let file = opened.with_context(|| format!("opening {} for the result", path.display()))?;
        Ok(Self { path: path.to_owned(), file, state })
    }

    /// Writes the result in place of what was there.
    ///
    /// # Errors
    /// The file system refuses.
    pub fn write(mut self, text: &str) -> anyhow::Result<()> {
        self.state = State::Written;
        let mut replace = || {
            // A terminal or a pipe has no length.
            if self.file.metadata()?.is_file() {
                self.file.set_len(0)?;
            }
            self.file.write_all(text.as_bytes())
        };
        replace().with_context(|| format!("writing {}", self.path.display()))
    }
}

impl Drop for ResultFile {
    fn drop(&mut self) {
        if self.state == State::Made
            && let Err(error) = std::fs::remove_file(&self.path)
        {
            eprintln!("removing {}, which has no result, failed: {error}", self.path.display());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_result_replaces_what_was_there_only_once_it_is_written() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("r.json");
        std::fs::write(&path, "an earlier result, longer").unwrap();
        drop(ResultFile::open(&path).unwrap());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "an earlier result, longer");
        ResultFile::open(&path).unwrap().write("a result").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a result");
    }

    #[test]
    fn a_file_without_a_result_is_not_left_behind() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("r.json");
        drop(ResultFile::open(&path).unwrap());
        assert!(!path.exists());
        ResultFile::open(&path).unwrap().write("a result").unwrap();
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a result");
    }

    #[test]
    fn what_is_no_file_is_written_to_as_it_is() {
        ResultFile::open(Path::new("/dev/null")).unwrap().write("a result").unwrap();
        let error = format!("{:#}", ResultFile::open(Path::new("/nowhere/r.json")).unwrap_err());
        assert!(error.contains("/nowhere/r.json"), "{error}");
    }
}
