//! The gateway's Prometheus metrics.
//!
//! Label values are models of the table, devices, status codes and reasons: a caller cannot make a new series. A model's
//! handles are resolved once; its series go when the model goes.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use gateway_policy::Device;
use http::StatusCode;
use parking_lot::Mutex;
use prometheus::core::Collector;
use prometheus::{
    Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge, IntGaugeVec, Opts, Registry,
};

/// Seconds: from a tiny model's warm answer to the longest cold start.
const LATENCY_BUCKETS: [f64; 16] =
    [0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 60.0];

/// Name of the histogram of answered requests, in seconds, with the labels `namespace`, `model` and `device`.
pub const REQUEST_DURATION: &str = "kferving_gateway_request_duration_seconds";

/// The device label of a request that reached no replica.
const NO_DEVICE: &str = "none";

/// Metric families of one gateway.
#[derive(Clone)]
pub(crate) struct Metrics {
    requests: IntCounterVec,
    duration: HistogramVec,
    hold_duration: HistogramVec,
    held: IntGaugeVec,
    held_bytes: IntGaugeVec,
    in_flight: IntGaugeVec,
    retries: IntCounterVec,
    ejections: IntCounterVec,
    cold_start: HistogramVec,
    /// Of each model's [`ModelMetrics`]: it has several while it goes and comes back.
    holders: Arc<Mutex<HashMap<(String, String), Holders>>>,
    pub(crate) reading_bytes: IntGauge,
    pub(crate) connections: IntGauge,
    pub(crate) connections_refused: IntCounter,
    pub(crate) connections_stalled: IntCounter,
    pub(crate) demand_connected: IntGauge,
    pub(crate) demand_dropped: IntCounter,
    pub(crate) config_reloads_applied: IntCounter,
    pub(crate) config_reloads_refused: IntCounter,
}

