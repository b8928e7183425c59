//! The kubelet.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use super::super::addresses::{DNS_SERVICE, DOMAIN, NODE};
use super::containerd::SOCKET;

/// Where the kubelet keeps pods' volumes, its certificates and the sockets of device plugins: the usual place, private to the
/// cluster.
const ROOT: &str = "/var/lib/kubelet";

/// Pods on the node. More than the default of 110: the load tests start hundreds, and one node is all there is.
const MAX_PODS: u32 = 500;

/// What the kubelet needs.
#[derive(Clone, Debug)]
pub(crate) struct Kubelet {
    /// The program.
    pub(crate) binary: PathBuf,
    /// Its access to the API server.
    pub(crate) kubeconfig: PathBuf,
    /// The authority whose clients it serves.
    pub(crate) client_ca: PathBuf,
    /// Name of the node.
    pub(crate) node_name: String,
    /// Directory of the cluster in every cgroup hierarchy.
    pub(crate) cgroup_root: String,
    /// Its folder in the cluster's state.
    pub(crate) config_folder: PathBuf,
}

// === impl Kubelet ===

impl Kubelet {
    /// Writes the configuration; how to start it.
    ///
    /// # Errors
    /// When its folder cannot be written.
    pub(crate) fn prepare(&self) -> std::io::Result<Command> {
        std::fs::create_dir_all(&self.config_folder)?;
        // The machine's own name servers are out of reach, so a pod that asks to resolve like its node gets none.
        let resolv_conf = self.config_folder.join("resolv.conf");
        std::fs::write(&resolv_conf, "")?;
        let config = self.config_folder.join("config.yaml");
        std::fs::write(&config, serde_json::to_vec_pretty(&self.config(&resolv_conf))?)?;
        let mut command = Command::new(&self.binary);
        command
            .arg("--config")
            .arg(config)
            .arg("--kubeconfig")
            .arg(&self.kubeconfig)
            .arg(format!("--hostname-override={}", self.node_name))
            .arg(format!("--node-ip={NODE}"))
            .arg(format!("--root-dir={ROOT}"));
        Ok(command)
    }

    /// The `KubeletConfiguration`. What is not said here is the kubelet's default.
    pub(super) fn config(&self, resolv_conf: &Path) -> Value {
        json!({
            "apiVersion": "kubelet.config.k8s.io/v1beta1",
            "kind": "KubeletConfiguration",
            "authentication": {
                "anonymous": { "enabled": false },
                "webhook": { "enabled": true },
                "x509": { "clientCAFile": self.client_ca },
            },
            "authorization": { "mode": "Webhook" },
            "containerRuntimeEndpoint": format!("unix://{SOCKET}"),
            "clusterDNS": [DNS_SERVICE],
            "clusterDomain": DOMAIN,
            "resolvConf": resolv_conf,
            "cgroupDriver": "cgroupfs",
            "cgroupRoot": format!("/{}", self.cgroup_root),
            // Many machines, and most containers that CI runs in, still have version 1.
            "failCgroupV1": false,
            "failSwapOn": false,
            // The node is one program among others on this machine: it reserves nothing, and its pods may use all of it.
            "enforceNodeAllocatable": [],
            "maxPods": MAX_PODS,
            // Images come from archives: there is no registry to spare.
            "serializeImagePulls": false,
            "registryPullQPS": 0,
            // A developer's disk is often nearly full. Nothing is evicted or collected for it until it really is.
            "evictionHard": {
                "memory.available": "50Mi",
                "nodefs.available": "1%",
                "nodefs.inodesFree": "1%",
                "imagefs.available": "1%",
                "imagefs.inodesFree": "1%",
            },
            "imageGCHighThresholdPercent": 100,
        })
    }
}
