//! Services in a Kubernetes namespace of their own.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, bail, ensure};
use k8s_openapi::api::core::v1::{Namespace, Pod, Service};
use kube::api::{ApiResource, DeleteParams, DynamicObject, ObjectMeta, PostParams};
use kube::{Api, Client};
use serde_json::{Value, json};

use super::Pods;

/// Time between two looks.
const POLL: Duration = Duration::from_millis(100);

/// Longest that a Service may take from its creation until its first pod was ready.
const DEPLOY_PATIENCE: Duration = Duration::from_secs(180);

/// Longest that a namespace may take to be gone.
const END_PATIENCE: Duration = Duration::from_secs(180);

/// Where Knative runs.
const SYSTEM_NAMESPACE: &str = "knative-serving";

/// A Service to create.
#[derive(Clone, Debug)]
pub struct ServiceSpec {
    /// Its image.
    pub image: String,
    /// Processor that it requests.
    pub cpu: String,
    /// Memory that it requests.
    pub memory: String,
    /// Requests at a time.
    pub concurrency: u32,
    /// Longest that a request may take: Knative's `timeoutSeconds`, and so the longest that an ending pod stays.
    pub timeout_seconds: u32,
    /// Window over which Knative averages the demand, in seconds: so long after the last request it is zero. Its least is 6.
    pub window_seconds: u32,
}

/// A connection to a cluster and a namespace in it, which is removed when this is dropped.
pub struct Cluster {
    client: Client,
    namespace: String,
}

impl ServiceSpec {
    /// The Service of that name, as stock Knative takes it.
    fn manifest(&self, name: &str) -> Value {
        json!({
            "apiVersion": "serving.knative.dev/v1",
            "kind": "Service",
            "metadata": {"name": name},
            "spec": {"template": {
                "metadata": {"annotations": {
                    "autoscaling.knative.dev/window": format!("{}s", self.window_seconds),
                    "autoscaling.knative.dev/max-scale": "1",
                }},
                "spec": {
                    "containerConcurrency": self.concurrency,
                    "timeoutSeconds": self.timeout_seconds,
                    "containers": [{
                        "image": self.image,
                        "resources": {"requests": {"cpu": self.cpu, "memory": self.memory}},
                        "securityContext": {
                            "readOnlyRootFilesystem": true,
                            "runAsNonRoot": true,
                            "allowPrivilegeEscalation": false,
                            "capabilities": {"drop": ["ALL"]},
                            "seccompProfile": {"type": "RuntimeDefault"},
                        },
                    }],
                },
            }},
        })
    }
}

// === impl Cluster ===

impl Cluster {
    /// Connects to the cluster of `KUBECONFIG` and makes a namespace.
    ///
    /// # Errors
    /// No cluster answers, or it has no Knative Serving.
    pub async fn connect() -> anyhow::Result<Self> {
        let client = Client::try_default().await.context("reading KUBECONFIG")?;
        let version = client.apiserver_version().await.context("asking the cluster of KUBECONFIG for its version")?;
        let knative = Api::<Service>::namespaced(client.clone(), SYSTEM_NAMESPACE).get_opt("activator-service").await?;
        ensure!(knative.is_some(), "the cluster (Kubernetes {}) has no Knative Serving", version.git_version);
        let namespaces = Api::<Namespace>::all(client.clone());
        let metadata = ObjectMeta { generate_name: Some("cold-start-".to_owned()), ..ObjectMeta::default() };
        let made = namespaces.create(&PostParams::default(), &Namespace { metadata, ..Namespace::default() }).await?;
        let namespace = made.metadata.name.context("a namespace without a name")?;
        Ok(Self { client, namespace })
    }

    /// Its namespace.
    #[must_use]
    pub fn namespace(&self) -> &str {
        &self.namespace
    }

    /// Follows its pods.
    #[must_use]
    pub fn pods(&self) -> Pods {
        Pods::follow(Api::<Pod>::namespaced(self.client.clone(), &self.namespace))
    }

    /// Where Knative's activator takes requests.
    ///
    /// # Errors
    /// Its Service has no address.
    pub async fn activator(&self) -> anyhow::Result<SocketAddr> {
        let service =
            Api::<Service>::namespaced(self.client.clone(), SYSTEM_NAMESPACE).get("activator-service").await?;
        let spec = service.spec.unwrap_or_default();
        let ip = spec.cluster_ip.context("activator-service has no cluster IP")?;
        Ok(SocketAddr::new(ip.parse().with_context(|| format!("the cluster IP {ip}"))?, 80))
    }

