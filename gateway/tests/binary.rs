//! The binary: its announcements, its configuration's reloads, its signals.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use http::StatusCode;
use poolctl_runtime::announce;
use support::wrapper::{Behaviour, FakeWrapper};
use support::{PATIENCE, TestClient, eventually};

/// Of a process that has not announced itself yet.
const UNKNOWN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED), 0);

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
        let stdout = child.stdout.take().unwrap();
        let (said, lines) = std::sync::mpsc::channel();
        // Ends with the process, which the test ends.
        std::thread::spawn(move || BufReader::new(stdout).lines().try_for_each(|line| said.send(line.unwrap())));
        let mut process = Self { child, admin: UNKNOWN, ready: UNKNOWN };
        let announced = |kind| announce::parse(kind, &lines.recv_timeout(PATIENCE).unwrap()).unwrap();
        process.admin = announced("admin");
        process.ready = announced("ready");
        process
    }

    fn signal(&self, signal: rustix::process::Signal) {
        let pid = rustix::process::Pid::from_child(&self.child);
        rustix::process::kill_process(pid, signal).unwrap();
    }

    async fn ends(&mut self) -> ExitStatus {
        let mut status = None;
        eventually("the process ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
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

    let metrics = format!("http://{}/metrics", gateway.admin);
    let reloaded = async |name: &str| {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = String::from_utf8(client.get(&metrics).await.body.to_vec()).unwrap();
            if text.lines().any(|line| line == format!("{name} 1")) {
                return;
            }
            assert!(Instant::now() < deadline, "never: {name} 1");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    write(&path, "models: [{name: edges, replica: []}]");
    reloaded("kferving_gateway_config_reloads_refused_total").await;
    assert_eq!(client.post(&url("digits"), "x").await.status, StatusCode::OK, "the old one stays");

    write(&path, &config("edges", wrapper.addr));
    reloaded("kferving_gateway_config_reloads_total").await;
    assert_eq!(client.post(&url("edges"), "x").await.status, StatusCode::OK);
    assert_eq!(client.post(&url("digits"), "x").await.status, StatusCode::NOT_FOUND);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_broken_file_stops_the_start_and_names_key_and_value() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.yaml");
    write(&path, "models: [{name: m, timeout: soon, replicas: []}]");
    let message = refused(&path, &[]);
    let cause = "models[0].timeout is \"soon\": expected a duration above 0 such as 50ms, 1.5s or 1m30s";
    assert_eq!(message, format!("gateway: {}: {cause}\n", path.display()));
    write(&path, "models: [{name: m, replica: []}]");
    let message = refused(&path, &[]);
    assert!(message.starts_with(&format!("gateway: {}: line 1 column 20: ", path.display())), "{message}");
    let absent = directory.path().join("absent.yaml");
    let message = refused(&absent, &[]);
    assert_eq!(message, format!("gateway: {}: No such file or directory (os error 2)\n", absent.display()));
}

/// What the process says of a start that it refuses.
fn refused(config: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_gateway"));
    command.arg("--config").arg(config).args(arguments);
    command.env("KFERVING_ADMIN", "127.0.0.1:0").env("KFERVING_LISTEN", "127.0.0.1:0");
    // A report with a backtrace is for who debugs the gateway, not for who mistyped.
    let mut child = command.env("RUST_BACKTRACE", "1").stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
    let deadline = Instant::now() + PATIENCE;
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            child.kill().unwrap();
            child.wait().unwrap();
            panic!("it starts with {arguments:?}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    let output = child.wait_with_output().unwrap();
    assert!(!output.status.success());
    String::from_utf8(output.stderr).unwrap()
}

#[test]
fn an_argument_that_cannot_be_used_stops_the_start() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.yaml");
    write(&path, "models: []");
    for (argument, value, expected) in [
        ("--threads", "0", "1..=1024"),
        ("--threads", "100000", "1..=1024"),
        ("--namespace", "A B", "letters, digits"),
        ("--namespace", "", "letters, digits"),
        ("--listen", "localhost:8080", "expected IP:PORT, such as 127.0.0.1:8080"),
        ("--admin", "8081", "expected IP:PORT, such as 127.0.0.1:8081"),
    ] {
        let message = refused(&path, &[argument, value]);
        assert!(message.contains(argument) && message.contains(expected), "{argument} {value}: {message}");
    }
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
    assert!(gateway.ends().await.success());

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
    // Signals in quick succession count as one: the second is the first that comes later.
    let mut status = None;
    eventually("the second signal does not wait", || {
        status = gateway.child.try_wait().unwrap();
        if status.is_none() {
            gateway.signal(rustix::process::Signal::TERM);
        }
        status.is_some()
    })
    .await;
    assert!(!status.unwrap().success());
    assert!(running.await.unwrap().is_err());
}

#[test]
fn a_taken_port_is_an_error() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("gateway.yaml");
    write(&path, "models: []");
    let message = refused(&path, &["--listen", &taken.local_addr().unwrap().to_string()]);
    assert!(message.contains("listening on"), "{message}");
}
