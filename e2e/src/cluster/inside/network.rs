//! The node's network, in a namespace of its own.

use std::process::Command;

use anyhow::{Context as _, bail};

use super::super::addresses::{GATEWAY, NODE, NODE_PREFIX};
use super::super::prerequisites::System;

/// The node's interface. Its peer in the same namespace answers nobody: what leaves the cluster ends there.
const INTERFACE: &str = "node0";

/// The other end of [`INTERFACE`].
const PEER: &str = "node0-peer";

/// Settings of the namespace: pods' packets are forwarded, and Services are reached through the loopback interface too.
const SYSCTLS: [(&str, &str); 2] = [("net/ipv4/ip_forward", "1"), ("net/ipv4/conf/all/route_localnet", "1")];

/// Gives the node its address and a default route.
///
/// # Errors
/// When the kernel lacks a kind of interface, or refuses.
pub(super) fn prepare(system: &System) -> anyhow::Result<()> {
    let address = format!("{NODE}/{NODE_PREFIX}");
    let gateway = GATEWAY.to_string();
    // A pair of veth, which the pods' network needs anyhow, and no dummy interface, which not every kernel has.
    let steps: [&[&str]; 6] = [
        &["link", "set", "lo", "up"],
        &["link", "add", INTERFACE, "type", "veth", "peer", "name", PEER],
        &["address", "add", &address, "dev", INTERFACE],
        &["link", "set", INTERFACE, "up"],
        &["link", "set", PEER, "up"],
        &["route", "add", "default", "via", &gateway],
    ];
    for arguments in steps {
        ip(system, arguments)?;
    }
    for (setting, value) in SYSCTLS {
        std::fs::write(format!("/proc/sys/{setting}"), value)
            .with_context(|| format!("cannot set {setting} to {value}"))?;
    }
    Ok(())
}

fn ip(system: &System, arguments: &[&str]) -> anyhow::Result<()> {
    let output = Command::new("ip").args(arguments).env("PATH", &system.path).output().context("cannot run ip")?;
    if !output.status.success() {
        bail!("ip {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
    }
    Ok(())
}
