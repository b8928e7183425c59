//! A wrapper process and what the tests say to it.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use model_wrapper_admin::{
    AdminClient, ModelSource, SpecializeRequest, Timeouts, TokenClaims, TokenSigner, WrapperState,
};
use serde_json::{Value, json};
use tokio::net::TcpStream;

/// Longer than anything here takes on a slow machine; reached only where something hangs.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// Uid of the replicas that the tests start.
pub(crate) const UID: &str = "uid-1";

/// Iterations of `loop.onnx` that take longer than [`PATIENCE`] on any machine.
pub(crate) const FOREVER: i64 = i64::MAX;

/// A wrapper process, killed when dropped.
pub(crate) struct Wrapper {
    process: Child,
    pub(crate) traffic: SocketAddr,
    pub(crate) admin: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

/// An answer read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Value,
}

/// The path of a model of the onnx crate's tests.
pub(crate) fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("onnx/tests/fixtures").join(name)
}

/// The autoscaler's key.
pub(crate) fn signer() -> &'static TokenSigner {
    static SIGNER: OnceLock<TokenSigner> = OnceLock::new();
    SIGNER.get_or_init(|| TokenSigner::generate().unwrap())
}

pub(crate) fn admin_client() -> AdminClient {
    AdminClient::new(Timeouts { connect: PATIENCE, specialize: PATIENCE, state: PATIENCE })
}

/// The digest of a fixture, as the binary itself tells it.
pub(crate) fn digest(name: &str) -> String {
    let output = binary().arg("inspect").arg(fixture(name)).output().unwrap();
    let line: Value = serde_json::from_slice(&output.stdout).unwrap();
    line["digest"].as_str().unwrap().to_owned()
}

/// A call for `claim` to load a fixture as `ns/m-cpu-00001`.
pub(crate) fn specialize(claim: &str, name: &str) -> SpecializeRequest {
    SpecializeRequest {
        claim_id: claim.into(),
        pod_uid: UID.into(),
        revision: "ns/m-cpu-00001".into(),
        digest: digest(name),
        model: ModelSource {
            uri: format!("file://{}", fixture(name).display()),
            format: "onnx".into(),
            name: "m".into(),
            config: Default::default(),
        },
        container_concurrency: 0,
        timeout_ms: 60_000,
        limits: Default::default(),
    }
}

/// The token for exactly that call.
pub(crate) fn token(request: &SpecializeRequest) -> String {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    signer().sign(&TokenClaims {
        pod_uid: request.pod_uid.clone(),
        claim_id: request.claim_id.clone(),
        digest: request.digest.clone(),
        expires: now + 600,
    })
}

/// A body for `loop.onnx`.
pub(crate) fn iterations(count: i64) -> Value {
    json!({"inputs": [{"name": "iterations", "datatype": "INT64", "shape": [1], "data": [count]}]})
}

/// A body for `fp32.onnx`, which doubles.
pub(crate) fn numbers(values: [f32; 3]) -> Value {
    json!({"inputs": [{"name": "x", "datatype": "FP32", "shape": [1, 3], "data": values}]})
}

/// The binary under test.
pub(crate) fn binary() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_model-wrapper"));
    command.env("RUST_LOG", "off").stdin(Stdio::null());
    command
}

/// Whether a process of that id exists and is not a zombie.
pub(crate) fn lives(pid: u32) -> bool {
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(") ").next().unwrap_or_default().starts_with('Z'))
}

/// Polls until `condition` holds.
pub(crate) async fn eventually(what: &str, mut condition: impl AsyncFnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition().await {
        assert!(Instant::now() < deadline, "never: {what}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Wrapper {
    /// One that serves a fixture.
    pub(crate) fn serving(name: &str, arguments: &[&str]) -> Self {
        Self::start(binary().arg("--model").arg(fixture(name)).args(arguments))
    }

    /// An idle one.
    pub(crate) fn pooled() -> Self {
        Self::start(binary().args(["--pooled", "--pod-uid", UID, "--claim-key", &signer().public_key()]))
    }

    /// One with these arguments and free ports.
    pub(crate) fn start(command: &mut Command) -> Self {
        let free = ["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0"];
        Self::start_as_is(command.args(free))
    }

    /// One with these arguments.
    pub(crate) fn start_as_is(command: &mut Command) -> Self {
        let mut process = command.stdout(Stdio::piped()).spawn().unwrap();
        let mut lines = BufReader::new(process.stdout.take().unwrap()).lines();
        // The order is part of the contract.
        let [admin, metrics, traffic] = ["admin", "metrics", "ready"].map(|name| {
            let line = lines.next().unwrap_or_else(|| panic!("no line for {name}")).unwrap();
            poolctl_runtime::announce::parse(name, &line).unwrap_or_else(|| panic!("{name}: {line}"))
        });
        Self { process, traffic, admin, metrics }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn stdin(&mut self) -> ChildStdin {
        self.process.stdin.take().unwrap()
    }

    pub(crate) fn signal(&self, signal: &str) {
        let sent = Command::new("kill").args([&format!("-{signal}"), &self.pid().to_string()]).status().unwrap();
        assert!(sent.success());
    }

    /// Waits for its end.
    pub(crate) async fn ended(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", async || {
            status = self.process.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }

    /// An inference over V2.
    pub(crate) async fn infer(&self, model: &str, body: &Value, headers: &[(&str, &str)]) -> Answer {
        self.try_infer(model, body, headers).await.unwrap()
    }

    pub(crate) async fn try_infer(
        &self,
        model: &str,
        body: &Value,
        headers: &[(&str, &str)],
    ) -> Result<Answer, String> {
        send(self.traffic, "POST", &format!("/v2/models/{model}/infer"), headers, body.to_string()).await
    }

    pub(crate) async fn get(&self, address: SocketAddr, path: &str) -> Answer {
        send(address, "GET", path, &[], String::new()).await.unwrap()
    }

    pub(crate) async fn state(&self) -> WrapperState {
        admin_client().state(self.admin).await.unwrap().state
    }

    pub(crate) async fn in_flight(&self) -> u32 {
        admin_client().state(self.admin).await.unwrap().in_flight
    }

    /// The value of a metric without labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let text = self.get(self.metrics, "/metrics").await.body;
        let line = text.as_str().unwrap().lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no metric {name}")).parse().unwrap()
    }
}

impl Drop for Wrapper {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// One request on a connection of its own.
pub(crate) async fn send(
    address: SocketAddr,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: String,
) -> Result<Answer, String> {
    let stream = TcpStream::connect(address).await.map_err(|error| error.to_string())?;
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.map_err(|error| error.to_string())?;
    let driver = tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "test");
    for (name, value) in headers {
        request = request.header(*name, *value);
    }
    let request = request.body(Full::new(Bytes::from(body))).unwrap();
    let answered = async {
        let response = sender.send_request(request).await.map_err(|error| error.to_string())?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|error| error.to_string())?.to_bytes();
        let body = serde_json::from_slice(&body)
            .unwrap_or_else(|_| Value::String(String::from_utf8_lossy(&body).into_owned()));
        Ok(Answer { status: head.status, headers: head.headers, body })
    };
    let answer = tokio::time::timeout(PATIENCE, answered).await.expect("an answer comes");
    driver.abort();
    answer
}
