//! What a suite needs in the cluster beforehand, and taking away what it leaves there: a suite that is killed removes nothing.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{ConfigMap, Namespace, Pod};
use kube::api::{Api, DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::{Client, ResourceExt as _};

use super::rig::SYSTEM_NAMESPACE;
use crate::dynamic;
use crate::process::{Progress, wait_until};

/// The namespace that every suite uses. The suite of networking expects it and has no file with it.
const NAMESPACE: &str = "serving-tests";

/// The class where Serving's settings name none.
const DEFAULT_CLASS: &str = "istio.ingress.networking.knative.dev";

/// A namespace is gone when its pods are. They are killed, so seconds are enough; two minutes were not on two cores with a queue of
/// forty for them.
const REMOVAL: Duration = Duration::from_secs(300);

/// Whose fields these are, for server-side apply.
const MANAGER: &str = "kferving-conformance";

/// Why the cluster cannot be brought into the state that a suite needs.
#[derive(Debug, thiserror::Error)]
pub(super) enum FixtureError {
    /// The API server refused.
    #[error("cannot {what}: {source}")]
    Api {
        /// What was tried.
        what: String,
        /// What it said.
        source: kube::Error,
    },
    /// A file of the suite's release.
    #[error("the file {path} of the suite's release cannot be used: {reason}")]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// Something stays.
    #[error(transparent)]
    Wait(#[from] crate::process::WaitError),
}

/// The settings of Serving: for each ConfigMap `config-*` its data.
pub(super) type Settings = BTreeMap<String, BTreeMap<String, String>>;

/// What a suite finds in the cluster.
#[derive(Clone)]
pub(super) struct Fixtures {
    client: Client,
    /// The objects, namespaces first.
    objects: Vec<DynamicObject>,
    /// Serving's settings before the suite.
    settings: Settings,
    /// What the suite wants of them: ConfigMap, key, value.
    changes: Vec<(&'static str, &'static str, String)>,
    /// Where those before the suite are kept while it runs: a runner that is killed restores nothing, the next one does.
    kept: PathBuf,
}

// === impl Fixtures ===

impl Fixtures {
    /// Of these YAML files. Nothing is created yet. Serving's settings are written to `kept`, or, where an earlier run was cut short,
    /// read from it.
    ///
    /// # Errors
    /// When a file is not of that form, or the cluster does not tell Serving's settings.
    pub(super) async fn of(client: Client, files: &[PathBuf], kept: PathBuf) -> Result<Self, FixtureError> {
        let mut objects = vec![namespace()];
        for path in files {
            let file = |reason: String| FixtureError::File { path: path.clone(), reason };
            let text = std::fs::read_to_string(path).map_err(|error| file(error.to_string()))?;
            objects.extend(parse(&text).map_err(file)?);
        }
        let file = |reason: String| FixtureError::File { path: kept.clone(), reason };
        let settings = match std::fs::read(&kept) {
            Ok(text) => serde_json::from_slice(&text).map_err(|error| file(error.to_string()))?,
            Err(_) => {
                let settings = settings(&client).await?;
                let text = serde_json::to_vec(&settings).expect("keys are strings");
                std::fs::write(&kept, text).map_err(|error| file(error.to_string()))?;
                settings
            }
        };
        Ok(Self { client, objects, settings, changes: Vec::new(), kept })
    }

    /// What the suite wants Serving's settings to be, as ConfigMap, key and value.
    pub(super) fn set(&mut self, changes: Vec<(&'static str, &'static str, String)>) {
        self.changes = changes;
    }

    /// The class of Ingresses that Serving makes.
    pub(super) fn ingress_class(&self) -> String {
        let network = self.settings.get("config-network");
        let class = network.and_then(|data| data.get("ingress-class").or_else(|| data.get("ingress.class")));
        class.map_or(DEFAULT_CLASS, String::as_str).to_owned()
    }

    /// Makes the cluster ready for a suite, whatever an earlier one has left.
    ///
    /// # Errors
    /// When the API server refuses.
    pub(super) async fn lay(&self) -> Result<(), FixtureError> {
        self.clear().await?;
        for object in &self.objects {
            let what = format!("create {}", described(object));
            let api = self.api(object);
            let apply = PatchParams::apply(MANAGER).force();
            let made = api.patch(&object.name_any(), &apply, &Patch::Apply(object)).await;
            made.map_err(|source| FixtureError::Api { what, source })?;
        }
        self.give_settings(&changed(&self.settings, &self.changes)).await
    }

    /// [`Self::clear`], at the end of a run.
    ///
    /// # Errors
    /// As there.
    pub(super) async fn take_away(&self) -> Result<(), FixtureError> {
        self.clear().await?;
        let file = |error: std::io::Error| FixtureError::File { path: self.kept.clone(), reason: error.to_string() };
        std::fs::remove_file(&self.kept).map_err(file)
    }

    /// Removes the suite's namespaces with all that is in them, gives Serving its settings back, and frees the Leases of parts that
    /// are gone: their successors would wait for them.
    ///
    /// # Errors
    /// When the API server refuses, or something stays.
    async fn clear(&self) -> Result<(), FixtureError> {
        self.give_settings(&self.settings).await?;
        self.remove_namespaces().await?;
        self.free_leases().await
    }

    fn api(&self, object: &DynamicObject) -> Api<DynamicObject> {
        let types = object.types.as_ref().expect("the kind was read when the file was parsed");
        dynamic::api(&self.client, types, object.namespace().as_deref())
    }

    async fn remove_namespaces(&self) -> Result<(), FixtureError> {
        let names = namespaces_of(&self.objects);
        let all: Api<Namespace> = Api::all(self.client.clone());
        let left = self.existing(&names).await?;
        if left.is_empty() {
            return Ok(());
        }
        for name in &left {
            match all.delete(name, &DeleteParams::default()).await {
                Ok(_) => {}
                Err(error) if is_not_found(&error) => {}
                Err(source) => return Err(FixtureError::Api { what: format!("remove the namespace {name}"), source }),
            }
        }
        let what = format!("the namespaces {} to go", left.join(", "));
        let silent = Progress::silent();
        let gone = wait_until(&what, REMOVAL, &silent, || async {
            let left = self.existing(&names).await?;
            if left.is_empty() {
                return Ok(());
            }
            for name in &left {
                self.kill_pods(name).await?;
            }
            // Twice a second: a namespace takes seconds.
            tokio::time::sleep(Duration::from_millis(500)).await;
            Err(StillThere::Namespaces(left))
        });
        gone.await.map_err(FixtureError::from)
    }

    /// Those of the namespaces that exist.
    async fn existing(&self, names: &BTreeSet<String>) -> Result<Vec<String>, FixtureError> {
        let all: Api<Namespace> = Api::all(self.client.clone());
        let list = all.list_metadata(&ListParams::default()).await;
        let list = list.map_err(|source| FixtureError::Api { what: "list the namespaces".to_owned(), source })?;
        Ok(list.items.iter().map(kube::ResourceExt::name_any).filter(|name| names.contains(name)).collect())
    }

    /// Ends the pods of a namespace that goes: Serving's own would take half a minute to say good-bye to their callers.
    async fn kill_pods(&self, namespace: &str) -> Result<(), FixtureError> {
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), namespace);
        let at_once = DeleteParams::default().grace_period(0);
        match pods.delete_collection(&at_once, &ListParams::default()).await {
            Ok(_) => Ok(()),
            Err(error) if is_not_found(&error) => Ok(()),
            Err(source) => Err(FixtureError::Api { what: format!("end the pods of {namespace}"), source }),
        }
    }

    /// Makes Serving's settings be these.
    async fn give_settings(&self, wanted: &Settings) -> Result<(), FixtureError> {
        let maps: Api<ConfigMap> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        for (name, data) in differing(wanted, &settings(&self.client).await?) {
            let failed = |source| FixtureError::Api { what: format!("write the ConfigMap {name}"), source };
            let mut map = maps.get(name).await.map_err(failed)?;
            // The whole data, no patch: keys that a test added have to go.
            map.data = Some(data.clone());
            maps.replace(name, &PostParams::default(), &map).await.map_err(failed)?;
        }
        Ok(())
    }

    async fn free_leases(&self) -> Result<(), FixtureError> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let pods: Api<Pod> = Api::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
        let all = ListParams::default();
        let failed = |what: &str| {
            let what = what.to_owned();
            move |source| FixtureError::Api { what, source }
        };
        let living = pods.list_metadata(&all).await.map_err(failed("list Serving's pods"))?;
        let living: BTreeSet<String> = living.items.iter().map(kube::ResourceExt::name_any).collect();
        let held = leases.list(&all).await.map_err(failed("list Serving's Leases"))?;
        for lease in held.items.iter().filter(|lease| is_orphaned(lease, &living)) {
            match leases.delete(&lease.name_any(), &DeleteParams::default()).await {
                Ok(_) => {}
                Err(error) if is_not_found(&error) => {}
                Err(error) => return Err(failed("remove a Lease")(error)),
            }
        }
        Ok(())
    }
}

