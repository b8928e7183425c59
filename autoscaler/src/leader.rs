//! The state of one term of leadership, and what follows from one event.
//!
//! No I/O happens here: what must be done outside comes back as [`Task`]s. What gateways are told is put into their
//! outboxes at once, so that it is in the order in which it became true.

mod demand;
mod publish;
mod table;

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use autoscaler_policy::claim::{self, Effect, Event, Timings};
use autoscaler_policy::{ClaimId, Desired, Explanation, ModelKey, Revision, RevisionKey, Scaler, Uid};
use gateway_policy::Moment;
use model_wrapper_admin::{SpecializeRequest, TokenClaims};
use poolctl_cluster::{Expected, Lifecycle, NewReplica, Patch, Replica, ReplicaEvent, ReplicaState, ReplicaUid};
use poolctl_runtime::{Clock, since_1970};

pub(crate) use self::table::RevisionTable;
use crate::demand::Gateways;
use crate::effects::TOKEN_LEEWAY_SECONDS;
use crate::metrics::Metrics;
use crate::settings::Settings;
use crate::translate;

/// Something to do outside, with all that it takes.
#[derive(Debug)]
pub(crate) enum Task {
    Write {
        ticket: claim::Ticket,
        uid: ReplicaUid,
        expected: Expected,
        patch: Patch,
    },
    Get {
        uid: Uid,
    },
    Specialize {
        uid: Uid,
        claim: ClaimId,
        address: SocketAddr,
        request: SpecializeRequest,
        token: TokenClaims,
        within: Duration,
    },
    AskState {
        uid: Uid,
        address: SocketAddr,
    },
    Drain {
        uid: Uid,
        claim: ClaimId,
        address: SocketAddr,
        within: Duration,
    },
    Delete {
        uid: Uid,
        label: claim::Label,
        expected: Expected,
    },
    Create {
        claim: ClaimId,
        replica: NewReplica,
    },
    /// Opens a connection that the next claim will want.
    Prepare {
        address: SocketAddr,
    },
    /// Closes the connections to a replica that is gone.
    Forget {
        address: SocketAddr,
    },
}

/// How a revision was last brought up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Activation {
    pub(crate) timings: Timings,
    pub(crate) at: Moment,
}

/// Everything that a leader knows. It is lost with the leadership, and built anew from the cluster.
pub(crate) struct Leader {
    pub(crate) claims: claim::State,
    pub(crate) scaler: Scaler,
    pub(crate) gateways: Gateways,
    pub(crate) replicas: HashMap<Uid, Arc<Replica>>,
    pub(crate) table: RevisionTable,
    pub(crate) activations: HashMap<RevisionKey, Activation>,
    /// Revisions that something keeps from having their replicas, and since when.
    pub(crate) troubled_since: HashMap<RevisionKey, Moment>,
    desired: HashMap<RevisionKey, u32>,
    /// Replicas that a gateway reports and that the others have not been told of. Reporting is not publishing: the claim
    /// protocol takes it as done.
    reported: BTreeSet<Uid>,
    pub(crate) synced: bool,
    clock: Clock,
    metrics: Metrics,
    drain_grace: Duration,
}

impl Leader {
    pub(crate) fn new(incarnation: &str, settings: &Settings, clock: Clock, metrics: Metrics) -> Self {
        Self {
            claims: claim::State::new(incarnation, settings.claims.clone()),
            scaler: Scaler::new(clock.now()),
            gateways: Gateways::new(settings.identity.clone()),
            replicas: HashMap::new(),
            table: RevisionTable::default(),
            activations: HashMap::new(),
            troubled_since: HashMap::new(),
            desired: HashMap::new(),
            reported: BTreeSet::new(),
            synced: false,
            clock,
            metrics,
            drain_grace: settings.drain_grace,
        }
    }

    /// Replaces the table of revisions.
    pub(crate) fn set_revisions(&mut self, revisions: Vec<Arc<Revision>>, tasks: &mut Vec<Task>) {
        self.scaler.set_revisions(&revisions);
        for gone in self.table.replace(&revisions) {
            self.activations.remove(&gone.key);
            self.troubled_since.remove(&gone.key);
            self.desired.remove(&gone.key);
            if self.table.variant(&gone.model, gone.device).is_none() {
                self.metrics.forget_variant(&gone.model.namespace, &gone.model.name, gone.device);
            }
            if self.table.of_model(&gone.model).next().is_none() {
                self.gateways.model(&gone.model, table::all_is_well(&gone.model), self.clock.now());
            }
        }
        self.apply(Event::Revisions(revisions), tasks);
        self.rescale(tasks);
    }

