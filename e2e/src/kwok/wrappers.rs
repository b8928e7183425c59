//! Real model servers that stand for simulated pods.
//!
//! A simulated pod has an address that leads nowhere. What calls replicas therefore takes its addresses from a resolver, and here
//! is one: for each pod a pooled `model-wrapper` process of this machine, started with the pod's uid as its own.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use k8s_openapi::api::core::v1::Pod;
use parking_lot::Mutex;
use poolctl_runtime::announce;

use crate::process::{Processes, Progress, SpawnError, WaitError};

/// For a wrapper to announce that it is ready: it loads its runtime's library first.
const READY_WITHIN: Duration = Duration::from_secs(60);

/// From SIGTERM to SIGKILL.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// Where a replica answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Addresses {
    /// Predictions.
    pub traffic: SocketAddr,
    /// Specialize, state and drain.
    pub admin: SocketAddr,
}

/// The wrappers that stand for pods. They end when it is dropped.
#[derive(Debug)]
pub struct LocalWrappers {
    program: PathBuf,
    claim_key: String,
    logs: PathBuf,
    processes: Processes,
    addresses: Mutex<HashMap<String, Addresses>>,
}

/// Why no wrapper stands for a pod.
#[derive(Debug, thiserror::Error)]
pub enum WrapperError {
    /// There is no such program.
    #[error("the model server {} is not there: `cargo build -p model-wrapper` makes it", .0.display())]
    Missing(PathBuf),
    /// The pod was not made by an apiserver.
    #[error("a pod without uid")]
    NoUid,
    /// It could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// It died, or did not become ready.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

// === impl LocalWrappers ===

impl LocalWrappers {
    /// Wrappers of `program` that take the claims signed with the private half of `claim_key` (base64).
    ///
    /// # Errors
    /// When there is no such program.
    pub fn new(program: &Path, claim_key: String, logs: &Path) -> Result<Self, WrapperError> {
        if !program.is_file() {
            return Err(WrapperError::Missing(program.to_owned()));
        }
        Ok(Self {
            program: program.to_owned(),
            claim_key,
            logs: logs.to_owned(),
            processes: Processes::default(),
            addresses: Mutex::default(),
        })
    }

    /// Starts the wrapper that stands for a pod and waits until it is ready.
    ///
    /// # Errors
    /// When it cannot be started or does not become ready.
    pub async fn start(&self, pod: &Pod) -> Result<Addresses, WrapperError> {
        let uid = pod.metadata.uid.as_deref().ok_or(WrapperError::NoUid)?;
        let log = self.logs.join(format!("{uid}.log"));
        let mut command = Command::new(&self.program);
        command.args(["--pooled", "--claim-key", &self.claim_key, "--pod-uid", uid]).args([
            "--listen",
            "127.0.0.1:0",
            "--admin",
            "127.0.0.1:0",
            "--metrics",
            "127.0.0.1:0",
        ]);
        self.processes.spawn(uid, command, &log)?;
        let announced = || async { announced(&log) };
        let what = format!("the wrapper of pod {uid}");
        let addresses = self.processes.wait_until(&what, READY_WITHIN, &Progress::silent(), announced).await?;
        self.addresses.lock().insert(uid.to_owned(), addresses);
        Ok(addresses)
    }

    /// Where what stands for a pod answers; `None` when nothing does.
    pub fn resolve(&self, pod: &Pod) -> Option<Addresses> {
        self.addresses.lock().get(pod.metadata.uid.as_deref()?).copied()
    }

    /// Stops what stands for a pod that is gone.
    pub async fn stop(&self, pod: &Pod) {
        let Some(uid) = pod.metadata.uid.as_deref() else { return };
        self.addresses.lock().remove(uid);
        if let Some(process) = self.processes.get(uid) {
            process.stop(STOP_WITHIN).await;
        }
    }
}

/// The addresses that a wrapper printed, once it has printed that it is ready.
fn announced(log: &Path) -> Result<Addresses, String> {
    let text = std::fs::read_to_string(log).map_err(|error| error.to_string())?;
    let of = |name| text.lines().find_map(|line| announce::parse(name, line));
    // The last line may be half written: an address is whole only where its line is.
    let whole = text.ends_with('\n');
    match (of("ready"), of("admin")) {
        (Some(traffic), Some(admin)) if whole => Ok(Addresses { traffic, admin }),
        _ => Err("it has not announced itself yet".to_owned()),
    }
}