impl Metrics {
    /// Registers the families.
    pub(crate) fn register(registry: &Registry) -> prometheus::Result<Self> {
        let model = ["namespace", "model"];
        let device = ["namespace", "model", "device"];
        let latency = |name: &str, help: &str| HistogramOpts::new(name, help).buckets(LATENCY_BUCKETS.to_vec());
        let metrics = Self {
            requests: IntCounterVec::new(
                Opts::new("kferving_gateway_requests_total", "Requests answered, by status code and kferving-reason."),
                &["namespace", "model", "device", "code", "reason"],
            )?,
            duration: HistogramVec::new(
                latency(REQUEST_DURATION, "From a request's head to its answer's last byte."),
                &device,
            )?,
            hold_duration: HistogramVec::new(
                latency("kferving_gateway_hold_duration_seconds", "How long held requests waited for a replica."),
                &model,
            )?,
            held: IntGaugeVec::new(
                Opts::new("kferving_gateway_held_requests", "Requests that wait for a replica now."),
                &model,
            )?,
            held_bytes: IntGaugeVec::new(
                Opts::new("kferving_gateway_held_bytes", "Bytes of the bodies of requests that wait now."),
                &model,
            )?,
            in_flight: IntGaugeVec::new(
                Opts::new("kferving_gateway_in_flight_requests", "Requests on replicas now."),
                &device,
            )?,
            retries: IntCounterVec::new(
                Opts::new("kferving_gateway_retries_total", "Requests sent again, by the cause."),
                &["namespace", "model", "cause"],
            )?,
            ejections: IntCounterVec::new(
                Opts::new("kferving_gateway_ejections_total", "Replicas ejected because they kept failing."),
                &device,
            )?,
            cold_start: HistogramVec::new(
                latency("kferving_gateway_cold_start_phase_seconds", "First answers of fresh replicas, by phase."),
                &["namespace", "model", "phase"],
            )?,
            holders: Arc::default(),
            reading_bytes: IntGauge::new(
                "kferving_gateway_reading_bytes",
                "Bytes of the bodies that are being read, without what the hold counts of them.",
            )?,
            connections: IntGauge::new("kferving_gateway_connections", "Open client connections.")?,
            connections_refused: IntCounter::new(
                "kferving_gateway_connections_refused_total",
                "Client connections closed because too many were open.",
            )?,
            connections_stalled: IntCounter::new(
                "kferving_gateway_connections_stalled_total",
                "Client connections closed because their client took no byte of its answers for too long.",
            )?,
            demand_connected: IntGauge::new(
                "kferving_gateway_demand_connected",
                "Whether the demand stream to the autoscaler is up.",
            )?,
            demand_dropped: IntCounter::new(
                "kferving_gateway_demand_messages_dropped_total",
                "Immediate demand messages left to the next snapshot because the stream was behind.",
            )?,
            config_reloads_applied: IntCounter::new(
                "kferving_gateway_config_reloads_total",
                "Changed configurations that were taken over.",
            )?,
            config_reloads_refused: IntCounter::new(
                "kferving_gateway_config_reloads_refused_total",
                "Changed configurations that were refused.",
            )?,
        };
        let families: [Box<dyn Collector>; 17] = [
            Box::new(metrics.requests.clone()),
            Box::new(metrics.duration.clone()),
            Box::new(metrics.hold_duration.clone()),
            Box::new(metrics.held.clone()),
            Box::new(metrics.held_bytes.clone()),
            Box::new(metrics.in_flight.clone()),
            Box::new(metrics.retries.clone()),
            Box::new(metrics.ejections.clone()),
            Box::new(metrics.cold_start.clone()),
            Box::new(metrics.reading_bytes.clone()),
            Box::new(metrics.connections.clone()),
            Box::new(metrics.connections_refused.clone()),
            Box::new(metrics.connections_stalled.clone()),
            Box::new(metrics.demand_connected.clone()),
            Box::new(metrics.demand_dropped.clone()),
            Box::new(metrics.config_reloads_applied.clone()),
            Box::new(metrics.config_reloads_refused.clone()),
        ];
        families.into_iter().try_for_each(|family| registry.register(family))?;
        Ok(metrics)
    }

    /// Counts a request that named no model of the table.
    pub(crate) fn count_unrouted(&self, status: StatusCode, reason: &str) {
        self.requests.with_label_values(&["", "", NO_DEVICE, status.as_str(), reason]).inc();
    }

    /// The handles of one model.
    pub(crate) fn of_model(&self, namespace: &str, model: &str) -> ModelMetrics {
        let per_device = |device: Device| DeviceMetrics {
            duration: self.duration.with_label_values(&[namespace, model, device.as_str()]),
            in_flight: self.in_flight.with_label_values(&[namespace, model, device.as_str()]),
            ejections: self.ejections.with_label_values(&[namespace, model, device.as_str()]),
        };
        self.holders.lock().entry((namespace.to_owned(), model.to_owned())).or_default().count += 1;
        let phase = |name: &str| self.cold_start.with_label_values(&[namespace, model, name]);
        ModelMetrics {
            namespace: namespace.to_owned(),
            model: model.to_owned(),
            devices: Device::ALL.map(per_device),
            held: self.held.with_label_values(&[namespace, model]),
            held_bytes: self.held_bytes.with_label_values(&[namespace, model]),
            hold_duration: self.hold_duration.with_label_values(&[namespace, model]),
            cold_hold: phase("hold"),
            cold_backoff: phase("backoff"),
            cold_claim: phase("claim"),
            cold_specialize: phase("specialize"),
            cold_load: phase("load"),
            cold_first_byte: phase("first-byte"),
            answered: Mutex::default(),
            families: self.clone(),
        }
    }
}

/// The holders of one model's series.
#[derive(Default)]
struct Holders {
    count: usize,
    /// Of answers that those counted which are gone.
    answered: HashSet<AnswerLabels>,
}

