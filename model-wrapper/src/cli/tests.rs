use super::*;

fn serve(arguments: &[&str]) -> Serve {
    Cli::try_parse_from([&["model-wrapper"], arguments].concat()).unwrap().serve
}

fn error_of(arguments: &[&str]) -> String {
    format!("{:#}", serve(arguments).wanted().unwrap_err())
}

#[test]
fn a_model_is_named_after_its_file() {
    let (spec, revision) = serve(&["--model", "/m/digits.v2.onnx"]).wanted().unwrap().unwrap();
    assert_eq!((spec.name.as_str(), revision), ("digits.v2", None));
    assert_eq!((spec.concurrency, spec.timeout), (None, DEFAULT_TIMEOUT));
    let (spec, _) = serve(&["--model", "m.onnx", "--name", "other"]).wanted().unwrap().unwrap();
    assert_eq!(spec.name, "other");
}

#[test]
fn a_revision_says_which_bytes() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let identity = format!("ns/digits-cpu-00001@{digest}");
    let (spec, revision) = serve(&["--model", "m.onnx", "--revision", &identity]).wanted().unwrap().unwrap();
    assert_eq!(revision.as_deref(), Some("ns/digits-cpu-00001"));
    assert_eq!(spec.digest, Some(digest));
    for bad in ["ns/r", "r@sha256:00", "ns/r@sha256:00"] {
        assert!(error_of(&["--model", "m.onnx", "--revision", bad]).contains("--revision"), "{bad}");
    }
}

#[test]
fn what_cannot_be_meant_is_refused() {
    assert!(error_of(&[]).contains("--model PATH, or --pooled"));
    assert!(error_of(&["--model", "m.onnx", "--name", ""]).contains("--name"));
    assert!(error_of(&["--model", "m.onnx", "--timeout", "0"]).contains("above 0"));
    assert!(error_of(&["--model", "m.onnx", "--timeout=-1"]).contains("above 0"));
    assert!(Cli::try_parse_from(["model-wrapper", "--model", "m", "--pooled"]).is_err());
    for flag in ["--name=x", "--revision=ns/r@d", "--concurrency=1", "--timeout=1"] {
        assert!(error_of(&["--pooled", flag]).contains("go with --model"), "{flag}");
    }
    assert!(Cli::try_parse_from(["model-wrapper", "--model", "m", "--format", "pickle"]).is_err());
    let key = serve(&["--pooled", "--claim-key", "AAAA"]).authority().unwrap_err();
    assert!(format!("{key:#}").contains("--claim-key"));
}

#[test]
fn the_admin_port_of_a_pooled_wrapper_is_reached_from_elsewhere() {
    assert_eq!(serve(&["--pooled"]).default_admin().to_string(), "0.0.0.0:8022");
    assert_eq!(serve(&["--model", "m"]).default_admin().to_string(), "127.0.0.1:8022");
}
