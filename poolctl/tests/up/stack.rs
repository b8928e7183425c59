//! A running `poolctl up` and how tests talk to it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use poolctl_runtime::announce;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::tree::{PATIENCE, poolctl, repository};

/// A directory of models.
pub(crate) struct Models(TempDir);

impl Models {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        fs::copy(repository().join("examples/models/digits.onnx"), directory.path().join("digits.onnx")).unwrap();
        Self(directory)
    }

    /// With a model `digits` of these additional lines of `spec`.
    pub(crate) fn with_digits(spec: &str) -> Self {
        let models = Self::new();
        models.write("digits.yaml", &model("digits", "digits.onnx", spec));
        models
    }

    pub(crate) fn write(&self, file: &str, text: &str) {
        fs::write(self.0.path().join(file), text).unwrap();
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }
}

/// YAML of a model with a cpu variant.
pub(crate) fn model(name: &str, storage_uri: &str, spec: &str) -> String {
    format!(
        "apiVersion: kferving.dev/v1alpha1\nkind: Model\nmetadata: {{name: {name}}}\nspec:\n  storageUri: {storage_uri}\n  \
         cpu: {{maxReplicas: 1}}\n{spec}\n"
    )
}

/// A running stack; killed when dropped.
pub(crate) struct Stack {
    child: Child,
    pub(crate) address: SocketAddr,
    pub(crate) admin: SocketAddr,
}

/// An answer.
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Value,
}

impl Stack {
    pub(crate) fn start(models: &Models, arguments: &[&str]) -> Self {
        Self::start_with(poolctl(), models, arguments)
    }

    /// Starts what `program` runs.
    pub(crate) fn start_with(mut program: Command, models: &Models, arguments: &[&str]) -> Self {
        let mut child = program
            .args(["up", "--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--models"])
            .arg(models.path())
            .args(arguments)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let (mut admin, mut ready) = (None, None);
        for line in BufReader::new(child.stdout.take().unwrap()).lines() {
            let line = line.unwrap();
            admin = admin.or(announce::parse("admin", &line));
            ready = announce::parse("ready", &line);
            if ready.is_some() {
                break;
            }
        }
        let (Some(admin), Some(address)) = (admin, ready) else {
            panic!("it ended with {} before it was ready", child.wait().unwrap());
        };
        Self { child, address, admin }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        request(self.address, "GET", path, &[], "")
    }

    pub(crate) fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        request(self.address, "POST", path, headers, &body.to_string())
    }

    pub(crate) fn status(&self) -> Value {
        request(self.admin, "GET", "/status", &[], "").body
    }

    /// The model of that name in the status.
    pub(crate) fn model(&self, name: &str) -> Value {
        let status = self.status();
        let models = status["models"].as_array().unwrap();
        models.iter().find(|model| model["name"] == name).unwrap().clone()
    }

    pub(crate) fn pool(&self) -> Value {
        self.status()["pools"][0].clone()
    }

    /// Replicas of a model's first variant.
    pub(crate) fn replicas(&self, name: &str) -> Vec<Value> {
        self.model(name)["variants"][0]["replicas"].as_array().unwrap().clone()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).unwrap();
    }

    /// Waits for its end.
    pub(crate) fn wait(&mut self) -> ExitStatus {
        let mut status = None;
        until("the stack ends", || {
            status = self.child.try_wait().unwrap();
            status.is_some()
        });
        status.unwrap()
    }
}

impl Drop for Stack {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// The phases of `server-timing`.
    pub(crate) fn phases(&self) -> Vec<&str> {
        let timing = self.header("server-timing").unwrap_or_default();
        timing.split(", ").filter_map(|phase| phase.split_once(';').map(|(name, _)| name)).collect()
    }
}

/// One request on a connection of its own.
pub(crate) fn request(address: SocketAddr, method: &str, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut head = format!("{method} {path} HTTP/1.1\r\nconnection: close\r\ncontent-length: {}\r\n", body.len());
    if !headers.iter().any(|(name, _)| *name == "host") {
        head.push_str(&format!("host: {address}\r\n"));
    }
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    stream.write_all(format!("{head}\r\n{body}").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer to {method} {path}"));
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Answer { status, head: head.to_owned(), body: serde_json::from_str(body).unwrap_or_else(|_| json!(body)) }
}

/// Waits until `condition` holds.
pub(crate) fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "not within {PATIENCE:?}: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Children of a process, and their children.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let listed = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let tasks = fs::read_dir(format!("/proc/{pid}/task")).into_iter().flatten().flatten();
    let mut children: Vec<u32> = tasks
        .filter_map(|task| fs::read_to_string(task.path().join("children")).ok())
        .chain([listed])
        .flat_map(|list| list.split_whitespace().filter_map(|pid| pid.parse().ok()).collect::<Vec<u32>>())
        .collect();
    children.sort_unstable();
    children.dedup();
    let grandchildren: Vec<u32> = children.iter().flat_map(|child| descendants(*child)).collect();
    children.extend(grandchildren);
    children
}

/// Whether a process exists and is not just waiting to be reaped.
pub(crate) fn is_alive(pid: u32) -> bool {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    status.lines().any(|line| line.starts_with("State:") && !line.contains('Z'))
}

/// Runs `poolctl` to its end.
pub(crate) fn run(arguments: &[&str]) -> Output {
    poolctl().args(arguments).output().unwrap()
}

pub(crate) fn stdout(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).unwrap()
}

pub(crate) fn stderr(output: &Output) -> String {
    String::from_utf8(output.stderr.clone()).unwrap()
}
