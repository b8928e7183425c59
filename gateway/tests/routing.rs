//! Which model a request means, and what is answered without one.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::time::Duration;

use bytes::Bytes;
use gateway::{GatewaySettings, Limits, ModelRoute, Unavailable};
use http::{Request, StatusCode};
use http_body_util::Full;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{Answer, FOREIGN_CALLS, TestClient, TestGateway, scaled_model, static_model};

fn in_namespace(namespace: &str, model: ModelRoute) -> ModelRoute {
    ModelRoute { namespace: namespace.to_owned(), ..model }
}

async fn post_to_host(gateway: &TestGateway, host: &str, path: &str) -> Answer {
    let request = Request::post(gateway.url(path)).header("host", host).body(Full::<Bytes>::from("x")).unwrap();
    TestClient::http1().send(request).await
}

#[tokio::test(flavor = "multi_thread")]
async fn host_and_path_name_the_model() {
    let vision = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let audio = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let gateway = TestGateway::start(vec![
        static_model("digits", &[(vision.addr, 1)]),
        static_model("edges", &[(vision.addr, 1)]),
        in_namespace("audio", static_model("digits", &[(audio.addr, 1)])),
    ]);
    let infer = "/v2/models/digits/infer";
    let both = TestClient::http1().post(&gateway.url(infer), "x").await;
    assert_eq!(both.status, StatusCode::CONFLICT);
    assert_eq!(both.header("kferving-reason"), "ambiguous-model");
    let message = both.json()["error"].as_str().unwrap().to_owned();
    assert!(message.contains("vision") && message.contains("audio"), "{message}");

    for (host, path, status) in [
        ("digits.vision.example.com", infer, StatusCode::OK),
        ("digits.audio", infer, StatusCode::OK),
        ("Digits.AUDIO", infer, StatusCode::OK),
        ("digits.audio:8080", "/v1/models/digits:predict", StatusCode::OK),
        ("edges.vision.example.com", infer, StatusCode::NOT_FOUND),
        ("digits.nowhere.example.com", "/v2/models/edges/infer", StatusCode::OK),
        ("localhost", "/v2/models/edges/infer", StatusCode::OK),
        ("localhost", "/v2/models/none/infer", StatusCode::NOT_FOUND),
    ] {
        let answer = post_to_host(&gateway, host, path).await;
        assert_eq!(answer.status, status, "{host} {path}: {answer:?}");
        if status == StatusCode::NOT_FOUND {
            assert_eq!(answer.header("kferving-reason"), "model-not-found");
        }
    }
    for (host, name, message) in [
        ("localhost", "none", r#"model "none" does not exist: GET /v1/models lists those there are"#),
        (
            "none.audio",
            "none",
            r#"model "none" does not exist in namespace "audio": GET /v1/models of a host that names no model lists those there are"#,
        ),
        ("edges.vision", "digits", r#"the host names model "edges" and the path "digits": name the same one in both"#),
    ] {
        let answer = post_to_host(&gateway, host, &format!("/v1/models/{name}:predict")).await;
        assert_eq!(answer.json()["error"], message, "{host}");
    }
    assert_eq!(audio.requests(), 3);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_default_namespace_decides_where_the_host_does_not() {
    let vision = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let models = vec![static_model("digits", &[(vision.addr, 1)]), in_namespace("audio", scaled_model("digits"))];
    let settings = GatewaySettings { namespace: Some("vision".to_owned()), threads: 1, limits: Limits::default() };
    let gateway = TestGateway::with_settings(models, settings);
    let client = TestClient::http1();
    assert_eq!(client.post(&gateway.url("/v2/models/digits/infer"), "x").await.status, StatusCode::OK);
    let listed = client.get(&gateway.url("/v1/models")).await.json();
    assert_eq!(listed, serde_json::json!({ "models": ["digits"] }));
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_names_make_no_series() {
    let gateway = TestGateway::start(vec![scaled_model("digits")]);
    let client = TestClient::http1();
    client.post(&gateway.url("/v2/models/first/infer"), "x").await;
    let series = || gateway.registry.gather().iter().map(|family| family.get_metric().len()).sum::<usize>();
    let before = series();
    for index in 0..50 {
        let path = format!("/v2/models/unknown-{index}/infer");
        let answer = post_to_host(&gateway, &format!("model-{index}.vision.example"), &path).await;
        assert_eq!(answer.status, StatusCode::NOT_FOUND);
    }
    assert_eq!(series(), before);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_be_served_says_why_everywhere() {
    let unavailable = Unavailable { reason: "device-unavailable".to_owned(), message: "no GPU here".to_owned() };
    let model = ModelRoute { unavailable: Some(unavailable), ..scaled_model("digits") };
    let gateway = TestGateway::start(vec![model]);
    let client = TestClient::http1();
    for answer in [
        client.post(&gateway.url("/v2/models/digits/infer"), "x").await,
        client.get(&gateway.url("/v2/models/digits/ready")).await,
    ] {
        assert_eq!(answer.status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(answer.header("kferving-reason"), "device-unavailable");
        assert!(answer.json()["error"].as_str().unwrap().contains("no GPU here"));
    }
    let index = client.post(&gateway.url("/v2/repository/index"), "").await.json();
    assert_eq!(index[0]["state"], "UNAVAILABLE");
    assert_eq!(index[0]["reason"], "no GPU here");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_describes_itself_over_both_versions_of_http() {
    let gateway = TestGateway::start(Vec::new());
    for client in [TestClient::http1(), TestClient::http2()] {
        assert_eq!(client.get(&gateway.url("/v2/health/live")).await.json()["live"], true);
        assert_eq!(client.get(&gateway.url("/v2/health/ready")).await.json()["ready"], true);
        assert_eq!(client.get(&gateway.url("/v2")).await.json()["name"], "kferving");
        assert_eq!(client.get(&gateway.url("/")).await.json()["status"], "alive");
        assert_eq!(client.get(&gateway.url("/v3")).await.status, StatusCode::NOT_FOUND);
        let wrong = client.get(&gateway.url("/v2/models/m/infer")).await;
        assert_eq!(wrong.status, StatusCode::METHOD_NOT_ALLOWED);
        assert_eq!(wrong.header("allow"), "POST");
    }
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_client_says_for_the_gateway_goes_no_further() {
    let wrapper = FakeWrapper::start(Behaviour::Headers);
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 1)])]);
    let request = Request::post(gateway.url("/v2/models/digits/infer"))
        .header("kferving-revision", "vision/other@sha256:11")
        .header("connection", "x-secret")
        .header("x-secret", "1")
        .header("x-kept", "2")
        .body(Full::<Bytes>::from("x"))
        .unwrap();
    let seen = TestClient::http1().send(request).await.json();
    assert_eq!(seen["x-kept"], "2");
    assert!(seen.get("kferving-revision").is_none() && seen.get("x-secret").is_none(), "{seen}");
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_name_of_two_namespaces_is_listed_once_and_told_apart_in_the_index() {
    let gateway = TestGateway::start(vec![
        scaled_model("digits"),
        in_namespace("audio", scaled_model("digits")),
        scaled_model("edges"),
    ]);
    let client = TestClient::http1();
    let names = client.get(&gateway.url("/v1/models")).await.json();
    assert_eq!(names["models"], serde_json::json!(["digits", "edges"]));
    let index = client.post(&gateway.url("/v2/repository/index"), "").await.json();
    let entries: Vec<_> = index.as_array().unwrap().iter().map(|entry| (&entry["name"], &entry["namespace"])).collect();
    let null = serde_json::Value::Null;
    let (digits, edges) = (serde_json::json!("digits"), serde_json::json!("edges"));
    let (audio, vision) = (serde_json::json!("audio"), serde_json::json!("vision"));
    assert_eq!(entries, [(&digits, &audio), (&digits, &vision), (&edges, &null)]);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_other_model_servers_have_is_passed_on_to_them() {
    let server = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let gateway = TestGateway::start(vec![static_model("m", &[(server.addr, 1)])]);
    for (method, path) in FOREIGN_CALLS {
        let answer = TestClient::http1().call(method, &gateway.url(path)).await;
        assert_eq!(answer.status, StatusCode::OK, "{path}: {answer:?}");
    }
    assert_eq!(server.requests(), FOREIGN_CALLS.len());
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_version_that_is_not_served_is_refused_and_wakes_nothing() {
    let wrapper = FakeWrapper::start(Behaviour::Headers);
    let unrecorded = ModelRoute { metadata: None, ..static_model("foreign", &[(wrapper.addr, 1)]) };
    let gateway = TestGateway::start(vec![scaled_model("cold"), unrecorded]);
    let client = TestClient::http1();
    let url = |path: &str| gateway.url(&format!("/v2/models/{path}"));
    assert_eq!(client.get(&url("cold/versions/1")).await.json()["versions"], serde_json::json!(["1"]));
    assert_eq!(client.get(&url("cold/versions/1/ready")).await.json()["ready"], true);
    for refused in [
        client.get(&url("cold/versions/2")).await,
        client.get(&url("cold/versions/2/ready")).await,
        client.post(&url("cold/versions/2/infer"), "x").await,
    ] {
        assert_eq!((refused.status, refused.header("kferving-reason")), (StatusCode::NOT_FOUND, "model-not-found"));
        assert_eq!(refused.json()["error"], "model 'cold' has no version '2': it is served as version 1");
    }
    assert_eq!(wrapper.requests(), 0);
    for asked in
        [client.get(&url("foreign/versions/7/ready")).await, client.post(&url("foreign/versions/7/infer"), "x").await]
    {
        assert_eq!(asked.status, StatusCode::OK, "only the replica knows its versions: {asked:?}");
    }
    assert_eq!(wrapper.requests(), 2);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_index_tells_versions_and_may_leave_out_what_is_not_ready() {
    let unavailable = Unavailable { reason: "load-failed".to_owned(), message: "no such opset".to_owned() };
    let broken = ModelRoute { unavailable: Some(unavailable), metadata: None, ..scaled_model("broken") };
    let gateway = TestGateway::start(vec![broken, scaled_model("cold")]);
    let client = TestClient::http1();
    let url = gateway.url("/v2/repository/index");
    let index = |body: &'static str| client.post(&url, body);
    let cold = serde_json::json!({"name": "cold", "version": "1", "state": "READY", "reason": ""});
    let broken = serde_json::json!({"name": "broken", "state": "UNAVAILABLE", "reason": "no such opset"});
    assert_eq!(index("").await.json(), serde_json::json!([broken, cold]));
    assert_eq!(index(r#"{"ready": true}"#).await.json(), serde_json::json!([cold]));
    assert_eq!(index(r#"{"ready": "yes"}"#).await.status, StatusCode::BAD_REQUEST);
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn grpc_is_routed_by_the_name_in_its_message() {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 1)]), scaled_model("cold")]);
    let client = TestClient::http2();
    let call = |method: &str, name: &str, timeout: &str| {
        let mut body = vec![0, 0, 0, 0, 2 + name.len() as u8, 0x0a, name.len() as u8];
        body.extend_from_slice(name.as_bytes());
        Request::post(gateway.url(&format!("/inference.GRPCInferenceService/{method}")))
            .header("content-type", "application/grpc")
            .header("te", "trailers")
            .header("grpc-timeout", timeout)
            .body(Full::<Bytes>::from(body))
            .unwrap()
    };
    let served = client.send(call("ModelInfer", "digits", "10S")).await;
    assert_eq!(served.status, StatusCode::OK);
    assert_eq!(served.header("kferving-device"), "cpu");
    assert_eq!(&served.body[7..], b"digits");

    let unknown = client.send(call("ModelInfer", "unknown", "10S")).await;
    assert_eq!((unknown.status, unknown.header("grpc-status")), (StatusCode::OK, "5"));
    assert_eq!(unknown.header("kferving-reason"), "model-not-found");
    let late = client.send(call("ModelInfer", "cold", "50m")).await;
    assert_eq!(late.header("grpc-status"), "4");
    assert_eq!(late.header("kferving-reason"), "deadline");
    let bad = client.send(call("ModelInfer", "digits", "soon")).await;
    assert_eq!(bad.header("grpc-status"), "3");

    let live = client.send(call("ServerLive", "", "10S")).await;
    assert_eq!(&live.body[..], &[0, 0, 0, 0, 2, 8, 1]);
    let ready = client.send(call("ModelReady", "cold", "10S")).await;
    assert_eq!(&ready.body[..], &[0, 0, 0, 0, 2, 8, 1]);
    let metadata = client.send(call("ModelMetadata", "cold", "10S")).await;
    assert!(metadata.body.windows(4).any(|window| window == b"onnx"), "{metadata:?}");
    let not_there = client.send(call("ModelReady", "unknown", "10S")).await;
    assert_eq!(
        (not_there.header("grpc-status"), &not_there.body[..]),
        ("", &[0, 0, 0, 0, 0][..]),
        "no error: not ready"
    );
    let load = client.send(call("RepositoryModelLoad", "cold", "10S")).await;
    assert_eq!(load.header("grpc-status"), "3");
    let index = client.send(call("RepositoryIndex", "", "10S")).await;
    for text in ["cold", "digits", "READY"] {
        assert!(index.body.windows(text.len()).any(|window| window == text.as_bytes()), "{text}: {index:?}");
    }
    gateway.settles().await;
    gateway.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_explanation_says_what_the_next_request_costs() {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::from_millis(5)));
    let gateway = TestGateway::start(vec![static_model("digits", &[(wrapper.addr, 2)]), scaled_model("cold")]);
    assert_eq!(gateway.gateway.explain("vision", "none", 1), None);
    let cold = gateway.gateway.explain("vision", "cold", 1).unwrap();
    assert_eq!((cold.chosen, cold.reason, cold.generation), (None, "no-capacity", 1));
    assert_eq!(cold.devices[0].revision.as_deref(), Some("vision/cold-cpu-00001"));
    assert!(!cold.devices[0].active && !cold.devices[0].measured);

    TestClient::http1().post(&gateway.url("/v2/models/digits/infer"), "x").await;
    gateway.settles().await;
    let warm = gateway.gateway.explain("vision", "digits", 1).unwrap();
    assert_eq!((warm.chosen, warm.reason), (Some("cpu"), "static"));
    assert!(warm.devices[0].measured && warm.devices[0].predicted_ms >= 4.0, "{warm:?}");
    assert_eq!(warm.devices[0].replicas[0].concurrency, 2);
    gateway.stop().await;
}
