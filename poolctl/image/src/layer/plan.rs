//! A layer's entries in the order in which they are written, and the tar stream of them.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read, Write};
use std::path::Path;

use tar::{EntryType, Header};

use super::{Attributes, Content, Entry, Layer};
use crate::ImageError;

/// Files whose names start so are no files: they delete what a lower layer has.
const WHITEOUT: &str = ".wh.";

/// The entries of a layer by path (relative to the root, without a slash at either end), folders before what they hold.
#[derive(Debug)]
pub(crate) struct Plan<'a> {
    entries: BTreeMap<String, Planned<'a>>,
}

#[derive(Debug)]
enum Planned<'a> {
    Named(&'a Entry),
    /// A folder that is only there because something lies in it.
    Implied,
}

/// A file of which as many bytes are read as it had when it was opened.
struct Source<'a> {
    path: &'a Path,
    file: File,
    left: u64,
}

// === impl Plan ===

impl<'a> Plan<'a> {
    /// Checks and sorts the entries of a layer.
    pub(crate) fn new(layer: &'a Layer) -> Result<Self, ImageError> {
        let mut entries = BTreeMap::new();
        for (path, entry) in &layer.entries {
            let path = normalize(path)?;
            if entries.insert(path.clone(), Planned::Named(entry)).is_some() {
                return Err(ImageError::Duplicate(path));
            }
        }
        let above: Vec<_> = entries.keys().flat_map(|path| folders_above(path).map(str::to_owned)).collect();
        for folder in above {
            entries.entry(folder).or_insert(Planned::Implied);
        }
        for path in entries.keys() {
            for folder in folders_above(path) {
                if !entries.get(folder).is_some_and(Planned::is_folder) {
                    return Err(ImageError::NoFolder { path: path.clone(), above: folder.to_owned() });
                }
            }
        }
        Ok(Self { entries })
    }

    #[cfg(test)]
    pub(super) fn paths(&self) -> Vec<&str> {
        self.entries.keys().map(String::as_str).collect()
    }
}

impl Planned<'_> {
    fn is_folder(&self) -> bool {
        matches!(self, Self::Implied | Self::Named(Entry { content: Content::Folder, .. }))
    }
}

/// Writes the layer as a tar stream to `out`, which errors call `output`.
pub(crate) fn write_tar(plan: &Plan<'_>, out: impl Write, output: &Path) -> Result<(), ImageError> {
    let mut tar = tar::Builder::new(out);
    for (path, planned) in &plan.entries {
        append(&mut tar, path, planned).map_err(|error| blame(error, output))?;
    }
    tar.into_inner().map(drop).map_err(|error| blame(error, output))
}

fn append(tar: &mut tar::Builder<impl Write>, path: &str, planned: &Planned<'_>) -> io::Result<()> {
    const FOLDER: &Content = &Content::Folder;
    let (attributes, content) = match planned {
        Planned::Implied => (Attributes::FOLDER, FOLDER),
        Planned::Named(entry) => (entry.attributes, &entry.content),
    };
    let mut header = header(attributes);
    match content {
        Content::Folder => {
            header.set_entry_type(EntryType::Directory);
            header.set_size(0);
            tar.append_data(&mut header, format!("{path}/"), io::empty())
        }
        Content::Link(target) => {
            header.set_entry_type(EntryType::Symlink);
            header.set_size(0);
            tar.append_link(&mut header, path, target)
        }
        Content::Bytes(bytes) => {
            header.set_entry_type(EntryType::Regular);
            header.set_size(bytes.len() as u64);
            tar.append_data(&mut header, path, bytes.as_slice())
        }
        Content::File(source) => {
            let content = Source::open(source)?;
            header.set_entry_type(EntryType::Regular);
            header.set_size(content.left);
            tar.append_data(&mut header, path, content)
        }
    }
}

/// An error of a source is told as it is; every other is one of the output.
fn blame(error: io::Error, output: &Path) -> ImageError {
    match error.downcast::<ImageError>() {
        Ok(error) => error,
        Err(error) => ImageError::Output { path: output.to_owned(), error },
    }
}

/// Everything that a header says beside what the entry is; no names of users, no times.
fn header(attributes: Attributes) -> Header {
    let mut header = Header::new_gnu();
    header.set_mode(attributes.mode);
    header.set_uid(attributes.uid);
    header.set_gid(attributes.gid);
    header.set_mtime(0);
    header
}

fn normalize(path: &str) -> Result<String, ImageError> {
    let wrong = |reason| ImageError::Path { path: path.to_owned(), reason };
    let parts: Vec<_> = path.split('/').filter(|part| !part.is_empty()).collect();
    if parts.is_empty() {
        return Err(wrong("names nothing below its root"));
    }
    for part in &parts {
        match *part {
            "." | ".." => return Err(wrong("has a part '.' or '..'")),
            part if part.starts_with(WHITEOUT) => return Err(wrong("would delete a file of the layers below (.wh.)")),
            part if part.contains('\0') => return Err(wrong("has a zero byte")),
            _ => {}
        }
    }
    Ok(parts.join("/"))
}

/// The folders that a path lies in, outermost first.
fn folders_above(path: &str) -> impl Iterator<Item = &str> {
    path.match_indices('/').map(|(at, _)| &path[..at])
}

// === impl Source ===

impl<'a> Source<'a> {
    fn open(path: &'a Path) -> io::Result<Self> {
        let unreadable = |error| io::Error::other(ImageError::Source { path: path.to_owned(), error });
        let metadata = path.metadata().map_err(unreadable)?;
        if !metadata.is_file() {
            return Err(io::Error::other(ImageError::NotAFile(path.to_owned())));
        }
        Ok(Self { path, file: File::open(path).map_err(unreadable)?, left: metadata.len() })
    }
}

impl Read for Source<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let most = usize::try_from(self.left).unwrap_or(usize::MAX).min(buffer.len());
        let read = match self.file.read(&mut buffer[..most]) {
            Ok(0) if most > 0 => Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it became shorter meanwhile")),
            other => other,
        };
        let read = read.map_err(|error| match error.kind() {
            io::ErrorKind::Interrupted => error,
            _ => io::Error::other(ImageError::Source { path: self.path.to_owned(), error }),
        })?;
        self.left -= read as u64;
        Ok(read)
    }
}
