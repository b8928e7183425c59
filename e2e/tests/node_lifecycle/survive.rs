//! What later tests do to a cluster, and what it must survive: a component killed, a pod killed and resized, containerd
//! restarted, the API server away for a minute.

use std::path::PathBuf;
use std::time::Duration;

use e2e::cluster::{Cluster, ComponentState, TestCluster};
use e2e::process::{Progress, wait_until};
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};

use super::cli::{Moment, OwnCluster, printed, program, succeeded};
use super::leave_nothing::block_on;
use super::ready;
use super::traces::Tree;

/// Every wait for the cluster; it shares two cores with whatever else runs.
const DEADLINE: Duration = Duration::from_secs(180);

/// How long the API server is away: longer than leases (15 s) and the node's grace period (40 s).
const OUTAGE: Duration = Duration::from_secs(60);

#[test]
#[ignore = "needs a cluster and root: make e2e"]
fn a_second_up_does_nothing() {
    block_on(async {
        let tests = TestCluster::from_env().await.unwrap();
        let Some(rig) = tests.rig_or_skip("starts the cluster of this machine again") else { return };
        let output = program().args(place(rig)).arg("up").output().unwrap();
        let text = succeeded(&output);
        assert!(text.contains("runs already"), "{text}");
        let after = Cluster::get(rig.place()).unwrap();
        assert_eq!(after.init_pid(), rig.init_pid(), "the same processes");
    });
}

#[test]
#[ignore = "needs a cluster and root: make e2e"]
fn a_component_that_crashes_is_named_and_started_again() {
    block_on(async {
        let tests = TestCluster::from_env().await.unwrap();
        let Some(rig) = tests.rig_or_skip("kills a process of the node") else { return };
        let inside = running(rig, "kube-proxy").await.expect("it runs");
        succeeded(&program().args(place(rig)).args(["enter", "kill", "-KILL", &inside.to_string()]).output().unwrap());
        let status = eventually("the crash to be noticed", || async {
            let status = program().args(place(rig)).arg("status").output().map_err(|error| error.to_string())?;
            if status.status.success() { Err("all components run".to_owned()) } else { Ok(printed(&status)) }
        });
        let status = status.await;
        assert!(status.contains("kube-proxy ended by itself (signal: 9 (SIGKILL))"), "{status}");
        assert!(status.contains("the end of"), "with its log: {status}");

        let up = succeeded(&program().args(place(rig)).arg("up").output().unwrap());
        assert!(up.contains("kube-proxy ended by itself") && up.contains("started again"), "{up}");
        assert_ne!(running(rig, "kube-proxy").await, Some(inside), "another process");
        assert!(running(rig, "kube-proxy").await.is_some());
    });
}

/// The start itself is what fails here: no later command is there to ask.
#[test]
#[ignore = "needs root: make e2e"]
fn a_component_that_crashes_during_the_start_is_named_with_the_end_of_its_log() {
    let Some(own) = OwnCluster::new("crash") else { return };
    let up = own.begin(&Moment::Logging("kube-apiserver"));
    let record: Value = serde_json::from_slice(&std::fs::read(own.state().join("cluster.json")).unwrap()).unwrap();
    let init = u32::try_from(record["init"]["pid"].as_u64().unwrap()).unwrap();
    let etcd = Tree::of(init).find("etcd").expect("etcd runs");
    kill_process(Pid::from_raw(i32::try_from(etcd).unwrap()).unwrap(), Signal::KILL).unwrap();
    let output = up.wait_with_output().unwrap();
    assert!(!output.status.success());
    let text = printed(&output);
    let log = own.place().logs().join("etcd.log");
    assert!(text.contains("etcd ended by itself (signal: 9 (SIGKILL)); the end of"), "{text}");
    let last = std::fs::read_to_string(&log).unwrap();
    assert!(text.contains(last.lines().next_back().expect("etcd had logged").trim()), "{text}");
}

