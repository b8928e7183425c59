//! The whole cluster in namespaces of its own: node, network, state, entering and leaving it.
//!
//! ```text
//! cluster up ── setsid unshare ── cluster init (process 1: mounts, network, reaps)
//!    │                                └── cluster supervise ── etcd, kube-apiserver, …, containerd, kubelet, kube-proxy
//!    └── a pair of sockets ───────────────────┘   │    └── the caller's loopback: a listener handed in at the start
//!                                                 └── control socket: status, stop, start, dial
//! ```
//!
//! While `up` works, the tree lives on its side of a pair of sockets and ends with it, however it ends. Afterwards it belongs to
//! nobody, and `down` is one SIGKILL: the kernel takes every process, mount and interface along, and what it cannot take (cgroups,
//! files) has names that follow from the state folder, so that they are found without any record.

pub mod addresses;
mod cgroups;
mod control;
mod handle;
mod handshake;
mod inside;
mod kubeconfig;
mod lock;
mod materials;
mod namespaces;
mod node;
mod prerequisites;
mod record;
mod settings;
mod sweep;
mod testing;
mod up;

pub use control::{ComponentState, ComponentStatus};
pub use handle::Cluster;
pub use inside::init::{SUPERVISE, run as init};
pub use inside::supervisor::run as supervise;
pub use namespaces::{INIT, Inside};
pub use settings::{BadName, DEFAULT_NAME, Place, UpSettings};
pub use testing::TestCluster;
pub use up::{Started, down, during, up};

/// Says what a caller lacks who is not root, before anything else fails for it.
///
/// # Errors
/// When the caller is not root.
pub fn require_root() -> anyhow::Result<()> {
    Ok(prerequisites::root()?)
}
