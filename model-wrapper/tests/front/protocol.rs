//! What the protocols say, answered.

use serde_json::json;

use crate::support::{Connection, Wrapper};

#[test]
fn v1_by_row_and_by_column() {
    let pair = Wrapper::serving("pair", &[]);
    let rows = pair.post(
        "/v1/models/pair:predict",
        r#"{"signature_name":"serving_default","instances":[{"a":[1,2],"b":3},{"b":-4,"a":[0.5,0]}]}"#,
    );
    assert_eq!(
        rows.ok(),
        json!({"predictions": [{"double": [2.0, 4.0], "minus": -3}, {"double": [1.0, 0.0], "minus": 4}]})
    );
    assert_eq!(rows.header("content-type"), Some("application/json"));
    let columns = pair.post("/v1/models/pair:predict", r#"{"inputs":{"a":[[1,2]],"b":[3]}}"#);
    assert_eq!(columns.ok(), json!({"predictions": {"double": [[2.0, 4.0]], "minus": [-3]}}));
    assert_eq!(pair.post("/v1/models/pair:predict", r#"{"instances":[]}"#).ok(), json!({"predictions": []}));
    let error = pair.post("/v1/models/pair:predict", r#"{"instances":[{"a":[1,2]}]}"#).refused(400, "bad-request");
    assert_eq!(error, "instance 0: expected the inputs 'a', 'b', got 'a'");

    let text = Wrapper::serving("text", &[]);
    let answer = text.post("/v1/models/text:predict", r#"{"instances":["é",{"b64":"YQ=="}]}"#);
    assert_eq!(answer.ok(), json!({"predictions": ["é", "a"]}));
    let answer = text.post("/v1/models/text:predict", r#"{"instances":[{"t":"x"}]}"#);
    assert_eq!(answer.ok(), json!({"predictions": ["x"]}));
    let error = text.post("/v1/models/text:predict", r#"{"instances":[{"b64":"/w=="}]}"#).refused(400, "bad-request");
    assert_eq!(
        error,
        "output 'u' holds bytes that are not UTF-8, which JSON cannot say: request it with the V2 protocol and \"binary_data\": true"
    );
}

#[test]
fn a_name_that_paths_escape_is_served_under_it() {
    let wrapper = Wrapper::serving("text", &["--name", "Größe 2: a.b"]);
    let name = "Gr%C3%B6%C3%9Fe%202%3A%20a.b";
    let metadata = wrapper.get(&format!("/v2/models/{name}")).ok();
    assert_eq!(metadata["name"], "Größe 2: a.b");
    let answer = wrapper.post(&format!("/v1/models/{name}:predict"), r#"{"instances":["a"]}"#).ok();
    assert_eq!(answer, json!({"predictions": ["a"]}));
    let tensor = r#"{"inputs":[{"name":"t","datatype":"BYTES","shape":[1],"data":["a"]}]}"#;
    assert_eq!(wrapper.post(&format!("/v2/models/{name}/infer"), tensor).ok()["outputs"][0]["data"], json!(["a"]));
}

#[test]
fn v2_in_json_and_binary() {
    let wrapper = Wrapper::serving("reciprocal", &[]);
    let answer = wrapper.post(
        "/v2/models/reciprocal/versions/1/infer",
        r#"{"id":"42","inputs":[{"data":[2,4],"name":"x","datatype":"FP32","shape":[2]}],"outputs":[{"name":"y"}]}"#,
    );
    assert_eq!(
        answer.ok(),
        json!({"model_name": "reciprocal", "model_version": "1", "id": "42",
            "outputs": [{"name": "y", "datatype": "FP32", "shape": [2], "data": [0.5, 0.25]}]})
    );
    let timing = answer.header("server-timing").expect("an answer has timings");
    let phases: Vec<_> = timing.split(", ").filter_map(|phase| phase.split_once(";dur=")).collect();
    assert_eq!(phases.iter().map(|(name, _)| *name).collect::<Vec<_>>(), ["queue", "infer"]);
    assert!(phases.iter().all(|(_, ms)| ms.parse::<f64>().is_ok_and(|ms| ms >= 0.0)), "{timing}");

    let infinite = r#"{"inputs":[{"name":"x","shape":[1],"datatype":"FP32","data":[0]}]}"#;
    let error = wrapper.post("/v2/models/reciprocal/infer", infinite).refused(400, "bad-request");
    assert!(error.contains("NaN or infinity") && error.contains("binary_data"), "{error}");
    let binary = infinite.replacen('{', r#"{"parameters":{"binary_data_output":true},"#, 1);
    let answer = wrapper.post("/v2/models/reciprocal/infer", &binary);
    let length =
        answer.header("inference-header-content-length").expect("binary tensors follow").parse().expect("a number");
    assert_eq!(answer.header("content-type"), Some("application/octet-stream"));
    assert_eq!(answer.body[length..], f32::INFINITY.to_le_bytes());
}

#[test]
fn metadata_health_and_catalogue() {
    let wrapper = Wrapper::serving("pair", &["--name", "a b"]);
    assert_eq!(wrapper.get("/v1/models").ok(), json!({"models": ["a b"]}));
    assert_eq!(wrapper.get("/v1/models/a%20b").ok(), json!({"name": "a b", "ready": true}));
    assert_eq!(wrapper.get("/v2/health/live").ok(), json!({"live": true}));
    assert_eq!(wrapper.get("/v2/health/ready").ok(), json!({"ready": true}));
    assert_eq!(wrapper.get("/v2/models/a%20b/ready").ok(), json!({"name": "a b", "ready": true}));
    assert_eq!(wrapper.get("/v2").ok()["name"], "kferving");
    let metadata = wrapper.get("/v2/models/a%20b/versions/1").ok();
    assert_eq!(
        metadata["inputs"],
        json!([{"name": "a", "datatype": "FP32", "shape": [-1, 2]}, {"name": "b", "datatype": "INT64", "shape": [-1]}])
    );
    let index = json!([{"name": "a b", "version": "1", "state": "READY", "reason": ""}]);
    assert_eq!(wrapper.post("/v2/repository/index", "").ok(), index);
    assert_eq!(wrapper.post("/v2/repository/index", r#"{"ready":true}"#).ok(), index);

    wrapper.get("/v2/models/pair").refused(404, "model-not-found");
    wrapper.get("/v2/models/a%20b/versions/2").refused(404, "model-not-found");
    wrapper.post("/v2/models/pair/infer", "{}").refused(404, "model-not-found");
    wrapper.post("/v2/repository/models/pair/load", "{}").refused(400, "bad-request");
    wrapper.get("/v3").refused(404, "bad-request");
    let wrong = wrapper.get("/v2/models/pair/infer");
    wrong.refused(405, "bad-request");
    assert_eq!(wrong.header("allow"), Some("post"));
}

#[test]
fn tensors_of_any_rank_and_scalars() {
    let wrapper = Wrapper::serving("unranked", &[]);
    let metadata = wrapper.get("/v2/models/unranked").ok();
    let shapes = |of: &str| [0, 1].map(|index| metadata[of][index]["shape"].clone());
    assert_eq!((shapes("inputs"), shapes("outputs")), ([json!([-1]), json!([])], [json!([-1]), json!([])]));
    for shape in [json!([]), json!([1]), json!([1, 1, 1])] {
        let body = json!({"inputs": [
            {"name": "x", "shape": shape, "datatype": "FP32", "data": [5]},
            {"name": "s", "shape": [], "datatype": "FP32", "data": [2]},
        ]});
        let answer = wrapper.post("/v2/models/unranked/infer", &body.to_string()).ok();
        assert_eq!((&answer["outputs"][0]["shape"], &answer["outputs"][0]["data"]), (&shape, &json!([5.0])));
        assert_eq!(answer["outputs"][1], json!({"name": "twice", "datatype": "FP32", "shape": [], "data": [4.0]}));
    }
    let answer = wrapper.post("/v1/models/unranked:predict", r#"{"inputs":{"x":[[1,2]],"s":3}}"#).ok();
    assert_eq!(answer, json!({"predictions": {"same": [[1.0, 2.0]], "twice": 6.0}}));
    let error = wrapper.post("/v1/models/unranked:predict", r#"{"inputs":{"x":[1],"s":"a"}}"#);
    assert!(error.refused(400, "bad-request").contains("input 's', element 0: expected a number"));
}

#[test]
fn knative_probes() {
    let wrapper = Wrapper::serving("pair", &[]);
    let probe = |headers: &str| {
        wrapper.connect().exchange(format!("GET /any HTTP/1.1\r\nhost: test\r\n{headers}\r\n").as_bytes())
    };
    let queue = probe("user-agent: Knative-Activator-Probe\r\nk-network-probe: queue\r\n");
    assert_eq!((queue.status, queue.body.as_slice()), (200, b"queue".as_slice()));
    let hash = probe("k-network-probe: probe\r\nk-network-hash: abc\r\n");
    assert_eq!((hash.status, hash.header("k-network-hash")), (200, Some("abc")));
    assert_eq!(probe("k-network-probe: activator\r\n").status, 400);
}

#[test]
fn a_revision_that_is_not_held_is_misdirected_before_the_body_is_asked_for() {
    let digest = format!("sha256:{}", "0".repeat(64));
    let held = revision_of("pair");
    let wrapper = Wrapper::serving("pair", &["--revision", &held]);
    let head = |revision: &str| {
        format!(
            "POST /v2/models/pair/infer HTTP/1.1\r\nhost: test\r\nkferving-revision: {revision}\r\nexpect: 100-continue\r\ncontent-length: 2\r\n\r\n"
        )
    };
    let mut connection = wrapper.connect();
    let error =
        connection.exchange(head(&format!("vision/pair-cpu-00002@{digest}")).as_bytes()).refused(421, "misdirected");
    assert!(error.contains("vision/pair-cpu-00002") && error.contains(&held), "{error}");

    let mut connection = wrapper.connect();
    assert_eq!(connection.exchange(head(&held).as_bytes()).status, 100);
    assert_eq!(
        connection.exchange(b"{}").refused(400, "bad-request"),
        "the body is not a V2 inference request: missing field `inputs` at line 1 column 2"
    );
}

#[test]
fn a_refused_request_leaves_its_connection_usable() {
    let wrapper = Wrapper::serving("pair", &[]);
    let mut connection = wrapper.connect();
    for _ in 0..3 {
        connection.post("/v2/models/other/infer", "", &[b' '; 20_000]).refused(404, "model-not-found");
        connection
            .post("/v2/models/pair/infer", "content-encoding: br\r\n", b"{}")
            .refused(415, "unsupported-encoding");
    }
    let answer = connection.post("/v1/models/pair:predict", "", br#"{"instances":[]}"#);
    assert_eq!(answer.ok(), json!({"predictions": []}));
}

#[test]
fn inferences_are_counted_by_outcome() {
    let wrapper = Wrapper::serving("pair", &[]);
    wrapper.post("/v1/models/pair:predict", r#"{"inputs":{"a":[[1,2]],"b":[3]}}"#).ok();
    wrapper.post("/v1/models/pair:predict", "{}").refused(400, "bad-request");
    wrapper.post("/v2/models/other/infer", "{}").refused(404, "model-not-found");
    let count = |labels: &str| wrapper.metric(&format!("kferving_wrapper_requests_total{{{labels}}}"));
    assert_eq!(count(r#"outcome="ok",protocol="v1""#), Some(1.0));
    assert_eq!(count(r#"outcome="bad-request",protocol="v1""#), Some(1.0));
    assert_eq!(count(r#"outcome="model-not-found",protocol="v2""#), Some(1.0));
    let timed = Connection::to(wrapper.metrics).exchange(b"GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n");
    assert!(
        String::from_utf8_lossy(&timed.body).contains(r#"kferving_wrapper_request_seconds_count{protocol="v1"} 2"#)
    );
}

/// The identity of a model's file as revision 1 of a CPU variant.
fn revision_of(name: &str) -> String {
    let output = std::process::Command::new(env!("CARGO_BIN_EXE_model-wrapper"))
        .arg("inspect")
        .arg(crate::support::model(name))
        .output()
        .expect("the wrapper starts");
    let line: serde_json::Value = serde_json::from_slice(&output.stdout).expect("a line of JSON");
    format!("vision/{name}-cpu-00001@{}", line["digest"].as_str().expect("a digest"))
}
