//! What is in an image, and that it is always the same.

use std::fs::{self, File, FileTimes};
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use crate::support::{config, digits, document, files, package, report};

#[test]
fn the_same_model_gives_the_same_image_wherever_and_whenever() {
    let folder = tempfile::tempdir().unwrap();
    let build = |place: &str, age: u64| {
        let place = folder.path().join(place);
        fs::create_dir(&place).unwrap();
        let model = place.join("digits.onnx");
        fs::copy(digits(), &model).unwrap();
        let then = SystemTime::UNIX_EPOCH + Duration::from_secs(age);
        File::open(&model).unwrap().set_times(FileTimes::new().set_modified(then)).unwrap();
        let archive = place.join("image.tar");
        let report = report(package().arg(model).arg("-o").arg(&archive));
        (report["digest"].clone(), fs::read(archive).unwrap())
    };
    let (first, second) = (build("one", 1_000_000_000), build("two", 2_000_000_000));
    assert_eq!(first.0, second.0);
    assert!(first.1 == second.1, "the archives differ");
}

#[test]
fn it_says_which_model_it_serves() {
    let folder = tempfile::tempdir().unwrap();
    let name = ["--name", "zip-codes", "--tag", "dev.local/codes:v7"];
    let report = report(package().arg(digits()).args(name).arg("-o").arg(folder.path()));
    assert_eq!(report["reference"], "dev.local/codes:v7");
    assert_eq!(report["model"]["name"], "zip-codes");
    assert_eq!(report["written"]["form"], "layout");
    let said = config(folder.path(), &report);
    let labels = &said["Labels"];
    assert_eq!(labels["kferving.dev/model"], "zip-codes");
    assert_eq!(labels["kferving.dev/model-format"], "onnx");
    assert_eq!(labels["kferving.dev/model-digest"], report["model"]["digest"]);
    assert_eq!(labels["org.opencontainers.image.title"], "zip-codes");
    assert_eq!(document(folder.path(), &report["digest"])["annotations"], *labels, "annotations say what labels say");
    assert_eq!((&said["User"], &said["ExposedPorts"]), (&json!("65532:65532"), &json!({"8012/tcp": {}})));

    let layers = report["layers"].as_array().unwrap();
    let held: Vec<Vec<String>> = layers.iter().map(|layer| files(folder.path(), layer)).collect();
    for needed in ["kferving/lib/libonnxruntime.so", "kferving/lib/libc.so.6", "kferving/lib/libstdc++.so.6"] {
        assert!(held[0].contains(&needed.to_owned()), "{needed}: {:?}", held[0]);
    }
    assert_eq!(held[1], ["kferving/bin/model-wrapper"]);
    assert_eq!(held[2], ["kferving/model/digits.onnx"]);
}

#[test]
fn images_of_two_models_share_the_layers_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let layers = |name: &str| -> Vec<Value> {
        let report = report(package().arg(digits()).args(["--name", name]).arg("-o").arg(folder.path()));
        report["layers"].as_array().unwrap().iter().map(|layer| layer["digest"].clone()).collect()
    };
    let (one, two, idle) = (layers("one"), layers("two"), report(package().arg("-o").arg(folder.path())));
    assert_eq!(one[..2], two[..2]);
    assert_eq!(idle["layers"][1]["digest"], one[1]);
    // and all three are in the layout
    let index: Value = serde_json::from_slice(&fs::read(folder.path().join("index.json")).unwrap()).unwrap();
    assert_eq!(index["manifests"].as_array().unwrap().len(), 3);
}

#[test]
fn people_are_told_how_to_run_it() {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    let output = package().arg(digits()).arg("-o").arg(&archive).output().unwrap();
    let said = String::from_utf8(output.stdout).unwrap();
    for told in [
        "localhost/digits:latest",
        "sha256:",
        "model digits",
        &format!("docker load -i {}", archive.display()),
        "docker run --read-only -p 8012:8012 localhost/digits:latest",
    ] {
        assert!(said.contains(told), "{told}: {said}");
    }
}
