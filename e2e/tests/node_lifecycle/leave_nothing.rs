//! Two clusters beside each other, and nothing of them afterwards; none of an interrupted start either.

use std::process::Stdio;
use std::thread;

use e2e::cluster::Cluster;
use k8s_openapi::api::core::v1::{Node, Pod};
use kube::Api;
use kube::api::ListParams;
use rustix::process::{Pid, Signal, kill_process};

use super::cli::{Moment, OwnCluster, eventually, printed, succeeded};
use super::ready;
use super::traces::{Machine, Tree, cgroups_of, processes_of};

#[test]
#[ignore = "needs root and a minute: make e2e"]
fn two_clusters_side_by_side_leave_nothing() {
    let (Some(one), Some(two)) = (OwnCluster::new("one"), OwnCluster::new("two")) else { return };
    let before = Machine::now();
    let (first, second) = thread::scope(|scope| {
        let first = scope.spawn(|| one.up());
        let second = scope.spawn(|| two.up());
        (first.join().unwrap(), second.join().unwrap())
    });
    before.assert_same(&Machine::now());
    assert_eq!(nodes(&first), ["kferving-one"]);
    assert_eq!(nodes(&second), ["kferving-two"]);
    for cluster in [&first, &second] {
        assert_eq!(pods_not_ready(cluster), [""; 0], "in {}", cluster.place().name());
    }
    let (tree_one, tree_two) = (Tree::of(first.init_pid()), Tree::of(second.init_pid()));
    assert!(tree_one.processes() > 10, "components and pods: {tree_one:?}");

    succeeded(&one.run(&["down"]));
    assert_gone(&one, &tree_one);
    assert_eq!(nodes(&second), ["kferving-two"], "the other one goes on");
    assert!(second.place().kubeconfig().exists());

    succeeded(&two.run(&["down"]));
    assert_gone(&two, &tree_two);
    before.assert_same(&Machine::now());
    assert!(two.place().logs().join("kubelet.log").exists(), "the logs stay");
    let again = succeeded(&two.run(&["down"]));
    assert!(again.contains("did not run"), "{again}");
}

#[test]
#[ignore = "needs root and a minute: make e2e"]
fn a_start_that_is_killed_leaves_no_process_and_the_next_one_works() {
    let Some(own) = OwnCluster::new("killed") else { return };
    let before = Machine::now();
    for moment in [Moment::TreeStarted, Moment::Logging("etcd"), Moment::Logging("kubelet")] {
        let mut up = own.begin(&moment);
        up.kill().unwrap();
        up.wait().unwrap();
        eventually(&format!("after SIGKILL at {moment:?}, the end of all processes"), || no_processes(&own));
    }
    assert!(!cgroups_of(&own.place().cgroup_root()).is_empty(), "SIGKILL leaves what only the next start can remove");
    assert!(Cluster::running(&own.place()).is_none());
    let cluster = own.up();
    assert_eq!(nodes(&cluster), ["kferving-killed"]);
    let tree = Tree::of(cluster.init_pid());
    succeeded(&own.run(&["down"]));
    assert_gone(&own, &tree);
    before.assert_same(&Machine::now());
}

#[test]
#[ignore = "needs root: make e2e"]
fn an_interrupted_start_cleans_up_itself() {
    let Some(own) = OwnCluster::new("interrupted") else { return };
    for (signal, word) in [(Signal::INT, "interrupted"), (Signal::TERM, "terminated")] {
        let up = own.begin(&Moment::Logging("kube-apiserver"));
        kill_process(Pid::from_child(&up), signal).unwrap();
        let output = up.wait_with_output().unwrap();
        assert!(!output.status.success(), "{word}: {}", printed(&output));
        assert_eq!(no_processes(&own), Ok(()));
        assert_eq!(cgroups_of(&own.place().cgroup_root()), [""; 0].map(std::path::PathBuf::from));
        assert!(!own.state().join("data").exists());
    }
}

#[test]
#[ignore = "needs root and a minute: make e2e"]
fn a_cluster_that_was_started_for_a_command_ends_with_it() {
    let Some(own) = OwnCluster::new("during") else { return };
    let output = own.run(&["during", "sh", "-c", "test -s \"$KUBECONFIG\" && echo usable && exit 7"]);
    assert_eq!(output.status.code(), Some(7), "the command's own: {}", printed(&output));
    assert!(printed(&output).contains("usable"), "{}", printed(&output));
    assert_eq!(no_processes(&own), Ok(()));
    assert!(cgroups_of(&own.place().cgroup_root()).is_empty());

    // Killed while its command runs, it cannot stop the cluster: the cluster notices.
    let mut during =
        own.command(&["during", "sleep", "600"]).stderr(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
    let cluster =
        eventually("the cluster to be usable", || Cluster::get(&own.place()).map_err(|error| error.to_string()));
    let tree = Tree::of(cluster.init_pid());
    during.kill().unwrap();
    during.wait().unwrap();
    eventually("the end of all processes", || {
        if tree.left().is_empty() { Ok(()) } else { Err(format!("{:?}", tree.left())) }
    });
}

fn assert_gone(own: &OwnCluster, tree: &Tree) {
    assert_eq!(no_processes(own), Ok(()));
    assert!(tree.left().is_empty(), "processes in the cluster's namespaces: {:?}", tree.left());
    let root = own.place().cgroup_root();
    assert!(cgroups_of(&root).is_empty(), "cgroups: {:?}", cgroups_of(&root));
    assert!(!own.state().join("data").exists(), "files");
}

fn no_processes(own: &OwnCluster) -> Result<(), String> {
    let left = processes_of(own.state());
    if left.is_empty() { Ok(()) } else { Err(format!("these run: {left:?}")) }
}

fn nodes(cluster: &Cluster) -> Vec<String> {
    block_on(async {
        let nodes: Api<Node> = Api::all(cluster.client().await.unwrap());
        let all = nodes.list(&ListParams::default()).await.unwrap();
        all.items.into_iter().filter(ready::node).filter_map(|node| node.metadata.name).collect()
    })
}

fn pods_not_ready(cluster: &Cluster) -> Vec<String> {
    block_on(async {
        let pods: Api<Pod> = Api::all(cluster.client().await.unwrap());
        let all = pods.list(&ListParams::default()).await.unwrap();
        assert!(all.items.len() >= 5, "DNS and four of Knative");
        all.items.into_iter().filter(|pod| !ready::pod(pod)).filter_map(|pod| pod.metadata.name).collect()
    })
}

pub(crate) fn block_on<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}
