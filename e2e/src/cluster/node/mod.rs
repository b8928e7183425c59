//! The node: containerd with runc, the pods' network, kubelet and kube-proxy. How each is configured, as pure functions.

mod containerd;
mod dns;
mod kubelet;
mod network;
mod proxy;

pub(super) use containerd::{Containerd, NAMESPACE as CONTAINERD_NAMESPACE, SOCKET as CONTAINERD_SOCKET};
pub(super) use dns::objects as dns_objects;
pub(super) use kubelet::Kubelet;
pub(super) use network::{FILE as NETWORK_FILE, pod_network};
pub(super) use proxy::KubeProxy;

#[cfg(test)]
mod tests;
