//! kube-proxy, which makes the addresses of Services work on the node.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use super::super::addresses::PODS;

/// What kube-proxy needs.
#[derive(Clone, Debug)]
pub(crate) struct KubeProxy {
    /// The program.
    pub(crate) binary: PathBuf,
    /// Its access to the API server.
    pub(crate) kubeconfig: PathBuf,
    /// Name of the node.
    pub(crate) node_name: String,
    /// A `PATH` with iptables and conntrack.
    pub(crate) path: String,
    /// Its folder in the cluster's state.
    pub(crate) config_folder: PathBuf,
}

// === impl KubeProxy ===

impl KubeProxy {
    /// Writes the configuration; how to start it.
    ///
    /// # Errors
    /// When its folder cannot be written.
    pub(crate) fn prepare(&self) -> std::io::Result<Command> {
        std::fs::create_dir_all(&self.config_folder)?;
        let config = self.config_folder.join("config.yaml");
        std::fs::write(&config, serde_json::to_vec_pretty(&self.config())?)?;
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(config).env("PATH", &self.path);
        Ok(command)
    }

    /// The `KubeProxyConfiguration`. What is not said here is kube-proxy's default.
    pub(super) fn config(&self) -> Value {
        json!({
            "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
            "kind": "KubeProxyConfiguration",
            "clientConnection": { "kubeconfig": self.kubeconfig },
            "mode": "iptables",
            "clusterCIDR": PODS.to_string(),
            "hostnameOverride": self.node_name,
            // Lowering it needs a capability that root in a container lacks.
            "oomScoreAdj": 0,
            // The size of the connection table is the machine's, and read-only here.
            "conntrack": { "maxPerCore": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s" },
        })
    }
}