/// Handles of one model and device.
pub(crate) struct DeviceMetrics {
    pub(crate) duration: Histogram,
    pub(crate) in_flight: IntGauge,
    pub(crate) ejections: IntCounter,
}

/// Device, status code and reason of an answer.
type AnswerLabels = (Option<Device>, u16, &'static str);

/// Handles of one model.
pub(crate) struct ModelMetrics {
    namespace: String,
    model: String,
    devices: [DeviceMetrics; Device::ALL.len()],
    pub(crate) held: IntGauge,
    pub(crate) held_bytes: IntGauge,
    pub(crate) hold_duration: Histogram,
    pub(crate) cold_hold: Histogram,
    pub(crate) cold_backoff: Histogram,
    pub(crate) cold_claim: Histogram,
    pub(crate) cold_specialize: Histogram,
    pub(crate) cold_load: Histogram,
    pub(crate) cold_first_byte: Histogram,
    answered: Mutex<Answered>,
    families: Metrics,
}

/// Counters of answers by their labels.
#[derive(Default)]
struct Answered {
    counters: HashMap<AnswerLabels, IntCounter>,
    /// The one used last: most answers of a model are alike.
    last: Option<(AnswerLabels, IntCounter)>,
}

impl ModelMetrics {
    pub(crate) fn device(&self, device: Device) -> &DeviceMetrics {
        &self.devices[device.index()]
    }

    /// Counts an answer.
    pub(crate) fn count(&self, device: Option<Device>, status: StatusCode, reason: &'static str) {
        let labels = (device, status.as_u16(), reason);
        let Answered { counters, last } = &mut *self.answered.lock();
        if let Some((known, counter)) = last
            && *known == labels
        {
            counter.inc();
            return;
        }
        let counter = counters.entry(labels).or_insert_with(|| {
            let device = device.map_or(NO_DEVICE, Device::as_str);
            self.families.requests.with_label_values(&[&self.namespace, &self.model, device, status.as_str(), reason])
        });
        counter.inc();
        *last = Some((labels, counter.clone()));
    }

    /// Counts a request that is sent again.
    pub(crate) fn count_retry(&self, cause: &'static str) {
        self.families.retries.with_label_values(&[&self.namespace, &self.model, cause]).inc();
    }
}

impl Drop for ModelMetrics {
    /// The series go with the last holder; a value that was never made has nothing to remove.
    fn drop(&mut self) {
        let mut holders = self.families.holders.lock();
        let key = (self.namespace.clone(), self.model.clone());
        let Some(holder) = holders.get_mut(&key) else { return };
        holder.answered.extend(self.answered.get_mut().counters.keys());
        holder.count -= 1;
        if holder.count > 0 {
            return;
        }
        let answered = std::mem::take(&mut holder.answered);
        holders.remove(&key);
        let (namespace, model) = (self.namespace.as_str(), self.model.as_str());
        for device in Device::ALL {
            let labels = [namespace, model, device.as_str()];
            let _ = self.families.duration.remove_label_values(&labels);
            let _ = self.families.in_flight.remove_label_values(&labels);
            let _ = self.families.ejections.remove_label_values(&labels);
        }
        for phase in ["hold", "backoff", "claim", "specialize", "load", "first-byte"] {
            let _ = self.families.cold_start.remove_label_values(&[namespace, model, phase]);
        }
        let _ = self.families.held.remove_label_values(&[namespace, model]);
        let _ = self.families.held_bytes.remove_label_values(&[namespace, model]);
        let _ = self.families.hold_duration.remove_label_values(&[namespace, model]);
        for (device, status, reason) in answered {
            let device = device.map_or(NO_DEVICE, Device::as_str);
            let status = status.to_string();
            let _ = self.families.requests.remove_label_values(&[namespace, model, device, &status, reason]);
        }
        for cause in ["unsent", "replica-busy", "misdirected"] {
            let _ = self.families.retries.remove_label_values(&[namespace, model, cause]);
        }
    }
}
