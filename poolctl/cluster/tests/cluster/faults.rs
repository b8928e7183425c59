//! The fault layer does what its names say, on a real cluster.

use crate::behaviour::{Fixture, in_state};
use parking_lot::Mutex;
use poolctl_cluster::faults::{Fault, FaultyCluster, Operation};
use poolctl_cluster::{Cluster, Deletion, Expected, LocalCluster, Patch, ReplicaState, Transition};
use prometheus::Registry;

/// A cluster whose next transitions meet `faults`, one each.
fn cluster(faults: &[Fault]) -> Fixture<FaultyCluster<LocalCluster>> {
    let inner = LocalCluster::new(crate::local::settings(""), &Registry::new()).unwrap();
    let faults = Mutex::new(faults.to_vec());
    let cluster = FaultyCluster::new(inner, move |operation| match operation {
        Operation::Transition | Operation::Delete => faults.lock().pop().unwrap_or(Fault::None),
        Operation::Get | Operation::Create => Fault::None,
    });
    Fixture { cluster, namespace: "vision".to_owned() }
}

const RETIRE: Patch = Patch { state: Some(ReplicaState::Retired), claim: None, serving: None };

#[tokio::test]
async fn faults_of_a_transition() {
    let cases = [
        (Fault::LoseRequest, Transition::Unknown, ReplicaState::Idle),
        (Fault::LoseReply, Transition::Unknown, ReplicaState::Retired),
        // The second write finds what the first one did.
        (Fault::Repeat, Transition::Lost, ReplicaState::Retired),
    ];
    for (fault, reply, state) in cases {
        let fixture = cluster(&[fault]);
        let uid = fixture.cluster.create(fixture.idle()).await.unwrap().uid;
        assert_eq!(fixture.cluster.transition(&uid, &in_state(ReplicaState::Idle), &RETIRE).await, reply, "{fault:?}");
        assert_eq!(fixture.cluster.get(&uid).await.unwrap().unwrap().state, state, "{fault:?}");
    }
}

#[tokio::test]
async fn a_halted_caller_gets_no_reply_at_all() {
    for (fault, exists) in [(Fault::HaltBefore, true), (Fault::HaltAfter, false)] {
        let fixture = cluster(&[fault]);
        let uid = fixture.cluster.create(fixture.idle()).await.unwrap().uid;
        let halted = {
            let (cluster, uid) = (fixture.cluster.clone(), uid.clone());
            tokio::spawn(async move { cluster.delete(&uid, &Expected::default()).await })
        };
        // One thread: when this task runs again, the other has gone as far as it can.
        tokio::task::yield_now().await;
        assert!(!halted.is_finished());
        assert_eq!(fixture.cluster.get(&uid).await.unwrap().is_some(), exists, "{fault:?}");
        halted.abort();
        assert_eq!(fixture.cluster.delete(&uid, &Expected::default()).await, Deletion::Deleted);
    }
}
