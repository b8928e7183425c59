//! What every adapter of [`Cluster`] must do. An adapter's own test file makes a [`Fixture`] and runs each of these.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use futures::StreamExt;
use poolctl_cluster::{
    Claim, Cluster, ClusterError, Deletion, Expected, Lifecycle, NewReplica, Patch, Replica, ReplicaEvent,
    ReplicaState, ReplicaUid, ServingIdentity, Transition,
};

/// Longest that any step may take: generous, it is only met by a defect.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

/// An adapter with somewhere to put replicas.
pub(crate) struct Fixture<C> {
    pub(crate) cluster: C,
    /// Namespace that replicas go to; nothing else uses it.
    pub(crate) namespace: String,
}

impl<C: Cluster> Fixture<C> {
    pub(crate) fn idle(&self) -> NewReplica {
        NewReplica {
            namespace: self.namespace.clone(),
            pool: "default".to_owned(),
            device: "cpu".to_owned(),
            service_account: "default".to_owned(),
            resources: BTreeMap::from([("memory".to_owned(), "64Mi".to_owned())]),
            claim: None,
        }
    }

    pub(crate) fn claim(&self, id: &str) -> Claim {
        // Whole seconds: the resolution that annotations keep.
        let deadline = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        Claim { id: id.to_owned(), revision: format!("{}/digits-cpu-00001", self.namespace), deadline }
    }

    fn claiming(&self, id: &str) -> Patch {
        Patch { state: Some(ReplicaState::Claimed), claim: Some(self.claim(id)), serving: None }
    }
}

pub(crate) fn in_state(state: ReplicaState) -> Expected {
    Expected { state: Some(state), claim_id: None }
}

/// The first event that `pick` takes.
pub(crate) async fn first<T>(
    watch: &mut (impl futures::Stream<Item = ReplicaEvent> + Unpin),
    mut pick: impl FnMut(ReplicaEvent) -> Option<T>,
) -> T {
    let search = async {
        loop {
            let event = watch.next().await.expect("the watch lasts as long as its cluster");
            if let Some(found) = pick(event) {
                return found;
            }
        }
    };
    tokio::time::timeout(PATIENCE, search).await.expect("the event came in time")
}

pub(crate) async fn ready<C: Cluster>(cluster: &C, uid: &ReplicaUid) -> Arc<Replica> {
    let mut watch = cluster.watch();
    first(&mut watch, |event| match event {
        ReplicaEvent::Applied(replica) if replica.uid == *uid => match &replica.lifecycle {
            Lifecycle::Ready { .. } => Some(replica),
            Lifecycle::Starting => None,
            Lifecycle::Exited { reason } => panic!("it ended instead of getting ready: {reason}"),
        },
        _ => None,
    })
    .await
}

pub(crate) async fn a_watch_lists_then_follows<C: Cluster>(fixture: Fixture<C>) {
    let cluster = &fixture.cluster;
    let before = cluster.create(fixture.idle()).await.unwrap();
    let mut watch = cluster.watch();
    let mut listed = BTreeSet::new();
    first(&mut watch, |event| match event {
        ReplicaEvent::Applied(replica) => {
            listed.insert(replica.uid.clone());
            None
        }
        ReplicaEvent::Deleted(_) => None,
        ReplicaEvent::Synced => Some(()),
    })
    .await;
    assert!(listed.contains(&before.uid), "what existed is reported before Synced");

    let after = cluster.create(fixture.idle()).await.unwrap();
    first(&mut watch, |event| {
        matches!(event, ReplicaEvent::Applied(replica) if replica.uid == after.uid).then_some(())
    })
    .await;
    ready(cluster, &after.uid).await;
    cluster.delete(&after.uid, &Expected::default()).await;
    first(&mut watch, |event| (event == ReplicaEvent::Deleted(after.uid.clone())).then_some(())).await;
}

pub(crate) async fn a_replica_gets_ready<C: Cluster>(fixture: Fixture<C>) {
    let created = fixture.cluster.create(fixture.idle()).await.unwrap();
    assert_eq!(created.state, ReplicaState::Idle);
    assert_eq!(created.claim, None);
    let replica = ready(&fixture.cluster, &created.uid).await;
    assert!(replica.startup.is_some());
    assert_eq!((&replica.name, &replica.pool, &replica.device), (&created.name, &created.pool, &created.device));
    assert_eq!(replica.resources, fixture.idle().resources);
    assert_eq!(replica.service_account, "default");
}

