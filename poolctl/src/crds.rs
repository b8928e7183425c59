//! `poolctl crds`.

use std::fs;

use anyhow::Context;
use poolctl_api::crd_files;

use crate::cli::CrdsArgs;
use crate::show;

/// Prints the CRDs, or writes them into a directory.
///
/// # Errors
/// The output cannot be written.
pub fn run(arguments: &CrdsArgs) -> anyhow::Result<()> {
    let files = crd_files().context("the definitions cannot be written as YAML")?;
    let Some(directory) = &arguments.write else {
        let documents: Vec<_> = files.into_iter().map(|file| file.yaml).collect();
        return show::print(&documents.join("---\n"));
    };
    for file in files {
        let path = directory.join(file.name);
        fs::write(&path, file.yaml).with_context(|| format!("{} cannot be written", path.display()))?;
    }
    Ok(())
}
