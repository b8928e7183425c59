use std::collections::BTreeMap;
use std::path::Path;

use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::apply::{digest, may_pass};
use super::objects::{Object, Phase, parse, read};
use super::source::KnativeSource;
use super::usable::unavailable;
use super::{Error, Settings};

const WEBHOOK: &str = "\
# A license.

apiVersion: apps/v1
kind: Deployment
metadata: {name: webhook, namespace: knative-serving}
spec:
  template:
    spec:
      containers:
      - {name: webhook, image: ko://knative.dev/serving/cmd/webhook, ports: [{containerPort: 8443}]}
---
apiVersion: admissionregistration.k8s.io/v1
kind: ValidatingWebhookConfiguration
metadata: {name: config.webhook.serving.knative.dev}
---
# nothing
---
apiVersion: autoscaling/v2
kind: HorizontalPodAutoscaler
metadata: {name: webhook, namespace: knative-serving}
";

const CONFIG: &str = "\
apiVersion: v1
kind: ConfigMap
metadata: {name: config-deployment, namespace: knative-serving}
data:
  _example: \"queue-sidecar-image: unset\"
  queue-sidecar-image: gcr.io/knative-releases/knative.dev/serving/cmd/queue@sha256:abc
---
apiVersion: v1
kind: ConfigMap
metadata: {name: config-autoscaler, namespace: knative-serving}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: services.serving.knative.dev}
---
apiVersion: v1
kind: Namespace
metadata: {name: knative-serving}
";

fn objects(text: &str) -> Result<Vec<Object>, Error> {
    parse(Path::new("config/some.yaml"), text)
}

fn refused(code: u16) -> kube::Error {
    let status = kube::core::Status { code, ..kube::core::Status::default() };
    kube::Error::Api(Box::new(status))
}

/// A folder with a Knative Serving of the YAML above.
fn folder() -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for program in ["activator", "autoscaler", "controller", "queue", "webhook"] {
        std::fs::write(dir.path().join(program), program).unwrap();
    }
    let deep = dir.path().join("config/core/deployments");
    std::fs::create_dir_all(&deep).unwrap();
    std::fs::write(deep.join("webhook.yaml"), WEBHOOK).unwrap();
    std::fs::write(deep.join("notes.txt"), "kind: Nothing").unwrap();
    std::fs::write(dir.path().join("config/config.yaml"), CONFIG).unwrap();
    dir
}

#[test]
fn images_to_be_built_get_the_names_of_those_that_were() {
    let found = objects(WEBHOOK).unwrap();
    let image = found[0].value.pointer("/spec/template/spec/containers/0/image");
    assert_eq!(image, Some(&json!("dev.local/serving/webhook:v1")));
    let found = objects(CONFIG).unwrap();
    assert_eq!(found[0].value["data"]["queue-sidecar-image"], "dev.local/serving/queue:v1");
    // Whatever only looks similar stays as it is.
    assert_eq!(found[0].value["data"]["_example"], "queue-sidecar-image: unset");
}

#[test]
fn an_image_that_is_not_built_is_named_with_its_object() {
    let job =
        "apiVersion: batch/v1\nkind: Job\nmetadata: {name: migrate}\nspec: {image: ko://knative.dev/pkg/cmd/migrate}\n";
    let error = objects(job).unwrap_err().to_string();
    let expected =
        "config/some.yaml: Job migrate has the image ko://knative.dev/pkg/cmd/migrate, which is not built here";
    assert_eq!(error, expected);
}

#[test]
fn what_is_no_object_is_named_with_its_file() {
    for (text, reason) in [
        ("kind: Job\n", "a Job without name"),
        ("metadata: {name: x}\n", "an object without kind"),
        ("kind: Job\nmetadata: {name: x}\n", "Job x without apiVersion"),
    ] {
        assert_eq!(objects(text).unwrap_err().to_string(), format!("config/some.yaml: {reason}"));
    }
    let error = objects("kind: [\n").unwrap_err().to_string();
    assert!(error.starts_with("config/some.yaml: "), "{error}");
}

#[test]
fn webhooks_come_last_and_namespaces_first() {
    let dir = folder();
    let source = KnativeSource::folder(dir.path(), Path::new("/nowhere")).unwrap();
    let found = read(&source, &Settings::default()).unwrap();
    let order: Vec<String> = found.iter().map(ToString::to_string).collect();
    let expected = [
        "Namespace knative-serving",
        "CustomResourceDefinition services.serving.knative.dev",
        "ConfigMap knative-serving/config-deployment",
        "ConfigMap knative-serving/config-autoscaler",
        "Deployment knative-serving/webhook",
        "ValidatingWebhookConfiguration config.webhook.serving.knative.dev",
    ];
    assert_eq!(order, expected);
    assert!(Phase::ALL.is_sorted());
}

