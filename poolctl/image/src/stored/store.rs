//! The files of an image layout, in a folder or in one tar file.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use super::StoredError;

/// Files that an archive may hold: an image of 127 layers, which is what runtimes take, for every platform there is, is far
/// below.
const MAX_FILES: usize = 65_536;

/// How gzip and zstd files begin.
const GZIP: [u8; 2] = [0x1f, 0x8b];
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Content of a file in the store.
pub(super) type Content = io::Take<File>;

/// Where an image layout's files are.
#[derive(Clone, Debug)]
pub(super) enum Store {
    Folder(PathBuf),
    Archive {
        path: PathBuf,
        /// Offset and length of each file's content.
        files: BTreeMap<String, (u64, u64)>,
    },
}

// === impl Store ===

impl Store {
    pub(super) fn open(path: &Path) -> Result<Self, StoredError> {
        let unreadable = |error| StoredError::Read { path: path.to_owned(), error };
        let metadata = path.metadata().map_err(unreadable)?;
        let store = match (metadata.is_dir(), metadata.is_file()) {
            (true, _) => Self::Folder(path.to_owned()),
            (_, true) => Self::archive(path)?,
            // a pipe, say, which would be waited for
            (false, false) => {
                let reason = "it is neither a folder nor a file";
                return Err(StoredError::NotAnImage { path: path.to_owned(), reason });
            }
        };
        if store.file("index.json")?.is_some() {
            return Ok(store);
        }
        let reason = if store.file("manifest.json")?.is_some() {
            "it is an archive in Docker's older form; save it again with Docker 25 or newer, or with skopeo"
        } else {
            "it has no index.json; expected an image layout, as a folder or as a tar file"
        };
        Err(StoredError::NotAnImage { path: path.to_owned(), reason })
    }

    fn archive(path: &Path) -> Result<Self, StoredError> {
        let unreadable = |error| StoredError::Read { path: path.to_owned(), error };
        let no_image = |reason| StoredError::NotAnImage { path: path.to_owned(), reason };
        let mut file = File::open(path).map_err(unreadable)?;
        let mut start = Vec::new();
        (&mut file).take(4).read_to_end(&mut start).map_err(unreadable)?;
        if start.starts_with(&GZIP) || start.starts_with(&ZSTD) {
            return Err(no_image("it is compressed as a whole; unpack it with gunzip or unzstd first"));
        }
        file.rewind().map_err(unreadable)?;
        let mut archive = tar::Archive::new(file);
        let mut files = BTreeMap::new();
        for entry in archive.entries_with_seek().map_err(unreadable)? {
            let entry = entry.map_err(|_| no_image("it is neither a folder nor a tar file"))?;
            if !entry.header().entry_type().is_file() {
                continue;
            }
            let name = String::from_utf8_lossy(&entry.path_bytes()).trim_start_matches("./").to_owned();
            if files.len() == MAX_FILES {
                return Err(no_image("it holds more than 65536 files"));
            }
            files.insert(name, (entry.raw_file_position(), entry.size()));
        }
        Ok(Self::Archive { path: path.to_owned(), files })
    }

    /// What it is called in errors.
    pub(super) fn path(&self) -> &Path {
        match self {
            Self::Folder(path) | Self::Archive { path, .. } => path,
        }
    }

    /// A file's content, where there is such a file.
    pub(super) fn file(&self, name: &str) -> Result<Option<Content>, StoredError> {
        let opened = match self {
            Self::Folder(path) => File::open(path.join(name)).map(|file| Some(file.take(u64::MAX))),
            Self::Archive { path, files } => {
                let Some(&(offset, length)) = files.get(name) else { return Ok(None) };
                File::open(path).and_then(|mut file| {
                    file.seek(SeekFrom::Start(offset))?;
                    Ok(Some(file.take(length)))
                })
            }
        };
        match opened {
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            other => other.map_err(|error| StoredError::Read { path: self.path().to_owned(), error }),
        }
    }

    /// A content of at most `most` bytes.
    pub(super) fn read(&self, content: Content, most: u64) -> Result<Vec<u8>, StoredError> {
        let mut bytes = Vec::new();
        content
            .take(most + 1)
            .read_to_end(&mut bytes)
            .map_err(|error| StoredError::Read { path: self.path().to_owned(), error })?;
        if bytes.len() as u64 > most {
            let reason = format!("it is longer than {most} bytes");
            return Err(StoredError::Invalid { path: self.path().to_owned(), what: "document", reason });
        }
        Ok(bytes)
    }
}
