use super::*;

fn serve(arguments: &[&str]) -> Serve {
    Cli::try_parse_from([&["model-wrapper"], arguments].concat()).unwrap().serve
}

fn error_of(arguments: &[&str]) -> String {
    format!("{:#}", serve(arguments).wanted(None).unwrap_err())
}

#[test]
fn a_model_is_named_after_its_file() {
    let (spec, revision) = serve(&["--model", "/m/digits.v2.onnx"]).wanted(None).unwrap().unwrap();
    assert_eq!((spec.name.as_str(), revision), ("digits.v2", None));
    assert_eq!((spec.concurrency, spec.timeout), (None, DEFAULT_TIMEOUT));
    let (spec, _) = serve(&["--model", "m.onnx", "--name", "other"]).wanted(None).unwrap().unwrap();
    assert_eq!(spec.name, "other");
}

#[test]
fn a_revision_says_which_bytes() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let identity = format!("ns/digits-cpu-00001@{digest}");
    let (spec, revision) = serve(&["--model", "m.onnx", "--revision", &identity]).wanted(None).unwrap().unwrap();
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
    assert!(error_of(&["--model", "m.onnx", "--timeout=1e19"]).contains("at most a year"));
    assert!(error_of(&["--model", "what?.onnx"]).contains("give --name"));
    assert!(Cli::try_parse_from(["model-wrapper", "--model", "m", "--pooled"]).is_err());
    for flag in ["--name=x", "--revision=ns/r@d", "--concurrency=1", "--timeout=1"] {
        assert!(error_of(&["--pooled", flag]).contains("go with --model"), "{flag}");
    }
    assert!(Cli::try_parse_from(["model-wrapper", "--model", "m", "--format", "pickle"]).is_err());
    let key = serve(&["--pooled", "--claim-key", "AAAA"]).authority(None).unwrap_err();
    assert!(format!("{key:#}").contains("--claim-key"));
}

#[test]
fn the_admin_port_of_a_pooled_wrapper_is_reached_from_elsewhere() {
    let admin = |arguments: &[&str]| serve(arguments).addresses(None).admin.unwrap().to_string();
    assert_eq!(admin(&["--pooled"]), "0.0.0.0:8022");
    assert_eq!(admin(&["--model", "m"]), "127.0.0.1:8022");
    assert_eq!(admin(&["--model", "m", "--admin", "unix:@a"]), "unix:@a");
}

#[test]
fn beside_queue_proxy_its_ports_are_left_alone() {
    let queue_proxys = [8012, 8013, 8022, 8112, 9090, 9091];
    let beside = UserContainer { port: 8080, ..UserContainer::default() };
    let addresses = serve(&["--model", "m"]).addresses(Some(&beside));
    assert_eq!(addresses.traffic.to_string(), "0.0.0.0:8080");
    assert_eq!(addresses.metrics.to_string(), "0.0.0.0:9095");
    assert_eq!(addresses.admin, None);
    assert!(![addresses.traffic, addresses.metrics].iter().any(|address| queue_proxys.contains(&address.port())));
    let told = ["--model", "m", "--listen", "127.0.0.1:1", "--metrics", "127.0.0.1:2", "--admin", "127.0.0.1:3"];
    let addresses = serve(&told).addresses(Some(&beside));
    assert_eq!((addresses.traffic.port(), addresses.metrics.port()), (1, 2));
    assert_eq!(addresses.admin.unwrap().to_string(), "127.0.0.1:3");
}

#[test]
fn the_revision_is_the_one_given_or_else_knatives() {
    let place = UserContainer { revision: Some("m-00001".into()), namespace: Some("ns".into()), ..Default::default() };
    let revision = |arguments: &[&str]| serve(arguments).wanted(Some(&place)).unwrap().unwrap().1;
    assert_eq!(revision(&["--model", "m.onnx"]).as_deref(), Some("ns/m-00001"));
    let given = format!("other/r@sha256:{}", "0".repeat(64));
    assert_eq!(revision(&["--model", "m.onnx", "--revision", &given]).as_deref(), Some("other/r"));
}

#[test]
fn without_a_key_who_reaches_the_port_from_elsewhere_has_no_say() {
    let authority = |arguments: &[&str]| {
        let serve = serve(arguments);
        serve.authority(serve.addresses(None).admin.as_ref()).unwrap()
    };
    assert!(matches!(authority(&["--model", "m"]), Authority::Local));
    assert!(matches!(authority(&["--model", "m", "--admin", "0.0.0.0:1"]), Authority::Nobody));
    assert!(matches!(authority(&["--pooled", "--admin", "127.0.0.1:1"]), Authority::Nobody));
    let key = model_wrapper_admin::TokenSigner::generate().unwrap().public_key();
    assert!(matches!(authority(&["--model", "m", "--claim-key", &key]), Authority::Key(_)));
}
