//! Signals before anything is served.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use model_wrapper_admin::WrapperState;

use crate::wrapper::{PATIENCE, Wrapper, admin_client, binary, eventually, fixture, specialize, token};

/// A starting process, killed when dropped.
struct Starting(Child);

impl Starting {
    /// Starts it and waits until it handles the signal of that number.
    async fn handling(command: &mut Command, signal: u32) -> Self {
        let started = Self(command.stdout(Stdio::null()).spawn().unwrap());
        eventually("it handles signals", async || {
            let status = std::fs::read_to_string(format!("/proc/{}/status", started.0.id())).unwrap();
            let caught = status.lines().find_map(|line| line.strip_prefix("SigCgt:\t")).unwrap();
            u64::from_str_radix(caught, 16).unwrap() & (1 << (signal - 1)) != 0
        })
        .await;
        started
    }

    async fn ended_by(mut self, signal: u32) -> ExitStatus {
        let sent = Command::new("kill").args([format!("-{signal}"), self.0.id().to_string()]).status().unwrap();
        assert!(sent.success());
        let mut status = None;
        eventually("the process ends", async || {
            status = self.0.try_wait().unwrap();
            status.is_some()
        })
        .await;
        status.unwrap()
    }
}

impl Drop for Starting {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

const SIGINT: u32 = 2;
const SIGTERM: u32 = 15;

#[tokio::test]
async fn a_start_that_does_not_end_is_stopped_at_once_and_well() {
    let folder = tempfile::tempdir().unwrap();
    // Whoever opens it waits for somebody who writes.
    let never = folder.path().join("libonnxruntime.so");
    assert!(Command::new("mkfifo").arg(&never).status().unwrap().success());
    let model = fixture("fp32.onnx");
    for arguments in [vec!["--pooled"], vec!["--model", model.to_str().unwrap()]] {
        for signal in [SIGTERM, SIGINT] {
            let mut command = binary();
            command.env("ORT_DYLIB_PATH", &never).args(&arguments);
            let status = Starting::handling(&mut command, signal).await.ended_by(signal).await;
            assert!(status.success(), "{arguments:?}, signal {signal}: {status}");
        }
    }
}

#[tokio::test]
async fn a_signal_at_any_moment_of_the_start_ends_it_well() {
    let model = concat!(env!("CARGO_MANIFEST_DIR"), "/../examples/models/digits.onnx");
    for after in [0, 1, 2, 5, 10, 20, 30, 50, 100, 200] {
        let mut command = binary();
        command.args(["--listen", "127.0.0.1:0", "--admin", "127.0.0.1:0", "--metrics", "127.0.0.1:0"]);
        let starting = Starting::handling(command.args(["--model", model]), SIGTERM).await;
        // How far it comes is up to the machine: it ends well wherever that is.
        tokio::time::sleep(Duration::from_millis(after)).await;
        let status = starting.ended_by(SIGTERM).await;
        assert!(status.success(), "after {after} ms: {status}");
    }
}

/// Keeps whoever opens a file waiting, until it is dropped: a process with a lease on it. The system ends that after 45 s.
struct Withheld(Child);

impl Withheld {
    fn new(file: &Path) -> Self {
        const HOLDER: &str = "import fcntl, os, signal, sys; signal.signal(signal.SIGIO, signal.SIG_IGN); \
                              file = os.open(sys.argv[1], os.O_RDWR); \
                              fcntl.fcntl(file, fcntl.F_SETLEASE, fcntl.F_WRLCK); print('held', flush=True); sys.stdin.read()";
        let mut holder = Command::new("python3");
        holder.args(["-c", HOLDER]).arg(file).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut holder = holder.spawn().unwrap();
        let mut said = String::new();
        BufReader::new(holder.stdout.take().unwrap()).read_line(&mut said).unwrap();
        assert_eq!(said, "held\n");
        Self(holder)
    }
}

impl Drop for Withheld {
    fn drop(&mut self) {
        self.0.kill().ok();
        self.0.wait().ok();
    }
}

#[tokio::test]
async fn a_claims_load_is_not_waited_for() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("m.onnx");
    std::fs::copy(fixture("fp32.onnx"), &file).unwrap();
    let mut request = specialize("a", "fp32.onnx");
    request.model.uri = format!("file://{}", file.display());
    let _withheld = Withheld::new(&file);

    let mut wrapper = Wrapper::pooled();
    let admin = wrapper.admin;
    let claim = tokio::spawn(async move { admin_client().specialize(admin, &request, Some(&token(&request))).await });
    eventually("it loads", async || wrapper.state().await == WrapperState::Loading).await;
    let stopped = Instant::now();
    wrapper.signal("TERM");
    assert!(wrapper.ended().await.success());
    assert!(stopped.elapsed() < PATIENCE / 2, "{:?}", stopped.elapsed());
    assert!(claim.await.unwrap().is_err());
}
