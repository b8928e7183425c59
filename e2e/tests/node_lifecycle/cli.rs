//! The program `cluster`, as a user runs it.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use e2e::cluster::{Cluster, Place, TestCluster};
use tempfile::TempDir;

/// No wait in these tests takes longer, not even on two cores that also compile.
const DEADLINE: Duration = Duration::from_secs(300);

/// A cluster of a test's own, with its state in a temporary folder. It is stopped when it is dropped, or when this process ends,
/// however it ends: a watchdog waits for that.
pub(crate) struct OwnCluster {
    name: String,
    folder: TempDir,
    watchdog: Child,
}

// === impl OwnCluster ===

impl OwnCluster {
    /// `None`, with a message, where the tests were given a cluster elsewhere.
    pub(crate) fn new(name: &str) -> Option<Self> {
        if TestCluster::given().is_some() {
            TestCluster::skip("starts a cluster of its own on this machine, and KUBECONFIG names one elsewhere");
            return None;
        }
        let folder = tempfile::Builder::new().prefix("cluster-").tempdir().unwrap();
        // In a session of its own: whoever kills this process and its group does not reach it. It is told of the cluster by its
        // environment, as the tests look for the folder among the arguments of what is left.
        let watchdog = Command::new("setsid")
            .args(["sh", "-c", "cat >/dev/null; exec \"$@\" >/dev/null 2>&1", "sh"])
            .args([env!("CARGO_BIN_EXE_cluster"), "down"])
            .env("KFERVING_CLUSTER", name)
            .env("KFERVING_CLUSTER_STATE", folder.path())
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        Some(Self { name: name.to_owned(), folder, watchdog })
    }

    pub(crate) fn state(&self) -> &Path {
        self.folder.path()
    }

    pub(crate) fn place(&self) -> Place {
        Place::new(&self.name, Some(self.state())).unwrap()
    }

    /// The cluster's command, its output kept.
    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        let mut command = program();
        command.args(["--name", &self.name, "--state"]).arg(self.state()).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Runs a command to its end.
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Starts the cluster, and gives it.
    pub(crate) fn up(&self) -> Cluster {
        succeeded(&self.run(&["up"]));
        Cluster::get(&self.place()).unwrap()
    }

    /// Begins to start the cluster and returns when `moment` is reached.
    pub(crate) fn begin(&self, moment: &Moment) -> Child {
        let mut child = self.command(&["up"]).spawn().unwrap();
        let deadline = Instant::now() + DEADLINE;
        while !moment.reached(self.state()) {
            assert!(child.try_wait().unwrap().is_none(), "`cluster up` ended before {moment:?}");
            assert!(Instant::now() < deadline, "`cluster up` did not come to {moment:?}");
            std::thread::sleep(Duration::from_millis(2));
        }
        child
    }
}

impl Drop for OwnCluster {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// A point in the start of a cluster.
#[derive(Debug)]
pub(crate) enum Moment {
    /// The processes inside exist.
    TreeStarted,
    /// A component has begun to write its log.
    Logging(&'static str),
}

// === impl Moment ===

impl Moment {
    fn reached(&self, state: &Path) -> bool {
        match self {
            Self::TreeStarted => state.join("cluster.json").exists(),
            Self::Logging(component) => {
                let log: PathBuf = state.join("log").join(format!("{component}.log"));
                log.metadata().is_ok_and(|found| found.len() > 0)
            }
        }
    }
}

/// The program under test.
pub(crate) fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_cluster"))
}

/// Fails with all that was printed unless the command succeeded; what it printed.
pub(crate) fn succeeded(output: &Output) -> String {
    let text = printed(output);
    assert!(output.status.success(), "{}:\n{text}", output.status);
    text
}

/// All that a command printed.
pub(crate) fn printed(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout))
}

/// Polls until `probe` gives a value.
pub(crate) fn eventually<T>(what: &str, mut probe: impl FnMut() -> Result<T, String>) -> T {
    let deadline = Instant::now() + DEADLINE;
    loop {
        match probe() {
            Ok(value) => return value,
            Err(reason) => assert!(Instant::now() < deadline, "{what}: {reason}"),
        }
        std::thread::sleep(Duration::from_millis(50));
    }
}
