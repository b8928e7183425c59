//! What is refused, and in which words.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::support::{digits, external, package, stderr};

fn refused<T: AsRef<OsStr>>(arguments: &[T]) -> String {
    let output = package().args(arguments).output().unwrap();
    assert!(!output.status.success(), "it was done");
    assert!(output.stdout.is_empty());
    stderr(&output)
}

fn refused_model(model: &Path) -> String {
    let folder = tempfile::tempdir().unwrap();
    let archive = folder.path().join("image.tar");
    let said = refused(&[model.as_os_str(), OsStr::new("-o"), archive.as_os_str()]);
    assert!(!archive.exists(), "an image was written");
    said
}

#[test]
fn a_broken_model_is_refused_in_the_words_of_the_server() {
    let folder = tempfile::tempdir().unwrap();
    let model = folder.path().join("broken.onnx");
    let content = fs::read(digits()).unwrap();
    fs::write(&model, &content[..content.len() / 2]).unwrap();
    let said = refused_model(&model);
    assert!(said.starts_with(&format!("poolctl: the model {} cannot be packaged: ", model.display())), "{said}");
    assert!(refused_model(&folder.path().join("none.onnx")).contains("none.onnx cannot be read: No such file"));

    // its weights are missing: it would load nowhere
    fs::copy(external().join("model.onnx"), folder.path().join("split.onnx")).unwrap();
    assert!(refused_model(&folder.path().join("split.onnx")).contains("weight.bin"));
    // weights that are not its own
    let said = refused_model(&external().join("escape.onnx"));
    assert!(said.contains("'../../../../etc/passwd' is refused"), "{said}");
    let empty = tempfile::tempdir().unwrap();
    assert!(refused_model(empty.path()).contains("there is no .onnx file in "));
}

#[test]
fn somewhere_it_must_go() {
    let digits = digits();
    let said = refused(&[&digits]);
    assert!(said.contains("--output <PATH>|--push <REFERENCE>"), "{said}");
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("file"), "").unwrap();
    let into = |target: &Path| refused(&[digits.as_os_str(), OsStr::new("-o"), target.as_os_str()]);
    assert!(into(folder.path()).contains("neither empty nor an image layout"));
    assert!(into(&folder.path().join("none/image.tar")).contains("image.tar cannot be written: No such file"));
}

#[test]
fn names_are_checked() {
    let digits = digits();
    let digits = digits.to_str().unwrap();
    let said = refused(&[digits, "-o", "/nonexistent/x.tar", "--tag", "Capital/Name"]);
    assert!(said.contains("expected [REGISTRY/]NAME[:TAG]"), "{said}");
    let said = refused(&[digits, "-o", "/nonexistent/x.tar", "--name", "My Model"]);
    assert!(said.contains("give one with --tag"), "{said}");
    let said = refused(&[digits, "-o", "/nonexistent/x.tar", "--name", "a/b"]);
    assert!(said.contains("a model's name"), "{said}");
    let said = refused(&["-o", "/nonexistent/x.tar", "--name", "digits"]);
    assert!(said.contains("--name goes with a MODEL"), "{said}");
    let digest = format!("localhost:1/a@sha256:{}", "0".repeat(64));
    let said = refused(&[digits, "--push", &digest]);
    assert!(said.contains("gets a tag"), "{said}");
}

#[test]
fn programs_and_bases_of_the_wrong_kind_are_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, "no program and no image").unwrap();
    let with = |flag: &str, path: &Path| {
        let target = folder.path().join("image.tar");
        let digits = digits();
        let arguments = [digits.as_os_str(), "-o".as_ref(), target.as_os_str(), flag.as_ref(), path.as_os_str()];
        refused(&arguments)
    };
    assert!(with("--wrapper", &file).contains("file is no program that can be run"));
    fs::set_permissions(&file, Permissions::from_mode(0o755)).unwrap();
    assert!(with("--wrapper", &file).contains("file is no Linux program or shared library (ELF)"));
    assert!(with("--wrapper", Path::new("/nonexistent/mw")).contains("/nonexistent/mw is not there"));
    assert!(with("--from", &file).contains("--from: "));
    assert!(with("--from", folder.path()).contains("it has no index.json"));

    // a library for another machine: the same with another e_machine in its header
    let mut library = fs::read(std::env::current_exe().unwrap()).unwrap();
    library[18..20].copy_from_slice(&if cfg!(target_arch = "x86_64") { 183u16 } else { 62u16 }.to_le_bytes());
    fs::write(&file, library).unwrap();
    let output =
        package().arg(digits()).arg("-o").arg(folder.path().join("x.tar")).env("ORT_DYLIB_PATH", &file).output();
    let said = stderr(&output.unwrap());
    assert!(said.contains("they cannot go together"), "{said}");
}

#[test]
fn a_registry_that_is_not_there_is_named() {
    let digits = digits();
    // a port of old that nothing listens on any more
    let target = "127.0.0.1:1/me/digits:v1";
    let said = refused(&[digits.to_str().unwrap(), "--push", target]);
    let expected = format!("--push {target}: 127.0.0.1:1 does not answer as a registry: Connection refused");
    assert!(said.contains(&expected), "{said}");
}
