//! Where a model's bytes are: `storageUri` and the file it means on this machine.

use std::io;
use std::path::{Component, Path, PathBuf};

/// Why a `storageUri` gives no file of this machine.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The scheme needs a network or a cluster.
    #[error(
        "storageUri {uri:?} has the scheme {scheme}: on one machine only files are served, as a path relative to the YAML or file:///…"
    )]
    Scheme {
        /// As written.
        uri: String,
        /// The scheme.
        scheme: String,
    },
    /// A `file://` URI with a host.
    #[error("storageUri {0:?} names a host: expected file:/// and an absolute path")]
    Host(String),
    /// The file is not there.
    #[error("storageUri {uri:?}: {path} cannot be read: {source}", path = path.display())]
    Unreadable {
        /// As written.
        uri: String,
        /// The file it means.
        path: PathBuf,
        /// What the system says.
        source: io::Error,
    },
    /// A link leads out of the model's folder.
    #[error("storageUri {uri:?} is refused: it leads through a link to {target}, which is outside of {folder}", target = target.display(), folder = folder.display())]
    LeavesFolder {
        /// As written.
        uri: String,
        /// Where the link leads.
        target: PathBuf,
        /// The folder that it must stay in.
        folder: PathBuf,
    },
}

/// The file or folder that `storage_uri` means; one without a scheme is relative to `base`, the folder of the YAML.
///
/// Links are followed as long as they stay in the folder that the URI itself starts from: `base`, or the one that
/// leading `..` lead to, or for an absolute path the one that holds the file. So a models directory that somebody else
/// filled cannot make this program read other files of the machine, while its author may name any.
///
/// # Errors
/// When the scheme is another than `file`, the file cannot be read, or a link leaves the folder.
pub fn resolve(base: &Path, storage_uri: &str) -> Result<PathBuf, SourceError> {
    let written = local_path(storage_uri)?;
    let unreadable = |path: PathBuf| {
        let uri = storage_uri.to_owned();
        move |source| SourceError::Unreadable { uri, path, source }
    };
    let (folder, inner) = if written.is_absolute() {
        let folder = written.parent().unwrap_or(&written).to_owned();
        let inner = written.file_name().map(PathBuf::from).unwrap_or_default();
        (folder, inner)
    } else {
        let leading = written.components().take_while(|part| matches!(part, Component::ParentDir | Component::CurDir));
        let upwards: PathBuf = leading.collect();
        let inner = written.strip_prefix(&upwards).unwrap_or(&written).to_owned();
        (base.join(upwards), inner)
    };
    let path = folder.join(&inner);
    let folder = folder.canonicalize().map_err(unreadable(path.clone()))?;
    let target = path.canonicalize().map_err(unreadable(path))?;
    if target.starts_with(&folder) {
        Ok(target)
    } else {
        Err(SourceError::LeavesFolder { uri: storage_uri.to_owned(), target, folder })
    }
}

fn local_path(storage_uri: &str) -> Result<PathBuf, SourceError> {
    match storage_uri.split_once("://") {
        None => Ok(PathBuf::from(storage_uri)),
        Some(("file", path)) if path.starts_with('/') => Ok(PathBuf::from(path)),
        Some(("file", _)) => Err(SourceError::Host(storage_uri.to_owned())),
        Some((scheme, _)) => Err(SourceError::Scheme { uri: storage_uri.to_owned(), scheme: scheme.to_owned() }),
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn paths_are_relative_to_the_yaml() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path().canonicalize().expect("it is there");
        let models = root.join("models");
        fs::create_dir_all(models.join("sub")).expect("folders");
        for file in ["models/a.onnx", "models/sub/b.onnx", "c.onnx"] {
            fs::write(root.join(file), b"x").expect("a file");
        }
        let resolved = |uri: &str| resolve(&models, uri).map_err(|error| error.to_string());
        assert_eq!(resolved("a.onnx"), Ok(models.join("a.onnx")));
        assert_eq!(resolved("./sub/b.onnx"), Ok(models.join("sub/b.onnx")));
        assert_eq!(resolved("../c.onnx"), Ok(root.join("c.onnx")));
        assert_eq!(resolved(&format!("file://{}", root.join("c.onnx").display())), Ok(root.join("c.onnx")));
        assert_eq!(resolved(&root.join("c.onnx").display().to_string()), Ok(root.join("c.onnx")));
        assert!(resolved("gone.onnx").expect_err("not there").contains("No such file"));
        assert_eq!(
            resolved("s3://bucket/a.onnx").expect_err("a network"),
            "storageUri \"s3://bucket/a.onnx\" has the scheme s3: on one machine only files are served, as a path \
             relative to the YAML or file:///…"
        );
        assert!(resolved("file://host/a.onnx").expect_err("a host").contains("names a host"));
    }

    #[test]
    fn links_stay_in_the_folder() {
        let root = tempfile::tempdir().expect("a folder");
        let root = root.path().canonicalize().expect("it is there");
        let models = root.join("models");
        fs::create_dir_all(root.join("secret")).expect("a folder");
        fs::create_dir_all(&models).expect("a folder");
        fs::write(models.join("v1.onnx"), b"x").expect("a file");
        fs::write(root.join("secret/key.onnx"), b"x").expect("a file");
        symlink("v1.onnx", models.join("current.onnx")).expect("a link");
        symlink("../secret/key.onnx", models.join("out.onnx")).expect("a link");
        symlink("../secret", models.join("folder")).expect("a link");

        assert_eq!(resolve(&models, "current.onnx").expect("stays inside"), models.join("v1.onnx"));
        for uri in ["out.onnx", "folder/key.onnx", "sub/../folder/key.onnx"] {
            let _ = fs::create_dir(models.join("sub"));
            let error = resolve(&models, uri).expect_err("leaves the folder");
            assert!(matches!(error, SourceError::LeavesFolder { .. }), "{uri}: {error}");
        }
        // named outright by the author of the YAML
        assert!(resolve(&models, "../secret/key.onnx").is_ok());
    }
}
