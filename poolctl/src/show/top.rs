//! What changed between two looks.

use std::time::Duration;

use serde::Serialize;

use crate::admin::messages::{LatencyHistogram, ModelStatus, ReplicaPhase, Status};

use super::latency::{self, Quantile};
use super::status::{or_dash, pools_table};
use super::table::{Align, Table};

/// One model over one interval.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ModelRates {
    /// Its namespace.
    pub(super) namespace: String,
    /// Its name.
    pub(super) name: String,
    /// Requests answered in the interval.
    pub(super) requests: u64,
    /// The same per second.
    pub(super) requests_per_second: f64,
    /// Requests on replicas now.
    pub(super) in_flight: u32,
    /// Requests that wait for a replica now.
    pub(super) held: u32,
    /// What half of the interval's requests kept, from the gateway's histogram; absent where there were none.
    #[serde(rename = "p50LeMs")]
    pub(super) p50: Option<Quantile>,
    /// The same of 99 in 100.
    #[serde(rename = "p99LeMs")]
    pub(super) p99: Option<Quantile>,
    /// Its replicas, by device.
    pub(super) variants: Vec<VariantReplicas>,
}

/// Replicas of one model on one device.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct VariantReplicas {
    /// cpu or gpu.
    pub(super) device: String,
    /// Those that serve now.
    pub(super) serving: usize,
    /// Those that it should have.
    pub(super) desired: u32,
}

/// The models over the time between two looks, the busiest first.
pub(super) fn rates(before: &Status, now: &Status, elapsed: Duration) -> Vec<ModelRates> {
    let none = LatencyHistogram::default();
    let mut rates: Vec<_> = now
        .models
        .iter()
        .map(|model| {
            let same = |other: &&ModelStatus| other.name == model.name && other.namespace == model.namespace;
            let earlier = before.models.iter().find(same).map_or(&none, |other| &other.latency);
            of_model(model, &latency::since(earlier, &model.latency), elapsed)
        })
        .collect();
    rates.sort_by(|one, other| other.requests_per_second.total_cmp(&one.requests_per_second));
    rates
}

fn of_model(model: &ModelStatus, interval: &LatencyHistogram, elapsed: Duration) -> ModelRates {
    ModelRates {
        namespace: model.namespace.clone(),
        name: model.name.clone(),
        requests: interval.count,
        requests_per_second: interval.count as f64 / elapsed.as_secs_f64().max(f64::EPSILON),
        in_flight: model.in_flight,
        held: model.held,
        p50: latency::quantile(interval, 0.5),
        p99: latency::quantile(interval, 0.99),
        variants: model
            .variants
            .iter()
            .map(|variant| VariantReplicas {
                device: variant.device.clone(),
                serving: variant.replicas.iter().filter(|replica| replica.state == ReplicaPhase::Serving).count(),
                desired: variant.desired,
            })
            .collect(),
    }
}

pub(super) fn render(rates: &[ModelRates], now: &Status) -> String {
    let mut table = Table::new(&[
        ("NAMESPACE", Align::Left),
        ("MODEL", Align::Left),
        ("REQ/S", Align::Right),
        ("IN FLIGHT", Align::Right),
        ("HELD", Align::Right),
        ("P50 MS", Align::Right),
        ("P99 MS", Align::Right),
        ("REPLICAS", Align::Left),
    ]);
    for model in rates {
        let replicas = model.variants.iter();
        let replicas = replicas.map(|variant| format!("{} {}/{}", variant.device, variant.serving, variant.desired));
        table.row([
            model.namespace.clone(),
            model.name.clone(),
            format!("{:.1}", model.requests_per_second),
            model.in_flight.to_string(),
            model.held.to_string(),
            or_dash(model.p50),
            or_dash(model.p99),
            replicas.collect::<Vec<_>>().join(", "),
        ]);
    }
    format!("{table}\n{}", pools_table(&now.pools))
}
