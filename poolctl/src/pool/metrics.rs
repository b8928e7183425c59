//! What the pools measure.

use prometheus::{IntCounterVec, IntGaugeVec, Opts, Registry};

use super::placement::PoolKey;
use super::state::{Action, Counts};

/// Metrics of all pools. Pools come from files and are few, so their names are bounded label values.
#[derive(Clone)]
pub(super) struct PoolMetrics {
    replicas: IntGaugeVec,
    size: IntGaugeVec,
    actions: IntCounterVec,
    failures: IntCounterVec,
}

const POOL: [&str; 2] = ["namespace", "pool"];

impl PoolMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let with = |label: &'static str| [POOL[0], POOL[1], label];
        let metrics = Self {
            replicas: IntGaugeVec::new(
                Opts::new("kferving_pool_replicas", "Replicas of a pool by state: idle, starting, claimed, retiring."),
                &with("state"),
            )?,
            size: IntGaugeVec::new(Opts::new("kferving_pool_size", "Idle replicas that a pool should have."), &POOL)?,
            actions: IntCounterVec::new(
                Opts::new("kferving_pool_actions_total", "What the controller did: create, retire, sweep."),
                &with("action"),
            )?,
            failures: IntCounterVec::new(
                Opts::new("kferving_pool_start_failures_total", "Starts that failed and idle replicas that ended."),
                &POOL,
            )?,
        };
        registry.register(Box::new(metrics.replicas.clone()))?;
        registry.register(Box::new(metrics.size.clone()))?;
        registry.register(Box::new(metrics.actions.clone()))?;
        registry.register(Box::new(metrics.failures.clone()))?;
        Ok(metrics)
    }

    pub(super) fn observe(&self, pool: &PoolKey, counts: Counts, size: u32) {
        let set = |state: &str, count: u32| {
            self.replicas.with_label_values(&[&pool.namespace, &pool.name, state]).set(i64::from(count));
        };
        set("idle", counts.idle);
        set("starting", counts.starting);
        set("claimed", counts.claimed);
        set("retiring", counts.retiring);
        self.size.with_label_values(&[&pool.namespace, &pool.name]).set(i64::from(size));
    }

    pub(super) fn count(&self, pool: &PoolKey, action: &Action) {
        let action = match action {
            Action::Create => "create",
            Action::Retire(_) => "retire",
            Action::Sweep(_) => "sweep",
        };
        self.actions.with_label_values(&[&pool.namespace, &pool.name, action]).inc();
    }

    pub(super) fn count_failure(&self, pool: &PoolKey) {
        self.failures.with_label_values(&[&pool.namespace, &pool.name]).inc();
    }
}
