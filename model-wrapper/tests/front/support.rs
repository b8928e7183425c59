//! A wrapper process, and a client that writes and reads its bytes as they are.

use std::{
    io::{BufRead, BufReader, Read, Write},
    net::{SocketAddr, TcpStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::Duration,
};

use serde_json::Value;

/// A read that takes longer means that no answer comes.
const PATIENCE: Duration = Duration::from_secs(120);

pub(crate) fn clients() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients")
}

/// Python with the client libraries, which `make test` installs.
pub(crate) fn python() -> Command {
    let interpreter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../.cache/venv/bin/python");
    assert!(interpreter.exists(), "{} is missing: `make test` makes it", interpreter.display());
    Command::new(interpreter)
}

/// The model of that name, of those that clients/make_models.py makes.
pub(crate) fn model(name: &str) -> PathBuf {
    static MODELS: OnceLock<PathBuf> = OnceLock::new();
    let folder = MODELS.get_or_init(|| {
        // Made apart and moved: another run of these tests may be reading the same files.
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join("front-models");
        std::fs::create_dir_all(&folder).expect("a folder for the models");
        let fresh = tempfile::tempdir_in(&folder).expect("a folder for the models");
        let made = python().arg(clients().join("make_models.py")).arg(fresh.path()).status().expect("Python starts");
        assert!(made.success(), "make_models.py failed");
        for entry in std::fs::read_dir(fresh.path()).expect("the folder is there") {
            let entry = entry.expect("the folder can be read");
            std::fs::rename(entry.path(), folder.join(entry.file_name())).expect("the model can be moved");
        }
        folder
    });
    folder.join(format!("{name}.onnx"))
}

/// A wrapper that serves one model, killed when dropped.
pub(crate) struct Wrapper {
    process: Child,
    pub(crate) addr: SocketAddr,
    pub(crate) metrics: SocketAddr,
}

impl Wrapper {
    pub(crate) fn serving(name: &str, arguments: &[&str]) -> Self {
        let mut process = Command::new(env!("CARGO_BIN_EXE_model-wrapper"))
            .args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0", "--model"])
            .arg(model(name))
            .args(arguments)
            .env("RUST_LOG", "off")
            .stdout(Stdio::piped())
            .spawn()
            .expect("the wrapper starts");
        let mut lines = BufReader::new(process.stdout.take().expect("stdout is piped")).lines().map_while(Result::ok);
        let mut address = |name: &str| {
            lines
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(" http://")?.parse().ok())
                .unwrap_or_else(|| panic!("the wrapper announces no {name} address"))
        };
        let (metrics, addr) = (address("metrics"), address("ready"));
        Self { process, addr, metrics }
    }

    pub(crate) fn connect(&self) -> Connection {
        Connection::to(self.addr)
    }

    /// A POST of JSON on a connection of its own.
    pub(crate) fn post(&self, path: &str, body: &str) -> Answer {
        self.connect().post(path, "", body.as_bytes())
    }

    pub(crate) fn get(&self, path: &str) -> Answer {
        self.connect().exchange(format!("GET {path} HTTP/1.1\r\nhost: test\r\n\r\n").as_bytes())
    }

    /// The value of a metric, by its name and labels as they are written.
    pub(crate) fn metric(&self, name: &str) -> Option<f64> {
        let answer = Connection::to(self.metrics).exchange(b"GET /metrics HTTP/1.1\r\nhost: test\r\n\r\n");
        let text = String::from_utf8(answer.body).expect("metrics are text");
        text.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
    }
}

impl Drop for Wrapper {
    fn drop(&mut self) {
        self.process.kill().ok();
        self.process.wait().ok();
    }
}

/// A connection that is kept for several requests.
pub(crate) struct Connection(BufReader<TcpStream>);

impl Connection {
    pub(crate) fn to(addr: SocketAddr) -> Self {
        let stream = TcpStream::connect(addr).expect("the wrapper listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a timeout above zero");
        Self(BufReader::new(stream))
    }

    pub(crate) fn send(&mut self, bytes: &[u8]) {
        self.0.get_mut().write_all(bytes).expect("the wrapper takes the bytes");
    }

    /// Sends what may be more than the wrapper reads before it answers and closes.
    pub(crate) fn try_send(&mut self, bytes: &[u8]) -> bool {
        self.0.get_mut().write_all(bytes).is_ok()
    }

    pub(crate) fn post(&mut self, path: &str, headers: &str, body: &[u8]) -> Answer {
        let head = format!("POST {path} HTTP/1.1\r\nhost: test\r\n{headers}content-length: {}\r\n\r\n", body.len());
        self.exchange(&[head.as_bytes(), body].concat())
    }

    pub(crate) fn exchange(&mut self, request: &[u8]) -> Answer {
        self.send(request);
        self.answer()
    }

    /// The next answer. It must say its length.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            assert_ne!(self.0.read_line(&mut head).expect("an answer comes"), 0, "the connection ended after {head:?}");
        }
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status line");
        let mut answer = Answer { status, head: head.to_ascii_lowercase(), body: Vec::new() };
        if status != 100 {
            let length = answer.header("content-length").expect("an answer says its length").parse().expect("a number");
            answer.body.resize(length, 0);
            self.0.read_exact(&mut answer.body).expect("the answer is whole");
        }
        answer
    }
}

/// An answer as it came.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    head: String,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|error| panic!("{error}: {}", String::from_utf8_lossy(&self.body)))
    }

    /// Checks an error's status and reason, and gives its text.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, reason: &str) -> String {
        assert_eq!(self.status, status, "{}", String::from_utf8_lossy(&self.body));
        assert_eq!(self.header("kferving-reason"), Some(reason));
        self.json()["error"].as_str().expect("an error has a text").to_owned()
    }

    /// Checks success, and gives the body.
    #[track_caller]
    pub(crate) fn ok(&self) -> Value {
        assert_eq!(self.status, 200, "{}", String::from_utf8_lossy(&self.body));
        self.json()
    }
}
