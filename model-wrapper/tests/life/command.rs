//! The command line.

use std::process::Output;

use serde_json::Value;

use crate::wrapper::{binary, fixture};

fn fails(arguments: &[&str]) -> String {
    let Output { status, stderr, .. } = binary().args(arguments).output().unwrap();
    assert!(!status.success(), "{arguments:?}");
    String::from_utf8(stderr).unwrap()
}

#[test]
fn inspect_says_what_each_model_is() {
    let output = binary().arg("inspect").arg(fixture("fp32.onnx")).arg(fixture("bytes.onnx")).output().unwrap();
    assert!(output.status.success());
    let lines: Vec<Value> =
        String::from_utf8(output.stdout).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["path"], fixture("fp32.onnx").to_str().unwrap());
    assert_eq!(lines[0]["digest"].as_str().unwrap().len(), "sha256:".len() + 64);
    assert_eq!(lines[0]["metadata"]["name"], "fp32");
    assert_eq!(lines[1]["metadata"]["inputs"][0]["datatype"], "BYTES");
}

#[test]
fn inspect_names_what_cannot_be_loaded_and_goes_on() {
    let output =
        binary().args(["inspect", "--format", "onnx", "/nowhere/m.onnx"]).arg(fixture("fp32.onnx")).output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stdout).unwrap();
    let lines: Vec<Value> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    assert!(lines[0]["error"].as_str().unwrap().contains("/nowhere/m.onnx"));
    assert_eq!(lines[1]["metadata"]["name"], "fp32");
}

#[test]
fn what_is_wrong_is_said() {
    assert!(fails(&[]).contains("--model PATH, or --pooled"));
    assert!(fails(&["--model", "/nowhere/m.onnx"]).contains("'/nowhere/m.onnx' cannot be read"));
    assert!(fails(&["--pooled", "--claim-key", "short"]).contains("--claim-key"));
    assert!(fails(&["--pooled", "--listen", "192.0.2.1:1"]).contains("--listen 192.0.2.1:1 cannot be listened on"));
    let digest = format!("ns/r@sha256:{}", "0".repeat(64));
    let model = fixture("fp32.onnx");
    assert!(fails(&["--model", model.to_str().unwrap(), "--revision", &digest]).contains("has the digest sha256:"));
}

#[test]
fn a_file_that_is_no_model_is_named() {
    let no_model = concat!(env!("CARGO_MANIFEST_DIR"), "/README.md");
    let said = fails(&["--model", no_model]);
    assert!(said.contains(&format!("'{no_model}' cannot be loaded: not an ONNX model: ")), "{said}");
    let refused = fixture("external/escape.onnx");
    let said = fails(&["--model", refused.to_str().unwrap()]);
    assert!(
        said.contains("/escape.onnx' cannot be loaded: external data '../../../../etc/passwd' is refused"),
        "{said}"
    );
}

#[test]
fn an_address_is_asked_for_in_its_form() {
    for (flag, default) in [("--listen", "0.0.0.0:8012"), ("--metrics", "0.0.0.0:9091"), ("--admin", "127.0.0.1:8022")]
    {
        for bad in ["8012", ":8012", "localhost:8012", "0.0.0.0", "0.0.0.0:99999"] {
            let said = fails(&["--pooled", flag, bad]);
            assert!(said.contains("expected IP:PORT") && said.contains(flag), "{flag} {bad}: {said}");
            assert!(said.contains(default), "{flag} {bad}: {said}");
        }
    }
}

#[test]
fn a_missing_library_is_named_with_the_remedy() {
    let output = binary().arg("--pooled").env("ORT_DYLIB_PATH", "/nowhere/libonnxruntime.so").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let text = String::from_utf8(output.stderr).unwrap();
    assert!(text.contains("'/nowhere/libonnxruntime.so'") && text.contains("Set ORT_DYLIB_PATH"), "{text}");
}
