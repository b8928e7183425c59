//! What gateways do to the leader's state.

use std::collections::BTreeSet;

use autoscaler_demand::Hello;
use autoscaler_policy::claim::Event;
use autoscaler_policy::{GatewayId, ModelKey, ModelReport, Uid};

use super::{Leader, Task};
use crate::demand::{Outbox, SessionId};

impl Leader {
    /// A gateway opened a stream.
    pub(crate) fn gateway_joined(&mut self, hello: Hello, tasks: &mut Vec<Task>) -> Outbox {
        let now = self.clock.now();
        let gateway = GatewayId::from(hello.gateway_id);
        self.scaler.hello(&gateway, hello.epoch, now);
        let known = hello.replicas.iter().map(|replica| Uid::from(replica.uid.as_str()));
        let unknown: BTreeSet<_> = known.filter(|uid| !self.gateways.is_published(uid)).collect();
        self.reported.extend(unknown.iter().cloned());
        let outbox = self.gateways.open(&gateway, unknown, now);
        for replica in hello.replicas {
            let (revision, uid, claim) = (replica.revision.into(), replica.uid.into(), replica.claim_id.into());
            self.apply(Event::Reported { revision, uid, claim }, tasks);
        }
        outbox
    }

    /// Its stream ended: its demand is unknown, and no removal waits for it.
    pub(crate) fn gateway_left(&mut self, session: SessionId, tasks: &mut Vec<Task>) {
        let (gateway, acked) = self.gateways.close(session);
        if let Some(gateway) = gateway {
            self.scaler.silent(&gateway);
        }
        for (uid, claim) in acked {
            self.apply(Event::RemovalAcked { uid, claim }, tasks);
        }
    }

    /// The whole demand that one gateway sees. Models with held requests do not wait for the tick.
    pub(crate) fn snapshot(&mut self, gateway: &GatewayId, reports: &[ModelReport], tasks: &mut Vec<Task>) {
        self.scaler.snapshot(gateway, reports, self.clock.now());
        for report in reports.iter().filter(|report| report.held > 0) {
            self.rescale_model(&report.model, tasks);
        }
    }

    /// A model without a free replica holds requests.
    pub(crate) fn held(&mut self, gateway: &GatewayId, model: &ModelKey, held: u32, tasks: &mut Vec<Task>) {
        self.scaler.held(gateway, model, held, self.clock.now());
        self.rescale_model(model, tasks);
    }

    /// A gateway stopped sending to a replica.
    pub(crate) fn removal_acked(&mut self, session: SessionId, uid: &Uid, tasks: &mut Vec<Task>) {
        if let Some((uid, claim)) = self.gateways.ack(session, uid) {
            self.apply(Event::RemovalAcked { uid, claim }, tasks);
        }
    }
}
