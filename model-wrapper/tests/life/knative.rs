//! Beside Knative's queue-proxy, as the user container of a Knative Service.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};

use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use model_wrapper_admin::{AdminAddress, WrapperState};
use poolctl_runtime::announce;
use tokio::net::TcpStream;

use crate::wrapper::{FOREVER, PATIENCE, admin_client, binary, digest, eventually, fixture, iterations, numbers, send};

/// The user container, killed when dropped.
struct UserContainer {
    process: Child,
    traffic: SocketAddr,
    admin: AdminAddress,
}

/// As Knative starts one, but on a free port; and with a free port for metrics, as tests run side by side.
fn as_knative_does(model: &str) -> Command {
    let mut command = binary();
    command
        .env("PORT", "0")
        .envs([("K_REVISION", "double-00001"), ("K_CONFIGURATION", "double"), ("K_SERVICE", "double")])
        .env("KFERVING_METRICS", "127.0.0.1:0")
        .env("KFERVING_MODEL", fixture(model))
        // Nothing here can be written to.
        .envs([("HOME", "/nonexistent"), ("TMPDIR", "/nonexistent")])
        .current_dir("/");
    command
}

impl UserContainer {
    fn start(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines().map(Result::unwrap);
        let admin = lines.next().unwrap();
        let admin = admin.strip_prefix("admin ").unwrap_or_else(|| panic!("{admin}")).parse().unwrap();
        assert!(announce::parse("metrics", &lines.next().unwrap()).is_some());
        let ready = announce::parse("ready", &lines.next().unwrap()).unwrap();
        assert!(ready.ip().is_unspecified(), "queue-proxy and kubelet must reach it: {ready}");
        Self { process, traffic: SocketAddr::from(([127, 0, 0, 1], ready.port())), admin }
    }
}

impl Drop for UserContainer {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

#[tokio::test]
async fn it_serves_on_port_as_the_revision_that_knative_names() {
    let container = UserContainer::start(as_knative_does("fp32.onnx").env("KFERVING_NAMESPACE", "vision"));
    let traffic = container.traffic;
    assert_eq!(container.admin, format!("unix:@model-wrapper/{}", traffic.port()).parse().unwrap());

    let own = format!("vision/double-00001@{}", digest("fp32.onnx"));
    let elsewhere = format!("other/double-00001@{}", digest("fp32.onnx"));
    for (headers, status) in [
        (vec![], 200),
        (vec![("kferving-revision", own.as_str())], 200),
        (vec![("kferving-revision", elsewhere.as_str())], 421),
    ] {
        let body = numbers([1.0, 2.0, 3.0]).to_string();
        let answer = send(traffic, "POST", "/v2/models/fp32/infer", &headers, body).await.unwrap();
        assert_eq!(answer.status, status, "{headers:?}: {}", answer.body);
    }
    let state = admin_client().state(container.admin.clone()).await.unwrap();
    assert_eq!((state.state, state.revision.as_deref()), (WrapperState::Serving, Some("vision/double-00001")));
}

#[tokio::test]
async fn where_the_namespace_is_not_known_the_rest_of_the_revision_must_match() {
    let container = UserContainer::start(as_knative_does("fp32.onnx").env_remove("KFERVING_NAMESPACE"));
    for (name, status) in [("double-00001", 200), ("double-00002", 421)] {
        let identity = format!("any/{name}@{}", digest("fp32.onnx"));
        let headers = [("kferving-revision", identity.as_str())];
        let body = numbers([1.0; 3]).to_string();
        let answer = send(container.traffic, "POST", "/v2/models/fp32/infer", &headers, body).await.unwrap();
        assert_eq!(answer.status, status, "{name}");
    }
}

#[tokio::test]
async fn queue_proxys_probes_are_answered() {
    let container = UserContainer::start(&mut as_knative_does("fp32.onnx"));
    let prober = [("user-agent", "kube-probe/1.34")];
    for (method, path, status) in [
        ("GET", "/", 200),
        ("GET", "/v2/health/ready", 200),
        ("GET", "/v2/models/fp32/ready", 200),
        ("GET", "/v2/models/other/ready", 404),
        // Where it finds out whether HTTP/2 is spoken.
        ("OPTIONS", "/v2/health/ready", 200),
    ] {
        let answer = send(container.traffic, method, path, &prober, String::new()).await.unwrap();
        assert_eq!(answer.status, status, "{method} {path}");
    }
    let other = send(container.traffic, "OPTIONS", "/v2/health/ready", &[], String::new()).await.unwrap();
    assert_eq!(other.status, 405);
}

#[tokio::test]
async fn a_port_named_h2c_is_spoken_http2_to() {
    let container = UserContainer::start(&mut as_knative_does("fp32.onnx"));
    let stream = TcpStream::connect(container.traffic).await.unwrap();
    let (mut sender, connection) =
        hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await.unwrap();
    let driver = tokio::spawn(connection);
    let url = format!("http://{}/v2/models/fp32/infer", container.traffic);
    let body = Full::new(Bytes::from(numbers([1.0, 2.0, 3.0]).to_string()));
    let answer = sender.send_request(http::Request::post(url).body(body).unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let body: serde_json::Value =
        serde_json::from_slice(&answer.into_body().collect().await.unwrap().to_bytes()).unwrap();
    assert_eq!(body["outputs"][0]["data"], serde_json::json!([2.0, 4.0, 6.0]));
    driver.abort();
}

#[tokio::test]
async fn sigterm_ends_it_once_queue_proxy_has_its_answers() {
    let mut container = UserContainer::start(as_knative_does("loop.onnx").env("KFERVING_TIMEOUT", "2"));
    let (traffic, admin) = (container.traffic, container.admin.clone());
    let slow = tokio::spawn(send(traffic, "POST", "/v2/models/loop/infer", &[], iterations(FOREVER).to_string()));
    let client = admin_client();
    eventually("it runs", async || client.state(admin.clone()).await.unwrap().in_flight == 1).await;
    let sent = Command::new("kill").args(["-TERM", &container.process.id().to_string()]).status().unwrap();
    assert!(sent.success());
    assert_eq!(slow.await.unwrap().unwrap().status, 504, "the run ends at its deadline, not at the signal");
    let mut status = None;
    eventually("it ends", async || {
        status = container.process.try_wait().unwrap();
        status.is_some()
    })
    .await;
    assert!(status.unwrap().success());
}

#[tokio::test]
async fn within_the_pod_a_drain_needs_no_token() {
    let directory = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}/admin.sock", directory.path().display());
    let container = UserContainer::start(as_knative_does("fp32.onnx").env("KFERVING_ADMIN", &socket));
    assert_eq!(container.admin.to_string(), socket);
    admin_client().wait_for_drain(container.admin.clone(), PATIENCE, None).await.unwrap();
    let refused = send(container.traffic, "GET", "/v2/health/ready", &[], String::new()).await.unwrap();
    assert_eq!(refused.status, 503);
}

#[test]
fn a_port_that_is_none_is_refused() {
    let output = as_knative_does("fp32.onnx").env("PORT", "http").output().unwrap();
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success() && told.contains("PORT must be a TCP port"), "{told}");
}
