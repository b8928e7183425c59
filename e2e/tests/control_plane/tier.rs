//! The control plane that the tests share, and a namespace for each.

use std::fmt::Display;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use e2e::components::{Binaries, Cache, Component};
use e2e::control_plane::{ControlPlane, ControlPlaneSettings};
use e2e::kwok::{Kwok, KwokSettings};
use e2e::process::{Processes, Progress, wait_until};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::api::{DeleteParams, PostParams};
use kube::{Api, Client};
use libtest_mimic::Trial;
use serde_json::json;
use tokio::runtime::Runtime;
use tokio::sync::OnceCell;

/// Nothing that a test waits for takes longer, on a machine that compiles beside it with all its might.
pub(crate) const PATIENCE: Duration = Duration::from_secs(300);

/// From SIGTERM to SIGKILL, at the end.
const STOP_WITHIN: Duration = Duration::from_secs(10);

/// The file whose lock says that a folder is in use.
const LOCK: &str = "lock";

/// What is started once.
pub(crate) struct Tier {
    runtime: Runtime,
    shared: OnceCell<Result<Arc<Shared>, String>>,
}

/// The running control plane, its nodes and its CRDs.
pub(crate) struct Shared {
    pub(crate) control_plane: ControlPlane,
    binaries: Binaries,
    processes: Arc<Processes>,
    _kwok: Kwok,
    folder: StateFolder,
}

/// What a test gets: the control plane and a Kubernetes namespace of its own.
pub(crate) struct Place {
    pub(crate) shared: Arc<Shared>,
    pub(crate) namespace: String,
}

// === impl Tier ===

impl Tier {
    pub(crate) fn new() -> Arc<Self> {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
        Arc::new(Self { runtime: runtime.expect("a process may have threads"), shared: OnceCell::new() })
    }

    /// A test that runs in a place of its own.
    pub(crate) fn test<F>(self: &Arc<Self>, name: &'static str, test: fn(Arc<Place>) -> F) -> Trial
    where
        F: Future<Output = Result<()>> + Send + 'static,
    {
        let tier = Arc::clone(self);
        Trial::test(name, move || {
            let run = async {
                let shared = tier.shared().await?;
                let place = Arc::new(Place::new(shared, name).await?);
                let outcome = test(Arc::clone(&place)).await;
                // A test that failed has said why: that its namespace cannot be removed either is no news then.
                outcome.and(place.remove().await)
            };
            tier.runtime.block_on(run).map_err(|error| format!("{error:?}").into())
        })
    }

    /// Starts the control plane, once. A failure is that of every test.
    async fn shared(&self) -> Result<Arc<Shared>> {
        let start = || async { Shared::start().await.map(Arc::new).map_err(|error| format!("{error:?}")) };
        self.shared.get_or_init(start).await.clone().map_err(|error| anyhow!(error))
    }

    /// Stops everything; the error says what is left.
    pub(crate) fn end(&self) -> Result<(), String> {
        let Some(Ok(shared)) = self.shared.get() else { return Ok(()) };
        self.runtime.block_on(shared.end()).map_err(|error| format!("{error:?}"))
    }
}

// === impl Shared ===

impl Shared {
    async fn start() -> Result<Self> {
        let progress = Progress::stderr();
        let wanted = [Component::Etcd, Component::Kubernetes, Component::Kwok];
        let binaries = Cache::open()?.ensure(&wanted, &progress).await?;
        let folder = StateFolder::new()?;
        let processes = Arc::<Processes>::default();
        let control_plane =
            ControlPlane::start(&binaries, settings(folder.path()), Arc::clone(&processes), &progress).await?;
        let kwok = Kwok::start(&binaries, &control_plane, &processes, KwokSettings::default(), &progress).await?;
        let shared = Self { control_plane, binaries, processes, _kwok: kwok, folder };
        crate::schema::install(&shared.control_plane.client()).await.context("installing the CRDs")?;
        Ok(shared)
    }

    /// Another control plane, for a test that breaks it.
    pub(crate) async fn another(&self, name: &str) -> Result<(ControlPlane, Arc<Processes>)> {
        let processes = Arc::<Processes>::default();
        let settings = settings(&self.folder.path().join(name));
        std::fs::create_dir_all(&settings.state)?;
        let control_plane =
            ControlPlane::start(&self.binaries, settings, Arc::clone(&processes), &Progress::silent()).await?;
        Ok((control_plane, processes))
    }

    /// A folder for what a test writes.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    async fn end(&self) -> Result<()> {
        // A component that died was nobody's intention, whatever the tests made of it.
        let death = self.processes.dead();
        let pids: Vec<u32> = self.processes.all().iter().map(e2e::process::Process::pid).collect();
        self.processes.stop(STOP_WITHIN).await;
        let left: Vec<u32> = pids.into_iter().filter(|pid| Path::new(&format!("/proc/{pid}")).exists()).collect();
        if !left.is_empty() {
            bail!("processes are left: {left:?}");
        }
        self.folder.remove()?;
        death.map_or(Ok(()), |death| Err(death.into()))
    }
}

