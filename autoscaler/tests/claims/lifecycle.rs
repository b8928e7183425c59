//! A replica's life: claimed or started, loaded or not, drained and gone.

use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use autoscaler::{AutoscalerStatus, Settings};
use autoscaler_policy::Revision;
use autoscaler_policy::claim::ConditionReason;
use poolctl_cluster::{LocalCluster, Replica, ReplicaState};
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncBufReadExt, BufReader};

use crate::gateway::FakeGateway;
use crate::request::{SlowRequest, predict};
use crate::stack::{NAMESPACE, PATIENCE, Running, Stack, count, revision, serves_once};

async fn connected(stack: &Stack, revisions: Vec<Revision>) -> (Running<LocalCluster>, FakeGateway) {
    let running = stack.start(Settings::default(), revisions);
    let gateway = FakeGateway::new("gateway-1");
    gateway.connect(&running.socket).await;
    gateway.until("the gateway is welcome", |known| known.synced).await;
    (running, gateway)
}

fn signal(replica: &Replica, signal: Signal) {
    let pid = Pid::from_raw(i32::try_from(replica.pid.unwrap()).unwrap()).unwrap();
    kill_process(pid, signal).unwrap();
}

fn origin(status: &AutoscalerStatus) -> &'static str {
    status.revisions[0].last_activation.as_ref().unwrap().origin
}