#[test]
fn settings_are_set_beside_what_is_there() {
    let dir = folder();
    let source = KnativeSource::folder(dir.path(), Path::new("/nowhere")).unwrap();
    let data = |settings: &Settings, name: &str| -> Value {
        let found = read(&source, settings).unwrap();
        found.into_iter().find(|object| object.name == name).unwrap().value["data"].clone()
    };
    let usual = Settings::default();
    assert_eq!(data(&usual, "config-autoscaler"), json!({"allow-zero-initial-scale": "true"}));
    assert_eq!(data(&usual, "config-deployment")["queue-sidecar-image"], "dev.local/serving/queue:v1");

    let keys = BTreeMap::from([("progress-deadline".to_owned(), "10s".to_owned())]);
    let absent = Settings { config: BTreeMap::from([("config-deploy".to_owned(), keys)]), ..Settings::default() };
    let error = read(&source, &absent).unwrap_err().to_string();
    let expected = "there is no ConfigMap config-deploy to set progress-deadline in; there are config-deployment, config-autoscaler";
    assert_eq!(error, expected);
}

#[test]
fn a_folder_that_is_no_knative_says_what_belongs_there() {
    let dir = folder();
    let wrong = || KnativeSource::folder(dir.path(), Path::new("/nowhere")).unwrap_err().to_string();
    std::fs::remove_file(dir.path().join("queue")).unwrap();
    let error = wrong();
    assert!(error.contains("no program queue in it") && error.contains("go build -o"), "{error}");
    std::fs::write(dir.path().join("queue"), "").unwrap();
    std::fs::remove_dir_all(dir.path().join("config")).unwrap();
    let error = wrong();
    assert!(error.contains("no folder config") && error.contains("cp -rL"), "{error}");
}

#[test]
fn images_of_a_folder_are_made_each_time() {
    let (dir, archives) = (folder(), tempfile::tempdir().unwrap());
    let source = KnativeSource::folder(dir.path(), archives.path()).unwrap();
    let made = source.images().unwrap();
    let names: Vec<&str> = made.iter().map(|image| image.reference.as_str()).collect();
    let expected = ["activator", "autoscaler", "controller", "queue", "webhook"];
    assert_eq!(names, expected.map(|program| format!("dev.local/serving/{program}:v1")));
    let before = std::fs::read(&made[3].archive).unwrap();
    std::fs::write(dir.path().join("queue"), "another").unwrap();
    source.images().unwrap();
    assert_ne!(std::fs::read(&made[3].archive).unwrap(), before);
}

#[test]
fn another_setting_is_another_installation() {
    let dir = folder();
    let source = KnativeSource::folder(dir.path(), Path::new("/nowhere")).unwrap();
    let with = |settings: &Settings| digest(&read(&source, settings).unwrap());
    let usual = with(&Settings::default());
    assert_eq!(usual, with(&Settings::default()));
    assert_ne!(usual, with(&Settings { config: BTreeMap::new(), ..Settings::default() }));
}

#[test]
fn only_refusals_that_may_pass_are_tried_again() {
    for code in [404, 409, 429, 500, 503] {
        assert!(may_pass(&refused(code)), "{code}");
    }
    for code in [400, 401, 403, 413, 422] {
        assert!(!may_pass(&refused(code)), "{code}");
    }
}

fn deployment(name: &str, available: &str) -> Deployment {
    let value = json!({
        "metadata": {"name": name, "generation": 2},
        "status": {"observedGeneration": 2, "conditions": [{"type": "Available", "status": available}]},
    });
    serde_json::from_value(value).unwrap()
}

fn pod(app: &str, status: &Value) -> Pod {
    serde_json::from_value(json!({"metadata": {"labels": {"app": app}}, "status": status})).unwrap()
}

#[test]
fn a_deployment_that_is_not_available_says_what_its_pod_says() {
    let mut deployments: Vec<Deployment> =
        ["activator", "autoscaler", "controller", "webhook"].map(|name| deployment(name, "True")).into();
    assert_eq!(unavailable(&deployments, &[]), None);

    deployments[0] = deployment("activator", "False");
    deployments[1].metadata.generation = Some(3);
    deployments.remove(2);
    let waiting = json!({"waiting": {"reason": "ErrImagePull", "message": "not found"}});
    let statuses =
        json!([{"name": "a", "image": "", "imageID": "", "ready": false, "restartCount": 0, "state": waiting}]);
    let pods = [
        pod("activator", &json!({"phase": "Pending", "containerStatuses": statuses})),
        pod("autoscaler", &json!({"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})),
    ];
    let expected = "activator: ErrImagePull: not found; \
        autoscaler: pods are ready, the Deployment does not say so yet; controller: no pod yet";
    assert_eq!(unavailable(&deployments, &pods).as_deref(), Some(expected));

    let unscheduled = json!({"conditions": [{"type": "PodScheduled", "status": "False", "message": "0/1 nodes"}]});
    let pods = [pod("activator", &unscheduled), pod("controller", &json!({"phase": "Running"}))];
    let expected = "activator: 0/1 nodes; autoscaler: no pod yet; controller: pod Running, not ready";
    assert_eq!(unavailable(&deployments, &pods).as_deref(), Some(expected));
}
