//! Images on other images.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};

use poolctl_image::{
    Arch, Attributes, Compression, ImageBuilder, ImageError, ImageSummary, Layer, LayerOrigin, StoredError, StoredImage,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::layout::{files_in, files_of, read, sha256};

/// An image layout that tests may damage.
struct Base {
    folder: TempDir,
    elsewhere: TempDir,
    summary: ImageSummary,
}

// === impl Base ===

impl Base {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let image = ImageBuilder::for_host()
            .compression(Compression::Gzip(6))
            .layer(Layer::new("one").bytes("/base/one", "1", Attributes::DATA))
            .layer(Layer::new("two").bytes("/base/two", "2", Attributes::DATA))
            .entrypoint(["/base/program"])
            .cmd(["its", "arguments"])
            .env("PATH", "/base/bin")
            .env("KEPT", "yes")
            .user("root")
            .label("base", "yes")
            .label("both", "base")
            .working_dir("/base")
            .port(80);
        let summary = image.write_layout(folder.path(), &"dev.local/base:v1".parse().unwrap()).unwrap();
        Self { folder, elsewhere: tempfile::tempdir().unwrap(), summary }
    }

    fn path(&self) -> &Path {
        self.folder.path()
    }

    fn blob(&self, digest: &str) -> PathBuf {
        self.path().join("blobs/sha256").join(digest.trim_start_matches("sha256:"))
    }

    fn open(&self) -> Result<StoredImage, StoredError> {
        StoredImage::open(self.path(), &Arch::default())
    }

    fn refused(&self) -> String {
        self.open().expect_err("refused").to_string()
    }

    /// Puts a document into the blobs. Returns a descriptor of it.
    fn add(&self, media_type: &str, document: &Value) -> Value {
        let content = document.to_string();
        let hex = sha256(content.as_bytes());
        fs::write(self.blob(&hex), &content).unwrap();
        json!({"mediaType": media_type, "digest": format!("sha256:{hex}"), "size": content.len()})
    }

    fn set_index(&self, manifests: &Value) {
        let index = json!({"schemaVersion": 2, "manifests": manifests});
        fs::write(self.path().join("index.json"), index.to_string()).unwrap();
    }

    fn document(&self, digest: &str) -> Value {
        serde_json::from_slice(&fs::read(self.blob(digest)).unwrap()).unwrap()
    }

    /// The same as a tar file.
    fn archive(&self) -> PathBuf {
        let archive = self.elsewhere.path().join("base.tar");
        let mut tar = tar::Builder::new(File::create(&archive).unwrap());
        tar.append_dir_all(".", self.path()).unwrap();
        tar.finish().unwrap();
        archive
    }
}

fn on(base: StoredImage) -> ImageBuilder {
    ImageBuilder::on(base)
        .layer(Layer::new("mine").bytes("/mine/file", "mine", Attributes::DATA))
        .entrypoint(["/mine/program"])
        .env("PATH", "/mine/bin")
        .env("MORE", "yes")
        .user("65532:65532")
        .label("both", "mine")
        .port(8012)
}

fn written(image: &ImageBuilder) -> (ImageSummary, BTreeMap<String, Vec<u8>>) {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    let summary = image.write_archive(&archive, &"dev.local/mine:v1".parse().unwrap()).unwrap();
    (summary, files_in(&archive))
}

#[test]
fn layers_of_the_base_keep_their_digests_and_settings_are_merged() {
    let base = Base::new();
    let (summary, files) = written(&on(base.open().unwrap()));
    let digests = |summary: &ImageSummary| summary.layers.iter().map(|layer| layer.digest.clone()).collect::<Vec<_>>();
    assert_eq!(digests(&summary)[..2], digests(&base.summary));
    let origins: Vec<_> = summary.layers.iter().map(|layer| layer.origin).collect();
    assert_eq!(origins, [LayerOrigin::Base, LayerOrigin::Base, LayerOrigin::Added]);
    assert_eq!(base.open().unwrap().digest(), base.summary.digest);

    let layout = read(&files, "dev.local/mine:v1");
    assert_eq!(layout.layers[2].last().unwrap().path, "mine/file");
    let config = layout.config.config().as_ref().unwrap();
    let list = |items: &[&str]| Some(items.iter().map(|&item| item.to_owned()).collect::<Vec<_>>());
    assert_eq!(*config.entrypoint(), list(&["/mine/program"]));
    assert_eq!(*config.cmd(), None, "the arguments were for the base's program");
    assert_eq!(*config.env(), list(&["KEPT=yes", "MORE=yes", "PATH=/mine/bin"]));
    assert_eq!((config.user().as_deref(), config.working_dir().as_deref()), (Some("65532:65532"), Some("/base")));
    let labels = config.labels().as_ref().unwrap();
    assert_eq!((labels["base"].as_str(), labels["both"].as_str()), ("yes", "mine"));
    assert_eq!(config.exposed_ports().as_ref().unwrap().len(), 2);
}

