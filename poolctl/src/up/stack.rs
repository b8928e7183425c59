//! Starts the parts in order, and stops them in the opposite one.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use autoscaler::Autoscaler;
use autoscaler_policy::claim::Order;
use gateway::{DemandTarget, Gateway, GatewaySettings, Listeners};
use gateway_policy::Device;
use model_wrapper_admin::TokenSigner;
use poolctl_cluster::{LocalCluster, LocalSettings};
use poolctl_image::{Scratch, ScratchFolder};
use poolctl_runtime::{Shutdown, announce};
use prometheus::Registry;
use tokio::net::{TcpListener, UnixListener};
use tokio_stream::wrappers::UnixListenerStream;

use super::console::Console;
use super::preflight::Plan;
use crate::admin::{Fleet, Model, Parts, View};
use crate::cli::ClaimOrder;
use crate::model::{Catalog, Devices, Entry, Inspector};
use crate::pool::state::Pacing;
use crate::pool::{PoolController, PoolSpec};

/// Models are read once, when the stack starts: their first generation is their last.
const GENERATION: u64 = 1;

/// The gateway's name in the demand stream; a machine has one.
const GATEWAY_ID: &str = "local";

/// A running stack.
pub(super) struct Stack {
    cluster: LocalCluster,
    gateway: Gateway,
    listeners: Listeners,
    pools: PoolController<LocalCluster>,
    admin: TcpListener,
    view: View,
    /// Stops what must outlast the gateway: its last requests may still need a replica.
    control: Shutdown,
    /// Holds the demand socket; removed at the end.
    _private: ScratchFolder,
}

impl Stack {
    /// Binds the ports, looks at the models and starts the control plane. Requests are answered from [`Stack::run`] on.
    pub(super) async fn start(plan: Plan, scratch: &Scratch, shutdown: &Shutdown) -> anyhow::Result<Self> {
        let registry = Registry::new();
        let gateway =
            Gateway::new(GatewaySettings { namespace: plan.namespace.clone(), ..Default::default() }, &registry)?;
        let listeners = gateway.bind(plan.listen).map_err(|error| cannot_listen(plan.listen, "--listen", error))?;
        let admin = TcpListener::bind(plan.admin).await;
        let admin = admin.map_err(|error| cannot_listen(plan.admin, "--admin", error))?;

        let environment = environment(&plan);
        let signer = TokenSigner::generate()?;
        let mut settings = LocalSettings::new(plan.wrapper.clone(), signer.public_key());
        settings.environment.clone_from(&environment);
        let devices = devices(&settings);
        let cluster = LocalCluster::new(settings, &registry)?;
        let autoscaler = Autoscaler::new(cluster.clone(), autoscaler_settings(plan.claim_order), signer, &registry)?;

        let control = Shutdown::new();
        let fleet = Fleet::default();
        {
            let (fleet, cluster) = (fleet.clone(), cluster.clone());
            tokio::spawn(async move { fleet.follow(cluster).await });
        }
        // the pool fills while the models are looked at
        let placed = available_pools(plan.pools.clone(), &devices);
        let pools = PoolController::new(cluster.clone(), placed, Pacing::default(), &registry)?;
        {
            let (pools, control) = (pools.clone(), control.clone());
            tokio::spawn(async move { pools.run(control).await });
        }
        let inspector = Inspector::new(plan.wrapper.clone(), environment);
        let catalog = tokio::select! {
            catalog = Catalog::resolve(&plan.models, &devices, &inspector) => catalog,
            () = shutdown.requested() => Catalog::default(),
        };
        report(&catalog);
        let revisions = catalog.entries.iter().flat_map(|entry| entry.revisions(GENERATION, &plan.pools));
        autoscaler.set_revisions(revisions.collect());
        gateway.set_models(catalog.entries.iter().map(|entry| entry.route(GENERATION)).collect());

        let parent = std::env::temp_dir();
        let private = scratch.folder(&parent).with_context(|| {
            format!("no private folder can be made in {}: name another one with TMPDIR", parent.display())
        })?;
        let socket = private.path().join("demand.sock");
        let demand = UnixListener::bind(&socket).with_context(|| {
            format!("the socket {} cannot be made: name a folder with a short path with TMPDIR", socket.display())
        })?;
        {
            let (autoscaler, control) = (autoscaler.clone(), control.clone());
            tokio::spawn(async move { autoscaler.run(control).await });
        }
        {
            let (autoscaler, control) = (autoscaler.clone(), control.clone());
            tokio::spawn(async move {
                if let Err(error) = autoscaler.serve_demand(UnixListenerStream::new(demand), control).await {
                    tracing::error!(%error, "the demand stream cannot be served");
                }
            });
        }
        // before it leads it sends the gateway away, which then pauses before it comes back
        until(|| autoscaler.status().leading, shutdown).await;
        gateway.connect_demand(DemandTarget::Unix(socket), GATEWAY_ID, control.clone());
        // a request right after `ready` must not wait for this connection
        until(|| !autoscaler.status().gateways.is_empty(), shutdown).await;

        let models = models(catalog, listeners.local_addr());
        let view =
            View::new(Parts { models, gateway: gateway.clone(), autoscaler, pools: pools.clone(), fleet, registry });
        Ok(Self { cluster, gateway, listeners, pools, admin, view, control, _private: private })
    }

