//! All components of a cluster, and the order in which they start.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use k8s_openapi::api::core::v1::Node;
use kube::Api;

use super::super::addresses::{API_PORT, NODE, PODS, SERVICES};
use super::super::control::{ComponentState, ComponentStatus};
use super::super::kubeconfig;
use super::super::materials::Materials;
use super::super::node::{Containerd, KubeProxy, Kubelet, NETWORK_FILE, pod_network};
use super::super::prerequisites::{self, System};
use super::super::settings::Place;
use super::{dns, import};
use crate::components::Binaries;
use crate::control_plane::{ControlPlane, ControlPlaneSettings, Identity, Part, Ports};
use crate::process::{Process, Processes, Progress};
use crate::{images, knative};

const CONTAINERD: &str = "containerd";
const KUBELET: &str = "kubelet";
const KUBE_PROXY: &str = "kube-proxy";

/// Every wait of a start. Each takes seconds at most; a machine that is busy with something else takes its time.
const DEADLINE: Duration = Duration::from_secs(120);

/// Between SIGTERM and SIGKILL when a component is stopped.
const GRACE: Duration = Duration::from_secs(10);

/// A started cluster.
pub(super) struct Rig {
    place: Place,
    processes: Arc<Processes>,
    control_plane: ControlPlane,
    /// How the components of the node are started.
    node: BTreeMap<&'static str, Launch>,
}

type Launch = Box<dyn Fn() -> anyhow::Result<Command> + Send + Sync>;

// === impl Rig ===

impl Rig {
    /// Starts everything; returns when the cluster is usable.
    ///
    /// # Errors
    /// When something does not come about. A component that ends meanwhile is named, whatever was waited for.
    pub(super) async fn start(place: &Place, knative_dir: Option<&Path>, progress: &Progress) -> anyhow::Result<Self> {
        let materials = Materials::gather(place, knative_dir, progress).await?;
        let processes = Arc::new(Processes::default());
        tokio::select! {
            biased;
            death = processes.death() => Err(death.into()),
            rig = Self::start_all(place, &materials, Arc::clone(&processes), progress) => rig,
        }
    }

    async fn start_all(
        place: &Place,
        materials: &Materials,
        processes: Arc<Processes>,
        progress: &Progress,
    ) -> anyhow::Result<Self> {
        let system = prerequisites::check()?;
        let binaries = &materials.binaries;
        let mut node = BTreeMap::from([(CONTAINERD, containerd(place, &system, binaries)?)]);
        spawn(place, &processes, CONTAINERD, &node)?;
        let archives = materials.archives()?;
        let (control_plane, ()) = tokio::try_join!(
            async { Ok(ControlPlane::start(binaries, control_plane(place), Arc::clone(&processes), progress).await?) },
            import::images(&processes, binaries, &archives, progress),
        )?;
        let admin = control_plane.kubeconfig(&Identity::Admin)?;
        std::fs::copy(admin, kubeconfig::inside(place)).context("cannot write the administrator's kubeconfig")?;

        node.extend([
            (KUBELET, kubelet(place, binaries, &control_plane)?),
            (KUBE_PROXY, kube_proxy(place, &system, binaries, &control_plane)?),
        ]);
        let rig = Self { place: place.clone(), processes, control_plane, node };
        spawn(place, &rig.processes, KUBELET, &rig.node)?;
        spawn(place, &rig.processes, KUBE_PROXY, &rig.node)?;
        let client = rig.control_plane.client();
        let settings = knative::Settings::default();
        dns::create(&client, images::COREDNS).await.context("cannot create the cluster's DNS")?;
        knative::apply(&client, &materials.knative, &settings, progress).await?;
        rig.node_ready(progress).await?;
        knative::wait_until_usable(&client, &settings, progress).await?;
        rig.dns_ready(progress).await?;
        Ok(rig)
    }

    pub(super) fn processes(&self) -> &Processes {
        &self.processes
    }

    /// How each component is, in the order of start.
    pub(super) fn status(&self) -> Vec<ComponentStatus> {
        self.processes.all().iter().map(status).collect()
    }

    /// Stops a component.
    pub(super) async fn stop(&self, name: &str) -> anyhow::Result<()> {
        self.find(name)?.stop(GRACE).await;
        Ok(())
    }

