//! What is written.

use std::fs::{self, File, FileTimes};
use std::path::Path;
use std::time::{Duration, SystemTime};

use poolctl_image::{Attributes, Compression, ImageBuilder, ImageError, ImageSummary, Layer, Reference};
use tar::EntryType;

use crate::layout::{Layout, files_in, files_of, read, sha256};

const NAME: &str = "dev.local/thing:v1";

fn name() -> Reference {
    NAME.parse().unwrap()
}

/// An image with everything that can be said about one.
fn thing(source: &Path, compression: Compression) -> ImageBuilder {
    let long = format!("/deep/{}/{}", "folder".repeat(20), "file".repeat(30));
    let files = Layer::new("files")
        .file("/bin/program", source, Attributes::EXECUTABLE)
        .bytes(long, "far down", Attributes { mode: 0o600, uid: 65532, gid: 65533 })
        .link("/bin/alias", "program")
        .folder("/data", Attributes { mode: 0o1777, uid: 7, gid: 8 });
    ImageBuilder::for_host()
        .compression(compression)
        .layer(files)
        .layer(Layer::new("more").bytes("/etc/motd", "hello\n", Attributes::DATA))
        .entrypoint(["/bin/program", "--flag"])
        .cmd(["argument"])
        .env("B", "2")
        .env("A", "1=one")
        .user("65532:65532")
        .label("b", "2")
        .label("a", "1")
        .annotation("note", "text")
        .working_dir("/data")
        .port(8012)
        .port(9091)
        .stop_signal("SIGINT")
}

fn check(layout: &Layout, summary: &ImageSummary, program: &[u8]) {
    let [descriptor] = layout.index.manifests().as_slice() else { panic!("one image") };
    assert_eq!(descriptor.digest().to_string(), summary.digest);
    assert_eq!(descriptor.annotations().as_ref().unwrap()["org.opencontainers.image.ref.name"], "v1");
    assert_eq!(layout.manifest.annotations().as_ref().unwrap()["note"], "text");
    let files: Vec<_> = layout.layers[0].iter().map(|entry| (entry.path.clone(), entry.kind)).collect();
    let paths: Vec<_> = files.iter().map(|(path, _)| path.as_str()).collect();
    assert_eq!(paths[..4], ["bin/", "bin/alias", "bin/program", "data/"]);
    let found = |path: &str| layout.layers[0].iter().find(|entry| entry.path.starts_with(path)).unwrap();
    assert_eq!((found("bin/program").mode, found("bin/program").owner), (0o755, (0, 0)));
    assert_eq!(found("bin/program").content, program);
    assert_eq!((found("bin/alias").kind, found("bin/alias").target.as_deref()), (EntryType::Symlink, Some("program")));
    assert_eq!((found("data/").mode, found("data/").owner), (0o1777, (7, 8)));
    let deep = layout.layers[0].last().unwrap();
    assert_eq!((deep.path.len(), deep.mode, deep.owner), (246, 0o600, (65532, 65533)));
    assert_eq!(deep.content, b"far down");
    assert!(layout.layers.iter().flatten().all(|entry| entry.mtime == 0));

    let config = layout.config.config().as_ref().unwrap();
    let list = |items: &[&str]| Some(items.iter().map(|&item| item.to_owned()).collect::<Vec<_>>());
    assert_eq!(*config.entrypoint(), list(&["/bin/program", "--flag"]));
    assert_eq!(*config.cmd(), list(&["argument"]));
    assert_eq!(*config.env(), list(&["A=1=one", "B=2"]));
    assert_eq!((config.user().as_deref(), config.working_dir().as_deref()), (Some("65532:65532"), Some("/data")));
    assert_eq!(config.stop_signal().as_deref(), Some("SIGINT"));
    assert_eq!(config.labels().as_ref().unwrap()["a"], "1");
    let mut ports = config.exposed_ports().clone().unwrap();
    ports.sort();
    assert_eq!(ports, ["8012/tcp", "9091/tcp"]);
    assert_eq!(layout.config.created().as_deref(), Some("1970-01-01T00:00:00Z"));
}

#[test]
fn an_archive_is_an_image_layout() {
    let folder = tempfile::tempdir().unwrap();
    let (source, archive) = (folder.path().join("program"), folder.path().join("image.tar"));
    // longer than a buffer, and not a multiple of a block
    let program: Vec<u8> = (0..1_500_001u32).map(|at| (at % 251) as u8).collect();
    fs::write(&source, &program).unwrap();
    for compression in [Compression::None, Compression::Gzip(1)] {
        let summary = thing(&source, compression).write_archive(&archive, &name()).unwrap();
        let files = files_in(&archive);
        check(&read(&files, NAME), &summary, &program);
        let stored: usize =
            files.iter().filter(|(path, _)| path.starts_with("blobs/")).map(|(_, blob)| blob.len()).sum();
        assert_eq!(summary.bytes, stored as u64);
        // Docker's own list says the same
        let docker: serde_json::Value = serde_json::from_slice(&files["manifest.json"]).unwrap();
        assert_eq!(docker[0]["RepoTags"], serde_json::json!([NAME]));
        assert_eq!(docker[0]["Config"], format!("blobs/sha256/{}", &summary.config["sha256:".len()..]));
        assert_eq!(docker[0]["Layers"].as_array().unwrap().len(), 2);
    }
    // nothing is left of the way there
    assert_eq!(files_of(folder.path()).len(), 2);
}

