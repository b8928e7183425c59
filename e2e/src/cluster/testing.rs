//! A cluster for a test, and a Kubernetes namespace of the test's own in it.

use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams};

use super::handle::Cluster;
use super::kubeconfig;
use super::settings::{DEFAULT_NAME, Place};

/// The cluster that tests run against: the one that `KUBECONFIG` names, or that of this checkout.
pub struct TestCluster {
    client: kube::Client,
    kubeconfig: PathBuf,
    rig: Option<Cluster>,
}

// === impl TestCluster ===

impl TestCluster {
    /// The cluster that the environment names: `KUBECONFIG`, else the one of this checkout that `KFERVING_CLUSTER` and
    /// `KFERVING_CLUSTER_STATE` name, which is started where it does not run and stays for the next test.
    ///
    /// # Errors
    /// When the cluster cannot be started, or the kubeconfig not be used.
    pub async fn from_env() -> anyhow::Result<Self> {
        let place = place()?;
        let (given, rig) = match Self::given() {
            None => (None, Some(running(&place).await?)),
            Some(given) => (Some(given), None),
        };
        let kubeconfig = given.or_else(|| rig.as_ref().map(Cluster::kubeconfig)).context("no cluster runs")?;
        let client = kubeconfig::client(&kubeconfig).await?;
        Ok(Self { client, kubeconfig, rig })
    }

    /// The kubeconfig of a cluster that the tests were given, and that is not one of this machine's.
    pub fn given() -> Option<PathBuf> {
        let given = std::env::var_os("KUBECONFIG").filter(|value| !value.is_empty()).map(PathBuf::from)?;
        let rig = place().ok().and_then(|place| Cluster::running(&place));
        (!rig.is_some_and(|rig| same_file(&given, &rig.kubeconfig()))).then_some(given)
    }

    /// A client of its API server.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// Its kubeconfig.
    pub fn kubeconfig(&self) -> &Path {
        &self.kubeconfig
    }

    /// The cluster of this machine. `None`, with a message for the test's log, where the tests were given another one: what the
    /// test does (`why` ends the sentence "skipped: …") needs its node, its processes or its network.
    pub fn rig_or_skip(&self, why: &str) -> Option<&Cluster> {
        if self.rig.is_none() {
            eprintln!("skipped: {why} (the cluster of {} is not one of this machine's)", self.kubeconfig.display());
        }
        self.rig.as_ref()
    }

    /// Runs `test` in a Kubernetes namespace of its own, whose name begins with `prefix`. The namespace is removed at the end, also
    /// when the test panics.
    ///
    /// # Panics
    /// When the namespace cannot be made, and as `test` does.
    pub async fn in_namespace<T>(&self, prefix: &str, test: impl AsyncFnOnce(String) -> T) -> T {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let metadata = ObjectMeta { generate_name: Some(format!("{prefix}-")), ..ObjectMeta::default() };
        let made = namespaces.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await;
        let name = made.expect("a namespace can be made").metadata.name.expect("the server names it");
        let result = AssertUnwindSafe(test(name.clone())).catch_unwind().await;
        // Not waited for: the objects in it end by themselves, and the next test has a namespace of its own.
        if let Err(error) = namespaces.delete(&name, &DeleteParams::default()).await {
            eprintln!("namespace {name} was not removed: {error}");
        }
        result.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    }
}

fn place() -> anyhow::Result<Place> {
    let name = std::env::var("KFERVING_CLUSTER").unwrap_or_else(|_| DEFAULT_NAME.to_owned());
    Place::new(&name, std::env::var_os("KFERVING_CLUSTER_STATE").map(PathBuf::from).as_deref())
}

async fn running(place: &Place) -> anyhow::Result<Cluster> {
    if let Some(cluster) = Cluster::running(place) {
        return Ok(cluster);
    }
    // The program and not the function: it starts itself again inside the namespaces. It is built beside every test program.
    let own = std::env::current_exe().context("cannot find this program")?;
    let program = own.ancestors().skip(2).map(|folder| folder.join("cluster")).next();
    let program =
        program.filter(|file| file.is_file()).context("the program `cluster` is not built: cargo build -p e2e")?;
    let started = tokio::process::Command::new(program)
        .args(super::namespaces::place_arguments(place))
        .arg("up")
        .status()
        .await
        .context("cannot run `cluster up`")?;
    ensure!(started.success(), "`cluster up` failed ({started})");
    Cluster::get(place)
}

fn same_file(one: &Path, other: &Path) -> bool {
    matches!((one.canonicalize(), other.canonicalize()), (Ok(one), Ok(other)) if one == other)
}
