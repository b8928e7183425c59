//! containerd, with runc and its plugins from the system.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;

use super::super::prerequisites::System;

/// Its socket, at the name that every tool expects.
pub(crate) const SOCKET: &str = "/run/containerd/containerd.sock";

/// The namespace of containerd in which the kubelet's containers and images are.
pub(crate) const NAMESPACE: &str = "k8s.io";

/// How layers of images become a container's root.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Snapshotter {
    /// Stacked by the kernel.
    Overlay,
    /// Copied: for a state folder that is an overlay itself (this machine is a container), which the kernel does not stack again.
    Native,
}

/// What containerd needs.
#[derive(Clone, Debug)]
pub(crate) struct Containerd {
    /// The program; its shim lies beside it.
    pub(crate) binary: PathBuf,
    /// The machine's runc and plugins.
    pub(crate) system: System,
    /// Its folder in the cluster's state.
    pub(crate) state: PathBuf,
    /// Folder with the configuration of the pods' network.
    pub(crate) network: PathBuf,
    /// Image of the process that holds a pod's namespaces.
    pub(crate) pause_image: &'static str,
}

// === impl Snapshotter ===

impl Snapshotter {
    /// The one that works in `folder`.
    ///
    /// # Errors
    /// When the folder's file system cannot be told.
    pub(crate) fn for_folder(folder: &Path) -> anyhow::Result<Self> {
        /// `OVERLAYFS_SUPER_MAGIC` of statfs(2).
        const OVERLAYFS: u64 = 0x794c_7630;
        let found = rustix::fs::statfs(folder)
            .with_context(|| format!("cannot tell the file system of {}", folder.display()))?;
        Ok(if u64::try_from(found.f_type) == Ok(OVERLAYFS) { Self::Native } else { Self::Overlay })
    }

    fn name(self) -> &'static str {
        match self {
            Self::Overlay => "overlayfs",
            Self::Native => "native",
        }
    }
}

// === impl Containerd ===

impl Containerd {
    /// Writes the configuration; how to start it.
    ///
    /// # Errors
    /// When its folder cannot be written.
    pub(crate) fn prepare(&self) -> anyhow::Result<Command> {
        std::fs::create_dir_all(&self.state)?;
        let config = self.state.join("config.toml");
        std::fs::write(&config, self.config(Snapshotter::for_folder(&self.state)?))?;
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(config);
        // It looks for its shim in the PATH.
        let beside = self.binary.parent().unwrap_or(Path::new("."));
        command.env("PATH", format!("{}:{}", beside.display(), self.system.path));
        Ok(command)
    }

    /// The configuration, version 3 (containerd 2). Strings are written as TOML's basic strings, whose escapes Rust's debug
    /// form of a path shares.
    pub(super) fn config(&self, snapshotter: Snapshotter) -> String {
        let root = self.state.join("root");
        let (snapshotter, pause) = (snapshotter.name(), self.pause_image);
        let (runc, plugins, network) = (&self.system.runc, &self.system.cni_plugins, &self.network);
        // disable_apparmor: profiles are loaded into the machine's kernel, for all of it.
        // restrict_oom_score_adj: a process without CAP_SYS_RESOURCE cannot lower its score, and runc would end with "can't get
        // final child's PID from pipe: EOF".
        format!(
            "\
version = 3
root = {root:?}
state = \"/run/containerd\"

[grpc]
address = \"{SOCKET}\"

[plugins.\"io.containerd.cri.v1.images\"]
snapshotter = \"{snapshotter}\"

[plugins.\"io.containerd.cri.v1.images\".pinned_images]
sandbox = \"{pause}\"

[plugins.\"io.containerd.cri.v1.runtime\"]
disable_apparmor = true
restrict_oom_score_adj = true

[plugins.\"io.containerd.cri.v1.runtime\".containerd]
default_runtime_name = \"runc\"

[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc]
runtime_type = \"io.containerd.runc.v2\"

[plugins.\"io.containerd.cri.v1.runtime\".containerd.runtimes.runc.options]
BinaryName = {runc:?}
SystemdCgroup = false

[plugins.\"io.containerd.cri.v1.runtime\".cni]
bin_dirs = [{plugins:?}]
conf_dir = {network:?}
"
        )
    }
}
