//! The place beside Knative's queue-proxy: what a user container is told by its environment.
//!
//! Knative sets `PORT` and `K_*` in the container that it sends requests to (the runtime contract of Knative Serving).
//! queue-proxy is in the same pod and network namespace; it limits concurrency, drains and is scraped, so its ports are its own.

use std::fs;

use anyhow::Context as _;

#[cfg(test)]
mod tests;

/// Port of the container's own metrics: queue-proxy has 9090 (for the autoscaler) and 9091 (for users).
pub const METRICS_PORT: u16 = 9095;

/// Where a pod's service account says which namespace the pod is in.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// What a user container knows of itself.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct UserContainer {
    /// Where it is asked: `PORT`. 0 takes a free one.
    pub port: u16,
    /// Name of its revision: `K_REVISION`.
    pub revision: Option<String>,
    /// Name of its configuration: `K_CONFIGURATION`.
    pub configuration: Option<String>,
    /// Name of its service: `K_SERVICE`. A configuration may have none.
    pub service: Option<String>,
    /// The pod's namespace, which Knative does not tell: `KFERVING_NAMESPACE`, else that of the service account.
    pub namespace: Option<String>,
}

impl UserContainer {
    /// What this process's environment says; none where `PORT` is not set.
    ///
    /// # Errors
    /// `PORT` is no port.
    pub fn here() -> anyhow::Result<Option<Self>> {
        let set = |name: &str| std::env::var(name).ok();
        Self::told(set, || fs::read_to_string(NAMESPACE_FILE).ok())
    }

    fn told(
        set: impl Fn(&str) -> Option<String>,
        service_account_namespace: impl FnOnce() -> Option<String>,
    ) -> anyhow::Result<Option<Self>> {
        let set = |name: &str| set(name).filter(|value| !value.is_empty());
        let Some(port) = set("PORT") else { return Ok(None) };
        let port = port.parse().with_context(|| format!("PORT must be a TCP port, 0 to 65535, got '{port}'"))?;
        let namespace = set("KFERVING_NAMESPACE").or_else(service_account_namespace);
        Ok(Some(Self {
            port,
            revision: set("K_REVISION"),
            configuration: set("K_CONFIGURATION"),
            service: set("K_SERVICE"),
            namespace: namespace.map(|namespace| namespace.trim().to_owned()).filter(|namespace| !namespace.is_empty()),
        }))
    }

    /// The revision as `NAMESPACE/REVISION`, or `REVISION` where the namespace is not known.
    pub fn revision(&self) -> Option<String> {
        let revision = self.revision.as_ref()?;
        Some(match &self.namespace {
            Some(namespace) => format!("{namespace}/{revision}"),
            None => revision.clone(),
        })
    }
}