#[test]
#[ignore = "needs a cluster with a node: make e2e"]
fn a_resize_in_place_reaches_the_cgroup() {
    block_on(async {
        let tests = TestCluster::from_env().await.unwrap();
        let Some(rig) = tests.rig_or_skip("reads the cgroup of a container") else { return };
        tests
            .in_namespace("resize", async |namespace| {
                let pods: Api<Pod> = Api::namespaced(tests.client().clone(), &namespace);
                pods.create(&PostParams::default(), &pause("resized", "250m")).await.unwrap();
                let before = ready(&pods, "resized").await;
                assert_eq!(quota(rig, &before), Some(25_000), "a quarter of 100 ms");

                let resize = json!({"spec": {"containers": [{
                    "name": "pause", "resources": {"requests": {"cpu": "500m"}, "limits": {"cpu": "500m"}},
                }]}});
                pods.patch_resize("resized", &PatchParams::default(), &Patch::Strategic(resize)).await.unwrap();
                eventually("the new limit in the container's cgroup", || async {
                    match quota(rig, &before) {
                        Some(50_000) => Ok(()),
                        other => Err(format!("its quota is {other:?} µs")),
                    }
                })
                .await;
                let after = pods.get("resized").await.unwrap();
                assert_eq!(restarts(&after), 0, "in place");
                assert_eq!(container_id(&after), container_id(&before), "in place");
            })
            .await;
    });
}

#[test]
#[ignore = "needs a cluster with a node: make e2e"]
fn a_pod_whose_process_is_killed_comes_back() {
    block_on(async {
        let tests = TestCluster::from_env().await.unwrap();
        let Some(rig) = tests.rig_or_skip("kills the process of a pod") else { return };
        tests
            .in_namespace("killed", async |namespace| {
                let pods: Api<Pod> = Api::namespaced(tests.client().clone(), &namespace);
                pods.create(&PostParams::default(), &pause("victim", "100m")).await.unwrap();
                let before = ready(&pods, "victim").await;
                let process = first_process(rig, &before).expect("it runs");
                kill_process(process, Signal::KILL).unwrap();
                eventually("the container to be started again", || async {
                    let pod = pods.get("victim").await.map_err(|error| error.to_string())?;
                    if restarts(&pod) == 1 && ready::pod(&pod) { Ok(()) } else { Err(format!("{:?}", pod.status)) }
                })
                .await;
                pods.delete("victim", &DeleteParams::default().grace_period(0)).await.unwrap();
                eventually("the deleted pod to be gone", || gone(&pods, "victim")).await;
            })
            .await;
    });
}

#[test]
#[ignore = "needs a cluster and root: make e2e"]
fn pods_outlive_a_restart_of_containerd() {
    block_on(async {
        let tests = TestCluster::from_env().await.unwrap();
        let Some(rig) = tests.rig_or_skip("restarts containerd") else { return };
        tests
            .in_namespace("containerd", async |namespace| {
                let pods: Api<Pod> = Api::namespaced(tests.client().clone(), &namespace);
                pods.create(&PostParams::default(), &pause("steady", "100m")).await.unwrap();
                let before = ready(&pods, "steady").await;
                let process = first_process(rig, &before);
                assert!(process.is_some());
                rig.stop("containerd").await.unwrap();
                assert_eq!(running(rig, "containerd").await, None);
                rig.start("containerd").await.unwrap();

                pods.create(&PostParams::default(), &pause("later", "100m")).await.unwrap();
                ready(&pods, "later").await;
                let after = ready(&pods, "steady").await;
                assert_eq!(restarts(&after), 0);
                assert_eq!(first_process(rig, &after), process, "the same process");
            })
            .await;
        node_is_ready(&tests).await;
    });
}

#[test]
#[ignore = "needs a cluster and two minutes: make e2e"]
fn the_cluster_outlives_a_minute_without_its_api_server() {
    block_on(async {
        let tests = TestCluster::from_env().await.unwrap();
        let Some(rig) = tests.rig_or_skip("stops the API server") else { return };
        tests
            .in_namespace("outage", async |namespace| {
                let pods: Api<Pod> = Api::namespaced(tests.client().clone(), &namespace);
                pods.create(&PostParams::default(), &pause("steady", "100m")).await.unwrap();
                let before = ready(&pods, "steady").await;
                rig.stop("kube-apiserver").await.unwrap();
                pods.get("steady").await.expect_err("nobody answers");
                tokio::time::sleep(OUTAGE).await;
                assert!(first_process(rig, &before).is_some(), "the pod runs on");
                rig.start("kube-apiserver").await.unwrap();

                eventually("the API server to answer", || async {
                    pods.get("steady").await.map(drop).map_err(|error| error.to_string())
                })
                .await;
                node_is_ready(&tests).await;
                assert_eq!(restarts(&ready(&pods, "steady").await), 0);
                pods.create(&PostParams::default(), &pause("later", "100m")).await.unwrap();
                ready(&pods, "later").await;
                eventually("every component to run", || async {
                    let components = rig.components().await.map_err(|error| error.to_string())?;
                    let ended = components.iter().find(|one| !matches!(one.state, ComponentState::Running(_)));
                    ended.map_or(Ok(()), |one| Err(format!("{}: {:?}", one.name, one.state)))
                })
                .await;
            })
            .await;
    });
}

