//! A cluster for a test, and a Kubernetes namespace of the test's own in it.

use std::ffi::{OsStr, OsString};
use std::io::Write as _;
use std::panic::AssertUnwindSafe;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use futures::FutureExt as _;
use k8s_openapi::api::core::v1::Namespace;
use kube::Api;
use kube::api::{DeleteParams, ObjectMeta, PostParams};

use super::handle::Cluster;
use super::kubeconfig;
use super::settings::{DEFAULT_NAME, Place};

/// Variable with the kubeconfig of a cluster elsewhere.
const KUBECONFIG: &str = "KUBECONFIG";

/// On every namespace that tests make, so that those of a run that was killed are found.
const LABEL: (&str, &str) = ("e2e.kferving.dev/namespace", "test");

/// An API server across the world answers within a second.
const ANSWER_DEADLINE: Duration = Duration::from_secs(15);

/// The cluster that tests run against: the one that `KUBECONFIG` names, or that of this checkout.
pub struct TestCluster {
    client: kube::Client,
    rig: Option<Cluster>,
}

// === impl TestCluster ===

impl TestCluster {
    /// The cluster that the environment names: `KUBECONFIG`, else the one of this checkout that `KFERVING_CLUSTER` and
    /// `KFERVING_CLUSTER_STATE` name, which is started where it does not run and stays for the next test.
    ///
    /// # Errors
    /// When the cluster cannot be started, or the one of `KUBECONFIG` does not answer.
    pub async fn from_env() -> anyhow::Result<Self> {
        if let Some(given) = Self::given() {
            let named = || format!("KUBECONFIG={}", given.display());
            let client = kubeconfig::client_of_env().await.with_context(named)?;
            let asked = tokio::time::timeout(ANSWER_DEADLINE, client.apiserver_version()).await;
            let answered = asked.with_context(|| format!("it gives no answer within {ANSWER_DEADLINE:?}"));
            let answered = answered.and_then(|answer| Ok(answer?));
            answered.with_context(|| format!("{}: the cluster does not answer", named()))?;
            return Ok(Self { client, rig: None });
        }
        let rig = running(&place()?).await?;
        Ok(Self { client: rig.client().await?, rig: Some(rig) })
    }

    /// `KUBECONFIG`, where it names a cluster elsewhere and not the one of this checkout, whether that runs or not.
    pub fn given() -> Option<OsString> {
        let given = std::env::var_os(KUBECONFIG).filter(|value| !value.is_empty())?;
        let own = place().is_ok_and(|place| is_file(Path::new(&given), &place.kubeconfig()));
        (!own).then_some(given)
    }

    /// A command for the given cluster: files that `given` names relative to this process's folder are found from any other.
    ///
    /// # Errors
    /// When this process's folder is gone.
    pub fn command(given: &OsStr, program: &OsStr) -> anyhow::Result<std::process::Command> {
        let files: Result<Vec<PathBuf>, _> = std::env::split_paths(given).map(std::path::absolute).collect();
        let files = std::env::join_paths(files.context("cannot find this folder")?)?;
        let mut command = std::process::Command::new(program);
        command.env(KUBECONFIG, files);
        Ok(command)
    }

    /// What the cluster is, for the log.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn description(&self) -> anyhow::Result<String> {
        let version = self.client.apiserver_version().await?.git_version;
        let knative = if self.has_knative().await? { "with" } else { "without" };
        Ok(format!("Kubernetes {version}, {knative} Knative Serving"))
    }

    /// A client of its API server.
    pub fn client(&self) -> &kube::Client {
        &self.client
    }

    /// The cluster of this machine; `None` where the tests were given another one.
    pub fn rig(&self) -> Option<&Cluster> {
        self.rig.as_ref()
    }

    /// The cluster of this machine. `None`, with a message for the test's log, where the tests were given another one: what the
    /// test does (`why` ends the sentence "skipped: …") needs its node, its processes or its network.
    pub fn rig_or_skip(&self, why: &str) -> Option<&Cluster> {
        if self.rig.is_none() {
            Self::skip(&format!("{why}, and the cluster of KUBECONFIG is not one of this machine's"));
        }
        self.rig.as_ref()
    }

    /// Whether Knative Serving's API is served.
    ///
    /// # Errors
    /// When the cluster does not answer.
    pub async fn has_knative(&self) -> anyhow::Result<bool> {
        match self.client.list_api_group_resources("serving.knative.dev/v1").await {
            Ok(_) => Ok(true),
            Err(kube::Error::Api(status)) if status.code == 404 => Ok(false),
            Err(error) => Err(error).context("cannot ask the cluster whether it has Knative Serving"),
        }
    }

    /// Says why a test does nothing. Past the macros, whose output is kept back while a test passes.
    pub fn skip(why: &str) {
        let _ = writeln!(std::io::stderr(), "skipped: {why}");
    }

    /// Runs `test` in a Kubernetes namespace of its own, whose name begins with `prefix`. The namespace is removed at the end, also
    /// when the test panics.
    ///
    /// # Panics
    /// When the namespace cannot be made, and as `test` does.
    pub async fn in_namespace<T>(&self, prefix: &str, test: impl AsyncFnOnce(String) -> T) -> T {
        let namespaces: Api<Namespace> = Api::all(self.client.clone());
        let labels = [(LABEL.0.to_owned(), LABEL.1.to_owned())];
        let metadata = ObjectMeta {
            generate_name: Some(format!("{prefix}-")),
            labels: Some(labels.into()),
            ..ObjectMeta::default()
        };
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

/// Whether both are one file, which need not be there: that of a cluster that was stopped is not.
fn is_file(one: &Path, other: &Path) -> bool {
    let resolved = |file: &Path| {
        let file = std::path::absolute(file).ok()?;
        Some(file.parent()?.canonicalize().ok()?.join(file.file_name()?))
    };
    resolved(one).is_some_and(|one| Some(one) == resolved(other))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kubeconfig_of_a_stopped_cluster_is_still_its_own() {
        let folder = tempfile::tempdir().unwrap();
        let own = folder.path().join("kubeconfig");
        std::fs::create_dir(folder.path().join("sub")).unwrap();
        assert!(is_file(&folder.path().join("sub/../kubeconfig"), &own), "neither exists");
        assert!(!is_file(&folder.path().join("sub/kubeconfig"), &own));
        assert!(!is_file(Path::new("/no/such/folder/kubeconfig"), &own));
    }

    #[test]
    fn every_file_of_a_list_is_found_from_another_folder() {
        let command = TestCluster::command(OsStr::new("here/config:/there/config"), OsStr::new("true")).unwrap();
        let here = std::env::current_dir().unwrap().join("here/config");
        let expected = format!("{}:/there/config", here.display());
        assert!(command.get_envs().any(|(name, value)| name == KUBECONFIG && value == Some(OsStr::new(&expected))));
    }
}
