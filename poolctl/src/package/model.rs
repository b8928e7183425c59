//! The model that goes into an image.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use anyhow::{Context, anyhow, bail};
use model_wrapper_admin::check_model_name;
use poolctl_api::ModelFormat;

use crate::model::{Inspection, Inspector};
use crate::model_server::RUNTIME_VARIABLE;
use crate::show;

/// Ending of the files that are looked for in a folder.
const ENDING: &str = "onnx";

/// Name of a model's file that says nothing about the model: its folder's name does.
const NAMELESS: &str = "model";

/// A model that loads, and the files that it is made of.
#[derive(Clone, Debug)]
pub(super) struct PackagedModel {
    /// Name that it is served under.
    pub(super) name: String,
    pub(super) format: ModelFormat,
    /// `sha256:HEX`
    pub(super) digest: String,
    /// The model's own file, relative to `folder`.
    pub(super) file: String,
    /// Its other files, relative to `folder`.
    pub(super) external: Vec<String>,
    /// Where its files are.
    pub(super) folder: PathBuf,
    /// As the files were when it was looked at.
    seen: Vec<Seen>,
}

/// What tells whether a file was changed.
type Seen = (u64, SystemTime);

/// Finds the model at `path`, loads it once with the program that is to serve it, and says what it is made of.
///
/// # Errors
/// There is no model, or it does not load.
pub(super) fn look_at(
    path: &Path,
    name: Option<&str>,
    server: PathBuf,
    library: &Path,
) -> anyhow::Result<PackagedModel> {
    let path = find(path)?;
    let name = match name {
        Some(name) => name.to_owned(),
        None => name_of(&path)?,
    };
    // What the model server refuses when it starts must be refused here.
    check_model_name(&name).map_err(|error| anyhow!("{error}: give one with --name"))?;
    let format = ModelFormat::Onnx;
    let before = seen(&path)?;
    let environment = [(RUNTIME_VARIABLE.to_owned(), library.display().to_string())].into();
    let inspector = Inspector::new(server, environment);
    let mut answers = show::runtime()?.block_on(inspector.inspect(format, vec![path.clone()]));
    let Inspection { digest, external, .. } = answers
        .remove(&path)
        .context("the model server did not answer for the model")?
        .map_err(|reason| anyhow::anyhow!("the model {} cannot be packaged: {reason}", path.display()))?;
    let file = path.file_name().and_then(|name| name.to_str()).with_context(|| not_text(&path))?.to_owned();
    let external = external.iter().map(|path| path.to_str().map(str::to_owned).with_context(|| not_text(path)));
    let external = external.collect::<anyhow::Result<Vec<String>>>()?;
    let folder = path.parent().map(Path::to_owned).unwrap_or_default();
    let others = external.iter().map(|file| seen(&folder.join(file)));
    let seen = [Ok(before)].into_iter().chain(others).collect::<anyhow::Result<_>>()?;
    Ok(PackagedModel { name, format, digest, file, external, folder, seen })
}

// === impl PackagedModel ===

impl PackagedModel {
    /// Its files, relative to its folder.
    pub(super) fn files(&self) -> impl Iterator<Item = &String> {
        [&self.file].into_iter().chain(&self.external)
    }

    /// To be asked when its files have been read: whether they are still those that were looked at.
    ///
    /// # Errors
    /// A file was changed meanwhile, so that the digest in the image's labels may be another's.
    pub(super) fn is_unchanged(&self) -> anyhow::Result<()> {
        for (file, before) in self.files().zip(&self.seen) {
            let path = self.folder.join(file);
            if seen(&path)? != *before {
                bail!("{} was changed while it was packaged: try again", path.display());
            }
        }
        Ok(())
    }
}

fn seen(path: &Path) -> anyhow::Result<Seen> {
    let metadata = fs::metadata(path).with_context(|| format!("{} cannot be read", path.display()))?;
    let modified = metadata.modified().with_context(|| format!("{} has no time of change", path.display()))?;
    Ok((metadata.len(), modified))
}

