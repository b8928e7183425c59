//! Free ports that stay ours from the moment they are found.
//!
//! To bind port 0, close it and hand its number to a program is a race: before the program listens, any other may have taken the
//! number, for a connection even. Instead we keep the port bound, without listening, and both sockets are bound with
//! `SO_REUSEPORT`, which the system grants to one user's processes only. A part that is restarted finds its port untouched.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;

use rustix::net::{AddressFamily, SocketFlags, SocketType, bind, getsockname, socket_with, sockopt};

use super::{ControlPlaneError, Ports};

/// Ports that are held for the programs until it is dropped.
#[derive(Debug, Default)]
pub(super) struct ReservedPorts {
    _held: Vec<OwnedFd>,
}

impl ReservedPorts {
    /// Replaces every 0 by a free port: the apiserver's on `address`, the others on loopback.
    pub(super) fn fill(address: IpAddr, ports: &mut Ports) -> Result<Self, ControlPlaneError> {
        let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let wanted = [
            (loopback, &mut ports.etcd_client),
            (loopback, &mut ports.etcd_peer),
            (address, &mut ports.apiserver),
            (loopback, &mut ports.controller_manager),
            (loopback, &mut ports.scheduler),
        ];
        let mut held = Vec::new();
        for (address, port) in wanted.into_iter().filter(|(_, port)| **port == 0) {
            let (number, socket) =
                reserve(address).map_err(|error| ControlPlaneError::Port { address, source: error.into() })?;
            *port = number;
            held.push(socket);
        }
        Ok(Self { _held: held })
    }
}

/// A free port of `address`, and the socket that holds it.
fn reserve(address: IpAddr) -> rustix::io::Result<(u16, OwnedFd)> {
    let family = if address.is_ipv4() { AddressFamily::INET } else { AddressFamily::INET6 };
    let socket = socket_with(family, SocketType::STREAM, SocketFlags::CLOEXEC, None)?;
    sockopt::set_socket_reuseport(&socket, true)?;
    bind(&socket, &SocketAddr::new(address, 0))?;
    let bound: SocketAddr = getsockname(&socket)?.try_into()?;
    Ok((bound.port(), socket))
}