    /// Takes over a change of a replica.
    pub(crate) fn observe(&mut self, event: ReplicaEvent, tasks: &mut Vec<Task>) {
        match event {
            ReplicaEvent::Applied(replica) => self.observe_replica(&replica, tasks),
            ReplicaEvent::Deleted(uid) => {
                let uid = Uid::from(uid.0);
                if let Some(address) = self.replicas.remove(&uid).and_then(|replica| admin_address(&replica)) {
                    tasks.push(Task::Forget { address });
                }
                self.apply(Event::Deleted(uid), tasks);
            }
            ReplicaEvent::Synced => {
                self.synced = true;
                self.apply(Event::Synced, tasks);
                self.gateways.cluster_synced(self.clock.now());
                // What was held before this leader knew the cluster waits no longer.
                self.rescale(tasks);
            }
        }
    }

    fn observe_replica(&mut self, replica: &Arc<Replica>, tasks: &mut Vec<Task>) {
        match translate::view(replica, self.clock) {
            Ok(view) => {
                let before = self.replicas.insert(view.uid.clone(), Arc::clone(replica));
                let was_ready = before.is_some_and(|before| admin_address(&before).is_some());
                if let (Some(address), ReplicaState::Idle, false) = (admin_address(replica), replica.state, was_ready) {
                    tasks.push(Task::Prepare { address });
                }
                self.apply(Event::Applied(view), tasks);
            }
            Err(error) => {
                tracing::warn!(replica = %replica.name, %error, "this replica is ignored");
                self.metrics.unreadable.inc();
            }
        }
    }

    /// Numbers of replicas that the demand of one model asks for now, without waiting for the tick.
    pub(crate) fn rescale_model(&mut self, model: &ModelKey, tasks: &mut Vec<Task>) {
        let mut changed = Vec::new();
        self.scaler.decide(model, self.clock.now(), &self.claims, &mut changed);
        self.desire(changed, tasks);
    }

    /// Numbers of replicas for all models.
    pub(crate) fn rescale(&mut self, tasks: &mut Vec<Task>) {
        let mut changed = Vec::new();
        self.scaler.tick(self.clock.now(), &self.claims, &mut changed);
        self.desire(changed, tasks);
    }

    fn desire(&mut self, changed: Vec<Desired>, tasks: &mut Vec<Task>) {
        for Desired { revision, replicas } in changed {
            if let Some(known) = self.table.get(&revision) {
                let labels = [&*known.model.namespace, &*known.model.name, known.device.as_str()];
                self.metrics.desired.with_label_values(&labels).set(i64::from(replicas));
                self.desired.insert(revision.clone(), replicas);
            }
            self.apply(Event::Desired { revision, replicas }, tasks);
        }
    }

    /// Feeds one event to the claim protocol and acts on what follows.
    pub(crate) fn apply(&mut self, event: Event, tasks: &mut Vec<Task>) {
        let mut events = VecDeque::from([event]);
        let mut effects = Vec::new();
        while let Some(event) = events.pop_front() {
            self.count(&event);
            let now = self.clock.now();
            self.claims.apply(event, now, &mut effects);
            for effect in effects.drain(..) {
                if let Some(reply) = self.perform(effect, now, tasks) {
                    events.push_back(reply);
                }
            }
        }
        if !self.reported.is_empty() {
            self.announce_reported();
        }
    }

    /// Performs what needs no I/O and puts the rest into `tasks`. Returns a reply that is known at once.
    fn perform(&mut self, effect: Effect, now: Moment, tasks: &mut Vec<Task>) -> Option<Event> {
        match effect {
            Effect::Write { ticket, from, revision, deadline } => {
                let Some((expected, patch)) = self.write(&ticket, from, &revision, deadline) else {
                    return Some(Event::Written { ticket, outcome: claim::WriteOutcome::Unknown });
                };
                let uid = translate::cluster_uid(&ticket.uid);
                tasks.push(Task::Write { ticket, uid, expected, patch });
            }
            Effect::Get { uid } => tasks.push(Task::Get { uid }),
            Effect::Specialize { uid, claim, revision, deadline } => {
                let (Some(address), Some(known)) = (self.admin_of(&uid), self.table.get(&revision)) else {
                    return Some(Event::Specialized { uid, claim, outcome: claim::LoadOutcome::Unreachable });
                };
                let request = translate::specialize_request(known, &uid, claim.as_str());
                let token = TokenClaims {
                    pod_uid: request.pod_uid.clone(),
                    claim_id: request.claim_id.clone(),
                    digest: request.digest.clone(),
                    expires: since_1970(self.clock.wall(deadline)).as_secs().saturating_add(TOKEN_LEEWAY_SECONDS),
                };
                let within = deadline.saturating_since(now);
                tasks.push(Task::Specialize { uid, claim, address, request, token, within });
            }
            Effect::AskState { uid } => {
                let Some(address) = self.admin_of(&uid) else {
                    return Some(Event::State { uid, outcome: claim::StateOutcome::Unreachable });
                };
                tasks.push(Task::AskState { uid, address });
            }
            Effect::Publish { uid, claim, revision, timings } => self.publish(&uid, &claim, &revision, timings),
            Effect::Remove { uid, claim, revision } => {
                self.reported.remove(&uid);
                let nobody = self.gateways.remove(&uid, claim.clone(), &revision);
                return nobody.then_some(Event::RemovalAcked { uid, claim });
            }
            Effect::Gone { uid, revision } => {
                self.reported.remove(&uid);
                self.gateways.gone(&uid, &revision, now);
                self.report_model_of(&revision);
            }
            Effect::Drain { uid, claim } => {
                let Some(address) = self.admin_of(&uid) else { return Some(Event::Drained { uid, claim }) };
                let within = self.longest_request(&uid) + self.drain_grace;
                tasks.push(Task::Drain { uid, claim, address, within });
            }
            Effect::Delete { uid, claim, label } => {
                let expected =
                    Expected { state: Some(translate::state(label)), claim_id: Some(claim.as_str().to_owned()) };
                tasks.push(Task::Delete { uid, label, expected });
            }
            Effect::Create { claim, revision, deadline } => {
                let Some(known) = self.table.get(&revision) else {
                    let outcome = claim::CreateOutcome::Failed("its revision is gone".into());
                    return Some(Event::Created { claim, outcome });
                };
                let replica = translate::cold_start(known, claim.as_str(), deadline, self.clock);
                tasks.push(Task::Create { claim, replica });
            }
            Effect::Condition { revision, condition } => {
                match condition {
                    Some(_) => {
                        self.troubled_since.entry(revision.clone()).or_insert(now);
                    }
                    None => {
                        self.troubled_since.remove(&revision);
                    }
                }
                self.report_model_of(&revision);
            }
        }
        None
    }

