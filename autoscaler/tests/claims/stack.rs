//! Real wrappers in a real local cluster, and autoscalers that can be stopped and started on it.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use autoscaler::{Autoscaler, ReplicaAdmin, Settings};
use autoscaler_policy::{ModelKey, Revision, example};
use gateway_policy::Device;
use model_wrapper_admin::{AdminClient, Timeouts, TokenSigner};
use poolctl_cluster::local::CONTRACT;
use poolctl_cluster::{Cluster, Lifecycle, LocalCluster, LocalSettings, NewReplica, Replica, ReplicaState, ReplicaUid};
use poolctl_runtime::Shutdown;
use prometheus::Registry;
use sha2::{Digest as _, Sha256};
use tokio_stream::wrappers::UnixListenerStream;

use crate::gateway::{FakeGateway, Known, listen};
use crate::request::predict;

/// Longest that anything may take: generous, it is only met by a defect.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const NAMESPACE: &str = "vision";

/// One machine: wrappers, and whoever manages them.
pub(crate) struct Stack {
    pub(crate) cluster: LocalCluster,
    key: Vec<u8>,
    directory: tempfile::TempDir,
}

/// An autoscaler that runs, until it is stopped.
pub(crate) struct Running<C, A = AdminClient> {
    pub(crate) autoscaler: Autoscaler<C, A>,
    pub(crate) socket: PathBuf,
    registry: Registry,
    tasks: Vec<tokio::task::JoinHandle<()>>,
}

impl<C, A> Running<C, A> {
    /// The sum of a counter, a gauge or a histogram's samples over everything with these labels; 0 where there is none.
    pub(crate) fn metric(&self, name: &str, labels: &[(&str, &str)]) -> f64 {
        let families = self.registry.gather();
        let family = families.iter().filter(|family| family.name() == name);
        let matching = family.flat_map(prometheus::proto::MetricFamily::get_metric).filter(|metric| {
            let has = |(label, value): &(&str, &str)| {
                metric.get_label().iter().any(|pair| pair.name() == *label && pair.value() == *value)
            };
            labels.iter().all(has)
        });
        matching
            .map(|metric| {
                let samples = metric.get_histogram().get_sample_sum();
                metric.get_counter().get_value() + metric.get_gauge().get_value() + samples
            })
            .sum()
    }
}

