//! Why a program cannot be put into an image.

use std::io;
use std::path::{Path, PathBuf};

/// Why a program cannot be put into an image.
#[derive(Debug, thiserror::Error)]
pub enum ProgramError {
    /// It cannot be read.
    #[error("{} cannot be read: {error}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system says.
        error: io::Error,
    },
    /// It is no ELF file.
    #[error("{} is no Linux program or shared library (ELF)", .0.display())]
    NotElf(PathBuf),
    /// It is damaged, or the configuration of the dynamic loader is.
    #[error("what {} needs cannot be found out: {reason}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// It is for a machine that images are not made for.
    #[error("{} is for a machine that is not supported ({machine}): expected x86-64, ARM64 or 64-bit RISC-V", path.display())]
    Machine {
        /// The file.
        path: PathBuf,
        /// The machine.
        machine: String,
    },
    /// A library is for another machine than the program.
    #[error("{} is for {its}, but {} is for {wanted}: they cannot go together", library.display(), program.display())]
    OtherMachine {
        /// The library.
        library: PathBuf,
        /// Its machine.
        its: String,
        /// The program.
        program: PathBuf,
        /// The program's machine.
        wanted: String,
    },
    /// A library is not there.
    #[error("{} needs {library}, which was not found{}; looked in {}", needed_by.display(), other_machine(unfit.as_deref()), list(looked_in))]
    MissingLibrary {
        /// The library.
        library: String,
        /// What needs it.
        needed_by: PathBuf,
        /// Where it was looked for.
        looked_in: Vec<PathBuf>,
        /// One of that name that does not fit.
        unfit: Option<PathBuf>,
    },
    /// A library is needed by its path instead of its name.
    #[error("{} needs {library} at that very path: link it by its name", path.display())]
    NeededByPath {
        /// What needs it.
        path: PathBuf,
        /// The library's path.
        library: String,
    },
}

fn other_machine(unfit: Option<&Path>) -> String {
    unfit.map(|path| format!(" ({} is for another machine)", path.display())).unwrap_or_default()
}

fn list(paths: &[PathBuf]) -> String {
    paths.iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}