    fn write(
        &self,
        ticket: &claim::Ticket,
        from: claim::Label,
        revision: &RevisionKey,
        deadline: Moment,
    ) -> Option<(Expected, Patch)> {
        match self.table.get(revision) {
            Some(known) => Some(translate::write(ticket, from, known, deadline, self.clock)),
            // A replica of a revision that is gone can still be drained.
            None if ticket.write == claim::Write::Drain => Some(translate::drain(ticket, from)),
            None => None,
        }
    }

    /// Periodic duties: adoption that takes too long, and gauges. Returns the models whose scale is due.
    pub(crate) fn tick(&mut self) -> Vec<ModelKey> {
        let now = self.clock.now();
        self.gateways.welcome(now);
        self.measure(now);
        self.scaler.begin_round(now)
    }

    fn measure(&self, now: Moment) {
        let totals = self.claims.totals();
        self.metrics.idle.set(count(totals.idle));
        self.metrics.waiting.set(count(totals.waiting));
        self.metrics.cold_starts.set(count(totals.cold_starts));
        self.metrics.gateways.set(count(self.gateways.connected().count()));
        self.metrics.staleness.set(self.gateways.staleness(now).as_secs_f64());
        for revision in self.table.all() {
            let labels = [&*revision.model.namespace, &*revision.model.name, revision.device.as_str()];
            let ready = self.claims.counts(&revision.key).ready;
            self.metrics.ready.with_label_values(&labels).set(count(ready));
        }
    }

    fn count(&self, event: &Event) {
        match event {
            Event::Written { ticket, outcome } => self.metrics.written(ticket.write, outcome),
            Event::Specialized { outcome, .. } => self.metrics.specialized(outcome),
            _ => {}
        }
    }

    /// Replicas that a revision should have.
    pub(crate) fn desired(&self, revision: &RevisionKey) -> u32 {
        self.desired.get(revision).copied().unwrap_or(0)
    }

    /// Why a model has the replicas that it has.
    pub(crate) fn explain(&self, model: &ModelKey) -> Option<Explanation> {
        self.scaler.explain(model, self.clock.now(), &self.claims)
    }

    fn admin_of(&self, uid: &Uid) -> Option<SocketAddr> {
        self.replicas.get(uid).and_then(|replica| admin_address(replica))
    }

    fn longest_request(&self, uid: &Uid) -> Duration {
        let claim = self.replicas.get(uid).and_then(|replica| replica.claim.as_ref());
        let revision = claim.and_then(|claim| self.table.get(&RevisionKey::from(claim.revision.as_str())));
        revision.map_or(UNKNOWN_TIMEOUT, |revision| revision.timeout)
    }
}

/// Longest that a request of a revision may run that is gone from the table: the default of Knative's `timeoutSeconds`.
const UNKNOWN_TIMEOUT: Duration = Duration::from_secs(300);

fn admin_address(replica: &Replica) -> Option<SocketAddr> {
    match replica.lifecycle {
        Lifecycle::Ready { admin, .. } => Some(admin),
        Lifecycle::Starting | Lifecycle::Exited { .. } => None,
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn count(number: impl TryInto<i64>) -> i64 {
    number.try_into().unwrap_or(i64::MAX)
}