impl<C, A> Drop for Running<C, A> {
    /// As a process dies: nothing is finished.
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Stack {
    /// A cluster with `idle` wrappers that are ready to be claimed.
    pub(crate) async fn with_pool(idle: usize) -> Self {
        let key = TokenSigner::generate_pkcs8().unwrap();
        let signer = TokenSigner::from_pkcs8(&key).unwrap();
        let mut settings = LocalSettings::new(wrapper(), signer.public_key());
        settings.environment.insert("ORT_DYLIB_PATH".to_owned(), onnxruntime().display().to_string());
        let cluster = LocalCluster::new(settings, &Registry::new()).unwrap();
        let stack = Self { cluster, key, directory: tempfile::tempdir().unwrap() };
        stack.refill(idle).await;
        stack
    }

    /// Adds idle wrappers and waits until they are ready.
    pub(crate) async fn refill(&self, idle: usize) {
        let mut created = Vec::new();
        for _ in 0..idle {
            let new = NewReplica {
                namespace: NAMESPACE.to_owned(),
                pool: "default".to_owned(),
                device: "cpu".to_owned(),
                service_account: "default".to_owned(),
                resources: Default::default(),
                claim: None,
            };
            created.push(self.cluster.create(new).await.unwrap().uid);
        }
        self.until("the pool is ready", |replicas| {
            let ready = |uid: &ReplicaUid| replicas.iter().any(|replica| replica.uid == *uid && is_ready(replica));
            created.iter().all(ready)
        })
        .await;
    }

    pub(crate) fn signer(&self) -> TokenSigner {
        TokenSigner::from_pkcs8(&self.key).unwrap()
    }

    /// Starts an autoscaler that reaches this stack's replicas as they are.
    pub(crate) fn start(&self, settings: Settings, revisions: Vec<Revision>) -> Running<LocalCluster> {
        self.start_with((self.cluster.clone(), admin_client()), settings, revisions)
    }

    /// Starts an autoscaler whose cluster and admin ports are around this stack's.
    pub(crate) fn start_with<C: Cluster, A: ReplicaAdmin>(
        &self,
        (cluster, admin): (C, A),
        settings: Settings,
        revisions: Vec<Revision>,
    ) -> Running<C, A> {
        let registry = Registry::new();
        let autoscaler = Autoscaler::with_admin(cluster, admin, settings, self.signer(), &registry).unwrap();
        autoscaler.set_revisions(revisions);
        let (socket, listener) = listen(self.directory.path());
        let run = {
            let autoscaler = autoscaler.clone();
            tokio::spawn(async move { autoscaler.run(Shutdown::new()).await })
        };
        let serve = {
            let autoscaler = autoscaler.clone();
            tokio::spawn(async move {
                let served = autoscaler.serve_demand(UnixListenerStream::new(listener), Shutdown::new()).await;
                served.unwrap();
            })
        };
        Running { autoscaler, socket, registry, tasks: vec![run, serve] }
    }

    /// Everything that exists, in the order of its creation.
    pub(crate) async fn replicas(&self) -> Vec<Arc<Replica>> {
        use futures::StreamExt;
        let mut watch = self.cluster.watch();
        let mut replicas = Vec::new();
        while let Some(event) = watch.next().await {
            match event {
                poolctl_cluster::ReplicaEvent::Applied(replica) => replicas.push(replica),
                poolctl_cluster::ReplicaEvent::Deleted(_) => {}
                poolctl_cluster::ReplicaEvent::Synced => break,
            }
        }
        replicas.sort_by_key(|replica| replica.created);
        replicas
    }

    /// Waits until the replicas are as `condition` wants them.
    pub(crate) async fn until(&self, what: &str, condition: impl Fn(&[Arc<Replica>]) -> bool) -> Vec<Arc<Replica>> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let replicas = self.replicas().await;
            if condition(&replicas) {
                return replicas;
            }
            assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}; there are {replicas:#?}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    /// Stops everything and checks that no process is left.
    pub(crate) async fn end(self) {
        let pids: Vec<_> = self.replicas().await.iter().filter_map(|replica| replica.pid).collect();
        self.cluster.shutdown().await;
        let left: Vec<_> = pids.into_iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
        assert!(left.is_empty(), "processes {left:?} outlived their cluster");
    }
}

pub(crate) fn admin_client() -> AdminClient {
    AdminClient::new(Timeouts::default())
}

pub(crate) fn is_ready(replica: &Replica) -> bool {
    matches!(replica.lifecycle, Lifecycle::Ready { .. })
}

pub(crate) fn count(replicas: &[Arc<Replica>], state: ReplicaState) -> usize {
    replicas.iter().filter(|replica| replica.state == state).count()
}

/// At rest: this many replicas serve, nothing is on its way in or out.
pub(crate) fn settled(replicas: &[Arc<Replica>], serving: usize) -> bool {
    count(replicas, ReplicaState::Serving) == serving && count(replicas, ReplicaState::Idle) + serving == replicas.len()
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_path_buf()
}

pub(crate) fn digits() -> PathBuf {
    repository().join("examples/models/digits.onnx")
}

fn onnxruntime() -> PathBuf {
    std::env::var_os("ORT_DYLIB_PATH")
        .map(PathBuf::from)
        .filter(|path| path.is_absolute())
        .unwrap_or_else(|| repository().join(".cache/onnxruntime/libonnxruntime.so"))
}

/// The wrapper that belongs to this build: it lies beside the tests' own directory.
fn wrapper() -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let path = tests.parent().and_then(Path::parent).unwrap().join("model-wrapper");
    assert!(path.exists(), "{} is not there: build it with `cargo build -p model-wrapper`", path.display());
    path
}

/// The digits model under the name `model`; one replica serves one request at a time.
pub(crate) fn revision(model: &str) -> Revision {
    let path = digits();
    let digest = Sha256::digest(std::fs::read(&path).unwrap());
    let digest: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let mut revision = example::revision(model, Device::Cpu);
    revision.model = ModelKey::new(NAMESPACE, model);
    revision.key = format!("{NAMESPACE}/{model}-cpu-00001").into();
    revision.digest = format!("sha256:{digest}").into();
    revision.source.uri = format!("file://{}", path.display()).into();
    revision.container_concurrency = 4;
    revision.max_replicas = 1;
    revision.placement.contract = CONTRACT.into();
    revision.scale_to_zero_after = Duration::from_secs(3600);
    revision
}

/// What must hold when `model` is wanted once and everything has come to rest.
pub(crate) async fn serves_once(stack: &Stack, gateway: &FakeGateway, model: &str) {
    gateway.until_served(model).await;
    let replicas = stack.until("one replica serves, none is surplus", |replicas| settled(replicas, 1)).await;
    let owner = replicas.iter().find(|replica| replica.state == ReplicaState::Serving).unwrap();
    let knows_it = |known: &Known| known.synced && known.replicas.keys().eq([&owner.uid.0]);
    let known = gateway.until("the gateway knows exactly the one that serves", knows_it).await;
    assert_eq!(predict(&known.replicas[&owner.uid.0]).await, 200);
}
