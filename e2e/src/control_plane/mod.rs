//! etcd, kube-apiserver, kube-controller-manager and kube-scheduler as child processes.
//!
//! The real programs, unmodified, on loopback ports that are free (the control-plane tests: no root, several side by side) or on
//! fixed addresses in the namespaces of a cluster with a node. What differs is [`ControlPlaneSettings`].

mod error;
mod flags;
mod kubeconfig;
mod pki;
mod ports;
mod settings;

#[cfg(test)]
mod tests;

pub use error::ControlPlaneError;
pub use pki::{ClientCertificate, Identity, Pki};
pub use settings::{Cidr, ControlPlaneSettings, EtcdSync, Ports};

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use kube::Client;

use crate::components::Binaries;
use crate::process::{Processes, Progress};
use ports::ReservedPorts;

/// For a component to become ready: some seconds on an idle machine, minutes on one that compiles with all its might.
const READY_WITHIN: Duration = Duration::from_secs(300);

/// For one readiness probe to be answered.
const PROBE_WITHIN: Duration = Duration::from_secs(5);

/// From SIGTERM to SIGKILL: kube-apiserver waits for open watches, which ours need not.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// A process of the control plane.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The store.
    Etcd,
    /// The API.
    Apiserver,
    /// The controllers of Kubernetes itself.
    ControllerManager,
    /// Chooses nodes for pods.
    Scheduler,
}

/// A running control plane. Its processes belong to the [`Processes`] that it was started with.
pub struct ControlPlane {
    settings: ControlPlaneSettings,
    pki: Pki,
    programs: Vec<(Part, PathBuf)>,
    processes: Arc<Processes>,
    client: Client,
    _ports: ReservedPorts,
}

// === impl Part ===

impl Part {
    /// All, in the order in which they are started.
    pub const ALL: [Self; 4] = [Self::Etcd, Self::Apiserver, Self::ControllerManager, Self::Scheduler];

    /// The name of its program, which is that of its process and log too.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Etcd => "etcd",
            Self::Apiserver => "kube-apiserver",
            Self::ControllerManager => "kube-controller-manager",
            Self::Scheduler => "kube-scheduler",
        }
    }

    /// The part of a name.
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|part| part.name() == name)
    }

    /// Where it says whether it is ready.
    const fn health(self) -> &'static str {
        match self {
            Self::Etcd | Self::Apiserver => "/readyz",
            Self::ControllerManager | Self::Scheduler => "/healthz",
        }
    }
}

// === impl ControlPlane ===

impl ControlPlane {
    /// Starts the four programs and waits until each is ready. Certificates, kubeconfigs and etcd's data are in the state folder;
    /// what an earlier start left there is used again.
    ///
    /// # Errors
    /// When a program is missing or dies (the end of its log is in the message), or is not ready in time.
    pub async fn start(
        binaries: &Binaries,
        mut settings: ControlPlaneSettings,
        processes: Arc<Processes>,
        progress: &Progress,
    ) -> Result<Self, ControlPlaneError> {
        let programs = Part::ALL.into_iter().map(|part| Ok((part, binaries.path(part.name())?)));
        let programs = programs.collect::<Result<_, ControlPlaneError>>()?;
        let ports = ReservedPorts::fill(settings.bind, &mut settings.ports)?;
        let pki = Pki::open(&settings.pki(), &settings.serving_names())?;
        let server = server_of(&settings);
        // Those of an earlier start may name another port.
        let _ = std::fs::remove_dir_all(settings.kubeconfigs());
        for identity in [Identity::Admin, Identity::ControllerManager, Identity::Scheduler] {
            kubeconfig::write(&settings.kubeconfig(&identity), &server, &pki, &identity)?;
        }
        let client = kubeconfig::client(&settings.kubeconfig(&Identity::Admin), None).await?;
        let this = Self { settings, pki, programs, processes, client, _ports: ports };
        // The apiserver waits for etcd by itself; the other two give up when they find no apiserver.
        this.spawn(Part::Etcd)?;
        this.spawn(Part::Apiserver)?;
        this.ready(Part::Etcd, progress).await?;
        this.ready(Part::Apiserver, progress).await?;
        this.spawn(Part::ControllerManager)?;
        this.spawn(Part::Scheduler)?;
        this.ready(Part::ControllerManager, progress).await?;
        this.ready(Part::Scheduler, progress).await?;
        Ok(this)
    }

