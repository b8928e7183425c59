//! A stock Knative Service of the digits model, and how it is asked.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use e2e::cluster::{Cluster, TestCluster};
use e2e::process::{Progress, wait_until};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Body;
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::{ContainerStatus, Pod, Service};
use kube::Api;
use kube::api::{ApiResource, DynamicObject, ListParams, PostParams};
use serde_json::{Value, json};

/// No wait here takes longer, not even on two cores that also compile. Going to zero takes Knative's grace period of 30 s, and the
/// pod's end at most [`TIMEOUT_SECONDS`] more.
const DEADLINE: Duration = Duration::from_secs(300);

/// The Service's `timeoutSeconds`, which bounds how long an ending pod stays.
const TIMEOUT_SECONDS: u32 = 20;

const NAME: &str = "digits";
const REVISION: &str = "digits-00001";

/// Port of the model server's metrics beside queue-proxy.
const METRICS_PORT: u16 = 9095;

/// Where Knative runs.
const SYSTEM_NAMESPACE: &str = "knative-serving";

/// Knative's Service of the activator.
const ACTIVATOR: &str = "activator-service";

const ACTIVATOR_PORT: u16 = 80;

/// A Service that exists.
pub(crate) struct DigitsService<'a> {
    client: kube::Client,
    /// The way into the cluster's network; without one, requests go through the API server's proxy.
    rig: Option<&'a Cluster>,
    namespace: String,
}

/// Who is asked.
enum Target<'a> {
    Activator,
    Metrics(&'a Pod),
}

/// An answer read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) server_timing: Option<String>,
    pub(crate) body: Value,
}

// === impl Answer ===

impl Answer {
    async fn of<B: Body<Data = Bytes, Error: std::fmt::Debug>>(response: http::Response<B>) -> Self {
        let (head, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        let text = || Value::String(String::from_utf8_lossy(&body).into_owned());
        Self {
            status: head.status.as_u16(),
            server_timing: head.headers.get("server-timing").map(|timing| timing.to_str().unwrap().to_owned()),
            body: serde_json::from_slice(&body).unwrap_or_else(|_| text()),
        }
    }
}

// === impl DigitsService ===

impl<'a> DigitsService<'a> {
    /// Creates it as a user would and waits until its first pod was ready.
    pub(crate) async fn create(cluster: &'a TestCluster, image: &str, namespace: String) -> Self {
        let service = Self { client: cluster.client().clone(), rig: cluster.rig(), namespace };
        let manifest: DynamicObject = serde_json::from_value(manifest(image)).unwrap();
        service.knative("serving.knative.dev/v1", "Service").create(&PostParams::default(), &manifest).await.unwrap();
        let revisions = service.knative("serving.knative.dev/v1", "Revision");
        eventually("the revision to be ready", || async {
            let Some(revision) = revisions.get_opt(REVISION).await.unwrap() else { return Err("none".to_owned()) };
            let conditions = revision.data["status"]["conditions"].clone();
            let is_met = |condition: &Value| condition["type"] == "Ready" && condition["status"] == "True";
            if conditions.as_array().is_some_and(|all| all.iter().any(is_met)) {
                Ok(())
            } else {
                Err(conditions.to_string())
            }
        })
        .await;
        service
    }

    /// Waits until Knative wants no replica and no pod is left, ending ones included.
    pub(crate) async fn until_at_zero(&self, when: &str) {
        let autoscalers = self.knative("autoscaling.internal.knative.dev/v1alpha1", "PodAutoscaler");
        eventually(&format!("the Service to be at zero {when}"), || async {
            let status = autoscalers.get(REVISION).await.unwrap().data["status"].clone();
            let pods = self.pods().await;
            let at_zero = status["desiredScale"] == 0 && pods.is_empty();
            if at_zero { Ok(()) } else { Err(format!("{} pods, {status}", pods.len())) }
        })
        .await;
    }

    /// The one pod.
    pub(crate) async fn the_pod(&self) -> Pod {
        eventually("one pod to be ready", || async {
            let mut pods = self.pods().await;
            match pods.as_slice() {
                [pod] if not_ready(pod).is_empty() => Ok(pods.remove(0)),
                _ => {
                    Err(format!("{} pods, not ready: {:?}", pods.len(), pods.iter().map(not_ready).collect::<Vec<_>>()))
                }
            }
        })
        .await
    }

    /// What a gateway calls the revision: with the digest of the model, as the pod's own log and image tell.
    pub(crate) async fn identity(&self, pod: &Pod) -> String {
        let logs = Api::<Pod>::namespaced(self.client.clone(), &self.namespace);
        let container = kube::api::LogParams { container: Some("user-container".to_owned()), ..Default::default() };
        let log = logs.logs(pod.metadata.name.as_ref().unwrap(), &container).await.unwrap();
        let serving = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let digest = serving.filter_map(|line| line["digest"].as_str().map(str::to_owned)).next();
        format!("{}/{REVISION}@{}", self.namespace, digest.unwrap_or_else(|| panic!("no digest in:\n{log}")))
    }

    /// Asks the activator as an ingress does.
    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_as(path, body, None).await
    }

