use super::*;
use crate::ImageError;

fn paths(layer: &Layer) -> Result<Vec<String>, String> {
    let plan = Plan::new(layer).map_err(|error| error.to_string())?;
    Ok(plan.paths().into_iter().map(str::to_owned).collect())
}

#[test]
fn entries_are_sorted_below_their_folders() {
    let layer = Layer::new("")
        .bytes("/b/c/d", "x", Attributes::DATA)
        .bytes("b-a", "x", Attributes::DATA)
        .folder("/b/", Attributes::FOLDER.owner(7, 7))
        .link("//a", "b");
    assert_eq!(paths(&layer), Ok(["a", "b", "b-a", "b/c", "b/c/d"].map(str::to_owned).to_vec()));
}

#[test]
fn impossible_paths_are_refused() {
    let error = |path: &str| paths(&Layer::new("").bytes(path, "x", Attributes::DATA)).expect_err("refused");
    assert_eq!(error("/"), "the path \"/\" in the image names nothing below its root");
    assert_eq!(error("a/../b"), "the path \"a/../b\" in the image has a part '.' or '..'");
    assert!(error("a/.wh.b").contains("would delete"));
    assert!(error("a\0").contains("zero byte"));
}

#[test]
fn a_path_is_one_thing() {
    let twice = Layer::new("").bytes("a", "x", Attributes::DATA).link("/a", "b");
    assert_eq!(paths(&twice), Err("two entries of one layer have the path /a".to_owned()));
    let below_a_file = Layer::new("").bytes("a", "x", Attributes::DATA).bytes("a/b/c", "x", Attributes::DATA);
    assert_eq!(paths(&below_a_file), Err("/a/b cannot be in the image: /a above it is no folder".to_owned()));
    let below_a_link = Layer::new("").link("a", "elsewhere").bytes("a/b", "x", Attributes::DATA);
    assert!(paths(&below_a_link).is_err());
}

#[test]
fn a_source_is_blamed_by_name() {
    let folder = tempfile::tempdir().expect("a folder");
    let write = |source: &std::path::Path| {
        let layer = Layer::new("").file("/a", source, Attributes::DATA);
        write_tar(&Plan::new(&layer).expect("a plan"), std::io::sink(), "out.tar".as_ref())
    };
    let missing = folder.path().join("missing");
    assert!(matches!(write(&missing), Err(ImageError::Source { path, .. }) if path == missing));
    assert!(matches!(write(folder.path()), Err(ImageError::NotAFile(path)) if path == folder.path()));
}

#[test]
fn a_full_disk_is_the_outputs_fault() {
    struct Full;
    impl std::io::Write for Full {
        fn write(&mut self, _: &[u8]) -> std::io::Result<usize> {
            Err(std::io::ErrorKind::StorageFull.into())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }
    let folder = tempfile::tempdir().expect("a folder");
    let source = folder.path().join("source");
    std::fs::write(&source, "content").expect("a file");
    let layer = Layer::new("").file("/a", &source, Attributes::DATA);
    let error = write_tar(&Plan::new(&layer).expect("a plan"), Full, "out.tar".as_ref()).expect_err("no room");
    assert!(error.to_string().starts_with("out.tar cannot be written:"), "{error}");
}