#[test]
fn settings_of_the_base_can_be_left_out() {
    let base = Base::new();
    let image = ["PATH", "KEPT"].into_iter().fold(ImageBuilder::on(base.open().unwrap()), ImageBuilder::without_env);
    let (_, files) = written(&image.without_label("base"));
    let layout = read(&files, "dev.local/mine:v1");
    let config = layout.config.config().as_ref().unwrap();
    assert_eq!(*config.env(), None);
    assert_eq!(config.labels().as_ref().unwrap().keys().collect::<Vec<_>>(), ["both"]);
    // what is not touched stays
    assert_eq!(config.cmd().as_ref().unwrap().len(), 2);
    assert_eq!((config.user().as_deref(), config.working_dir().as_deref()), (Some("root"), Some("/base")));
}

#[test]
fn an_archive_is_as_good_a_base_as_a_folder() {
    let base = Base::new();
    let archive = base.archive();
    let image = StoredImage::open(&archive, &Arch::default()).unwrap();
    assert_eq!(written(&on(image)), written(&on(base.open().unwrap())));
    // and one that was made here, on which another was made
    let folder = tempfile::tempdir().unwrap();
    let first = folder.path().join("first.tar");
    on(base.open().unwrap()).write_archive(&first, &"dev.local/first:v1".parse().unwrap()).unwrap();
    let second = on(StoredImage::open(&first, &Arch::default()).unwrap());
    assert_eq!(written(&second).0.layers.len(), 4);
}

#[test]
fn what_docker_made_is_taken_over_in_the_names_of_the_specification() {
    let base = Base::new();
    let mut manifest = base.document(&base.summary.digest);
    manifest["mediaType"] = json!("application/vnd.docker.distribution.manifest.v2+json");
    manifest["config"]["mediaType"] = json!("application/vnd.docker.container.image.v1+json");
    for layer in manifest["layers"].as_array_mut().unwrap() {
        layer["mediaType"] = json!("application/vnd.docker.image.rootfs.diff.tar.gzip");
    }
    let manifest = base.add("application/vnd.docker.distribution.manifest.v2+json", &manifest);
    base.set_index(&json!([manifest]));
    let (_, files) = written(&on(base.open().unwrap()));
    assert_eq!(read(&files, "dev.local/mine:v1").layers.len(), 3);
}

#[test]
fn of_several_platforms_the_right_one_is_taken() {
    let base = Base::new();
    let manifest = base.document(&base.summary.digest);
    let described = |architecture: &str| {
        let mut config = base.document(&base.summary.config);
        config["architecture"] = json!(architecture);
        let mut manifest = manifest.clone();
        manifest["config"] = base.add("application/vnd.oci.image.config.v1+json", &config);
        let mut descriptor = base.add("application/vnd.oci.image.manifest.v1+json", &manifest);
        descriptor["platform"] = json!({"os": "linux", "architecture": architecture});
        descriptor
    };
    let own = Arch::default().to_string();
    let (mine, other) = (described(&own), described("s390x"));
    // what build tools add beside images
    let mut attestation = described("unknown");
    attestation["platform"] = json!({"os": "unknown", "architecture": "unknown"});
    let inner = json!({"schemaVersion": 2, "manifests": [other, mine, attestation]});
    let inner = base.add("application/vnd.oci.image.index.v1+json", &inner);
    base.set_index(&json!([inner]));
    assert_eq!(base.open().unwrap().digest(), mine["digest"]);
    base.set_index(&json!([other]));
    assert!(
        base.refused().contains(&format!("is for linux/s390x, needed is one for linux/{own}")),
        "{}",
        base.refused()
    );
}

