//! What the autoscaler measures.

use autoscaler_policy::claim::{LoadOutcome, Origin, Timings, Write, WriteOutcome};
use gateway_policy::Device;
use prometheus::{
    Gauge, GaugeVec, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

use crate::settings::EffectLimits;

/// The kinds of effects, each with a bound of its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum EffectKind {
    Store,
    Specialize,
    Query,
    Drain,
}

impl EffectKind {
    pub(crate) const ALL: [Self; 4] = [Self::Store, Self::Specialize, Self::Query, Self::Drain];

    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Store => "store",
            Self::Specialize => "specialize",
            Self::Query => "query",
            Self::Drain => "drain",
        }
    }

    pub(crate) const fn limit(self, limits: EffectLimits) -> usize {
        match self {
            Self::Store => limits.store,
            Self::Specialize => limits.specialize,
            Self::Query => limits.query,
            Self::Drain => limits.drain,
        }
    }
}

/// Metrics of one autoscaler.
#[derive(Clone)]
pub(crate) struct Metrics {
    writes: IntCounterVec,
    specializations: IntCounterVec,
    activations: IntCounterVec,
    phases: HistogramVec,
    pub(crate) pool_hits: IntCounterVec,
    pub(crate) pool_misses: IntCounterVec,
    pub(crate) desired: IntGaugeVec,
    pub(crate) ready: IntGaugeVec,
    pub(crate) idle: IntGauge,
    pub(crate) waiting: IntGauge,
    pub(crate) cold_starts: IntGauge,
    pub(crate) gateways: IntGauge,
    pub(crate) staleness: Gauge,
    pub(crate) messages: IntCounterVec,
    pub(crate) effects: IntGaugeVec,
    effects_limit: GaugeVec,
    pub(crate) unreadable: IntCounter,
}

impl Metrics {
    pub(crate) fn register(registry: &Registry, limits: EffectLimits) -> Result<Self, prometheus::Error> {
        let counters = |name: &str, help: &str, labels: &[&str]| IntCounterVec::new(Opts::new(name, help), labels);
        let gauges = |name: &str, help: &str, labels: &[&str]| IntGaugeVec::new(Opts::new(name, help), labels);
        let metrics = Self {
            writes: counters(
                "kferving_autoscaler_writes_total",
                "Compare-and-swap writes to replicas, by write and outcome.",
                &["write", "outcome"],
            )?,
            specializations: counters(
                "kferving_autoscaler_specializations_total",
                "Models sent to replicas, by outcome.",
                &["outcome"],
            )?,
            activations: counters(
                "kferving_autoscaler_activations_total",
                "Replicas brought up, by origin: pool or cold.",
                &["origin"],
            )?,
            phases: HistogramVec::new(
                HistogramOpts::new(
                    "kferving_autoscaler_activation_seconds",
                    "Time of an activation by origin and phase: backoff, claim, specialize, load.",
                )
                .buckets(vec![0.0005, 0.001, 0.002, 0.004, 0.008, 0.015, 0.03, 0.06, 0.12, 0.25, 0.5, 1.0, 4.0, 16.0]),
                &["origin", "phase"],
            )?,
            pool_hits: counters(
                "kferving_autoscaler_pool_hits_total",
                "Replicas brought up from a warm pool.",
                &["namespace", "pool"],
            )?,
            pool_misses: counters(
                "kferving_autoscaler_pool_misses_total",
                "Replicas brought up by a cold start because their warm pool could not serve them.",
                &["namespace", "pool"],
            )?,
            desired: gauges(
                "kferving_autoscaler_desired_replicas",
                "Replicas that a model's variant should have.",
                &["namespace", "model", "device"],
            )?,
            ready: gauges(
                "kferving_autoscaler_ready_replicas",
                "Replicas of a model's variant that gateways may use.",
                &["namespace", "model", "device"],
            )?,
            idle: IntGauge::new("kferving_autoscaler_idle_replicas", "Idle replicas of all warm pools.")?,
            waiting: IntGauge::new(
                "kferving_autoscaler_waiting_revisions",
                "Revisions that wait for a replica or for room to start one.",
            )?,
            cold_starts: IntGauge::new("kferving_autoscaler_cold_starts_in_flight", "Cold starts under way.")?,
            gateways: IntGauge::new("kferving_autoscaler_gateways", "Gateways that are connected.")?,
            staleness: Gauge::new(
                "kferving_autoscaler_demand_staleness_seconds",
                "Longest time that a connected gateway has said nothing.",
            )?,
            messages: counters(
                "kferving_autoscaler_demand_messages_total",
                "Messages from gateways, by kind; those that could not be used are of kind refused.",
                &["kind"],
            )?,
            effects: gauges(
                "kferving_autoscaler_effects",
                "Effects under way or waiting for their turn, by kind.",
                &["kind"],
            )?,
            effects_limit: GaugeVec::new(
                Opts::new("kferving_autoscaler_effects_limit", "Effects that run at a time, by kind."),
                &["kind"],
            )?,
            unreadable: IntCounter::new(
                "kferving_autoscaler_unreadable_replicas_total",
                "Replicas that are ignored because their labels or resources cannot be read.",
            )?,
        };
        registry.register(Box::new(metrics.writes.clone()))?;
        registry.register(Box::new(metrics.specializations.clone()))?;
        registry.register(Box::new(metrics.activations.clone()))?;
        registry.register(Box::new(metrics.phases.clone()))?;
        registry.register(Box::new(metrics.pool_hits.clone()))?;
        registry.register(Box::new(metrics.pool_misses.clone()))?;
        registry.register(Box::new(metrics.desired.clone()))?;
        registry.register(Box::new(metrics.ready.clone()))?;
        registry.register(Box::new(metrics.idle.clone()))?;
        registry.register(Box::new(metrics.waiting.clone()))?;
        registry.register(Box::new(metrics.cold_starts.clone()))?;
        registry.register(Box::new(metrics.gateways.clone()))?;
        registry.register(Box::new(metrics.staleness.clone()))?;
        registry.register(Box::new(metrics.messages.clone()))?;
        registry.register(Box::new(metrics.effects.clone()))?;
        registry.register(Box::new(metrics.effects_limit.clone()))?;
        registry.register(Box::new(metrics.unreadable.clone()))?;
        for kind in EffectKind::ALL {
            let limit = u32::try_from(kind.limit(limits)).unwrap_or(u32::MAX);
            metrics.effects_limit.with_label_values(&[kind.as_str()]).set(f64::from(limit));
        }
        Ok(metrics)
    }

