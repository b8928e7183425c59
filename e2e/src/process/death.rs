//! The end of a process that nobody asked for, told so that the reader need not open the log.

use std::fmt;
use std::io::{Read as _, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

/// Lines of the log that a message shows.
const LAST_LINES: usize = 20;

/// Bytes of the log that are read for them: some components write lines of several kilobytes.
const LAST_BYTES: u64 = 64 << 10;

/// A process that ended by itself.
#[derive(Clone, Debug)]
pub struct Death {
    name: String,
    status: ExitStatus,
    log: PathBuf,
    last_lines: Vec<String>,
}

impl Death {
    /// Describes the end of `name`, with what it printed last.
    pub(super) fn of(name: &str, status: ExitStatus, log: &Path) -> Self {
        Self { name: name.to_owned(), status, log: log.to_owned(), last_lines: last_lines(log) }
    }

    /// Name of the process.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// How it ended.
    pub fn status(&self) -> ExitStatus {
        self.status
    }
}

impl fmt::Display for Death {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ended by itself ({})", self.name, self.status)?;
        if self.last_lines.is_empty() {
            return write!(f, " and printed nothing ({})", self.log.display());
        }
        write!(f, "; the end of {}:", self.log.display())?;
        self.last_lines.iter().try_for_each(|line| write!(f, "\n    {line}"))
    }
}

impl std::error::Error for Death {}

/// The last lines of a log; none when it cannot be read.
fn last_lines(log: &Path) -> Vec<String> {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = std::fs::File::open(log)?;
        let length = file.metadata()?.len();
        file.seek(SeekFrom::Start(length.saturating_sub(LAST_BYTES)))?;
        let mut end = Vec::new();
        file.take(LAST_BYTES).read_to_end(&mut end)?;
        Ok(end)
    };
    let end = read().unwrap_or_default();
    let text = String::from_utf8_lossy(&end);
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(LAST_LINES)..].iter().map(|line| (*line).to_owned()).collect()
}