/// The model's file: `path` itself, or in a folder `model.onnx`, else the only one.
fn find(path: &Path) -> anyhow::Result<PathBuf> {
    let metadata = fs::metadata(path).with_context(|| format!("the model {} cannot be read", path.display()))?;
    if !metadata.is_dir() {
        return Ok(path.to_owned());
    }
    let named = path.join(NAMELESS).with_extension(ENDING);
    if named.is_file() {
        return Ok(named);
    }
    let entries = fs::read_dir(path).with_context(|| format!("the folder {} cannot be read", path.display()))?;
    let mut models = Vec::new();
    for entry in entries {
        let file = entry.with_context(|| format!("the folder {} cannot be read", path.display()))?.path();
        if file.extension().is_some_and(|ending| ending == ENDING) && file.is_file() {
            models.push(file);
        }
    }
    models.sort();
    match models.as_slice() {
        [model] => Ok(model.clone()),
        [] => bail!("there is no .{ENDING} file in {}", path.display()),
        [first, second, ..] => bail!(
            "{} holds {} models, {} and {} among them: name the one that is meant",
            path.display(),
            models.len(),
            first.display(),
            second.display()
        ),
    }
}

fn name_of(path: &Path) -> anyhow::Result<String> {
    let stem = path.file_stem().and_then(|stem| stem.to_str());
    let named = match stem {
        Some(NAMELESS) => {
            let folder = path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_owned));
            let folder = folder.as_deref().and_then(Path::file_name).and_then(|name| name.to_str());
            folder.unwrap_or(NAMELESS).to_owned()
        }
        Some(stem) => stem.to_owned(),
        None => bail!("no name can be made of {}: give one with --name", path.display()),
    };
    Ok(named)
}

fn not_text(path: &Path) -> String {
    format!("the name of {} is not UTF-8, which an image cannot hold", path.display())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_holds_one_model_or_says_which() {
        let folder = tempfile::tempdir().expect("a folder");
        let refused = || find(folder.path()).expect_err("refused").to_string();
        assert!(refused().starts_with("there is no .onnx file in "), "{}", refused());
        fs::write(folder.path().join("b.onnx"), "").expect("a file");
        fs::write(folder.path().join("b.onnx.data"), "").expect("a file");
        assert_eq!(find(folder.path()).expect("the only one"), folder.path().join("b.onnx"));
        fs::write(folder.path().join("a.onnx"), "").expect("a file");
        assert!(refused().contains("holds 2 models"), "{}", refused());
        fs::write(folder.path().join("model.onnx"), "").expect("a file");
        assert_eq!(find(folder.path()).expect("the one of that name"), folder.path().join("model.onnx"));
    }

    #[test]
    fn a_nameless_file_has_the_name_of_its_folder() {
        let folder = tempfile::tempdir().expect("a folder");
        let digits = folder.path().join("digits");
        fs::create_dir(&digits).expect("a folder");
        fs::write(digits.join("model.onnx"), "").expect("a file");
        assert_eq!(name_of(&digits.join("model.onnx")).expect("a name"), "digits");
        assert_eq!(name_of(Path::new("x/resnet.onnx")).expect("a name"), "resnet");
    }

    #[test]
    fn a_model_that_is_changed_meanwhile_is_noticed() {
        let folder = tempfile::tempdir().expect("a folder");
        let path = folder.path().join("a.onnx");
        fs::write(&path, "one").expect("a file");
        let model = PackagedModel {
            name: "a".to_owned(),
            format: ModelFormat::Onnx,
            digest: String::new(),
            file: "a.onnx".to_owned(),
            external: Vec::new(),
            folder: folder.path().to_owned(),
            seen: vec![seen(&path).expect("it is there")],
        };
        model.is_unchanged().expect("nobody changed it");
        fs::write(&path, "another").expect("a file");
        assert!(model.is_unchanged().expect_err("it is longer").to_string().contains("was changed while"));
    }
}
