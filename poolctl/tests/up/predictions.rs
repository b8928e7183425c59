//! Requests to models at zero.

use std::process::Command;

use serde_json::{Value, json};

use crate::stack::{Models, Stack, model, until};
use crate::tree::{held_out, repository};

#[test]
fn a_model_at_zero_answers_over_v1_and_v2_and_goes_back_to_zero() {
    let models = Models::with_digits("  scaleToZeroAfter: 1s\n  objective: {latency: 1s}");
    let stack = Stack::start(&models, &["--pool", "1"]);
    let (images, truth) = held_out(5);

    // the catalogue, metadata and readiness are there, and wake nothing
    assert_eq!(stack.get("/v1/models").body, json!({"models": ["digits"]}));
    assert_eq!(stack.get("/v2/models/digits").body["name"], "digits");
    assert_eq!(stack.get("/v2/models/digits").body["inputs"][0]["shape"], json!([-1, 64]));
    assert_eq!(stack.get("/v2/models/digits/ready").status, 200);
    assert_eq!(stack.replicas("digits"), [] as [Value; 0]);
    let pool = stack.pool();
    assert_eq!((&pool["idle"], &pool["size"], &pool["claimed"]), (&json!(1), &json!(1), &json!(0)));
    let warm = pool["replicas"][0]["pid"].clone();

    let cold = stack.post("/v1/models/digits:predict", &[], &json!({"instances": images}));
    assert_eq!(cold.status, 200, "{}", cold.body);
    let said: Vec<_> = cold.body["predictions"].as_array().unwrap().iter().map(|p| p["label"].clone()).collect();
    assert_eq!(said, truth);
    assert_eq!(cold.header("kferving-device"), Some("cpu"));
    assert_eq!(cold.header("kferving-reason"), Some("only-candidate"));
    assert_eq!(cold.phases(), ["hold", "claim", "specialize", "load", "queue", "infer"]);
    let replica = stack.replicas("digits")[0].clone();
    assert_eq!(cold.header("kferving-replica"), replica["id"].as_str());
    assert_eq!(replica["pid"], warm, "the warm one was claimed");
    assert_eq!(replica["state"], "serving");

    let input = json!({"name": "image", "shape": [1, 64], "datatype": "FP32", "data": images[1]});
    let second = stack.post("/v2/models/digits/infer", &[], &json!({"inputs": [input]}));
    assert_eq!(second.status, 200, "{}", second.body);
    assert_eq!(second.body["outputs"][0]["data"], json!([truth[1]]));
    assert_eq!(second.phases(), ["hold", "queue", "infer"], "a warm answer");

    until("the pool is full again", || stack.pool()["idle"] == 1);
    let pool = stack.pool();
    assert_eq!((&pool["hits"], &pool["misses"]), (&json!(1), &json!(0)));
    until("the model is at zero again", || stack.replicas("digits").is_empty());
    assert_eq!(stack.get("/v1/models").body, json!({"models": ["digits"]}));

    let again = stack.post("/v1/models/digits:predict", &[], &json!({"instances": images}));
    assert_eq!(again.status, 200);
    assert!(again.phases().contains(&"load"), "{:?}", again.phases());
}

/// Runs a script of tests/clients.
fn run_client(script: &str, stack: &Stack) {
    let client = Command::new(repository().join(".cache/venv/bin/python"))
        .arg(repository().join("poolctl/tests/clients").join(script))
        .arg(stack.address.to_string())
        .output()
        .unwrap();
    assert!(client.status.success(), "{script}: {}", String::from_utf8_lossy(&client.stderr));
}

#[test]
fn tritons_clients_may_compress_what_they_send_to_a_model_at_zero() {
    let models = Models::with_digits("");
    let stack = Stack::start(&models, &["--pool", "1"]);
    run_client("triton_compressed.py", &stack);
}

#[test]
fn tritons_clients_read_the_catalogue_and_versions_of_a_model_at_zero() {
    let models = Models::with_digits("");
    let stack = Stack::start(&models, &["--pool", "1"]);
    run_client("triton_at_zero.py", &stack);
    assert_eq!(stack.replicas("digits"), [] as [Value; 0], "nothing of that wakes it");
    assert_eq!(stack.pool()["claimed"], 0);
}

#[test]
fn a_pool_of_none_starts_replicas_when_they_are_asked_for() {
    let models = Models::with_digits("");
    let stack = Stack::start(&models, &["--pool", "0"]);
    assert_eq!(stack.pool()["size"], 0);
    let (images, truth) = held_out(1);
    let answer = stack.post("/v1/models/digits:predict", &[], &json!({"instances": images}));
    assert_eq!(answer.status, 200, "{}", answer.body);
    assert_eq!(answer.body["predictions"][0]["label"], truth[0]);
    assert_eq!(answer.phases(), ["hold", "claim", "specialize", "load", "queue", "infer"]);
    let pool = stack.pool();
    assert_eq!((&pool["idle"], &pool["hits"], &pool["misses"]), (&json!(0), &json!(0), &json!(1)));
}