/// Why a namespace is still there.
#[derive(Debug, thiserror::Error)]
enum StillThere {
    #[error("still there: {}", .0.join(", "))]
    Namespaces(Vec<String>),
    #[error(transparent)]
    Unknown(#[from] FixtureError),
}

fn namespace() -> DynamicObject {
    let kind = GroupVersionKind::gvk("", "v1", "Namespace");
    DynamicObject::new(NAMESPACE, &ApiResource::from_gvk(&kind))
}

/// Objects of a YAML file.
pub(super) fn parse(text: &str) -> Result<Vec<DynamicObject>, String> {
    let documents: Vec<serde_json::Value> = serde_saphyr::from_multiple(text).map_err(|error| error.to_string())?;
    let mut objects = Vec::new();
    for document in documents.into_iter().filter(|document| !document.is_null()) {
        let object: DynamicObject = serde_json::from_value(document).map_err(|error| error.to_string())?;
        let types = object.types.as_ref().ok_or("a document has no kind")?;
        GroupVersionKind::try_from(types).map_err(|error| error.to_string())?;
        objects.push(object);
    }
    Ok(objects)
}

/// The namespaces among the objects, and those that other objects are in.
pub(super) fn namespaces_of(objects: &[DynamicObject]) -> BTreeSet<String> {
    let is_namespace = |object: &DynamicObject| object.types.as_ref().is_some_and(|types| types.kind == "Namespace");
    let own = objects.iter().filter(|object| is_namespace(object)).map(kube::ResourceExt::name_any);
    own.chain(objects.iter().filter_map(kube::ResourceExt::namespace)).collect()
}

/// The settings with these changes. ConfigMaps that Serving does not have are left out.
pub(super) fn changed(settings: &Settings, changes: &[(&str, &str, String)]) -> Settings {
    let mut changed = settings.clone();
    for (map, key, value) in changes {
        if let Some(data) = changed.get_mut(*map) {
            data.insert((*key).to_owned(), value.clone());
        }
    }
    changed
}

/// The settings that are not as wanted, as they are wanted.
pub(super) fn differing<'a>(
    wanted: &'a Settings,
    now: &'a Settings,
) -> impl Iterator<Item = (&'a str, &'a BTreeMap<String, String>)> {
    let differs = |(name, data): &(&String, &BTreeMap<String, String>)| now.get(*name).is_some_and(|now| now != *data);
    wanted.iter().filter(differs).map(|(name, data)| (name.as_str(), data))
}

/// Whether a Lease is held by a pod that is not there any more. Holders call themselves `POD_UUID`.
pub(super) fn is_orphaned(lease: &Lease, pods: &BTreeSet<String>) -> bool {
    let holder = lease.spec.as_ref().and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    holder.rsplit_once('_').is_some_and(|(pod, _)| !pods.contains(pod))
}

async fn settings(client: &Client) -> Result<Settings, FixtureError> {
    let maps: Api<ConfigMap> = Api::namespaced(client.clone(), SYSTEM_NAMESPACE);
    let list = maps.list(&ListParams::default()).await;
    let what = format!("read the settings of Serving in {SYSTEM_NAMESPACE}");
    let list = list.map_err(|source| FixtureError::Api { what, source })?;
    let named = list.items.into_iter().map(|map| (map.name_any(), map.data.unwrap_or_default()));
    Ok(named.filter(|(name, _)| name.starts_with("config-")).collect())
}

fn described(object: &DynamicObject) -> String {
    let kind = object.types.as_ref().map_or("object", |types| types.kind.as_str());
    format!("the {kind} {}", object.name_any())
}

fn is_not_found(error: &kube::Error) -> bool {
    matches!(error, kube::Error::Api(status) if status.code == 404)
}
