//! What gateways are told of replicas and models.

use autoscaler_demand::{ActivationPhases, ReplicaAdded};
use autoscaler_policy::claim::Timings;
use autoscaler_policy::{ClaimId, RevisionKey, Uid};
use poolctl_cluster::Lifecycle;

use super::{Activation, Leader, table};

impl Leader {
    /// Tells gateways of replicas that one of them reported, once they have turned out to be ours.
    pub(super) fn announce_reported(&mut self) {
        let ours: Vec<_> = self
            .claims
            .published()
            .filter(|published| self.reported.contains(published.uid))
            .map(|published| (published.uid.clone(), published.claim.clone(), published.revision.clone()))
            .collect();
        for (uid, claim, revision) in ours {
            self.publish(&uid, &claim, &revision, None);
        }
    }

    /// Tells every gateway of a replica that serves, and remembers it for those that come later.
    pub(super) fn publish(&mut self, uid: &Uid, claim: &ClaimId, key: &RevisionKey, timings: Option<Timings>) {
        let now = self.clock.now();
        let (Some(revision), Some(replica)) = (self.table.get(key), self.replicas.get(uid)) else { return };
        let Lifecycle::Ready { traffic, .. } = replica.lifecycle else { return };
        let added = ReplicaAdded {
            namespace: revision.model.namespace.to_string(),
            model: revision.model.name.to_string(),
            revision: key.to_string(),
            digest: revision.digest.to_string(),
            uid: uid.to_string(),
            claim_id: claim.to_string(),
            name: replica.name.clone(),
            address: traffic.to_string(),
            device: revision.device.as_str().to_owned(),
            concurrency: revision.container_concurrency,
            cost: revision.cost,
            phases: timings.map(|timings| ActivationPhases {
                backoff_us: super::micros(timings.backoff),
                claim_us: super::micros(timings.claim),
                specialize_us: super::micros(timings.specialize),
                load_us: super::micros(timings.load),
            }),
        };
        self.reported.remove(uid);
        self.gateways.publish(uid, added, now);
        if let Some(timings) = timings {
            let pool = revision.placement.pool.as_deref().map(|pool| (&*revision.model.namespace, pool));
            self.metrics.activated(&timings, pool);
            self.activations.insert(key.clone(), Activation { timings, at: now });
        }
        self.report_model_of(key);
    }

    /// Tells gateways whether the model of this revision can be had.
    pub(super) fn report_model_of(&mut self, key: &RevisionKey) {
        let Some(revision) = self.table.get(key) else { return };
        let model = revision.model.clone();
        let now = self.clock.now();
        let state = table::model_state(&model, &self.table, &self.claims, now);
        self.gateways.model(&model, state, now);
    }
}