#[test]
fn a_model_that_cannot_load_says_so_while_the_others_serve() {
    let models = Models::with_digits("  scaleToZeroAfter: 5m");
    models.write("torn.onnx", "this is no model");
    models.write("torn.yaml", &model("torn", "torn.onnx", ""));
    models.write("gone.yaml", &model("gone", "gone.onnx", ""));
    models.write("changed.yaml", &model("changed", "digits.onnx", &format!("  sha256: {}", "0".repeat(64))));
    let gpu = "apiVersion: kferving.dev/v1alpha1\nkind: Model\nmetadata: {name: fast}\nspec: {storageUri: digits.onnx, gpu: {}}";
    models.write("fast.yaml", gpu);
    let stack = Stack::start(&models, &["--pool", "1"]);
    let (images, truth) = held_out(1);
    let body = json!({"instances": images});

    for (name, reason, condition, message) in [
        ("torn", "load-failed", "LoadFailed", "torn.onnx"),
        ("gone", "load-failed", "LoadFailed", "No such file"),
        ("changed", "load-failed", "LoadFailed", "expected sha256:000"),
        ("fast", "device-unavailable", "DeviceUnavailable", "nothing runs for the gpu variant"),
    ] {
        let answer = stack.post(&format!("/v1/models/{name}:predict"), &[], &body);
        assert_eq!((answer.status, answer.header("kferving-reason")), (503, Some(reason)), "{name}: {}", answer.body);
        assert!(answer.body["error"].as_str().unwrap().contains(message), "{name}: {}", answer.body);
        let ready = stack.model(name)["conditions"][0].clone();
        assert_eq!((&ready["type"], &ready["status"]), (&json!("Ready"), &json!("False")));
        assert_eq!(ready["reason"], condition);
        assert!(ready["message"].as_str().unwrap().contains(message), "{ready}");
    }
    let answer = stack.post("/v1/models/digits:predict", &[], &body);
    assert_eq!((answer.status, &answer.body["predictions"][0]["label"]), (200, &truth[0]));
    assert_eq!(stack.model("digits")["conditions"][0]["status"], "True");
}

#[test]
fn a_model_whose_file_goes_away_is_not_ready_any_more() {
    let models = Models::with_digits("");
    let stack = Stack::start(&models, &["--pool", "1"]);
    let ready = || stack.model("digits")["conditions"][0].clone();
    assert_eq!(ready()["status"], "True");
    std::fs::remove_file(models.path().join("digits.onnx")).unwrap();
    let (images, _) = held_out(1);
    let answer = stack.post("/v1/models/digits:predict", &[], &json!({"instances": images}));
    assert_eq!((answer.status, answer.header("kferving-reason")), (503, Some("load-failed")), "{}", answer.body);
    assert_eq!((&ready()["status"], &ready()["reason"]), (&json!("False"), &json!("LoadFailed")));
    assert_eq!(stack.model("digits")["conditions"][1]["reason"], "LoadFailed");
}

#[test]
fn a_name_in_two_namespaces_needs_its_namespace() {
    let models = Models::new();
    for namespace in ["red", "blue"] {
        let yaml = model("digits", "digits.onnx", "")
            .replace("{name: digits}", &format!("{{name: digits, namespace: {namespace}}}"));
        models.write(&format!("{namespace}.yaml"), &yaml);
    }
    let stack = Stack::start(&models, &["--pool", "1"]);
    let (images, truth) = held_out(1);
    let body = json!({"instances": images});
    let answer = stack.post("/v1/models/digits:predict", &[], &body);
    assert_eq!(answer.status, 409);
    let error = answer.body["error"].as_str().unwrap();
    assert!(error.contains("red") && error.contains("blue"), "{error}");
    let answer = stack.post("/v1/models/digits:predict", &[("host", "digits.red.localhost")], &body);
    assert_eq!((answer.status, &answer.body["predictions"][0]["label"]), (200, &truth[0]));

    // each namespace has its own pool: replicas are claimed within it
    let status = stack.status();
    let claimed: Vec<_> =
        status["pools"].as_array().unwrap().iter().map(|pool| (&pool["namespace"], &pool["claimed"])).collect();
    assert_eq!(claimed, [(&json!("blue"), &json!(0)), (&json!("red"), &json!(1))]);
    let url =
        status["models"].as_array().unwrap().iter().find(|model| model["namespace"] == "red").unwrap()["url"].clone();
    assert_eq!(url, format!("http://digits.red.localhost:{}/v2/models/digits", stack.address.port()));
}
