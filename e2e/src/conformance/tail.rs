//! The lines that a process appends to its log, as they come.

use std::fs::File;
use std::io::{self, Read as _};
use std::path::Path;

/// A line longer than this is cut: tests print whole objects at times, and nothing reads beyond the first words.
const LONGEST_LINE: usize = 64 << 10;

/// Reads a file that grows.
#[derive(Debug)]
pub(super) struct Tail {
    file: File,
    /// The begin of a line whose end is not there yet.
    rest: Vec<u8>,
}

// === impl Tail ===

impl Tail {
    /// From the begin of the file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub(super) fn of(path: &Path) -> io::Result<Self> {
        Ok(Self { file: File::open(path)?, rest: Vec::new() })
    }

    /// The lines that have become whole since the last call.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub(super) fn lines(&mut self) -> io::Result<Vec<String>> {
        let mut lines = Vec::new();
        let mut piece = vec![0; 64 << 10];
        loop {
            let read = self.file.read(&mut piece)?;
            if read == 0 {
                return Ok(lines);
            }
            for &byte in &piece[..read] {
                if byte == b'\n' {
                    lines.push(String::from_utf8_lossy(&self.rest).into_owned());
                    self.rest.clear();
                } else if self.rest.len() < LONGEST_LINE {
                    self.rest.push(byte);
                }
            }
        }
    }

    /// The last line, where the file does not end with the end of one.
    pub(super) fn remainder(&mut self) -> Option<String> {
        let rest = std::mem::take(&mut self.rest);
        (!rest.is_empty()).then(|| String::from_utf8_lossy(&rest).into_owned())
    }
}
