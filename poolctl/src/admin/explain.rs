//! Why a model has its replicas, and what its next request would cost.

use autoscaler::{ScaleExplanation, VariantScale};
use autoscaler_policy::ModelKey;
use autoscaler_policy::claim::ConditionReason;
use gateway::{DeviceExplanation, ModelExplanation};

use super::messages::{
    Alternative, ColdPath, DeviceCost, Explanation, ModelStatus, NextRequest, Outcome, PlanExplanation, VariantPlan,
};
use super::{Model, Parts, status};

/// Reason of a request that a replica would be brought up for.
const COLD: &str = "cold";

/// The explanation for a request of `bytes` bytes; `None` where there is no such model.
pub(super) fn of(parts: &Parts, key: &ModelKey, bytes: u64) -> Option<Explanation> {
    let model = parts.models.iter().find(|model| {
        let definition = &model.entry.definition;
        definition.namespace == *key.namespace && definition.name == *key.name
    })?;
    let next = parts.gateway.explain(&key.namespace, &key.name, bytes)?;
    let status = status::of_model(parts, model);
    Some(Explanation {
        next_request: next_request(parts, model, &status, &next),
        model: status,
        plan: parts.autoscaler.explain(&key.namespace, &key.name).map(plan),
    })
}

fn plan(explanation: ScaleExplanation) -> PlanExplanation {
    let chosen = explanation.panic_plan.replicas;
    PlanExplanation {
        report_age_seconds: explanation.report_age_ms.map(|millis| millis as f64 / 1e3),
        held: explanation.held,
        in_flight: explanation.in_flight,
        idle_seconds: explanation.idle_for_ms.map(|millis| millis as f64 / 1e3),
        silent_gateways: explanation.unknown_gateways,
        objective_ms: explanation.objective_ms,
        stable_concurrency: explanation.stable_concurrency,
        panic_concurrency: explanation.panic_concurrency,
        panicking: explanation.panicking,
        fit: explanation.verdict,
        alternatives: explanation
            .alternatives
            .into_iter()
            .map(|mix| Alternative {
                cpu: mix.replicas.cpu,
                gpu: mix.replicas.gpu,
                cost: mix.cost,
                carries: mix.carries,
                chosen: mix.replicas == chosen,
            })
            .collect(),
        variants: explanation.variants.into_iter().map(variant).collect(),
    }
}

fn variant(variant: VariantScale) -> VariantPlan {
    // its key is NAMESPACE/NAME
    let revision = variant.revision.rsplit('/').next().unwrap_or_default().to_owned();
    VariantPlan {
        device: variant.device.to_owned(),
        revision,
        ready: variant.ready,
        desired: variant.desired,
        min: variant.min,
        max: variant.max,
        why: variant.why.as_str().to_owned(),
        service_ms: variant.service_time_ms,
        evidence: variant.evidence,
        target_concurrency: variant.target_concurrency,
        cost: variant.cost,
        obstacle: variant.unavailable.or_else(|| variant.obstacle.map(ConditionReason::as_str).map(str::to_owned)),
    }
}

fn next_request(parts: &Parts, model: &Model, status: &ModelStatus, next: &ModelExplanation) -> NextRequest {
    let revisions = parts.autoscaler.status().revisions;
    let activation = |device: &str| {
        let ours = revisions.iter().filter(|revision| {
            revision.namespace == status.namespace && revision.model == status.name && revision.device == device
        });
        let last = ours.filter_map(|revision| revision.last_activation.as_ref()).min_by_key(|last| last.ago_ms)?;
        Some(last.claim_ms + last.specialize_ms + last.load_ms)
    };
    let is_cold = next.devices.iter().all(|device| !device.active);
    let outcome = match (&next.chosen, &next.refusal) {
        (Some(_), _) => Outcome::Sent,
        (None, Some(_)) => Outcome::Refused,
        (None, None) if is_cold => Outcome::ColdStart,
        (None, None) => Outcome::Held,
    };
    NextRequest {
        request_bytes: next.request_bytes,
        target_ms: next.target_ms,
        outcome,
        chosen: next.chosen.map(str::to_owned),
        reason: if outcome == Outcome::ColdStart { COLD } else { next.reason }.to_owned(),
        refusal: next.refusal.clone(),
        cold_start: (outcome == Outcome::ColdStart).then(|| cold_path(parts, model, status)),
        devices: next.devices.iter().map(|device| cost(activation(device.device), device)).collect(),
    }
}

fn cold_path(parts: &Parts, model: &Model, status: &ModelStatus) -> ColdPath {
    let definition = &model.entry.definition;
    let pools = parts.pools.status();
    let pool = pools
        .iter()
        .find(|pool| pool.spec.key.namespace == definition.namespace && pool.spec.key.name == definition.warm_pool);
    ColdPath {
        pool: definition.warm_pool.clone(),
        idle: pool.map_or(0, |pool| pool.counts.idle),
        last_ms: status.last_cold_start.map(|last| last.claim_ms + last.specialize_ms + last.load_ms),
    }
}

fn cost(activation_ms: Option<f64>, device: &DeviceExplanation) -> DeviceCost {
    DeviceCost {
        device: device.device.to_owned(),
        active: device.active,
        predicted_ms: device.predicted_ms,
        measured: device.measured,
        activation_ms: activation_ms.filter(|_| !device.active),
        cost: device.cost,
        in_flight: device.replicas.iter().map(|replica| replica.in_flight).sum(),
        concurrency: device.replicas.iter().map(|replica| replica.concurrency).sum(),
    }
}