    /// Serves until shutdown is requested and the last request is answered, then stops every replica. Announces the
    /// addresses once the pools are full, and from then on draws the table.
    pub(super) async fn run(self, console: Option<Console>, shutdown: &Shutdown) -> anyhow::Result<()> {
        let (address, admin_address) = (self.listeners.local_addr(), self.admin.local_addr()?);
        let admin = poolctl_runtime::admin::serve(self.admin, self.view.router(), self.control.clone());
        let admin = tokio::spawn(admin);
        let (gateway, until) = (self.gateway.clone(), shutdown.clone());
        let served = tokio::spawn(async move { gateway.serve(self.listeners, until).await });

        let filled = tokio::select! {
            filled = self.pools.filled() => filled.map_err(anyhow::Error::msg),
            () = shutdown.requested() => Ok(()),
        };
        let outcome = match filled {
            Ok(()) if shutdown.is_requested() => Ok(()),
            Ok(()) => announce_addresses(admin_address, address).context("standard output is closed"),
            Err(error) => Err(error),
        };
        if outcome.is_err() {
            shutdown.request();
        }
        let shown = console.map(|console| tokio::spawn(console.show(self.view, shutdown.clone())));
        let served = served.await.map_err(anyhow::Error::new).and_then(|served| Ok(served?));
        self.control.request();
        self.cluster.shutdown().await;
        if let Some(shown) = shown {
            // a panic in it must not hide how the stack ended
            let _ = shown.await;
        }
        let admin = admin.await.context("the admin address cannot be served");
        outcome.and(served.context("requests cannot be served")).and(admin)
    }
}

/// Waits for what the parts of this process tell each other at their start, which takes milliseconds.
async fn until(condition: impl Fn() -> bool, shutdown: &Shutdown) {
    const INTERVAL: Duration = Duration::from_millis(1);
    while !condition() && !shutdown.is_requested() {
        tokio::time::sleep(INTERVAL).await;
    }
}

fn announce_addresses(admin: SocketAddr, ready: SocketAddr) -> std::io::Result<()> {
    announce::line("admin", admin)?;
    announce::line("ready", ready)
}

fn cannot_listen(address: SocketAddr, flag: &str, error: io::Error) -> anyhow::Error {
    let what = match error.kind() {
        io::ErrorKind::AddrNotAvailable => {
            format!(
                "this machine has no such address. Name another with {flag} (127.0.0.1 is this machine alone, 0.0.0.0 every network)"
            )
        }
        io::ErrorKind::PermissionDenied => {
            format!("ports below 1024 are for root. Name another address with {flag} (port 0 takes a free one)")
        }
        io::ErrorKind::AddrInUse => {
            format!("is another one running? Name another address with {flag} (port 0 takes a free one)")
        }
        _ => format!("{flag} names it"),
    };
    anyhow::Error::new(error).context(format!("cannot listen on {address}: {what}"))
}

fn environment(plan: &Plan) -> BTreeMap<String, String> {
    let library = plan.runtime_library.as_ref().map(|path| path.display().to_string());
    library.map(|library| ("ORT_DYLIB_PATH".to_owned(), library)).into_iter().collect()
}

fn devices(settings: &LocalSettings) -> Devices {
    let has = |device: &Device| settings.devices.contains(device.as_str());
    Devices(Device::ALL.into_iter().filter(has).collect::<BTreeSet<_>>())
}

/// The pools whose device this machine has: one for another device stays empty, as a variant on it stays unavailable.
fn available_pools(pools: Vec<PoolSpec>, devices: &Devices) -> Vec<PoolSpec> {
    let (available, missing): (Vec<_>, Vec<_>) = pools.into_iter().partition(|pool| devices.0.contains(&pool.device));
    for pool in missing {
        tracing::warn!(pool = %pool.key, device = %pool.device, "DeviceUnavailable: the pool stays empty, this machine has no such device");
    }
    available
}

fn autoscaler_settings(order: ClaimOrder) -> autoscaler::Settings {
    let mut settings = autoscaler::Settings::default();
    settings.claims.order = match order {
        ClaimOrder::Optimistic => Order::Optimistic,
        ClaimOrder::Sequential => Order::Sequential,
    };
    settings
}

fn report(catalog: &Catalog) {
    for entry in &catalog.entries {
        let definition = &entry.definition;
        // a model that is not ready says what one of its variants says too
        let mut said = BTreeSet::new();
        for condition in entry.conditions(SystemTime::now()) {
            if !condition.message.is_empty() && said.insert(condition.message.clone()) {
                tracing::warn!(
                    model = format!("{}/{}", definition.namespace, definition.name),
                    condition = condition.type_,
                    reason = condition.reason,
                    "{}",
                    condition.message
                );
            }
        }
    }
}

fn models(catalog: Catalog, address: SocketAddr) -> Vec<Model> {
    let now = SystemTime::now();
    let urls: Vec<_> = catalog.entries.iter().map(|entry| url(entry, &catalog, address)).collect();
    let models = catalog.entries.into_iter().zip(urls);
    models.map(|(entry, url)| Model { conditions: entry.conditions(now), generation: GENERATION, url, entry }).collect()
}

/// Where the model answers. A name that two namespaces use needs the namespace in the host; names under `localhost` are
/// this machine (RFC 6761).
fn url(entry: &Entry, catalog: &Catalog, address: SocketAddr) -> String {
    let definition = &entry.definition;
    let same_name = catalog.entries.iter().filter(|other| other.definition.name == definition.name).count();
    let name = &definition.name;
    if same_name > 1 {
        format!("http://{name}.{}.localhost:{}/v2/models/{name}", definition.namespace, address.port())
    } else {
        format!("http://{address}/v2/models/{name}")
    }
}
