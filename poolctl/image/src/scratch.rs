//! Files and folders that are not complete yet.
//!
//! A process that is told to stop removes its own ([`Scratch::give_up`]); one that is killed cannot. So each is locked for as
//! long as its process has it open, which the kernel ends with the process however that ends: what nobody holds a lock of is
//! left over, and whoever writes into the same folder next removes it ([`sweep`]). On a file system without locks nothing is
//! swept.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs::{self, File, Permissions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use parking_lot::Mutex;
use tempfile::{NamedTempFile, TempDir};

/// Names of what is not complete: hidden, and nobody else's.
const PREFIX: &str = ".kferving-";
const SUFFIX: &str = ".partial";
const RANDOM_CHARACTERS: usize = 12;

/// Another process that sweeps may come between the making of a file and its lock: another one is made then. It is there for
/// one look at the folder, so that twice in a row is rare already.
const ATTEMPTS: usize = 16;

/// What this process has under way. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Scratch {
    live: Arc<Mutex<Live>>,
}

#[derive(Debug, Default)]
struct Live {
    paths: BTreeSet<PathBuf>,
    given_up: bool,
}

/// A folder that goes when this is dropped.
#[derive(Debug)]
pub struct ScratchFolder {
    folder: TempDir,
    _lock: File,
    _entry: Entry,
}

/// A file that gets its name once it is complete, and goes when this is dropped before.
#[derive(Debug)]
pub(crate) struct Partial {
    file: NamedTempFile,
    entry: Entry,
}

/// Takes a path off the list in the end.
#[derive(Debug)]
struct Entry {
    scratch: Scratch,
    path: PathBuf,
}

// === impl Scratch ===

impl Scratch {
    /// Nothing is under way yet.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Removes everything that is not complete. Nothing can be begun or completed any more: the process must end.
    pub fn give_up(&self) {
        let mut live = self.live.lock();
        live.given_up = true;
        for path in std::mem::take(&mut live.paths) {
            remove(&path);
        }
    }

    /// A private folder in `parent`, from which what earlier processes left over is removed first.
    ///
    /// # Errors
    /// It cannot be made, or everything was given up.
    pub fn folder(&self, parent: &Path) -> io::Result<ScratchFolder> {
        sweep(parent);
        let ((folder, lock), entry) = self.begin(|| {
            let folder = settings().permissions(Permissions::from_mode(0o700)).tempdir_in(parent)?;
            let path = folder.path().to_owned();
            let lock = match File::open(&path) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
                opened => opened?,
            };
            Ok(hold(&lock, &path)?.then_some(((folder, lock), path)))
        })?;
        Ok(ScratchFolder { folder, _lock: lock, _entry: entry })
    }

    /// A file in `folder`.
    pub(crate) fn file(&self, folder: &Path) -> io::Result<Partial> {
        let (file, entry) = self.begin(|| {
            // as any other file that a program writes: the umask takes away
            let file = settings().permissions(Permissions::from_mode(0o666)).tempfile_in(folder)?;
            let path = file.path().to_owned();
            Ok(hold(file.as_file(), &path)?.then_some((file, path)))
        })?;
        Ok(Partial { file, entry })
    }

    /// What `make` makes, and its place in the list. `make` gives nothing where somebody else was quicker.
    fn begin<T>(&self, make: impl Fn() -> io::Result<Option<(T, PathBuf)>>) -> io::Result<(T, Entry)> {
        let mut live = self.live.lock();
        for _ in 0..ATTEMPTS {
            if live.given_up {
                return Err(given_up());
            }
            if let Some((made, path)) = make()? {
                live.paths.insert(path.clone());
                return Ok((made, Entry { scratch: self.clone(), path }));
            }
        }
        Err(io::Error::other("whatever is begun there is removed by others at once"))
    }
}

/// Removes what processes that have ended left over in `folder`. What cannot be removed stays: it is in nobody's way.
pub(crate) fn sweep(folder: &Path) {
    let Ok(entries) = fs::read_dir(folder) else { return };
    for entry in entries.flatten() {
        let is_ours = is_partial(&entry.file_name());
        // a link is not followed, a pipe not waited for
        let is_kind = entry.file_type().is_ok_and(|kind| kind.is_file() || kind.is_dir());
        if !is_ours || !is_kind {
            continue;
        }
        let path = entry.path();
        if let Ok(file) = File::open(&path)
            && file.try_lock().is_ok()
        {
            remove(&path);
        }
    }
}

/// Whether that is the name of something that is not complete.
pub(crate) fn is_partial(name: &OsStr) -> bool {
    let random = name.to_str().and_then(|name| name.strip_prefix(PREFIX)?.strip_suffix(SUFFIX));
    random.is_some_and(|random| random.len() == RANDOM_CHARACTERS)
}

fn settings() -> tempfile::Builder<'static, 'static> {
    let mut settings = tempfile::Builder::new();
    settings.prefix(PREFIX).suffix(SUFFIX).rand_bytes(RANDOM_CHARACTERS);
    settings
}

/// Locks what was just made; `false` where a sweep had removed it before.
fn hold(file: &File, path: &Path) -> io::Result<bool> {
    match file.lock() {
        // who sweeps there cannot lock it either
        Err(error) if error.kind() == io::ErrorKind::Unsupported => return Ok(true),
        locked => locked?,
    }
    let mine = file.metadata()?;
    match path.symlink_metadata() {
        Ok(there) => Ok((there.dev(), there.ino()) == (mine.dev(), mine.ino())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        Err(error) => Err(error),
    }
}

fn remove(path: &Path) {
    // one of the two fits; what went before, or belongs to another, is none of this process's business
    let _ = fs::remove_file(path).or_else(|_| fs::remove_dir_all(path));
}

fn given_up() -> io::Error {
    io::Error::other("the process was told to stop")
}

// === impl ScratchFolder ===

impl ScratchFolder {
    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }
}

// === impl Partial ===

impl Partial {
    /// Gives it its name, in the place of what had it.
    pub(crate) fn persist(self, path: &Path) -> io::Result<()> {
        self.persist_after(path, || Ok(()))
    }

    /// Does `before` and gives it its name; whoever gives up finds both done or neither begun.
    pub(crate) fn persist_after(self, path: &Path, before: impl FnOnce() -> io::Result<()>) -> io::Result<()> {
        let Self { file, entry } = self;
        let live = entry.scratch.live.lock();
        if live.given_up {
            return Err(given_up());
        }
        before()?;
        file.persist(path).map_err(|error| error.error)?;
        Ok(())
    }

    /// Cuts it off after `bytes`.
    pub(crate) fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.file.as_file().set_len(bytes)
    }
}

impl Write for Partial {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        self.file.write(buffer)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Partial {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

// === impl Entry ===

impl Drop for Entry {
    fn drop(&mut self) {
        self.scratch.live.lock().paths.remove(&self.path);
    }
}

#[cfg(test)]
mod tests;