    /// Starts a component that does not run.
    pub(super) async fn start_component(&self, name: &str) -> anyhow::Result<()> {
        ensure!(!self.find(name)?.is_running(), "{name} runs already");
        if self.node.contains_key(name) {
            return spawn(&self.place, &self.processes, name, &self.node).map(drop);
        }
        let part = Part::named(name).with_context(|| format!("{name} is no part of the control plane"))?;
        Ok(self.control_plane.restart(part, &Progress::silent()).await?)
    }

    fn find(&self, name: &str) -> anyhow::Result<Process> {
        let known =
            || self.processes.all().iter().map(|process| process.name().to_owned()).collect::<Vec<_>>().join(", ");
        self.processes.get(name).with_context(|| format!("there is no component {name:?}; there are {}", known()))
    }

    async fn node_ready(&self, progress: &Progress) -> anyhow::Result<()> {
        let nodes: Api<Node> = Api::all(self.control_plane.client());
        let name = self.place.node_name();
        let probe = || async {
            let node = nodes.get(&name).await.map_err(|error| error.to_string())?;
            let conditions = node.status.and_then(|status| status.conditions).unwrap_or_default();
            match conditions.iter().find(|condition| condition.type_ == "Ready") {
                Some(ready) if ready.status == "True" => Ok(()),
                Some(ready) => Err(ready.message.clone().unwrap_or_else(|| "it gives no reason".into())),
                None => Err("it has reported nothing".to_owned()),
            }
        };
        Ok(self.processes.wait_until("the node to be ready", DEADLINE, progress, probe).await?)
    }

    async fn dns_ready(&self, progress: &Progress) -> anyhow::Result<()> {
        Ok(self.processes.wait_until("the cluster's DNS to answer", DEADLINE, progress, dns::resolves).await?)
    }
}

fn status(process: &Process) -> ComponentStatus {
    let state = match process.death() {
        _ if process.is_running() => ComponentState::Running(process.pid()),
        Some(death) => ComponentState::Dead(death.to_string()),
        None => ComponentState::Stopped,
    };
    ComponentStatus { name: process.name().to_owned(), state, log: process.log().to_owned() }
}

fn spawn(
    place: &Place,
    processes: &Processes,
    name: &str,
    node: &BTreeMap<&'static str, Launch>,
) -> anyhow::Result<Process> {
    let launch = node.get(name).with_context(|| format!("{name} is no component of the node"))?;
    Ok(processes.spawn(name, launch()?, &place.logs().join(format!("{name}.log")))?)
}

fn control_plane(place: &Place) -> ControlPlaneSettings {
    let any = std::net::Ipv4Addr::UNSPECIFIED;
    let usual = ControlPlaneSettings::at(&place.data("control-plane"), any.into(), NODE.into());
    let ports = Ports { apiserver: API_PORT, ..Ports::USUAL };
    ControlPlaneSettings { logs: place.logs(), ports, service_cidr: SERVICES, pod_cidr: PODS, ..usual }
}

fn containerd(place: &Place, system: &System, binaries: &Binaries) -> anyhow::Result<Launch> {
    let network = place.data("network");
    std::fs::create_dir_all(&network).context("cannot make the folder of the pods' network")?;
    std::fs::write(network.join(NETWORK_FILE), serde_json::to_vec_pretty(&pod_network())?)
        .context("cannot write the configuration of the pods' network")?;
    let containerd = Containerd {
        binary: binaries.path("containerd")?,
        system: system.clone(),
        state: place.data(CONTAINERD),
        network,
        pause_image: images::PAUSE,
    };
    Ok(Box::new(move || containerd.prepare()))
}

fn kubelet(place: &Place, binaries: &Binaries, control_plane: &ControlPlane) -> anyhow::Result<Launch> {
    let kubelet = Kubelet {
        binary: binaries.path(KUBELET)?,
        kubeconfig: control_plane.kubeconfig(&Identity::Kubelet { node: place.node_name() })?,
        client_ca: control_plane.ca(),
        node_name: place.node_name(),
        cgroup_root: place.cgroup_root(),
        config_folder: place.data("kubelet-config"),
    };
    Ok(Box::new(move || Ok(kubelet.prepare()?)))
}

fn kube_proxy(
    place: &Place,
    system: &System,
    binaries: &Binaries,
    control_plane: &ControlPlane,
) -> anyhow::Result<Launch> {
    let proxy = KubeProxy {
        binary: binaries.path(KUBE_PROXY)?,
        kubeconfig: control_plane.kubeconfig(&Identity::KubeProxy)?,
        node_name: place.node_name(),
        path: system.path.clone(),
        config_folder: place.data(KUBE_PROXY),
    };
    Ok(Box::new(move || Ok(proxy.prepare()?)))
}
