//! The local adapter: the behaviour of every cluster, and what is its own: processes.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Stdio;
use std::time::{Duration, Instant};

use crate::behaviour::{Fixture, PATIENCE, first, ready};
use poolctl_cluster::{
    Cluster, ClusterError, Expected, Lifecycle, LocalCluster, LocalSettings, ReplicaEvent, ReplicaUid,
};
use prometheus::Registry;
use tokio::io::{AsyncBufReadExt, BufReader};

pub(crate) fn settings(fault: &str) -> LocalSettings {
    let program = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fake-wrapper.sh");
    LocalSettings {
        environment: BTreeMap::from([("FAKE_WRAPPER".to_owned(), fault.to_owned())]),
        ..LocalSettings::new(program, "a key".to_owned())
    }
}

fn fixture_with(settings: LocalSettings) -> Fixture<LocalCluster> {
    let cluster = LocalCluster::new(settings, &Registry::new()).unwrap();
    Fixture { cluster, namespace: "vision".to_owned() }
}

fn fixture() -> Fixture<LocalCluster> {
    fixture_with(settings(""))
}

/// A replica that is ready, and its process.
async fn started(fixture: &Fixture<LocalCluster>) -> (ReplicaUid, u32) {
    let uid = fixture.cluster.create(fixture.idle()).await.unwrap().uid;
    let pid = ready(&fixture.cluster, &uid).await.pid.unwrap();
    (uid, pid)
}

macro_rules! behaves {
    ($($case:ident),* $(,)?) => {
        $(#[tokio::test]
        async fn $case() {
            crate::behaviour::$case(fixture()).await;
        })*
    };
}

behaves!(
    a_watch_lists_then_follows,
    a_replica_gets_ready,
    identities_are_unique,
    one_of_many_claims_wins,
    a_transition_tests_state_and_claim,
    a_delete_tests_its_precondition,
    nothing_happens_to_what_is_gone,
    a_cold_start_is_born_claimed,
    an_owner_is_in_the_same_namespace,
    a_slow_watcher_misses_nothing_that_lasts,
);

fn is_running(pid: u32) -> bool {
    // A zombie is not running: whoever should have reaped it is what other tests check.
    std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|rest| rest.trim_start().starts_with('Z')))
}

fn exists(pid: u32) -> bool {
    PathBuf::from(format!("/proc/{pid}")).exists()
}

/// The one process that process `pid` started.
fn child_of(pid: u32) -> u32 {
    let children = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap();
    children.trim().parse().unwrap()
}

async fn until(what: &str, condition: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "{what}: not within {PATIENCE:?}");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

/// The reason why the one replica of this fixture ended.
async fn exit_reason(fixture: &Fixture<LocalCluster>) -> String {
    let mut watch = fixture.cluster.watch();
    first(&mut watch, |event| match event {
        ReplicaEvent::Applied(replica) => match &replica.lifecycle {
            Lifecycle::Exited { reason } => Some(reason.clone()),
            _ => None,
        },
        _ => None,
    })
    .await
}

#[tokio::test]
async fn the_exit_of_a_replica_is_noticed_with_its_reason() {
    let fixture = fixture();
    let (_, pid) = started(&fixture).await;
    kill(pid);
    assert!(exit_reason(&fixture).await.contains("signal: 9"));
    assert!(!exists(pid), "it is reaped");
}

#[tokio::test]
async fn a_replica_that_is_left_alone_stays() {
    let fixture = fixture();
    let (_, pid) = started(&fixture).await;
    // Another one goes through all that a start does: time enough for the first to end if it were to.
    let other = fixture.cluster.create(fixture.idle()).await.unwrap().uid;
    ready(&fixture.cluster, &other).await;
    assert!(is_running(pid));
}

#[tokio::test]
async fn a_replica_that_dies_early_says_why() {
    let fixture = fixture_with(settings("dies-early"));
    fixture.cluster.create(fixture.idle()).await.unwrap();
    let reason = exit_reason(&fixture).await;
    assert!(reason.contains("exit status: 3") && reason.contains("cannot load the runtime"), "{reason}");
}

#[tokio::test]
async fn a_replica_that_never_gets_ready_is_killed() {
    let fixture = fixture_with(LocalSettings { start_timeout: Duration::from_millis(50), ..settings("never-ready") });
    fixture.cluster.create(fixture.idle()).await.unwrap();
    let reason = exit_reason(&fixture).await;
    assert!(reason.contains("not ready after 50ms"), "{reason}");
}

#[tokio::test]
async fn a_wrong_announcement_is_named() {
    let fixture = fixture_with(settings("bad-address"));
    fixture.cluster.create(fixture.idle()).await.unwrap();
    let reason = exit_reason(&fixture).await;
    assert!(reason.contains("ready nowhere"), "{reason}");
}

#[tokio::test]
async fn a_program_that_is_not_there_is_named() {
    let fixture = fixture_with(LocalSettings::new("/nowhere/model-wrapper".into(), "a key".to_owned()));
    fixture.cluster.create(fixture.idle()).await.unwrap();
    let reason = exit_reason(&fixture).await;
    assert!(reason.contains("/nowhere/model-wrapper"), "{reason}");
}