/// A folder that is locked while its program lives, so that the next one can tell what a killed one left.
struct StateFolder {
    path: PathBuf,
    _lock: File,
}

// === impl StateFolder ===

impl StateFolder {
    /// A new folder. Those that programs left which were killed are removed.
    fn new() -> Result<Self> {
        let parent = Path::new(env!("CARGO_TARGET_TMPDIR")).join("control-plane");
        std::fs::create_dir_all(&parent)?;
        // One at a time: a folder that is not locked yet looks like one that was left.
        let turn = File::create(parent.join(LOCK))?;
        turn.lock()?;
        for entry in std::fs::read_dir(&parent)? {
            let path = entry?.path();
            let left = File::open(path.join(LOCK)).is_ok_and(|lock| lock.try_lock().is_ok());
            if left {
                std::fs::remove_dir_all(&path).with_context(|| path.display().to_string())?;
            }
        }
        let path = parent.join(std::process::id().to_string());
        std::fs::create_dir_all(&path)?;
        let lock = File::create(path.join(LOCK))?;
        lock.lock()?;
        Ok(Self { path, _lock: lock })
    }

    fn path(&self) -> &Path {
        &self.path
    }

    fn remove(&self) -> Result<()> {
        std::fs::remove_dir_all(&self.path).with_context(|| self.path.display().to_string())
    }
}

/// Simulated pods come and go by the hundred: the clients' own limits (20 to 50 calls a second) would be all that is measured.
fn settings(state: &Path) -> ControlPlaneSettings {
    let fast = vec!["--kube-api-qps=1000".to_owned(), "--kube-api-burst=2000".to_owned()];
    // A simulated node is late with its lease only because the machine is busy: that is no reason to take its pods away.
    let patient = "--node-monitor-grace-period=1h".to_owned();
    ControlPlaneSettings {
        controller_manager_args: [fast.clone(), vec![patient]].concat(),
        scheduler_args: fast,
        ..ControlPlaneSettings::local(state)
    }
}

// === impl Place ===

impl Place {
    async fn new(shared: Arc<Shared>, test: &str) -> Result<Self> {
        let short = test.rsplit("::").next().unwrap_or(test).replace('_', "-");
        let client = shared.control_plane.client();
        let namespace = create_namespace(&client, &short).await?;
        Ok(Self { shared, namespace })
    }

    pub(crate) fn client(&self) -> Client {
        self.shared.control_plane.client()
    }

    /// Objects of a kind in the test's namespace.
    pub(crate) fn api<K>(&self) -> Api<K>
    where
        K: kube::Resource<Scope = kube::core::NamespaceResourceScope>,
        K::DynamicType: Default,
    {
        Api::namespaced(self.client(), &self.namespace)
    }

    /// Asks for the namespace's removal and waits until it is empty and gone.
    async fn remove(&self) -> Result<()> {
        let namespaces: Api<Namespace> = Api::all(self.client());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await?;
        eventually(&format!("namespace {} to be gone", self.namespace), || async {
            match namespaces.get_opt(&self.namespace).await {
                Ok(None) => Ok(()),
                Ok(Some(namespace)) => Err(format!("{:?}", namespace.status)),
                Err(error) => Err(error.to_string()),
            }
        })
        .await
    }
}

/// A new namespace in which pods can be made. Its name begins with `prefix`.
pub(crate) async fn create_namespace(client: &Client, prefix: &str) -> Result<String> {
    let namespaces: Api<Namespace> = Api::all(client.clone());
    // Room for what the apiserver appends, in a name of 63 characters.
    let prefix: String = prefix.chars().take(50).collect();
    let object = serde_json::from_value(json!({"metadata": {"generateName": format!("{prefix}-")}}))?;
    let namespace = namespaces.create(&PostParams::default(), &object).await?;
    let namespace = namespace.metadata.name.context("a created object has a name")?;
    // Pods are refused until the controller has made the account that they run as.
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), &namespace);
    eventually("the namespace's default service account", || async {
        accounts.get("default").await.map(|_| ()).map_err(|error| error.to_string())
    })
    .await?;
    Ok(namespace)
}

/// Waits until a probe succeeds.
pub(crate) async fn eventually<T, E: Display, F: Future<Output = Result<T, E>>>(
    what: &str,
    probe: impl FnMut() -> F,
) -> Result<T> {
    Ok(wait_until(what, PATIENCE, &Progress::silent(), probe).await?)
}

/// The folder of the source tree.
pub(crate) fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the crate is in a folder of the repository").to_owned()
}
