//! What kwok does to nodes and pods, as its `Stage` objects.
//!
//! Status templates are Go templates that give YAML. There are no delays and no jitter: a test waits for a state, not for luck.

use std::time::Duration;

use serde_json::{Value, json};

/// Label of a pod whose status is written over and over, as a kubelet does it with a busy pod: what a claim's
/// compare-and-swap must not trip over.
pub const RESTLESS: &str = "e2e.kferving.dev/restless";

/// The stage that makes a node Ready, with more room than any test fills.
const NODE_READY: &str = r#"
{{ $now := Now }}
conditions:
- {type: Ready, status: "True", reason: Simulated, message: "", lastHeartbeatTime: {{ Quote $now }}, lastTransitionTime: {{ Quote $now }}}
addresses:
- {type: Hostname, address: {{ Quote .metadata.name }}}
allocatable: {cpu: 1k, memory: 10Ti, pods: 10k}
capacity: {cpu: 1k, memory: 10Ti, pods: 10k}
"#;

/// The stage that makes a pod Ready.
const POD_READY: &str = r#"
{{ $now := Now }}
phase: Running
startTime: {{ Quote $now }}
conditions:
{{ range $type := list "Initialized" "ContainersReady" "Ready" }}
- {type: {{ $type }}, status: "True", lastTransitionTime: {{ Quote $now }}}
{{ end }}
containerStatuses:
{{ range .spec.containers }}
- name: {{ Quote .name }}
  image: {{ Quote .image }}
  imageID: ""
  ready: true
  started: true
  restartCount: 0
  state: {running: {startedAt: {{ Quote $now }}}}
{{ end }}
podIP: {{ PodIPWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace | Quote }}
podIPs:
- ip: {{ PodIPWith .spec.nodeName false .metadata.uid .metadata.name .metadata.namespace | Quote }}
"#;

/// The stage that writes a pod's status: the time in it makes every write a change.
const POD_BEAT: &str = r#"
{{ $now := Now }}
conditions:
- {type: e2e.kferving.dev/beat, status: "True", message: {{ Quote $now }}, lastTransitionTime: {{ Quote $now }}}
"#;

/// All stages, as the YAML documents that kwok reads.
pub(super) fn document(beat: Duration) -> String {
    let ready = r#".status.conditions.[] | select( .type == "Ready" ) | .status"#;
    let not_ready = json!({"key": ready, "operator": "NotIn", "values": ["True"]});
    let deletion = |operator: &str| json!({"key": ".metadata.deletionTimestamp", "operator": operator});
    let phase = |phase: &str| json!({"key": ".status.phase", "operator": "In", "values": [phase]});
    let writes = |template: &str| json!({"statusTemplate": template});

    let node_ready = stage("node-ready", "Node", json!({"matchExpressions": [not_ready]}), writes(NODE_READY));
    let pending = json!({"matchExpressions": [deletion("DoesNotExist"), phase("Pending"), not_ready]});
    let pod_ready = stage("pod-ready", "Pod", pending, writes(POD_READY));
    let going = json!({"matchExpressions": [deletion("Exists")]});
    let pod_gone = stage("pod-gone", "Pod", going, json!({"delete": true}));
    let restless = json!({
        "matchLabels": {RESTLESS: "true"},
        "matchExpressions": [deletion("DoesNotExist"), phase("Running")],
    });
    let mut pod_beat = stage("pod-beat", "Pod", restless, writes(POD_BEAT));
    pod_beat["spec"]["delay"] = json!({"durationMilliseconds": u64::try_from(beat.as_millis()).unwrap_or(u64::MAX)});
    // JSON is YAML: no writer has to quote the templates.
    [node_ready, pod_ready, pod_gone, pod_beat].map(|stage| stage.to_string()).join("\n---\n")
}

fn stage(name: &str, kind: &str, selector: Value, next: Value) -> Value {
    let mut stage = json!({
        "apiVersion": "kwok.x-k8s.io/v1alpha1",
        "kind": "Stage",
        "metadata": {"name": name},
        "spec": {"resourceRef": {"apiGroup": "v1", "kind": kind}},
    });
    stage["spec"]["selector"] = selector;
    stage["spec"]["next"] = next;
    stage
}
