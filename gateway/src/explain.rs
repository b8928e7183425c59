//! What the gateway knows and would do, for people and for `status`.

use gateway_policy::{Device, Load, Moment, Replica as _, SizeBucket};
use serde::Serialize;

use crate::error::Reason;
use crate::gateway::Gateway;
use crate::model::{Model, ReplicaClass, Wanted};

/// What the next request of a model would cost on each device, and which would get it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelExplanation {
    /// Namespace of the model.
    pub namespace: String,
    /// Name of the model.
    pub name: String,
    /// Generation of the model that this is about.
    pub generation: u64,
    /// Body length of the request, in bytes.
    pub request_bytes: u64,
    /// Time within which it should be answered, in milliseconds: what scoring aims at.
    pub target_ms: f64,
    /// Requests that wait for a replica.
    pub held: usize,
    /// One entry per device and cost.
    pub devices: Vec<DeviceExplanation>,
    /// The device that the request would go to; absent when it would be held or refused.
    pub chosen: Option<&'static str>,
    /// Why: a `kferving-reason`.
    pub reason: &'static str,
    /// Why it would be refused, for people; absent when it would not.
    pub refusal: Option<String>,
}

/// One device class of a model.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceExplanation {
    /// cpu or gpu.
    pub device: &'static str,
    /// Relative cost of a replica-second.
    pub cost: f64,
    /// NAMESPACE/REVISION that the control plane runs on this device; absent for static replicas.
    pub revision: Option<String>,
    /// Digest of that revision's model.
    pub digest: Option<String>,
    /// Requests at a time that a replica of that revision takes.
    pub concurrency: Option<u32>,
    /// Whether a replica takes requests.
    pub active: bool,
    /// Time that the request would take on the least busy replica, in milliseconds; on a cold device, once it is up.
    pub predicted_ms: f64,
    /// Whether that is measured, or a guess until a request of about this size was answered.
    pub measured: bool,
    /// The replicas.
    pub replicas: Vec<ReplicaSnapshot>,
}

/// One replica as the gateway sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ReplicaSnapshot {
    /// Name that people see.
    pub name: String,
    /// Uid in the control plane; the URL of a static replica.
    pub uid: String,
    /// IP:PORT of its traffic.
    pub address: String,
    /// cpu or gpu.
    pub device: &'static str,
    /// Requests on it.
    pub in_flight: u32,
    /// Requests that it takes at a time; 0 means no limit.
    pub concurrency: u32,
    /// Whether it is left out now because it kept failing or refused connections.
    pub ejected: bool,
}

/// One model as the gateway sees it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelSnapshot {
    /// Namespace of the model.
    pub namespace: String,
    /// Name of the model.
    pub name: String,
    /// Requests that wait for a replica.
    pub held: usize,
    /// Requests on replicas.
    pub in_flight: u32,
    /// The replicas.
    pub replicas: Vec<ReplicaSnapshot>,
}

impl Gateway {
    /// What the next request of `request_bytes` to a model would cost on each device, and which would get it; `None` when
    /// there is no such model.
    #[must_use]
    pub fn explain(&self, namespace: &str, name: &str, request_bytes: u64) -> Option<ModelExplanation> {
        let table = self.inner.table.load();
        let model = table.get(namespace, name)?;
        let now = self.inner.clock.now();
        let size = SizeBucket::of(request_bytes);
        let route = model.route();
        let wanted = Wanted { size, deadline: now + route.timeout, is_timed: true };
        let choice = model.choice(wanted, now);
        let routing = model.routing();
        let refusal = if routing.is_empty() { refusal(model, now) } else { None };
        let unchosen = refusal.as_ref().map_or(Reason::NoCapacity, |(reason, _)| *reason).as_str();
        Some(ModelExplanation {
            namespace: namespace.to_owned(),
            name: name.to_owned(),
            generation: route.generation,
            request_bytes,
            target_ms: model.aim(wanted, now).target.as_secs_f64() * 1e3,
            held: model.waiting(),
            devices: routing.classes.iter().map(|class| explain_class(model, class, size, now)).collect(),
            chosen: choice.map(|(_, device)| device.as_str()),
            reason: choice.map_or(unchosen, |(choice, _)| choice.reason.as_str()),
            refusal: refusal.map(|(_, message)| message),
        })
    }

    /// Every model with its held requests and replicas, by namespace and name.
    #[must_use]
    pub fn snapshot(&self) -> Vec<ModelSnapshot> {
        let now = self.inner.clock.now();
        let table = self.inner.table.load();
        let of_model = |model: &Model| {
            let in_flight = |device| model.metrics.device(device).in_flight.get();
            let total: i64 = Device::ALL.into_iter().map(in_flight).sum();
            ModelSnapshot {
                namespace: model.key.namespace.clone(),
                name: model.key.name.clone(),
                held: model.waiting(),
                in_flight: u32::try_from(total).unwrap_or(0),
                replicas: model.members().iter().map(|replica| snapshot_of(replica, now)).collect(),
            }
        };
        table.models().map(|model| of_model(model)).collect()
    }
}

/// Why a model without a replica gets none.
fn refusal(model: &Model, now: Moment) -> Option<(Reason, String)> {
    let route = model.route();
    let never = route.unavailable.as_ref().map(|why| (Reason::of_unavailable(&why.reason), why.message.clone()));
    never.or_else(|| model.trouble(now).map(|trouble| (trouble.reason, trouble.message)))
}

fn explain_class(model: &Model, class: &ReplicaClass, size: SizeBucket, now: Moment) -> DeviceExplanation {
    let service_times = model.service_times(class.device);
    let loads = class.replicas.iter().map(|replica| replica.slots().load());
    let least = loads.min_by(|one, other| one.stretch().total_cmp(&other.stretch())).unwrap_or(Load::IDLE);
    let predicted = gateway_policy::predict(service_times.estimate(size, now), least, std::time::Duration::ZERO);
    let route = model.route();
    let variant = route.variants.iter().find(|variant| variant.device == class.device);
    DeviceExplanation {
        device: class.device.as_str(),
        cost: class.cost,
        revision: variant.map(|variant| variant.revision.clone()),
        digest: variant.map(|variant| variant.digest.clone()),
        concurrency: variant.map(|variant| variant.concurrency),
        active: !class.replicas.is_empty(),
        predicted_ms: predicted.as_secs_f64() * 1e3,
        measured: service_times.is_measured(size),
        replicas: class.replicas.iter().map(|replica| snapshot_of(replica, now)).collect(),
    }
}

fn snapshot_of(replica: &crate::replica::Replica, now: Moment) -> ReplicaSnapshot {
    ReplicaSnapshot {
        name: replica.spec.name.clone(),
        uid: replica.spec.id.uid.clone(),
        address: replica.spec.addr.to_string(),
        device: replica.spec.device.as_str(),
        in_flight: replica.slots().in_flight(),
        concurrency: replica.slots().concurrency(),
        ejected: replica.is_suspended(now) || replica.health().is_ejected(now),
    }
}
