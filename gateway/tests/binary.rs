//! The binary: its announcements, its configuration's reloads, its signals.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use http::StatusCode;
use poolctl_runtime::announce;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{TestClient, eventually};

struct Process {
    child: Child,
    admin: SocketAddr,
    ready: SocketAddr,
}

impl Process {
    fn start(config: &Path) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_gateway"))
            .arg("--config")
            .arg(config)
            .args(["--admin", "127.0.0.1:0", "--listen", "127.0.0.1:0", "--threads", "2"])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let admin = announce::parse("admin", &lines.next().unwrap().unwrap()).unwrap();
        let ready = announce::parse("ready", &lines.next().unwrap().unwrap()).unwrap();
        Self { child, admin, ready }
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn write(path: &Path, text: &str) {
    // As an editor does: the file is never half written.
    let next = path.with_extension("next");
    std::fs::File::create(&next).unwrap().write_all(text.as_bytes()).unwrap();
    std::fs::rename(&next, path).unwrap();
}

fn config(name: &str, replica: SocketAddr) -> String {
    format!("models: [{{name: {name}, replicas: [{{url: 'http://{replica}', concurrency: 1}}]}}]")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_file_is_taken_over_and_a_broken_one_is_not() {
    let wrapper = FakeWrapper::start(Behaviour::Echo(Duration::ZERO));
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.yaml");
    write(&path, &config("digits", wrapper.addr));
    let gateway = Process::start(&path);
    let client = TestClient::http1();
    let url = |name: &str| format!("http://{}/v2/models/{name}/infer", gateway.ready);
    assert_eq!(client.post(&url("digits"), "x").await.status, StatusCode::OK);

    let reloads = |name: &'static str| {
        let (client, url) = (client.clone(), format!("http://{}/metrics", gateway.admin));
        async move {
            let text = String::from_utf8(client.get(&url).await.body.to_vec()).unwrap();
            text.lines().any(|line| line == format!("{name} 1"))
        }
    };
    write(&path, "models: [{name: edges, replica: []}]");
    while !reloads("kferving_gateway_config_reloads_refused_total").await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.post(&url("digits"), "x").await.status, StatusCode::OK, "the old one stays");

    write(&path, &config("edges", wrapper.addr));
    while !reloads("kferving_gateway_config_reloads_total").await {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    assert_eq!(client.post(&url("edges"), "x").await.status, StatusCode::OK);
    assert_eq!(client.post(&url("digits"), "x").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_stops_the_start_and_names_key_and_value() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.yaml");
    write(&path, "models: [{name: m, timeout: soon, replicas: []}]");
    let output = Command::new(env!("CARGO_BIN_EXE_gateway")).arg("--config").arg(&path).output().unwrap();
    assert!(!output.status.success());
    let message = String::from_utf8(output.stderr).unwrap();
    assert!(message.contains("models[0].timeout") && message.contains("soon"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signal_drains_and_a_second_one_insists() {
    let wrapper = FakeWrapper::start(Behaviour::Gated);
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.yaml");
    write(&path, &config("digits", wrapper.addr));

    let mut gateway = Process::start(&path);
    let url = format!("http://{}/v2/models/digits/infer", gateway.ready);
    let running = tokio::spawn(async move { TestClient::http1().post(&url, "x").await.status });
    eventually("one runs", || wrapper.running() == 1).await;
    gateway.signal(rustix::process::Signal::TERM);
    let addr = gateway.ready;
    eventually("no new connection is taken", || std::net::TcpStream::connect(addr).is_err()).await;
    assert!(gateway.child.try_wait().unwrap().is_none(), "it waits for what runs");
    wrapper.let_go(1);
    assert_eq!(running.await.unwrap(), StatusCode::OK);
    assert!(gateway.child.wait().unwrap().success());

    let mut gateway = Process::start(&path);
    let url = format!("http://{}/v2/models/digits/infer", gateway.ready);
    let running = tokio::spawn(async move {
        let request = http::Request::post(url).body(http_body_util::Full::<bytes::Bytes>::from("x")).unwrap();
        TestClient::http1().try_send(request).await
    });
    eventually("one runs", || wrapper.running() == 1).await;
    gateway.signal(rustix::process::Signal::TERM);
    let addr = gateway.ready;
    eventually("the drain has begun", || std::net::TcpStream::connect(addr).is_err()).await;
    gateway.signal(rustix::process::Signal::TERM);
    assert!(!gateway.child.wait().unwrap().success(), "the second signal does not wait");
    assert!(running.await.unwrap().is_err());
}

#[test]
fn a_taken_port_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.yaml");
    write(&path, "models: []");
    let output = Command::new(env!("CARGO_BIN_EXE_gateway"))
        .arg("--config")
        .arg(&path)
        .args(["--admin", "127.0.0.1:0", "--listen", &taken.local_addr().unwrap().to_string()])
        .output()
        .unwrap();
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).unwrap().contains("listening on"));
}
