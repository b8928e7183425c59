//! What this process measures about itself, but for what the front counts by protocol.

use std::time::{SystemTime, UNIX_EPOCH};

use prometheus::{
    Gauge, GaugeVec, Histogram, HistogramOpts, IntGauge, IntGaugeVec, Opts, Registry, exponential_buckets,
};

use model_wrapper_admin::WrapperState;

/// Metrics of the executor and of the model's life. Clones share the values.
#[derive(Clone, Debug)]
pub struct WrapperMetrics {
    /// Time from arrival to the start of the run.
    pub queue_seconds: Histogram,
    /// Time of a run.
    pub infer_seconds: Histogram,
    /// Rows of a run, where batching is on.
    pub batch_rows: Histogram,
    /// Requests that hold a place.
    pub in_flight: IntGauge,
    /// Requests that wait for the model's thread.
    pub queue_depth: IntGauge,
    /// Bytes of requests in memory: bodies that come, inputs that wait or run.
    pub request_bytes: IntGauge,
    /// Time that the model took to load, digest check included; 0 while there is none.
    pub load_seconds: Gauge,
    state: IntGaugeVec,
    start: GaugeVec,
}

/// A moment of the start, on the wall clock: what a cold start is taken apart by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Milestone {
    /// The process began.
    Started,
    /// The model was loaded.
    Loaded,
    /// The traffic port answers.
    Ready,
}

const STATES: [(WrapperState, &str); 5] = [
    (WrapperState::Idle, "idle"),
    (WrapperState::Loading, "loading"),
    (WrapperState::Serving, "serving"),
    (WrapperState::Failed, "failed"),
    (WrapperState::Draining, "draining"),
];

impl WrapperMetrics {
    /// Registers everything.
    ///
    /// # Errors
    /// A name is registered already.
    pub fn register(registry: &Registry) -> prometheus::Result<Self> {
        // 10 µs, a tiny model's run, to 84 s, beyond the usual timeout.
        let seconds = exponential_buckets(10e-6, 2.5, 18)?;
        let rows = exponential_buckets(1.0, 2.0, 11)?;
        let histogram = |name: &str, help: &str, buckets: &[f64]| {
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(buckets.to_vec()))
        };
        let metrics = Self {
            queue_seconds: histogram(
                "kferving_wrapper_queue_duration_seconds",
                "Time that a request waited for the model.",
                &seconds,
            )?,
            infer_seconds: histogram(
                "kferving_wrapper_infer_duration_seconds",
                "Time of a run of the model.",
                &seconds,
            )?,
            batch_rows: histogram("kferving_wrapper_batch_rows", "Rows of a run, where batching is on.", &rows)?,
            in_flight: IntGauge::new("kferving_wrapper_in_flight_requests", "Requests that hold a place.")?,
            queue_depth: IntGauge::new(
                "kferving_wrapper_queued_requests",
                "Requests that wait for the model's thread.",
            )?,
            request_bytes: IntGauge::new(
                "kferving_wrapper_request_bytes",
                "Bytes of requests in memory: bodies that come, inputs that wait or run.",
            )?,
            load_seconds: Gauge::new("kferving_wrapper_model_load_seconds", "Time that the model took to load.")?,
            state: IntGaugeVec::new(
                Opts::new("kferving_wrapper_state", "1 for the state that the wrapper is in, 0 for the others."),
                &["state"],
            )?,
            start: GaugeVec::new(
                Opts::new(
                    "kferving_wrapper_start_timestamp_seconds",
                    "When, in Unix time, the process started, its model was loaded and its traffic port answered.",
                ),
                &["milestone"],
            )?,
        };
        registry.register(Box::new(metrics.queue_seconds.clone()))?;
        registry.register(Box::new(metrics.infer_seconds.clone()))?;
        registry.register(Box::new(metrics.batch_rows.clone()))?;
        registry.register(Box::new(metrics.in_flight.clone()))?;
        registry.register(Box::new(metrics.queue_depth.clone()))?;
        registry.register(Box::new(metrics.request_bytes.clone()))?;
        registry.register(Box::new(metrics.load_seconds.clone()))?;
        registry.register(Box::new(metrics.state.clone()))?;
        registry.register(Box::new(metrics.start.clone()))?;
        metrics.enter(WrapperState::Idle);
        Ok(metrics)
    }

    /// Reports when a milestone was passed.
    pub fn passed(&self, milestone: Milestone, at: SystemTime) {
        let label = match milestone {
            Milestone::Started => "started",
            Milestone::Loaded => "loaded",
            Milestone::Ready => "ready",
        };
        // A clock before 1970 is not told.
        if let Ok(since) = at.duration_since(UNIX_EPOCH) {
            self.start.with_label_values(&[label]).set(since.as_secs_f64());
        }
    }

    /// Reports the state entered.
    pub fn enter(&self, entered: WrapperState) {
        for (state, label) in STATES {
            self.state.with_label_values(&[label]).set(i64::from(state == entered));
        }
    }
}