pub(crate) async fn identities_are_unique<C: Cluster>(fixture: Fixture<C>) {
    let mut uids = BTreeSet::new();
    let mut names = BTreeSet::new();
    for _ in 0..4 {
        let replica = fixture.cluster.create(fixture.idle()).await.unwrap();
        fixture.cluster.delete(&replica.uid, &Expected::default()).await;
        assert!(uids.insert(replica.uid), "a uid is never reused");
        assert!(names.insert(replica.name), "nor is a name");
    }
}

pub(crate) async fn one_of_many_claims_wins<C: Cluster>(fixture: Fixture<C>) {
    const CLAIMANTS: usize = 16;
    let replica = fixture.cluster.create(fixture.idle()).await.unwrap();
    let claims: Vec<_> = (0..CLAIMANTS)
        .map(|claimant| {
            let cluster = fixture.cluster.clone();
            let uid = replica.uid.clone();
            let patch = fixture.claiming(&format!("claim-{claimant}"));
            tokio::spawn(async move { cluster.transition(&uid, &in_state(ReplicaState::Idle), &patch).await })
        })
        .collect();
    let mut winners = Vec::new();
    for claim in claims {
        match claim.await.unwrap() {
            Transition::Won(replica) => winners.push(replica.claim.clone()),
            Transition::Lost => {}
            Transition::Unknown => panic!("no fault was injected"),
        }
    }
    assert_eq!(winners.len(), 1, "exactly one claim wins");
    let stored = fixture.cluster.get(&replica.uid).await.unwrap().unwrap();
    assert_eq!(stored.claim, winners[0], "and the store holds the winner's");
    assert_eq!(stored.state, ReplicaState::Claimed);
}

pub(crate) async fn a_transition_tests_state_and_claim<C: Cluster>(fixture: Fixture<C>) {
    let cluster = &fixture.cluster;
    let uid = cluster.create(fixture.idle()).await.unwrap().uid;
    let publish = Patch {
        state: Some(ReplicaState::Serving),
        claim: None,
        serving: Some(Some(ServingIdentity {
            revision: "digits-cpu-00001".to_owned(),
            revision_uid: "0f7f9cf6-91b9-4f2c-9d0b-3f3a1f1c3f10".to_owned(),
            service: "digits-cpu".to_owned(),
        })),
    };
    let owned_by = |id: &str| Expected { state: Some(ReplicaState::Claimed), claim_id: Some(id.to_owned()) };

    assert_eq!(cluster.transition(&uid, &owned_by("mine"), &publish).await, Transition::Lost, "it is still idle");
    let claimed = cluster.transition(&uid, &in_state(ReplicaState::Idle), &fixture.claiming("mine")).await;
    assert!(matches!(claimed, Transition::Won(_)), "{claimed:?}");
    assert_eq!(cluster.transition(&uid, &owned_by("other"), &publish).await, Transition::Lost, "another's claim");

    let Transition::Won(serving) = cluster.transition(&uid, &owned_by("mine"), &publish).await else {
        panic!("the owner may publish")
    };
    assert_eq!(serving.state, ReplicaState::Serving);
    assert_eq!(serving.claim, Some(fixture.claim("mine")), "a field that is not patched stays");
    assert_eq!(Some(serving.serving.clone()), publish.serving);

    let drain = Patch { state: Some(ReplicaState::Draining), claim: None, serving: Some(None) };
    let Transition::Won(draining) = cluster.transition(&uid, &in_state(ReplicaState::Serving), &drain).await else {
        panic!("it serves")
    };
    assert_eq!(draining.serving, None, "the labels are off");
    assert_eq!(
        cluster.transition(&uid, &owned_by("mine"), &publish).await,
        Transition::Lost,
        "a late write does not revive it"
    );
}

pub(crate) async fn a_delete_tests_its_precondition<C: Cluster>(fixture: Fixture<C>) {
    let cluster = &fixture.cluster;
    let uid = cluster.create(fixture.idle()).await.unwrap().uid;
    cluster.transition(&uid, &in_state(ReplicaState::Idle), &fixture.claiming("mine")).await;
    let owned_by = |id: &str| Expected { state: None, claim_id: Some(id.to_owned()) };
    assert_eq!(cluster.delete(&uid, &owned_by("other")).await, Deletion::Refused);
    assert_eq!(cluster.delete(&uid, &in_state(ReplicaState::Idle)).await, Deletion::Refused);
    assert!(cluster.get(&uid).await.unwrap().is_some());
    assert_eq!(cluster.delete(&uid, &owned_by("mine")).await, Deletion::Deleted);
    assert_eq!(cluster.delete(&uid, &owned_by("mine")).await, Deletion::Deleted, "gone is what was asked for");
}

