//! Where a control plane listens and what it keeps.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};

use super::{Identity, Part};

/// Settings of a control plane.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ControlPlaneSettings {
    /// Folder of certificates, kubeconfigs and etcd's data.
    pub state: PathBuf,
    /// Folder of the logs, one file per program.
    pub logs: PathBuf,
    /// Address that the apiserver listens on; etcd, the controllers and the scheduler keep to loopback.
    pub bind: IpAddr,
    /// Address that pods reach the apiserver at. A loopback address means that there are none: then the Service `kubernetes` has
    /// no endpoints, because Kubernetes refuses loopback ones.
    pub advertise: IpAddr,
    /// Ports.
    pub ports: Ports,
    /// Addresses of Services; its first one is the Service `kubernetes`.
    pub service_cidr: Cidr,
    /// Addresses of pods; every node gets a /24 of it.
    pub pod_cidr: Cidr,
    /// More names and addresses that the apiserver's certificate is valid for.
    pub names: Vec<String>,
    /// Whether etcd's writes survive a crash of the machine.
    pub etcd_sync: EtcdSync,
    /// More flags of kube-apiserver.
    pub apiserver_args: Vec<String>,
    /// More flags of kube-controller-manager.
    pub controller_manager_args: Vec<String>,
    /// More flags of kube-scheduler.
    pub scheduler_args: Vec<String>,
}

/// Ports of a control plane. 0 is replaced by a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// etcd, for the apiserver.
    pub etcd_client: u16,
    /// etcd, for its peers, of which it has none.
    pub etcd_peer: u16,
    /// kube-apiserver.
    pub apiserver: u16,
    /// kube-controller-manager's health and metrics.
    pub controller_manager: u16,
    /// kube-scheduler's health and metrics.
    pub scheduler: u16,
}

/// A range of IPv4 addresses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cidr {
    /// Its first address.
    pub base: Ipv4Addr,
    /// Bits that all have in common.
    pub prefix: u8,
}

/// What etcd does before it confirms a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum EtcdSync {
    /// fsync, as in production: what any reported figure is measured with.
    Fsync,
    /// No fsync: what was confirmed survives a crash of etcd, not of the machine. For functional tests.
    Unsafe,
}

// === impl ControlPlaneSettings ===

impl ControlPlaneSettings {
    /// On free ports of loopback, without root, any number side by side; no pods can reach it.
    pub fn local(state: &Path) -> Self {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        Self { ports: Ports::FREE, etcd_sync: EtcdSync::Unsafe, ..Self::at(state, loopback, loopback) }
    }

    /// On the usual ports of `bind`, for a cluster whose pods reach it at `advertise`.
    pub fn at(state: &Path, bind: IpAddr, advertise: IpAddr) -> Self {
        Self {
            state: state.to_owned(),
            logs: state.join("logs"),
            bind,
            advertise,
            ports: Ports::USUAL,
            service_cidr: Cidr { base: Ipv4Addr::new(10, 96, 0, 0), prefix: 16 },
            pod_cidr: Cidr { base: Ipv4Addr::new(10, 244, 0, 0), prefix: 16 },
            names: Vec::new(),
            etcd_sync: EtcdSync::Fsync,
            apiserver_args: Vec::new(),
            controller_manager_args: Vec::new(),
            scheduler_args: Vec::new(),
        }
    }

    /// Where a part answers on this machine.
    pub fn address(&self, part: Part) -> SocketAddr {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        // What listens on all addresses listens on loopback too.
        let address = if part == Part::Apiserver && !self.bind.is_unspecified() { self.bind } else { loopback };
        SocketAddr::new(address, self.ports.of(part))
    }

    /// Folder of the certificates.
    pub(super) fn pki(&self) -> PathBuf {
        self.state.join("pki")
    }

    /// Folder of etcd's data.
    pub(super) fn etcd_data(&self) -> PathBuf {
        self.state.join("etcd")
    }

    /// Folder of the kubeconfigs.
    pub(super) fn kubeconfigs(&self) -> PathBuf {
        self.state.join("kubeconfig")
    }

    /// File of an identity's kubeconfig.
    pub(super) fn kubeconfig(&self, identity: &Identity) -> PathBuf {
        self.kubeconfigs().join(format!("{}.yaml", identity.file_stem()))
    }

    /// Everything that clients may call the apiserver by.
    pub(super) fn serving_names(&self) -> Vec<String> {
        let mut names: Vec<String> = [
            "localhost",
            "kubernetes",
            "kubernetes.default",
            "kubernetes.default.svc",
            "kubernetes.default.svc.cluster.local",
        ]
        .map(str::to_owned)
        .into();
        let addresses =
            [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V4(self.service_cidr.first()), self.bind, self.advertise];
        names.extend(addresses.iter().filter(|address| !address.is_unspecified()).map(IpAddr::to_string));
        names.extend(self.names.iter().cloned());
        names.sort();
        names.dedup();
        names
    }
}

// === impl Ports ===

impl Ports {
    /// Those that everybody knows.
    pub const USUAL: Self =
        Self { etcd_client: 2379, etcd_peer: 2380, apiserver: 6443, controller_manager: 10257, scheduler: 10259 };

    /// Any that are free.
    pub const FREE: Self = Self { etcd_client: 0, etcd_peer: 0, apiserver: 0, controller_manager: 0, scheduler: 0 };

    /// The port that a part answers clients on.
    pub const fn of(&self, part: Part) -> u16 {
        match part {
            Part::Etcd => self.etcd_client,
            Part::Apiserver => self.apiserver,
            Part::ControllerManager => self.controller_manager,
            Part::Scheduler => self.scheduler,
        }
    }
}

// === impl Cidr ===

impl Cidr {
    /// The first address after the network's own.
    pub fn first(self) -> Ipv4Addr {
        Ipv4Addr::from_bits(self.base.to_bits() + 1)
    }
}

impl std::fmt::Display for Cidr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}/{}", self.base, self.prefix)
    }
}
