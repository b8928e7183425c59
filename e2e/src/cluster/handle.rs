//! A cluster that runs, seen from outside.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;

use anyhow::Context as _;
use tokio::net::UnixStream;

use super::control::{self, ComponentStatus, Request, Response};
use super::namespaces::{self, Inside};
use super::record::{Phase, Record};
use super::settings::Place;
use super::{kubeconfig, prerequisites};
use crate::components::{Cache, Component};
use crate::process::Progress;

/// A cluster that is usable, or was when it was looked up.
#[derive(Clone, Debug)]
pub struct Cluster {
    place: Place,
    record: Record,
}

// === impl Cluster ===

impl Cluster {
    /// The cluster of this place; `None` when none runs, or it only just starts.
    pub fn running(place: &Place) -> Option<Self> {
        let record = Record::load(place)?;
        (record.phase == Phase::Ready && record.is_alive()).then(|| Self { place: place.clone(), record })
    }

    /// The cluster of this place.
    ///
    /// # Errors
    /// When none runs.
    pub fn get(place: &Place) -> anyhow::Result<Self> {
        Self::running(place).with_context(|| {
            format!("cluster {} does not run: start it with `cluster --name {} up`", place.name(), place.name())
        })
    }

    /// Its name and folders.
    pub fn place(&self) -> &Place {
        &self.place
    }

    /// A kubeconfig that works in the caller's network.
    pub fn kubeconfig(&self) -> PathBuf {
        self.place.kubeconfig()
    }

    /// A kubeconfig that works inside, for commands of [`Self::command`]. The file is readable on both sides.
    pub fn kubeconfig_inside(&self) -> PathBuf {
        kubeconfig::inside(&self.place)
    }

    /// Knative was taken from this folder; `None` when it is the pinned release.
    pub fn knative_dir(&self) -> Option<&PathBuf> {
        self.record.knative_dir.as_ref()
    }

    /// A client of its API server, as administrator.
    ///
    /// # Errors
    /// When the kubeconfig cannot be read.
    pub async fn client(&self) -> anyhow::Result<kube::Client> {
        kubeconfig::client(&self.kubeconfig()).await
    }

    /// A command that runs `program` inside, with the tools of the cluster (kubectl, ctr) in its `PATH` and set up to use it. It
    /// works in the folder that is the caller's now; another `current_dir` does not reach it.
    ///
    /// # Errors
    /// When the components are not built any more.
    pub async fn command(&self, inside: Inside, program: &OsStr) -> anyhow::Result<Command> {
        let system = prerequisites::check()?;
        let binaries =
            Cache::open()?.ensure(&[Component::Kubernetes, Component::Containerd], &Progress::stderr()).await?;
        let folders = [Component::Kubernetes, Component::Containerd].map(|component| binaries.dir(component));
        let folders = folders.into_iter().flatten().map(|folder| folder.display().to_string());
        let path: Vec<String> = folders.chain([system.path.clone()]).collect();
        let mut command = namespaces::enter(self.record.init, inside, program);
        command
            .env("PATH", path.join(":"))
            .env("KUBECONFIG", self.kubeconfig_inside())
            .env("CONTAINERD_ADDRESS", super::node::CONTAINERD_SOCKET)
            .env("CONTAINERD_NAMESPACE", super::node::CONTAINERD_NAMESPACE);
        Ok(command)
    }

    /// A connection to an address inside: of a pod, a Service or the node.
    ///
    /// # Errors
    /// When the address refuses or the cluster is gone.
    pub async fn dial(&self, address: SocketAddr) -> anyhow::Result<UnixStream> {
        control::dial(self.record.init, address).await
    }

    /// How every component is, in the order of their start.
    ///
    /// # Errors
    /// When the cluster gives no answer.
    pub async fn components(&self) -> anyhow::Result<Vec<ComponentStatus>> {
        match self.ask(&Request::Status).await? {
            Response::Status(components) => Ok(components),
            other => anyhow::bail!("the cluster answers {other:?}"),
        }
    }

    /// Stops a component, which stays away until [`Self::start`].
    ///
    /// # Errors
    /// When there is none of this name.
    pub async fn stop(&self, component: &str) -> anyhow::Result<()> {
        self.ask(&Request::Stop(component.to_owned())).await.map(drop)
    }

    /// Starts a component that was stopped or has died.
    ///
    /// # Errors
    /// When there is none of this name, or it runs.
    pub async fn start(&self, component: &str) -> anyhow::Result<()> {
        self.ask(&Request::Start(component.to_owned())).await.map(drop)
    }

    /// Process 1 of its namespaces, by its number outside.
    pub fn init_pid(&self) -> u32 {
        self.record.init.pid()
    }

    async fn ask(&self, request: &Request) -> anyhow::Result<Response> {
        control::ask(self.record.init, request).await
    }
}
