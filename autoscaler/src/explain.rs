//! Why a model has the replicas that it has, as plain data for `poolctl explain`.

use std::time::Duration;

use autoscaler_policy::claim::ConditionReason;
use autoscaler_policy::plan::{Alternative, Mix, Plan};
use autoscaler_policy::service::Evidence;
use autoscaler_policy::{Explanation, VariantExplanation, Verdict, Why};
use gateway_policy::Device;

/// Everything that went into the numbers of replicas of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct ScaleExplanation {
    /// Gateways that report demand.
    pub gateways: usize,
    /// Of them, those that are silent: their last report is kept, and nothing is scaled down.
    pub unknown_gateways: usize,
    /// Milliseconds since the oldest of their last reports, from which the demand is; absent before the first.
    pub report_age_ms: Option<u64>,
    /// Requests that wait for a replica.
    pub held: u32,
    /// Requests on replicas.
    pub in_flight: u32,
    /// Milliseconds since the last request; absent if there was none.
    pub idle_for_ms: Option<u64>,
    /// Latency per request that is aimed at, in milliseconds.
    pub objective_ms: Option<f64>,
    /// Average concurrency over the stable window, in requests on the reference device.
    pub stable_concurrency: f64,
    /// The same over the panic window, with what held requests need now.
    pub panic_concurrency: f64,
    /// The device in whose terms concurrency is counted.
    pub reference_device: &'static str,
    /// Whether panic mode is on: nothing is scaled down.
    pub panicking: bool,
    /// What can be said of the plan for the panic window and the objective.
    pub verdict: Verdict,
    /// The plan for the stable window.
    pub stable_plan: PlanExplanation,
    /// The plan for the panic window.
    pub panic_plan: PlanExplanation,
    /// Every mix of devices that was looked at for the panic window, which is the one that scales up.
    pub alternatives: Vec<AlternativeExplanation>,
    /// The variants.
    pub variants: Vec<VariantScale>,
}

/// Replicas by device.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DeviceCounts {
    /// Of the CPU variant.
    pub cpu: u32,
    /// Of the GPU variant.
    pub gpu: u32,
}

/// A plan.
#[derive(Clone, Debug, PartialEq)]
pub struct PlanExplanation {
    /// The replicas.
    pub replicas: DeviceCounts,
    /// Their cost per second.
    pub cost: f64,
}

/// A mix of devices that was considered.
#[derive(Clone, Debug, PartialEq)]
pub struct AlternativeExplanation {
    /// The replicas.
    pub replicas: DeviceCounts,
    /// Their cost per second.
    pub cost: f64,
    /// Whether they carry the load.
    pub carries: bool,
    /// Whether it would swap replicas of one device for those of another.
    pub swaps: bool,
}

/// One variant.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantScale {
    /// cpu or gpu.
    pub device: &'static str,
    /// `NAMESPACE/REVISION`.
    pub revision: String,
    /// Why its device cannot be had here.
    pub unavailable: Option<String>,
    /// What keeps its replicas from coming up.
    pub obstacle: Option<ConditionReason>,
    /// Mean service time of its requests, in milliseconds.
    pub service_time_ms: f64,
    /// Where that comes from.
    pub evidence: Evidence,
    /// Concurrency that one replica should have.
    pub target_concurrency: f64,
    /// Relative cost of a replica per second.
    pub cost: f64,
    /// Replicas at least.
    pub min: u32,
    /// Replicas at most.
    pub max: u32,
    /// Replicas that serve.
    pub ready: u32,
    /// Replicas that are wanted.
    pub desired: u32,
    /// Why that many.
    pub why: Why,
}

impl From<Mix> for DeviceCounts {
    fn from(mix: Mix) -> Self {
        Self { cpu: mix[Device::Cpu.index()], gpu: mix[Device::Gpu.index()] }
    }
}

impl From<Plan> for PlanExplanation {
    fn from(plan: Plan) -> Self {
        Self { replicas: plan.replicas.into(), cost: plan.cost }
    }
}

impl From<Alternative> for AlternativeExplanation {
    fn from(alternative: Alternative) -> Self {
        let Alternative { replicas, cost, carries, swaps } = alternative;
        Self { replicas: replicas.into(), cost, carries, swaps }
    }
}

impl From<VariantExplanation> for VariantScale {
    fn from(variant: VariantExplanation) -> Self {
        Self {
            device: variant.device.as_str(),
            revision: variant.revision.to_string(),
            unavailable: variant.unavailable.map(|why| why.to_string()),
            obstacle: variant.obstacle,
            service_time_ms: variant.service_time.as_secs_f64() * 1e3,
            evidence: variant.evidence,
            target_concurrency: variant.target_concurrency,
            cost: variant.cost,
            min: variant.min,
            max: variant.max,
            ready: variant.ready,
            desired: variant.desired,
            why: variant.why,
        }
    }
}

impl From<Explanation> for ScaleExplanation {
    fn from(explanation: Explanation) -> Self {
        let demand = explanation.demand;
        let millis = |duration: Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
        Self {
            verdict: explanation.verdict(),
            gateways: demand.gateways,
            unknown_gateways: demand.unknown_gateways,
            report_age_ms: demand.report_age.map(millis),
            held: demand.held,
            in_flight: demand.in_flight,
            idle_for_ms: demand.idle_for.map(millis),
            objective_ms: explanation.objective.map(|objective| objective.as_secs_f64() * 1e3),
            stable_concurrency: explanation.stable_concurrency,
            panic_concurrency: explanation.panic_concurrency,
            reference_device: explanation.reference.as_str(),
            panicking: explanation.panicking,
            stable_plan: explanation.stable_plan.into(),
            panic_plan: explanation.panic_plan.into(),
            alternatives: explanation.alternatives.into_iter().map(Into::into).collect(),
            variants: explanation.variants.into_iter().map(Into::into).collect(),
        }
    }
}