/// A pod that does nothing, with a CPU limit.
fn pause(name: &str, cpu: &str) -> Pod {
    let pod = json!({
        "metadata": {"name": name},
        "spec": {"terminationGracePeriodSeconds": 1, "containers": [{
            "name": "pause", "image": "dev.local/pause:v1", "imagePullPolicy": "IfNotPresent",
            "resources": {"requests": {"cpu": cpu}, "limits": {"cpu": cpu}},
        }]},
    });
    serde_json::from_value(pod).unwrap()
}

async fn ready(pods: &Api<Pod>, name: &str) -> Pod {
    eventually(&format!("pod {name} to be ready"), || async {
        let pod = pods.get(name).await.map_err(|error| error.to_string())?;
        if ready::pod(&pod) { Ok(pod) } else { Err(format!("{:?}", pod.status)) }
    })
    .await
}

async fn node_is_ready(tests: &TestCluster) {
    let nodes: Api<Node> = Api::all(tests.client().clone());
    eventually("the node to be ready", || async {
        let all = nodes.list(&ListParams::default()).await.map_err(|error| error.to_string())?;
        if all.items.iter().any(ready::node) { Ok(()) } else { Err("it is not".to_owned()) }
    })
    .await;
}

async fn gone(pods: &Api<Pod>, name: &str) -> Result<(), String> {
    match pods.get_opt(name).await {
        Ok(None) => Ok(()),
        Ok(Some(_)) => Err("it is still there".to_owned()),
        Err(error) => Err(error.to_string()),
    }
}

fn restarts(pod: &Pod) -> i32 {
    let statuses = pod.status.as_ref().and_then(|status| status.container_statuses.as_ref());
    statuses.into_iter().flatten().map(|status| status.restart_count).sum()
}

fn container_id(pod: &Pod) -> Option<&str> {
    pod.status.as_ref()?.container_statuses.as_ref()?.first()?.container_id.as_deref()
}

/// The cgroup of the pod's only container, in the hierarchy of the `cpu` controller: the only one with version 2.
fn cgroup(rig: &Cluster, pod: &Pod) -> Option<PathBuf> {
    let mounts =
        ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup"].map(|mount| PathBuf::from(mount).join(rig.place().cgroup_root()));
    let root = mounts.into_iter().find(|root| root.exists())?.join("kubepods");
    let container = container_id(pod)?.strip_prefix("containerd://")?;
    let relative = PathBuf::from(format!("pod{}", pod.metadata.uid.as_ref()?)).join(container);
    ["", "burstable", "besteffort"].map(|class| root.join(class).join(&relative)).into_iter().find(|path| path.exists())
}

/// The CPU quota of the pod's container, in µs per 100 ms.
fn quota(rig: &Cluster, pod: &Pod) -> Option<u32> {
    let cgroup = cgroup(rig, pod)?;
    let one = || std::fs::read_to_string(cgroup.join("cpu.cfs_quota_us"));
    // Version 2 has the period beside it: "25000 100000".
    let quota = std::fs::read_to_string(cgroup.join("cpu.max")).or_else(|_| one()).ok()?;
    quota.split_ascii_whitespace().next()?.parse().ok()
}

/// The first process of the pod's container, by its number on this machine.
fn first_process(rig: &Cluster, pod: &Pod) -> Option<Pid> {
    let list = std::fs::read_to_string(cgroup(rig, pod)?.join("cgroup.procs")).ok()?;
    Pid::from_raw(list.lines().next()?.parse().ok()?)
}

/// The process id of a component inside, when it runs.
async fn running(rig: &Cluster, component: &str) -> Option<u32> {
    rig.components().await.unwrap().into_iter().find_map(|one| match one.state {
        ComponentState::Running(pid) if one.name == component => Some(pid),
        _ => None,
    })
}

fn place(rig: &Cluster) -> Vec<std::ffi::OsString> {
    ["--name".into(), rig.place().name().into(), "--state".into(), rig.place().state().into()].into()
}

async fn eventually<T, F: Future<Output = Result<T, String>>>(what: &str, probe: impl FnMut() -> F) -> T {
    wait_until(what, DEADLINE, &Progress::silent(), probe).await.unwrap_or_else(|error| panic!("{error}"))
}
