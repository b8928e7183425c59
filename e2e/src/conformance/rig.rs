//! The suite's binary inside the cluster's network.

use std::path::PathBuf;
use std::process::Command;

use super::fixtures::Fixtures;
use super::runner::Site;
use crate::cluster::{Cluster, Inside};

/// Where the suites look for Serving.
pub(super) const SYSTEM_NAMESPACE: &str = "knative-serving";

/// A running cluster and what a suite finds in it.
pub(super) struct Rig<'a> {
    /// The cluster.
    pub cluster: &'a Cluster,
    /// The suite's objects.
    pub fixtures: &'a Fixtures,
    /// The suite's test binary.
    pub binary: PathBuf,
    /// Namespace and name of the Service that leads to the ingress.
    pub gateway: Option<(String, String)>,
}

impl Site for Rig<'_> {
    async fn command(&self, arguments: &[String]) -> Result<Command, String> {
        // Without the cluster's process namespace: entering that takes a fork, and a signal would not reach the suite.
        let entered = self.cluster.command(Inside::NetworkAndFiles, self.binary.as_os_str()).await;
        let mut command = entered.map_err(|error| format!("{error:#}"))?;
        command.args(arguments).env("SYSTEM_NAMESPACE", SYSTEM_NAMESPACE);
        if let Some((namespace, name)) = &self.gateway {
            command.env("GATEWAY_NAMESPACE_OVERRIDE", namespace).env("GATEWAY_OVERRIDE", name);
        }
        Ok(command)
    }

    async fn clean(&self) -> Result<(), String> {
        self.fixtures.lay().await.map_err(|error| error.to_string())
    }
}