    /// A client with all rights.
    pub fn client(&self) -> Client {
        self.client.clone()
    }

    /// The URL of the apiserver, on loopback.
    pub fn server(&self) -> String {
        server_of(&self.settings)
    }

    /// The certificate of the authority that signed the apiserver's certificate and those of the clients.
    pub fn ca(&self) -> PathBuf {
        self.pki.authority()
    }

    /// The keys and certificates.
    pub fn pki(&self) -> &Pki {
        &self.pki
    }

    /// What it runs with: ports of 0 are replaced by those that were found.
    pub fn settings(&self) -> &ControlPlaneSettings {
        &self.settings
    }

    /// The kubeconfig of an identity: one file with everything in it.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn kubeconfig(&self, identity: &Identity) -> Result<PathBuf, ControlPlaneError> {
        let path = self.settings.kubeconfig(identity);
        if !path.exists() {
            kubeconfig::write(&path, &self.server(), &self.pki, identity)?;
        }
        Ok(path)
    }

    /// Kills a part with SIGKILL; returns when it is dead.
    pub async fn kill(&self, part: Part) {
        if let Some(process) = self.processes.get(part.name()) {
            process.kill().await;
        }
    }

    /// Stops a part with SIGTERM; returns when it is dead.
    pub async fn stop_part(&self, part: Part) {
        if let Some(process) = self.processes.get(part.name()) {
            process.stop(STOP_WITHIN).await;
        }
    }

    /// Starts a part again that was killed or stopped, with the same flags and data, and waits until it is ready.
    ///
    /// # Errors
    /// When it still runs, dies or is not ready in time.
    pub async fn restart(&self, part: Part, progress: &Progress) -> Result<(), ControlPlaneError> {
        self.spawn(part)?;
        self.ready(part, progress).await
    }

    /// Stops the four programs gracefully, the scheduler first and etcd last.
    pub async fn stop(&self) {
        for part in Part::ALL.into_iter().rev() {
            self.stop_part(part).await;
        }
    }

    fn spawn(&self, part: Part) -> Result<(), ControlPlaneError> {
        let (_, program) =
            self.programs.iter().find(|(of, _)| *of == part).expect("the constructor finds all programs");
        let mut command = Command::new(program);
        command.args(flags::of(part, &self.settings, &self.pki)).current_dir(&self.settings.state);
        let log = self.settings.logs.join(format!("{}.log", part.name()));
        self.processes.spawn(part.name(), command, &log)?;
        Ok(())
    }

    async fn ready(&self, part: Part, progress: &Progress) -> Result<(), ControlPlaneError> {
        let address = self.settings.address(part);
        let client = match part {
            Part::Apiserver => self.client(),
            _ => kubeconfig::client(&self.settings.kubeconfig(&Identity::Admin), Some(address)).await?,
        };
        let probe = || {
            let client = client.clone();
            async move { healthy(client, part).await }
        };
        let what = format!("{} on {address}", part.name());
        Ok(self.processes.wait_until(&what, READY_WITHIN, progress, probe).await?)
    }
}

impl std::fmt::Debug for ControlPlane {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ControlPlane").field("settings", &self.settings).finish_non_exhaustive()
    }
}

/// Asks a part for its health; the error says why it is not ready.
async fn healthy(client: Client, part: Part) -> Result<(), String> {
    let request = http::Request::get(part.health()).body(Vec::new()).map_err(|error| error.to_string())?;
    match tokio::time::timeout(PROBE_WITHIN, client.request_text(request)).await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(kube::Error::Api(status))) => Err(format!("{}: {}", status.code, failed_checks(&status.message))),
        Ok(Err(error)) => Err(chain(&error)),
        Err(_) => Err(format!("no answer within {PROBE_WITHIN:?}")),
    }
}

/// What of a health report says no: it has a line per check, `[+]` or `[-]` and its name.
fn failed_checks(report: &str) -> String {
    let failed: Vec<&str> = report.lines().filter_map(|line| line.strip_prefix("[-]")?.split(' ').next()).collect();
    if failed.is_empty() { report.trim().to_owned() } else { format!("not yet {}", failed.join(", ")) }
}

/// An error with its causes: the outer ones of a client only say that something went wrong.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

fn server_of(settings: &ControlPlaneSettings) -> String {
    format!("https://{}", settings.address(Part::Apiserver))
}

/// A path as a flag's value.
fn shown(path: &Path) -> std::path::Display<'_> {
    path.display()
}