#[test]
fn damage_is_found() {
    let base = Base::new();
    let layer = base.blob(&base.summary.layers[0].digest);
    let content = fs::read(&layer).unwrap();
    let write = || {
        let folder = tempfile::tempdir().unwrap();
        let image = on(base.open().unwrap());
        image.write_archive(&folder.path().join("image.tar"), &"dev.local/mine:v1".parse().unwrap())
    };
    fs::write(&layer, &content[1..]).unwrap();
    assert!(matches!(write(), Err(ImageError::Base(StoredError::Corrupt { .. }))));
    fs::remove_file(&layer).unwrap();
    assert!(matches!(write(), Err(ImageError::Base(StoredError::Missing { .. }))));

    fs::write(base.blob(&base.summary.config), "{}").unwrap();
    assert!(base.refused().contains("is damaged"), "{}", base.refused());
    fs::remove_file(base.blob(&base.summary.digest)).unwrap();
    assert!(base.refused().contains("is incomplete: blobs/sha256/"), "{}", base.refused());
    fs::write(base.path().join("index.json"), "[").unwrap();
    assert!(base.refused().contains("has a bad index"), "{}", base.refused());
}

#[test]
fn what_is_neither_a_folder_nor_a_file_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let pipe = folder.path().join("pipe");
    assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    for path in [pipe.as_path(), Path::new("/dev/zero")] {
        let refused = StoredImage::open(path, &Arch::default()).unwrap_err();
        assert!(refused.to_string().ends_with("it is neither a folder nor a file"), "{refused}");
    }
}

#[test]
fn what_is_no_one_image_is_refused() {
    let base = Base::new();
    let manifest = base.document(&base.summary.digest);
    let mut artifact = manifest.clone();
    artifact["config"] = base.add("application/vnd.oci.empty.v1+json", &json!({}));
    let artifact = base.add("application/vnd.oci.image.manifest.v1+json", &artifact);
    base.set_index(&json!([artifact]));
    assert!(
        base.refused().ends_with("holds no container image: its configuration is application/vnd.oci.empty.v1+json")
    );

    let mut fewer = manifest.clone();
    fewer["layers"].as_array_mut().unwrap().pop();
    let fewer = base.add("application/vnd.oci.image.manifest.v1+json", &fewer);
    base.set_index(&json!([fewer]));
    assert!(base.refused().ends_with("it lists 1 layers, its configuration 2"), "{}", base.refused());

    let original = base.add("application/vnd.oci.image.manifest.v1+json", &manifest);
    base.set_index(&json!([original, fewer]));
    assert!(base.refused().contains("holds 2 images for this architecture"), "{}", base.refused());
    base.set_index(&json!([]));
    assert!(base.refused().contains("names no image"), "{}", base.refused());

    // an index that holds itself in the end
    let mut inner = json!([original]);
    for _ in 0..4 {
        let index = json!({"schemaVersion": 2, "manifests": inner});
        inner = json!([base.add("application/vnd.oci.image.index.v1+json", &index)]);
    }
    base.set_index(&inner);
    assert!(base.refused().contains("nested too deep"), "{}", base.refused());

    let refused = |path: &Path| StoredImage::open(path, &Arch::default()).expect_err("refused").to_string();
    let folder = tempfile::tempdir().unwrap();
    assert!(refused(folder.path()).contains("it has no index.json"));
    fs::write(folder.path().join("manifest.json"), "[]").unwrap();
    assert!(refused(folder.path()).contains("Docker's older form"));
    let file = folder.path().join("file");
    for (content, reason) in [
        (&b"no archive, but longer than nothing"[..], "neither a folder nor a tar file"),
        (b"", "no index.json"),
        (b"\x1f\x8b\x08", "compressed as a whole"),
    ] {
        fs::write(&file, content).unwrap();
        assert!(refused(&file).contains(reason), "{content:?}: {}", refused(&file));
    }
    assert!(refused(&folder.path().join("none")).contains("cannot be read"));
    assert_eq!(files_of(folder.path()).len(), 2);
}