/// A revision whose model cannot be what its digest says.
fn broken(model: &str) -> Revision {
    Revision { digest: format!("sha256:{}", "0".repeat(64)).into(), ..revision(model) }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_held_request_claims_from_the_pool() {
    let stack = Stack::with_pool(2).await;
    let (running, gateway) = connected(&stack, vec![revision("digits")]).await;
    assert!(gateway.known().replicas.is_empty());
    gateway.hold("digits");
    let added = gateway.until_served("digits").await;
    assert_eq!((added.device.as_str(), added.concurrency), ("cpu", 4));
    assert!(added.phases.unwrap().load_us > 0);
    assert_eq!(predict(&added).await, 200);
    serves_once(&stack, &gateway, "digits").await;

    let status = running.autoscaler.status();
    assert!(status.leading);
    assert_eq!((origin(&status), status.revisions[0].ready, status.revisions[0].desired), ("pool", 1, 1));
    assert_eq!((status.pools[0].hits, status.pools[0].misses), (1, 0));
    assert!(status.revisions[0].why.is_some());
    let serving = stack.replicas().await.into_iter().find(|replica| replica.state == ReplicaState::Serving).unwrap();
    assert_eq!(serving.serving.as_ref().unwrap().service, "digits-cpu");
    assert_eq!(serving.claim.as_ref().unwrap().id, added.claim_id);

    let metric = |name: &str, labels: &[(&str, &str)]| running.metric(name, labels);
    assert_eq!(metric("kferving_autoscaler_writes_total", &[("write", "claim"), ("outcome", "won")]), 1.0);
    assert_eq!(metric("kferving_autoscaler_specializations_total", &[("outcome", "loaded")]), 1.0);
    assert_eq!(metric("kferving_autoscaler_activations_total", &[("origin", "pool")]), 1.0);
    assert_eq!(metric("kferving_autoscaler_desired_replicas", &[("model", "digits"), ("device", "cpu")]), 1.0);
    for kind in ["store", "specialize", "query", "drain"] {
        assert_eq!(metric("kferving_autoscaler_effects", &[("kind", kind)]), 0.0, "{kind}");
    }
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_pool_is_a_cold_start() {
    let stack = Stack::with_pool(0).await;
    let (running, gateway) = connected(&stack, vec![revision("digits")]).await;
    gateway.hold("digits");
    serves_once(&stack, &gateway, "digits").await;
    let status = running.autoscaler.status();
    assert_eq!(origin(&status), "cold");
    assert_eq!((status.pools[0].hits, status.pools[0].misses), (0, 1));
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn two_models_do_not_share_a_replica() {
    let stack = Stack::with_pool(2).await;
    let (_running, gateway) = connected(&stack, vec![revision("digits"), revision("letters")]).await;
    gateway.hold("digits");
    gateway.hold("letters");
    let digits = gateway.until_served("digits").await;
    let letters = gateway.until_served("letters").await;
    assert_ne!(digits.uid, letters.uid);
    assert_eq!(predict(&digits).await, 200);
    assert_eq!(predict(&letters).await, 200);
    // What the one is loaded for, the other's requests do not reach.
    let confused = autoscaler_demand::ReplicaAdded { address: letters.address, ..digits };
    assert_eq!(predict(&confused).await, 421);
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_killed_while_it_loads_is_replaced() {
    let stack = Stack::with_pool(2).await;
    let (running, gateway) = connected(&stack, vec![revision("digits")]).await;
    let pool = stack.replicas().await;
    for replica in &pool {
        signal(replica, Signal::STOP);
    }
    gateway.hold("digits");
    let replicas = stack.until("one is claimed", |replicas| count(replicas, ReplicaState::Claimed) == 1).await;
    let claimed = replicas.into_iter().find(|replica| replica.state == ReplicaState::Claimed).unwrap();
    signal(&claimed, Signal::KILL);
    for replica in pool.iter().filter(|replica| replica.uid != claimed.uid) {
        signal(replica, Signal::CONT);
    }
    serves_once(&stack, &gateway, "digits").await;
    assert!(!gateway.known().replicas.contains_key(&claimed.uid.0));
    let status = running.autoscaler.status();
    assert_eq!((status.pools[0].hits, status.pools[0].misses), (1, 0), "a claim that failed is no hit");
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pause_after_a_failed_load_is_told_apart_from_the_claim() {
    let stack = Stack::with_pool(3).await;
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("late.onnx");
    let mut late = revision("digits");
    let present = late.source.uri.trim_start_matches("file://").to_owned();
    late.source.uri = format!("file://{}", path.display()).into();
    let (running, gateway) = connected(&stack, vec![late]).await;
    gateway.hold("digits");
    gateway.until("load-failed is told", |known| known.troubles > 0).await;
    std::fs::copy(present, directory.path().join("partial")).unwrap();
    std::fs::rename(directory.path().join("partial"), &path).unwrap();
    let phases = gateway.until_served("digits").await.phases.unwrap();
    let pause = Settings::default().claims.backoff_first;
    assert!(Duration::from_micros(phases.backoff_us) >= pause, "{phases:?}");
    let told = running.autoscaler.status().revisions[0].last_activation.clone().unwrap();
    let microseconds = |milliseconds: f64| (milliseconds * 1e3).round() as u64;
    assert_eq!((microseconds(told.backoff_ms), microseconds(told.claim_ms)), (phases.backoff_us, phases.claim_us));
    let sums = |phase| running.metric("kferving_autoscaler_activation_seconds", &[("phase", phase)]);
    let summed = |phase| microseconds(sums(phase) * 1e3);
    assert_eq!((summed("backoff"), summed("claim")), (phases.backoff_us, phases.claim_us));
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_serving_replica_that_dies_is_replaced() {
    let stack = Stack::with_pool(2).await;
    let (_running, gateway) = connected(&stack, vec![revision("digits")]).await;
    gateway.hold("digits");
    let first = gateway.until_served("digits").await;
    let replicas = stack.until("it serves", |replicas| count(replicas, ReplicaState::Serving) == 1).await;
    signal(replicas.iter().find(|replica| replica.uid.0 == first.uid).unwrap(), Signal::KILL);
    gateway.until("the dead one is dropped", |known| !known.replicas.contains_key(&first.uid)).await;
    serves_once(&stack, &gateway, "digits").await;
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_model_that_cannot_be_loaded_does_not_eat_the_pool() {
    let stack = Stack::with_pool(4).await;
    let (running, gateway) = connected(&stack, vec![broken("broken"), revision("digits")]).await;
    gateway.hold("broken");
    let reason = |known: &crate::gateway::Known| known.models.get("broken").map(|state| state.reason.clone());
    gateway.until("load-failed is told", |known| reason(known).as_deref() == Some("load-failed")).await;
    let status = running.autoscaler.status();
    let condition = status.revisions[0].condition.as_ref().unwrap();
    assert_eq!(condition.reason, ConditionReason::LoadFailed);
    assert!(condition.message.contains("digest") || condition.message.contains("sha256"), "{}", condition.message);
    assert!(stack.replicas().await.len() >= 2, "at most two replicas are spent before it is given a rest");

    gateway.hold("digits");
    let added = gateway.until_served("digits").await;
    assert_eq!(predict(&added).await, 200);
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_is_not_here_is_told() {
    let stack = Stack::with_pool(1).await;
    let gpu = Revision {
        device: gateway_policy::Device::Gpu,
        unavailable: Some("this machine has no GPU".into()),
        key: format!("{NAMESPACE}/digits-gpu-00001").into(),
        ..revision("digits")
    };
    let (_running, gateway) = connected(&stack, vec![gpu]).await;
    gateway.hold("digits");
    let known = gateway.until("it is told", |known| known.models.contains_key("digits")).await;
    assert_eq!(known.models["digits"].reason, "device-unavailable");
    assert_eq!(count(&stack.replicas().await, ReplicaState::Idle), 1);
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_demand_it_goes_to_zero() {
    let stack = Stack::with_pool(2).await;
    let soon = Revision { scale_to_zero_after: Duration::from_secs(1), ..revision("digits") };
    let (running, gateway) = connected(&stack, vec![soon]).await;
    gateway.hold("digits");
    serves_once(&stack, &gateway, "digits").await;
    let added = gateway.until_served("digits").await;

    gateway.wants("digits", 0);
    let known = gateway.until("it is taken out of the gateway", |known| known.replicas.is_empty()).await;
    assert_eq!(known.removed, [added.uid], "it was asked to stop, not cut off");
    let left = stack.until("a used replica is gone, not back in the pool", |replicas| replicas.len() == 1).await;
    assert_eq!(left[0].state, ReplicaState::Idle);
    assert_eq!(running.autoscaler.status().revisions[0].ready, 0);

    gateway.hold("digits");
    serves_once(&stack, &gateway, "digits").await;
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_running_request_outlives_the_scale_down() {
    let stack = Stack::with_pool(1).await;
    let soon = Revision { scale_to_zero_after: Duration::from_secs(1), ..revision("digits") };
    let (_running, gateway) = connected(&stack, vec![soon]).await;
    gateway.hold("digits");
    serves_once(&stack, &gateway, "digits").await;
    let added = gateway.until_served("digits").await;
    // A request runs from its head on: one that is sent slowly stays in flight for as long as the test likes.
    let request = SlowRequest::begin(&added).await;

    gateway.wants("digits", 0);
    let draining = stack.until("it drains", |replicas| count(replicas, ReplicaState::Draining) == 1).await;
    assert_eq!(request.interim(), None, "the request is not answered yet");
    // The label comes first, the wrapper is told next.
    let refusing = async {
        while predict(&added).await != 503 {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refusing).await.expect("a draining replica takes no other");
    let still = stack.replicas().await;
    assert_eq!((still.len(), still[0].pid), (1, draining[0].pid), "it waits for the request");

    assert_eq!(request.finish().await, 200);
    stack.until("then it is gone", <[_]>::is_empty).await;
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silent_gateway_takes_nothing_away() {
    let stack = Stack::with_pool(1).await;
    let soon = Revision { scale_to_zero_after: Duration::from_secs(1), ..revision("digits") };
    let (running, gateway) = connected(&stack, vec![soon]).await;
    gateway.hold("digits");
    serves_once(&stack, &gateway, "digits").await;
    gateway.disconnect();
    // Several times the idle period: unknown demand must not count as none.
    tokio::time::sleep(Duration::from_secs(4)).await;
    assert_eq!(count(&stack.replicas().await, ReplicaState::Serving), 1);
    gateway.connect(&running.socket).await;
    serves_once(&stack, &gateway, "digits").await;
    stack.end().await;
}

/// The parent in the test below; it is run only by it.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the parent process of no_wrapper_outlives_a_killed_parent"]
async fn parent_that_waits_to_be_killed() {
    let stack = Stack::with_pool(2).await;
    let (_running, gateway) = connected(&stack, vec![revision("digits")]).await;
    gateway.hold("digits");
    serves_once(&stack, &gateway, "digits").await;
    for replica in stack.replicas().await {
        println!("child {}", replica.pid.unwrap());
    }
    println!("children complete");
    std::future::pending::<()>().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn no_wrapper_outlives_a_killed_parent() {
    let mut parent = tokio::process::Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "lifecycle::parent_that_waits_to_be_killed", "--nocapture"])
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(parent.stdout.take().unwrap()).lines();
    let mut children = Vec::new();
    while let Some(line) = tokio::time::timeout(PATIENCE, lines.next_line()).await.unwrap().unwrap() {
        if line.contains("children complete") {
            break;
        }
        children.extend(line.split_once("child ").map(|(_, pid)| pid.trim().to_owned()));
    }
    // Nobody may be there to reap an orphan: one that has ended and was not reaped does not run.
    let runs = |pid: &&String| {
        let stat = std::fs::read_to_string(Path::new("/proc").join(pid).join("stat"));
        stat.is_ok_and(|stat| !stat.rsplit(')').next().is_some_and(|state| state.trim_start().starts_with('Z')))
    };
    let left = || children.iter().filter(runs).count();
    assert_eq!(left(), 2, "one idle, one serving");
    parent.kill().await.unwrap();
    let deadline = Instant::now() + PATIENCE;
    while left() > 0 {
        assert!(Instant::now() < deadline, "wrappers {children:?} outlived their parent");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_attempt_that_fails_is_told_also_when_it_fails_like_the_last() {
    let stack = Stack::with_pool(0).await;
    let mut settings = Settings::default();
    settings.claims.backoff_first = Duration::from_millis(200);
    settings.claims.backoff_longest = settings.claims.backoff_first;
    let running = stack.start(settings, vec![broken("digits")]);
    let gateway = FakeGateway::new("gateway-1");
    gateway.connect(&running.socket).await;
    gateway.until("the gateway is welcome", |known| known.synced).await;
    gateway.hold("digits");
    let known = gateway.until("four failures are told", |known| known.troubles >= 4).await;
    assert_eq!(known.models["digits"].reason, "load-failed");
}
