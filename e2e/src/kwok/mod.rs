//! Simulated nodes and pods, for tests of the control plane: the real program kwok on a real apiserver.
//!
//! A pod that the scheduler binds to a simulated node becomes Ready at once and goes at once when it is deleted; nothing runs in
//! it and its address leads nowhere. Where a test needs something that answers, [`LocalWrappers`] stands for the pod.

mod stages;
mod wrappers;

pub use stages::RESTLESS;
pub use wrappers::{Addresses, LocalWrappers, WrapperError};

use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use kube::api::{ListParams, PostParams};
use kube::{Api, Client};
use serde_json::json;

use crate::components::Binaries;
use crate::control_plane::{ControlPlane, Identity};
use crate::process::{Process, Processes, Progress, SpawnError, WaitError};

/// For the nodes to become Ready.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// Seconds that a node's lease lasts: a kubelet's default.
const LEASE_SECONDS: u32 = 40;

/// What is simulated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KwokSettings {
    /// How many nodes, named `simulated-0` and so on. Each takes any number of pods.
    pub nodes: u16,
    /// How often the status of a pod with the label [`RESTLESS`] is written.
    pub beat: Duration,
}

/// Running kwok. Its process belongs to the [`Processes`] that it was started with.
#[derive(Debug)]
pub struct Kwok {
    process: Process,
}

/// Why there are no simulated nodes.
#[derive(Debug, thiserror::Error)]
pub enum KwokError {
    /// kwok is not in the cache.
    #[error(transparent)]
    Program(#[from] crate::components::Error),
    /// There is no kubeconfig for it.
    #[error(transparent)]
    ControlPlane(#[from] crate::control_plane::ControlPlaneError),
    /// Its configuration cannot be written.
    #[error("write {}: {source}", path.display())]
    Configuration {
        /// The file.
        path: std::path::PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It could not be started.
    #[error(transparent)]
    Spawn(#[from] SpawnError),
    /// The apiserver refused a node.
    #[error("node {node}: {source}")]
    Node {
        /// Its name.
        node: String,
        /// What the apiserver said.
        source: Box<kube::Error>,
    },
    /// It died, or a node did not become Ready.
    #[error(transparent)]
    Wait(#[from] WaitError),
}

// === impl KwokSettings ===

impl Default for KwokSettings {
    /// Four nodes: spreading and affinity are worth something from two on; 20 writes a second to each restless pod.
    fn default() -> Self {
        Self { nodes: 4, beat: Duration::from_millis(50) }
    }
}

// === impl Kwok ===

impl Kwok {
    /// Starts kwok on a control plane and waits until its nodes are Ready.
    ///
    /// # Errors
    /// When it is missing or dies, or its nodes do not become Ready.
    pub async fn start(
        binaries: &Binaries,
        control_plane: &ControlPlane,
        processes: &Arc<Processes>,
        settings: KwokSettings,
        progress: &Progress,
    ) -> Result<Self, KwokError> {
        let state = &control_plane.settings().state;
        let stages = state.join("kwok.yaml");
        std::fs::write(&stages, stages::document(settings.beat))
            .map_err(|source| KwokError::Configuration { path: stages.clone(), source })?;
        let mut command = Command::new(binaries.path("kwok")?);
        command
            .arg(format!("--kubeconfig={}", control_plane.kubeconfig(&Identity::Admin)?.display()))
            .arg(format!("--config={}", stages.display()))
            .arg("--manage-all-nodes=true")
            .arg(format!("--node-lease-duration-seconds={LEASE_SECONDS}"))
            // It would merge a configuration in the user's home into ours.
            .env("HOME", state)
            .current_dir(state);
        let process = processes.spawn("kwok", command, &control_plane.settings().logs.join("kwok.log"))?;
        add_nodes(&control_plane.client(), settings.nodes).await?;
        let client = control_plane.client();
        let ready = || {
            let client = client.clone();
            async move { all_ready(&client, settings.nodes).await }
        };
        processes.wait_until("kwok's simulated nodes", READY_WITHIN, progress, ready).await?;
        Ok(Self { process })
    }

    /// The process.
    pub fn process(&self) -> &Process {
        &self.process
    }
}

fn name(number: u16) -> String {
    format!("simulated-{number}")
}

async fn add_nodes(client: &Client, count: u16) -> Result<(), KwokError> {
    let nodes: Api<Node> = Api::all(client.clone());
    for node in (0..count).map(name) {
        let object = json!({
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": node, "labels": {"kubernetes.io/hostname": node, "kubernetes.io/os": "linux"}},
        });
        let object = serde_json::from_value(object).expect("the literal is a Node");
        match nodes.create(&PostParams::default(), &object).await {
            // A control plane that is started again on its data knows its nodes.
            Err(kube::Error::Api(status)) if status.is_already_exists() => {}
            Err(source) => return Err(KwokError::Node { node, source: Box::new(source) }),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// The error says which node is not Ready. A pod's address comes from its node's range, so a node without one is not.
async fn all_ready(client: &Client, count: u16) -> Result<(), String> {
    let nodes: Api<Node> = Api::all(client.clone());
    let list = nodes.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
    for wanted in (0..count).map(name) {
        let node = list.items.iter().find(|node| node.metadata.name.as_ref() == Some(&wanted));
        let node = node.ok_or_else(|| format!("{wanted} does not exist"))?;
        let conditions = node.status.iter().flat_map(|status| status.conditions.iter().flatten());
        if !conditions.into_iter().any(|condition| condition.type_ == "Ready" && condition.status == "True") {
            return Err(format!("{wanted} is not Ready"));
        }
        let spec = node.spec.clone().unwrap_or_default();
        if spec.pod_cidr.is_none() {
            return Err(format!("{wanted} has no range of addresses for pods"));
        }
        // The controllers taint a node until they have seen it Ready: only then does the scheduler use it.
        if spec.taints.is_some_and(|taints| !taints.is_empty()) {
            return Err(format!("{wanted} is tainted"));
        }
    }
    Ok(())
}