    /// The same, with the revision that a gateway means.
    pub(crate) async fn post_as(&self, path: &str, body: &Value, identity: Option<&str>) -> Answer {
        let mut request = http::Request::post(path)
            .header("content-type", "application/json")
            .header("knative-serving-namespace", &self.namespace)
            .header("knative-serving-revision", REVISION);
        if let Some(identity) = identity {
            request = request.header("kferving-revision", identity);
        }
        self.send(Target::Activator, request.body(Bytes::from(body.to_string())).unwrap()).await
    }

    /// The model server's own metrics.
    pub(crate) async fn metrics(&self, pod: &Pod) -> String {
        let request = http::Request::get("/metrics").body(Bytes::new()).unwrap();
        self.send(Target::Metrics(pod), request).await.body.as_str().unwrap().to_owned()
    }

    async fn send(&self, target: Target<'_>, request: http::Request<Bytes>) -> Answer {
        let answered = async {
            match self.rig {
                Some(rig) => Answer::of(self.send_inside(rig, &target, request).await).await,
                None => Answer::of(self.send_through_api_server(&target, request).await).await,
            }
        };
        tokio::time::timeout(DEADLINE, answered).await.expect("an answer comes")
    }

    async fn send_inside(
        &self,
        rig: &Cluster,
        target: &Target<'_>,
        mut request: http::Request<Bytes>,
    ) -> http::Response<hyper::body::Incoming> {
        let (ip, port) = match target {
            Target::Activator => {
                let services = Api::<Service>::namespaced(self.client.clone(), SYSTEM_NAMESPACE);
                (services.get(ACTIVATOR).await.unwrap().spec.unwrap().cluster_ip, ACTIVATOR_PORT)
            }
            Target::Metrics(pod) => (pod.status.as_ref().unwrap().pod_ip.clone(), METRICS_PORT),
        };
        let stream = rig.dial(SocketAddr::new(ip.unwrap().parse().unwrap(), port)).await.unwrap();
        let host = format!("{NAME}.{}.example.com", self.namespace);
        request.headers_mut().insert("host", host.parse().unwrap());
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await.unwrap();
        tokio::spawn(connection);
        sender.send_request(request.map(Full::new)).await.unwrap()
    }

    /// As `kubectl proxy` does.
    async fn send_through_api_server(
        &self,
        target: &Target<'_>,
        mut request: http::Request<Bytes>,
    ) -> http::Response<kube::client::Body> {
        let proxy = match target {
            Target::Activator => format!("{SYSTEM_NAMESPACE}/services/{ACTIVATOR}:{ACTIVATOR_PORT}"),
            Target::Metrics(pod) => {
                format!("{}/pods/{}:{METRICS_PORT}", self.namespace, pod.metadata.name.as_ref().unwrap())
            }
        };
        let uri = format!("/api/v1/namespaces/{proxy}/proxy{}", request.uri().path());
        *request.uri_mut() = uri.parse().unwrap();
        self.client.send(request.map(kube::client::Body::from)).await.unwrap()
    }

    async fn pods(&self) -> Vec<Pod> {
        let labelled = ListParams::default().labels(&format!("serving.knative.dev/revision={REVISION}"));
        Api::namespaced(self.client.clone(), &self.namespace).list(&labelled).await.unwrap().items
    }

    fn knative(&self, api_version: &str, kind: &str) -> Api<DynamicObject> {
        let (group, version) = api_version.split_once('/').unwrap();
        let resource = ApiResource {
            group: group.to_owned(),
            version: version.to_owned(),
            api_version: api_version.to_owned(),
            kind: kind.to_owned(),
            plural: format!("{}s", kind.to_lowercase()),
        };
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }
}

/// As a careful user writes it: not root, nothing writable. The window is the shortest that Knative takes, so that the test is.
fn manifest(image: &str) -> Value {
    json!({
        "apiVersion": "serving.knative.dev/v1",
        "kind": "Service",
        "metadata": {"name": NAME},
        "spec": {"template": {
            "metadata": {"annotations": {"autoscaling.knative.dev/window": "6s"}},
            "spec": {
                "containerConcurrency": 4,
                "timeoutSeconds": TIMEOUT_SECONDS,
                "containers": [{
                    "image": image,
                    "readinessProbe": {"httpGet": {"path": "/v2/health/ready"}},
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

fn statuses(pod: &Pod) -> &[ContainerStatus] {
    pod.status.as_ref().and_then(|status| status.container_statuses.as_deref()).unwrap_or_default()
}

/// The names of its containers, in order.
pub(crate) fn containers(pod: &Pod) -> Vec<&str> {
    let mut names: Vec<_> = statuses(pod).iter().map(|container| container.name.as_str()).collect();
    names.sort_unstable();
    names
}

/// Those that are not ready; all, as it were, while the kubelet has told of none.
pub(crate) fn not_ready(pod: &Pod) -> Vec<&str> {
    match statuses(pod) {
        [] => vec!["no container was started yet"],
        all => all.iter().filter(|container| !container.ready).map(|container| container.name.as_str()).collect(),
    }
}

/// How often a container was started again.
pub(crate) fn restarts(pod: &Pod) -> i32 {
    statuses(pod).iter().map(|container| container.restart_count).sum()
}

async fn eventually<T, F: Future<Output = Result<T, String>>>(what: &str, probe: impl FnMut() -> F) -> T {
    wait_until(what, DEADLINE, &Progress::silent(), probe).await.unwrap_or_else(|error| panic!("{error}"))
}
