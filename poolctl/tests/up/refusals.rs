//! What keeps a stack from starting, in one line that says what to do.

use std::net::TcpListener;

use crate::stack::{Models, stderr, stdout};
use crate::tree::poolctl;

/// Exit status and what it says when started with these arguments.
fn refused(models: &Models, arguments: &[&str], environment: &[(&str, &str)]) -> String {
    let mut command = poolctl();
    command.arg("up").arg("--models").arg(models.path()).args(arguments);
    for flag in ["--listen", "--admin"].iter().filter(|flag| !arguments.contains(flag)) {
        command.args([flag, "127.0.0.1:0"]);
    }
    let output = command.envs(environment.iter().copied()).env("RUST_LOG", "off").output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", stderr(&output));
    assert_eq!(stdout(&output), "");
    let said = stderr(&output);
    said.strip_prefix("poolctl: ").unwrap_or_else(|| panic!("{said}")).to_owned()
}

#[test]
fn a_taken_port_is_named() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let models = Models::with_digits("");
    for flag in ["--listen", "--admin"] {
        let said = refused(&models, &[flag, &address], &[]);
        assert!(
            said.starts_with(&format!(
                "cannot listen on {address}: is another one running? Name another address with {flag}"
            )),
            "{said}"
        );
        assert!(said.contains("Address already in use"), "{said}");
    }
}

#[test]
fn an_address_that_is_not_here_is_said_to_be_elsewhere() {
    // TEST-NET-1 (RFC 5737): no machine has it
    let models = Models::with_digits("");
    for flag in ["--listen", "--admin"] {
        let said = refused(&models, &[flag, "192.0.2.1:0"], &[]);
        assert!(said.starts_with("cannot listen on 192.0.2.1:0: this machine has no such address."), "{said}");
    }
}

#[test]
fn arguments_that_cannot_be_are_refused_with_what_is_expected() {
    for (flag, value, expected) in [
        ("--listen", "localhost:0", "expected IP:PORT, such as 127.0.0.1:8080"),
        ("--admin", "8081", "expected IP:PORT"),
        ("--namespace", "Bad NS", "expected lower-case letters, digits and '-'"),
    ] {
        let output = poolctl().args(["up", flag, value]).output().unwrap();
        assert_eq!(output.status.code(), Some(2));
        let said = stderr(&output);
        assert!(said.contains(expected) && said.contains(flag), "{said}");
    }
}

#[test]
fn a_missing_library_is_named() {
    let models = Models::with_digits("");
    let said = refused(&models, &[], &[("ORT_DYLIB_PATH", "/nonexistent/libonnxruntime.so")]);
    assert!(
        said.starts_with(
            "the ONNX Runtime library /nonexistent/libonnxruntime.so is not there: ORT_DYLIB_PATH names it. Get it with"
        ),
        "{said}"
    );
}

#[test]
fn a_library_that_is_none_is_said_by_the_replicas() {
    let models = Models::with_digits("");
    models.write("libonnxruntime.so", "not a library");
    let library = models.path().join("libonnxruntime.so").display().to_string();
    let said = refused(&models, &[], &[("ORT_DYLIB_PATH", &library)]);
    assert!(said.starts_with("replicas of pool default/default do not start: "), "{said}");
    assert!(said.contains(&library), "{said}");
}

#[test]
fn a_missing_model_server_is_named() {
    let models = Models::with_digits("");
    let said = refused(&models, &["--wrapper", "/nonexistent/model-wrapper"], &[]);
    assert!(said.starts_with("the model server /nonexistent/model-wrapper is not there"), "{said}");
}

#[test]
fn every_mistake_in_the_models_is_named() {
    let models = Models::with_digits("  replicas: 3");
    models.write(
        "pool.yaml",
        "apiVersion: kferving.dev/v1alpha1\nkind: WarmPool\nmetadata: {name: p}\nspec: {minSize: -1}\n",
    );
    let said = refused(&models, &[], &[]);
    assert!(said.contains("digits.yaml:7: spec.replicas: unknown field: expected one of batching,"), "{said}");
    assert!(said.contains("pool.yaml:4: spec.minSize: expected 0 to 1000, got -1"), "{said}");
}

#[test]
fn without_models_the_directory_here_is_taken() {
    let empty = tempfile::tempdir().unwrap();
    let output = poolctl().arg("up").current_dir(empty.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(
        stderr(&output),
        "poolctl: there is no directory `models` here: name the one that holds your Model YAML files with --models DIR\n"
    );
}
