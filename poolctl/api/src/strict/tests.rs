use std::fs;
use std::os::unix::fs::symlink;

use super::*;

const GOOD: &str = "\
apiVersion: kferving.dev/v1alpha1
kind: Model
metadata: {name: digits, namespace: vision}
spec:
  storageUri: digits.onnx
  cpu:
    resources: {requests: {cpu: 500m, memory: 256Mi}, limits: {cpu: \"1\", memory: 512Mi}}
    containerConcurrency: 4
  objective: {latency: 50ms}
  warmPool: big
---
apiVersion: kferving.dev/v1alpha1
kind: WarmPool
metadata: {name: big}
spec: {device: cpu, resources: {}, minSize: 1, maxSize: 10, serviceAccountName: default}
";

fn load(files: &[(&str, &str)]) -> Result<Resources, String> {
    let directory = tempfile::tempdir().expect("a folder");
    for (name, text) in files {
        fs::write(directory.path().join(name), text).expect("a file");
    }
    let prefix = format!("{}/", directory.path().display());
    load_directory(directory.path(), "default").map_err(|error| error.to_string().replace(&prefix, ""))
}

/// What the loader says of one file in which `from` is replaced by `to`.
fn refused(from: &str, to: &str) -> String {
    assert!(GOOD.contains(from), "the good file has no {from:?}");
    load(&[("m.yaml", &GOOD.replacen(from, to, 1))]).expect_err("a mistake")
}

#[test]
fn documents_of_all_files_are_read() {
    let second = GOOD.split("---").next().expect("a document").replace("digits,", "letters,");
    let found = load(&[("a.yaml", GOOD), ("b.yml", &second), ("notes.txt", "{"), ("model.onnx", "x")]);
    let found = found.expect("no mistake");
    let models: Vec<_> = found.models.iter().map(|model| model.value.name.as_str()).collect();
    assert_eq!(models, ["digits", "letters"]);
    assert_eq!(found.models[0].value.namespace, "vision");
    assert_eq!((found.pools[0].value.namespace.as_deref(), found.pools[0].line), (None, 12));
    assert!(found.pools[0].file.ends_with("a.yaml"));
}

#[test]
fn a_digest_of_digits_is_text() {
    for digest in ["0".repeat(64), "12345678".repeat(8)] {
        let with_digest =
            GOOD.replace("  warmPool: big", &format!("  sha256: {digest} # of the file\n  warmPool: big"));
        let found = load(&[("m.yaml", &with_digest)]).expect("no mistake");
        assert_eq!(found.models[0].value.variants[0].sha256.as_ref(), Some(&digest));
    }
}

#[test]
fn empty_documents_and_folders_are_nothing() {
    assert_eq!(load(&[]), Ok(Resources::default()));
    assert_eq!(load(&[("a.yaml", "# nothing yet\n---\n---\n")]), Ok(Resources::default()));
}

#[test]
fn each_mistake_is_named_with_file_line_and_field() {
    for (from, to, expected) in [
        (
            "    containerConcurrency: 4",
            "    containerConcurency: 4",
            "m.yaml:8: spec.cpu.containerConcurency: unknown field: did you mean containerConcurrency?",
        ),
        (
            "  warmPool: big",
            "  replicas: 3",
            "m.yaml:10: spec.replicas: unknown field: expected one of batching, cost, cpu, gpu, modelFormat, objective, \
             scaleToZeroAfter, sha256, storageUri, timeout, warmPool",
        ),
        (
            "metadata: {name: digits, namespace: vision}",
            "metadata: {nam: digits}",
            "m.yaml:3: metadata.nam: unknown field: did you mean name?\n\
             m.yaml:3: metadata.name: required, but it is missing",
        ),
        ("kind: Model", "kind: Deployment", "m.yaml:2: kind: expected Model or WarmPool, got \"Deployment\""),
        (
            "apiVersion: kferving.dev/v1alpha1",
            "apiVersion: kferving.dev/v1",
            "m.yaml:1: apiVersion: expected kferving.dev/v1alpha1, got \"kferving.dev/v1\"",
        ),
        (
            "    containerConcurrency: 4",
            "    containerConcurrency: four",
            "m.yaml:8: spec.cpu.containerConcurrency: expected a whole number, got the text \"four\"",
        ),
        (
            "    containerConcurrency: 4",
            "    containerConcurrency: 1.5",
            "m.yaml:8: spec.cpu.containerConcurrency: expected a whole number, got the number 1.5",
        ),
        (
            "    containerConcurrency: 4",
            "    containerConcurrency: 0",
            "m.yaml:8: spec.cpu.containerConcurrency: expected 1 to 1000, got 0",
        ),
        (
            "latency: 50ms",
            "latency: 50",
            "m.yaml:9: spec.objective.latency: expected a duration such as 50ms, 30s or 1m30s, got the number 50",
        ),
        (
            "latency: 50ms",
            "latency: 50msec",
            "m.yaml:9: spec.objective.latency: expected a duration such as 50ms, 30s or 1m30s, got \"50msec\"",
        ),
        (
            "  storageUri: digits.onnx",
            "  storageUri: 5",
            "m.yaml:5: spec.storageUri: expected text, got the number 5: put it into quotes",
        ),
        (
            "memory: 256Mi",
            "memory: [256]",
            "m.yaml:7: spec.cpu.resources.requests.memory: expected a quantity such as 500m or 512Mi, got a list",
        ),
        (
            "memory: 256Mi",
            "memory: 256MB",
            "m.yaml:7: spec.cpu.resources.requests.memory: expected a quantity such as 500m, 2, 512Mi or 1G, got \"256MB\"",
        ),
        (
            "memory: 256Mi",
            "memory: 1Gi",
            "m.yaml:7: spec.cpu.resources.requests.memory: expected at most the limit 512Mi, got 1Gi",
        ),
        (
            "  objective: {latency: 50ms}",
            "  gpu:",
            "m.yaml:9: spec.gpu: expected a mapping, got nothing: write {} for one of defaults",
        ),
        (
            "  objective: {latency: 50ms}",
            "  gpu: {fraction: 0.3}",
            "m.yaml:9: spec.gpu.fraction: expected text, got the number 0.3: put it into quotes",
        ),
        ("device: cpu", "device: tpu", "m.yaml:15: spec.device: expected one of cpu, gpu, got \"tpu\""),
        ("minSize: 1", "minSize: 11", "m.yaml:15: spec: minSize must not be above maxSize"),
        (
            "  warmPool: big",
            "  warmPool: huge",
            "m.yaml:1: spec.warmPool: no WarmPool \"huge\" for namespace vision: expected one of big, default",
        ),
        (
            "name: digits",
            "name: Digits",
            "m.yaml:3: metadata.name: expected lower-case letters, digits and '-', beginning and ending with a letter \
             or digit, got \"Digits\"",
        ),
        (
            "namespace: vision",
            "labels: {a: 1}",
            "m.yaml:3: metadata.labels.a: expected text, got the number 1: put it into quotes",
        ),
        (
            "spec: {device: cpu",
            "status: {}\nspec: {device: cpu",
            "m.yaml:15: status: unknown field: expected one of apiVersion, kind, metadata, spec",
        ),
    ] {
        assert_eq!(refused(from, to), expected, "{from:?} -> {to:?}");
    }
}

#[test]
fn broken_yaml_is_named_with_its_line() {
    let message = refused("  objective: {latency: 50ms}", "  objective: {latency: 50ms");
    assert!(message.starts_with("m.yaml:1"), "{message}");
    let message = refused("    containerConcurrency: 4", "    containerConcurrency: 4\n    containerConcurrency: 5");
    assert_eq!(message, "m.yaml:9: duplicate mapping key `containerConcurrency` is not allowed here");
    assert_eq!(
        load(&[("m.yaml", "just text\n")]).expect_err("no mapping"),
        "m.yaml:1: expected a Model or a WarmPool, got the text \"just text\""
    );
}

#[test]
fn two_resources_of_one_name_are_refused() {
    let message = load(&[("a.yaml", GOOD), ("b.yaml", GOOD)]).expect_err("duplicates");
    assert_eq!(
        message,
        "b.yaml:1: metadata.name: duplicate Model vision/digits: already in a.yaml:1\n\
         b.yaml:12: metadata.name: duplicate WarmPool big: already in a.yaml:12"
    );
}

#[test]
fn the_mistakes_of_all_files_are_named() {
    let bad = GOOD.replace("latency: 50ms", "latency: 50");
    let message = load(&[("a.yaml", &bad), ("b.yaml", "kind: Model\n")]).expect_err("mistakes");
    let lines: Vec<_> = message.lines().collect();
    assert_eq!(lines.len(), 2, "{message}");
    assert!(lines[0].starts_with("a.yaml:9:") && lines[1].starts_with("b.yaml:1: apiVersion: required"), "{message}");
}

#[test]
fn files_that_cannot_be_read_are_named_beside_other_mistakes() {
    let directory = tempfile::tempdir().expect("a folder");
    let path = |name: &str| directory.path().join(name);
    fs::write(path("a.yaml"), b"\xff\xfe").expect("a file");
    symlink("nowhere.yaml", path("b.yaml")).expect("a link");
    fs::write(path("c.yaml"), "kind: Model\n").expect("a file");
    // not meant: a folder, and what an editor locks a file with
    fs::create_dir(path("d.yaml")).expect("a folder");
    symlink("me@host.1", path(".#a.yaml")).expect("a link");
    let message = load_directory(directory.path(), "default").expect_err("mistakes").to_string();
    let lines: Vec<_> = message.lines().map(|line| line.rsplit('/').next().unwrap_or_default()).collect();
    assert_eq!(lines.len(), 3, "{message}");
    assert_eq!(lines[0], "a.yaml: it cannot be read: stream did not contain valid UTF-8");
    assert_eq!(lines[1], "b.yaml: it cannot be read: No such file or directory (os error 2)");
}

#[test]
fn a_missing_directory_and_a_huge_file_are_errors() {
    let missing = load_directory(Path::new("/nonexistent/models"), "default").expect_err("missing");
    assert!(matches!(missing, LoadError::Io { .. }));
    assert!(missing.to_string().starts_with("/nonexistent/models cannot be read: No such file"), "{missing}");
    let huge = "#".repeat(usize::try_from(MAX_FILE_BYTES).expect("small") + 1);
    assert!(load(&[("m.yaml", &huge)]).expect_err("huge").contains("expected at most 4194304 bytes"));
}