    pub(crate) fn written(&self, write: Write, outcome: &WriteOutcome) {
        let write = match write {
            Write::Claim => "claim",
            Write::ClaimServing => "claim-serving",
            Write::Serve => "serve",
            Write::Drain => "drain",
        };
        let outcome = match outcome {
            WriteOutcome::Won(_) => "won",
            WriteOutcome::Lost => "lost",
            WriteOutcome::Unknown => "unknown",
        };
        self.writes.with_label_values(&[write, outcome]).inc();
    }

    pub(crate) fn specialized(&self, outcome: &LoadOutcome) {
        let outcome = match outcome {
            LoadOutcome::Loaded { .. } => "loaded",
            LoadOutcome::Conflict => "conflict",
            LoadOutcome::Rejected { .. } => "rejected",
            LoadOutcome::TimedOut => "timed-out",
            LoadOutcome::Unreachable => "unreachable",
        };
        self.specializations.with_label_values(&[outcome]).inc();
    }

    /// Counts a replica that was brought up, for a revision that claims from `pool`, a namespace and a name. An attempt that
    /// fails is neither a hit nor a miss: the next one for the same demand is.
    pub(crate) fn activated(&self, timings: &Timings, pool: Option<(&str, &str)>) {
        if let Some((namespace, name)) = pool {
            let used = match timings.origin {
                Origin::Pool => &self.pool_hits,
                Origin::Cold => &self.pool_misses,
            };
            used.with_label_values(&[namespace, name]).inc();
        }
        let origin = origin(timings.origin);
        self.activations.with_label_values(&[origin]).inc();
        let Timings { backoff, claim, specialize, load, .. } = timings;
        for (phase, time) in [("backoff", backoff), ("claim", claim), ("specialize", specialize), ("load", load)] {
            self.phases.with_label_values(&[origin, phase]).observe(time.as_secs_f64());
        }
    }

    /// Forgets the gauges of a variant that no longer exists.
    pub(crate) fn forget_variant(&self, namespace: &str, model: &str, device: Device) {
        let labels = [namespace, model, device.as_str()];
        // An error means only that they were never set.
        let _ = self.desired.remove_label_values(&labels);
        let _ = self.ready.remove_label_values(&labels);
    }
}

pub(crate) const fn origin(origin: Origin) -> &'static str {
    match origin {
        Origin::Pool => "pool",
        Origin::Cold => "cold",
    }
}
