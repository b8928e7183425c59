use super::*;

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx/tests/fixtures").join(name)
}

#[test]
fn the_digest_is_the_files_own() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("empty.onnx");
    std::fs::write(&path, b"").unwrap();
    let fetched = fetch(&path).unwrap();
    assert_eq!(fetched.digest, "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
}

#[test]
fn external_data_is_read_and_counts_for_the_digest() {
    let fetched = fetch(&fixture("external/model.onnx")).unwrap();
    assert_eq!(fetched.files.external.keys().collect::<Vec<_>>(), ["data/weight.bin"]);

    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    for name in ["model.onnx", "data/weight.bin"] {
        std::fs::copy(fixture("external").join(name), folder.path().join(name)).unwrap();
    }
    let model = folder.path().join("model.onnx");
    assert_eq!(fetch(&model).unwrap().digest, fetched.digest);
    std::fs::write(folder.path().join("data/weight.bin"), [0; 24]).unwrap();
    assert_ne!(fetch(&model).unwrap().digest, fetched.digest);
    std::fs::remove_file(folder.path().join("data/weight.bin")).unwrap();
    assert!(matches!(fetch(&model), Err(SourceError::Read { .. })));
}

#[test]
fn what_leaves_the_folder_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    let inside = folder.path().join("models");
    std::fs::create_dir(&inside).unwrap();
    std::fs::copy(fixture("fp32.onnx"), folder.path().join("outside.onnx")).unwrap();
    std::fs::copy(fixture("fp32.onnx"), inside.join("real.onnx")).unwrap();
    std::os::unix::fs::symlink("../outside.onnx", inside.join("escape.onnx")).unwrap();
    std::os::unix::fs::symlink("real.onnx", inside.join("alias.onnx")).unwrap();
    assert!(matches!(fetch(&inside.join("escape.onnx")), Err(SourceError::Leaves { .. })));
    assert_eq!(fetch(&inside.join("alias.onnx")).unwrap().digest, fetch(&inside.join("real.onnx")).unwrap().digest);
    assert!(matches!(fetch(&fixture("external/escape.onnx")), Err(SourceError::Model(_))));

    std::fs::copy(fixture("external/model.onnx"), inside.join("model.onnx")).unwrap();
    std::fs::create_dir(inside.join("data")).unwrap();
    std::os::unix::fs::symlink("/etc/hostname", inside.join("data/weight.bin")).unwrap();
    assert!(matches!(fetch(&inside.join("model.onnx")), Err(SourceError::Leaves { .. })));
}

#[test]
fn a_model_has_the_same_bound_whatever_it_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let large = folder.path().join("large.onnx");
    // It takes no room on the disk.
    File::create(&large).unwrap().set_len(MAX_MODEL_BYTES + 1).unwrap();
    std::os::unix::fs::symlink("large.onnx", folder.path().join("alias")).unwrap();
    std::fs::hard_link(&large, folder.path().join("model.pb")).unwrap();
    for name in ["large.onnx", "model.pb", "alias"] {
        // Not printed: it would be the whole model.
        let error = fetch(&folder.path().join(name)).err().unwrap();
        assert!(matches!(&error, SourceError::TooLarge(path) if path.ends_with(name)), "{error}");
    }
}

#[test]
fn a_folder_or_nothing_is_no_model() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("model.onnx")).unwrap();
    assert!(matches!(fetch(&folder.path().join("model.onnx")), Err(SourceError::NotAFile(_))));
    assert!(matches!(fetch(&folder.path().join("absent.onnx")), Err(SourceError::Read { .. })));
}

#[test]
fn only_absolute_file_uris_are_fetched() {
    assert_eq!(path_of("file:///models/a%20b.onnx").unwrap(), Path::new("/models/a%20b.onnx"));
    for uri in ["file://host/x", "file:x", "s3://bucket/x", "/models/x.onnx", "http://169.254.169.254/x", ""] {
        let error = path_of(uri).unwrap_err().to_string();
        assert!(error.contains("supported are file:///"), "{error}");
    }
}
