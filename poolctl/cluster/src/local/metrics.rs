//! What the local adapter measures.

use prometheus::{Histogram, HistogramOpts, IntCounter, IntCounterVec, IntGauge, Opts, Registry};

/// Metrics of one `LocalCluster`.
pub(super) struct LocalMetrics {
    /// Records and processes that count against the limit.
    pub(super) replicas: IntGauge,
    /// The limit.
    pub(super) replicas_limit: IntGauge,
    /// From creation to ready.
    pub(super) startup: Histogram,
    /// How starts ended.
    pub(super) starts: IntCounterVec,
    /// Processes that had to be killed because they did not end after SIGTERM.
    pub(super) kills: IntCounter,
    /// Watches that lagged and listed anew.
    pub(super) relists: IntCounter,
}

/// Outcome label of `kferving_local_starts_total`.
#[derive(Clone, Copy)]
pub(super) enum StartOutcome {
    Ready,
    Failed,
    Stopped,
}

impl StartOutcome {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ready => "ready",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

impl LocalMetrics {
    pub(super) fn register(registry: &Registry) -> Result<Self, prometheus::Error> {
        let metrics = Self {
            replicas: IntGauge::new("kferving_local_replicas", "Replicas of this machine, those stopping included.")?,
            replicas_limit: IntGauge::new("kferving_local_replicas_limit", "Most replicas of this machine at a time.")?,
            startup: Histogram::with_opts(
                HistogramOpts::new("kferving_local_startup_seconds", "Time from a replica's creation to ready.")
                    .buckets(vec![0.01, 0.025, 0.05, 0.1, 0.15, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0]),
            )?,
            starts: IntCounterVec::new(
                Opts::new("kferving_local_starts_total", "Replicas started, by outcome: ready, failed, stopped."),
                &["outcome"],
            )?,
            kills: IntCounter::new(
                "kferving_local_kills_total",
                "Replicas killed because they did not end within the grace after SIGTERM.",
            )?,
            relists: IntCounter::new(
                "kferving_local_watch_relists_total",
                "Watches that fell behind by more than the backlog and listed anew.",
            )?,
        };
        registry.register(Box::new(metrics.replicas.clone()))?;
        registry.register(Box::new(metrics.replicas_limit.clone()))?;
        registry.register(Box::new(metrics.startup.clone()))?;
        registry.register(Box::new(metrics.starts.clone()))?;
        registry.register(Box::new(metrics.kills.clone()))?;
        registry.register(Box::new(metrics.relists.clone()))?;
        Ok(metrics)
    }

    pub(super) fn count_start(&self, outcome: StartOutcome) {
        self.starts.with_label_values(&[outcome.as_str()]).inc();
    }
}
