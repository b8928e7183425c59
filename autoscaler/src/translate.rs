//! Between the vocabulary of the cluster and that of the policy.
//!
//! The policy knows no cluster and no wall clock, so that it can be model-checked; this is the one place where its views,
//! writes and outcomes are spelled in labels, annotations and addresses.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use autoscaler_policy::claim::{
    CreateOutcome, DeleteOutcome, FitKey, GetOutcome, Label, Lifecycle as PodLifecycle, LoadOutcome, Ownership,
    PodView, StateOutcome, Ticket, Warmth, Write, WriteOutcome,
};
use autoscaler_policy::{Resources, Revision, Uid};
use gateway_policy::{Device, Moment};
use model_wrapper_admin::{
    AdminError, ModelSource, SpecializeRequest, SpecializeResponse, StateResponse, WrapperState,
};
use poolctl_cluster::{
    Claim, ClusterError, Deletion, Expected, Lifecycle, NewReplica, Patch, Replica, ReplicaState, ReplicaUid,
    ServingIdentity, Transition,
};
use poolctl_runtime::Clock;

/// Why a replica cannot be shown to the policy.
#[derive(Debug, thiserror::Error)]
pub(crate) enum UnknownReplica {
    #[error(transparent)]
    Device(#[from] gateway_policy::ParseDeviceError),
    #[error(transparent)]
    Resources(#[from] autoscaler_policy::QuantityError),
}

pub(crate) const fn label(state: ReplicaState) -> Label {
    match state {
        ReplicaState::Idle => Label::Idle,
        ReplicaState::Claimed => Label::Claimed,
        ReplicaState::Serving => Label::Serving,
        ReplicaState::Draining => Label::Draining,
        ReplicaState::Retired => Label::Retired,
    }
}

pub(crate) const fn state(label: Label) -> ReplicaState {
    match label {
        Label::Idle => ReplicaState::Idle,
        Label::Claimed => ReplicaState::Claimed,
        Label::Serving => ReplicaState::Serving,
        Label::Draining => ReplicaState::Draining,
        Label::Retired => ReplicaState::Retired,
    }
}

pub(crate) fn cluster_uid(uid: &Uid) -> ReplicaUid {
    ReplicaUid(uid.as_str().to_owned())
}

/// A replica as the policy sees it.
pub(crate) fn view(replica: &Replica, clock: Clock) -> Result<PodView, UnknownReplica> {
    let resources = replica.resources.iter().map(|(name, quantity)| (name.as_str(), quantity.as_str()));
    Ok(PodView {
        uid: Uid::from(replica.uid.0.as_str()),
        label: label(replica.state),
        ownership: replica.claim.as_ref().map(|claim| Ownership {
            claim: claim.id.as_str().into(),
            revision: claim.revision.as_str().into(),
            deadline: clock.moment(claim.deadline),
        }),
        lifecycle: match replica.lifecycle {
            Lifecycle::Starting => PodLifecycle::Starting,
            Lifecycle::Ready { .. } => PodLifecycle::Ready,
            Lifecycle::Exited { .. } => PodLifecycle::Exited,
        },
        fit: Arc::new(FitKey {
            namespace: replica.namespace.as_str().into(),
            pool: replica.pool.as_str().into(),
            service_account: replica.service_account.as_str().into(),
            device: replica.device.parse::<Device>()?,
            contract: replica.contract.as_str().into(),
        }),
        resources: Arc::new(Resources::parse(resources)?),
        // A store that does not say more about a replica leaves all of one pool equally warm.
        warmth: Arc::new(Warmth { loaded: None, node: "".into(), runtime: "".into() }),
        created: clock.moment(replica.created),
    })
}

/// The condition and the content of a write.
pub(crate) fn write(
    ticket: &Ticket,
    from: Label,
    revision: &Revision,
    deadline: Moment,
    clock: Clock,
) -> (Expected, Patch) {
    let claim = || Claim {
        id: ticket.claim.as_str().to_owned(),
        revision: revision.key.as_str().to_owned(),
        deadline: clock.wall(deadline),
    };
    let serving = || Some(Some(identity(revision)));
    let patch = match ticket.write {
        Write::Claim => Patch { state: Some(ReplicaState::Claimed), claim: Some(claim()), serving: None },
        Write::ClaimServing => Patch { state: Some(ReplicaState::Serving), claim: Some(claim()), serving: serving() },
        Write::Serve => Patch { state: Some(ReplicaState::Serving), claim: None, serving: serving() },
        Write::Drain => return drain(ticket, from),
    };
    (expected(ticket, from), patch)
}

/// As [`write`], for a drain: it takes nothing of the revision, which may be gone.
pub(crate) fn drain(ticket: &Ticket, from: Label) -> (Expected, Patch) {
    (expected(ticket, from), Patch { state: Some(ReplicaState::Draining), claim: None, serving: Some(None) })
}

fn expected(ticket: &Ticket, from: Label) -> Expected {
    let claim_id = (from != Label::Idle).then(|| ticket.claim.as_str().to_owned());
    Expected { state: Some(state(from)), claim_id }
}

fn identity(revision: &Revision) -> ServingIdentity {
    let key = revision.key.as_str();
    ServingIdentity {
        revision: key.split_once('/').map_or(key, |(_, name)| name).to_owned(),
        revision_uid: revision.uid.to_string(),
        service: revision.service.to_string(),
    }
}

pub(crate) fn written(transition: Transition, clock: Clock) -> WriteOutcome {
    match transition {
        // A replica that the policy cannot be shown is not one that it can have chosen.
        Transition::Won(replica) => view(&replica, clock).map_or(WriteOutcome::Unknown, WriteOutcome::Won),
        Transition::Lost => WriteOutcome::Lost,
        Transition::Unknown => WriteOutcome::Unknown,
    }
}

pub(crate) fn got(reply: Result<Option<Replica>, ClusterError>, clock: Clock) -> GetOutcome {
    match reply {
        Ok(Some(replica)) => view(&replica, clock).map_or(GetOutcome::Unknown, GetOutcome::Found),
        Ok(None) => GetOutcome::Gone,
        Err(_) => GetOutcome::Unknown,
    }
}

pub(crate) const fn deleted(deletion: Deletion) -> DeleteOutcome {
    match deletion {
        Deletion::Deleted => DeleteOutcome::Deleted,
        Deletion::Refused => DeleteOutcome::Refused,
        Deletion::Unknown => DeleteOutcome::Unknown,
    }
}

pub(crate) fn created(reply: Result<Replica, ClusterError>) -> CreateOutcome {
    match reply {
        Ok(replica) => CreateOutcome::Created(replica.uid.0.into()),
        Err(ClusterError::NoCapacity(message)) => CreateOutcome::NoCapacity(message.into()),
        Err(error @ (ClusterError::Rejected(_) | ClusterError::Start { .. })) => {
            CreateOutcome::Failed(error.to_string().into())
        }
        Err(ClusterError::Unavailable(_)) => CreateOutcome::Unknown,
    }
}

/// A replica to start for a revision, born with its claim.
pub(crate) fn cold_start(revision: &Revision, claim_id: &str, deadline: Moment, clock: Clock) -> NewReplica {
    let key = revision.key.as_str();
    NewReplica {
        namespace: key.split_once('/').map_or("", |(namespace, _)| namespace).to_owned(),
        pool: String::new(),
        device: revision.device.as_str().to_owned(),
        service_account: revision.placement.service_account.to_string(),
        resources: revision.placement.resources.to_quantities(),
        claim: Some(Claim { id: claim_id.to_owned(), revision: key.to_owned(), deadline: clock.wall(deadline) }),
    }
}

/// What a replica is told to load.
pub(crate) fn specialize_request(revision: &Revision, uid: &Uid, claim_id: &str) -> SpecializeRequest {
    let (mut limits, config) = limits_of(&revision.source.config);
    if let Some(batching) = revision.batching {
        let latency = u64::try_from(batching.max_latency.as_micros()).unwrap_or(u64::MAX);
        limits.insert("maxBatchSize".to_owned(), u64::from(batching.max_batch_size));
        limits.insert("maxBatchLatencyUs".to_owned(), latency);
    }
    SpecializeRequest {
        claim_id: claim_id.to_owned(),
        pod_uid: uid.as_str().to_owned(),
        revision: revision.key.as_str().to_owned(),
        digest: revision.digest.as_str().to_owned(),
        model: ModelSource {
            uri: revision.source.uri.to_string(),
            format: revision.source.format.to_string(),
            name: revision.source.name.to_string(),
            config,
        },
        container_concurrency: revision.container_concurrency,
        timeout_ms: u64::try_from(revision.timeout.as_millis()).unwrap_or(u64::MAX),
        limits,
    }
}

/// Takes out of a revision's configuration what the admin port calls limits.
fn limits_of(config: &BTreeMap<String, String>) -> (BTreeMap<String, u64>, BTreeMap<String, String>) {
    const LIMITS: [&str; 3] = ["intraThreads", "maxBodyBytes", "queueLength"];
    let mut rest = config.clone();
    let mut limits = BTreeMap::new();
    for name in LIMITS {
        // One that is no number stays, and the wrapper refuses it by name.
        if let Some(limit) = rest.get(name).and_then(|value| value.parse().ok()) {
            limits.insert(name.to_owned(), limit);
            rest.remove(name);
        }
    }
    (limits, rest)
}

pub(crate) fn loaded(reply: Result<SpecializeResponse, AdminError>) -> LoadOutcome {
    match reply {
        Ok(response) => {
            LoadOutcome::Loaded { load: Duration::from_micros(response.phases.fetch_us + response.phases.load_us) }
        }
        Err(AdminError::Conflict(_) | AdminError::WrongReplica(_)) => LoadOutcome::Conflict,
        Err(AdminError::Rejected(message)) => LoadOutcome::Rejected { message: message.into() },
        // Outside the contract: another replica of this build would answer the same, so it counts as a failed load.
        Err(error @ AdminError::Unexpected { .. }) => LoadOutcome::Rejected { message: error.to_string().into() },
        Err(AdminError::Timeout(_)) => LoadOutcome::TimedOut,
        Err(AdminError::Unauthorized(_) | AdminError::Unreachable(_) | AdminError::Interrupted(_)) => {
            LoadOutcome::Unreachable
        }
    }
}

pub(crate) fn wrapper_state(reply: Result<StateResponse, AdminError>) -> StateOutcome {
    let Ok(response) = reply else { return StateOutcome::Unreachable };
    let useless = |message: &str| StateOutcome::Useless { message: message.into() };
    match (response.state, response.claim_id) {
        (WrapperState::Idle, _) => StateOutcome::Empty,
        (WrapperState::Loading, Some(claim)) => StateOutcome::Loading(claim.into()),
        (WrapperState::Serving, Some(claim)) => StateOutcome::Serving(claim.into()),
        (WrapperState::Loading | WrapperState::Serving, None) => useless("it holds a model without a claim"),
        (WrapperState::Failed, _) => useless(response.error.as_deref().unwrap_or("loading failed")),
        (WrapperState::Draining, _) => useless("it is draining"),
    }
}

#[cfg(test)]
mod tests;
