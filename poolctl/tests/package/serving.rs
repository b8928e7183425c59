//! Images that are run.

use poolctl_image::{Attributes, Compression, ImageBuilder, Layer};
use serde_json::{Value, json};

use crate::container::{Container, can_enter};
use crate::support::{digits, external, package, report};
use crate::tree::held_out;

fn predicts(container: &Container) {
    let running = container.start(&[]);
    let (images, truth) = held_out(10);
    let answer = running.request("POST", "/v1/models/digits:predict", &json!({"instances": images}));
    let labels: Vec<_> = answer["predictions"].as_array().unwrap().iter().map(|one| one["label"].clone()).collect();
    assert_eq!(labels, truth);
    if can_enter() {
        assert_eq!(running.owner(), (65532, 65532));
        assert!(running.root_options().contains(&"ro".to_owned()), "{:?}", running.root_options());
    } else {
        eprintln!("not root: run without a root file system of its own");
    }
}

#[test]
fn the_image_of_a_model_answers_as_nobody_on_a_root_that_cannot_be_written() {
    let folder = tempfile::tempdir().unwrap();
    let report = report(package().arg(digits()).arg("-o").arg(folder.path()));
    predicts(&Container::unpack(folder.path(), &report));
}

#[test]
fn a_base_that_has_other_libraries_does_no_harm() {
    let folder = tempfile::tempdir().unwrap();
    let base = folder.path().join("base.tar");
    // each of them would end the program at its start, were it the one that is loaded
    let broken = [
        "/lib64/ld-linux-x86-64.so.2",
        "/lib/ld-linux-aarch64.so.1",
        "/lib/x86_64-linux-gnu/libc.so.6",
        "/usr/lib/libm.so.6",
    ];
    let layer =
        broken.iter().fold(Layer::new("broken"), |layer, path| layer.bytes(*path, "broken", Attributes::EXECUTABLE));
    let image = ImageBuilder::for_host()
        .compression(Compression::None)
        .layer(layer)
        .cmd(["--no-such-flag"])
        .env("BASE", "1")
        .env("KFERVING_POOLED", "true")
        .env("LD_PRELOAD", "/usr/lib/libm.so.6")
        .label("kferving.dev/model", "another")
        .stop_signal("SIGQUIT");
    let base_summary = image.write_archive(&base, &"dev.local/base:v1".parse().unwrap()).unwrap();

    let layout = folder.path().join("layout/");
    let report = report(package().arg(digits()).arg("--from").arg(&base).arg("-o").arg(&layout));
    let origins: Vec<_> = report["layers"].as_array().unwrap().iter().map(|layer| layer["origin"].clone()).collect();
    assert_eq!(origins, ["base", "added", "added", "added"]);
    assert_eq!(report["layers"][0]["digest"], base_summary.layers[0].digest);
    let config = crate::support::config(&layout, &report);
    assert_eq!(config["Labels"]["org.opencontainers.image.base.digest"], base_summary.digest);
    assert_eq!((&config["Labels"]["kferving.dev/model"], &config["StopSignal"]), (&json!("digits"), &json!("SIGTERM")));
    assert_eq!(config["Env"][0], "BASE=1");
    predicts(&Container::unpack(&layout, &report));
}

#[test]
fn weights_beside_the_model_come_along() {
    let folder = tempfile::tempdir().unwrap();
    let report = report(package().arg(external()).args(["--name", "split"]).arg("-o").arg(folder.path()));
    let layer = &report["layers"].as_array().unwrap().last().unwrap();
    assert_eq!(
        crate::support::files(folder.path(), layer),
        ["kferving/model/data/weight.bin", "kferving/model/model.onnx"]
    );
    let container = Container::unpack(folder.path(), &report);
    let running = container.start(&[]);
    assert_eq!(running.request("GET", "/v2/models/split", &json!(null))["name"], "split");
    // arguments are the server's own: what it finds in there is what the label says
    let said: Value = serde_json::from_slice(&container.run(&["inspect", "/kferving/model/model.onnx"]).stdout)
        .unwrap_or_else(|error| panic!("{error}"));
    if can_enter() {
        assert_eq!(said["digest"], report["model"]["digest"]);
    }
}

#[test]
fn without_a_model_it_waits_for_one() {
    let folder = tempfile::tempdir().unwrap();
    let report = report(package().arg("-o").arg(folder.path()));
    assert_eq!(report["reference"], "localhost/model-wrapper:latest");
    let running = Container::unpack(folder.path(), &report).start(&[]);
    assert_eq!(running.request("GET", "/v1/models", &json!(null)), json!({"models": []}));
}
