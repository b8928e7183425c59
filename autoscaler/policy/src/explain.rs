//! Why a model has the replicas that it has, as data for people to read.

use std::sync::Arc;
use std::time::Duration;

use gateway_policy::Device;
use serde::{Deserialize, Serialize};

use crate::claim::ConditionReason;
use crate::ids::{ModelKey, RevisionKey};
use crate::plan::{Alternative, Fit, Plan};
use crate::service::Evidence;

/// Everything that went into the number of replicas of one model.
#[derive(Clone, Debug, PartialEq)]
pub struct Explanation {
    /// The model.
    pub model: ModelKey,
    /// What gateways report.
    pub demand: DemandSeen,
    /// Latency per request that is aimed at.
    pub objective: Option<Duration>,
    /// Average concurrency over the stable window, in requests on the reference device.
    pub stable_concurrency: f64,
    /// The same over the panic window, with what held requests need now.
    pub panic_concurrency: f64,
    /// The device in whose terms concurrency is counted.
    pub reference: Device,
    /// Whether panic mode is on: nothing is scaled down.
    pub panicking: bool,
    /// The plan for the stable window.
    pub stable_plan: Plan,
    /// The plan for the panic window.
    pub panic_plan: Plan,
    /// Every mix that was looked at for the panic window, which is the one that scales up.
    pub alternatives: Vec<Alternative>,
    /// The variants.
    pub variants: Vec<VariantExplanation>,
}

/// What gateways report of a model.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct DemandSeen {
    /// Gateways known.
    pub gateways: usize,
    /// Of them, those that are silent: their last report is kept, and nothing is scaled down.
    pub unknown_gateways: usize,
    /// Age of the oldest of the gateways' last reports, from which the requests in flight are; absent before the first.
    pub report_age: Option<Duration>,
    /// Requests that wait for a replica: told at once where none had waited, else with the reports.
    pub held: u32,
    /// Requests on replicas.
    pub in_flight: u32,
    /// Time since the last request; absent if there was none.
    pub idle_for: Option<Duration>,
}

/// One variant.
#[derive(Clone, Debug, PartialEq)]
pub struct VariantExplanation {
    /// Its device.
    pub device: Device,
    /// Its revision.
    pub revision: RevisionKey,
    /// Why its device cannot be had here.
    pub unavailable: Option<Arc<str>>,
    /// What keeps its replicas from coming up.
    pub obstacle: Option<ConditionReason>,
    /// Mean service time of the requests that there are.
    pub service_time: Duration,
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

/// What can be said of a model's plan and its objective.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// There is no objective.
    NoObjective,
    /// No request has been measured on a device of the plan: nothing can be said.
    Unmeasured,
    /// It carries the load within the objective.
    WithinObjective,
    /// It carries the load; no mix keeps the objective.
    ObjectiveMissed,
    /// Everything that may be had does not carry the load.
    Overloaded,
}

impl Explanation {
    /// Whether the plan of the panic window, which is the one that scales up, does what it should. A guess of a service time is
    /// enough to plan with, and not to promise.
    #[must_use]
    pub fn verdict(&self) -> Verdict {
        let is_used = |variant: &&VariantExplanation| self.panic_plan.replicas[variant.device.index()] > 0;
        let is_known = |variant: &VariantExplanation| variant.evidence.is_of_its_device();
        let used = self.variants.iter().filter(is_used).count();
        let measured = match used {
            0 => self.variants.iter().any(is_known),
            _ => self.variants.iter().filter(is_used).all(is_known),
        };
        match self.panic_plan.fit {
            // that concurrency is too high is counted, whatever the service time
            Fit::Overloaded => Verdict::Overloaded,
            _ if self.objective.is_none() => Verdict::NoObjective,
            _ if !measured => Verdict::Unmeasured,
            Fit::WithinObjective => Verdict::WithinObjective,
            Fit::ObjectiveMissed => Verdict::ObjectiveMissed,
        }
    }
}

/// Why a variant should have the number of replicas that it should have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Why {
    /// No demand so far.
    #[default]
    NoDemand,
    /// No request for the time after which a model goes to zero.
    Idle,
    /// The stable window wants it.
    StableWindow,
    /// The panic window wants it, or wanted it since panic began.
    PanicWindow,
    /// A gateway is silent, so nothing is scaled down.
    UnknownGateway,
    /// The time after which a model goes to zero is not over.
    RecentRequest,
    /// It serves while the device that the plan prefers is cold.
    ColdStandby,
    /// It replaces the device that the plan prefers, which cannot be brought up.
    Substitute,
    /// Its minimum.
    Minimum,
    /// Its maximum: more was wanted, or it carries less than the load.
    Maximum,
    /// Its device is not available here.
    DeviceUnavailable,
}

impl Why {
    /// All reasons.
    pub const ALL: [Self; 11] = [
        Self::NoDemand,
        Self::Idle,
        Self::StableWindow,
        Self::PanicWindow,
        Self::UnknownGateway,
        Self::RecentRequest,
        Self::ColdStandby,
        Self::Substitute,
        Self::Minimum,
        Self::Maximum,
        Self::DeviceUnavailable,
    ];

    /// The reason as a word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoDemand => "no-demand",
            Self::Idle => "idle",
            Self::StableWindow => "stable-window",
            Self::PanicWindow => "panic-window",
            Self::UnknownGateway => "unknown-gateway",
            Self::RecentRequest => "recent-request",
            Self::ColdStandby => "cold-standby",
            Self::Substitute => "substitute",
            Self::Minimum => "minimum",
            Self::Maximum => "maximum",
            Self::DeviceUnavailable => "device-unavailable",
        }
    }
}
