//! From the start to the last signal.

use std::io::Write as _;
use std::process::Stdio;
use std::time::{Duration, Instant};

use model_wrapper_admin::{AdminError, WrapperState};

use crate::wrapper::{
    FOREVER, PATIENCE, Wrapper, admin_client, binary, eventually, fixture, iterations, lives, numbers, send,
};

#[tokio::test]
async fn a_model_is_served_and_measured() {
    let wrapper = Wrapper::serving("fp32.onnx", &["--name", "double"]);
    assert_eq!(wrapper.get(wrapper.traffic, "/v2/health/ready").await.status, 200);
    let metadata = wrapper.get(wrapper.traffic, "/v2/models/double").await.body;
    assert_eq!(metadata["platform"], "onnx_onnxv1");

    for _ in 0..40 {
        let answer = wrapper.infer("double", &numbers([1.0, 2.0, -3.5]), &[]).await;
        assert_eq!(answer.status, 200);
        assert_eq!(answer.body["outputs"][0]["data"], serde_json::json!([2.0, 4.0, -7.0]));
        let timing = answer.headers["server-timing"].to_str().unwrap();
        assert!(timing.contains("queue;dur=") && timing.contains("infer;dur="), "{timing}");
    }
    assert_eq!(wrapper.infer("fp32", &numbers([0.0; 3]), &[]).await.status, 404);
    assert_eq!(wrapper.metric("kferving_wrapper_infer_duration_seconds_count").await, 40.0);
    assert_eq!(wrapper.metric("kferving_wrapper_state{state=\"serving\"}").await, 1.0);
    assert_eq!(wrapper.metric("kferving_wrapper_in_flight_requests").await, 0.0);
    assert!(wrapper.metric("kferving_wrapper_model_load_seconds").await > 0.0);

    let state = admin_client().state(wrapper.admin).await.unwrap();
    assert_eq!((state.state, state.claim_id), (WrapperState::Serving, None));
    assert_eq!(wrapper.get(wrapper.admin, "/healthz").await.status, 200);
    assert_eq!(wrapper.get(wrapper.admin, "/other").await.status, 404);
}

#[tokio::test]
async fn nothing_is_written_into_the_users_home() {
    let home = tempfile::tempdir().unwrap();
    let mut wrapper = Wrapper::start(
        binary()
            .env("HOME", home.path())
            .env("XDG_CACHE_HOME", home.path().join("cache"))
            .env_remove("ORT_DISABLE_TELEMETRY")
            .arg("--model")
            .arg(fixture("fp32.onnx")),
    );
    assert_eq!(wrapper.infer("fp32", &numbers([1.0, 2.0, 3.0]), &[]).await.status, 200);
    wrapper.signal("TERM");
    assert!(wrapper.ended().await.success());
    assert_eq!(home.path().read_dir().unwrap().count(), 0);
}

#[tokio::test]
async fn sigterm_finishes_what_is_under_way_and_refuses_the_rest() {
    let mut wrapper = Wrapper::serving("loop.onnx", &["--timeout", "3"]);
    let traffic = wrapper.traffic;
    // It runs into its deadline: how long a finite loop takes is up to the machine.
    let slow = tokio::spawn(send(traffic, "POST", "/v2/models/loop/infer", &[], iterations(FOREVER).to_string()));
    eventually("it runs", async || wrapper.in_flight().await == 1).await;
    wrapper.signal("TERM");
    eventually("it stops taking requests", async || {
        wrapper.get(wrapper.admin, "/state").await.body["state"] == "draining"
    })
    .await;
    assert!(!slow.is_finished());
    assert_eq!(slow.await.unwrap().unwrap().status, 504);
    assert!(wrapper.ended().await.success());
    assert!(!lives(wrapper.pid()));
}