#[tokio::test]
async fn room_is_bounded_and_given_back() {
    let fixture = fixture_with(LocalSettings { max_replicas: 2, ..settings("") });
    let cluster = &fixture.cluster;
    let first = cluster.create(fixture.idle()).await.unwrap();
    cluster.create(fixture.idle()).await.unwrap();
    let refused = cluster.create(fixture.idle()).await;
    assert!(matches!(refused, Err(ClusterError::NoCapacity(_))), "{refused:?}");
    cluster.delete(&first.uid, &Expected::default()).await;
    let deadline = Instant::now() + PATIENCE;
    while cluster.create(fixture.idle()).await.is_err() {
        assert!(Instant::now() < deadline, "the room of a deleted replica is not given back");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[tokio::test]
async fn a_device_that_is_not_there_is_refused() {
    let fixture = fixture();
    let gpu = poolctl_cluster::NewReplica { device: "gpu".to_owned(), ..fixture.idle() };
    let refused = fixture.cluster.create(gpu).await.unwrap_err().to_string();
    assert!(refused.contains("\"gpu\"") && refused.contains("cpu"), "{refused}");
}

#[tokio::test]
async fn shutdown_returns_when_the_last_process_is_reaped() {
    let fixture = fixture();
    let mut pids = Vec::new();
    for _ in 0..3 {
        pids.push(started(&fixture).await.1);
    }
    fixture.cluster.create(fixture.idle()).await.unwrap();
    fixture.cluster.shutdown().await;
    assert_eq!(pids.iter().filter(|pid| exists(**pid)).count(), 0);
    assert!(fixture.cluster.create(fixture.idle()).await.is_err(), "nothing starts after a shutdown");
}

#[tokio::test]
async fn what_ignores_sigterm_is_killed() {
    let short = Duration::from_millis(50);
    let fixture = fixture_with(LocalSettings { stop_grace: short, ..settings("ignores-sigterm") });
    let (uid, pid) = started(&fixture).await;
    fixture.cluster.delete(&uid, &Expected::default()).await;
    until("the process is gone", || !exists(pid)).await;
}

#[tokio::test]
async fn what_a_replica_started_ends_with_it() {
    let short = Duration::from_millis(50);
    for fault in ["with-a-child", "with-a-child-that-ignores-sigterm"] {
        let fixture = fixture_with(LocalSettings { stop_grace: short, ..settings(fault) });
        let (uid, pid) = started(&fixture).await;
        let child = child_of(pid);
        fixture.cluster.delete(&uid, &Expected::default()).await;
        until("the process is gone", || !exists(pid)).await;
        until("its child is gone", || !is_running(child)).await;
    }
}

#[tokio::test]
async fn what_a_killed_replica_started_ends_with_it() {
    let fixture = fixture_with(settings("with-a-child"));
    let (_, pid) = started(&fixture).await;
    let child = child_of(pid);
    kill(pid);
    assert!(exit_reason(&fixture).await.contains("signal: 9"));
    until("its child is gone", || !is_running(child)).await;
}

#[tokio::test]
async fn what_a_replica_started_that_never_was_ready_ends_with_it() {
    // The child holds the pipes open: what waits for their end waits for this long.
    let fixture = fixture_with(LocalSettings { start_timeout: 2 * PATIENCE, ..settings("dies-early-beside-a-child") });
    fixture.cluster.create(fixture.idle()).await.unwrap();
    let reason = exit_reason(&fixture).await;
    assert!(reason.contains("exit status: 3"), "{reason}");
    let (_, child) = reason.split_once("last message: child ").unwrap();
    let child = child.trim_end_matches(')').parse().unwrap();
    until("its child is gone", || !is_running(child)).await;
}

#[test]
fn a_runtime_that_ends_leaves_no_processes() {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let (_fixture, pid, child) = runtime.block_on(async {
        let fixture = fixture_with(settings("with-a-child-that-ignores-sigterm"));
        let (_, pid) = started(&fixture).await;
        (fixture, pid, child_of(pid))
    });
    drop(runtime);
    let deadline = Instant::now() + PATIENCE;
    while is_running(pid) || is_running(child) {
        assert!(Instant::now() < deadline, "not gone within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[tokio::test]
async fn the_last_handle_takes_its_processes_along() {
    let fixture = fixture();
    let (_, pid) = started(&fixture).await;
    let second_handle = fixture.cluster.clone();
    drop(fixture);
    assert!(is_running(pid));
    drop(second_handle);
    until("the process is gone", || !exists(pid)).await;
}

/// The parent in the test below; it is run only by it.
#[tokio::test]
#[ignore = "the parent process of no_replica_outlives_a_killed_parent"]
async fn parent_that_waits_to_be_killed() {
    let fixture = fixture();
    for _ in 0..2 {
        println!("child {}", started(&fixture).await.1);
    }
    println!("children complete");
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn no_replica_outlives_a_killed_parent() {
    let mut parent = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "local::parent_that_waits_to_be_killed", "--nocapture"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let mut children = Vec::new();
    let reading = async {
        while let Some(line) = lines.next_line().await.unwrap() {
            if line.contains("children complete") {
                return;
            }
            if let Some((_, pid)) = line.split_once("child ") {
                children.push(pid.trim().parse::<u32>().unwrap());
            }
        }
        panic!("the parent ended by itself");
    };
    tokio::time::timeout(PATIENCE, reading).await.unwrap();
    assert_eq!(children.len(), 2);
    assert!(children.iter().all(|pid| is_running(*pid)));
    parent.kill().await.unwrap();
    until("the children are gone", || children.iter().all(|pid| !is_running(*pid))).await;
}

fn kill(pid: u32) {
    let pid = rustix::process::Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    rustix::process::kill_process(pid, rustix::process::Signal::KILL).unwrap();
}