pub(crate) async fn nothing_happens_to_what_is_gone<C: Cluster>(fixture: Fixture<C>) {
    let cluster = &fixture.cluster;
    let uid = cluster.create(fixture.idle()).await.unwrap().uid;
    let mut watch = cluster.watch();
    cluster.delete(&uid, &Expected::default()).await;
    first(&mut watch, |event| (event == ReplicaEvent::Deleted(uid.clone())).then_some(())).await;
    assert_eq!(cluster.get(&uid).await.unwrap(), None);
    assert_eq!(
        cluster.transition(&uid, &in_state(ReplicaState::Idle), &fixture.claiming("late")).await,
        Transition::Lost
    );
}

pub(crate) async fn a_cold_start_is_born_claimed<C: Cluster>(fixture: Fixture<C>) {
    let cluster = &fixture.cluster;
    let new = NewReplica { pool: String::new(), claim: Some(fixture.claim("cold")), ..fixture.idle() };
    let replica = cluster.create(new).await.unwrap();
    assert_eq!(replica.state, ReplicaState::Claimed);
    assert_eq!(replica.claim, Some(fixture.claim("cold")));
    assert_eq!(
        cluster.transition(&replica.uid, &in_state(ReplicaState::Idle), &fixture.claiming("thief")).await,
        Transition::Lost
    );
    assert_eq!(ready(cluster, &replica.uid).await.claim.clone(), Some(fixture.claim("cold")));
}

pub(crate) async fn an_owner_is_in_the_same_namespace<C: Cluster>(fixture: Fixture<C>) {
    let cluster = &fixture.cluster;
    let foreign = Claim { revision: "elsewhere/digits-cpu-00001".to_owned(), ..fixture.claim("foreign") };
    let refused = cluster.create(NewReplica { claim: Some(foreign.clone()), ..fixture.idle() }).await;
    assert!(matches!(refused, Err(ClusterError::Rejected(_))), "{refused:?}");
    let uid = cluster.create(fixture.idle()).await.unwrap().uid;
    let patch = Patch { state: Some(ReplicaState::Claimed), claim: Some(foreign), serving: None };
    assert_eq!(cluster.transition(&uid, &in_state(ReplicaState::Idle), &patch).await, Transition::Lost);
    assert_eq!(cluster.get(&uid).await.unwrap().unwrap().state, ReplicaState::Idle);
}

pub(crate) async fn a_slow_watcher_misses_nothing_that_lasts<C: Cluster>(fixture: Fixture<C>) {
    let cluster = &fixture.cluster;
    let goes = cluster.create(fixture.idle()).await.unwrap().uid;
    let stays = cluster.create(fixture.idle()).await.unwrap().uid;
    let mut watch = cluster.watch();
    let mut seen = BTreeMap::new();
    let mut follow = |event: ReplicaEvent| match event {
        ReplicaEvent::Applied(replica) => drop(seen.insert(replica.uid.clone(), replica)),
        ReplicaEvent::Deleted(uid) => drop(seen.remove(&uid)),
        ReplicaEvent::Synced => {}
    };
    first(&mut watch, |event| {
        let synced = event == ReplicaEvent::Synced;
        follow(event);
        synced.then_some(())
    })
    .await;

    cluster.delete(&goes, &Expected::default()).await;
    for round in 0..3000 {
        let patch = Patch { state: None, claim: Some(fixture.claim(&format!("round-{round}"))), serving: None };
        cluster.transition(&stays, &Expected::default(), &patch).await;
    }
    let last = Some(fixture.claim("round-2999"));
    first(&mut watch, |event| {
        let caught_up = matches!(&event, ReplicaEvent::Applied(replica) if replica.claim == last);
        follow(event);
        caught_up.then_some(())
    })
    .await;
    assert!(seen.contains_key(&stays));
    assert!(!seen.contains_key(&goes), "a deletion is reported even when the change itself was missed");
}
