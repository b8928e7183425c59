//! Replies that come late, not at all, or twice.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use autoscaler::{ReplicaAdmin, Settings};
use autoscaler_policy::claim;
use poolctl_cluster::Cluster;
use poolctl_cluster::faults::{Fault, FaultyCluster, Operation};

use crate::faulty_admin::{Call, FaultyAdmin};
use crate::gateway::FakeGateway;
use crate::stack::{Stack, admin_client, revision, serves_once};

/// Short pauses between attempts, so that the tests do not wait for nothing.
fn settings() -> Settings {
    let claims = claim::Settings { retry: Duration::from_millis(50), ..claim::Settings::default() };
    Settings { claims, ..Settings::default() }
}

/// `fault` once, for the first call that `matches`.
fn once<T>(fault: Fault, matches: impl Fn(T) -> bool + Send + Sync + 'static) -> impl Fn(T) -> Fault + Send + Sync {
    let used = Arc::new(AtomicBool::new(false));
    move |call| if matches(call) && !used.swap(true, Ordering::SeqCst) { fault } else { Fault::None }
}

const FAULTS: [Fault; 4] =
    [Fault::Delay(Duration::from_millis(100)), Fault::LoseRequest, Fault::LoseReply, Fault::Repeat];

/// A request to a cold model is served, once, by what is around the stack's cluster and its admin ports.
async fn serves_through<C: Cluster, A: ReplicaAdmin>(stack: Stack, around: (C, A), settings: Settings) {
    let running = stack.start_with(around, settings, vec![revision("digits")]);
    let gateway = FakeGateway::new("gateway-1");
    gateway.connect(&running.socket).await;
    gateway.hold("digits");
    serves_once(&stack, &gateway, "digits").await;
    drop(running);
    stack.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reply_to_the_claims_write() {
    for fault in FAULTS {
        let stack = Stack::with_pool(3).await;
        let fault = once(fault, |operation| operation == Operation::Transition);
        let cluster = FaultyCluster::new(stack.cluster.clone(), fault);
        serves_through(stack, (cluster, admin_client()), settings()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reply_to_specialize() {
    for fault in FAULTS {
        let stack = Stack::with_pool(3).await;
        let admin = FaultyAdmin::new(admin_client(), once(fault, |call| call == Call::Specialize));
        let cluster = stack.cluster.clone();
        serves_through(stack, (cluster, admin), settings()).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_reply_to_a_cold_start() {
    for fault in FAULTS {
        let stack = Stack::with_pool(0).await;
        let fault = once(fault, |operation| operation == Operation::Create);
        let cluster = FaultyCluster::new(stack.cluster.clone(), fault);
        let claims = claim::Settings { create_unknown: Duration::from_millis(500), ..settings().claims };
        serves_through(stack, (cluster, admin_client()), Settings { claims, ..settings() }).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_reply_is_late() {
    let late = Fault::Delay(Duration::from_millis(30));
    let stack = Stack::with_pool(2).await;
    let cluster = FaultyCluster::new(stack.cluster.clone(), move |_| late);
    let admin = FaultyAdmin::new(admin_client(), move |_| late);
    serves_through(stack, (cluster, admin), settings()).await;
}