#[tokio::test]
async fn however_many_connect_the_admin_port_answers() {
    let mut command = std::process::Command::new("sh");
    command.args(["-c", r#"ulimit -n 128; exec "$0" "$@""#, env!("CARGO_BIN_EXE_model-wrapper")]);
    command.env("RUST_LOG", "off").stdin(Stdio::null()).arg("--model").arg(fixture("fp32.onnx"));
    let wrapper = Wrapper::start(&mut command);
    let idle: Vec<_> = (0..120).map(|_| std::net::TcpStream::connect(wrapper.traffic).unwrap()).collect();
    assert_eq!(wrapper.state().await, WrapperState::Serving);
    assert_eq!(wrapper.metric("kferving_wrapper_in_flight_requests").await, 0.0);
    drop(idle);
    assert_eq!(wrapper.infer("fp32", &numbers([1.0; 3]), &[]).await.status, 200);
}

#[tokio::test]
async fn who_says_nothing_does_not_keep_a_process_that_stops() {
    let mut wrapper = Wrapper::serving("loop.onnx", &[]);
    // The preface and empty settings.
    let http2 = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0";
    let index = "POST /v2/repository/index HTTP/1.1\r\nhost: a\r\ncontent-length: 9\r\n\r\n{";
    let mut silent = Vec::new();
    for said in ["", "GET /v2 HT", "GET /v2 HTTP/1.1\r\nhost: a\r\n", "PRI * HT", http2, index] {
        let mut stream = std::net::TcpStream::connect(wrapper.traffic).unwrap();
        stream.write_all(said.as_bytes()).unwrap();
        silent.push(stream);
    }
    // They have been accepted: this one came last.
    assert_eq!(wrapper.infer("loop", &iterations(1), &[]).await.status, 200);
    wrapper.signal("TERM");
    // One that stops because its time is over ends with a signal.
    assert!(wrapper.ended().await.success());
    drop(silent);
}

#[tokio::test]
async fn a_second_signal_stops_at_once() {
    let mut wrapper = Wrapper::serving("loop.onnx", &[]);
    let traffic = wrapper.traffic;
    let slow = tokio::spawn(send(traffic, "POST", "/v2/models/loop/infer", &[], iterations(FOREVER).to_string()));
    eventually("it runs", async || wrapper.in_flight().await == 1).await;
    wrapper.signal("INT");
    eventually("it drains", async || wrapper.get(wrapper.admin, "/state").await.body["state"] == "draining").await;
    // so much later that it is no echo of the first
    tokio::time::sleep(Duration::from_millis(400)).await;
    wrapper.signal("INT");
    assert!(!wrapper.ended().await.success());
    let unanswered = slow.await.unwrap();
    assert!(unanswered.is_err(), "{unanswered:?}");
}

#[tokio::test]
async fn an_idle_one_stops_at_once_and_well() {
    let mut wrapper = Wrapper::pooled();
    let started = Instant::now();
    wrapper.signal("TERM");
    assert!(wrapper.ended().await.success());
    assert!(started.elapsed() < PATIENCE / 2);
}

#[tokio::test]
async fn wait_for_drain_waits_for_the_last_request() {
    let wrapper = Wrapper::serving("loop.onnx", &["--timeout", "2"]);
    let client = admin_client();
    let traffic = wrapper.traffic;
    let slow = tokio::spawn(send(traffic, "POST", "/v2/models/loop/infer", &[], iterations(FOREVER).to_string()));
    eventually("it runs", async || wrapper.in_flight().await == 1).await;

    let early = client.wait_for_drain(wrapper.admin, Duration::from_millis(50), None).await.unwrap_err();
    assert!(
        matches!(&early, AdminError::Unexpected { status: 504, message } if message.contains("1 requests")),
        "{early}"
    );
    assert_eq!(wrapper.state().await, WrapperState::Draining);
    let refused = wrapper.infer("loop", &iterations(1), &[]).await;
    assert_eq!((refused.status.as_u16(), refused.headers["kferving-reason"].to_str().unwrap()), (503, "draining"));
    assert_eq!(wrapper.get(wrapper.traffic, "/v2/health/ready").await.status, 503);

    client.wait_for_drain(wrapper.admin, PATIENCE, None).await.unwrap();
    assert_eq!(slow.await.unwrap().unwrap().status, 504);
    assert_eq!(wrapper.in_flight().await, 0);
    // As a container's preStop hook asks.
    assert_eq!(wrapper.get(wrapper.admin, "/wait-for-drain").await.status, 200);
}

#[tokio::test]
async fn it_ends_with_the_parent_that_holds_its_stdin() {
    let mut command = binary();
    command.arg("--model").arg(fixture("fp32.onnx")).arg("--exit-on-stdin-close").stdin(Stdio::piped());
    let mut wrapper = Wrapper::start(&mut command);
    let stdin = wrapper.stdin();
    assert_eq!(wrapper.infer("fp32", &numbers([1.0; 3]), &[]).await.status, 200);
    drop(stdin);
    wrapper.ended().await;
    assert!(!lives(wrapper.pid()));
}

#[tokio::test]
async fn killed_and_restarted_it_is_empty() {
    let mut wrapper = Wrapper::pooled();
    let request = crate::wrapper::specialize("a", "fp32.onnx");
    let client = admin_client();
    client.specialize(wrapper.admin, &request, Some(&crate::wrapper::token(&request))).await.unwrap();
    wrapper.signal("KILL");
    assert!(!wrapper.ended().await.success());
    assert!(matches!(client.state(wrapper.admin).await, Err(AdminError::Unreachable(_) | AdminError::Interrupted(_))));

    let again = Wrapper::pooled();
    assert_eq!(again.state().await, WrapperState::Idle);
    let identity = format!("{}@{}", request.revision, request.digest);
    let refused = again.infer("m", &numbers([1.0; 3]), &[("kferving-revision", &identity)]).await;
    assert_eq!((refused.status.as_u16(), refused.headers["kferving-reason"].to_str().unwrap()), (421, "misdirected"));
}
