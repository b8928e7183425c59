//! The model server's program, and the library that it loads.

#[cfg(test)]
mod tests;

use std::env;
use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The program that serves one model.
const WRAPPER: &str = "model-wrapper";

/// Bits of a file's mode.
const ANYBODY_MAY_RUN: u32 = 0o111;

/// The shared library that model servers load, and the variable that names it.
pub(crate) const RUNTIME_LIBRARY: &str = "libonnxruntime.so";
pub(crate) const RUNTIME_VARIABLE: &str = "ORT_DYLIB_PATH";

/// The program that `named` names, else the one beside this program.
///
/// # Errors
/// It is not there or is none; what to do about it.
pub(crate) fn program(named: Option<PathBuf>) -> anyhow::Result<PathBuf> {
    if let Some(path) = named {
        let Ok(found) = fs::metadata(&path) else {
            bail!("the model server {} is not there: --wrapper (or KFERVING_WRAPPER) names it", path.display());
        };
        if !found.is_file() || found.permissions().mode() & ANYBODY_MAY_RUN == 0 {
            bail!(
                "the model server {} is no program that can be run: --wrapper (or KFERVING_WRAPPER) names it",
                path.display()
            );
        }
        // one without a slash would be looked for in PATH
        return std::path::absolute(&path).with_context(|| format!("{} has no absolute path", path.display()));
    }
    let beside = executable_directory()?.join(WRAPPER);
    if !beside.is_file() {
        bail!(
            "the model server {} is not there: build it with `cargo build -p model-wrapper` (the same --release as this \
             program), or name it with --wrapper PATH",
            beside.display()
        );
    }
    Ok(beside)
}

/// The library that `ORT_DYLIB_PATH` names, else one beside this program or in the cache of the source tree, else none:
/// then the dynamic loader must know one.
///
/// # Errors
/// It is not there; what to do about it.
pub(crate) fn runtime_library() -> anyhow::Result<Option<PathBuf>> {
    if let Some(named) = env::var_os(RUNTIME_VARIABLE).filter(|path| !path.is_empty()) {
        let path = PathBuf::from(named);
        // a bare name is the dynamic loader's to find
        if path.components().count() > 1 && !path.is_file() {
            bail!(
                "the ONNX Runtime library {} is not there: {RUNTIME_VARIABLE} names it. {}",
                path.display(),
                how_to_get_the_library()
            );
        }
        return Ok(Some(path.canonicalize().unwrap_or(path)));
    }
    let beside = executable_directory()?;
    let found = library_places(&beside).into_iter().find(|place| place.is_file());
    if found.is_none() && in_usual_folders(RUNTIME_LIBRARY).is_none() {
        bail!("the ONNX Runtime library {RUNTIME_LIBRARY} was not found. {}", how_to_get_the_library());
    }
    Ok(found.map(|path| path.canonicalize().unwrap_or(path)))
}

/// In an installation it is beside the program or in `lib`; in a source tree the program is in `target/PROFILE`.
fn library_places(executables: &Path) -> Vec<PathBuf> {
    let cache = Path::new(".cache/onnxruntime").join(RUNTIME_LIBRARY);
    vec![
        executables.join(RUNTIME_LIBRARY),
        executables.join("../lib").join(RUNTIME_LIBRARY),
        executables.join("../..").join(&cache),
        cache,
    ]
}

/// The file that [`runtime_library`] means, also where it is left to the dynamic loader.
///
/// # Errors
/// It is not there; what to do about it.
pub(crate) fn runtime_library_file() -> anyhow::Result<PathBuf> {
    let library = runtime_library()?.unwrap_or_else(|| PathBuf::from(RUNTIME_LIBRARY));
    if library.is_file() {
        return Ok(library);
    }
    let name = library.to_string_lossy();
    in_usual_folders(&name).with_context(|| {
        format!("the ONNX Runtime library {name} was not found in the usual folders. {}", how_to_get_the_library())
    })
}

/// A library where the dynamic loader finds it by its name.
fn in_usual_folders(name: &str) -> Option<PathBuf> {
    poolctl_image::usual_folders().into_iter().map(|folder| folder.join(name)).find(|file| file.is_file())
}

fn how_to_get_the_library() -> String {
    format!(
        "Get it with `make models` in the source tree, or from the onnxruntime package of PyPI, and name it with \
         {RUNTIME_VARIABLE}=/path/to/{RUNTIME_LIBRARY}"
    )
}

fn executable_directory() -> anyhow::Result<PathBuf> {
    let executable = env::current_exe().context("this program's own path is not known")?;
    Ok(executable.parent().map(Path::to_owned).unwrap_or_default())
}