    /// Creates a Service and waits until its first pod was ready. Returns the name of its revision.
    ///
    /// # Errors
    /// It is refused or does not become ready.
    pub async fn deploy(&self, name: &str, spec: &ServiceSpec) -> anyhow::Result<String> {
        let manifest: DynamicObject = serde_json::from_value(spec.manifest(name))?;
        self.api("serving.knative.dev", "Service").create(&PostParams::default(), &manifest).await?;
        let revisions = self.api("serving.knative.dev", "Revision");
        let revision = format!("{name}-00001");
        let deadline = Instant::now() + DEPLOY_PATIENCE;
        loop {
            let found = revisions.get_opt(&revision).await?;
            let conditions = found.as_ref().map(|found| &found.data["status"]["conditions"]);
            // Its own readiness: a Service as a whole has none without an ingress.
            let ready = conditions.and_then(|conditions| condition(conditions, "Ready"));
            match ready {
                Some(ready) if ready["status"] == "True" => return Ok(revision),
                Some(ready) if ready["status"] == "False" => {
                    bail!("revision {revision} is not ready: {} {}", ready["reason"], ready["message"])
                }
                _ if Instant::now() > deadline => {
                    bail!("revision {revision} was not ready within {DEPLOY_PATIENCE:?}: {conditions:?}")
                }
                _ => tokio::time::sleep(POLL).await,
            }
        }
    }

    /// Whether Knative wants no replica of the revision and counts none.
    ///
    /// # Errors
    /// The API does not answer.
    pub async fn wants_none(&self, revision: &str) -> anyhow::Result<bool> {
        let autoscaler = self.api("autoscaling.internal.knative.dev", "PodAutoscaler").get(revision).await?;
        let status = &autoscaler.data["status"];
        Ok(status["desiredScale"] == 0 && status["actualScale"] == 0)
    }

    /// Whether the API itself lists no pod, those that are ending included.
    ///
    /// # Errors
    /// The API does not answer.
    pub async fn has_no_pod(&self, revision: &str) -> anyhow::Result<bool> {
        let pods = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        let selector = format!("serving.knative.dev/revision={revision}");
        Ok(pods.list_metadata(&kube::api::ListParams::default().labels(&selector)).await?.items.is_empty())
    }

    /// Removes the namespace and waits until it is gone.
    ///
    /// # Errors
    /// It stays.
    pub async fn end(self) -> anyhow::Result<()> {
        let namespaces = Api::<Namespace>::all(self.client.clone());
        namespaces.delete(&self.namespace, &DeleteParams::default()).await?;
        let deadline = Instant::now() + END_PATIENCE;
        while namespaces.get_opt(&self.namespace).await?.is_some() {
            ensure!(Instant::now() < deadline, "namespace {} was not gone within {END_PATIENCE:?}", self.namespace);
            tokio::time::sleep(POLL).await;
        }
        Ok(())
    }

    fn api(&self, group: &str, kind: &str) -> Api<DynamicObject> {
        let version = if group == "serving.knative.dev" { "v1" } else { "v1alpha1" };
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: format!("{group}/{version}"),
            kind: kind.to_owned(),
            plural: format!("{}s", kind.to_lowercase()),
        };
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }
}

impl Drop for Cluster {
    /// Whatever ended the scenario, its Services must not stay. It is asked for from a thread with a runtime of its own, because the
    /// scenario's may be ending; a namespace that is gone already is none to remove.
    fn drop(&mut self) {
        let namespace = std::mem::take(&mut self.namespace);
        let removed = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
            runtime.block_on(async {
                let namespaces = Api::<Namespace>::all(Client::try_default().await?);
                match namespaces.delete(&namespace, &DeleteParams::default()).await {
                    Err(kube::Error::Api(status)) if status.code == 404 || status.code == 409 => Ok(()),
                    other => other.map(drop).with_context(|| format!("removing the namespace {namespace}")),
                }
            })
        });
        if let Ok(Err(error)) = removed.join() {
            eprintln!("{error:#}");
        }
    }
}

fn condition<'a>(conditions: &'a Value, wanted: &str) -> Option<&'a Value> {
    conditions.as_array()?.iter().find(|condition| condition["type"] == wanted)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_condition_is_found_by_its_type() {
        let conditions = json!([{"type": "Active", "status": "False"}, {"type": "Ready", "status": "True"}]);
        assert_eq!(condition(&conditions, "Ready").unwrap()["status"], "True");
        assert_eq!(condition(&conditions, "ContainerHealthy"), None);
        assert_eq!(condition(&Value::Null, "Ready"), None);
    }

    #[test]
    fn a_service_says_what_it_runs_and_how_fast_it_goes() {
        let spec = ServiceSpec {
            image: "dev.local/a:v1".to_owned(),
            cpu: "100m".to_owned(),
            memory: "128Mi".to_owned(),
            concurrency: 4,
            timeout_seconds: 15,
            window_seconds: 6,
        };
        insta::assert_json_snapshot!(spec.manifest("digits-0"));
    }
}
