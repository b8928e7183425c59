//! The cluster's addresses. The same in every cluster: each has a network namespace of its own.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use crate::control_plane::Cidr;

/// The node's address.
pub const NODE: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 2);

/// The node's network, outside of the Services' one. Nothing answers at its gateway: whatever leaves the cluster ends there.
pub const NODE_PREFIX: u8 = 24;

/// Where the node sends what is not in the cluster. Without a route, the kernel refuses a connection to a Service ("network is
/// unreachable") before iptables can rewrite its destination.
pub const GATEWAY: Ipv4Addr = Ipv4Addr::new(10, 99, 0, 1);

/// Addresses of pods.
pub const PODS: Cidr = Cidr { base: Ipv4Addr::new(10, 244, 0, 0), prefix: 16 };

/// Addresses of Services.
pub const SERVICES: Cidr = Cidr { base: Ipv4Addr::new(10, 96, 0, 0), prefix: 16 };

/// The Service of the cluster's DNS.
pub const DNS_SERVICE: Ipv4Addr = Ipv4Addr::new(10, 96, 0, 10);

/// Zone of the cluster's names.
pub const DOMAIN: &str = "cluster.local";

/// Port of the API server on every address of the node.
pub const API_PORT: u16 = 6443;

/// Where the API server is reached inside.
pub const API: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), API_PORT);