#[test]
fn a_layout_has_the_digest_of_the_archive() {
    let folder = tempfile::tempdir().unwrap();
    let (source, archive) = (folder.path().join("program"), folder.path().join("image.tar"));
    fs::write(&source, "#!").unwrap();
    let image = thing(&source, Compression::default());
    let layout = folder.path().join("layout");
    let summary = image.write_layout(&layout, &name()).unwrap();
    check(&read(&files_of(&layout), NAME), &summary, b"#!");
    assert_eq!(image.write_archive(&archive, &name()).unwrap(), summary);
    let blobs = |files: std::collections::BTreeMap<String, Vec<u8>>| {
        files.into_iter().filter(|(path, _)| path.starts_with("blobs/")).collect::<Vec<_>>()
    };
    assert_eq!(blobs(files_in(&archive)), blobs(files_of(&layout)));
}

#[test]
fn the_same_input_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let write = |name: &str, age: u64| {
        let source = folder.path().join(name);
        fs::write(&source, "a program").unwrap();
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(age);
        File::open(&source).unwrap().set_times(FileTimes::new().set_modified(then)).unwrap();
        let archive = folder.path().join(format!("{name}.tar"));
        thing(&source, Compression::default()).write_archive(&archive, &self::name()).unwrap();
        fs::read(archive).unwrap()
    };
    let first = write("first", 1_000_000_000);
    // labels, variables and annotations are in maps without an order: one try would prove little
    for attempt in 0..10 {
        assert_eq!(sha256(&first), sha256(&write(&format!("again-{attempt}"), attempt)));
    }
}

#[test]
fn a_layout_takes_more_images() {
    let folder = tempfile::tempdir().unwrap();
    let image = |content: &str| {
        let layer = Layer::new("").bytes("/file", content, Attributes::DATA);
        ImageBuilder::for_host().compression(Compression::None).layer(layer)
    };
    let (one, two): (Reference, Reference) = ("a/one:v1".parse().unwrap(), "a/two:v1".parse().unwrap());
    image("1").write_layout(folder.path(), &one).unwrap();
    image("2").write_layout(folder.path(), &two).unwrap();
    image("3").write_layout(folder.path(), &one).unwrap();
    let files = files_of(folder.path());
    let content = |name| read(&files, name).layers[0][0].content.clone();
    assert_eq!((content("docker.io/a/one:v1"), content("docker.io/a/two:v1")), (b"3".to_vec(), b"2".to_vec()));
    assert_eq!(read(&files, "docker.io/a/one:v1").index.manifests().len(), 2);
}

#[test]
fn one_layer_twice_is_kept_once() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    let layer = Layer::new("").bytes("/file", "content", Attributes::DATA);
    let image = ImageBuilder::for_host().layer(layer.clone()).layer(layer);
    image.write_archive(&archive, &name()).unwrap();
    let files = files_in(&archive);
    assert_eq!(read(&files, NAME).layers.len(), 2);
    assert_eq!(files.keys().filter(|path| path.starts_with("blobs/")).count(), 3);
}

#[test]
fn nothing_is_overwritten_by_an_image_that_failed() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    fs::write(&archive, "the one before").unwrap();
    let image =
        ImageBuilder::for_host().layer(Layer::new("").file("/file", folder.path().join("none"), Attributes::DATA));
    assert!(matches!(image.write_archive(&archive, &name()), Err(ImageError::Source { .. })));
    assert_eq!(fs::read(&archive).unwrap(), b"the one before");
    assert_eq!(files_of(folder.path()).len(), 1);
    // a folder of other things is left alone
    assert!(matches!(image.write_layout(folder.path(), &name()), Err(ImageError::NotALayout(_))));
    let digest = format!("a/b@sha256:{}", "0".repeat(64)).parse().unwrap();
    assert!(matches!(image.write_archive(&archive, &digest), Err(ImageError::DigestReference(_))));
}

#[test]
fn an_image_that_failed_leaves_no_blob_in_a_layout() {
    let folder = tempfile::tempdir().unwrap();
    let whole = Layer::new("").bytes("/file", "content", Attributes::DATA);
    let image = ImageBuilder::for_host().layer(whole);
    image.write_layout(folder.path(), &name()).unwrap();
    let before = files_of(folder.path());
    let more = Layer::new("").bytes("/other", "content", Attributes::DATA);
    let missing = Layer::new("").file("/file", folder.path().join("none"), Attributes::DATA);
    let failed = image.layer(more).layer(missing).write_layout(folder.path(), &"a/other:v1".parse().unwrap());
    assert!(matches!(failed, Err(ImageError::Source { .. })));
    assert_eq!(files_of(folder.path()), before);
}

#[test]
fn images_that_are_written_at_once_are_all_in_the_layout() {
    const WRITERS: usize = 8;
    let folder = tempfile::tempdir().unwrap();
    std::thread::scope(|scope| {
        for writer in 0..WRITERS {
            let folder = folder.path();
            scope.spawn(move || {
                let layer = Layer::new("").bytes("/file", writer.to_string(), Attributes::DATA);
                let name = format!("a/{writer}:v1").parse().unwrap();
                ImageBuilder::for_host().layer(layer).write_layout(folder, &name).unwrap();
            });
        }
    });
    let files = files_of(folder.path());
    for writer in 0..WRITERS {
        let layout = read(&files, &format!("docker.io/a/{writer}:v1"));
        assert_eq!(layout.layers[0][0].content, writer.to_string().as_bytes());
        assert_eq!(layout.index.manifests().len(), WRITERS);
    }
}
